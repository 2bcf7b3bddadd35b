"""What an engine makes of jobs that wait for others: by a real store, look by look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobcard.backends.base import Filter
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.dependencies import ANY_END, BATCH, COMPLETED, JOB, Dependency, to_text
from jobcard.core.job import Claimed
from jobcard.engine import dependents
from jobcard.engine.dependents import see_to_all


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(file: Path) -> Iterator[SQLiteBackend]:
    store = SQLiteBackend(f"sqlite:///{file}")
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> FrozenClock:
    """The seconds that engines count, in the hands of the test."""
    clock = FrozenClock(10**12)
    monkeypatch.setattr(dependents.time, "monotonic", lambda: clock.now() / 1e6)
    return clock


def after(*those: bytes | Dependency) -> str:
    """What a job waits for, as text: the success of these jobs."""
    return to_text(one if isinstance(one, Dependency) else on(one) for one in those)


def on(of: bytes, until: str = COMPLETED, kind: str = JOB) -> Dependency:
    return Dependency(kind, UUID(bytes=of), until)


def holds(store: SQLiteBackend, *job_ids: bytes) -> list[tuple[str, str | None]]:
    return [(row.state, row.hold) for row in (factory.row_of(store, job_id) for job_id in job_ids)]


def end(store: SQLiteBackend, how: str = "completed", **given: Any) -> bytes:
    """A job that has ended."""
    return factory.job_in_state(store, how, **given)


HELD, FREE, OVER = ("waiting", "after"), ("waiting", None), ("canceled", None)


class TestBatches:
    def test_a_job_that_moves_during_a_count_is_alive(self, store: SQLiteBackend) -> None:
        """Only a count without a limit is of one moment; by another a store may ask for one state after the other."""
        batch = factory.new_id()
        factory.enqueue(store, batch_id=batch)
        waiting = factory.enqueue(store, waits_for=after(on(batch, ANY_END, BATCH)), queue="other")
        held: list[Claimed] = factory.claim_some(store)
        moving = Moving(store, lambda: held and factory.settle(store, held[0], states.hand_back(held.pop())))
        assert see_to_all(moving, {}) == []  # type: ignore[arg-type]
        assert held == [] and holds(store, waiting) == [HELD]
        [claim] = factory.claim_some(store)
        factory.complete(store, claim)
        assert see_to_all(moving, {}) == [waiting]  # type: ignore[arg-type]


class Moving:
    """A store that counts with a limit state by state, as one may, while something happens in between."""

    def __init__(self, store: SQLiteBackend, happens: Callable[[], object]) -> None:
        self._store = store
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def count(self, where: Filter, *, limit: int | None = None) -> Mapping[str, Mapping[str, int]]:
        if limit is None:
            return self._store.count(where)
        counts: dict[str, dict[str, int]] = {}
        for state in ("waiting", "claimed", "running", "completed", "failed", "canceled"):
            if state in where.states:
                for queue, found in self._store.count(Filter(batch_id=where.batch_id, states=[state])).items():
                    counts.setdefault(queue, {}).update(found)
            self._happens()
        return counts
