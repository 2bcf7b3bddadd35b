"""Two stores of any two kinds, each test at stores of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mixed import Two

from helpers.places import new_place
from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend


@pytest.fixture
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Two]:
    """Of the kinds that the test names, else two files."""
    kinds = getattr(request, "param", ("sqlite", "sqlite"))
    folders = tmp_path / "source", tmp_path / "target"
    for folder in folders:
        folder.mkdir()
    with new_place(kinds[0], folders[0]) as source, new_place(kinds[1], folders[1]) as target:
        yield Two(source, target)


@pytest.fixture
def source(two: Two) -> Iterator[Backend]:
    """The source, with its schema."""
    with closing(open_backend(two.source.url)) as store:
        store.migrate()
        yield store


@pytest.fixture
def target(two: Two) -> Iterator[Backend]:
    """The target, with its schema."""
    with closing(open_backend(two.target.url)) as store:
        store.migrate()
        yield store
