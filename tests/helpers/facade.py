"""What is checked through the async facade on stores that are not checked whole through it in every run."""

from __future__ import annotations

from jobcard.conformance import CHECKS

AT_ONCE = sorted(
    name
    for name, check in CHECKS.items()
    if check.__module__.rpartition("check_")[2] in {"claim", "enqueue", "exchange", "leases", "unique", "waker"}
)
"""Claims and their ends, races, wakers, forks: where it matters which thread or connection makes a call."""
