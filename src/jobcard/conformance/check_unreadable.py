"""Records that cannot be read: they hide no other, and where an answer stopped is said without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from jobcard.backends.base import Backend, Filter, Verdict
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.core.clock import FrozenClock

_WHERE: Mapping[str, Sequence[int]] = {
    "in the middle": [4],
    "at the end": [10, 11],
    "a whole page": [3, 4, 5],
    "two pages and the end": [3, 4, 5, 6, 7, 8, 11],
    "all": range(12),
}
"""Which of twelve jobs cannot be read, when three are asked for at a time."""


def check_unreadable_jobs_end_no_list(harness: Harness) -> None:
    """Wherever they stand, and if they fill whole pages, all others are listed to the end."""
    for where, bad in _WHERE.items():
        at = harness.fresh()
        backend = at.ready()
        newest = factory.enqueue_several(backend, 12, tags='["t"]')[::-1]
        at.spoil(*(newest[place] for place in bad))
        good = [job_id for place, job_id in enumerate(newest) if place not in bad]
        filters = (
            Filter(),
            Filter(states=["waiting"]),
            Filter(touched_since=0),
            Filter(queues=["default"]),
            Filter(search=str(newest[0].hex()[:6])),
        )
        for given in filters:
            seen = [row.id for page in factory.pages(backend, given, 3) for row in page]
            assert seen == good, (where, given)
        at.close()


def check_unreadable_claims_end_no_look_for_claims(harness: Harness) -> None:
    """Wherever they stand, and if they fill whole answers, all others are found, held or lapsed."""
    for where, bad in _WHERE.items():
        at = harness.fresh()
        backend = at.ready()
        factory.enqueue_several(backend, 12)
        claims = sorted(factory.claim_some(backend, 12, owner="dead", lease=micros(60)), key=lambda claim: claim.ref)
        at.spoil(*(claims[place].id for place in bad))
        good = [claim.id for place, claim in enumerate(claims) if place not in bad]

        def found(owners: Sequence[str], *, lapsed: bool, at: Harness = at) -> list[bytes]:
            # On a backend of its own: what was quarantined by one look is no longer there for the next.
            pages = factory.held_pages(at.open(), owners, lapsed=lapsed, limit=3)
            return [claim.id for page in pages for claim in page]

        assert found(["dead"], lapsed=False) == found(["dead"], lapsed=True) == good, where
        at.advance(61)
        assert found([], lapsed=True) == found(["dead"], lapsed=True) == good, where
        at.close()


def check_an_unreadable_claim_is_its_holders_while_its_lease_runs(harness: Harness, clock: FrozenClock) -> None:
    """A look for claims leaves it out and takes it from nobody: its holder may renew it, and its result counts."""
    backend = harness.ready()
    claims = [factory.claimed_job(backend), factory.running_job(backend)]
    harness.spoil(*(claim.id for claim in claims))
    clock.advance(59.9)
    for owners, lapsed in ((["engine"], False), (["engine"], True), ([], True)):
        assert list(backend.find_held(owners, lapsed=lapsed, limit=10).claims) == []
    assert _by_state(backend) == {"claimed": 1, "running": 1}
    assert backend.renew("engine", [(claim.ref, claim.token) for claim in claims], lease=factory.LEASE) == []
    assert factory.complete(backend, claims, result="7") == []
    ended = {(end.id, end.state, end.result) for end in backend.ended([claim.id for claim in claims])}
    assert ended == {(claim.id, "completed", "7") for claim in claims}
    assert _by_state(backend) == {"completed": 2}


def check_an_unreadable_claim_is_taken_once_its_lease_is_over(harness: Harness) -> None:
    """Whoever looks for claims puts it under hold `broken`, counted as waiting; its holder comes too late."""
    for owners, lapsed in (([], True), (["engine"], True), (["engine"], False)):
        at = harness.fresh()
        backend = at.ready()
        claims = [factory.claimed_job(backend), factory.running_job(backend)]
        good = factory.running_job(backend)
        at.spoil(*(claim.id for claim in claims))
        at.advance(60)
        assert [claim.id for claim in backend.find_held(owners, lapsed=lapsed, limit=10).claims] == [good.id]
        assert _by_state(backend) == {"waiting": 2, "running": 1}
        [broken] = [finding for finding in backend.examine() if finding.code == "jobs.broken"]
        assert broken.severity == "error" and "2" in broken.subject
        assert [refusal.verdict for refusal in factory.complete(backend, claims)] == [Verdict.LOST] * 2
        gone = backend.renew("engine", [(claim.ref, claim.token) for claim in claims], lease=factory.LEASE)
        assert sorted(gone) == sorted(claim.ref for claim in claims)
        assert factory.claim_some(backend, 9, queues=[claim.queue for claim in claims]) == []
        assert factory.complete(backend, good) == []
        assert _by_state(backend) == {"waiting": 2, "completed": 1}
        at.close()


def _by_state(backend: Backend) -> dict[str, int]:
    """How many jobs there are in each state, by both ways to ask."""
    found = {state: number for state, number in backend.tally().counts.items() if number}
    counted: Counter[str] = Counter()
    for by_state in backend.count(Filter()).values():
        counted.update({state: number for state, number in by_state.items() if number})
    assert counted == found
    return found
