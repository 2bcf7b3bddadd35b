"""One outcome that a store cannot take never takes others with it, on any store."""

from __future__ import annotations

import pytest

from helpers.places import Place
from jobcard.backends.base import Completions, Filter, Outcome, Verdict, Want
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.core import states

HOUR = 3_600_000_000
BAD = "\ud800"  # half of a character: no server takes it as text


@pytest.mark.parametrize("way", ["completions", "outcomes"])
def test_of_100_outcomes_with_a_bad_one_99_are_stored(place: Place, way: str) -> None:
    """The bad one is refused with a reason and its job untouched; the other 99 are completed."""
    store = open_backend(place.url)
    store.migrate()
    factory.enqueue_several(store, 100)
    claimed = store.exchange("engine", want=Want([("default", 100)], 100), lease=HOUR).claimed
    assert len(claimed) == 100
    results = ["1"] * 100
    results[41] = f'"{BAD}"'
    if way == "completions":
        columns = Completions([c.ref for c in claimed], [c.token for c in claimed], results, [0] * 100)
        answer = store.exchange("engine", completions=columns)
    else:
        outcomes = [
            Outcome(claim.ref, claim.token, states.complete(result))
            for claim, result in zip(claimed, results, strict=True)
        ]
        answer = store.exchange("engine", outcomes=outcomes)
    assert [(each.ref, each.verdict) for each in answer.refusals] == [(claimed[41].ref, Verdict.REFUSED)]
    assert answer.refusals[0].why
    counts = store.count(Filter())["default"]
    assert counts["completed"] == 99
    assert sum(counts.values()) == 100
    store.close()
