"""The SQLite store among libraries and processes: locks, forks, wake-ups."""

from __future__ import annotations

import gc
import select
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from helpers.stores import LIBRARIES, PATIENCE, SPAWN, in_fork, in_processes, raw
from jobcard.backends.base import Completions, Filter, RecordKind, Waker, Want
from jobcard.backends.sqlite import SQLiteBackend, pool, wake
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.rates import QueueLimit
from jobcard.errors import (
    ConfigError,
    StoreError,
    StoreUnavailableError,
)

linux_only = pytest.mark.skipif(not wake.CAN_LISTEN, reason="only Linux has abstract sockets and /proc")


# ------------------------------------------------------------------ two libraries


class TestLibraries:
    @linux_only
    def test_a_file_that_the_application_has_open_is_refused(self, store: SQLiteBackend, path: Path) -> None:
        """A second SQLite library on one file loses rows, so the way out is named instead."""
        store.close()
        application = sqlite3.connect(path)
        application.execute("select count(*) from jobcard_jobs")
        with pytest.raises(ConfigError, match="library=sqlite3"):
            SQLiteBackend(path).tally()
        with_the_same = SQLiteBackend(path, library="sqlite3")
        factory.enqueue(with_the_same)
        assert application.execute("select count(*) from jobcard_jobs").fetchone() == (1,)
        with_the_same.close()
        application.close()
        own_again = SQLiteBackend(path)
        assert own_again.tally().counts["waiting"] == 1
        own_again.close()

    @pytest.mark.parametrize(("first", "second"), [LIBRARIES, LIBRARIES[::-1]])
    def test_two_of_our_own_are_refused_as_well(self, path: Path, first: str, second: str) -> None:
        """One file is open through one library in a process."""
        one = SQLiteBackend(path, library=first)
        one.migrate()
        one.check_schema()
        with pytest.raises(ConfigError, match=f"open through {first} already"):
            SQLiteBackend(path, library=second).tally()
        one.close()
        other = SQLiteBackend(path, library=second)
        other.check_schema()
        other.close()

    def test_a_store_that_was_forgotten_lets_go(self, path: Path) -> None:
        """A backend that is dropped without close() closes its file."""
        one = SQLiteBackend(path)
        one.migrate()
        one.check_schema()
        del one
        gc.collect()
        other = SQLiteBackend(path, library="sqlite3")
        other.check_schema()
        other.close()

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_waiting_for_a_lock_ends(self, path: Path, library: str) -> None:
        """Who waits for the write lock longer than busy_timeout is told to try again; nothing is stored."""
        holder = SQLiteBackend(path, library=library)
        holder.migrate()
        hurried = SQLiteBackend(path, library=library, busy_timeout=0.05)
        with holder._writer.use() as connection, connection.transaction():
            with pytest.raises(StoreUnavailableError):
                factory.enqueue(hurried)
            assert hurried.exchange("engine", want=Want([("default", 1)], 1), lease=1).claimed == []
        factory.enqueue(hurried)
        assert holder.tally().counts["waiting"] == 1
        holder.close()
        hurried.close()

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_settings_of_a_connection(self, path: Path, library: str) -> None:
        """Full synchronisation, a WAL, no memory mapping, and what the URL says beside that."""
        backend = SQLiteBackend(f"sqlite:///{path}?library={library}&cache_size=-4000&wal_autocheckpoint=500")
        backend.migrate()
        for pragma, value in (
            ("synchronous", 2),
            ("journal_mode", "wal"),
            ("foreign_keys", 1),
            ("cache_size", -4000),
            ("wal_autocheckpoint", 500),
            ("journal_size_limit", 16 << 20),
        ):
            assert raw(backend, f"pragma {pragma}") == [(value,)]
        assert raw(backend, "pragma mmap_size") in ([(0,)], [])
        backend.close()

    def test_facts_name_what_is_not_safe(self, path: Path) -> None:
        """An old library and commits that are not synced are problems; the default has none."""
        for options, words in (("", ()), ("?synchronous=normal", ("synchronous=normal",))):
            backend = SQLiteBackend(f"sqlite:///{path}{options}")
            backend.migrate()
            facts = backend.facts()
            assert [word for word in words if not any(word in problem for problem in facts.problems)] == []
            assert len(facts.problems) == len(words)
            backend.close()
        assert facts.store == "sqlite"
        assert len(facts.identity) == 32
        assert facts.size_bytes and facts.size_bytes >= path.stat().st_size


# ------------------------------------------------------------------ many processes


def _migrate(path: Path, library: str) -> None:
    backend = SQLiteBackend(path, library=library)
    applied = backend.migrate()
    assert applied == sorted(set(applied)) and set(applied) <= {1, 2, 3, 4}
    backend.check_schema()
    backend.close()


def _produce(path: Path, number: int) -> None:
    backend = SQLiteBackend(path, busy_timeout=PATIENCE)
    for _ in range(number // 100):
        factory.enqueue_several(backend, 50)
        for _ in range(50):
            factory.enqueue(backend)
    backend.close()


def _consume(path: Path, owner: str, total: int, taken: Any) -> None:
    """Claim and complete until nothing is left; what was claimed goes down the pipe."""
    backend = SQLiteBackend(path, busy_timeout=PATIENCE)
    waker = backend.waker()
    done = Completions()
    ids: list[bytes] = []
    while True:
        answer = backend.exchange(owner, completions=done, want=Want([("default", 50)], 50), lease=micros(60))
        assert answer.refusals == []
        ids += [claim.id for claim in answer.claimed]
        done = factory.completions_of(answer.claimed)
        if not answer.claimed:
            if backend.tally().counts["completed"] == total:
                break
            select.select([waker.fd] if waker.fd is not None else [], [], [], 0.01)
            waker.drain()
    waker.close()
    backend.close()
    taken.send(ids)


@pytest.mark.slow
@pytest.mark.turns
class TestProcesses:
    def test_many_may_migrate_at_once(self, path: Path) -> None:
        """Processes that make the same file at once all end with the same schema."""
        in_processes(_migrate, *[(path, "apsw")] * 2, *[(path, "sqlite3")] * 2)
        backend = SQLiteBackend(path)
        assert backend.migrate() == []
        assert len(raw(backend, "select key from jobcard_meta")) == 4
        backend.close()

    def test_producers_and_engines_share_a_file(self, store: SQLiteBackend, path: Path) -> None:
        """Four producers and two engines on one file: no lock error, and each job exactly once."""
        total = 4 * 600
        pipes = [SPAWN.Pipe(duplex=False) for _ in range(2)]
        engines = [
            SPAWN.Process(target=_consume, args=(path, f"engine-{number}", total, sender))
            for number, (_, sender) in enumerate(pipes)
        ]
        for engine in engines:
            engine.start()
        in_processes(_produce, *[(path, 600)] * 4)
        claimed: list[bytes] = []
        for receiver, _ in pipes:
            assert receiver.poll(PATIENCE)
            claimed += receiver.recv()
        for engine in engines:
            engine.join(PATIENCE)
            assert engine.exitcode == 0
        assert len(claimed) == len(set(claimed)) == total
        assert store.tally().counts["completed"] == total
        for receiver, sender in pipes:
            receiver.close()
            sender.close()

    def test_a_forked_child_works_by_itself(self, store: SQLiteBackend) -> None:
        """After a fork both sides go on, each with connections of its own."""
        factory.enqueue(store)

        def in_child() -> None:
            factory.enqueue(store)
            assert store.tally().counts["waiting"] == 2

        in_fork(in_child)
        factory.enqueue(store)
        assert store.tally().counts["waiting"] == 3
        assert len({row.id for row in store.list(Filter(), limit=10).rows}) == 3

    def test_a_fork_under_a_running_call_is_refused_in_the_child(
        self, store: SQLiteBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A connection that was in use while the process forked makes its file unsafe for the child."""
        monkeypatch.setattr(pool, "_FORK_PATIENCE", 0.01)
        job_id = factory.enqueue(store)

        def in_child() -> None:
            with pytest.raises(StoreError, match="spawn"):
                store.get([job_id])

        with store._writer.use():
            in_fork(in_child)
        assert len(store.get([job_id])) == 1


# ------------------------------------------------------------------ wake-ups


def _enqueue_one(path: Path) -> None:
    backend = SQLiteBackend(path)
    factory.enqueue(backend)
    backend.close()


@linux_only
class TestWaker:
    def is_awake(self, waker: Waker, seconds: float = 0) -> bool:
        assert waker.fd is not None
        woken = bool(select.select([waker.fd], [], [], seconds)[0])
        waker.drain()
        return woken

    def test_another_process_is_heard(self, store: SQLiteBackend, path: Path) -> None:
        """A job stored by another process makes every waker readable, and `changed()` true once."""
        wakers = [store.waker(), store.waker()]
        changed = wakers[0].changed
        assert changed is not None
        assert (changed(), changed()) == (True, False)
        in_processes(_enqueue_one, (path,))
        assert [self.is_awake(waker) for waker in wakers] == [True, True]
        assert [self.is_awake(waker) for waker in wakers] == [False, False]
        assert (changed(), changed()) == (True, False)
        for waker in wakers:
            waker.close()

    def test_what_an_engine_may_have_to_do_rings(self, store: SQLiteBackend) -> None:
        """Operators' moves and settings wake engines; their own heartbeats do not."""
        waker = store.waker()
        job_id = factory.enqueue(store)
        assert self.is_awake(waker)
        store.write_record(RecordKind.ENGINE, "engine", "{}")
        claim = factory.claim_one(store)
        assert not self.is_awake(waker)
        store.write_record(RecordKind.QUEUE, "default", "{}")
        assert self.is_awake(waker)
        store.apply_by_operator(job_id, states.ask_to_cancel(factory.row_of(store, claim.id), reason="told"))
        assert self.is_awake(waker)
        waker.close()

    def test_a_place_set_free_rings(self, store: SQLiteBackend) -> None:
        """Who ends a job of a full queue or key and does not take the next one wakes others; who takes it does not."""
        limits = {"default": QueueLimit(1, None)}
        nothing, one = Want(limits=limits), Want([("default", 1)], 1, limits)
        for given in ({}, {"limit_key": "k", "key_limit": 1}):
            factory.enqueue_several(store, 3, **given)
            waker = store.waker()
            wanted = Want([("default", 1)], 1) if given else one
            freed = ["k"] if given else []
            [first] = store.exchange("engine", want=wanted, lease=factory.LEASE).claimed
            assert store.exchange("other", want=wanted, lease=factory.LEASE).claimed == []
            self.is_awake(waker)
            done = factory.completions_of([first])
            [second] = store.exchange("engine", completions=done, freed=freed, want=wanted, lease=factory.LEASE).claimed
            assert not self.is_awake(waker)
            done = factory.completions_of([second])
            store.exchange("engine", completions=done, freed=freed, want=Want() if given else nothing)
            assert self.is_awake(waker)
            # With room already there, one more end is no news.
            [third] = store.exchange("engine", want=wanted, lease=factory.LEASE).claimed
            store.exchange("engine", completions=factory.completions_of([third]), freed=freed, want=nothing)
            assert not self.is_awake(waker)
            waker.close()

    def test_places_run_out_quietly(self, store: SQLiteBackend) -> None:
        """One engine more than there are places looks by itself, more often."""
        wakers = [store.waker() for _ in range(wake.SLOTS + 1)]
        assert [waker.fd is None for waker in wakers] == [False] * wake.SLOTS + [True]
        assert wakers[-1].interval < wakers[0].interval
        for waker in wakers:
            waker.close()

    def test_a_store_in_memory_wakes_its_own_process(self) -> None:
        """Threads of the process are woken; there is nobody else."""
        backend = SQLiteBackend("sqlite:///:memory:")
        backend.migrate()
        waker = backend.waker()
        factory.enqueue(backend)
        assert self.is_awake(waker)
        assert waker.changed is None
        waker.close()
        backend.close()
