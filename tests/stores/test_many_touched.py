"""Looking through jobs where more were touched than a store sorts whole: page by page, and none is lost."""

from __future__ import annotations

from importlib import import_module

import pytest

from helpers.places import Place
from jobcard.backends.base import Filter
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.conformance.rules import matches

pytestmark = pytest.mark.turns

LOOKUPS = [f"jobcard.backends.{room}.lookup" for room in ("sqlite", "postgres", "sql", "mongodb", "redis")]
STATES = ("waiting", "claimed", "running", "completed", "failed", "canceled")


@pytest.mark.parametrize("states", [(), ("failed",), ("waiting", "running"), ("completed", "canceled")])
def test_every_page_goes_on_where_the_last_one_ended(
    place: Place, states: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of them have few jobs, or none, and say that they are not the last."""
    for name in LOOKUPS:
        monkeypatch.setattr(import_module(name), "FEW", 2)
        monkeypatch.setattr(import_module(name), "reach", lambda limit: 4)
    store = open_backend(place.url)
    store.migrate()
    for state in (*STATES, *STATES, "completed", "completed", "completed", "completed", "completed", *STATES):
        factory.job_in_state(store, state)
    everything = [row for page in factory.pages(store, Filter(), 100) for row in page]
    for where in (Filter(touched_since=0, states=states), Filter(touched_since=0, states=states, queues=["default"])):
        found = [row.id for page in factory.pages(store, where, 3) for row in page]
        assert found == [row.id for row in everything if matches(row, where)]
    store.close()
