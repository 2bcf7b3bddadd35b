"""The SQLite store passes the public suite."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from helpers.stores import raw
from jobcard.backends.base import Backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import AsyncBackendSuite, BackendSuite, Harness, run_histories
from jobcard.core.clock import FrozenClock


def sqlite_harness(folder: Path, **options: str) -> Harness:
    """Each store is a file of its own in this folder."""
    numbers = count()

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        path = folder / f"{next(numbers)}.db"
        return lambda: SQLiteBackend(path, clock=clock, **options)

    return Harness(new_store, spoil=spoil)


def spoil(store: Backend, job_id: bytes) -> None:
    """Arguments that are no text."""
    assert isinstance(store, SQLiteBackend)
    raw(store, "update jobcard_jobs set args = cast(x'22ff22' as text) where id = ?", job_id)


class TestSQLite(BackendSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        harness = sqlite_harness(tmp_path)
        yield harness
        harness.close()

    @pytest.mark.timeout(600)
    def test_random_histories_agree_with_the_model(self, tmp_path: Path) -> None:
        """Without a wait for the disk after each of thousands of commits: nobody cuts the power here."""
        run_histories(sqlite_harness(tmp_path, synchronous="normal").fresh, self.histories)


class TestSQLiteAwaited(AsyncBackendSuite, TestSQLite):
    """The same through the async facade."""
