"""The async facade: what runs beside what, what a cancelled coroutine leaves, loops, forks and the end."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.waiting import PATIENCE, wait_until
from jobcard.backends.asynchronous import THREADS, VERBS, AsyncBackend
from jobcard.backends.base import Backend, Enqueued, Fate, Filter, RecordKind, Waker, Want
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.core.job import NewJob
from jobcard.errors import ConfigError, EnqueueUnknownError, InvalidJobError, StoreUnavailableError

WANT = Want([("default", 1)], 1)


class Gated:
    """A SQLite store whose verbs, once they are `held`, wait for the gate and are counted while they do."""

    def __init__(self, path: Path) -> None:
        self.store = SQLiteBackend(path)
        self.store.migrate()
        self.capabilities = self.store.capabilities
        self.held: set[str] = set()
        self.gate = threading.Event()
        self.inside: list[str] = []
        self.made: list[str] = []
        self.batches: list[int] = []
        self.most_at_once = 0
        self.closed_with: list[str] | None = None
        self._lock = threading.Lock()

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.made.append(verb)
                self.inside.append(verb)
                self.most_at_once = max(self.most_at_once, self.inside.count(verb))
            try:
                if verb in self.held:
                    assert self.gate.wait(PATIENCE)
                return getattr(self.store, verb)(*args, **kwargs)
            finally:
                with self._lock:
                    self.inside.remove(verb)

        return call

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        self.batches.append(len(jobs))
        answers: list[Enqueued] = self.__getattr__("enqueue")(jobs)
        return answers

    def close(self) -> None:
        self.closed_with = list(self.inside)
        self.store.close()


@pytest.fixture
def gated(path: Path) -> Any:
    gated = Gated(path)
    yield gated
    gated.gate.set()
    gated.store.close()


def run(gated: Gated, work: Callable[[AsyncBackend], Coroutine[Any, Any, Any]]) -> Any:
    """Run it on a facade of its own, which is closed afterwards."""

    async def main() -> Any:
        async with AsyncBackend(gated) as facade:  # type: ignore[arg-type]
            try:
                return await work(facade)
            finally:
                gated.gate.set()

    return asyncio.run(main())


async def until(event: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, event, what)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class TestVerbs:
    @pytest.mark.parametrize("verb", VERBS)
    def test_each_is_a_coroutine_of_the_same_form(self, verb: str) -> None:
        """A verb of the contract, today's or tomorrow's, is awaitable under its name and with its arguments."""
        facade = vars(AsyncBackend)[verb]
        assert inspect.iscoroutinefunction(facade)
        assert list(inspect.signature(facade).parameters) == list(inspect.signature(getattr(Backend, verb)).parameters)
        assert inspect.getdoc(facade)

    def test_they_are_all_of_them(self) -> None:
        """Nothing of the contract is left out but the capabilities, which nobody needs to wait for."""
        public = {name for name in {*vars(Backend), *Backend.__annotations__} if not name.startswith("_")}
        assert public == {*VERBS, "capabilities"}


class TestBesideEachOther:
    def test_calls_run_beside_each_other(self, gated: Gated) -> None:
        """As many as there are threads are under way at once, and an exchange beside them."""
        gated.held = {"tally", "exchange"}

        async def work(facade: AsyncBackend) -> None:
            calls = [asyncio.create_task(facade.tally()) for _ in range(THREADS + 3)]
            calls.append(asyncio.create_task(facade.exchange("engine", want=WANT)))
            await until(lambda: len(gated.inside) == THREADS + 1, "calls on all threads")
            gated.gate.set()
            await asyncio.gather(*calls)

        run(gated, work)
        assert gated.most_at_once == THREADS

    def test_exchanges_go_one_by_one(self, gated: Gated) -> None:
        """The contract never asks a store for two at once, and those that wait for their turn hold nobody else up."""
        gated.held = {"exchange"}

        async def work(facade: AsyncBackend) -> None:
            await facade.enqueue([factory.new_job() for _ in range(20)])
            calls = [asyncio.create_task(facade.exchange("engine", want=WANT, lease=10**9)) for _ in range(20)]
            await until(lambda: gated.inside == ["exchange"], "the first exchange")
            assert (await facade.tally()).counts["waiting"] == 20
            gated.gate.set()
            claimed = [claim.id for answer in await asyncio.gather(*calls) for claim in answer.claimed]
            assert len(set(claimed)) == 20

        run(gated, work)
        assert gated.most_at_once == 1

    def test_what_gathers_goes_out_as_one(self, gated: Gated) -> None:
        """Calls are bundled whole, up to a thousand jobs; each caller gets the answers to its own."""
        gated.held = {"enqueue"}

        async def work(facade: AsyncBackend) -> None:
            jobs = [factory.new_job() for _ in range(1_500)]
            calls = [asyncio.create_task(facade.enqueue(jobs[:1]))]
            await until(lambda: gated.batches == [1], "the first call")
            parts = [jobs[1:600], [], jobs[600:900], jobs[900:1_500]]
            calls += [asyncio.create_task(facade.enqueue(part)) for part in parts]
            await asyncio.sleep(0)
            gated.gate.set()
            answers = await asyncio.gather(*calls)
            assert [len(answer) for answer in answers] == [1, 599, 0, 300, 600]
            assert [one.existing for answer in answers for one in answer] == [job.id for job in jobs]

        run(gated, work)
        assert gated.batches == [1, 899, 600]

    def test_a_refused_call_takes_no_other_with_it(self, gated: Gated) -> None:
        """All or nothing is each caller's own, also in a bundle; and each hears of its own ids only."""

        async def work(facade: AsyncBackend) -> None:
            good, mixed, bad = factory.new_job(), factory.new_job(), factory.new_job(name=factory.NO_TEXT)
            calls = (facade.enqueue([factory.new_job()]), facade.enqueue([mixed, bad]), facade.enqueue([good]))
            _, refused, stored = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(refused, InvalidJobError)
            assert stored == [Enqueued(Fate.STORED, good.id)]
            assert [row.id for row in await facade.get([good.id, mixed.id])] == [good.id]

            def lose(jobs: Sequence[NewJob]) -> list[Enqueued]:
                raise EnqueueUnknownError([]) from StoreUnavailableError("away")

            facade._bundles._send = lose
            facade._bundles._of_loops.clear()
            lost = await asyncio.gather(facade.enqueue([good]), facade.enqueue([mixed]), return_exceptions=True)
            assert [[one.bytes for one in error.ids] for error in lost] == [[good.id], [mixed.id]]

        run(gated, work)


class TestCancelling:
    def test_a_call_that_has_begun_is_finished(self, gated: Gated) -> None:
        """Whoever gave up does not wait, and the store is left as after any other call."""
        gated.held = {"write_record"}

        async def work(facade: AsyncBackend) -> None:
            task = asyncio.create_task(facade.write_record(RecordKind.QUEUE, "q", "{}"))
            await until(lambda: gated.inside, "the call")
            await cancelled(task)
            gated.gate.set()
            await until(lambda: not gated.inside, "its end")
            assert [record.key for record in await facade.read_records(RecordKind.QUEUE)] == ["q"]

        run(gated, work)

    @pytest.mark.parametrize("verb", ["exchange", "tally", "enqueue"])
    def test_one_that_has_not_begun_is_not_made(self, gated: Gated, verb: str) -> None:
        """Behind others it only waited, so it leaves no trace."""
        gated.held = {verb}

        def call(facade: AsyncBackend) -> Coroutine[Any, Any, Any]:
            arguments: dict[str, Any] = {"exchange": {"owner": "engine"}, "enqueue": {"jobs": [factory.new_job()]}}
            return getattr(facade, verb)(**arguments.get(verb, {}))  # type: ignore[no-any-return]

        async def work(facade: AsyncBackend) -> None:
            at_work = THREADS if verb == "tally" else 1
            first = [asyncio.create_task(call(facade)) for _ in range(at_work)]
            await until(lambda: len(gated.inside) == at_work, "calls on all threads")
            late = asyncio.create_task(call(facade))
            await asyncio.sleep(0)
            await cancelled(late)
            gated.gate.set()
            await asyncio.gather(*first)
            await asyncio.gather(*(facade.facts() for _ in range(THREADS)))
            assert gated.made.count(verb) == at_work

        run(gated, work)

    def test_a_waker_that_nobody_takes_is_closed(self, gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
        """Cancelled while it was made, or when it was there already: no descriptor is left behind."""
        closed = []
        monkeypatch.setattr(gated.store, "waker", lambda: Waker(close=lambda: closed.append(1)))
        gated.held = {"waker"}

        async def work(facade: AsyncBackend) -> None:
            task = asyncio.create_task(facade.waker())
            await until(lambda: gated.inside, "the call")
            await cancelled(task)
            gated.gate.set()
            await until(lambda: len(closed) == 1, "the end of the waker")
            task = asyncio.create_task(facade.waker())
            await asyncio.sleep(0)
            # Without a turn of the loop: the answer is there, and not taken yet.
            wait_until(lambda: gated.made.count("waker") == 2 and not gated.inside, "the second one")
            await cancelled(task)
            await until(lambda: len(closed) == 2, "the end of the second one")
            (await facade.waker()).close()

        run(gated, work)
        assert len(closed) == 3


class TestClosing:
    def test_it_waits_for_all_calls(self, gated: Gated) -> None:
        """What is under way or in line is finished before the store is let go of; later calls are refused."""
        gated.held = {"tally", "exchange"}

        async def work(facade: AsyncBackend) -> None:
            calls = [asyncio.create_task(facade.tally()) for _ in range(THREADS + 2)]
            calls += [asyncio.create_task(facade.exchange("engine")) for _ in range(3)]
            await until(lambda: len(gated.inside) == THREADS + 1, "calls on all threads")
            closing = [asyncio.create_task(facade.close()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(ConfigError, match="closed"):
                await facade.tally()
            await cancelled(closing[0])  # whoever gave up waiting does not keep it open
            assert gated.closed_with is None
            gated.gate.set()
            await asyncio.gather(*calls, closing[1])
            assert gated.closed_with == []

        run(gated, work)

    def test_no_thread_is_left(self, gated: Gated) -> None:
        """Its threads end with it."""
        before = set(threading.enumerate())

        async def work(facade: AsyncBackend) -> None:
            await asyncio.gather(*(facade.tally() for _ in range(30)), facade.exchange("engine"))

        run(gated, work)
        wait_until(lambda: set(threading.enumerate()) <= before, "the end of its threads")


class TestLoopsAndForks:
    def test_several_loops_at_once(self, gated: Gated) -> None:
        """One facade serves loops in many threads, one after another and beside each other."""
        facade = AsyncBackend(gated)  # type: ignore[arg-type]

        async def several() -> None:
            claims = asyncio.gather(*(facade.exchange("engine", want=WANT, lease=10**9) for _ in range(5)))
            await asyncio.gather(*(facade.enqueue([factory.new_job()]) for _ in range(5)), claims)

        threads = [
            threading.Thread(target=lambda: [asyncio.run(several()) for _ in range(3)], name=f"loop-{place}")
            for place in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = asyncio.run(facade.tally()).counts
        assert sum(counts.values()) == 4 * 3 * 5
        asyncio.run(facade.close())

    def test_a_forked_child_goes_on(self, gated: Gated) -> None:
        """With threads of its own; what was closed before stays closed."""
        facade, shut = AsyncBackend(gated), AsyncBackend(SQLiteBackend(":memory:"))  # type: ignore[arg-type]
        asyncio.run(facade.tally())
        asyncio.run(shut.close())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                asyncio.run(facade.enqueue([factory.new_job(queue="child")]))
                asyncio.run(facade.close())
                with pytest.raises(ConfigError, match="closed"):
                    asyncio.run(shut.tally())
                os._exit(0)
            finally:
                os._exit(1)
        asyncio.run(facade.enqueue([factory.new_job(queue="parent")]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert asyncio.run(facade.count(Filter())) == {"child": {"waiting": 1}, "parent": {"waiting": 1}}
        asyncio.run(facade.close())

    def test_a_loop_that_ended_is_not_kept(self, gated: Gated) -> None:
        """Nor is what gathered on it."""
        facade = AsyncBackend(gated)  # type: ignore[arg-type]
        for _ in range(3):
            asyncio.run(facade.enqueue([factory.new_job()]))

        def none_is_left() -> bool:
            import gc

            gc.collect()
            return not len(facade._bundles)

        wait_until(none_is_left, "the end of all loops")
        asyncio.run(facade.close())
