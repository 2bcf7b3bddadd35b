"""What is checked through the async facade on stores that are not checked whole through it in every run."""

from __future__ import annotations

from jobcard.conformance import CHECKS, Crowd, Harness, run_check, run_concurrent_histories, run_histories
from jobcard.conformance.awaited import awaited
from jobcard.conformance.drawing import SHORT

AT_ONCE = sorted(
    name
    for name, check in CHECKS.items()
    if check.__module__.rpartition("check_")[2] in {"claim", "enqueue", "exchange", "leases", "unique", "waker"}
)
"""Claims and their ends, races, wakers, forks: where it matters which thread or connection makes a call."""


def check_through_the_facade(name: str, harness: Harness) -> None:
    """Run one check on stores behind the facade."""
    harness.through = awaited
    run_check(name, harness)


def histories_through_the_facade(harness: Harness) -> None:
    """Run some random histories, and some of several threads."""
    harness.through = awaited
    run_histories(harness.fresh, SHORT)
    run_concurrent_histories(harness, Crowd(histories=3))
    harness.close()
