"""Real engines on every kind of store: the same tests, by URL alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from checker.lab import Lab
from helpers.places import ALL, SERVERS, Place, new_place, own_place
from helpers.proxy import Proxy


@pytest.fixture(params=ALL)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each kind."""
    with new_place(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def lab(place: Place, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, place.url)
    yield lab
    lab.close()


@pytest.fixture(params=SERVERS)
def own(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty store of each kind of server, on a server that may be killed."""
    with own_place(request.param) as place:
        yield place


@pytest.fixture
def own_lab(own: Place, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, own.url)
    yield lab
    lab.close()


@pytest.fixture(params=SERVERS)
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Lab, Proxy, Place]]:
    """A lab whose engines reach the server through a proxy, and the tests directly."""
    with new_place(request.param, tmp_path) as place, Proxy(place.port) as proxy:
        lab = Lab(tmp_path, place.url)
        lab.engine_url = place.behind(proxy.port)
        yield lab, proxy, place
        lab.close()
