"""New jobs as part of somebody else's transaction, by each driver: there if and only if it commits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import apsw
import psycopg
import pymysql
import pytest
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from pymongo import MongoClient

from helpers import postgres
from helpers.places import new_place
from helpers.servers import KINDS as SERVERS
from helpers.servers import using
from helpers.theirs import KINDS, Apsw, EnqueuesWithin, Psycopg, PyMongo, PyMySQL, Sqlite3, Theirs
from jobcard.backends.base import Backend, Enqueued, Fate, RecordKind
from jobcard.backends.mongodb import MongoBackend
from jobcard.backends.mysql import MySQLBackend
from jobcard.backends.postgres import PostgresBackend
from jobcard.backends.redis import RedisBackend
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import Harness, Shelf, factory
from jobcard.conformance.suite import CHECKS, run_check
from jobcard.core.clock import FrozenClock
from jobcard.errors import (
    ConfigError,
    InvalidJobError,
    SchemaVersionError,
    StoreMovedError,
    StoreUnavailableError,
)

FOR_EVER = 1 << 60


def by_driver(*left_out: str) -> list[Any]:
    """A parameter for each driver; those of servers are slow."""
    return [
        pytest.param(name, marks=[] if kind == "sqlite" else [pytest.mark.slow])
        for name, (kind, _) in KINDS.items()
        if name not in left_out
    ]


class Side:
    """A store, and the way to it for an application's own connections."""

    def __init__(self, url: str, connect: Callable[..., Theirs]) -> None:
        self.url = url
        self.connect = functools.partial(connect, url)
        self.store = open_backend(url)
        self.store.migrate()

    def is_there(self, job_id: bytes) -> bool:
        """Whether everybody sees the job."""
        return bool(self.store.get([job_id]))


@contextlib.contextmanager
def opened(driver: str, folder: Path) -> Iterator[Side]:
    kind, connect = KINDS[driver]
    with new_place(kind, folder) as place:
        side = Side(place.url + ("?library=sqlite3" if driver == "sqlite3" else ""), connect)
        yield side
        side.store.close()


@pytest.fixture(scope="module")
def _places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Side]]:
    with contextlib.ExitStack() as stack:

        @functools.cache
        def side_of(driver: str) -> Side:
            return stack.enter_context(opened(driver, tmp_path_factory.mktemp("within")))

        yield side_of


@pytest.fixture(params=by_driver())
def side(request: pytest.FixtureRequest, _places: Callable[[str], Side]) -> Side:
    """An empty store by each driver."""
    side = _places(request.param)
    if side.store.facts().seal is not None:
        side.store.seal(None)
    side.store.truncate()
    return side


@pytest.fixture
def theirs(side: Side) -> Iterator[Theirs]:
    """A connection of the application to the database of the store."""
    with contextlib.closing(side.connect()) as connection:
        yield connection


class TestTogether:
    def test_a_commit_brings_both(self, side: Side, theirs: Theirs) -> None:
        """Nobody sees the job before; then it is there with what was written beside it."""
        job = factory.new_job()
        with theirs.transaction() as given:
            theirs.write(7)
            assert side.store.enqueue([job], within=given) == [Enqueued(Fate.STORED, job.id)]
            theirs.write(8)
            assert not side.is_there(job.id)
        assert side.is_there(job.id)
        assert {7, 8} <= set(theirs.numbers())
        assert factory.claim_one(side.store).id == job.id

    def test_a_rollback_leaves_nothing(self, side: Side, theirs: Theirs) -> None:
        """No job, no key that it had taken, and no record of its queue."""
        theirs.begin()
        jobs = [
            factory.new_job(queue="never"),
            factory.new_job(queue="never", unique_key="k"),
            factory.new_job(queue="never", once_key="o", once_until=FOR_EVER),
        ]
        answers = side.store.enqueue(jobs, within=theirs.given)
        theirs.rollback()
        assert [answer.fate for answer in answers] == [Fate.STORED] * 3
        assert not side.store.get([job.id for job in jobs])
        assert side.store.read_records(RecordKind.QUEUE) == []
        assert side.store.once_keys(after=None, limit=10) == []
        assert [answer.fate for answer in side.store.enqueue(jobs)] == [Fate.STORED] * 3

    def test_the_first_statement_begins_where_the_driver_would(self, side: Side, theirs: Theirs) -> None:
        """An enqueue is a write like any other; with nothing else beside it, it waits for the commit as well."""
        job = factory.new_job()
        theirs.begin()
        side.store.enqueue([job], within=theirs.given)
        assert not side.is_there(job.id)
        theirs.commit()
        assert side.is_there(job.id)

    def test_a_new_queue_is_told_to_engines_by_the_commit(self, side: Side, theirs: Theirs) -> None:
        """They read their settings again when they see that these have risen."""
        before = side.store.exchange("engine").settings
        with theirs.transaction() as given:
            side.store.enqueue([factory.new_job(queue="new")], within=given)
            assert side.store.exchange("engine").settings == before
        assert side.store.exchange("engine").settings > before
        assert [record.key for record in side.store.read_records(RecordKind.QUEUE)] == ["new"]

    def test_a_thousand_go_in_one_call(self, side: Side, theirs: Theirs) -> None:
        """With the same bounds as ever, and texts of every kind as they are."""
        jobs = [factory.new_job(args=f'["ä\\\\ \' % {number} 🦊"]') for number in range(1_000)]
        with theirs.transaction() as given:
            answers = side.store.enqueue(jobs, within=given)
        assert {answer.fate for answer in answers} == {Fate.STORED}
        assert {row.args for row in side.store.get([job.id for job in jobs])} == {job.args for job in jobs}


class TestFates:
    def test_what_is_taken_leaves_the_transaction_usable(self, side: Side, theirs: Theirs) -> None:
        """A key, an id and a once key that are taken are answers, and what follows is committed."""
        there = factory.new_job(unique_key="k", once_key="o", once_until=FOR_EVER)
        side.store.enqueue([there])
        jobs = [
            factory.new_job(unique_key="k"),
            factory.new_job(once_key="o", once_until=FOR_EVER),
            there,
            there._replace(args="[2]"),
            factory.new_job(),
        ]
        with theirs.transaction() as given:
            theirs.write(11)
            each = [side.store.enqueue([job], within=given)[0].fate for job in jobs]
            again = side.store.enqueue(jobs, within=given)
            theirs.write(12)
        fates = [Fate.KEY_TAKEN, Fate.KEY_TAKEN, Fate.REPEATED, Fate.ID_TAKEN]
        assert each == [*fates, Fate.STORED]
        assert [answer.fate for answer in again] == [*fates, Fate.REPEATED]
        assert {answer.existing for answer in again[:4]} == {there.id}
        assert side.is_there(jobs[-1].id)
        assert {11, 12} <= set(theirs.numbers())

    def test_keys_hold_within_one_transaction(self, side: Side, theirs: Theirs) -> None:
        """Its own jobs that nobody else sees yet have their keys."""
        first, second = (factory.new_job(unique_key="k") for _ in range(2))
        third, fourth = (factory.new_job(once_key="o", once_until=FOR_EVER) for _ in range(2))
        with theirs.transaction() as given:
            answers = side.store.enqueue([first], within=given) + side.store.enqueue([second], within=given)
            answers += side.store.enqueue([third, fourth], within=given)
        assert [answer.fate for answer in answers] == [Fate.STORED, Fate.KEY_TAKEN] * 2
        assert [answer.existing for answer in answers] == [first.id, first.id, third.id, third.id]

    def test_a_waiting_job_is_replaced_at_the_commit(self, side: Side, theirs: Theirs) -> None:
        """Until then it is what it was; after a rollback it stays so."""
        waiting = factory.enqueue(side.store, unique_key="k", args="[1]")
        for ends, args in ((theirs.rollback, "[1]"), (theirs.commit, "[2]")):
            theirs.begin()
            new = factory.new_job(unique_key="k", args="[2]", replaces=True)
            assert side.store.enqueue([new], within=theirs.given) == [Enqueued(Fate.REPLACED, waiting)]
            assert factory.row_of(side.store, waiting).args == "[1]"
            ends()
            assert factory.row_of(side.store, waiting).args == args

    def test_who_stood_behind_a_replaced_job_comes_in(self, side: Side, theirs: Theirs) -> None:
        """At the latest when an engine asks for those whose keys have room."""
        with_key: dict[str, Any] = {"queue": "q", "limit_key": "l", "key_limit": 1}
        factory.enqueue(side.store, unique_key="k", rank=-1, **with_key)
        factory.claimed_job(side.store, limit_key="other", key_limit=1)
        held = factory.enqueue(side.store, **with_key)
        claim = factory.claim_one(side.store, queue="q")
        assert not factory.claim_some(side.store, 1, queues=["q"])  # so the second is held
        factory.complete(side.store, claim)
        new = factory.new_job(queue="q", unique_key="k")
        with theirs.transaction() as given:
            side.store.enqueue([new], within=given)
        side.store.let_in(10)
        assert held in [claim.id for claim in factory.claim_some(side.store, 3, queues=["q"])]


class TestErrors:
    def test_a_sealed_store_takes_nothing_and_spoils_nothing(self, side: Side, theirs: Theirs) -> None:
        """The application's own rows are committed; nothing of the enqueue is there when the store is opened again."""
        there = factory.new_job()
        side.store.enqueue([there])
        side.store.seal("moved:1")
        new = factory.new_job(queue="new")
        with theirs.transaction() as given:
            theirs.write(21)
            for job in (new, there):
                with pytest.raises(StoreMovedError):
                    side.store.enqueue([job], within=given)
            theirs.write(22)
        side.store.seal(None)
        assert {21, 22} <= set(theirs.numbers())
        assert not side.is_there(new.id)
        assert [record.key for record in side.store.read_records(RecordKind.QUEUE)] == ["default"]

    def test_what_cannot_be_stored_takes_all_of_its_call_with_it(self, side: Side, theirs: Theirs) -> None:
        """And nothing else of the transaction."""
        good, bad = factory.new_job(queue="new"), factory.new_job(queue="new", args='["\ud800"]')
        before = factory.new_job()
        with theirs.transaction() as given:
            side.store.enqueue([before], within=given)
            with pytest.raises(InvalidJobError):
                side.store.enqueue([good, bad], within=given)
            theirs.write(21)
        assert side.is_there(before.id)
        assert not side.is_there(good.id)
        assert [record.key for record in side.store.read_records(RecordKind.QUEUE)] == ["default"]

    @pytest.mark.parametrize("given", [True, "conn", 7, object(), [], sqlite3, psycopg.Connection])
    def test_what_is_no_connection(self, side: Side, given: object) -> None:
        """The error says what would have done, and what it was."""
        with pytest.raises(ConfigError, match=r"within takes a .*not asynchronous; this is a"):
            side.store.enqueue([factory.new_job()], within=given)
        assert side.store.tally().counts.get("waiting", 0) == 0

    def test_a_connection_of_another_database_kind(self, side: Side) -> None:
        """The application has several, and takes the wrong one."""
        class_ = Apsw if not isinstance(side.store, SQLiteBackend) else None
        raw = apsw.Connection(":memory:") if class_ else psycopg.Connection.__new__(psycopg.Connection)
        with pytest.raises(ConfigError, match=r"this is a (apsw|psycopg)\.Connection"):
            side.store.enqueue([factory.new_job()], within=raw)

    def test_a_closed_connection(self, side: Side) -> None:
        """It is told, and not taken for a store that is away."""
        theirs = side.connect()
        theirs.close()
        with pytest.raises(ConfigError, match=r"closed|ended|cannot be used"):
            side.store.enqueue([factory.new_job()], within=theirs.given)

    def test_a_store_with_other_tables(self, side: Side, theirs: Theirs) -> None:
        """The connection leads to a database that has none of this store's tables, or they are gone."""
        with contextlib.closing(open_backend(side.url, prefix="elsewhere_")) as other:
            theirs.begin()
            with pytest.raises((ConfigError, SchemaVersionError)):
                other.enqueue([factory.new_job()], within=theirs.given)
            theirs.rollback()

    def test_no_transaction(self, side: Side, theirs: Theirs) -> None:
        """A connection that commits every statement by itself would tie the job to nothing."""
        raw: Any = theirs.given
        match theirs:
            case Sqlite3():
                raw.isolation_level = None
            case Psycopg():
                raw.autocommit = True
            case PyMySQL():
                raw.autocommit(True)
        job = factory.new_job()
        with pytest.raises(ConfigError, match="autocommit mode and in no transaction"):
            side.store.enqueue([job], within=raw)
        assert not side.is_there(job.id)

    def test_a_transaction_in_autocommit_mode(self, side: Side, theirs: Theirs) -> None:
        """One that was begun by hand is one."""
        raw: Any = theirs.given
        match theirs:
            case Sqlite3():
                raw.isolation_level = None
            case Psycopg():
                raw.autocommit = True
            case PyMySQL():
                raw.autocommit(True)
        job = factory.new_job()
        if isinstance(theirs, PyMongo):
            theirs.begin()
        else:
            raw.cursor().execute("begin")
        side.store.enqueue([job], within=raw)
        assert not side.is_there(job.id)
        theirs.commit()
        assert side.is_there(job.id)


class TestMeanwhile:
    """Another takes a key after the transaction has begun to read."""

    def test_by_psycopg(self, _places: Callable[[str], Side]) -> None:
        """At read committed it is seen. A snapshot cannot be written to: that is told, and the rest can go on."""
        side = _places("psycopg")
        for level, key in ((psycopg.IsolationLevel.READ_COMMITTED, "a"), (psycopg.IsolationLevel.REPEATABLE_READ, "b")):
            with contextlib.closing(side.connect()) as theirs, theirs.transaction() as given:
                theirs.rollback()
                theirs.raw.isolation_level = level  # type: ignore[attr-defined]
                theirs.numbers()
                other = factory.enqueue(side.store, unique_key=key)
                if level == psycopg.IsolationLevel.READ_COMMITTED:
                    assert side.store.enqueue([factory.new_job(unique_key=key)], within=given) == [
                        Enqueued(Fate.KEY_TAKEN, other)
                    ]
                else:
                    with pytest.raises(StoreUnavailableError, match="in another's way"):
                        side.store.enqueue([factory.new_job(unique_key=key)], within=given)
                theirs.write(31 if key == "a" else 32)
            with contextlib.closing(side.connect()) as theirs:
                assert (31 if key == "a" else 32) in theirs.numbers()

    @pytest.mark.parametrize("driver", by_driver("sqlite3", "apsw", "psycopg", "pymongo"))
    def test_by_pymysql(self, _places: Callable[[str], Side], driver: str) -> None:
        """It is seen, though the server reads from a snapshot all the time."""
        side = _places(driver)
        with contextlib.closing(side.connect()) as theirs:
            theirs.raw.cursor().execute("set session transaction isolation level repeatable read")  # type: ignore[attr-defined]
            with theirs.transaction() as given:
                theirs.numbers()
                other = factory.new_job(unique_key="k", once_key="o", once_until=FOR_EVER)
                side.store.enqueue([other])
                jobs = [factory.new_job(unique_key="k"), factory.new_job(once_key="o", once_until=FOR_EVER), other]
                answers = side.store.enqueue(jobs, within=given)
                theirs.write(31)
            assert 31 in theirs.numbers()
        assert [answer.existing for answer in answers] == [other.id] * 3
        assert [answer.fate for answer in answers] == [Fate.KEY_TAKEN, Fate.KEY_TAKEN, Fate.REPEATED]

    @pytest.mark.parametrize("driver", ["sqlite3", "apsw"])
    def test_in_sqlite(self, _places: Callable[[str], Side], driver: str) -> None:
        """Who has read before another wrote cannot write any more; it is told at once, not after the patience."""
        side = _places(driver)
        with contextlib.closing(side.connect()) as theirs:
            theirs.raw.cursor().execute("begin")  # type: ignore[attr-defined]
            theirs.numbers()
            factory.enqueue(side.store)
            with pytest.raises(StoreUnavailableError):
                side.store.enqueue([factory.new_job()], within=theirs.given)
            theirs.rollback()
            with theirs.transaction() as given:
                side.store.enqueue([factory.new_job()], within=given)

    @pytest.mark.slow
    def test_by_pymongo(self, _places: Callable[[str], Side]) -> None:
        """The server undoes the transaction, and `with_transaction` of the driver does all of it again."""
        side = _places("pymongo")
        with contextlib.closing(side.connect()) as theirs:
            assert isinstance(theirs, PyMongo)
            others: list[bytes] = []
            answers: list[Enqueued] = []

            def work(session: object) -> None:
                theirs.write(31)
                if not others:
                    others.append(factory.enqueue(side.store, unique_key="k"))
                answers[:] = side.store.enqueue([factory.new_job(unique_key="k")], within=session)

            theirs.session.with_transaction(work)
            assert theirs.numbers() == [31]
            assert answers == [Enqueued(Fate.KEY_TAKEN, others[0])]


class TestElsewhere:
    """The same names of tables in another place."""

    def test_another_file(self, tmp_path: Path) -> None:
        """Also when the file of the jobs is attached to it: two files are not committed as one."""
        for library, connect in (("sqlite3", Sqlite3), ("apsw", Apsw)):
            stores = [SQLiteBackend(tmp_path / f"{library}-{number}.db", library=library) for number in range(2)]
            for store in stores:
                store.migrate()
            theirs: Any = connect(f"sqlite:///{tmp_path}/{library}-0.db")
            theirs.raw.cursor().execute(f"attach '{tmp_path}/{library}-1.db' as other")
            with pytest.raises(ConfigError, match=r"-0\.db' open as its main database, and the jobs are in .*-1\.db"):
                stores[1].enqueue([factory.new_job()], within=theirs.given)
            stores[0].enqueue([factory.new_job()], within=self._begun(theirs))
            theirs.rollback()
            theirs.close()
            for store in stores:
                store.close()

    @staticmethod
    def _begun(theirs: Theirs) -> object:
        theirs.begin()
        return theirs.given

    def test_a_store_in_memory(self) -> None:
        """It is its own, and nobody else can be in a transaction on it."""
        with contextlib.closing(SQLiteBackend(":memory:")) as store:
            store.migrate()
            assert not store.capabilities.joins
            with pytest.raises(ConfigError, match="in memory"):
                store.enqueue([factory.new_job()], within=sqlite3.connect(":memory:"))

    def test_sqlite3_beside_apsw(self, tmp_path: Path) -> None:
        """Two libraries on one file lose rows, so the way out is another option of the store."""
        with contextlib.closing(SQLiteBackend(tmp_path / "jobs.db")) as store:
            store.migrate()
            with pytest.raises(ConfigError, match=r"\?library=sqlite3"):
                store.enqueue([factory.new_job()], within=sqlite3.connect(":memory:"))

    def test_apsw_that_was_there_before(self, tmp_path: Path) -> None:
        """An application that opens its file through apsw first may have its jobs in it."""
        theirs = Apsw(f"sqlite:///{tmp_path}/app.db")
        with contextlib.closing(SQLiteBackend(tmp_path / "app.db")) as store:
            store.migrate()
            with theirs.transaction() as given:
                answers = store.enqueue([factory.new_job()], within=given)
            assert store.get([answers[0].existing])
        theirs.close()

    def test_another_thread(self, tmp_path: Path) -> None:
        """Python's sqlite3 keeps a connection to its thread, and says so."""
        url = f"sqlite:///{tmp_path}/jobs.db?library=sqlite3"
        with contextlib.closing(open_backend(url)) as store, ThreadPoolExecutor(1) as pool:
            store.migrate()
            theirs = Sqlite3(url)
            with pytest.raises(ConfigError, match="cannot be used here"):
                pool.submit(store.enqueue, [factory.new_job()], within=theirs.given).result()
            theirs.close()

    @pytest.mark.slow
    def test_another_postgresql_database(self, postgres_urls: tuple[str, str]) -> None:
        """It has tables of the same names, and another identity."""
        prefix = postgres.new_prefix()
        here, there = (PostgresBackend(url, prefix=prefix) for url in postgres_urls)
        with contextlib.closing(here), contextlib.closing(there):
            here.migrate()
            there.migrate()
            with contextlib.closing(Psycopg(postgres_urls[1])) as theirs, theirs.transaction() as given:
                with pytest.raises(ConfigError, match="another store than this one"):
                    here.enqueue([factory.new_job(queue="new")], within=given)
                there.enqueue([factory.new_job()], within=given)
            assert here.tally().counts.get("waiting", 0) == 0
            assert there.tally().counts["waiting"] == 1
            # Made anew, it is another store for those that had it open before, too.
            while there.rollback() is not None:
                pass
            there.migrate()
            with contextlib.closing(Psycopg(postgres_urls[1])) as theirs, theirs.transaction() as given:
                there.enqueue([factory.new_job()], within=given)
            assert there.tally().counts["waiting"] == 1

    @pytest.mark.slow
    def test_another_postgresql_schema(self, postgres_url: str) -> None:
        """The search path of the application leads past the tables, unless the store says where they are."""
        prefix = postgres.new_prefix()
        store = PostgresBackend(postgres_url, prefix=prefix)
        said = PostgresBackend(postgres_url, prefix=prefix, schema="public")
        with contextlib.closing(store), contextlib.closing(said):
            store.migrate()
            options = {"options": "-c search_path=pg_catalog"}
            with contextlib.closing(psycopg.connect(postgres_url, **options)) as theirs:  # type: ignore[arg-type]
                with pytest.raises(ConfigError, match="search_path"):
                    store.enqueue([factory.new_job()], within=theirs)
                [answer] = said.enqueue([factory.new_job()], within=theirs)
                theirs.commit()
            assert store.get([answer.existing])

    @pytest.mark.slow
    def test_another_mysql_database(self, mariadb_url: str) -> None:
        """It has none of the tables."""
        with contextlib.closing(MySQLBackend(mariadb_url, prefix=f"t_{secrets.token_hex(6)}_")) as store:
            store.migrate()
            theirs = PyMySQL(mariadb_url)
            theirs.raw.select_db("information_schema")
            with contextlib.closing(theirs), pytest.raises(ConfigError, match="no tables of this store"):
                store.enqueue([factory.new_job()], within=theirs.given)

    @pytest.mark.slow
    def test_another_mongodb_database(self) -> None:
        """It has collections of the same names, and another identity."""
        prefix = f"t-{secrets.token_hex(6)}"
        with using(SERVERS["mongodb"]) as url, using(SERVERS["mongodb-standalone"]) as alone:
            stores = [MongoBackend(place, prefix=prefix) for place in (url, alone)]
            for store in stores:
                store.migrate()
            with MongoClient[dict[str, Any]](url) as client, client.start_session() as session:
                with (
                    pytest.raises(ConfigError, match="another store than this one"),
                    session.start_transaction(),
                ):
                    stores[1].enqueue([factory.new_job()], within=session)
                with session.start_transaction():
                    stores[0].enqueue([factory.new_job()], within=session)
            assert stores[0].tally().counts["waiting"] == 1
            with (
                MongoClient[dict[str, Any]](alone) as client,
                client.start_session() as session,
                pytest.raises(ConfigError, match="stands alone"),
                session.start_transaction(),
            ):
                stores[1].enqueue([factory.new_job()], within=session)
            for store in stores:
                while store.rollback() is not None:
                    pass
                store.close()

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["redis", "valkey"])
    def test_redis(self, kind: str) -> None:
        """It has no transactions that could be joined, and says so."""
        with using(SERVERS[kind]) as url, contextlib.closing(RedisBackend(url)) as store:
            assert not store.capabilities.joins
            with pytest.raises(ConfigError, match="a Redis store cannot join a transaction"):
                store.enqueue([factory.new_job()], within=object())


class TestConnections:
    """What an application has taught its connection is nothing to the jobs."""

    def test_sqlite3_with_rows_of_its_own(self, tmp_path: Path) -> None:
        """Rows as dictionaries, texts as bytes; and it has them as before afterwards."""
        url = f"sqlite:///{tmp_path}/jobs.db?library=sqlite3"
        with contextlib.closing(open_backend(url)) as store, contextlib.closing(Sqlite3(url)) as theirs:
            store.migrate()
            theirs.raw.row_factory, theirs.raw.text_factory = sqlite3.Row, bytes
            self._go_through_all(store, theirs)
            assert theirs.raw.row_factory is sqlite3.Row and theirs.raw.text_factory is bytes

    def test_apsw_with_rows_of_its_own(self, tmp_path: Path) -> None:
        """A row trace changes what every cursor gives."""
        url = f"sqlite:///{tmp_path}/jobs.db"
        with contextlib.closing(open_backend(url)) as store, contextlib.closing(Apsw(url)) as theirs:
            store.migrate()
            theirs.raw.row_trace = lambda cursor, row: {"row": row}
            self._go_through_all(store, theirs)

    @pytest.mark.slow
    def test_psycopg_with_rows_and_adapters_of_its_own(
        self, postgres_store: PostgresBackend, postgres_url: str
    ) -> None:
        """Rows as dictionaries, ids and numbers as something else, no prepared statements."""
        with contextlib.closing(Psycopg(postgres_url, prepare_threshold=None)) as theirs:
            theirs.raw.row_factory = dict_row
            theirs.raw.adapters.register_loader("uuid", TextLoader)
            theirs.raw.adapters.register_loader("int8", TextLoader)
            self._go_through_all(postgres_store, theirs)

    @pytest.mark.slow
    def test_psycopg_in_another_encoding(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """Texts would be stored as others."""
        with (
            contextlib.closing(Psycopg(postgres_url, client_encoding="LATIN1")) as theirs,
            pytest.raises(ConfigError, match="client_encoding=UTF8"),
        ):
            postgres_store.enqueue([factory.new_job()], within=theirs.given)

    @pytest.mark.slow
    def test_psycopg_after_an_error(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """What has failed cannot be committed; in a savepoint of its own only that has."""
        with contextlib.closing(Psycopg(postgres_url)) as theirs:
            with theirs.raw.transaction():
                with contextlib.suppress(psycopg.Error), theirs.raw.transaction():
                    theirs.raw.execute("select 1/0")
                [answer] = postgres_store.enqueue([factory.new_job()], within=theirs.given)
            assert postgres_store.get([answer.existing])
            with contextlib.suppress(psycopg.Error):
                theirs.raw.execute("select 1/0")
            with pytest.raises(ConfigError, match="roll it back first"):
                postgres_store.enqueue([factory.new_job()], within=theirs.given)
            theirs.rollback()
            with theirs.raw.pipeline(), pytest.raises(ConfigError, match="pipeline"):
                postgres_store.enqueue([factory.new_job()], within=theirs.given)

    @pytest.mark.slow
    def test_psycopg_cursors_and_transactions(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """Whatever stands on a connection will do."""
        with contextlib.closing(Psycopg(postgres_url)) as theirs:
            with theirs.raw.transaction() as transaction, theirs.raw.cursor() as cursor:
                answers = [
                    *postgres_store.enqueue([factory.new_job()], within=transaction),
                    *postgres_store.enqueue([factory.new_job()], within=cursor),
                ]
                assert postgres_store.get([answer.existing for answer in answers]) == []
            assert len(postgres_store.get([answer.existing for answer in answers])) == 2

    @pytest.mark.slow
    def test_a_psycopg_connection_that_is_lost(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """The error is one of ours, whatever the driver's is."""
        with contextlib.closing(Psycopg(postgres_url)) as theirs:
            theirs.write(1)
            pid = theirs.raw.info.backend_pid
            postgres.raw(postgres_store, "select pg_terminate_backend(%s::integer, 5000)", pid)
            with pytest.raises(StoreUnavailableError):
                postgres_store.enqueue([factory.new_job()], within=theirs.given)
            with pytest.raises(ConfigError, match="closed"):
                postgres_store.enqueue([factory.new_job()], within=theirs.given)

    @pytest.mark.slow
    def test_an_asynchronous_connection(self, postgres_store: PostgresBackend, postgres_url: str) -> None:
        """It cannot be used from here."""

        async def work() -> None:
            async with await psycopg.AsyncConnection.connect(postgres_url) as theirs:
                postgres_store.enqueue([factory.new_job()], within=theirs)

        with pytest.raises(ConfigError, match=r"not asynchronous; this is a psycopg\.AsyncConnection"):
            asyncio.run(work())

    @pytest.mark.slow
    def test_pymysql_with_rows_of_its_own(self, mariadb_url: str) -> None:
        """Rows as dictionaries, and another collation."""
        with contextlib.closing(MySQLBackend(mariadb_url, prefix=f"t_{secrets.token_hex(6)}_")) as store:
            store.migrate()
            options = {"cursorclass": pymysql.cursors.DictCursor, "collation": "utf8mb4_unicode_ci"}
            with contextlib.closing(PyMySQL(mariadb_url, **options)) as theirs:
                self._go_through_all(store, theirs)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"charset": "latin1"}, "charset=utf8mb4"),
            ({"sql_mode": ""}, "STRICT_ALL_TABLES"),
            ({"sql_mode": "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES"}, "NO_BACKSLASH_ESCAPES"),
        ],
    )
    def test_pymysql_that_would_change_texts(self, mariadb_url: str, options: dict[str, str], why: str) -> None:
        """Nothing is stored that would not be as it was."""
        with contextlib.closing(MySQLBackend(mariadb_url, prefix=f"t_{secrets.token_hex(6)}_")) as store:
            store.migrate()
            with contextlib.closing(PyMySQL(mariadb_url, **options)) as theirs, pytest.raises(ConfigError, match=why):
                store.enqueue([factory.new_job()], within=theirs.given)

    def _go_through_all(self, store: Backend, theirs: Theirs) -> None:
        """Every statement that an enqueue may need."""
        waiting = factory.enqueue(store, unique_key="waiting")
        there = factory.new_job(unique_key="k", once_key="o", once_until=FOR_EVER)
        store.enqueue([there])
        with theirs.transaction() as given:
            jobs = [
                there,
                factory.new_job(unique_key="k"),
                factory.new_job(once_key="o", once_until=FOR_EVER),
                factory.new_job(unique_key="waiting", replaces=True, args='["ä"]'),
                factory.new_job(once_key="new", once_until=FOR_EVER, queue="new"),
            ]
            answers = store.enqueue(jobs, within=given)
        fates = [Fate.REPEATED, Fate.KEY_TAKEN, Fate.KEY_TAKEN, Fate.REPLACED, Fate.STORED]
        assert [answer.fate for answer in answers] == fates
        assert factory.row_of(store, waiting).args == '["ä"]'


# ------------------------------------------------------------------ the public checks, each enqueue within


ENQUEUES = ("check_enqueue", "check_unique", "check_once", "check_order")
"""The modules of checks whose subject is how jobs come in."""
_CLASSES = {"sqlite": SQLiteBackend, "postgres": PostgresBackend, "mongodb": MongoBackend}


def checks() -> list[str]:
    return [name for name, check in CHECKS.items() if check.__wrapped__.__module__.endswith(ENQUEUES)]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    kind, connect = KINDS[request.param]
    folder = tmp_path_factory.mktemp("checks")
    urls: dict[int, str] = {}

    def open_at(name: str, clock: FrozenClock) -> Backend:
        url, given = server, {"prefix": name}
        if kind == "sqlite":
            url, given = f"sqlite:///{folder}/{name}.db?library={request.param}", {}
        store: Backend = _CLASSES.get(kind, MySQLBackend)(url, clock=clock, **given)
        urls[id(store)] = url
        return store

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        return functools.partial(open_at, f"t_{secrets.token_hex(6)}_", clock)

    def through(store: Backend) -> Backend:
        return cast(Backend, EnqueuesWithin(store, functools.partial(connect, urls[id(store)])))

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(using(SERVERS[kind])) if kind != "sqlite" else ""
        yield Harness(new_store, through=through, shelf=Shelf(open_at))


@pytest.mark.parametrize("harness", by_driver(), indirect=True)
@pytest.mark.parametrize("name", checks())
def test_a_public_check_within(harness: Harness, name: str) -> None:
    """Whoever enqueues in a transaction of his own meets the same rules as everybody."""
    run_check(name, harness)
