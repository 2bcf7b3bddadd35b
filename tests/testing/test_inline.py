"""`jobs.testing("inline")`: enqueueing runs the job at once, here, by way of its stored text."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from jobcard import (
    Backoff,
    Jobcard,
    JobClass,
    JobContext,
    JobFailedError,
    ResultTimeoutError,
    SerializationError,
    Snooze,
)
from jobcard.testing import Testing


@pytest.fixture
def jobs() -> Iterator[Jobcard]:
    with Jobcard("sqlite:///never-opened.db") as client:
        yield client


@pytest.fixture
def t(jobs: Jobcard) -> Iterator[Testing]:
    with jobs.testing("inline") as t:
        yield t


def test_the_handle_has_the_result(jobs: Jobcard, t: Testing) -> None:
    """One job, many, a class, by name: when the call returns it has been run, in this thread."""
    threads: set[threading.Thread] = set()

    @jobs.job(name="double")
    def double(n: int) -> int:
        threads.add(threading.current_thread())
        return 2 * n

    @jobs.job
    class Greet(JobClass):
        def __init__(self, word: str) -> None:
            self.word = word

        def run(self, name: str) -> tuple[str, str]:
            return (self.word, name)

    handle = double.enqueue(2)
    assert (handle.refresh().state, handle.result()) == ("completed", 4)
    assert [h.result() for h in jobs.enqueue_many([double.call(n) for n in range(3)])] == [0, 2, 4]
    assert Greet.with_("hello").enqueue("ann").result() == ("hello", "ann")
    assert jobs.enqueue("double", args=[5]).result() == 10
    assert threads == {threading.current_thread()}
    t.assert_enqueued(double, 2)
    t.refute_enqueued(double, 99)
    assert t.all_enqueued() == []


def test_what_cannot_be_stored_does_not_run(jobs: Jobcard, t: Testing) -> None:
    """The real codec: an argument that would fail in production fails here."""
    ran: list[object] = []

    @jobs.job
    def take(value: Any) -> object:
        ran.append(value)
        return object()

    with pytest.raises(SerializationError):
        take.enqueue(object())
    assert ran == []
    with pytest.raises(JobFailedError) as caught:
        take.enqueue(1).result()
    assert caught.value.reason == "serialization"


def test_an_error_is_the_jobs_and_not_the_callers(jobs: Jobcard, t: Testing) -> None:
    """As in production `enqueue` returns, and `result` raises; all tries are made at once, without their pauses."""
    tries: list[int] = []

    @jobs.job(max_attempts=3, backoff=Backoff.fixed(3600))
    def breaks(ctx: JobContext) -> None:
        tries.append(ctx.attempt)
        raise ValueError(f"no {ctx.attempt}")

    began = t.now
    handle = breaks.enqueue()
    with pytest.raises(JobFailedError, match="no 3"):
        handle.result()
    assert tries == [1, 2, 3]
    assert t.now == began


def test_jobs_run_their_jobs_at_once_too(jobs: Jobcard, t: Testing) -> None:
    """Depth first, so a job can use the result of one that it enqueues."""
    ran: list[int] = []

    @jobs.job
    def down(n: int) -> int:
        ran.append(n)
        return n + (down.enqueue(n - 1).result() if n else 0)

    assert down.enqueue(3).result() == 6
    assert ran == [3, 2, 1, 0]


def test_what_is_not_due_waits(jobs: Jobcard, t: Testing) -> None:
    """A delayed or snoozed job, or one in a paused queue, runs when `advance` or `drain` comes to it."""
    tries: list[str] = []

    @jobs.job
    def note(what: str, snooze: bool = False) -> int:
        tries.append(what)
        if snooze and tries.count(what) == 1:
            raise Snooze(600)
        return len(tries)

    later = note.options(delay=timedelta(hours=1)).enqueue("later")
    snoozed = note.enqueue("snoozed", snooze=True)
    jobs.queues.create("asleep", paused=True)
    paused = note.options(queue="asleep").enqueue("paused")
    assert tries == ["snoozed"]
    with pytest.raises(ResultTimeoutError, match="due at"):
        later.result()
    t.advance(600)
    assert snoozed.result() == 2
    t.advance(3000)
    assert later.result() == 3
    jobs.queues.resume("asleep")
    assert t.drain().completed == 1
    assert paused.result() == 4


def test_repeating_an_id_does_not_run_it_again(jobs: Jobcard, t: Testing) -> None:
    """The same id is the same job."""
    ran: list[int] = []

    @jobs.job
    def once() -> None:
        ran.append(1)

    own = "01890000-0000-7000-8000-000000000000"
    assert once.options(id=own).enqueue() == once.options(id=own).enqueue()
    assert ran == [1]


def test_coroutines_run_on_the_loop_of_the_caller(jobs: Jobcard, t: Testing) -> None:
    """With `enqueue_async` they can use what belongs to that loop; a plain `enqueue` gives them one of their own."""
    loops: list[Any] = []

    @jobs.job
    async def job(n: int) -> int:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return n

    async def story() -> None:
        here = asyncio.get_running_loop()
        assert await (await job.enqueue_async(1)) == 1
        assert [await h for h in await jobs.enqueue_many_async([job.call(2), job.call(3)])] == [2, 3]
        assert loops == [here] * 3
        assert job.enqueue(4).result() == 4
        assert loops[-1] is not here

    asyncio.run(story())
    assert job.enqueue(5).result() == 5


def test_whoever_awaits_can_be_cancelled(jobs: Jobcard, t: Testing) -> None:
    """A test's own time limit is not swallowed by the job."""

    @jobs.job
    async def sleeps() -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleeps.enqueue_async(), 0.05)

    asyncio.run(story())


def test_threads_each_get_their_own_done(jobs: Jobcard, t: Testing) -> None:
    """Whoever enqueues finds its job done, and each job ran once."""
    ran: list[int] = []

    @jobs.job
    def note(n: int) -> int:
        ran.append(n)
        return n

    wrong: list[int] = []

    def work(first: int) -> None:
        wrong.extend(n for n in range(first, first + 20) if note.enqueue(n).result() != n)

    threads = [threading.Thread(target=work, args=(100 * place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(ran) == len(set(ran)) == 80
