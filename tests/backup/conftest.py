"""A store with something of everything, a backup of it, and an empty store beside."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.stock import fill
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.moving.backup import back_up


@pytest.fixture(scope="session")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `jobs.db` and `shop.jobcard`, its backup; to be copied."""
    folder = tmp_path_factory.mktemp("stocked")
    store = SQLiteBackend(folder / "jobs.db")
    store.migrate()
    fill(store)
    back_up(store, folder / "shop.jobcard")
    store.close()
    return folder


@pytest.fixture
def backup_file(stocked: Path, tmp_path: Path) -> Path:
    """The backup of a store, to damage."""
    return shutil.copy(stocked / "shop.jobcard", tmp_path / "shop.jobcard")


@pytest.fixture
def full(stocked: Path, tmp_path: Path) -> Iterator[SQLiteBackend]:
    """The store that it was made of."""
    store = SQLiteBackend(shutil.copy(stocked / "jobs.db", tmp_path / "full.db"))
    yield store
    store.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[SQLiteBackend]:
    """A store that has nothing."""
    store = SQLiteBackend(tmp_path / "empty.db")
    store.migrate()
    yield store
    store.close()
