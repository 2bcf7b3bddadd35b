"""When an engine does its chores: the time in a test's hands, the store a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from plan_desk import Desk

from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.core.clock import FrozenClock
from jobcard.core.dependencies import COMPLETED, JOB, Dependency, to_text
from jobcard.engine import chores, dependents
from jobcard.engine.chores import Chores, House


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> FrozenClock:
    """The seconds that engines count."""
    clock = FrozenClock(10**12)
    for module in (chores, dependents.time):
        monkeypatch.setattr(module, "monotonic", lambda: clock.now() / 1e6)
    return clock


class Slow(SQLiteBackend):
    """A store that takes its time to tell who waits for others; it notes when it was asked."""

    def __init__(self, url: str, clock: FrozenClock) -> None:
        super().__init__(url)
        self.takes = 0.0
        self.asked_at: list[float] = []
        self._seconds = clock

    def dependents(self, *, after: bytes | None, limit: int) -> Any:
        if limit == dependents.NEW_AT_ONCE:  # as each look begins
            self.asked_at.append(self._seconds.now() / 1e6)
            self._seconds.advance(self.takes)
        return super().dependents(after=after, limit=limit)


@pytest.fixture
def store(tmp_path: Path, now: FrozenClock) -> Iterator[Slow]:
    store = Slow(f"sqlite:///{tmp_path}/jobs.db", now)
    store.migrate()
    yield store
    store.close()


class AtOnce:
    """All lanes as one, on the thread that asks."""

    def run(self, lane: str, call: Callable[[], Any], answered: Callable[[Any], None], failed: Any) -> None:
        answered(call())


def turn_for(store: Slow, now: FrozenClock, seconds: float) -> list[float]:
    """An engine's chores for so long; how long there was none between a look at who waits for others and the next."""
    desk = Desk()
    pool = SimpleNamespace(tend=lambda: None, memory_of=lambda worker: 0)
    given: dict[str, Any] = {"settings": desk.settings, "pool": pool, "plan": desk.plan, "lanes": AtOnce()}
    hands = dict.fromkeys(("tell_keeper", "store_failed", "stop"), lambda *_, **__: None)
    waker = SimpleNamespace(changed=None)
    house = House("engine", store, waker=waker, only_queues=None, about=dict, **given, **hands)  # type: ignore[arg-type]
    ours = Chores(house, [], now.now() / 1e6)
    until = now.now() + seconds * 1e6
    while now.now() < until:
        ours.run_if_due(now.now() / 1e6)
        now.advance(0.1)
    return [after - before - store.takes for before, after in pairwise(store.asked_at)]


@pytest.mark.parametrize(("takes", "rest"), [(0.0, 1.0), (0.05, 0.95), (0.5, 5.0), (2.0, 20.0), (60.0, 30.0)])
def test_after_a_look_that_took_long_there_is_none_for_a_while(
    store: Slow, now: FrozenClock, takes: float, rest: float
) -> None:
    """Ten times as long, half a minute at most: an engine whose store answers slowly leaves it in peace."""
    factory.enqueue(store, waits_for=to_text([Dependency(JOB, UUID(bytes=factory.enqueue(store)), COMPLETED)]))
    store.takes = takes
    rests = turn_for(store, now, 3 * (takes + rest) + 1)
    assert len(rests) >= 2
    assert rest - 0.01 < min(rests) and max(rests) < rest + 0.2


def test_where_there_is_more_to_do_a_look_rests_as_long_as_it_took(store: Slow, now: FrozenClock) -> None:
    """Half of the time is left to others, until all is done."""
    failed = factory.job_in_state(store, "failed")
    waits = to_text([Dependency(JOB, UUID(bytes=failed), COMPLETED)])
    factory.enqueue_several(store, 2 * dependents.CANCELED_AT_ONCE + 50, waits_for=waits)
    store.takes = 3.0
    rests = turn_for(store, now, 30)
    assert [round(rest) for rest in rests[:2]] == [3, 3]
    assert min(rests[2:], default=30.0) > 29
