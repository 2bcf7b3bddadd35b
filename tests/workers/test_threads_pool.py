"""Workers that are threads: they obey the orders of the pool of processes and speak its messages."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from jobcard import Cancel, Jobcard, JobContext
from jobcard.backends.base import Want
from jobcard.core.job import Claimed
from jobcard.workers import messages
from jobcard.workers.messages import Exit
from jobcard.workers.threads_pool import ThreadsPool

PATIENCE = 30.0


class Ear:
    """An engine that only listens."""

    def __init__(self, jobs: Jobcard) -> None:
        self.jobs = jobs
        self.heard: list[tuple[int, list[Any]]] = []
        self.ended: dict[int, tuple[list[int], Exit]] = {}
        self._selector = selectors.DefaultSelector()
        self.pool = ThreadsPool(self._selector, self, jobs)

    def message(self, number: int, message: list[Any]) -> None:
        self.heard.append((number, message))

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit) -> None:
        self.ended[number] = (list(unstarted), exit)

    def listen(self, arrived: Callable[[], Any]) -> None:
        """Hear what comes until this is so."""
        until = time.monotonic() + PATIENCE
        while not arrived():
            assert time.monotonic() < until, self.heard
            for key, _events in self._selector.select(0.05):
                key.data()

    def words(self, kind: int) -> dict[int, list[Any]]:
        """What was said of each job with messages of this kind."""
        return {message[1]: message[2:] for _number, message in self.heard if message[0] == kind}

    def started(self) -> list[int]:
        return [seq for _n, message in self.heard if message[0] == messages.STARTED for seq, _at in message[1]]

    def give(self, number: int, first: int, *calls: Any) -> list[Claimed]:
        """Claim these calls and hand them to a worker, numbered from `first`."""
        self.jobs.enqueue_many(calls)
        with self.jobs.parts.connection as store:
            want = Want([("default", len(calls))], len(calls))
            claims = store.exchange("ear", want=want, lease=10**9).claimed
        self.pool.send(number, [(first + place, claim, 0.0) for place, claim in enumerate(claims)])
        return claims


@pytest.fixture
def jobs() -> Iterator[Jobcard]:
    with Jobcard("sqlite:///:memory:") as client:
        yield client


@pytest.fixture
def ear(jobs: Jobcard) -> Iterator[Ear]:
    ear = Ear(jobs)
    yield ear
    ear.pool.close()


def test_one_by_one_in_order(jobs: Jobcard, ear: Ear) -> None:
    """A worker says hello, runs what it is given in that order, and ends when it is retired and empty."""

    @jobs.job
    def add(a: int, b: int) -> int:
        return a + b

    @jobs.job
    def fail() -> None:
        raise ValueError("no")

    ear.pool.spawn(7)
    ear.listen(lambda: ear.heard)
    assert ear.heard[0][1][0] == messages.HELLO
    ear.pool.learn()  # the pool is older than the jobs
    assert {name.rpartition(".")[2] for name in ear.heard[0][1][1]["names"]} == {"add", "fail"}
    ear.give(7, 1, add.call(1, 2), fail.call(), add.call(3, 4))
    ear.pool.retire(7)
    ear.listen(lambda: ear.ended)
    ends = [message for _n, message in ear.heard if message[0] in (messages.DONE, messages.ENDED)]
    assert [(end[0], end[1]) for end in ends] == [(messages.DONE, 1), (messages.ENDED, 2), (messages.DONE, 3)]
    assert [ends[0][4], ends[2][4]] == ["3", "7"]
    assert (ends[1][4]["kind"], ends[1][4]["error"]["message"]) == ("error", "no")
    assert all(began <= ended for _kind, _seq, began, ended, _what in ends)
    assert ear.ended == {7: ([], Exit(0, ""))}


def test_what_was_not_started_can_be_taken_back(jobs: Jobcard, ear: Ear) -> None:
    """The job at work stays, those behind it come back and never run."""
    started, gate = threading.Event(), threading.Event()
    ran: list[int] = []

    @jobs.job
    def hold(n: int) -> None:
        ran.append(n)
        started.set()
        gate.wait(PATIENCE)

    ear.pool.spawn(1)
    ear.give(1, 10, hold.call(0), hold.call(1), hold.call(2))
    assert started.wait(PATIENCE)
    assert ear.pool.recall(1) == [11, 12]
    assert ear.pool.recall(1) == []
    gate.set()
    ear.pool.retire(1)
    ear.listen(lambda: ear.ended)
    assert ran == [0]


def test_an_abandoned_worker_is_heard_no_more(jobs: Jobcard, ear: Ear) -> None:
    """Its end is told with what it had not started; its job learns of it, and what it returns is dropped."""
    started, ended = threading.Event(), threading.Event()
    reasons: list[str] = []

    @jobs.job
    def quick() -> str:
        return "ran"

    @jobs.job
    def hold(ctx: JobContext) -> str:
        started.set()
        while not ctx.cancelled:  # type: ignore[attr-defined]
            threading.Event().wait(0.01)
        reasons.append(ctx.cancel_reason)  # type: ignore[attr-defined]
        ended.set()
        return "late"

    ear.pool.spawn(1)
    ear.give(1, 1, hold.call(), quick.call())
    assert started.wait(PATIENCE)
    ear.pool.kill(1)
    ear.pool.kill(1)
    ear.pool.send(1, [])
    ear.listen(lambda: ear.ended)
    assert ear.ended == {1: ([2], Exit(None, ""))}
    assert ended.wait(PATIENCE)
    ear.pool.spawn(2)
    ear.give(2, 9, quick.call())
    ear.listen(lambda: ear.words(messages.DONE))
    assert ear.words(messages.DONE).keys() == {9}
    assert "abandoned" in reasons[0]


def test_a_sharing_worker_runs_side_by_side(jobs: Jobcard, ear: Ear) -> None:
    """Coroutines share one loop in one thread, functions have a thread each; every start is told."""
    barrier = threading.Barrier(2)
    places: list[tuple[Any, int]] = []
    meeting = asyncio.Event()

    @jobs.job
    async def meet(n: int) -> int:
        places.append((asyncio.get_running_loop(), threading.get_ident()))
        if len(places) == 3:
            meeting.set()
        await asyncio.wait_for(meeting.wait(), PATIENCE)
        return n

    @jobs.job
    def block() -> int:
        return barrier.wait(PATIENCE)

    ear.pool.spawn(1)
    ear.pool.share(1)
    ear.give(1, 1, meet.call(1), meet.call(2))
    ear.give(1, 3, block.call(), meet.call(3), block.call())
    ear.listen(lambda: len(ear.words(messages.DONE)) == 5)
    assert sorted(ear.started()) == [1, 2, 3, 4, 5]
    assert len(set(places)) == 1
    assert [ear.words(messages.DONE)[seq][-1] for seq in (1, 2, 4)] == ["1", "2", "3"]
    ear.pool.retire(1)
    ear.listen(lambda: ear.ended)
    assert ear.ended == {1: ([], Exit(0, ""))}


def test_a_blocked_loop_takes_nothing(jobs: Jobcard, ear: Ear) -> None:
    """What a sharing worker cannot start because a coroutine blocks it can be taken back."""
    started, gate = threading.Event(), threading.Event()

    @jobs.job
    async def block() -> None:
        started.set()
        gate.wait(PATIENCE)

    ear.pool.spawn(1)
    ear.pool.share(1)
    ear.give(1, 1, block.call())
    assert started.wait(PATIENCE)
    ear.give(1, 2, block.call(), block.call())
    assert ear.pool.recall(1) == [2, 3]
    gate.set()
    ear.listen(lambda: ear.words(messages.DONE))
    assert ear.started() == [1]


@pytest.mark.parametrize("share", [True, False])
def test_a_told_coroutine_is_cancelled(jobs: Jobcard, ear: Ear, share: bool) -> None:
    """It ends with `told` and the reason; one that catches the word and returns has completed."""
    started = threading.Semaphore(0)

    @jobs.job
    async def sleeper() -> None:
        started.release()
        await asyncio.sleep(PATIENCE)

    @jobs.job
    async def tidy() -> str:
        started.release()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            return "tidied up"
        return "slept"

    for number, job in ((1, sleeper), (2, tidy)):
        ear.pool.spawn(number)
        if share:
            ear.pool.share(number)
        ear.give(number, number, job.call())
    for _ in range(2):
        assert started.acquire(timeout=PATIENCE)
    for number in (1, 2):
        ear.pool.tell(number, number, "cancel", "not needed")
    ear.pool.tell(1, 99, "cancel", "of nobody")
    ear.listen(lambda: ear.words(messages.ENDED) and ear.words(messages.DONE))
    assert ear.words(messages.ENDED)[1][-1]["kind"] == "told"
    assert ear.words(messages.ENDED)[1][-1]["reason"] == "not needed"
    assert ear.words(messages.DONE)[2][-1] == '"tidied up"'


def test_a_told_function_sees_it(jobs: Jobcard, ear: Ear) -> None:
    """`ctx.cancelled` turns true, `raise_if_cancelled` ends it; a `Cancel` of its own counts as having obeyed."""
    started = threading.Semaphore(0)

    @jobs.job
    def obeys(ctx: JobContext, how: str) -> None:
        started.release()
        while not ctx.cancelled:  # type: ignore[attr-defined]
            threading.Event().wait(0.01)
        if how == "raise":
            ctx.raise_if_cancelled()  # type: ignore[attr-defined]
        raise Cancel("as you like")

    ear.pool.spawn(1)
    ear.pool.share(1)
    ear.give(1, 1, obeys.call("raise"), obeys.call("cancel"))
    for _ in range(2):
        assert started.acquire(timeout=PATIENCE)
    for seq in (1, 2):
        ear.pool.tell(1, seq, "stop", "the engine stops")
    ear.listen(lambda: len(ear.words(messages.ENDED)) == 2)
    assert [ear.words(messages.ENDED)[seq][-1]["kind"] for seq in (1, 2)] == ["told", "told"]


@pytest.mark.parametrize("share", [True, False])
def test_what_jobs_say_while_they_run_is_passed_on(jobs: Jobcard, ear: Ear, share: bool) -> None:
    """Notes come before the end of their job, a checkpoint waits for its reply, follow-ups come with the end."""

    @jobs.job
    def after(n: int) -> None: ...

    @jobs.job
    def plain(ctx: JobContext) -> None:
        ctx.log("a line")
        ctx.save_checkpoint([1])
        ctx.then(after.call(1))

    @jobs.job
    async def coroutine(ctx: JobContext) -> None:
        ctx.progress(0.5)
        await ctx.save_checkpoint_async([2])

    for number, job in ((1, plain), (2, coroutine)):
        ear.pool.spawn(number)
        if share:
            ear.pool.share(number)
        ear.give(number, number, job.call())

    def asked() -> dict[int, list[Any]]:
        return {seq: words for seq, words in ear.words(messages.NOTE).items() if words[-1] is not None}

    ear.listen(lambda: len(asked()) == 2)
    assert {seq: words[0]["checkpoint"] for seq, words in asked().items()} == {1: "[1]", 2: "[2]"}
    assert not ear.words(messages.FOLLOWED) and not ear.words(messages.DONE)
    for seq, words in asked().items():
        ear.pool.reply(seq, words[-1], None, None)
    ear.listen(lambda: ear.words(messages.FOLLOWED) and ear.words(messages.DONE))
    [new] = ear.words(messages.FOLLOWED)[1][-1]
    assert new.args == "[1]"
    notes = [message for _number, message in ear.heard if message[0] == messages.NOTE]
    assert [text for note in notes for _at, text in note[2]["lines"]] == ["a line"]
    assert next(note[2]["progress"] is not None for note in notes if note[1] == 2)
