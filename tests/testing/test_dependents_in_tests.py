"""`jobs.testing()` with jobs that wait for others, and with batches: both modes do what engines would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from jobcard import (
    Backoff,
    Ended,
    Fail,
    Jobcard,
    JobContext,
    JobFailedError,
    ResultTimeoutError,
)
from jobcard.testing import Testing


@pytest.fixture
def jobs() -> Iterator[Jobcard]:
    with Jobcard("sqlite:///never-opened.db") as client:
        yield client


class Shop:
    def __init__(self, jobs: Jobcard) -> None:
        self.ran: list[Any] = []

        @jobs.job(name="note")
        def note(what: Any = None) -> Any:
            self.ran.append(what)
            return what

        @jobs.job(name="anote")
        async def anote(what: Any = None) -> Any:
            await asyncio.sleep(0)
            self.ran.append(what)
            return what

        @jobs.job(name="fails")
        def fails(what: Any = None) -> None:
            self.ran.append(what)
            raise Fail("no")

        @jobs.job(name="second_try", max_attempts=2, backoff=Backoff.fixed(60))
        def second_try(ctx: JobContext) -> None:
            self.ran.append(ctx.attempt)
            if ctx.attempt == 1:
                raise ValueError

        @jobs.job(name="grow")
        def grow(ctx: JobContext, depth: int) -> None:
            self.ran.append(depth)
            if depth:
                grow.options(batch=ctx.job.batch_id).enqueue(depth - 1)
                ctx.then(grow.options(batch=ctx.job.batch_id).call(depth - 1))

        self.note, self.anote, self.fails, self.second_try, self.grow = note, anote, fails, second_try, grow


@pytest.fixture
def shop(jobs: Jobcard) -> Shop:
    return Shop(jobs)


class TestManual:
    @pytest.fixture(autouse=True)
    def t(self, jobs: Jobcard, shop: Shop) -> Iterator[Testing]:
        with jobs.testing() as t:
            yield t

    def test_a_drain_runs_them_in_their_order(self, jobs: Jobcard, shop: Shop, t: Testing) -> None:
        """A chain, enqueued in whatever order; all that follows is part of the drain."""
        first, second = uuid4(), uuid4()
        shop.note.options(id=second, after=first).enqueue(2)
        shop.note.options(after=[second, first]).enqueue(3)
        t.assert_enqueued(shop.note, 3)
        shop.note.options(id=first).enqueue(1)
        assert len(t.all_enqueued()) == 3
        assert t.drain().completed == 3
        assert shop.ran == [1, 2, 3]

    def test_a_failure_cancels_who_wanted_success(self, jobs: Jobcard, shop: Shop, t: Testing) -> None:
        """Down the chain; they never ran, so the drain does not count them."""
        failing = shop.fails.enqueue(1)
        second = shop.note.options(after=failing).enqueue(2)
        third = shop.note.options(after=second).enqueue(3)
        last = shop.note.options(after=[Ended(third), Ended(failing)]).enqueue(4)
        drained = t.drain()
        assert (drained.completed, drained.failed, drained.canceled, shop.ran) == (1, 1, 0, [1, 4])
        assert last.result() == 4
        for handle, why in ((second, "which failed"), (third, "which was canceled")):
            with pytest.raises(JobFailedError, match=why):
                handle.result()
            assert handle.refresh().reason == "dependency"

    def test_one_that_waits_says_for_whom(self, shop: Shop, t: Testing) -> None:
        """`result` does not hang, and does not promise that a drain will do."""
        first = shop.note.options(delay=60).enqueue()
        held = shop.note.options(after=first).enqueue()
        t.drain()
        with pytest.raises(ResultTimeoutError, match=rf"under test, it waits for job {first.id} \(waiting\)"):
            held.result()
        t.advance(60)
        t.drain()
        held.result()

    def test_time_is_the_blocks_own(self, jobs: Jobcard, shop: Shop, t: Testing) -> None:
        """A delayed dependent, a retry that is waited for: as `advance` and `with_scheduled` let time pass."""
        retried = shop.second_try.enqueue()
        late = shop.note.options(after=retried, delay=3600).enqueue("late")
        soon = shop.note.options(after=retried).enqueue("soon")
        assert (t.drain().retried, late.refresh().hold, soon.refresh().hold) == (1, "after", "after")
        t.advance(60)
        assert (t.drain().completed, late.refresh().hold, soon.result()) == (2, "delay", "soon")
        began = t.now
        assert t.drain(with_scheduled=True).completed == 1
        assert t.now - began == timedelta(seconds=3540)

    def test_a_job_that_never_was_is_given_up(self, shop: Shop, t: Testing) -> None:
        """After a minute of the block's time, in which it may yet be stored."""
        strange = uuid4()
        held = shop.note.options(after=strange).enqueue(1)
        takes = shop.note.options(after=Ended(strange)).enqueue(2)
        t.drain(with_scheduled=True)
        t.advance(59)
        t.drain()
        assert held.refresh().hold == takes.refresh().hold == "after"
        t.advance(2)
        t.drain()
        assert (held.refresh().state, held.refresh().reason, takes.result()) == ("canceled", "dependency", 2)

    def test_a_batch_and_what_follows_it(self, jobs: Jobcard, shop: Shop, t: Testing) -> None:
        """Also what its jobs bring into it."""
        with jobs.batch("b", on_success=shop.note.call("ok"), on_end=shop.note.call("end")) as b:
            b.enqueue(shop.grow.call(3))
            b.enqueue(shop.note.options(delay=60).call("late"))
        assert b.counts().waiting == 2
        assert t.drain().completed == 15 and "end" not in shop.ran
        t.advance(60)
        assert t.drain().completed == 3
        assert sorted(shop.ran[-2:]) == ["end", "ok"] and b.counts().completed == 16

    def test_a_failed_batch(self, jobs: Jobcard, shop: Shop, t: Testing) -> None:
        """It ends, and is no success."""
        with jobs.batch(on_success=shop.note.call("ok"), on_end=shop.note.call("end")) as b:
            b.enqueue_many([shop.fails.call(1), shop.note.call(2)])
        assert (t.drain().completed, shop.ran[-1], b.counts().failed) == (2, "end", 1)
        with jobs.batch(on_success=shop.note.call("ok"), on_end=shop.note.call("end")) as b:
            b.enqueue(shop.note.call(1))
        assert b.cancel_rest() == 1
        assert (t.drain().completed, shop.ran[-1]) == (1, "end")

    def test_a_long_chain_and_a_wide_end(self, jobs: Jobcard, shop: Shop, t: Testing) -> None:
        """Hundreds that wait for each other, and hundreds that wait for the last of them."""
        handles = [shop.note.enqueue(0)]
        for number in range(1, 300):
            handles.append(shop.note.options(after=handles[-1]).enqueue(number))
        jobs.enqueue_many([shop.note.options(after=handles[-1]).call(n) for n in range(300, 600)])
        assert t.drain().completed == 600
        assert shop.ran == list(range(600))


class TestInline:
    @pytest.fixture(autouse=True)
    def t(self, jobs: Jobcard, shop: Shop) -> Iterator[Testing]:
        with jobs.testing("inline") as t:
            yield t

    def test_one_that_need_not_wait_runs_at_once(self, shop: Shop) -> None:
        """What it waits for has run when its handle is there."""
        first = shop.note.enqueue(1)
        assert shop.note.options(after=first).enqueue(2).result() == 2
        failed = shop.fails.enqueue(3)
        with pytest.raises(JobFailedError, match="which failed"):
            shop.note.options(after=failed).enqueue(4).result()
        assert shop.note.options(after=Ended(failed)).enqueue(5).result() == 5
        assert shop.ran == [1, 2, 3, 5]

    def test_one_that_must_runs_when_the_others_have(self, jobs: Jobcard, shop: Shop, t: Testing) -> None:
        """Stored before them, or waiting for what is due later."""
        first = uuid4()
        held = shop.note.options(after=first).enqueue(2)
        assert (shop.ran, held.refresh().hold) == ([], "after")
        shop.note.options(id=first).enqueue(1)
        assert (shop.ran, held.result()) == ([1, 2], 2)
        later = shop.note.options(delay=60).enqueue(3)
        shop.note.options(after=later).enqueue(4)
        t.advance(59)
        assert shop.ran == [1, 2]
        t.advance(1)
        assert shop.ran == [1, 2, 3, 4]

    def test_a_job_may_wait_for_the_one_that_enqueues_it(self, jobs: Jobcard, shop: Shop) -> None:
        """It runs when that has ended, not within it."""

        @jobs.job(name="outer")
        def outer(ctx: JobContext) -> None:
            shop.note.options(after=ctx.job.id).enqueue("inner")
            ctx.then(shop.note.options(after=ctx.job).call("follow-up"))
            shop.ran.append("outer")

        outer.enqueue()
        assert shop.ran[0] == "outer" and sorted(shop.ran[1:]) == ["follow-up", "inner"]

    def test_a_batch_runs_when_its_block_ends(self, jobs: Jobcard, shop: Shop) -> None:
        """And what follows it, when all of it has ended; jobs that bring more of it included."""
        with jobs.batch(on_success=shop.note.call("ok"), on_end=shop.note.call("end")) as b:
            b.enqueue(shop.grow.call(2))
            b.enqueue(shop.note.call("x"))
            assert shop.ran == []
        assert sorted(shop.ran[-2:]) == ["end", "ok"] and len(shop.ran) == 10
        assert b.counts().completed == 8
        shop.ran.clear()
        with jobs.batch(on_success=shop.note.call("ok"), on_end=shop.note.call("end")) as b:
            b.enqueue_many([shop.fails.call(1), shop.note.call(2)])
        assert shop.ran == [1, 2, "end"]

    def test_from_an_event_loop(self, jobs: Jobcard, shop: Shop) -> None:
        """Coroutines among them, on the test's own loop."""

        async def story() -> None:
            first = await shop.anote.enqueue_async(1)
            assert await (await shop.anote.options(after=first).enqueue_async(2)) == 2
            async with jobs.batch(on_end=shop.anote.call("end")) as b:
                third = b.enqueue(shop.anote.call(3))
                b.enqueue(shop.note.options(after=third).call(4))
            assert (await third, b.counts().completed) == (3, 2)

        asyncio.run(story())
        assert shop.ran == [1, 2, 3, 4, "end"]

    def test_a_long_chain_in_a_batch(self, jobs: Jobcard, shop: Shop) -> None:
        """Stored at once and run one after the other: however long it is."""
        with jobs.batch(on_end=shop.note.call("end")) as b:
            last = b.enqueue(shop.note.call(0))
            for number in range(1, 300):
                last = b.enqueue(shop.note.options(after=last).call(number))
        assert shop.ran == [*range(300), "end"]

    def test_a_long_chain_in_a_batch_of_coroutines(self, jobs: Jobcard, shop: Shop) -> None:
        """The same on a loop."""

        async def story() -> None:
            async with jobs.batch(on_end=shop.anote.call("end")) as b:
                last = b.enqueue(shop.anote.call(0))
                for number in range(1, 100):
                    last = b.enqueue(shop.anote.options(after=last).call(number))

        asyncio.run(story())
        assert shop.ran == [*range(100), "end"]

    def test_a_job_that_is_run_by_another_is_run_once(self, jobs: Jobcard, shop: Shop) -> None:
        """Whoever of several jobs of one call puts it in line."""
        first = uuid4()
        jobs.enqueue_many(
            [
                shop.note.options(after=first).call("held"),
                shop.note.options(id=first).call("first"),
                shop.note.options(after=first).call("held too"),
            ]
        )
        assert shop.ran == ["first", "held", "held too"]
