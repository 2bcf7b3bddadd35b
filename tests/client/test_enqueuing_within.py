"""`within=`: what an application says, what is refused, and what a handle knows before the commit."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hands import Hands

from helpers.waiting import wait_until
from jobcard import (
    ConfigError,
    DuplicateJobError,
    InvalidJobError,
    Jobcard,
    JobContext,
    ResultTimeoutError,
    StoreMovedError,
    StoreUnavailableError,
    Unique,
)
from jobcard.backends.registry import open_backend
from jobcard.client import producer


@pytest.fixture
def url(tmp_path: Path) -> str:
    """In the application's own file, by its own library."""
    return f"sqlite:///{tmp_path}/jobs.db?library=sqlite3"


@pytest.fixture
def conn(tmp_path: Path, jobs: Jobcard) -> Iterator[sqlite3.Connection]:
    jobs.migrate()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db", check_same_thread=False)) as connection:
        yield connection


@pytest.fixture
def mail(jobs: Jobcard) -> Any:
    @jobs.job(name="mail")
    def mail(to: str) -> str:
        return f"sent to {to}"

    return mail


class TestSaying:
    def test_one_by_its_function(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """It exists if and only if the transaction commits."""
        lost = mail.options(within=conn).enqueue("ann")
        conn.rollback()
        with conn:
            kept = mail.options(within=conn).enqueue("ann")
            assert jobs.find(kept.id) is None
        assert jobs.find(lost.id) is None
        assert jobs.get(kept.id).args == ["ann"]

    def test_one_by_its_name(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """Also one that this code does not know."""
        with conn:
            handles = [
                jobs.enqueue("mail", ["ann"], within=conn),
                jobs.enqueue("unknown", strict=False, within=conn),
            ]
            assert jobs.count().total == 0
        assert [handle.refresh().name for handle in handles] == ["mail", "unknown"]

    def test_many(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """All of them, also where they go in several steps."""
        joined = mail.options(within=conn)
        handles = jobs.enqueue_many(joined.call(str(number)) for number in range(2_500))
        conn.rollback()
        assert jobs.count().total == 0
        handles = jobs.enqueue_many(joined.call(str(number)) for number in range(2_500))
        conn.commit()
        assert jobs.count().total == len(handles) == 2_500

    def test_many_have_one_transaction(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """A call that is in none, or in another, is refused with its place before anything is sent."""
        joined = mail.options(within=conn)
        for other in (mail.call("b"), mail.options(within=object()).call("b")):
            for calls in ([joined.call("a"), other], [joined.call("a"), joined.call("a"), other]):
                with pytest.raises(InvalidJobError, match="same within=") as refused:
                    jobs.enqueue_many(calls)
                assert refused.value.index == len(calls) - 1
        conn.commit()
        assert jobs.count().total == 0

    @pytest.mark.parametrize("nothing", [None, False])
    def test_none(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection, nothing: object) -> None:
        """None and False are no transaction, also after one was said."""
        with_one = mail.options(within=conn)
        handle = with_one.options(within=nothing).enqueue("ann")
        assert handle.refresh().state == "waiting"
        assert not conn.in_transaction

    def test_a_unique_job(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """It is answered as ever, and the transaction goes on."""
        there = mail.options(unique=True).enqueue("ann")
        with conn:
            conn.execute("create table orders (number integer)")
            joined = mail.options(unique=True, within=conn)
            assert joined.enqueue("ann") == there
            assert joined.enqueue("ann").duplicate
            with pytest.raises(DuplicateJobError):
                mail.options(unique=Unique(on_conflict="raise"), within=conn).enqueue("ann")
            assert mail.options(unique=Unique(on_conflict="ignore"), within=conn).enqueue("ann") is None
        assert conn.execute("select count(*) from orders").fetchone() == (0,)
        assert jobs.count().total == 1

    def test_a_hook_can_say_it(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """An application that has one transaction per request says it in one place."""

        @jobs.before_enqueue
        def join(event: Any) -> None:
            assert "within" not in event.options
            event.options["within"] = conn

        handle = mail.enqueue("ann")
        several = jobs.enqueue_many([mail.call("bob"), mail.call("cid")])
        assert jobs.count().total == 0
        conn.commit()
        assert {job.id for job in jobs.list()} == {handle.id, *(one.id for one in several)}


class TestRefusing:
    def test_a_store_that_joins_none(self, mail: Any) -> None:
        """Before anything is asked of the connection."""
        with Jobcard("sqlite:///:memory:") as jobs:
            job = jobs.job(name="job")(lambda: None)
            with pytest.raises(ConfigError, match="this SQLite store cannot join a transaction"):
                job.options(within=object()).enqueue()

    def test_what_is_no_connection(self, jobs: Jobcard, mail: Any) -> None:
        """Nothing is stored, with or without."""
        for wrong in (True, "conn", 7, object()):
            with pytest.raises(ConfigError, match="within takes a connection of sqlite3"):
                mail.options(within=wrong).enqueue("ann")
        assert jobs.count().total == 0

    def test_awaitable_enqueues(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """They use a thread and a bundle of their own, which a transaction cannot go along with."""

        async def work() -> None:
            with pytest.raises(ConfigError, match="within= goes with enqueue and enqueue_many"):
                await mail.options(within=conn).enqueue_async("ann")
            with pytest.raises(ConfigError, match="within= goes with enqueue and enqueue_many"):
                await jobs.enqueue_many_async([mail.options(within=conn).call("ann")])
            mail.options(within=conn).enqueue("ann")

        asyncio.run(work())
        conn.commit()
        assert jobs.count().total == 1

    def test_schedules_and_follow_ups(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection, hands: Hands) -> None:
        """Others enqueue them, later."""
        with pytest.raises(ConfigError, match="leave out within="):
            jobs.schedule("nightly", "0 3 * * *", mail.options(within=conn), args=["ann"])
        with pytest.raises(ConfigError, match="leave out within="):
            jobs.schedule("nightly", "0 3 * * *", "mail", args=["ann"], within=conn)

        refusals: list[str] = []

        @jobs.job(name="parent")
        def parent(ctx: JobContext) -> None:
            try:
                ctx.then(mail.options(within=conn).call("ann"))
            except InvalidJobError as error:
                refusals.append(str(error))

        parent.enqueue()
        jobs.run(in_process=True, until_empty=True)
        assert refusals == ["a follow-up is stored with the success of its parent: leave out within="]


class TestErrors:
    def test_nothing_is_tried_again(
        self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that is busy is told at once, as it is: whether the job is stored is not in doubt."""
        monkeypatch.setattr(producer, "PATIENCE", 600)
        conn.execute("pragma busy_timeout = 0")
        with contextlib.closing(open_backend(jobs.settings.url)) as other, other._writer.use() as writer:  # type: ignore[attr-defined]
            writer.execute("begin immediate")
            with pytest.raises(StoreUnavailableError) as raised:
                mail.options(within=conn).enqueue("ann")
            writer.execute("rollback")
        assert type(raised.value) is StoreUnavailableError
        with conn:
            mail.options(within=conn).enqueue("ann")
        assert jobs.count().total == 1

    def test_a_sealed_store(self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection) -> None:
        """The transaction goes on without the job."""
        with contextlib.closing(open_backend(jobs.settings.url)) as other:
            other.seal("moved:1")
            with conn, pytest.raises(StoreMovedError):
                mail.options(within=conn).enqueue("ann")
            other.seal(None)
        assert jobs.count().total == 0

    def test_a_store_to_look_at_only(self, url: str, mail: Any, conn: sqlite3.Connection) -> None:
        """It says that it may not, whatever the connection may."""
        with Jobcard(f"{url}&readonly=1") as looking:
            job = looking.job(name="job")(lambda: None)
            with pytest.raises(ConfigError, match="readonly=1"):
                job.options(within=conn).enqueue()

    def test_jobs_that_move(self, tmp_path: Path, url: str, mail: Any, conn: sqlite3.Connection) -> None:
        """Within the source while it has them; never silently in the target, where the transaction is not."""
        with Jobcard(url, moving_to=f"sqlite:///{tmp_path}/next.db?library=sqlite3") as moving:
            job = moving.job(name="job")(lambda: None)
            with contextlib.closing(open_backend(f"sqlite:///{tmp_path}/next.db?library=sqlite3")) as target:
                target.migrate()
            with conn:
                handle = job.options(within=conn).enqueue()
            assert handle.refresh().state == "waiting"
            with contextlib.closing(open_backend(url)) as source:
                source.seal("on its way")
                with conn, pytest.raises(StoreMovedError):
                    job.options(within=conn).enqueue()


class TestHandles:
    def test_a_result_is_waited_for_through_the_commit(
        self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection, hands: Hands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job that nobody can see yet is not one that is gone."""
        monkeypatch.setattr("jobcard.client.watcher._LOOK_FOR_MISSING", 0.01)
        handle = mail.options(within=conn).enqueue("ann")
        told: list[str] = []
        waiting = threading.Thread(target=lambda: told.append(handle.result(timeout=60)))
        looked = _Counted(monkeypatch)
        waiting.start()
        wait_until(lambda: looked.missing > 2, "several looks for a job that is not there")
        conn.commit()
        assert hands.run(jobs) == 1
        waiting.join(60)
        assert told == ["sent to ann"]

    def test_an_awaited_result(
        self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection, hands: Hands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same for coroutines."""
        monkeypatch.setattr("jobcard.client.watcher._LOOK_FOR_MISSING", 0.01)
        handle = mail.options(within=conn).enqueue("ann")
        looked = _Counted(monkeypatch)

        async def work() -> str:
            waiting = asyncio.ensure_future(handle.result_async(timeout=60))
            while looked.missing < 3:
                await asyncio.sleep(0.005)
            conn.commit()
            assert hands.run(jobs) == 1
            return str(await waiting)

        assert asyncio.run(work()) == "sent to ann"

    def test_not_in_time(
        self, jobs: Jobcard, mail: Any, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error says that it may be the transaction."""
        monkeypatch.setattr("jobcard.client.watcher._LOOK_FOR_MISSING", 0.01)
        [handle] = jobs.enqueue_many([mail.options(within=conn).call("ann")])
        for timeout in (0, 0.2):
            with pytest.raises(ResultTimeoutError, match=r"not stored: the transaction .* has not been committed"):
                handle.result(timeout=timeout)
        conn.rollback()
        with pytest.raises(ResultTimeoutError, match="or was rolled back"):
            asyncio.run(handle.result_async(timeout=0.2))


class _Counted:
    """How often the watcher has told that a job is missing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from jobcard.client.watcher import Watcher

        self.missing = 0
        find = Watcher._find_missing

        def find_and_count(watcher: Watcher, ids: Any) -> None:
            find(watcher, ids)
            self.missing += 1

        monkeypatch.setattr(Watcher, "_find_missing", find_and_count)


class TestUnderTest:
    @pytest.mark.parametrize("mode", ["manual", "inline"])
    def test_the_store_in_memory_is_in_no_transaction(self, jobs: Jobcard, mail: Any, mode: Any) -> None:
        """Code under test may say within=, whatever it has for a connection; its jobs are there at once."""
        with jobs.testing(mode) as t:
            handles = [mail.options(within=object()).enqueue("ann")]
            handles += jobs.enqueue_many([mail.options(within=object()).call("bob")])
            handles.append(jobs.enqueue("mail", ["cid"], within=object()))
            t.assert_enqueued(mail, "ann")
            t.drain()
            assert [handle.result(timeout=0) for handle in handles] == [f"sent to {to}" for to in ("ann", "bob", "cid")]
