"""New jobs as part of somebody else's transaction, by each driver: there if and only if it commits."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from helpers.places import new_place
from helpers.theirs import KINDS, Apsw, Psycopg, PyMongo, PyMySQL, Sqlite3, Theirs
from jobcard.backends.base import Enqueued, Fate, RecordKind
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
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
