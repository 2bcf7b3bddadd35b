"""Limits and once keys in PostgreSQL: what engines do to each other, what unlimited work pays for them, and plans."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import psycopg
import pytest

from helpers.postgres import new_prefix, plan_of, raw
from helpers.waiting import wait_until
from jobcard import AccessDeniedError
from jobcard.backends.base import Completions, Exchanged, Fate, Outcome, RecordKind, Want
from jobcard.backends.postgres import PostgresBackend, admission
from jobcard.backends.postgres.connection import Connection, Step
from jobcard.backends.roles import Role
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import rates, states
from jobcard.core.rates import QueueLimit, Rate

pytestmark = pytest.mark.slow

T = TypeVar("T")

ONE = {"limit_key": "k", "key_limit": 1}
TEN = Want([("default", 10)], 10)


def exchange(store: PostgresBackend, owner: str = "engine", want: Want = TEN, **given: object) -> Exchanged:
    return store.exchange(owner, want=want, lease=factory.LEASE, **given)  # type: ignore[arg-type]


# ------------------------------------------------------------------ what unlimited work pays


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, postgres_store: PostgresBackend) -> list[list[str]]:
    """The names of the statements that the store sends, trip by trip."""
    trips: list[list[str]] = []
    names = {text: name for name, text in postgres_store._sql.items()}

    def note(take: Callable[..., T]) -> Callable[..., T]:
        def noted(self: Connection, steps: list[Step], *rest: object) -> T:
            trip = [names.get(step.sql, step.sql.split()[0]) for step in steps]
            if trip not in (["notify"], ["select"]):  # for a job stored a moment ago, maybe on a new connection
                trips.append(trip)
            return take(self, steps, *rest)

        return noted

    monkeypatch.setattr(Connection, "_run", note(Connection._run))
    monkeypatch.setattr(Connection, "ask_all", note(Connection.ask_all))
    ask = Connection.ask

    def note_one(self: Connection, step: Step) -> object:
        trips.append([names.get(step.sql, step.sql.split()[0])])
        return ask(self, step)

    monkeypatch.setattr(Connection, "ask", note_one)
    return trips


class TestTheHotPath:
    def test_unlimited_work_sends_what_it_always_did(
        self, postgres_store: PostgresBackend, sent: list[list[str]]
    ) -> None:
        """Neither a lock nor a look at limits, in one trip; also while others' jobs are limited."""
        limited = Want([("default", 1)], 1, {"default": QueueLimit(5, Rate(9, micros(60)))})
        for others in (0, 3):
            factory.enqueue_several(postgres_store, others, queue="elsewhere", limit_key="k", key_limit=1)
            factory.enqueue_several(postgres_store, 20)
            sent.clear()
            claims = exchange(postgres_store).claimed
            assert sent == [["release", "claim", "news"]]
            sent.clear()
            answer = exchange(postgres_store, completions=factory.completions_of(claims))
            assert sent == [["release", "complete", "claim", "news"]]
            factory.complete(postgres_store, answer.claimed)
        sent.clear()
        exchange(postgres_store, want=limited._replace(limits={"elsewhere": QueueLimit(1, None)}))
        assert sent == [["release", "claim", "news"]]

    def test_a_limit_key_that_is_met_costs_one_more_transaction(
        self, postgres_store: PostgresBackend, sent: list[list[str]]
    ) -> None:
        """The first claim passes over it, the second takes it; the order among all is that of the line."""
        jobs = [factory.new_job(**(ONE if place in (1, 2) else {})) for place in range(5)]
        postgres_store.enqueue(jobs)
        sent.clear()
        claims = exchange(postgres_store, want=Want([("default", 3)], 3)).claimed
        assert [claim.id for claim in claims] == [jobs[0].id, jobs[1].id, jobs[3].id]
        assert [trip for trip in sent if "lock_names" in trip] == [["lock_names", "behind", "key_use"]]
        sent.clear()
        assert [claim.id for claim in exchange(postgres_store).claimed] == [jobs[4].id]
        assert sent == [["release", "claim", "news"]]

    def test_beside_a_full_queue_others_are_claimed_in_one_trip(
        self, postgres_store: PostgresBackend, sent: list[list[str]]
    ) -> None:
        """No lock; a look in passing tells whether there is a place, and then it is taken at once."""
        want = Want([("narrow", 100), ("default", 100)], 100, {"narrow": QueueLimit(1, None)})
        narrow = factory.enqueue_several(postgres_store, 3, queue="narrow")
        wide = factory.enqueue_several(postgres_store, 3)
        first = exchange(postgres_store, want=want).claimed
        assert [claim.id for claim in first] == [narrow[0], *wide]
        factory.enqueue_several(postgres_store, 3)
        sent.clear()
        claims = exchange(postgres_store, want=want, completions=factory.completions_of(first[1:])).claimed
        assert [claim.queue for claim in claims] == ["default"] * 3
        assert sent == [["release", "complete", "claim", "queue_use", "in_line", "news"]]
        answer = exchange(postgres_store, want=want, completions=factory.completions_of(first[:1]))
        assert [claim.id for claim in answer.claimed] == [narrow[1]]

    def test_so_they_are_where_jobs_of_the_full_queue_have_limit_keys(
        self, postgres_store: PostgresBackend, sent: list[list[str]]
    ) -> None:
        """No second look for jobs that may not start."""
        want = Want([("narrow", 100), ("default", 100)], 100, {"narrow": QueueLimit(1, None)})
        factory.enqueue_several(postgres_store, 3, queue="narrow", **ONE)
        exchange(postgres_store, want=want)
        factory.enqueue_several(postgres_store, 3)
        sent.clear()
        assert len(exchange(postgres_store, want=want).claimed) == 3
        assert sent == [["release", "claim", "queue_use", "in_line", "news"]]

    def test_a_place_taken_at_once_is_no_news(self, postgres_store: PostgresBackend) -> None:
        """Nobody else is rung for it."""
        want = Want([("narrow", 100), ("default", 100)], 100, {"narrow": QueueLimit(1, None)})
        narrow = factory.enqueue_several(postgres_store, 3, queue="narrow")
        [claim] = exchange(postgres_store, want=want).claimed
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PostgresBackend, "_ring", lambda self: pytest.fail("rung"))
            [claim] = exchange(postgres_store, want=want, completions=factory.completions_of([claim])).claimed
        assert claim.id == narrow[1]

    def test_who_wants_few_jobs_takes_none_before_those_of_a_full_queue(self, postgres_store: PostgresBackend) -> None:
        """They may be long: the place that was set free would wait for them."""
        want = Want([("narrow", 1), ("default", 1)], 1, {"narrow": QueueLimit(1, None)})
        narrow = factory.enqueue_several(postgres_store, 3, queue="narrow")
        factory.enqueue_several(postgres_store, 3)
        for job_id in narrow:
            [claim] = exchange(postgres_store, want=want).claimed
            assert claim.id == job_id
            exchange(postgres_store, want=want)
            postgres_store.exchange("engine", completions=factory.completions_of([claim]))

    def test_a_place_that_another_process_set_free_is_seen(self, postgres_url: str) -> None:
        """That the queue was full is only what was so a moment ago."""
        prefix = new_prefix()
        with closing(PostgresBackend(postgres_url, prefix=prefix)) as ours:
            ours.migrate()
            with closing(PostgresBackend(postgres_url, prefix=prefix)) as other:
                want = Want([("narrow", 60), ("default", 60)], 60, {"narrow": QueueLimit(1, None)})
                narrow = factory.enqueue_several(ours, 3, queue="narrow")
                at_work = exchange(other, want=want, owner="other").claimed
                factory.enqueue_several(ours, 90)
                assert [claim.queue for claim in exchange(ours, want=want).claimed] == ["default"] * 60
                other.exchange("other", completions=factory.completions_of(at_work))
                last = exchange(ours, want=want).claimed
                assert ({claim.queue for claim in last}, len(last)) == ({"narrow", "default"}, 31)
                assert narrow[1] in [claim.id for claim in last]

    def test_jobs_without_once_keys_are_stored_by_the_statement_without_them(
        self, postgres_store: PostgresBackend, sent: list[list[str]]
    ) -> None:
        """No lock, and nothing is said of the table of once keys, to which an older user may have no rights."""
        texts: list[str] = []
        send = Connection._send

        def note(self: Connection, step: Step) -> object:
            texts.append(step.sql)
            return send(self, step)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "_send", note)
            factory.enqueue_several(postgres_store, 3)
            assert not any("once as" in text or "advisory" in text for text in texts)
            postgres_store.enqueue([factory.new_job(once_key="o", once_until=1 << 60)])
            assert any("once as" in text for text in texts) and any("advisory" in text for text in texts)


# ------------------------------------------------------------------ engines beside each other


@contextmanager
def stopped_at(store: PostgresBackend, name: str) -> Iterator[Callable[[Callable[[], T]], Future[T]]]:
    """Lets an exchange run on a thread until just before a trip with this statement, and on at the end."""
    reached, goes_on = threading.Event(), threading.Event()
    stopped: list[int] = []
    ask_all = Connection.ask_all

    def stop(self: Connection, steps: list[Step]) -> object:
        if threading.get_ident() in stopped and any(step.sql == store._sql[name] for step in steps):
            stopped.clear()
            reached.set()
            assert goes_on.wait(60)
        return ask_all(self, steps)

    def begin(work: Callable[[], T]) -> T:
        stopped.append(threading.get_ident())
        return work()

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as threads:
        patch.setattr(Connection, "ask_all", stop)

        def go(work: Callable[[], T]) -> Future[T]:
            future = threads.submit(begin, work)
            assert reached.wait(60)
            return future

        try:
            yield go
        finally:
            goes_on.set()


def lock_waiters(store: PostgresBackend) -> int:
    [(number,)] = raw(store, "select count(*) from pg_locks where locktype = 'advisory' and not granted")
    return int(number)


@pytest.fixture
def other(postgres_store: PostgresBackend, postgres_url: str) -> Iterator[PostgresBackend]:
    """The same store by other connections, with a URL that leads there another way."""
    store = PostgresBackend(postgres_url, prefix=postgres_store._options.prefix, schema="public")
    yield store
    store.close()


@pytest.fixture
def look(postgres_store: PostgresBackend, postgres_url: str) -> Iterator[PostgresBackend]:
    store = PostgresBackend(postgres_url, prefix=postgres_store._options.prefix)
    yield store
    store.close()


class TestBeside:
    def test_who_comes_second_waits_and_counts_what_the_first_has_done(
        self, postgres_store: PostgresBackend, other: PostgresBackend, look: PostgresBackend
    ) -> None:
        """Two engines claim jobs of one key at once: the second is told of the first by the rows themselves."""
        factory.enqueue_several(postgres_store, 2, **ONE)
        one = Want([("default", 1)], 1)
        with ThreadPoolExecutor(1) as threads:
            with stopped_at(postgres_store, "in_line") as go:
                first = go(partial(exchange, postgres_store, "first", one))
                second = threads.submit(exchange, other, "second", one)
                wait_until(lambda: lock_waiters(look) == 1, "the second engine")
            assert len(first.result(30).claimed) == 1
            assert second.result(30).claimed == []
        assert raw(look, "select count(*) from {prefix}jobs where hold = 'limit'") == [(1,)]

    def test_nobody_overtakes_a_job_that_is_being_claimed(
        self, postgres_store: PostgresBackend, other: PostgresBackend, look: PostgresBackend
    ) -> None:
        """An engine that meets the second job of a key first leaves it in line, untouched, and looks again soon."""
        first, second = factory.enqueue_several(postgres_store, 2, limit_key="k", key_limit=2)
        before = factory.row_of(look, second)
        one = Want([("default", 1)], 1)
        with stopped_at(postgres_store, "lock_names") as go:
            claiming = go(partial(exchange, postgres_store, "first", one))
            answer = exchange(other, "second", one)
            assert (answer.claimed, answer.next_due) == ([], 10_000)
            assert factory.row_of(look, second) == before
        assert [claim.id for claim in claiming.result(30).claimed] == [first]
        assert [claim.id for claim in exchange(other, "second", one).claimed] == [second]

    def test_a_start_under_a_rate_is_stamped_when_its_key_lets_it_in(
        self, postgres_store: PostgresBackend, other: PostgresBackend, look: PostgresBackend
    ) -> None:
        """Not when its row was taken: whoever waited for the key meanwhile would have started too early."""
        factory.enqueue_several(postgres_store, 2, limit_key="k", rate_count=1, rate_per=micros(1))
        one = Want([("default", 1)], 1)
        [first] = exchange(postgres_store, "first", one).claimed
        with stopped_at(postgres_store, "lock_names") as go:
            # Under way since before the first start has lapsed, and let on afterwards.
            claiming = go(partial(exchange, postgres_store, "second", one))
            lapsed = Rate(1, micros(1)).lapses(Rate(1, micros(1)).slot_at(first.claimed_at))
            wait_until(
                lambda: raw(look, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint")[0][0] > lapsed,
                "the end of the window",
            )
        [second] = claiming.result(30).claimed
        assert second.claimed_at - first.claimed_at >= micros(1)
        assert factory.row_of(look, second.id).claimed_at == second.claimed_at

    def test_an_end_is_not_missed_by_whoever_keeps_out(
        self, postgres_store: PostgresBackend, other: PostgresBackend, look: PostgresBackend
    ) -> None:
        """The place that is freed while another engine finds it taken goes to the job that this one has put aside."""
        _, second = factory.enqueue_several(postgres_store, 2, **ONE)
        [claim] = exchange(postgres_store, "first", Want([("default", 1)], 1)).claimed
        with ThreadPoolExecutor(1) as threads:
            with stopped_at(other, "in_line") as go:
                keeping_out = go(partial(exchange, other, "second"))
                ending = threads.submit(
                    exchange, postgres_store, "first", Want(), completions=factory.completions_of([claim]), freed=["k"]
                )
                wait_until(lambda: lock_waiters(look) == 1, "the first engine")
            assert keeping_out.result(30).claimed == []
            ending.result(30)
        assert factory.row_of(look, second).hold is None
        assert [claim.id for claim in exchange(postgres_store).claimed] == [second]

    def test_who_has_freed_a_key_waits_for_no_other(
        self, postgres_store: PostgresBackend, look: PostgresBackend
    ) -> None:
        """Else two engines would wait for each other: jobs whose key somebody has in hand stay in line, untouched."""
        jobs = [factory.new_job(limit_key=key, key_limit=1) for key in ("busy", "free")]
        postgres_store.enqueue(jobs)
        before = factory.row_of(look, jobs[0].id)
        with look._pool.use() as connection, connection.transaction():
            [step] = admission.lock(look._sql, [rates.of_key("busy")])
            connection.ask(step)
            answer = exchange(postgres_store, freed=["another"])
        assert [claim.id for claim in answer.claimed] == [jobs[1].id]
        assert answer.next_due == 10_000
        assert factory.row_of(look, jobs[0].id) == before
        assert [claim.id for claim in exchange(postgres_store).claimed] == [jobs[0].id]

    def test_engines_in_a_ring_of_keys_do_not_stop_each_other(
        self, postgres_store: PostgresBackend, other: PostgresBackend
    ) -> None:
        """Two engines that free and claim the same keys in opposite orders: no deadlock, no limit is broken."""
        keys = [f"key-{number}" for number in range(6)]
        jobs = [factory.new_job(limit_key=key, key_limit=1) for _ in range(20) for key in keys]
        postgres_store.enqueue(jobs)
        stop = threading.Event()
        above: list[object] = []

        def watch(store: PostgresBackend) -> None:
            text = "select limit_key from {prefix}jobs where state = 'claimed' group by 1 having count(*) > 1"
            while not stop.is_set():
                above.extend(raw(store, text))

        def work(store: PostgresBackend, owner: str) -> None:
            held: list[factory.Claimed] = []
            while store.tally().counts["completed"] < len(jobs):
                done = factory.completions_of(held) if held else Completions()
                freed = [str(claim.limit_key) for claim in held]
                held = exchange(store, owner, Want([("default", 3)], 3), completions=done, freed=freed).claimed
                if not held:
                    store.let_in(100)

        with ThreadPoolExecutor(3) as threads:
            watching = threads.submit(watch, postgres_store)
            try:
                for each in [threads.submit(work, postgres_store, "a"), threads.submit(work, other, "b")]:
                    each.result(120)
            finally:
                stop.set()
            watching.result(30)
        assert above == []

    def test_a_limited_queue_is_claimed_from_by_one_engine_at_a_time(
        self, postgres_store: PostgresBackend, other: PostgresBackend, look: PostgresBackend
    ) -> None:
        """The second waits before it changes any row, and an engine of another queue does not wait at all."""
        factory.enqueue_several(postgres_store, 4)
        free = factory.enqueue(postgres_store, queue="free")
        limited = Want([("default", 3)], 3, {"default": QueueLimit(3, None)})
        with ThreadPoolExecutor(1) as threads:
            with stopped_at(postgres_store, "in_line") as go:
                first = go(partial(exchange, postgres_store, "first", limited))
                second = threads.submit(exchange, other, "second", limited)
                wait_until(lambda: lock_waiters(look) == 1, "the second engine")
                want = Want([("free", 1)], 1, {"free": QueueLimit(1, None)})
                assert [claim.id for claim in exchange(look, "third", want).claimed] == [free]
            assert (len(first.result(30).claimed), second.result(30).claimed) == (3, [])


class TestWakeUps:
    def test_a_place_left_to_others_wakes_them(self, postgres_store: PostgresBackend) -> None:
        """An end that frees a key or a place in a full queue, and claims nothing itself, rings; another does not."""
        full = {"default": QueueLimit(2, None)}
        factory.enqueue_several(postgres_store, 3, **ONE)
        factory.enqueue_several(postgres_store, 3)
        claims = exchange(postgres_store, want=Want([("default", 2)], 2, full)).claimed
        assert [claim.limit_key for claim in claims] == ["k", None]
        rung: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres_store, "_ring", lambda: rung.append(1))
            postgres_store.exchange("engine", completions=factory.completions_of(claims[:1]), freed=["k"])
            assert rung == [1]
            one = Want(limits={"default": QueueLimit(1, None)})
            postgres_store.exchange("engine", want=one, completions=factory.completions_of(claims[1:]))
            assert rung == [1, 1]
            claims = exchange(postgres_store, want=Want([("default", 2)], 2, full)).claimed
            again = exchange(
                postgres_store,
                want=Want([("default", 2)], 2, full),
                completions=factory.completions_of(claims),
                freed=["k"],
            )
            assert len(again.claimed) == 2 and rung == [1, 1]
            postgres_store.exchange("engine", completions=factory.completions_of(again.claimed))
            assert rung == [1, 1]


# ------------------------------------------------------------------ long lines


class TestLongLines:
    def test_thousands_that_are_kept_out_are_few_rounds(
        self, postgres_store: PostgresBackend, sent: list[list[str]]
    ) -> None:
        """Each round looks twice as far; what it took too much of is as it was."""
        for _ in range(3):
            postgres_store.enqueue([factory.new_job(**ONE) for _ in range(1_000)])
        behind = factory.enqueue_several(postgres_store, 700)
        before = factory.row_of(postgres_store, behind[-1])
        sent.clear()
        claims = exchange(postgres_store, want=Want([("default", 6)], 6)).claimed
        assert [claim.id for claim in claims][1:] == behind[:5]
        assert sum("claim" in trip for trip in sent) < 15
        assert factory.row_of(postgres_store, behind[-1]) == before
        assert raw(postgres_store, "select hold, count(*) from {prefix}jobs where limit_key = 'k' group by 1") == [
            ("limit", 2_999),
            (None, 1),
        ]

    def test_after_so_many_rounds_the_rest_is_for_the_next_exchange(
        self, postgres_store: PostgresBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An exchange ends, and the engine is told to come back at once."""
        monkeypatch.setattr(admission, "_ROUNDS", 3)
        postgres_store.enqueue([factory.new_job(**ONE) for _ in range(200)])
        behind = factory.enqueue(postgres_store)
        two = Want([("default", 2)], 2)
        answer = exchange(postgres_store, want=two)
        assert (len(answer.claimed), answer.next_due) == (1, 0)
        for _ in range(100):
            answer = exchange(postgres_store, want=two)
            if answer.claimed:
                break
            assert answer.next_due == 0
        assert [claim.id for claim in answer.claimed] == [behind]

    def test_more_keys_than_one_transaction_looks_at(self, postgres_store: PostgresBackend) -> None:
        """`let_in` goes from key to key, and no further than it was asked to."""
        jobs = [factory.new_job(limit_key=f"key-{number:03}", key_limit=1) for number in range(450) for _ in range(2)]
        postgres_store.enqueue(jobs)
        claims = exchange(postgres_store, want=Want([("default", 500)], 500)).claimed
        assert len(claims) == 450
        factory.complete(postgres_store, claims)
        assert postgres_store.let_in(30) == 30
        assert postgres_store.let_in(1_000) == 420
        assert postgres_store.let_in(1_000) == 0


# ------------------------------------------------------------------ once keys


class TestOnceKeys:
    def test_followers_of_two_leaders_with_one_once_key(self, postgres_store: PostgresBackend) -> None:
        """The first whose leader's outcome applies is stored, be it the second in the exchange."""
        claims = [factory.claimed_job(postgres_store) for _ in range(3)]
        jobs = [factory.new_job(once_key="o", once_until=1 << 60) for _ in claims]
        outcomes = [
            Outcome(
                claim.ref, claim.token - (place == 0), states.complete("1"), (job, job._replace(id=factory.new_id()))
            )
            for place, (claim, job) in enumerate(zip(claims, jobs, strict=True))
        ]
        refusals = postgres_store.exchange("engine", outcomes=outcomes).refusals
        assert [refusal.ref for refusal in refusals] == [claims[0].ref]
        assert raw(postgres_store, "select count(*) from {prefix}jobs where once_key is not null") == [(1,)]
        assert [row.id for row in postgres_store.get([job.id for job in jobs])] == [jobs[1].id]

    def test_jobs_of_one_call_are_settled_in_its_order(self, postgres_store: PostgresBackend) -> None:
        """Whichever of its keys a job lacks: those before it in the call come first, and of replacers the last wins."""
        once = {"once_key": "o", "once_until": 1 << 60}
        holder = factory.new_job(**once)
        postgres_store.enqueue([holder])
        jobs = [factory.new_job(unique_key="u", **once), factory.new_job(unique_key="u")]
        answers = postgres_store.enqueue(jobs)
        assert answers == [(Fate.KEY_TAKEN, holder.id), (Fate.STORED, jobs[1].id)]
        several = [factory.new_job(args=f"[{number}]", replaces=True, **once) for number in range(3)]
        assert postgres_store.enqueue(several) == [(Fate.REPLACED, holder.id)] * 3
        assert factory.row_of(postgres_store, holder.id).args == "[2]"

    def test_what_is_over_is_forgotten_by_prune(self, postgres_store: PostgresBackend) -> None:
        """Once keys and counted starts whose time has come go, some at a time; the others stay."""
        raw(
            postgres_store,
            "insert into {prefix}once select n::text, gen_random_uuid(), "
            "case when n > 5 then 1::bigint << 60 else 1 end from generate_series(1, 10) as n",
        )
        raw(postgres_store, "insert into {prefix}starts select 'n', n, 1, n from generate_series(1, 10) as n")
        count = "select (select count(*) from {prefix}once), (select count(*) from {prefix}starts)"
        found = []
        for _ in range(4):
            postgres_store.prune(states=["completed"], finished_before=None, age=0, limit=4)
            found += raw(postgres_store, count)
        assert found == [(6, 6), (5, 2), (5, 0), (5, 0)]


# ------------------------------------------------------------------ the schema


class TestSchema:
    def test_jobs_stay_when_limits_come_and_go(self, postgres_store: PostgresBackend) -> None:
        """One version back and up again: jobs that a limit held are in line, and everything works."""
        first, second = factory.enqueue_several(postgres_store, 2, order_offset=-5, **ONE)
        assert len(exchange(postgres_store).claimed) == 1
        assert factory.row_of(postgres_store, second).hold == "limit"
        assert [postgres_store.rollback(), postgres_store.rollback()] == [3, 2]
        assert raw(postgres_store, "select hold from {prefix}jobs") == [(None,), (None,)]
        assert postgres_store.migrate() == [2, 3]
        row = factory.row_of(postgres_store, second)
        assert (row.state, row.hold, row.limit_key, row.key_limit) == ("waiting", None, "k", None)
        assert row.order_offset == -5  # known from where it stands
        assert [claim.id for claim in exchange(postgres_store).claimed] == [second]
        assert factory.row_of(postgres_store, first).state == "claimed"

    def test_a_producer_may_take_keys_and_replace_and_no_more(
        self, postgres_store: PostgresBackend, postgres_url: str
    ) -> None:
        """With the printed rights: once keys and replacing are part of an enqueue; ends and claims are not."""
        user = f"producer_{secrets.token_hex(4)}"
        parts = urlsplit(postgres_url)
        url = parts._replace(netloc=f"{user}:p@{parts.hostname}:{parts.port}").geturl()
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"create role {user} login password 'p'".encode())
            for statement in postgres_store.grants(Role.PRODUCER, user):
                admin.execute(statement.encode())
            producer = PostgresBackend(url, prefix=postgres_store._options.prefix)
            try:
                job = factory.new_job(once_key="o", once_until=1 << 60, args="[1]")
                assert producer.enqueue([job])[0].fate is Fate.STORED
                new = factory.new_job(once_key="o", once_until=1 << 60, args="[2]", replaces=True)
                assert producer.enqueue([new])[0].fate is Fate.REPLACED
                assert factory.row_of(producer, job.id).args == "[2]"
                second, third = [factory.enqueue(postgres_store, unique_key=key, **ONE) for key in "ab"]
                raw(postgres_store, "update {prefix}jobs set hold = 'limit' where unique_key = 'b'")
                # Whoever stood behind it comes in.
                moved = factory.new_job(unique_key="a", queue="other", replaces=True)
                assert producer.enqueue([moved]) == [(Fate.REPLACED, second)]
                assert factory.row_of(producer, third).hold is None
                factory.enqueue_several(postgres_store, 2, **ONE)
                claims = exchange(postgres_store).claimed
                forbidden: list[Callable[[], object]] = [
                    lambda: exchange(producer),
                    lambda: exchange(producer, want=Want([("default", 1)], 1, {"default": QueueLimit(9, None)})),
                    lambda: factory.complete(producer, claims),
                    lambda: producer.delete([job.id]),
                    lambda: producer.prune(states=["completed"], finished_before=None, age=0, limit=1),
                    lambda: producer.remove_record(RecordKind.QUEUE, "default"),
                ]
                for each in forbidden:
                    with pytest.raises(AccessDeniedError):
                        each()
                assert producer.usage(["default"], ["k"])[1]["k"].at_work == 1
            finally:
                producer.close()
                admin.execute(f"drop owned by {user} cascade".encode())
                admin.execute(f"drop role {user}".encode())


# ------------------------------------------------------------------ plans


@pytest.fixture(scope="module")
def busy_store(postgres_urls: tuple[str, str]) -> Iterator[PostgresBackend]:
    """Many jobs with keys: ended, held, in line and at work, and statistics that know of them."""
    store = PostgresBackend(postgres_urls[1], prefix=new_prefix())
    store.migrate()
    raw(
        store,
        "insert into {prefix}jobs (id, order_at, available_at, created_at, rank, priority, max_attempts, max_crashes,"
        " state, hold, claimed_by, lease_until, queue, name, backoff, args, kwargs, finished_at, limit_key, key_limit)"
        " select gen_random_uuid(), n, n, n, 0, 0, 5, 3, kind.state, kind.hold, kind.owner, 1, 'default', 'a', '{}',"
        " '[]', '{}', kind.finished, case when n %% 3 = 0 then 'k-' || n %% 500 end, 2"
        " from generate_series(1, 12000) as n cross join lateral (values"
        "  ('completed', null, null, n::bigint), ('waiting', 'limit', null, null), ('waiting', null, null, null),"
        "  ('claimed', null, 'x', null)) as kind (state, hold, owner, finished)"
        " where kind.state <> 'claimed' or n %% 10 = 0".replace("%%", "%"),
    )
    raw(store, "insert into {prefix}starts select 'key/' || n % 500, n, 1, n from generate_series(1, 5000) as n")
    raw(store, "insert into {prefix}once select n::text, gen_random_uuid(), n from generate_series(1, 5000) as n")
    for table in ("jobs", "starts", "once"):
        raw(store, "vacuum analyze {prefix}" + table)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("claim", {"jobs_claim", "jobs_pkey"}),
        ("news", {"jobs_due", "jobs_cancels", "jobs_keyed"}),
        ("queue_use", {"jobs_held", "starts_live"}),
        ("key_use", {"jobs_limited", "starts_live"}),
        ("behind", {"jobs_pkey", "jobs_limited"}),
        ("let_in", {"jobs_limited", "jobs_pkey", "jobs_id"}),
        ("held_keys", {"jobs_limited"}),
        ("lock_key_of", {"jobs_id"}),
        ("in_line", {"jobs_claim"}),
        ("find_once_keys", {"once_pkey", "jobs_id"}),
        ("forget_once", {"once_pkey", "once_until"}),
        ("forget_starts", {"starts_until"}),
    ],
)
def test_with_many_keys_each_statement_walks_its_index(
    busy_store: PostgresBackend, name: str, indexes: set[str]
) -> None:
    """Statistics of a busy moment lead to the same plans as those of a quiet one."""
    plan = plan_of(busy_store, busy_store._sql[name])
    assert set(re.findall(r"using (\w+)", plan)) == indexes, plan
    assert not re.findall(r"Seq Scan on (?!meta)", plan)


def test_a_look_at_a_line_goes_through_no_other(postgres_store: PostgresBackend) -> None:
    """Where statistics know nothing the condition stands in the index all the same."""
    plan = plan_of(postgres_store, postgres_store._sql["in_line"])
    assert re.search(r"jobs_claim.*\n +Index Cond: \(queue = given\.queue\)", plan), plan
