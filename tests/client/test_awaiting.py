"""The same from coroutines: bundled, shielded, cancelled at any moment."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from hands import Hands

from helpers.waiting import wait_until
from jobcard import (
    ConfigError,
    DuplicateJobError,
    EnqueueUnknownError,
    InvalidJobError,
    Jobcard,
    JobFailedError,
    JobHandle,
    JobNotFoundError,
    ResultTimeoutError,
    StoreFullError,
    StoreUnavailableError,
)
from jobcard.backends.base import Enqueued
from jobcard.backends.registry import open_backend
from jobcard.client import producer
from jobcard.core.job import NewJob


class Gate:
    """A real store whose enqueues wait for the gate, one by one, and are counted."""

    def __init__(self, url: str) -> None:
        self.store = open_backend(url)
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[bytes]] = []
        self.error: Exception | None = None

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        self.batches.append([job.id for job in jobs])
        self.entered.release()
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        return self.store.enqueue(jobs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.fixture
def gate(url: str) -> Gate:
    return Gate(url)


@pytest.fixture
def jobs(gate: Gate) -> Any:
    with Jobcard(backend=gate) as client:
        yield client
        gate.open.set()


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add")
    def add(a: int, b: int = 2) -> int:
        return a + b

    return add


async def arrived(gate: Gate) -> None:
    """An enqueue has reached the store."""
    assert await asyncio.to_thread(gate.entered.acquire, timeout=30)


class TestEnqueue:
    def test_what_gathers_goes_out_together(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """While the first call runs the others wait, and go as the next one; handles are each their own."""

        async def main() -> list[Any]:
            first = asyncio.ensure_future(add.enqueue_async(0))
            await arrived(gate)
            others = [asyncio.ensure_future(add.enqueue_async(n)) for n in range(1, 1200)]
            await asyncio.sleep(0)
            gate.open.set()
            return await asyncio.gather(first, *others)

        handles = asyncio.run(main())
        assert [len(batch) for batch in gate.batches] == [1, 1000, 199]
        assert [handle.id.bytes for handle in handles] == [job_id for batch in gate.batches for job_id in batch]
        assert handles[700].refresh().args == [700]

    def test_one_that_is_refused_takes_no_other_with_it(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """Each caller hears of its own job only."""
        gate.open.set()
        taken = add.options(id=uuid4())

        async def main() -> list[Any]:
            await taken.enqueue_async(1)
            calls: list[Awaitable[Any]] = [
                add.enqueue_async(1), taken.enqueue_async(2), taken.enqueue_async(1),
                add.enqueue_async(float("nan")), add.enqueue_async(), add.enqueue_async(2),
            ]  # fmt: skip
            return await asyncio.gather(*calls, return_exceptions=True)

        first, other, same, nan, missing, last = asyncio.run(main())
        assert isinstance(other, DuplicateJobError) and same.duplicate
        assert isinstance(nan, InvalidJobError) and isinstance(missing, InvalidJobError)
        assert (first.refresh().args, last.refresh().args) == ([1], [2])
        assert jobs.count().total == 3

    def test_a_lost_answer_names_the_own_job(
        self, jobs: Jobcard, add: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a bundle each gets its own id; a full store is told to all."""
        monkeypatch.setattr(producer, "PATIENCE", 0.01)
        gate.open.set()

        async def main(error: Exception) -> list[Any]:
            gate.error = error
            return await asyncio.gather(*(add.enqueue_async(n) for n in range(5)), return_exceptions=True)

        errors = asyncio.run(main(StoreUnavailableError("away")))
        assert {type(error) for error in errors} == {EnqueueUnknownError}
        assert len({error.ids for error in errors}) == 5 and {len(error.ids) for error in errors} == {1}
        assert {type(error) for error in asyncio.run(main(StoreFullError("full")))} == {StoreFullError}

    def test_a_job_that_only_the_store_refuses_is_found(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """When a bundle is refused its jobs are sent one by one."""
        real = gate.store.enqueue

        def enqueue(new: Sequence[NewJob]) -> list[Enqueued]:
            if any(job.args == "[13]" for job in new):
                raise InvalidJobError("this store does not like 13")
            return list(real(new))

        gate.store.enqueue = enqueue  # type: ignore[method-assign,assignment]
        gate.open.set()

        async def main() -> list[Any]:
            return await asyncio.gather(*(add.enqueue_async(n) for n in range(10, 16)), return_exceptions=True)

        found = asyncio.run(main())
        assert [type(item).__name__ for item in found] == ["JobHandle"] * 3 + ["InvalidJobError"] + ["JobHandle"] * 2
        assert jobs.count().total == 5

    def test_many_go_in_one_call(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """`enqueue_many_async` is `enqueue_many`, awaited."""
        gate.open.set()
        handles = asyncio.run(jobs.enqueue_many_async([add.call(n) for n in range(1500)]))
        assert jobs.count().total == len(handles) == 1500
        with pytest.raises(InvalidJobError) as caught:
            asyncio.run(jobs.enqueue_many_async([add.call(1), add.call()]))
        assert caught.value.index == 1

    def test_each_loop_for_itself(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """One client serves loops in many threads, one after another and at once."""
        gate.open.set()

        def work() -> None:
            for n in range(3):
                asyncio.run(self.several(add, n))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert jobs.count().total == 4 * 3 * 5

    async def several(self, add: Any, n: int) -> None:
        handles = await asyncio.gather(*(add.enqueue_async(n) for _ in range(5)))
        assert len({handle.id for handle in handles}) == 5


class TestClosing:
    def test_what_has_gathered_is_told(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """The call under way finishes; those that waited behind it hear that the client is closed."""

        async def main() -> list[Any]:
            first = asyncio.ensure_future(add.enqueue_async(0))
            await arrived(gate)
            others = [asyncio.ensure_future(add.enqueue_async(n)) for n in range(1, 4)]
            await asyncio.sleep(0)
            pool = jobs._parts.threads._pool
            closing = asyncio.ensure_future(asyncio.to_thread(jobs.close))
            await asyncio.to_thread(wait_until, lambda: pool._shutdown, "the end of the pool")
            gate.open.set()
            found = await asyncio.wait_for(asyncio.gather(first, *others, return_exceptions=True), 30)
            await closing
            return found

        first, *others = asyncio.run(main())
        assert isinstance(first, JobHandle)
        assert [type(error) for error in others] == [ConfigError] * 3
        assert [len(batch) for batch in gate.batches] == [1]

    def test_a_loop_that_ended_is_let_go(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """Also one that ended while its jobs still gathered."""

        async def busy() -> None:
            tasks = [asyncio.ensure_future(add.enqueue_async(0))]
            await arrived(gate)
            tasks += [asyncio.ensure_future(add.enqueue_async(n)) for n in range(3)]
            await asyncio.sleep(0)

        asyncio.run(busy())
        gate.open.set()
        for n in range(3):
            asyncio.run(self.one(add, n))

        def none_is_left() -> bool:
            gc.collect()
            return not len(jobs._parts.threads._bundles)

        wait_until(none_is_left, "the end of all loops")

    async def one(self, add: Any, n: int) -> None:
        await add.enqueue_async(n)


class TestCancelling:
    """A coroutine may be cancelled at each of its awaits; the store stays clean and nothing happens twice."""

    def test_while_the_store_is_asked(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """The statement finishes: the job is stored once, and the client goes on."""

        async def main() -> None:
            task = asyncio.ensure_future(add.enqueue_async(1))
            await arrived(gate)
            await cancelled(task)
            gate.open.set()
            assert (await add.enqueue_async(2)).refresh().args == [2]

        asyncio.run(main())
        assert sorted(job.args for job in jobs.list()) == [[1], [2]]

    def test_before_it_was_sent(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """A job that only waited for its turn is not stored."""

        async def main() -> None:
            first = asyncio.ensure_future(add.enqueue_async(1))
            await arrived(gate)
            waiting = [asyncio.ensure_future(add.enqueue_async(n)) for n in (2, 3)]
            await asyncio.sleep(0)
            await cancelled(waiting[0])
            gate.open.set()
            await asyncio.gather(first, waiting[1])

        asyncio.run(main())
        assert sorted(job.args for job in jobs.list()) == [[1], [3]]

    def test_all_that_waited(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """When nobody is left to send for, the next one is sent at once."""

        async def main() -> None:
            tasks = [asyncio.ensure_future(add.enqueue_async(n)) for n in (1, 2)]
            await arrived(gate)
            for task in tasks:
                await cancelled(task)
            gate.open.set()
            await add.enqueue_async(3)

        asyncio.run(main())
        assert sorted(job.args for job in jobs.list()) == [[1], [3]]

    def test_many_and_the_end_of_the_loop(self, jobs: Jobcard, add: Any, gate: Gate) -> None:
        """A loop that ends while the store works does not wait, nor does it disturb the work."""

        async def main() -> None:
            task = asyncio.ensure_future(jobs.enqueue_many_async([add.call(n) for n in range(3)]))
            await arrived(gate)
            await cancelled(task)

        asyncio.run(main())
        gate.open.set()
        wait_until(lambda: jobs.count().total == 3, "the jobs")

    @pytest.mark.parametrize("how", ["result", "await", "timeout"])
    def test_a_wait_for_a_result(self, jobs: Jobcard, add: Any, gate: Gate, hands: Hands, how: str) -> None:
        """The watcher forgets those who gave up; the job itself goes on."""
        gate.open.set()
        handle = add.enqueue(1)

        async def once() -> Any:
            return await handle if how == "await" else await handle.result_async()

        async def main() -> int:
            task = asyncio.ensure_future(once())
            await asyncio.to_thread(wait_until, lambda: jobs._parts.watcher._waiting, "the waiter")
            if how == "timeout":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(task, 0.01)
            else:
                await cancelled(task)
            assert jobs._parts.watcher._waiting == {}
            await asyncio.to_thread(hands.run, jobs)
            result: int = await once()
            return result

        assert asyncio.run(main()) == 3


async def cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class TestResult:
    @pytest.fixture(autouse=True)
    def _open(self, gate: Gate) -> None:
        gate.open.set()

    def run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            return await call()

        return asyncio.run(main())

    def test_it_is_the_result(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Awaiting the handle is awaiting its result; a handle by id finds the annotation too."""
        handle = add.enqueue(1)
        hands.run(jobs)
        assert self.run(lambda: handle) == self.run(handle.result_async) == 3
        assert self.run(lambda: jobs.handle(handle.id).result_async(timeout=5)) == 3

    def test_the_errors_are_those_of_result(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Failed, not in time, not there."""
        handle = add.enqueue(1)
        with pytest.raises(ResultTimeoutError, match="no engine is alive"):
            self.run(lambda: handle.result_async(timeout=0.01))
        hands.fail(hands.claim()[0])
        with pytest.raises(JobFailedError, match="it broke"):
            self.run(handle.result_async)
        with pytest.raises(JobNotFoundError):
            self.run(lambda: jobs.handle(uuid4()).result_async(timeout=0))

    def test_many_wait_without_a_thread_each(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Five hundred waiters, one watcher and a few threads."""
        handles = jobs.enqueue_many([add.call(n) for n in range(500)])

        async def main() -> list[int]:
            waiting = [asyncio.ensure_future(handle.result_async()) for handle in handles]
            await asyncio.sleep(0)
            assert threading.active_count() < 30
            for _ in range(5):
                await asyncio.to_thread(hands.run, jobs, 100)
            return await asyncio.gather(*waiting)

        assert asyncio.run(main()) == [n + 2 for n in range(500)]

    def test_it_iterates_like_any_awaitable(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """`asyncio.as_completed` and friends take it."""
        handles = [add.enqueue(n) for n in range(3)]
        hands.run(jobs, 3)

        async def results() -> AsyncIterator[int]:
            for next_one in asyncio.as_completed([handle.result_async() for handle in handles]):
                yield await next_one

        async def main() -> list[int]:
            return sorted([result async for result in results()])

        assert asyncio.run(main()) == [2, 3, 4]
