"""The PostgreSQL store among connections, threads and processes: wake-ups, forks, lost servers, poolers."""

from __future__ import annotations

import gc
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import psycopg
import pytest
from hypothesis import settings

from helpers.postgres import new_prefix, postgres_harness, raw
from helpers.stores import in_fork
from helpers.waiting import wait_until
from jobcard.backends.base import Filter, Outcome, RecordKind, Want
from jobcard.backends.postgres import PostgresBackend, connection, wake
from jobcard.backends.postgres.connection import Connection, Step
from jobcard.conformance import CHECKS, factory, run_check, run_histories
from jobcard.conformance.drawing import CI
from jobcard.conformance.harness import micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.errors import StoreError, StoreUnavailableError

pytestmark = pytest.mark.slow

PATIENCE = 10.0


@contextmanager
def admin(store: PostgresBackend) -> Iterator[psycopg.Connection]:
    """A connection beside the store's own, to the same database."""
    arguments = {name: value for name, value in store._options.connection.items() if name != "application_name"}
    with psycopg.connect("", autocommit=True, application_name="test", **arguments) as beside:  # type: ignore[arg-type]
        yield beside


def backends_of(store: PostgresBackend) -> set[int]:
    """The server's processes that serve this store's pool."""
    return {one.raw.info.backend_pid for one in store._pool._idle}


def terminate(store: PostgresBackend, pids: set[int]) -> None:
    """End these processes of the server, and wait until they have."""
    with admin(store) as beside:
        for pid in pids:
            assert beside.execute("select pg_terminate_backend(%s, 10000)", [pid]).fetchone() == (True,)


def is_hinted(descriptor: int | None, timeout: float = PATIENCE) -> bool:
    assert descriptor is not None
    return bool(select.select([descriptor], [], [], timeout)[0])


# ------------------------------------------------------------------ wake-ups


class TestWakeUps:
    def test_every_change_an_engine_waits_for_is_a_hint(self, postgres_store: PostgresBackend) -> None:
        """New jobs, an operator's moves, settings and followers ring; an outcome alone does not."""
        claim = factory.claimed_job(postgres_store)
        leader = factory.claimed_job(postgres_store)
        waiting = factory.enqueue(postgres_store, delay=micros(60))
        waker = postgres_store.waker()
        moves: list[Callable[[], object]] = [
            lambda: factory.enqueue(postgres_store),
            lambda: postgres_store.write_record(RecordKind.QUEUE, "x", "{}"),
            lambda: postgres_store.write_record(RecordKind.ORDER, "x", "{}"),
            lambda: postgres_store.remove_record(RecordKind.QUEUE, "x"),
            lambda: postgres_store.apply_by_operator(waiting, states.run_now(factory.row_of(postgres_store, waiting))),
            lambda: postgres_store.apply_by_operator(
                claim.id, states.ask_to_cancel(factory.row_of(postgres_store, claim.id), reason="x")
            ),
            lambda: postgres_store.exchange(
                "engine", outcomes=[Outcome(leader.ref, leader.token, states.complete("1"), (factory.new_job(),))]
            ),
        ]
        for move in moves:
            move()
            assert is_hinted(waker.fd)
            wait_until(lambda: postgres_store._bell._later is None)
            waker.drain()
        assert factory.complete(postgres_store, claim) == []
        postgres_store.write_record(RecordKind.ENGINE, "e", "{}")
        assert not is_hinted(waker.fd, 0.05)
        waker.close()

    def test_no_ring_is_lost_and_few_are_made(self, postgres_store: PostgresBackend) -> None:
        """However fast jobs come, a process rings every few milliseconds at most, and once more after the last."""
        with admin(postgres_store) as beside:
            beside.execute(f"listen {postgres_store._channel}")
            began = time.monotonic()
            for _ in range(100):
                factory.enqueue(postgres_store)
            wait_until(lambda: postgres_store._bell._later is None)
            most = (time.monotonic() - began) / wake.GAP + 2
            heard = len(list(beside.notifies(timeout=0.2)))
        assert 1 <= heard <= most

    def test_a_ring_that_came_too_soon_is_rung_later(self, postgres_store: PostgresBackend) -> None:
        """The second of two jobs wakes an engine too, though it does so by itself."""
        waker = postgres_store.waker()
        assert postgres_store._bell.may_ring()
        factory.enqueue(postgres_store)
        assert is_hinted(waker.fd)
        waker.close()

    def test_no_ring_comes_before_what_it_tells_of(
        self, postgres_store: PostgresBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A ring that waited while its job was being stored is rung when the job can be seen."""
        rung_while_storing = threading.Event()
        ring, run = postgres_store._bell._ring, Connection.run
        monkeypatch.setattr(postgres_store._bell, "_ring", lambda: (ring(), rung_while_storing.set()))

        def run_slowly(self: Connection, steps: list[Step], **given: Step | None) -> object:
            if "unnest(" in steps[0].sql:
                rung_while_storing.wait(20 * wake.GAP)
            return run(self, steps, **given)

        monkeypatch.setattr(Connection, "run", run_slowly)
        assert postgres_store._bell.may_ring()
        factory.enqueue(postgres_store)
        assert not rung_while_storing.is_set()
        assert rung_while_storing.wait(PATIENCE)

    def test_closing_rings_what_is_to_be_rung(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """A producer that ends right after its enqueue leaves no job to the next poll."""
        waker = postgres_store.waker()
        producer = PostgresBackend(postgres_url, prefix=postgres_store._options.prefix)
        assert producer._bell.may_ring()
        factory.enqueue(producer)
        producer.close()
        assert is_hinted(waker.fd, 1.0)
        waker.close()

    def test_listening_can_be_switched_off(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """With listen=0, and behind a pooler, an engine polls; with listen=0 a producer does not ring either."""
        prefix = postgres_store._options.prefix
        waker = postgres_store.waker()
        for options in ({"listen": False}, {"pooler": "transaction"}):
            quiet = PostgresBackend(postgres_url, prefix=prefix, **options)
            assert quiet.waker().fd is None
            factory.enqueue(quiet)
            assert is_hinted(waker.fd, PATIENCE if "pooler" in options else 0.1) is ("pooler" in options)
            quiet.close()
        waker.close()

    def test_a_lost_listener_listens_again(self, postgres_store: PostgresBackend) -> None:
        """When its connection is ended the descriptor stays, says that something was missed, and hears on."""
        waker = postgres_store.waker()
        listener = waker.drain.__self__  # type: ignore[attr-defined]
        for _ in range(2):
            terminate(postgres_store, {listener._connection.raw.info.backend_pid})
            assert is_hinted(waker.fd)
            waker.drain()
            assert is_hinted(waker.fd)
            waker.drain()
            assert not is_hinted(waker.fd, 0)
            factory.enqueue(postgres_store)
            assert is_hinted(waker.fd)
            waker.drain()
        waker.close()
        waker.close()

    def test_a_listener_that_finds_no_server_waits_for_one(self, postgres_store: PostgresBackend) -> None:
        """An engine starts without wake-ups, and gets them when the server can be reached."""
        reachable = threading.Event()

        def open_one() -> Connection:
            if not reachable.is_set():
                raise StoreUnavailableError("not yet")
            return Connection(postgres_store._options)

        listener = wake.Listener(open_one, postgres_store._channel)
        assert not is_hinted(listener.fileno(), 0)
        reachable.set()
        assert is_hinted(listener.fileno())
        listener.drain()
        factory.enqueue(postgres_store)
        assert is_hinted(listener.fileno())
        listener.close()


# ------------------------------------------------------------------ connections


class TestConnections:
    def test_none_is_opened_before_the_first_use_nor_left_after_the_last(
        self, postgres_store: PostgresBackend, postgres_url: str
    ) -> None:
        """A store that is closed, or forgotten, holds no connection."""
        PostgresBackend("postgresql://nowhere.invalid/db").close()
        for forget in (False, True):
            store = PostgresBackend(postgres_url, prefix=postgres_store._options.prefix)
            store.tally()
            pids = backends_of(store)
            assert len(pids) == 1
            if forget:
                del store
                gc.collect()
            else:
                store.close()
            with admin(postgres_store) as beside:
                wait_until(
                    lambda: (
                        beside.execute(
                            "select count(*) from pg_stat_activity where pid = any(%s)",
                            [list(pids)],  # noqa: B023
                        ).fetchone()
                        == (0,)
                    )
                )
        store = PostgresBackend(postgres_url)
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.tally()

    def test_one_whose_server_went_away_is_replaced(self, postgres_store: PostgresBackend) -> None:
        """After a restart, or an administrator, nobody meets an error for a connection that had been idle."""
        for _ in range(3):
            factory.enqueue(postgres_store)
            terminate(postgres_store, backends_of(postgres_store))
        assert postgres_store.tally().counts["waiting"] == 3

    def test_one_that_is_ended_in_the_middle_is_told_and_the_next_call_is_fine(
        self, postgres_store: PostgresBackend
    ) -> None:
        """What was under way is worth trying again, nothing of it is stored, and the store heals by itself."""
        factory.enqueue_several(postgres_store, 4)
        claims = factory.claim_some(postgres_store, 2)
        table = f"{postgres_store._options.prefix}jobs"
        failed: list[BaseException] = []

        def settle() -> None:
            try:
                postgres_store.exchange(
                    "engine",
                    completions=factory.completions_of(claims),
                    want=Want([("default", 5)], 5),
                    lease=micros(60),
                )
            except StoreUnavailableError as error:
                failed.append(error)

        waits = "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like %s"
        with admin(postgres_store) as beside, beside.transaction():
            beside.execute(f"lock table {table} in share mode")
            thread = threading.Thread(target=settle)
            thread.start()
            with admin(postgres_store) as other:
                [pid] = wait_until(lambda: other.execute(waits, [f"%{table}%"]).fetchone())
                assert other.execute("select pg_terminate_backend(%s, 10000)", [pid]).fetchone() == (True,)
            thread.join(PATIENCE)
        assert len(failed) == 1
        assert postgres_store.count(Filter()) == {"default": {"claimed": 2, "waiting": 2}}
        assert factory.complete(postgres_store, claims) == []

    def test_a_server_that_hangs_is_given_up(
        self, postgres_store: PostgresBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that does not even end a statement in time is left, and the next call has another connection."""
        before = factory.enqueue(postgres_store)
        with postgres_store._pool.use() as lent:
            monkeypatch.setattr(lent, "_limit", 0.2)
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                lent.execute("select pg_sleep(30)")
            assert time.monotonic() - began < 5
        assert factory.row_of(postgres_store, before).state == "waiting"

    def test_a_place_that_never_answers_is_unavailable(self) -> None:
        """Whoever accepts a connection and says nothing is given up after connect_timeout."""
        with closing(socket.create_server(("127.0.0.1", 0))) as silent:
            store = PostgresBackend(f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/db?connect_timeout=2")
            with pytest.raises(StoreUnavailableError, match="no connection"):
                store.tally()
            store.close()

    def test_threads_wait_for_a_free_one(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """More threads than connections share them; one that waits too long is told."""
        store = PostgresBackend(postgres_url, prefix=postgres_store._options.prefix, pool_size=2, pool_timeout=PATIENCE)
        at_once([partial(factory.enqueue_several, store, 3)] * 8)
        assert (store.tally().counts["waiting"], len(store._pool._open)) == (24, 2)
        store.close()
        store = PostgresBackend(postgres_url, prefix=postgres_store._options.prefix, pool_size=1, pool_timeout=0.01)
        with store._pool.use(), pytest.raises(StoreUnavailableError, match="pool_timeout"):
            store.tally()
        assert store.tally().counts["waiting"] == 24
        store.close()

    def test_an_old_one_is_opened_afresh(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """With pool_recycle a connection does not live for ever."""
        store = PostgresBackend(postgres_url, prefix=postgres_store._options.prefix, pool_recycle=1)
        store.tally()
        first = backends_of(store)
        store.tally()
        assert backends_of(store) == first
        for one in store._pool._idle:
            one.opened_at -= 2
        store.tally()
        assert backends_of(store) != first
        store.close()

    def test_one_left_in_the_middle_is_not_lent_again(self, postgres_store: PostgresBackend) -> None:
        """A call that was interrupted, whatever by, leaves no transaction to the next one."""
        job_id = factory.enqueue(postgres_store)

        class InterruptError(BaseException):
            pass

        with pytest.raises(InterruptError), postgres_store._pool.use() as lent:
            lent.raw.execute("begin")
            lent.raw.execute(f"delete from {postgres_store._options.prefix}jobs")  # noqa: S608
            raise InterruptError
        assert factory.row_of(postgres_store, job_id).state == "waiting"

    def test_what_is_sent_in_part_is_not_stored_in_part(
        self, postgres_store: PostgresBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An exchange that is interrupted while it is being sent is not stored at all."""
        claim = factory.claimed_job(postgres_store)
        send = Connection._send

        def send_some(self: Connection, step: Step) -> object:
            if "settings from" in step.sql:
                raise KeyboardInterrupt
            return send(self, step)

        monkeypatch.setattr(connection.Connection, "_send", send_some)
        with pytest.raises(KeyboardInterrupt):
            factory.complete(postgres_store, claim)
        monkeypatch.undo()
        assert factory.row_of(postgres_store, claim.id).state == "claimed"
        assert factory.complete(postgres_store, claim) == []


class TestForks:
    def test_a_child_leaves_its_parents_connections_alone(self, postgres_store: PostgresBackend) -> None:
        """The child opens its own and says nothing on the parent's, not even goodbye; the parent's stay open."""
        factory.enqueue(postgres_store)
        before = backends_of(postgres_store)
        inherited = [one.fileno for one in postgres_store._pool._idle]

        def in_child() -> None:
            for descriptor in inherited:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(descriptor)
            factory.enqueue(postgres_store)
            assert not backends_of(postgres_store) & before
            postgres_store.close()
            gc.collect()

        in_fork(in_child)
        assert postgres_store.tally().counts["waiting"] == 2
        assert backends_of(postgres_store) == before

    def test_a_fork_while_another_thread_uses_the_store(self, postgres_store: PostgresBackend) -> None:
        """The child is free of locks and connections that threads of its parent held at that moment."""
        go_on, inside = threading.Event(), threading.Event()

        def use() -> None:
            with postgres_store._pool.use() as lent, lent.transaction():
                lent.ask(Step("select 1"))
                inside.set()
                go_on.wait(PATIENCE)
                lent.ask(Step("select 1"))

        threads = [threading.Thread(target=use) for _ in range(postgres_store._options.pool_size)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(postgres_store._pool._open) == len(threads))
        inside.wait(PATIENCE)
        in_fork(lambda: factory.enqueue(postgres_store) and None)
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert postgres_store.tally().counts["waiting"] == 1


# ------------------------------------------------------------------ behind a pooler


class TestPooler:
    """With pooler=transaction every transaction may run on another connection of the server."""

    @pytest.fixture
    def forgetful(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever stays with a connection is gone after each transaction, as if another one had been lent."""
        run = Connection._run

        def run_and_forget(self: Connection, *arguments: object) -> object:
            try:
                return run(self, *arguments)  # type: ignore[arg-type]
            finally:
                if not self._raw.closed:
                    self._raw.execute("discard all", prepare=False)

        monkeypatch.setattr(Connection, "_run", run_and_forget)

    @pytest.mark.slow
    @pytest.mark.turns
    def test_histories_agree_with_the_model(self, postgres_urls: tuple[str, str], forgetful: None) -> None:
        """Nothing that a connection may forget is missed."""
        few = settings(CI, max_examples=max(1, CI.max_examples // 8))
        run_histories(postgres_harness(postgres_urls[1], pooler="transaction").fresh, few)

    @pytest.mark.parametrize(
        "check",
        [
            "check_migrations_at_once_apply_each_version_once",
            "check_a_value_the_store_cannot_take_is_refused_alone",
            "check_racing_claimers_get_each_job_once",
            "check_overlapping_batches_store_each_job_once",
            "check_a_renewal_and_a_rescue_never_both_succeed",
            "check_a_chart_counts_each_job_once_at_its_latest_stamp",
        ],
    )
    def test_races_end_as_without(self, postgres_urls: tuple[str, str], forgetful: None, check: str) -> None:
        """The rules of the suite that need several connections hold too."""
        run_check(check, postgres_harness(postgres_urls[1], pooler="transaction"))

    def test_nothing_stays_with_a_connection(self, postgres_url: str) -> None:
        """No prepared statement, no setting, no lock, no channel; yet plans are pinned inside each transaction."""
        store = PostgresBackend(postgres_url, prefix=new_prefix(), pooler="transaction", pool_size=1)
        store.migrate()
        factory.enqueue_several(store, 20)
        for _ in range(6):
            factory.complete(store, factory.claim_some(store, 2))
        store.list(Filter(), limit=5)
        assert raw(store, "select count(*) from pg_prepared_statements") == [(0,)]
        kept = raw(store, "select name from pg_settings where source in ('session', 'client') and name like 'enable%%'")
        assert kept == []
        assert raw(store, "show statement_timeout") == [("0",)]
        assert raw(store, "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == [
            (0,)
        ]
        with store._pool.use() as lent:
            steps = [Step("show jit"), Step("show enable_seqscan"), Step("show statement_timeout")]
            assert lent.run(steps) == [[("off",)], [("off",)], [("15s",)]]
        store.close()

    def test_the_checks_named_here_exist(self) -> None:
        """A check that was renamed is not forgotten here."""
        [mark] = [mark for mark in self.test_races_end_as_without.pytestmark if mark.name == "parametrize"]
        assert set(mark.args[1]) <= set(CHECKS)
