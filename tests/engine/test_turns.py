"""Whose turn it is: strict priority, shares by weight, and age that lifts a queue."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from jobcard.core.queue import Queue
from jobcard.engine.turns import Turns

FULL = 10**9


class Store:
    """Queues with jobs in them, asked as an engine asks a store: in order, each up to its most, all up to the room."""

    def __init__(self, *queues: Queue, jobs: Mapping[str, int] | None = None) -> None:
        self.queues = list(queues)
        self.jobs = {queue.name: FULL for queue in queues} | dict(jobs or {})
        self.limits: dict[str, int] = {}
        self.turns = Turns()
        self.taken: Counter[str] = Counter()
        self.now = 1000.0

    def names(self) -> list[str]:
        return [queue.name for queue in self.turns.order(self.queues, self.now)]

    def exchange(self, room: int) -> dict[str, int]:
        """One exchange: what came from where."""
        came: dict[str, int] = {}
        left = room
        for queue in self.turns.order(self.queues, self.now):
            most = min(self.turns.quota(queue, room), self.limits.get(queue.name, room))
            number = min(most, left, self.jobs[queue.name])
            left -= number
            self.jobs[queue.name] -= number
            if number:
                came[queue.name] = number
        # In any order: an engine counts what came, and says it as it likes.
        for name, number in random.Random(self.now).sample(list(came.items()), len(came)):
            self.turns.took(name, number, self.now)
        self.taken.update(came)
        return came

    def exchange_until(self, total: int, room: int) -> None:
        while self.taken.total() < total:
            assert self.exchange(room), "nothing came, though there are jobs"

    def share(self, name: str) -> float:
        return self.taken[name] / self.taken.total()


class TestByPriority:
    def test_the_highest_comes_first(self) -> None:
        """Equal ones by name, whatever order they are given in."""
        store = Store(Queue("b"), Queue("low", priority=-1), Queue("a"), Queue("high", priority=9))
        assert store.names() == ["high", "a", "b", "low"]

    def test_a_full_high_queue_starves_a_low_one(self) -> None:
        """Priority is strict unless somebody says otherwise."""
        store = Store(Queue("high", priority=1), Queue("low"))
        for _ in range(1000):
            store.now += 1
            assert store.exchange(7) == {"high": 7}

    def test_what_the_first_leaves_the_next_one_gets(self) -> None:
        """In the same exchange."""
        store = Store(Queue("high", priority=1), Queue("low"), jobs={"high": 3})
        assert store.exchange(10) == {"high": 3, "low": 7}

    def test_a_change_of_the_queues_counts_at_once(self) -> None:
        """Each order is made for the queues it is given."""
        store = Store(Queue("a", priority=1), Queue("b"))
        assert store.names() == ["a", "b"]
        store.queues = [Queue("a", priority=1), Queue("b", priority=2), Queue("c", priority=3)]
        assert store.names() == ["c", "b", "a"]
        assert Store().names() == []

    def test_a_queue_that_is_gone_may_still_be_told(self) -> None:
        """Its jobs may arrive after it was paused."""
        store = Store(Queue("a", weight=2))
        store.names()
        store.turns.took("gone", 5, store.now)
        assert store.names() == ["a"]


class TestByWeight:
    @pytest.mark.parametrize("room", [1, 7, 40])
    @pytest.mark.parametrize("priority", [0, 5, -5])
    def test_full_queues_share_by_weight(self, room: int, priority: int) -> None:
        """Nine to one, within five per cent of what each should have, whatever their priorities."""
        store = Store(Queue("nine", weight=9), Queue("one", priority=priority))
        store.exchange_until(10_000, room)
        assert store.taken["nine"] == pytest.approx(9_000, rel=0.05)
        assert store.taken["one"] == pytest.approx(1_000, rel=0.05)

    @pytest.mark.parametrize("room", [1, 7, 40, 500])
    def test_many_queues_share_by_weight(self, room: int) -> None:
        """Also when there are more queues than room."""
        weights = {f"q{number}": number for number in range(1, 21)}
        store = Store(*(Queue(name, weight=weight) for name, weight in weights.items()))
        store.exchange_until(21_000, room)
        for name, weight in weights.items():
            assert store.taken[name] == pytest.approx(100 * weight, rel=0.05, abs=8)

    def test_no_full_queue_waits_long(self) -> None:
        """The lightest comes once in the time of all weights."""
        store = Store(Queue("heavy", weight=99), Queue("light"))
        waited = 0
        for _ in range(1000):
            waited = 0 if "light" in store.exchange(1) else waited + 1
            assert waited <= 100

    @pytest.mark.parametrize("room", [1, 7, 40])
    def test_an_empty_queue_saves_nothing_up(self, room: int) -> None:
        """When its jobs come it has its share from then on, not what it did not want before."""
        store = Store(Queue("a", weight=3), Queue("b", weight=2), jobs={"b": 0})
        store.exchange_until(5_000, room)
        assert store.taken["a"] >= 5_000
        store.taken.clear()
        store.jobs["b"] = FULL
        store.exchange_until(500, room)
        assert store.share("b") == pytest.approx(0.4, abs=0.06)

    @pytest.mark.parametrize("room", [1, 7, 40])
    def test_a_queue_with_few_jobs_gets_them_all(self, room: int) -> None:
        """One that wants less than its share waits for nobody, and leaves the rest."""
        store = Store(Queue("a", weight=5), Queue("b", weight=5), jobs={"b": 0})
        for _ in range(2_000):
            store.jobs["b"] += 1
            store.exchange(room * 4)
            assert store.jobs["b"] <= 1
        assert store.taken["a"] >= 2_000 * (room * 4 - 2) * 0.5

    def test_a_queue_at_its_limit_saves_nothing_up(self) -> None:
        """One that may take only one at a time, when it may take more."""
        store = Store(Queue("a"), Queue("b", weight=4))
        store.limits["b"] = 1
        for _ in range(500):
            store.exchange(10)
        store.limits.clear()
        store.taken.clear()
        store.exchange_until(500, 10)
        assert store.share("b") == pytest.approx(0.8, abs=0.06)

    def test_a_queue_that_was_away_saves_nothing_up(self) -> None:
        """Paused for long, it begins where the others are."""
        both = [Queue("a"), Queue("b", weight=4)]
        store = Store(*both)
        store.exchange_until(100, 7)
        store.queues = both[1:]
        store.exchange_until(5_000, 7)
        store.queues = both
        store.taken.clear()
        store.exchange_until(500, 7)
        assert store.share("a") == pytest.approx(0.2, abs=0.06)

    def test_what_was_taken_by_priority_is_no_debt(self) -> None:
        """A weight given later counts from then on."""
        store = Store(Queue("a", priority=1, ageing=5), Queue("b"))
        store.exchange_until(5_000, 7)
        store.queues = [Queue("a", priority=1), Queue("b", weight=4)]
        store.taken.clear()
        store.exchange_until(500, 7)
        assert store.share("b") == pytest.approx(0.8, abs=0.06)

    def test_asking_changes_nothing(self) -> None:
        """An engine asks at every turn, and rarely sends what came of it."""
        store, asked = (Store(Queue("a", weight=9), Queue("b")) for _ in range(2))
        for _ in range(200):
            for _ in range(3):
                for queue in asked.turns.order(asked.queues, asked.now):
                    asked.turns.quota(queue, 7)
            assert asked.exchange(7) == store.exchange(7)

    def test_together_the_quotas_fill_the_room(self) -> None:
        """However the levels lie, nothing of the room is left while all queues are full."""
        chance = random.Random(7)
        store = Store(*(Queue(f"q{number}", weight=chance.randint(1, 50)) for number in range(8)))
        for _ in range(2_000):
            room = chance.randint(1, 300)
            assert sum(store.exchange(room).values()) == room


class TestAgeing:
    @pytest.mark.parametrize("room", [1, 7, 40])
    def test_a_low_queue_is_served_in_time(self, room: int) -> None:
        """Once in the difference of the priorities times the ageing, beside a queue that is always full."""
        store = Store(Queue("high", priority=10), Queue("low", ageing=2))
        served = store.now
        for _ in range(10_000):
            store.now += 0.1
            if "low" in store.exchange(room):
                served = store.now
            assert store.now - served <= 20 + 0.1
        assert store.share("low") < 0.01

    def test_it_gets_one_job_and_falls_back(self) -> None:
        """Its age shall not cost a higher priority all the room there is."""
        store = Store(Queue("high", priority=10), Queue("low", ageing=2))
        store.names()
        store.now += 20
        assert store.names() == ["low", "high"]
        assert store.exchange(10) == {"low": 1, "high": 9}
        assert store.names() == ["high", "low"]

    def test_among_aged_ones_the_longest_wait_counts(self) -> None:
        """All get their turn, each as fast as it ages."""
        store = Store(Queue("high", priority=5), Queue("slow", ageing=4), Queue("fast", ageing=1))
        while store.taken["slow"] < 10:
            store.now += 0.25
            store.exchange(1)
        assert 38 <= store.taken["fast"] <= 42
        assert store.share("high") > 0.9

    def test_without_jobs_it_does_not_age(self) -> None:
        """What was asked in vain begins to wait anew."""
        store = Store(Queue("high", priority=10), Queue("low", ageing=2), jobs={"low": 0})
        in_front = 0
        for _ in range(1000):
            store.now += 1
            in_front += store.names()[0] == "low"
            assert store.exchange(5) == {"high": 5}
            assert store.names()[0] == "high"
        assert in_front == pytest.approx(1000 / 20, abs=1)
        store.jobs["low"] = FULL
        waited = 0
        while "low" not in store.exchange(5):
            store.now += 1
            waited += 1
        assert waited <= 20

    def test_beside_an_empty_queue_it_gets_everything(self) -> None:
        """The one job at a time is for the sake of others; when they have none, the next exchange has it all."""
        store = Store(Queue("high", priority=10), Queue("low", ageing=2), jobs={"high": 0})
        store.names()
        store.now += 20
        assert store.exchange(10) == {"low": 1}
        assert store.exchange(10) == {"low": 10}

    def test_a_clock_that_stands_still_does_no_harm(self) -> None:
        """Everything is decided by what it is handed."""
        store = Store(Queue("high", priority=1, ageing=1), Queue("low", ageing=1))
        for _ in range(10):
            assert store.exchange(3) == {"high": 3}
        store.now -= 50
        assert store.exchange(3) == {"high": 3}
