"""One store of each kind for all tests here: they share it, and each empties it first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from shop import Shop

from helpers.places import BY_DAY, Place, new_place


@pytest.fixture(scope="session", params=BY_DAY)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A store of each kind."""
    with new_place(request.param, tmp_path_factory.mktemp("inputs")) as place:
        yield place


@pytest.fixture
def shop(place: Place) -> Iterator[Shop]:
    """An application on that store, which is empty."""
    shop = Shop(place.url)
    shop.jobs.migrate()
    shop.jobs.truncate(confirm=True)
    yield shop
    shop.jobs.close()
