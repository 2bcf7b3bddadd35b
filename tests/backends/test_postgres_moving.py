"""Moving jobs into and out of PostgreSQL, and its seal: against writers that are open, or wait, or know nothing."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from helpers.pgbouncer import pooled
from helpers.postgres import new_prefix, raw, spoil
from helpers.waiting import wait_until
from jobcard.backends.base import Fate, Filter, Outcome, RecordKind, Verdict, Want
from jobcard.backends.postgres import PostgresBackend, changes, errors
from jobcard.backends.postgres.enqueue import Enqueue
from jobcard.backends.postgres.errors import ConflictError
from jobcard.backends.postgres.exchange import Exchange
from jobcard.backends.postgres.sealing import BARRED, Barrier
from jobcard.backends.roles import Role
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.job import Dependent, OnceKey, WholeJob
from jobcard.core.states import ENDED
from jobcard.errors import AccessDeniedError, InvalidJobError, StoreMovedError, StoreUnavailableError

pytestmark = [pytest.mark.turns, pytest.mark.slow]

WAITERS = (
    "select pid from pg_locks join pg_stat_activity using (pid)"
    " where not granted and locktype = 'transactionid' and datname = current_database()"
)
"""Who waits for a row that another transaction has written, or has locked."""

STATES = ("waiting", "claimed", "running", "completed", "failed", "canceled")

Way = tuple[str, dict[str, object]]
Open = Callable[..., PostgresBackend]
Connect = Callable[[], psycopg.Connection[Any]]


@pytest.fixture(scope="module")
def database(postgres_urls: tuple[str, str]) -> str:
    """The server's own address."""
    return postgres_urls[1]


@pytest.fixture(scope="module")
def ways(database: str) -> Iterator[dict[str, Way]]:
    """The ways to one database, and what a store is told for each."""
    with pooled(database) as (url, _):
        yield {"direct": (database, {}), "pooled": (url, {"pooler": "transaction", "listen": False})}


@pytest.fixture(params=["direct", "pooled"])
def opened(request: pytest.FixtureRequest, ways: dict[str, Way]) -> Iterator[Open]:
    """Opens stores on the same way; each with a prefix of its own unless one is given."""
    url, told = ways[request.param]
    stores: list[PostgresBackend] = []

    def open_one(**options: object) -> PostgresBackend:
        stores.append(PostgresBackend(url, **{"prefix": new_prefix(), **told, **options}))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Open) -> PostgresBackend:
    """A store, its schema in place."""
    with_schema = opened()
    with_schema.migrate()
    return with_schema


@pytest.fixture
def connect(database: str) -> Iterator[Connect]:
    """Opens connections as any other program would, each in a transaction from its first statement on."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(psycopg.connect(database)))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def beside(opened: Open, store: PostgresBackend, **options: object) -> PostgresBackend:
    """Another backend on the same store."""
    return opened(prefix=store._options.prefix, **options)


def table(store: PostgresBackend, name: str) -> str:
    return f"{store._options.prefix}{name}"


def whole(store: PostgresBackend, job_ids: list[bytes]) -> list[WholeJob]:
    """All that is kept about some jobs, in the order of their ids."""
    tries, lines = store.attempts(job_ids), store.log_lines(job_ids)
    return [
        WholeJob(
            row,
            [each for each in tries if each.job_id == row.id],
            [each for each in lines if each.job_id == row.id],
        )
        for row in sorted(store.get(job_ids), key=lambda row: row.id)
    ]


def everything(store: PostgresBackend) -> list[WholeJob]:
    return whole(store, [row.id for row in store.list(Filter(), limit=1_000).rows])


def tried_job(store: PostgresBackend, **given: Any) -> bytes:
    """A job in line with two tries behind it, each with two lines."""
    queue = f"tried-{factory.new_id().hex()}"
    job_id = factory.enqueue(store, queue=queue, **given)
    for number in (1, 2):
        claim = factory.claim_one(store, queue=queue)
        said = states.note(claim, ago=0, progress=f"[0.{number}]", lines=((5, f"{number}a"), (0, f"{number}b")))
        failed = states.retry(claim, reason="error", delay=0, error=f'{{"n": {number}}}', kind="E")
        outcomes = [Outcome(claim.ref, claim.token, change) for change in (said, failed)]
        assert store.exchange("engine", outcomes=outcomes).refusals == []
    return job_id


def mixed_jobs(store: PostgresBackend) -> list[bytes]:
    """Jobs in every state, in several queues, with all that may belong to them."""
    found = [factory.job_in_state(store, state, queue=f"of-{state}", keep=micros(9)) for state in STATES]
    found += [tried_job(store), factory.enqueue(store, delay=micros(900), tags='["é"]', meta="{}")]
    batch = factory.new_id()
    found += factory.enqueue_several(store, 2, limit_key="k", key_limit=1, batch_id=batch, queue="limited")
    factory.claim_some(store, 2, queues=["limited"])
    found += factory.enqueue_several(store, 1, unique_key="u", parent_id=batch, schedule_id="s", priority=3)
    return found


# ------------------------------------------------------------------ jobs as they are


class TestPut:
    def test_jobs_come_out_as_they_went_in(self, store: PostgresBackend, opened: Open) -> None:
        """Every field, try and line, in every state; once more makes no difference and no double."""
        mixed_jobs(store)
        jobs = everything(store)
        assert {job.row.hold for job in jobs} >= {None, "delay", "limit"}
        assert any(len(job.attempts) == 2 and len(job.lines) == 4 for job in jobs)
        target = opened()
        target.migrate()
        for _ in range(2):
            assert target.put(jobs) == []
            assert everything(target) == jobs
        queues = {job.row.queue for job in jobs}
        assert {record.key for record in target.read_records(RecordKind.QUEUE)} == queues
        assert target.versions(after=None, limit=100) == store.versions(after=None, limit=100)
        assert target.tally().counts == store.tally().counts

    def test_what_was_there_of_a_job_is_gone(self, store: PostgresBackend) -> None:
        """A version with fewer tries and lines leaves no older ones behind; other jobs keep theirs."""
        changed, other = (tried_job(store) for _ in range(2))
        [before], untouched = whole(store, [changed]), whole(store, [other])
        row = before.row._replace(state="failed", finished_at=5, version=1, args="[2]")
        assert store.put([WholeJob(row, before.attempts[1:], [])]) == []
        assert whole(store, [changed]) == [WholeJob(row, before.attempts[1:], [])]
        assert whole(store, [other]) == untouched
        assert raw(store, "select count(*) from {prefix}attempts") == [(3,)]
        assert raw(store, "select count(*) from {prefix}log_lines") == [(4,)]

    def test_a_job_whose_key_is_taken_is_left_out(self, store: PostgresBackend) -> None:
        """Here or in the same call, the living holder keeps it; what was there of the one left out stays."""
        holder = factory.enqueue(store, unique_key="here")
        loser = tried_job(store)
        before = everything(store)
        rows = {job.row.id: job.row for job in before}
        first, second, free = (factory.new_id() for _ in range(3))
        jobs = [
            WholeJob(rows[loser]._replace(unique_key="here", args="[9]"), [], []),
            WholeJob(rows[holder]._replace(id=first, unique_key="both"), [], []),
            WholeJob(rows[holder]._replace(id=second, unique_key="both"), [], []),
            WholeJob(rows[holder]._replace(id=free, unique_key="here", state="failed"), [], []),
        ]
        assert store.put(jobs) == [loser, second]
        assert whole(store, [holder, loser]) == before
        assert whole(store, [first, free]) == [jobs[1], jobs[3]]
        assert store.get([second]) == []

    def test_a_key_may_change_hands_in_one_call(self, store: PostgresBackend) -> None:
        """Whoever ends in a call leaves its key to another of the same call, and two may swap, in whatever order."""
        one, two, three = (factory.enqueue(store, unique_key=key) for key in "abc")
        rows = factory.rows_of(store, [one, two, three])
        jobs = [
            WholeJob(rows[two]._replace(unique_key="a"), [], []),
            WholeJob(rows[one]._replace(unique_key="c"), [], []),
            WholeJob(rows[three]._replace(state="completed"), [], []),
        ]
        assert store.put(jobs) == []
        assert everything(store) == sorted(jobs, key=lambda job: job.row.id)

    def test_a_value_that_does_not_fit_writes_nothing(self, store: PostgresBackend) -> None:
        """One text or number that PostgreSQL cannot take: an error, and all is as it was."""
        mixed_jobs(store)
        before = everything(store)
        *others, last = [WholeJob(job.row._replace(args="[8]"), [], []) for job in before]
        for bad in ({"args": '"\x00"'}, {"rank": 1 << 40}, {"state": "zombie"}, {"name": None}):
            with pytest.raises(InvalidJobError):
                store.put([*others, last._replace(row=last.row._replace(**bad))])
            assert everything(store) == before

    def test_a_put_job_is_claimed_and_settled_like_any_other(self, store: PostgresBackend, opened: Open) -> None:
        """Its token is the proof it was before, and goes on from there."""
        claim = factory.claimed_job(store, queue="q")
        job_id = factory.enqueue(store, queue="q")
        target = opened()
        target.migrate()
        target.put(everything(store))
        [held] = target.find_held(["engine"], lapsed=False, limit=5).claims
        assert held._replace(ref=claim.ref) == claim
        assert factory.complete(target, held) == []
        assert factory.claim_one(target, queue="q").id == job_id

    def test_many_that_put_and_enqueue_at_once_make_no_double(self, store: PostgresBackend, opened: Open) -> None:
        """Whole jobs from several sides and new ones with their keys: one of each id, one living holder of each key."""
        ids = factory.enqueue_several(store, 40)
        jobs = [job._replace(row=job.row._replace(unique_key=f"k{n}")) for n, job in enumerate(everything(store))]
        news = [factory.new_job(unique_key=f"k{n}") for n in range(40)]
        store.erase(ids)
        stores = [beside(opened, store) for _ in range(4)]
        works: list[Callable[[], object]] = [
            partial(stores[0].put, jobs),
            partial(stores[1].put, jobs[::-1]),
            partial(stores[2].enqueue, news[::-1]),
            partial(stores[3].put, jobs),
        ]
        at_once(works)
        rows = [job.row for job in everything(store)]
        assert sorted(str(row.unique_key) for row in rows) == sorted(f"k{n}" for n in range(40))
        assert len({row.id for row in rows}) == 40

    def test_a_job_that_is_enqueued_while_it_is_put_is_written_all_the_same(
        self, store: PostgresBackend, opened: Open, connect: Connect, threads: ThreadPoolExecutor
    ) -> None:
        """A client that repeats its id in the target at that moment does not keep out what came before."""
        other = beside(opened, store)
        job = factory.new_job(unique_key="u")
        other.enqueue([job])
        [moved] = whole(store, [job.id])
        moved = moved._replace(row=moved.row._replace(state="completed", unique_key=None, finished_at=7))
        store.erase([job.id])
        for unique_key in (None, "u"):
            moved = moved._replace(row=moved.row._replace(unique_key=unique_key))
            producer = connect()
            producer.execute(
                sql.SQL(
                    "insert into {} (id, queue, name, args, kwargs, priority, rank, available_at, order_at, created_at,"
                    " max_attempts, max_crashes, backoff, unique_key)"
                    " values (%s, 'q', 'n', '', '', 0, 0, 0, 0, 0, 1, 1, '', 'u')"
                ).format(sql.Identifier(table(store, "jobs"))),
                [UUID(bytes=job.id)],
            )
            putting = threads.submit(store.put, [moved])
            look = connect()
            look.autocommit = True
            wait_until(lambda look=look: look.execute(WAITERS).fetchall(), "a put that waits for the other's row")  # type: ignore[misc]
            producer.commit()
            assert putting.result(60) == []
            assert whole(store, [job.id]) == [moved]
            store.erase([job.id])

    def test_a_put_wakes_nobody(self, store: PostgresBackend) -> None:
        """Whoever moves a thousand jobs rings when they may be claimed, and not before."""
        rung: list[object] = []
        store._ring = lambda: rung.append(None)  # type: ignore[method-assign]
        [job] = whole(store, [factory.enqueue(store)])
        assert store.put([job]) == [] and rung == []


class TestLooking:
    def test_versions_come_by_id_page_by_page(self, store: PostgresBackend) -> None:
        """Ascending, above the last one; every change raises a job's version, a renewal does not."""
        ids = factory.enqueue_several(store, 7)
        assert list(store.versions(after=None, limit=9)) == [(job_id, 1) for job_id in ids]
        found = [store.versions(after=after, limit=3) for after in (None, ids[2], ids[5], ids[6])]
        assert [len(page) for page in found] == [3, 3, 1, 0]
        assert [job_id for job_id, _ in chain(*found)] == ids
        claim = factory.claim_one(store)
        [before] = [version for job_id, version in store.versions(after=None, limit=9) if job_id == claim.id]
        assert before > 1
        store.renew("engine", [(claim.ref, claim.token)], lease=micros(99))
        assert (claim.id, before) in store.versions(after=None, limit=9)

    def test_a_job_that_cannot_be_read_has_no_version(self, store: PostgresBackend) -> None:
        """It is named, with -1, beside the others with theirs."""
        ids = factory.enqueue_several(store, 5)
        spoil(store, ids[1])
        expected = [(job_id, -1 if place == 1 else 1) for place, job_id in enumerate(ids)]
        assert list(store.versions(after=None, limit=5)) == expected
        assert list(store.versions(after=ids[1], limit=5)) == expected[2:]

    def test_once_keys_go_from_store_to_store(self, store: PostgresBackend, opened: Open) -> None:
        """Those in force, by key; in the other store they keep their jobs out as they did here."""
        soon = store.facts().now + micros(900)
        jobs = [factory.new_job(once_key=key, once_until=soon) for key in ("b", "a", "Z")]
        store.enqueue([*jobs, factory.new_job(once_key="over", once_until=1)])
        keys = [OnceKey("Z", jobs[2].id, soon), OnceKey("a", jobs[1].id, soon), OnceKey("b", jobs[0].id, soon)]
        assert list(store.once_keys(after=None, limit=9)) == keys
        assert list(store.once_keys(after="Z", limit=1)) == keys[1:2]
        target = opened()
        target.migrate()
        target.put_once_keys([OnceKey("a", bytes(16), 1), *keys, keys[0]])
        target.put_once_keys([])
        assert list(target.once_keys(after=None, limit=9)) == keys
        [answer] = target.enqueue([factory.new_job(once_key="a", once_until=soon)])
        assert (answer.fate, answer.existing) == (Fate.KEY_TAKEN, jobs[1].id)

    def test_a_job_is_erased_whatever_its_state(self, store: PostgresBackend) -> None:
        """With its tries and lines; its once key stays, other jobs too, and a late outcome is lost."""
        soon = store.facts().now + micros(900)
        once = factory.enqueue(store, once_key="o", once_until=soon)
        held = factory.running_job(store)
        ids = [once, held.id, tried_job(store), *(factory.job_in_state(store, state) for state in STATES)]
        stays = tried_job(store)
        assert store.erase([*ids, factory.new_id()]) == len(ids)
        assert store.erase([]) == store.erase(ids) == 0
        assert [job.row.id for job in everything(store)] == [stays]
        assert raw(store, "select count(*) from {prefix}attempts") == [(2,)]
        assert [key.job_id for key in store.once_keys(after=None, limit=9)] == [once]
        assert [refusal.verdict for refusal in factory.complete(store, held)] == [Verdict.LOST]


# ------------------------------------------------------------------ the seal


def writes(store: PostgresBackend) -> dict[str, Callable[[], object]]:
    """Every way to write, each with something to write, or with nothing; and jobs that make it so."""
    waiting = factory.enqueue(store, unique_key="u")
    claims = [factory.claimed_job(store) for _ in range(2)]
    ended = factory.job_in_state(store, "completed")
    factory.enqueue_several(store, 2, queue="limited", limit_key="k", key_limit=1)
    [freed, *_] = factory.claim_some(store, 2, queues=["limited"])
    factory.complete(store, freed)
    parked = factory.claimed_job(store, name="unknown")
    factory.settle(store, parked, states.park(parked))
    version = store.write_record(RecordKind.QUEUE, "default", "{}")
    row, new = factory.row_of(store, waiting), factory.new_job
    follow = Outcome(claims[0].ref, claims[0].token, states.complete("1"), (new(),))
    lost = Outcome(claims[0].ref, claims[0].token + 7, states.complete("1"))
    want = Want([("default", 5)], 5)
    soon = store.facts().now + micros(9)
    return {
        "enqueue": lambda: store.enqueue([new(queue="new")]),
        "enqueue one that is there": lambda: store.enqueue([new(id=waiting, unique_key="u")]),
        "enqueue one that replaces": lambda: store.enqueue([new(unique_key="u", replaces=True)]),
        "enqueue with a once key": lambda: store.enqueue([new(once_key="o", once_until=soon)]),
        "exchange nothing": lambda: store.exchange("engine"),
        "claim": lambda: store.exchange("engine", want=want, lease=1),
        "claim under limits": lambda: store.exchange("engine", want=want, lease=1, freed={"k"}),
        "complete": lambda: factory.complete(store, claims),
        "complete what cannot be stored": lambda: factory.complete(store, claims, result=factory.NO_TEXT),
        "follow": lambda: store.exchange("engine", outcomes=[follow]),
        "settle what is lost": lambda: store.exchange("engine", outcomes=[lost]),
        "renew": lambda: store.renew("engine", [(claims[0].ref, claims[0].token)], lease=10**9),
        "let in": lambda: store.let_in(9),
        "unpark": lambda: store.unpark(["unknown"]),
        "release dependents": lambda: store.release_dependents([Dependent(factory.new_id(), "[]", 1)]),
        "cancel": lambda: store.apply_by_operator(waiting, states.cancel_waiting(reason="canceled")),
        "run now": lambda: store.apply_by_operator(waiting, states.run_now(row)),
        "prune": lambda: store.prune(states=[*ENDED], finished_before=soon, age=None, limit=9),
        "delete": lambda: store.delete([ended]),
        "write a record": lambda: store.write_record(RecordKind.QUEUE, "default", "[]"),
        "add a record": lambda: store.write_record(RecordKind.ENGINE, "e", "{}", expect=0),
        "replace a record": lambda: store.write_record(RecordKind.QUEUE, "default", "[]", expect=version),
        "remove a record": lambda: store.remove_record(RecordKind.QUEUE, "default"),
        "put": lambda: store.put([WholeJob(row._replace(id=factory.new_id(), unique_key=None), [], [])]),
        "put once keys": lambda: store.put_once_keys([OnceKey("p", waiting, soon)]),
        "erase": lambda: store.erase([waiting]),
    }


ROWS = "select row_to_json(one)::text from {prefix}{table} as one"


def contents(store: PostgresBackend) -> object:
    """All that is stored, but for the seal."""
    rows = {name: sorted(raw(store, ROWS.replace("{table}", name))) for name in BARRED}
    rows["meta"] = raw(store, "select settings, schema_version, identity from {prefix}meta")
    return rows


def is_closed(store: PostgresBackend) -> bool:
    with pytest.raises(StoreMovedError):
        factory.enqueue(store)
    return True


def barred(store: PostgresBackend) -> set[str]:
    """The tables that have a barrier which is raised."""
    found = raw(
        store,
        "select tgrelid::regclass::text from pg_trigger"
        " where tgname = 'jobcard_sealed' and tgenabled <> 'D' and tgrelid::regclass::text like '{prefix}%%'",
    )
    return {name.removeprefix(store._options.prefix) for (name,) in found}


def nothing_is_left(store: PostgresBackend) -> bool:
    functions = raw(store, "select proname from pg_proc where proname = '{prefix}sealed'")
    return not barred(store) and functions == []


class TestSeal:
    def test_every_write_is_refused_and_changes_nothing(self, store: PostgresBackend) -> None:
        """Whatever it brings or wants, by its kind of error; not one row is other than before."""
        refused = writes(store)
        store.seal("elsewhere")
        before = contents(store)
        for name, write in refused.items():
            with pytest.raises(StoreMovedError, match="sealed"):
                pytest.fail(f"{name}: {write()}")
            assert contents(store) == before, name

    def test_reading_goes_on(self, store: PostgresBackend) -> None:
        """Jobs, figures, records and the word are read as before; a broken claim is no reason to write."""
        mixed_jobs(store)
        broken = factory.claimed_job(store, lease=1)
        spoil(store, broken.id)
        wait_until(lambda: store.facts().now > broken.claimed_at + 1)

        def seen() -> object:
            return (
                everything(store), store.tally().counts, store.versions(after=None, limit=99), store.count(Filter()),
                store.read_records(RecordKind.QUEUE)[0].key, store.usage(["default"], ["k"]), store.waker().close(),
            )  # fmt: skip

        before = seen()
        store.seal("elsewhere")
        assert store.facts().seal == "elsewhere"
        assert seen() == before
        held = [store.find_held(["engine"], lapsed=lapsed, limit=99).claims for lapsed in (False, True)]
        assert len(held[0]) == 3 and held[0] == held[1]
        assert store.examine()
        store.seal(None)
        assert store.find_held(["engine"], lapsed=True, limit=99).claims == held[0]
        assert raw(store, "select hold from {prefix}jobs where id = %s", UUID(bytes=broken.id)) == [("broken",)]

    def test_opened_again_all_is_as_before(self, store: PostgresBackend) -> None:
        """Every write that was refused is done then, nothing of the barrier is left, and twice is fine."""
        refused = writes(store)
        assert store.facts().seal is None
        store.seal(None)
        store.seal("elsewhere")
        assert is_closed(store) and barred(store) == {*BARRED}
        for _ in range(2):
            store.seal(None)
            assert store.facts().seal is None and nothing_is_left(store)
        for write in refused.values():
            write()

    def test_sealing_again_changes_the_word(self, store: PostgresBackend) -> None:
        """The barrier stays up meanwhile; the same word is fine, too."""
        for word in ("one", "one", "two é"):
            store.seal(word)
            assert store.facts().seal == word and is_closed(store)
        assert barred(store) == {*BARRED}

    @pytest.mark.parametrize("isolation", list(psycopg.IsolationLevel))
    def test_code_that_knows_nothing_is_refused_too(
        self, store: PostgresBackend, connect: Connect, isolation: psycopg.IsolationLevel
    ) -> None:
        """By any program and statement on any of the tables, even one that looked before and has an old snapshot."""
        factory.enqueue(store)
        old = connect()
        old.isolation_level = isolation
        [(before,)] = old.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table(store, "jobs"))))
        store.seal("elsewhere")
        statements = [
            "insert into {prefix}jobs default values",
            "insert into {prefix}once values ('k', gen_random_uuid(), 1)",
            "copy {prefix}starts from stdin",
            "update {prefix}records set value = 'x' where false",
            *("delete from {prefix}jobs".replace("jobs", name) for name in BARRED),
        ]
        for statement in (each.replace("{prefix}", store._options.prefix) for each in statements):
            with pytest.raises(psycopg.Error, match="sealed") as error, old.cursor() as cursor:
                if statement.startswith("copy"):
                    with cursor.copy(statement.encode()) as copy:
                        copy.write_row(("k", 1, 1, 1))
                else:
                    cursor.execute(statement.encode())
            assert error.value.sqlstate == "JC001", statement
            old.rollback()
        assert store.tally().counts["waiting"] == before == 1

    def test_what_is_no_write_of_jobs_passes(self, store: PostgresBackend) -> None:
        """A truncate, and migrations both ways, which change rows; the seal outlives them."""
        factory.enqueue_several(store, 2, limit_key="k", key_limit=1)
        factory.enqueue(store, waits_for="[]")
        assert len(factory.claim_some(store, 2)) == 1
        store.seal("elsewhere")
        assert [store.rollback(), store.rollback()] == [3, 2]
        assert store.migrate() == [2, 3]
        assert store.tally().counts["waiting"] == 2
        assert store.facts().seal == "elsewhere" and barred(store) == {*BARRED}
        store.truncate()
        assert store.tally().counts["waiting"] == 0
        assert store.facts().seal == "elsewhere" and is_closed(store)
        while store.rollback() is not None:
            pass
        assert nothing_is_left(store)
        store.migrate()
        factory.enqueue(store)


# ------------------------------------------------------------------ others at the same time


def waiting_for(connect: Connect, store: PostgresBackend, name: str, many: int = 1) -> None:
    """Return when so many wait for the lock of a table."""
    look = connect()
    look.autocommit = True

    def waiters() -> bool:
        [(number,)] = look.execute(
            "select count(*) from pg_locks where not granted and relation = to_regclass(%s)", [table(store, name)]
        )
        return bool(number == many)

    wait_until(waiters, f"{many} that wait for {name}")
    look.close()


def write_to(connection: psycopg.Connection[Any], store: PostgresBackend, name: str) -> None:
    """Become a writer of a table, and stay one until the end of the transaction."""
    connection.execute(sql.SQL("delete from {} where false").format(sql.Identifier(table(store, name))))


class TestWriters:
    @pytest.mark.parametrize("name", BARRED)
    def test_an_open_writer_is_waited_for(
        self, store: PostgresBackend, connect: Connect, threads: ThreadPoolExecutor, name: str
    ) -> None:
        """What it has written is there when the seal is, and afterwards it is refused like everybody."""
        writer = connect()
        row = sql.SQL("insert into {} (kind, key, value, version, updated_at) values ('x', %s, '', 1, 1)").format(
            sql.Identifier(table(store, "records"))
        )
        write_to(writer, store, name)
        sealing = threads.submit(store.seal, "elsewhere")
        waiting_for(connect, store, name)
        assert not sealing.done()
        if name in ("jobs", "records"):
            writer.execute(row, ["late"])
        writer.commit()
        sealing.result(60)
        assert is_closed(store)
        late = raw(store, "select key from {prefix}records where kind = 'x'")
        assert late == ([("late",)] if name in ("jobs", "records") else [])
        with pytest.raises(psycopg.Error, match="sealed"):
            write_to(writer, store, name)

    def test_whoever_comes_while_the_seal_waits_is_refused(
        self, store: PostgresBackend, opened: Open, connect: Connect, threads: ThreadPoolExecutor
    ) -> None:
        """It waits behind the seal for the same lock, and then meets the barrier; nothing of it is stored."""
        refused, sealer, writer = writes(store), beside(opened, store), connect()
        before = contents(store)
        for name, write in refused.items():
            if "record" in name or "once keys" in name:
                continue
            write_to(writer, store, "jobs")
            sealing = threads.submit(sealer.seal, "elsewhere")
            waiting_for(connect, store, "jobs")
            late = threads.submit(write)
            waiting_for(connect, store, "jobs", 2)
            writer.commit()
            sealing.result(60)
            with pytest.raises(StoreMovedError):
                pytest.fail(f"{name}: {late.result(60)}")
            sealer.seal(None)
            assert contents(store) == before, name

    def test_an_exchange_that_has_begun_is_done(
        self, store: PostgresBackend, opened: Open, connect: Connect, threads: ThreadPoolExecutor
    ) -> None:
        """It waits for a row while the seal waits for it: it is applied, says so, and the seal comes after it."""
        claim = factory.claimed_job(store)
        other = connect()
        other.execute(sql.SQL("select from {} for update").format(sql.Identifier(table(store, "jobs"))))
        follower = factory.new_job()
        outcome = Outcome(claim.ref, claim.token, states.complete("7"), (follower,))
        exchange = threads.submit(store.exchange, "engine", outcomes=[outcome], want=Want([("default", 1)], 1), lease=9)
        look = connect()
        look.autocommit = True
        wait_until(lambda: look.execute(WAITERS).fetchall(), "an exchange that waits for a row")
        sealing = threads.submit(beside(opened, store).seal, "elsewhere")
        waiting_for(connect, store, "jobs")
        other.rollback()
        answer = exchange.result(60)
        sealing.result(60)
        assert ([each.id for each in answer.claimed], answer.refusals) == ([follower.id], [])
        assert factory.row_of(store, claim.id).result == "7"
        assert is_closed(store)

    @pytest.mark.parametrize("name", ["jobs", "starts"])
    @pytest.mark.parametrize("before", [None, "before"])
    def test_patience_ends_and_nothing_is_sealed(
        self, store: PostgresBackend, opened: Open, connect: Connect, name: str, before: str | None
    ) -> None:
        """Whoever holds it up is named; the store is as it was, also where some of its tables were closed by then."""
        [(process,)] = (writer := connect()).execute("select pg_backend_pid()")
        if before is None:
            write_to(writer, store, name)
        else:
            # A writer that is open in a sealed store can only be one who may change its tables.
            store.seal(before)
            writer.execute(f"lock table {table(store, name)} in row exclusive mode".encode())
        with pytest.raises(StoreUnavailableError, match=f"{table(store, name)} .* process {process} "):
            beside(opened, store, patience=0.3).seal("elsewhere")
        assert store.facts().seal == before
        assert (before is None) == nothing_is_left(store)
        if before is None:
            factory.enqueue(store)
        else:
            assert is_closed(store) and barred(store) == {*BARRED}
        writer.commit()
        store.seal("elsewhere")
        assert store.facts().seal == "elsewhere" and is_closed(store)

    def test_a_reader_holds_up_nobody(self, store: PostgresBackend, opened: Open, connect: Connect) -> None:
        """With a dump of the database under way a store is sealed, opened and used; what is left goes next time."""
        reader = connect()
        for name in BARRED:
            reader.execute(sql.SQL("select from {}").format(sql.Identifier(table(store, name))))
        impatient = beside(opened, store, patience=5)
        impatient.seal("elsewhere")
        assert is_closed(store)
        impatient.seal(None)
        factory.enqueue(store)
        assert barred(store) == set() and not nothing_is_left(store)
        write_to(writer := connect(), store, "starts")
        with pytest.raises(StoreUnavailableError):
            beside(opened, store, patience=0.3).seal("elsewhere")
        assert (store.facts().seal, barred(store)) == (None, set())
        writer.rollback()
        reader.rollback()
        impatient.seal("elsewhere")
        assert is_closed(store) and barred(store) == {*BARRED}
        impatient.seal(None)
        assert nothing_is_left(store)


class TestRaces:
    def test_many_seal_at_once(self, store: PostgresBackend, opened: Open) -> None:
        """The word is one of theirs, and the barrier is whole."""
        words = [f"w{number}" for number in range(4)]
        for _ in range(3):
            at_once([partial(beside(opened, store).seal, word) for word in words])
            assert store.facts().seal in words
            assert barred(store) == {*BARRED} and is_closed(store)
            store.seal(None)

    def test_sealed_and_opened_at_once_it_is_one_of_both(self, store: PostgresBackend, opened: Open) -> None:
        """Never half open: whoever came last has had his way."""
        stores = [beside(opened, store) for _ in range(4)]
        for _ in range(5):
            at_once([partial(each.seal, word) for each, word in zip(stores, ("a", None, "b", None), strict=True)])
            if store.facts().seal is None:
                assert barred(store) == set()
                factory.enqueue(store)
            else:
                assert barred(store) == {*BARRED} and is_closed(store)

    @pytest.mark.parametrize("word", ["again", None])
    def test_a_seal_that_was_cut_short_is_finished_by_the_next(
        self, store: PostgresBackend, monkeypatch: pytest.MonkeyPatch, word: str | None
    ) -> None:
        """Killed between two tables: the word and the barrier of the jobs agree, and the next one goes on, or back."""
        commit, done = Barrier._commit, []

        def killed(self: Barrier, *given: Any) -> None:
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(given)
            commit(self, *given)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Barrier, "_commit", killed)
            store.seal("first")
        assert store.facts().seal == "first" and is_closed(store)
        assert "jobs" in barred(store) < {*BARRED}
        store.seal(word)
        assert (store.facts().seal, barred(store)) == (word, set() if word is None else {*BARRED})

    def test_under_load_all_that_was_said_to_be_stored_is_there(
        self, store: PostgresBackend, opened: Open, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Producers, engines whose jobs bring others, prunes and clerks: not a deadlock, and nothing after the seal."""
        conflicts: list[object] = []

        class Counted(ConflictError):
            def __init__(self, *given: object) -> None:
                conflicts.append(given)
                super().__init__(*given)

        monkeypatch.setattr(errors, "ConflictError", Counted)
        stored: list[bytes] = []
        done: list[bytes] = []
        busy = threading.Semaphore(0)

        def until_moved(turn: Callable[[PostgresBackend], None]) -> None:
            with contextlib.closing(beside(opened, store)) as own, pytest.raises(StoreMovedError):
                while True:
                    turn(own)
                    busy.release()

        def produce(own: PostgresBackend) -> None:
            jobs = [factory.new_job(queue=f"q{secrets.randbelow(20)}") for _ in range(5)]
            own.enqueue(jobs)
            stored.extend(job.id for job in jobs)

        def run(own: PostgresBackend) -> None:
            queues = [(f"q{number}", 5) for number in range(20)]
            owner = secrets.token_hex(4)
            claims = own.exchange(owner, want=Want(queues, 20), lease=micros(60)).claimed
            followers = [factory.new_job(queue=f"new-{secrets.token_hex(3)}") for _ in claims]
            outcomes = [
                Outcome(claim.ref, claim.token, states.complete("1"), (follower,))
                for claim, follower in zip(claims, followers, strict=True)
            ]
            assert own.exchange(owner, outcomes=outcomes).refusals == []
            done.extend(claim.id for claim in claims)
            stored.extend(follower.id for follower in followers)

        def prune(own: PostgresBackend) -> None:
            own.prune(states=["failed"], finished_before=1, age=1, limit=9)

        def write(own: PostgresBackend) -> None:
            own.write_record(RecordKind.QUEUE, f"q{secrets.randbelow(20)}", "{}")

        # One connection of the server for each, and two for the seal: behind the pooler there are four.
        turns = [produce, run] if store._options.pooled else [produce, produce, produce, run, run, prune, write]
        working = [threads.submit(until_moved, turn) for turn in turns]
        for _ in range(40 * len(turns)):
            assert busy.acquire(timeout=60)
        store.seal("elsewhere")
        for each in working:
            each.result(60)
        rows = {row.id: row.state for row in store.get(stored)}
        assert rows.keys() == {*stored}
        assert {rows[job_id] for job_id in done} == {"completed"}
        assert sum(store.tally().counts.values()) == len(stored)
        assert conflicts == []


class TestHalfway:
    """A verb of several commits that meets the seal behind the first: what is stored is never said not to be."""

    def test_an_exchange_answers_what_it_has_done(
        self, store: PostgresBackend, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was settled and claimed in its first commit is in the answer; only what came behind is not done."""
        sealer, limitedly = beside(opened, store), Exchange._limitedly

        def sealed_before(self: Exchange) -> object:
            sealer.seal("elsewhere")
            return limitedly(self)

        monkeypatch.setattr(Exchange, "_limitedly", sealed_before)
        ended = factory.claimed_job(store)
        plain, keyed = factory.enqueue(store), factory.enqueue(store, limit_key="k", key_limit=1)
        want = Want([("default", 5)], 5)
        answer = factory.complete_in_exchange(store, ended, want=want)
        assert ([claim.id for claim in answer.claimed], answer.refusals) == ([plain], [])
        found = {job_id: factory.row_of(store, job_id).state for job_id in (ended.id, plain, keyed)}
        assert found == {ended.id: "completed", plain: "claimed", keyed: "waiting"}
        assert is_closed(store)

    def test_an_operators_change_is_told(
        self, store: PostgresBackend, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The change is stored before what it leaves over is trimmed."""
        sealer, trim = beside(opened, store), changes._trim

        def sealed_before(*given: Any) -> None:
            sealer.seal("elsewhere")
            trim(*given)

        monkeypatch.setattr(changes, "_trim", sealed_before)
        claim = factory.claimed_job(store)
        failed = states.fail(claim, reason="error", error=factory.ERROR, kind="E")
        row = store.apply_by_operator(claim.id, failed)
        assert row is not None and row.state == factory.row_of(store, claim.id).state == "failed"

    def test_an_enqueue_says_that_nobody_knows(
        self, store: PostgresBackend, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where some are stored it is no `StoreMovedError`, which says that none is; to repeat it is safe."""
        sealer, settle = beside(opened, store), Enqueue.settle

        def sealed_before_the_second(self: Enqueue, places: list[int]) -> None:
            if self.answers:
                sealer.seal("elsewhere")
            settle(self, places)

        monkeypatch.setattr(Enqueue, "settle", sealed_before_the_second)
        job = factory.new_job()
        with pytest.raises(StoreUnavailableError):
            store.enqueue([job, job])
        assert store.get([job.id])
        with pytest.raises(StoreMovedError):
            store.enqueue([job])


# ------------------------------------------------------------------ who may


def test_only_who_owns_the_tables_may_seal_them(database: str, connect: Connect) -> None:
    """Engines, producers and viewers are told whose rights it takes, and leave nothing behind."""
    users = {role: f"{role}_{secrets.token_hex(4)}" for role in Role}
    schema = f"s_{secrets.token_hex(4)}"
    parts = urlsplit(database)
    admin = connect()
    admin.autocommit = True

    with contextlib.ExitStack() as stack:

        def store_of(role: Role) -> PostgresBackend:
            admin.execute(f"create role {users[role]} login password 'x'".encode())
            stack.callback(admin.execute, f"drop role {users[role]}".encode())
            stack.callback(admin.execute, f"drop owned by {users[role]} cascade".encode())
            for statement in PostgresBackend(database, schema=schema).grants(role, users[role]):
                admin.execute(statement.encode())
            place = f"{users[role]}:x@{parts.hostname}:{parts.port}"
            own = PostgresBackend(parts._replace(netloc=place).geturl(), schema=schema)
            return stack.enter_context(contextlib.closing(own))

        owner = store_of(Role.MIGRATION)
        owner.migrate()
        engine, producer, viewer = (store_of(role) for role in (Role.ENGINE, Role.PRODUCER, Role.VIEWER))
        for other in (engine, producer, viewer):
            for word in ("mine", None):
                with pytest.raises(AccessDeniedError, match="--role migration"):
                    other.seal(word)
            assert owner.facts().seal is None and nothing_is_left(owner)
        owner.seal("elsewhere")
        assert {other.facts().seal for other in (engine, producer, viewer)} == {"elsewhere"}
        for other in (engine, producer):
            assert is_closed(other)
            with pytest.raises(AccessDeniedError, match="--role migration"):
                other.seal(None)
        assert owner.facts().seal == "elsewhere"
        owner.seal(None)
        job_id = factory.enqueue(producer)
        assert list(viewer.versions(after=None, limit=5)) == [(job_id, 1)]
        assert engine.put(whole(engine, [job_id])) == []
        assert engine.erase([job_id]) == 1
        admin.execute(f"drop schema {schema} cascade".encode())
