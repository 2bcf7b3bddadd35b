"""A store looked over: what it says of itself to whoever has to run it."""

from __future__ import annotations

import re

from jobcard.backends.base import Backend
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness
from jobcard.core import states
from jobcard.core.findings import Finding, Severity, weaknesses


def check_every_finding_has_its_code_and_its_remedy(backend: Backend) -> None:
    """A finding has a code, a subject and a sentence; a warning or error says what to do about it."""
    found = backend.examine()
    assert found
    for finding in found:
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", finding.code), finding
        assert finding.severity in Severity
        assert finding.subject and finding.text
        assert finding.fix or finding.severity in (Severity.OK, Severity.NOTE), finding
    codes = [finding.code for finding in found]
    assert len(set(codes)) == len(codes)


def check_what_weakens_a_store_is_the_same_wherever_it_is_told(backend: Backend) -> None:
    """`strict_durability` and `health()` go by the findings that say so, and by nothing else."""
    assert list(backend.facts().problems) == weaknesses(backend.examine())


def check_examining_needs_no_schema(harness: Harness) -> None:
    """A store that was never migrated, or is of another version, is looked over all the same, and stays as it is."""
    backend = harness.open()
    assert all(finding.code != "store.unreachable" for finding in backend.examine())
    assert backend.migrate() != []
    harness.close()


def check_jobs_set_aside_are_told(backend: Backend) -> None:
    """Parked jobs are told by their names, broken ones by their number; all others are none of them."""
    factory.enqueue(backend, queue="other", name="here")
    assert [_of(backend, code).severity for code in ("jobs.parked", "jobs.broken")] == ["ok", "ok"]
    for name in ("gone", "gone", "lost"):
        claim = factory.claimed_job(backend, name=name)
        factory.settle(backend, claim, states.park(claim))
    parked = _of(backend, "jobs.parked")
    assert parked.severity == "warning"
    assert "3" in parked.subject and "gone, lost" in parked.text and "here" not in parked.text
    broken = factory.claimed_job(backend, name="gone")
    factory.settle(backend, broken, factory.quarantine(broken))
    assert _of(backend, "jobs.broken").severity == "error"
    assert "1" in _of(backend, "jobs.broken").subject
    assert backend.unpark(["gone", "lost"]) == 3
    assert backend.apply_by_operator(broken.id, states.cancel_waiting(reason="canceled")) is not None
    assert [_of(backend, code).severity for code in ("jobs.parked", "jobs.broken")] == ["ok", "ok"]


def _of(backend: Backend, code: str) -> Finding:
    [finding] = [finding for finding in backend.examine() if finding.code == code]
    return finding
