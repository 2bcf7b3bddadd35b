"""Connections that new jobs cannot be written by, and what an application may have taught those that they can."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from pymongo import MongoClient

from helpers import postgres
from helpers.servers import KINDS as SERVERS
from helpers.servers import using
from helpers.theirs import Apsw, Psycopg, PyMySQL, Sqlite3, Theirs
from jobcard.backends.base import Backend, Fate
from jobcard.backends.mongodb import MongoBackend
from jobcard.backends.mysql import MySQLBackend
from jobcard.backends.postgres import PostgresBackend
from jobcard.backends.redis import RedisBackend
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.errors import ConfigError, StoreUnavailableError

FOR_EVER = 1 << 60


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

    @pytest.fixture
    def in_memory(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            yield connection

    def test_a_store_in_memory(self, in_memory: sqlite3.Connection) -> None:
        """It is its own, and nobody else can be in a transaction on it."""
        with contextlib.closing(SQLiteBackend(":memory:")) as store:
            store.migrate()
            assert not store.capabilities.joins
            with pytest.raises(ConfigError, match="in memory"):
                store.enqueue([factory.new_job()], within=in_memory)

    def test_an_encrypted_file(self, tmp_path: Path, in_memory: sqlite3.Connection) -> None:
        """Nobody can tell which files its library has open, so the store keeps it to itself."""
        with contextlib.closing(SQLiteBackend(tmp_path / "jobs.db", encryption_key="secret")) as store:
            store.migrate()
            assert not store.capabilities.joins
            with pytest.raises(ConfigError, match="keeps its file to itself"):
                store.enqueue([factory.new_job()], within=in_memory)

    def test_sqlite3_beside_apsw(self, tmp_path: Path, in_memory: sqlite3.Connection) -> None:
        """Two libraries on one file lose rows, so the way out is another option of the store."""
        with contextlib.closing(SQLiteBackend(tmp_path / "jobs.db")) as store:
            store.migrate()
            with pytest.raises(ConfigError, match=r"\?library=sqlite3"):
                store.enqueue([factory.new_job()], within=in_memory)

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
            with pytest.raises(ConfigError, match="this Redis store cannot join a transaction"):
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
