"""What becomes of held jobs when a store is taken back to a schema that does not know of their hold."""

from __future__ import annotations

from contextlib import closing

import pytest

from helpers.places import ALL, Place
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.conformance.harness import micros


@pytest.mark.parametrize("place", ALL, indirect=True)
def test_they_wait_for_their_time(place: Place) -> None:
    """Nobody tells any more what has come, or whether a limit has room: they are in line when they are due.

    Each changes once: whoever compares versions sees it.
    """
    with closing(open_backend(place.url)) as store:
        store.migrate()
        limited = factory.enqueue_several(store, 2, limit_key="k", key_limit=1)
        [at_work] = factory.claim_some(store, 9)
        assert at_work.id == limited[0]
        due = factory.enqueue(store, waits_for="[]")
        late = factory.enqueue(store, waits_for="[]", delay=micros(600))
        held = {row.id: row for row in sorted(store.get([limited[1], due, late]))}
        assert [row.hold for row in held.values()] == ["limit", "after", "after"]
        taken_back = [store.rollback(), store.rollback()]
        assert store.migrate() == taken_back[::-1]
        rows = {row.id: row for row in store.get(list(held))}
        assert {row.id: row.version for row in rows.values()} == {row.id: row.version + 1 for row in held.values()}
        assert (rows[limited[1]].hold, rows[late].hold) == (None, "delay")
        # Where a migration leaves the fields of a job, its limit holds it again.
        assert {claim.id for claim in factory.claim_some(store, 9)} - {limited[1]} == {due}
        assert list(store.dependents(after=None, limit=9)) == []
