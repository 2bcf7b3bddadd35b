"""A store in a real SQLite file, a client of it, and hands that do an engine's work step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hands import Hands

from helpers import places
from jobcard.backends.registry import open_backend
from jobcard.client import Jobcard


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def jobs(url: str) -> Iterator[Jobcard]:
    with Jobcard(url) as client:
        yield client


@pytest.fixture
def hands(url: str) -> Iterator[Hands]:
    store = open_backend(url)
    store.migrate()
    yield Hands(store)
    store.close()


@pytest.fixture(scope="module", params=places.ALL)
def _shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with places.new_place(request.param, tmp_path_factory.mktemp("shared")) as place:
        yield place.url


@pytest.fixture
def of_each_kind(_shared: str) -> str:
    """The URL of an empty store of each kind; the tests of a module share it, and each empties it first."""
    store = open_backend(_shared)
    store.migrate()
    store.truncate()
    store.close()
    return _shared
