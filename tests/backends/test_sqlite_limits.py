"""Limits in a SQLite file: how far one exchange looks, whom a sweep keeps waiting, and which time counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.stores import raw
from jobcard.backends.base import Exchanged, RecordKind, Want
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.backends.sqlite.connection import Connection
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.rates import QueueLimit, Rate


def want(count: int, queue: str = "default") -> Want:
    return Want([(queue, count)], count)


class TestHowFarOneExchangeLooks:
    def line(self, path: Path, count: int, **given: object) -> SQLiteBackend:
        store = SQLiteBackend(path, synchronous="off")
        store.migrate()
        for _ in range(count // 1_000):
            factory.enqueue_several(store, 1_000, **given)
        return store

    def ask(self, store: SQLiteBackend) -> Exchanged:
        return store.exchange("engine", want=want(8), lease=factory.LEASE)

    @pytest.mark.parametrize("limit", [{"key_limit": 1}, {"rate_count": 1, "rate_per": micros(3600)}])
    def test_a_long_line_of_one_key_takes_several(self, path: Path, limit: dict[str, int]) -> None:
        """It stops after some thousands and says that there is more; the next one goes on and meets those behind."""
        store = self.line(path, 9_000, limit_key="k", **limit)
        behind = factory.enqueue_several(store, 3)
        first = self.ask(store)
        assert [claim.limit_key for claim in first.claimed] == ["k"]
        assert first.next_due == 0
        in_line = "select count(*) from jobcard_jobs where state = 'waiting' and hold is null"
        [(left,)] = raw(store, in_line)
        assert 0 < left < 9_000
        second = self.ask(store)
        assert [claim.id for claim in second.claimed] == behind
        assert second.next_due != 0
        store.close()

    def test_a_broken_job_far_behind_is_taken_out(self, path: Path) -> None:
        """One that no look can read takes neither those before it nor those behind it with it."""
        store = self.line(path, 1_000, limit_key="k", key_limit=1)
        [broken, whole] = factory.enqueue_several(store, 2)
        raw(store, "update jobcard_jobs set name = cast(x'ff' as text) where id = ?", broken)
        assert [claim.id for claim in self.ask(store).claimed][1:] == [whole]
        assert raw(store, "select hold from jobcard_jobs where id = ?", broken) == [("broken",)]
        store.close()


class TestLetIn:
    def test_only_keys_with_room_are_written(self, store: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        """A sweep through many full keys never takes the write lock; one with room among them is found."""
        jobs = [factory.new_job(limit_key=f"k{number % 300:03}", key_limit=1) for number in range(600)]
        store.enqueue(jobs)
        claims = store.exchange("engine", want=want(500), lease=factory.LEASE).claimed
        assert len(claims) == 300
        begun: list[object] = []
        transaction = Connection.transaction

        def counted(connection: Connection) -> object:
            begun.append(connection)
            return transaction(connection)

        monkeypatch.setattr(Connection, "transaction", counted)
        assert store.let_in(1_000) == 0
        assert begun == []
        factory.complete(store, claims[250:])
        begun.clear()
        assert store.let_in(20) == 20
        assert store.let_in(1_000) == 30
        assert len(begun) == 2


class TestWhichTimeCounts:
    """A store's lock may be waited for: what is written then is of the time it is written at."""

    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock()

    @pytest.fixture
    def ours(self, path: Path, clock: FrozenClock) -> Iterator[SQLiteBackend]:
        store = SQLiteBackend(path, clock=clock)
        store.migrate()
        yield store
        store.close()

    def late(self, path: Path, clock: FrozenClock, verb: Callable[[], object]) -> None:
        """Call it while somebody else has the lock, who lets go of it ten seconds later."""
        other = SQLiteBackend(path)
        begun = threading.Event()
        execute = Connection.execute

        def told(connection: Connection, sql: str, *values: object) -> object:
            if threading.current_thread() is waiting and sql == "begin immediate":
                begun.set()
            return execute(connection, sql, *values)  # type: ignore[arg-type]

        waiting = threading.Thread(target=verb)
        with pytest.MonkeyPatch.context() as patch, other._writer.use() as connection:
            patch.setattr(Connection, "execute", told)
            with connection.transaction():
                waiting.start()
                assert begun.wait(30)
                clock.advance(10)
            waiting.join(30)
        assert not waiting.is_alive()
        other.close()

    def test_a_claim_is_of_the_time_after_the_wait(self, ours: SQLiteBackend, path: Path, clock: FrozenClock) -> None:
        """When it was claimed, until when it is leased, and the slot its start is counted in."""
        rate = Rate(1, micros(5))
        wanted = Want([("default", 1)], 1, {"default": QueueLimit(None, rate)})
        first, second = factory.enqueue_several(ours, 2)
        self.late(path, clock, lambda: ours.exchange("engine", want=wanted, lease=factory.LEASE))
        row = factory.row_of(ours, first)
        assert (row.claimed_at, row.lease_until) == (clock.now(), clock.now() + factory.LEASE)
        # Counted by the time before the wait, its window would be over now, and this one would start beside it.
        assert ours.exchange("engine", want=wanted, lease=factory.LEASE).claimed == []
        clock.advance(6)
        [claim] = ours.exchange("engine", want=wanted, lease=factory.LEASE).claimed
        assert claim.id == second

    def test_a_key_is_free_by_the_time_after_the_wait(
        self, ours: SQLiteBackend, path: Path, clock: FrozenClock
    ) -> None:
        """A once key whose time ran out meanwhile is taken, and the job is as new as it is stored."""
        given = {"once_key": "k", "once_until": clock.now() + micros(5)}
        factory.enqueue(ours, **given)
        later = factory.new_job(**{**given, "once_until": clock.now() + micros(60)})
        self.late(path, clock, lambda: ours.enqueue([later]))
        assert factory.row_of(ours, later.id).created_at == clock.now()

    def test_a_lease_that_ran_out_meanwhile_is_not_renewed(
        self, ours: SQLiteBackend, path: Path, clock: FrozenClock
    ) -> None:
        """Whoever rescues may rely on what it read."""
        claim = factory.claimed_job(ours, lease=micros(5))
        gone: list[object] = []
        self.late(path, clock, lambda: gone.extend(ours.renew("engine", [(claim.ref, claim.token)], lease=micros(5))))
        assert gone == [claim.ref]

    def test_everything_else_is_of_the_time_after_the_wait(
        self, ours: SQLiteBackend, path: Path, clock: FrozenClock
    ) -> None:
        """An operator's change, a small record, what a prune may delete."""
        job = factory.enqueue(ours)
        self.late(path, clock, lambda: ours.apply_by_operator(job, states.cancel_waiting(reason="canceled")))
        assert factory.row_of(ours, job).finished_at == clock.now()
        self.late(path, clock, lambda: ours.write_record(RecordKind.ORDER, "engine", "{}"))
        assert [record.age for record in ours.read_records(RecordKind.ORDER)] == [0]
        self.late(path, clock, lambda: ours.prune(states=["canceled"], finished_before=None, age=micros(15), limit=9))
        assert ours.get([job]) == []


def test_old_jobs_keep_their_offset(store: SQLiteBackend) -> None:
    """Those that were stored before the column was there get what their order is from their time."""
    jobs = {factory.enqueue(store, order_offset=offset): offset for offset in (0, -micros(7), micros(7))}
    assert [store.rollback(), store.rollback()] == [4, 3]
    assert raw(store, "select count(*) from jobcard_jobs where order_at = available_at") == [(1,)]
    assert store.migrate() == [3, 4]
    assert {row.id: row.order_offset for row in store.get(list(jobs))} == jobs
