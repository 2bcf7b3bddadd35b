"""Queues with ageing: jobs stand in line by when they are due and by their priority together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from jobcard import Jobcard, Queue
from jobcard.backends.base import Enqueued, Record, RecordKind
from jobcard.backends.registry import open_backend
from jobcard.client import ageing
from jobcard.core import clock
from jobcard.core.job import JobRow, NewJob
from jobcard.core.queue import queue_to_text
from jobcard.errors import StoreUnavailableError


def declare(jobs: Jobcard, queue: str = "mail") -> Any:
    @jobs.job(name="send", queue=queue, priority=3)
    def send(number: int) -> None: ...

    return send


@pytest.fixture
def send(jobs: Jobcard) -> Any:
    return declare(jobs)


def row_of(jobs: Jobcard, handle: Any) -> JobRow:
    return jobs.parts.lookup.row(handle.id.bytes)


def offset(jobs: Jobcard, handle: Any) -> tuple[int, int]:
    row = row_of(jobs, handle)
    return row.rank, row.order_at - row.available_at


AGED, PLAIN = (0, -3 * 10 * clock.SECOND), (-3, 0)


class TestPlaces:
    def test_without_ageing_priority_is_strict(self, jobs: Jobcard, send: Any) -> None:
        """The rank says it, whoever waits how long."""
        assert offset(jobs, send.enqueue(1)) == PLAIN

    def test_priority_counts_as_time(self, jobs: Jobcard, send: Any) -> None:
        """By every way into the store; the options of the enqueue count."""
        jobs.queues.create("mail", ageing=10)

        async def awaitable() -> list[Any]:
            return [await send.enqueue_async(1), *await jobs.enqueue_many_async([send.call(1)])]

        handles = [send.enqueue(1), *jobs.enqueue_many([send.call(1), send.options(delay=60).call(2)])]
        handles += [jobs.enqueue("send", [1]), *asyncio.run(awaitable())]
        assert [offset(jobs, handle) for handle in handles] == [AGED] * 6
        assert offset(jobs, send.options(priority=-2).enqueue(1)) == (0, 20 * clock.SECOND)
        assert offset(jobs, send.options(queue="other").enqueue(1)) == PLAIN
        assert offset(jobs, jobs.enqueue("x", strict=False, queue="mail", priority=1)) == (0, -10 * clock.SECOND)

    def test_in_one_call_each_queue_counts_for_itself(self, jobs: Jobcard, send: Any) -> None:
        """Jobs of other queues stay as they are."""
        jobs.queues.create("mail", ageing=10)
        handles = jobs.enqueue_many([send.options(queue=name).call(1) for name in ("mail", "a", "mail")])
        assert [offset(jobs, handle) for handle in handles] == [AGED, PLAIN, AGED]

    def test_the_place_survives_moves(self, jobs: Jobcard, send: Any) -> None:
        """Put off or made due now, the job keeps what its priority is worth."""
        jobs.queues.create("mail", ageing=10)
        handle = send.options(delay=60).enqueue(1)
        jobs.run_now(handle.id)
        assert offset(jobs, handle) == AGED
        jobs.snooze(handle.id, 5)
        assert offset(jobs, handle) == AGED
        handle.cancel()
        jobs.retry(handle.id)
        assert offset(jobs, handle) == AGED

    def test_waiting_makes_up_for_priority(self, jobs: Jobcard, send: Any, hands: Any) -> None:
        """A job of priority 0 that has waited longer than the difference is worth comes before one of priority 3."""
        jobs.queues.create("mail", ageing=0.001)
        low = send.options(priority=0).enqueue(1)
        high = send.enqueue(2)
        while row_of(jobs, high).order_at <= row_of(jobs, low).order_at:
            high.cancel()
            high = send.enqueue(2)
        assert hands.claim(1, "mail")[0].id == low.id.bytes


class TestKnowing:
    def test_a_declared_queue_counts_at_once(self, url: str) -> None:
        """Before any engine has written it into the store."""
        with Jobcard(url, queues=[Queue("mail", ageing=10)]) as jobs:
            assert offset(jobs, declare(jobs).enqueue(1)) == AGED

    def test_what_was_changed_by_hand_counts(self, url: str) -> None:
        """As for engines: code counts again when its declaration changes."""
        declared = Queue("mail", ageing=10)
        with Jobcard(url, queues=[declared]) as jobs, jobs.parts.connection as store:
            text = queue_to_text(Queue("mail", ageing=20), declared=declared)
            store.write_record(RecordKind.QUEUE, "mail", text)
        with Jobcard(url, queues=[declared]) as jobs:
            assert offset(jobs, declare(jobs).enqueue(1)) == (0, -60 * clock.SECOND)
        with Jobcard(url, queues=[Queue("mail", ageing=30)]) as jobs:
            assert offset(jobs, declare(jobs).enqueue(1)) == (0, -90 * clock.SECOND)

    def test_a_change_of_ones_own_counts_at_once(self, jobs: Jobcard, send: Any) -> None:
        """The same client that changes a queue enqueues by it."""
        assert offset(jobs, send.enqueue(1)) == PLAIN
        jobs.queues.update("mail", ageing=10)
        assert offset(jobs, send.enqueue(1)) == AGED
        jobs.queues.update("mail", ageing=None)
        assert offset(jobs, send.enqueue(1)) == PLAIN

    def test_a_damaged_record_harms_nobody_else(self, jobs: Jobcard, send: Any) -> None:
        """Its queue has no ageing; the others have theirs."""
        with jobs.parts.connection as store:
            store.write_record(RecordKind.QUEUE, "damaged", "{")
            store.write_record(RecordKind.QUEUE, "mail", queue_to_text(Queue("mail", ageing=10)))
        assert offset(jobs, send.enqueue(1)) == AGED
        assert offset(jobs, send.options(queue="damaged").enqueue(1)) == PLAIN


class Asked:
    """A real store that counts how often it is asked for the queues, and may fail then."""

    def __init__(self, url: str) -> None:
        self.store = open_backend(url)
        self.count = 0
        self.fails = False

    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        self.count += 1
        if self.fails:
            raise StoreUnavailableError("not now")
        return self.store.read_records(kind)

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        return self.store.enqueue(jobs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class Time:
    """Seconds that pass when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class TestAsking:
    @pytest.fixture
    def time(self, monkeypatch: pytest.MonkeyPatch) -> Time:
        time = Time()
        monkeypatch.setattr(ageing, "time", time)
        return time

    @pytest.fixture
    def asked(self, url: str) -> Iterator[tuple[Asked, Jobcard, Any]]:
        store = Asked(url)
        with Jobcard(backend=store) as jobs:  # type: ignore[arg-type]
            yield store, jobs, declare(jobs)

    def test_the_store_is_asked_now_and_then(self, time: Time, asked: tuple[Asked, Jobcard, Any]) -> None:
        """Every ten seconds while no queue has ageing, every two while one has."""
        store, jobs, send = asked
        for _ in range(5):
            send.enqueue(1)
        assert store.count == 1
        time.now += ageing.NONE_KNOWN_SECONDS
        store.store.write_record(RecordKind.QUEUE, "mail", queue_to_text(Queue("mail", ageing=10)))
        assert [offset(jobs, send.enqueue(1)) for _ in range(5)] == [AGED] * 5
        assert store.count == 2
        time.now += ageing.KNOWN_SECONDS
        store.store.write_record(RecordKind.QUEUE, "mail", queue_to_text(Queue("mail")))
        assert [offset(jobs, send.enqueue(1)) for _ in range(5)] == [PLAIN] * 5
        assert store.count == 3

    def test_an_enqueue_does_not_fail_for_it(self, time: Time, asked: tuple[Asked, Jobcard, Any]) -> None:
        """What was known counts on; the jobs are stored."""
        store, jobs, send = asked
        jobs.queues.create("mail", ageing=10)
        assert offset(jobs, send.enqueue(1)) == AGED
        store.fails = True
        time.now += 60
        assert [offset(jobs, send.enqueue(1)) for _ in range(3)] == [AGED] * 3
