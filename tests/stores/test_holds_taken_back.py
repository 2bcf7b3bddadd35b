"""What becomes of jobs that wait for others when a store is taken back to a schema that does not know of that."""

from __future__ import annotations

from contextlib import closing

import pytest

from helpers.places import ALL, Place
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.conformance.harness import micros


@pytest.mark.parametrize("place", ALL, indirect=True)
def test_they_wait_for_their_time(place: Place) -> None:
    """Nobody tells them any more what has come: they are in line when they are due, and not before."""
    with closing(open_backend(place.url)) as store:
        store.migrate()
        due = factory.enqueue(store, waits_for="[]")
        late = factory.enqueue(store, waits_for="[]", delay=micros(600))
        newest = store.rollback()
        assert store.migrate() == [newest]
        assert [claim.id for claim in factory.claim_some(store, 9)] == [due]
        assert factory.row_of(store, late).hold == "delay"
        assert list(store.dependents(after=None, limit=9)) == []
