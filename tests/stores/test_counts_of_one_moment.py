"""Counting while jobs move."""

from __future__ import annotations

import threading

import pytest

from helpers.places import ALL, Place
from jobcard.backends.base import Filter, Outcome, Want
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.core import states

LEASE = 60_000_000
WANT = Want([("default", 5)], 5)


@pytest.mark.turns
@pytest.mark.parametrize("place", [kind for kind in ALL if kind != "mongodb-standalone"], indirect=True)
@pytest.mark.parametrize("of", ["all", "batch"])
def test_a_job_that_moves_is_counted_once(place: Place, of: str) -> None:
    """Five jobs are claimed and given back all the time; whoever counts always finds five.

    Of a batch an engine asks so whether it is over: one job that is missed, and what follows it runs too early.
    """
    batch = factory.new_id()
    where = Filter() if of == "all" else Filter(batch_id=batch, states=("waiting", "claimed", "running", "failed"))
    counting, moving = open_backend(place.url), open_backend(place.url)
    counting.migrate()
    factory.enqueue_several(counting, 5, batch_id=batch)
    enough = threading.Event()
    rounds = 0

    def move() -> None:
        nonlocal rounds
        while not enough.is_set():
            claims = moving.exchange("engine", want=WANT, lease=LEASE).claimed
            moving.exchange(
                "engine", outcomes=[Outcome(claim.ref, claim.token, states.hand_back(claim)) for claim in claims]
            )
            rounds += 1

    mover = threading.Thread(target=move)
    mover.start()
    try:
        found = set()
        while rounds < 150:
            found.add(sum(sum(by_state.values()) for by_state in counting.count(where).values()))
    finally:
        enough.set()
        mover.join()
    counting.close()
    moving.close()
    assert found == {5}
