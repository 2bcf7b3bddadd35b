"""Records that cannot be read: they hide no other, and where an answer stopped is said without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.base import Filter
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros

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
