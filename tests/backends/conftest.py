"""A SQLite store in a file, for the tests of what only SQLite has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobcard.backends.sqlite import SQLiteBackend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteBackend]:
    """A store in a file, its schema in place."""
    with_schema = SQLiteBackend(path)
    with_schema.migrate()
    yield with_schema
    with_schema.close()
