"""Waiting for results: what comes back, what is told when nothing does, and who asks the store."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hands import Hands
from test_engines import BASE

from helpers.waiting import wait_until
from jobcard import ConfigError, Jobcard, JobFailedError, JobNotFoundError, ResultTimeoutError
from jobcard.backends.base import Ended, RecordKind
from jobcard.backends.registry import open_backend
from jobcard.client import watcher
from jobcard.core import clock, context, states


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add")
    def add(a: int, b: int = 2) -> tuple[int, ...]:
        return a, b

    return add


class TestResult:
    def test_a_result_comes_back_as_it_was_returned(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Rebuilt by the return annotation; asked again it is the same."""
        handle = add.enqueue(1)
        hands.run(jobs)
        assert handle.result() == handle.result(timeout=0) == handle.result(timedelta(seconds=1)) == (1, 2)
        assert jobs.handle(handle.id).result() == jobs.handle(str(handle.id)).result(0) == (1, 2)

    def test_it_waits_for_the_end(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """A waiter hears of a job that ends later, in another thread."""
        handle = add.enqueue(1)
        results: list[Any] = []
        waiter = threading.Thread(target=lambda: results.append(handle.result(timeout=30)))
        waiter.start()
        wait_until(lambda: jobs._parts.watcher._waiting, "the waiter")
        hands.run(jobs)
        waiter.join(30)
        assert results == [(1, 2)]

    def test_a_job_of_unknown_name_gives_plain_data(self, jobs: Jobcard, hands: Hands) -> None:
        """Without the function there is no annotation to go by."""
        handle = jobs.enqueue("else.where")
        hands.complete(hands.claim()[0], '{"a":[1]}')
        assert handle.result(timeout=5) == {"a": [1]}

    def test_a_failed_job_raises_its_errors(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """With its state, its reason and each recorded try."""
        handle = add.enqueue(1)
        hands.fail(hands.claim()[0])
        with pytest.raises(JobFailedError, match="ValueError it broke") as caught:
            handle.result(timeout=5)
        error = caught.value
        assert (error.job_id, error.state, error.reason) == (handle.id, "failed", "error")
        assert [(tried["attempt"], tried["message"]) for tried in error.errors] == [(1, "it broke")]
        assert error.errors == list(handle.refresh().errors)

    def test_a_canceled_job_raises(self, jobs: Jobcard, add: Any) -> None:
        """It has no result either."""
        handle = add.enqueue(1)
        assert handle.cancel().state == "canceled"
        with pytest.raises(JobFailedError) as caught:
            handle.result(timeout=5)
        assert (caught.value.state, caught.value.reason, caught.value.errors) == ("canceled", "canceled", [])

    def test_a_missing_job_is_told(self, jobs: Jobcard) -> None:
        """There is nothing to wait for."""
        for call in (lambda: jobs.handle(uuid4()).result(timeout=0), jobs.handle(uuid4()).refresh):
            with pytest.raises(JobNotFoundError):
                call()
        with pytest.raises(JobNotFoundError):
            jobs.handle("no id")

    def test_a_job_that_is_deleted_ends_the_wait(
        self, jobs: Jobcard, add: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody waits for ever for what is gone."""
        monkeypatch.setattr(watcher, "_LOOK_FOR_MISSING", 0.0)
        handle = add.enqueue(1)
        jobs.truncate(confirm=True)
        with pytest.raises(JobNotFoundError):
            handle.result()

    @pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "5", True, 1e18])
    def test_a_bad_timeout_is_refused(self, jobs: Jobcard, add: Any, timeout: Any) -> None:
        """None is the way to wait for ever."""
        with pytest.raises(ConfigError):
            add.enqueue(1).result(timeout)

    def test_closing_ends_the_wait(self, jobs: Jobcard, add: Any) -> None:
        """Those who wait are told."""
        handle = add.enqueue(1)
        errors: list[Exception] = []

        def wait() -> None:
            try:
                handle.result()
            except ConfigError as error:
                errors.append(error)

        waiter = threading.Thread(target=wait)
        waiter.start()
        wait_until(lambda: jobs._parts.watcher._waiting, "the waiter")
        jobs.close()
        waiter.join(30)
        assert len(errors) == 1

    def test_a_worker_that_imports_the_application_may_not_wait(
        self, jobs: Jobcard, add: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It would wait for itself: the error names the missing guard."""
        handle = add.enqueue(1)
        monkeypatch.setattr(context, "importing", True)
        with pytest.raises(ConfigError, match='__name__ == "__main__"'):
            handle.result()


class TestTimeout:
    def explained(self, handle: Any) -> str:
        with pytest.raises(ResultTimeoutError) as caught:
            handle.result(timeout=0)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.job_id == handle.id
        assert caught.value.state == handle.refresh().state
        return str(caught.value)

    def alive(self, hands: Hands) -> None:
        hands.store.write_record(RecordKind.ENGINE, "e", json.dumps(BASE))

    def test_it_says_what_the_job_waits_for(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """One sentence for each state of things."""
        handle = add.enqueue(1)
        assert "no engine is alive" in self.explained(handle)
        self.alive(hands)
        assert "waits for its turn in the queue 'default'" in self.explained(handle)
        jobs.queues.pause("default")
        assert "queue 'default' is paused" in self.explained(handle)
        jobs.queues.resume("default")
        claim = hands.claim()[0]
        assert "engine hands has claimed it" in self.explained(handle)
        hands.end(claim, states.start(claim, ago=0))
        assert "it runs since" in self.explained(handle)
        hands.end(claim, states.park(claim))
        assert "no live engine knows a job of its name" in self.explained(handle)

    def test_a_delayed_job_says_when_it_is_due(self, jobs: Jobcard, add: Any) -> None:
        """In ISO form, with the zone."""
        handle = add.options(delay=3600).enqueue(1)
        assert f"it is due at {handle.refresh().available_at.isoformat()}" in self.explained(handle)

    def test_the_last_look_counts(self, jobs: Jobcard, add: Any, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
        """A job that ended just before the time was up is a result, not a timeout."""
        handle = add.enqueue(1)
        monkeypatch.setattr(jobs._parts.watcher, "wait", lambda job_id, timeout: hands.run(jobs) and None)
        assert handle.result(timeout=5) == (1, 2)


class Counting:
    """A real store that counts who asks for ends."""

    def __init__(self, url: str) -> None:
        self.store = open_backend(url)
        self.asked: list[int] = []

    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        self.asked.append(len(job_ids))
        return self.store.ended(job_ids)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class TestWatcher:
    @pytest.fixture
    def store(self, url: str) -> Counting:
        return Counting(url)

    @pytest.fixture
    def jobs(self, store: Counting) -> Iterator[Jobcard]:
        with Jobcard(backend=store) as client:
            yield client

    def test_one_thread_asks_for_all_and_ends(self, jobs: Jobcard, add: Any, store: Counting, hands: Hands) -> None:
        """Fifty waiters share each query; the thread is gone when nobody waits."""
        handles = jobs.enqueue_many([add.call(n) for n in range(50)])

        async def all_results() -> list[Any]:
            waiting = [asyncio.ensure_future(handle.result_async(timeout=30)) for handle in handles]
            await asyncio.sleep(0)
            await asyncio.to_thread(wait_until, lambda: 50 in store.asked, "one question for all")
            watchers = [thread for thread in threading.enumerate() if thread.name == "jobcard-watcher"]
            assert len(watchers) == 1
            await asyncio.to_thread(hands.run, jobs, 50)
            return await asyncio.gather(*waiting)

        assert asyncio.run(all_results()) == [(n, 2) for n in range(50)]
        wait_until(lambda: jobs._parts.watcher._thread is None, "the end of the thread")
        asked = len(store.asked)
        assert handles[0].result() == (0, 2)
        assert len(store.asked) == asked + 1

    def test_a_store_out_of_reach_is_asked_again(
        self, jobs: Jobcard, add: Any, store: Counting, hands: Hands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A short outage is not noticed by those who wait; a long one is told."""
        from jobcard import StoreError, StoreUnavailableError

        failures = [StoreUnavailableError("away")] * 3
        real = store.store.ended
        monkeypatch.setattr(
            store.store, "ended", lambda ids: real(ids) if not failures else (_ for _ in ()).throw(failures.pop())
        )
        handle = add.enqueue(1)
        hands.run(jobs)
        assert handle.result(timeout=30) == (1, 2)
        monkeypatch.setattr(watcher, "_PATIENCE", -1.0)
        for error in (StoreUnavailableError("away"), StoreError("broken")):
            failures.append(error)
            with pytest.raises(type(error)):
                handle.result(timeout=30)

    def test_any_other_error_is_told_too(
        self, jobs: Jobcard, add: Any, store: Counting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A store that raises what it should not leaves nobody waiting for ever; the next one is served again."""
        from jobcard import StoreError

        handle = add.enqueue(1)
        for error in (RuntimeError("what?"), KeyError("x")):
            with monkeypatch.context() as patched:
                patched.setattr(store.store, "ended", lambda ids, error=error: (_ for _ in ()).throw(error))
                with pytest.raises(StoreError, match=type(error).__name__) as caught:
                    handle.result(timeout=30)
            assert caught.value.__cause__ is error


class TestHandles:
    def test_a_handle_is_its_id(self, jobs: Jobcard, add: Any) -> None:
        """Equal by id, of use as a key, and says what it is."""
        handle = add.enqueue(1)
        assert handle == jobs.handle(handle.id) != add.enqueue(1)
        assert {handle: 1}[jobs.handle(str(handle.id))] == 1
        assert handle != str(handle.id)
        assert str(handle.id) in repr(handle) and "add" in repr(handle)

    def test_it_pickles_as_its_id(self, jobs: Jobcard, add: Any, url: str, hands: Hands) -> None:
        """No URL goes with it; unpickled it is that of the only client of the process."""
        handle = add.enqueue(1)
        pickled = pickle.dumps(handle)
        assert handle.id.bytes in pickled and b"sqlite" not in pickled and len(pickled) < 100
        again = pickle.loads(pickled)  # noqa: S301
        assert again == handle
        with Jobcard(url), pytest.raises(ConfigError, match=r"jobs\.handle"):
            again.refresh()
        for client in others(jobs):
            client.closed = True
        assert again.refresh().id == handle.id
        hands.run(jobs)
        assert again.result(timeout=5) == (1, 2)


def others(jobs: Jobcard) -> list[Any]:
    """Clients that earlier tests left open."""
    from jobcard.client import living

    return [parts for parts in list(living._living) if parts is not jobs._parts]


def test_a_heartbeat_too_old_is_no_engine(jobs: Jobcard, hands: Hands, url: str) -> None:
    """Three missed beats, by the store's clock."""
    now = clock.FrozenClock()
    store = open_backend(url, clock=now)
    about = (
        '{"pid":1,"keeper_pid":2,"host":"h","version":"1","started_at":5000000,"heartbeat":5,'
        '"queues":["a"],"workers":[7]}'
    )
    with Jobcard(backend=store) as client:
        client.migrate()
        store.write_record(RecordKind.ENGINE, "e", about)
        now.advance(14)
        (engine,) = client.engines.list()
        assert (engine.id, engine.pid, engine.keeper_pid, engine.host, engine.version) == ("e", 1, 2, "h", "1")
        assert (engine.queues, engine.workers) == (("a",), (7,))
        assert engine.started_at == clock.to_datetime(5_000_000)
        assert engine.heartbeat_at == clock.to_datetime(now.now() - 14 * clock.SECOND)
        now.advance(2)
        assert client.engines.list() == []
