"""The base of SQL stores: a store of one's own on it, in few lines, passes the whole public suite."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import postgres
from helpers.stores import in_fork
from jobcard import Jobcard
from jobcard.backends.base import Backend, Fate, RecordKind
from jobcard.backends.mysql.dialect import MYSQL
from jobcard.backends.registry import open_backend
from jobcard.backends.sql import DriverConnection, JoinedConnection, Options, SQLBackend, by_sqlstate
from jobcard.backends.sql.connection import Step
from jobcard.backends.sql.errors import ConflictError, StatementError, UniqueKeyError
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import OwnValues, in_pieces, placed
from jobcard.backends.url import parse
from jobcard.backends.within import connection_in
from jobcard.conformance import BackendSuite, Crowd, Harness, Shelf, factory, run_histories
from jobcard.conformance.drawing import SHORT
from jobcard.core.clock import FrozenClock
from jobcard.errors import ConfigError, InvalidJobError, StoreFullError, StoreMovedError, StoreUnavailableError
from samples import pg8000_store
from samples.pg8000_store import PG8000Backend

SAMPLE = Path(pg8000_store.__file__).parent
PAGE = Path(__file__).resolve().parents[2] / "docs" / "backends.md"


def pg8000_url(url: str) -> str:
    return url.replace("postgresql://", "pg8000://")


@functools.cache
def shelf(url: str) -> Shelf:
    return Shelf(lambda prefix, clock: PG8000Backend(url, clock=clock, prefix=prefix))


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.turns
class TestPG8000(BackendSuite):
    # The stores on this base are tested at full size.
    histories = SHORT
    crowd = Crowd(histories=5)

    @pytest.fixture
    def harness(self, postgres_urls: tuple[str, str]) -> Iterator[Harness]:
        def new_store(clock: FrozenClock) -> Callable[[], Backend]:
            prefix = postgres.new_prefix()
            return lambda: PG8000Backend(pg8000_url(postgres_urls[1]), clock=clock, prefix=prefix)

        harness = Harness(new_store, shelf=shelf(pg8000_url(postgres_urls[1])))
        yield harness
        harness.close()

    @pytest.mark.timeout(900)
    def test_random_histories_agree_with_the_model(self, harness: Harness) -> None:
        """Thousands of statements, each a trip of its own."""
        run_histories(harness.fresh, self.histories)


@pytest.fixture
def store(postgres_url: str) -> Iterator[PG8000Backend]:
    """The sample store by the server's own clock."""
    backend = PG8000Backend(pg8000_url(postgres_url), prefix=postgres.new_prefix())
    backend.migrate()
    yield backend
    backend.close()


class TestTheSample:
    def test_it_has_fewer_than_150_lines(self) -> None:
        """All counted: Python and SQL, comments and empty lines."""
        files = [path for path in SAMPLE.rglob("*") if path.suffix in (".py", ".sql")]
        assert sum(len(path.read_text("utf-8").splitlines()) for path in files) < 150

    def test_the_documentation_shows_it_whole(self) -> None:
        """What the page says is the store that is tested here."""
        blocks = re.findall(r"^```(?:python|sql)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
        for path in (SAMPLE / "__init__.py", SAMPLE / "sql" / "schema_lock.sql", SAMPLE / "sql" / "schema_unlock.sql"):
            assert path.read_text("utf-8") in blocks

    @pytest.mark.slow
    def test_it_is_found_by_its_dotted_path(self, store: PG8000Backend) -> None:
        """As an application names it, without an entry point."""
        opened = open_backend(
            store._shown.replace("***", store._options.password),
            {"prefix": store._prefix},
            backend="samples.pg8000_store:PG8000Backend",
        )
        factory.enqueue_several(opened, 2)
        assert store.tally().counts["waiting"] == 2
        opened.close()

    @pytest.mark.slow
    def test_a_whole_application_runs_on_it(self, store: PG8000Backend) -> None:
        """Enqueue, run, look up, with an engine in this process."""
        with Jobcard(backend=store) as jobs:

            @jobs.job(name="double")
            def double(number: int) -> int:
                return 2 * number

            handles = [double.enqueue(number) for number in range(20)]
            jobs.run(in_process=True, until_empty=True)
            assert [handle.result(timeout=60) for handle in handles] == [2 * number for number in range(20)]

    @pytest.mark.slow
    def test_a_forked_child_has_a_connection_of_its_own(self, store: PG8000Backend) -> None:
        """Parent and child use the store at the same time."""
        factory.enqueue(store)

        def in_child() -> None:
            assert store.enqueue([factory.new_job()])[0].fate is Fate.STORED
            store.close()

        in_fork(in_child)
        factory.enqueue(store)
        assert store.tally().counts["waiting"] == 3

    @pytest.mark.slow
    def test_a_server_that_said_goodbye_is_not_noticed(self, store: PG8000Backend) -> None:
        """An idle connection that the server has ended is left aside for a new one."""
        factory.enqueue(store)
        with store._pool.use() as connection:
            [(process,)] = connection.execute("select pg_backend_pid()")
        killer = PG8000Backend.open_connection(store._options)
        killer.execute("select pg_terminate_backend(%(process)s, 10000)", {"process": process})
        killer.close()
        factory.enqueue(store)
        assert store.tally().counts["waiting"] == 2

    @pytest.mark.slow
    def test_facts_come_from_the_server(self, store: PG8000Backend) -> None:
        """Its own version, and the time by its clock."""
        facts = store.facts()
        assert (facts.store, [*facts.problems]) == ("postgresql", [])
        assert facts.version.startswith("PostgreSQL ")
        assert len(facts.identity) == 32

    @pytest.mark.slow
    def test_a_record_written_twice_at_once_is_written_once(self, store: PG8000Backend) -> None:
        """A unique index that refuses a row ends the transaction in PostgreSQL; the store goes on."""
        assert store.write_record(RecordKind.QUEUE, "a", "{}", expect=0) == 1
        assert store.write_record(RecordKind.QUEUE, "a", "{}", expect=0) is None
        assert store.write_record(RecordKind.QUEUE, "a", "{}") == 2


class TestStatements:
    def test_a_stores_own_file_goes_first(self) -> None:
        """Of two statements of one name the one in the store's package is taken."""
        of_mysql, of_sample = Statements(MYSQL, "t_"), Statements(PG8000Backend.dialect, "t_")
        assert "on duplicate key" in of_mysql["put_record"]
        assert "on conflict" in of_sample["put_record"]
        assert "get_lock" in of_mysql["schema_lock"]
        assert "pg_advisory_lock" in of_sample["schema_lock"]

    def test_words_of_the_dialect_are_filled_in(self) -> None:
        """Hints, quotes and the names of tables; nothing is left in braces but what code fills in."""
        of_mysql, of_sample = Statements(MYSQL, "t_"), Statements(PG8000Backend.dialect, "t_")
        assert "from t_jobs force index (by_line)\n" in of_mysql["claim"] and "order by `rank`" in of_mysql["claim"]
        assert "from t_jobs\n" in of_sample["claim"] and 'order by "rank"' in of_sample["claim"]
        left = {
            "assignments",
            "result",
            "source",
            "started_ago",
            "state",
            "queue",
            "refs",
            "until",
            "table",
            "trigger",
            "wanted",
            "where",
            "write",
            "collation",
        }
        for sql in (of_mysql, of_sample):
            up = [text for migration in sql.migrations() for text in migration.up]
            assert {word for text in [*sql.values(), *up] for word in re.findall(r"\{(\w+)", text)} <= left

    def test_migrations_of_a_store_take_the_place_of_ours(self) -> None:
        """A package with that folder has its own tables."""
        assert "InnoDB" in Statements(MYSQL, "t_").migrations()[0].up[0]
        assert "InnoDB" not in Statements(PG8000Backend.dialect, "t_").migrations()[0].up[0]

    def test_no_word_holds_a_percent_sign(self) -> None:
        """It would be taken for a place of a value."""
        for dialect in (MYSQL, PG8000Backend.dialect):
            words = [getattr(dialect, each.name) for each in dataclasses.fields(dialect)]
            assert not [w for w in words if isinstance(w, str) and "%" in w.replace("%(refs)s", "")]


class TestValues:
    @pytest.mark.parametrize(
        ("style", "text", "given"),
        [
            ("format", "a = %s and b = %s", ["x", 1]),
            ("qmark", "a = ? and b = ?", ["x", 1]),
            ("numeric", "a = :1 and b = :2", ["x", 1]),
            ("pyformat", "a = %(v1)s and b = %(v2)s", {"v1": "x", "v2": 1}),
            ("named", "a = :v1 and b = :v2", {"v1": "x", "v2": 1}),
        ],
    )
    def test_each_style_of_places(self, style: str, text: str, given: object) -> None:
        """All that PEP 249 knows."""
        assert placed("a = %(a)s and b = %(b)s", {"a": "x", "b": 1, "c": 2}, style) == (text, given)

    def test_lists_take_places_and_rows_brackets(self) -> None:
        """`in (…)`, `values (…), (…)`."""
        assert placed("n in (%(refs)s)", {"refs": [1, 2]}, "qmark") == ("n in (?, ?)", [1, 2])
        rows = [(1, "a"), (2, None)]
        assert placed("values %(rows)s", {"rows": rows}, "qmark") == ("values (?, ?), (?, ?)", [1, "a", 2, None])

    def test_own_values_follow_the_number_of_the_job(self) -> None:
        """Whole numbers are written, all else has a place."""
        own = OwnValues([(7, "a"), (8, None), (9, 5)])
        assert placed("case n %(own)s end", {"own": own}, "qmark") == (
            "case n when 7 then ? when 8 then ? when 9 then 5 end",
            ["a", None],
        )

    def test_members_of_an_enumeration_go_as_their_text(self) -> None:
        """A driver knows the standard types."""
        [value] = placed("%(kind)s", {"kind": RecordKind.QUEUE}, "qmark")[1]
        assert type(value) is str

    def test_half_a_surrogate_pair_is_refused_before_anything_is_sent(self) -> None:
        """A driver that found out in the middle of a message would have spoilt its connection."""
        with pytest.raises(InvalidJobError):
            placed("%(text)s", {"text": "\ud800"}, "qmark")

    def test_pieces_have_neither_too_much_text_nor_too_many_values(self) -> None:
        """A row that is too large by itself stands alone."""
        rows = [("x" * 10, 1)] * 5
        assert [len(piece) for piece in in_pieces(rows, 40, 100)] == [2, 2, 1]
        assert [len(piece) for piece in in_pieces(rows, 1000, 6)] == [3, 2]
        assert [len(piece) for piece in in_pieces(rows, 1, 1)] == [1] * 5


class Raw:
    """A driver's connection that raises what it is told."""

    def __init__(self, *errors: BaseException | None) -> None:
        self.errors = list(errors)
        self.said: list[str] = []
        self.description = None
        self.rowcount = 1

    def cursor(self) -> Raw:
        return self

    def execute(self, text: str, given: object = None) -> None:
        self.said.append(text)
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error

    def close(self) -> None:
        pass


def connection_to(raw: Raw) -> DriverConnection:
    return DriverConnection(lambda: raw, PG8000Backend.dialect, Options(database="d"))


class TestDriverConnections:
    def test_a_transaction_begins_with_its_first_statement(self) -> None:
        """One that asks nothing says nothing; one that fails is taken back."""
        raw = Raw()
        connection = connection_to(raw)
        with connection.transaction():
            pass
        assert raw.said == []
        with connection.transaction():
            connection.execute("first")
            connection.commit(Step("last"))
        with pytest.raises(ZeroDivisionError), connection.transaction():
            connection.execute("other")
            raise ZeroDivisionError
        assert raw.said == ["start transaction", "first", "last", "commit", "start transaction", "other", "rollback"]

    def test_a_refused_statement_leaves_the_connection_in_order(self) -> None:
        """The server answered, so it may be asked again."""
        refused = pg8000_store.pg8000.DatabaseError({"C": "22003", "M": "out of range"})
        connection = connection_to(Raw(refused))
        with pytest.raises(InvalidJobError):
            connection.execute("insert")
        assert connection.is_usable()

    @pytest.mark.parametrize("error", [ConnectionResetError(), KeyboardInterrupt(), ValueError("of the driver's")])
    def test_whatever_is_no_answer_ends_the_connection(self, error: BaseException) -> None:
        """Answers may be left on the line; nobody reads those of another."""
        connection = connection_to(Raw(error))
        with pytest.raises((StoreUnavailableError, KeyboardInterrupt, ValueError)):
            connection.execute("select")
        assert not connection.is_usable()
        with pytest.raises(StoreUnavailableError, match="lost"):
            connection.execute("select")

    def test_a_conflict_is_tried_again(self) -> None:
        """As for every store: deadlocks are nobody's business."""
        deadlock = pg8000_store.pg8000.DatabaseError({"C": "40P01", "M": "deadlock detected"})
        raw = Raw(deadlock, deadlock)
        connection = connection_to(raw)
        connection.again(lambda: connection.execute("update"))
        assert raw.said == ["update"] * 3


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("23505", UniqueKeyError),
        ("40001", ConflictError),
        ("40P01", ConflictError),
        ("42P01", StatementError),
        ("22021", InvalidJobError),
        ("23502", InvalidJobError),
        ("28P01", ConfigError),
        ("3D000", ConfigError),
        ("53100", StoreFullError),
        ("57P01", StoreUnavailableError),
        ("08006", StoreUnavailableError),
        ("55P03", StoreUnavailableError),
        ("JC001", StoreMovedError),
    ],
)
def test_sqlstates_are_told_apart(state: str, kind: type[Exception]) -> None:
    """By code; what the server says is only shown."""
    assert type(by_sqlstate(state, "duplicate deadlock")) is kind


class TestOptions:
    def test_the_usual_ones_come_from_the_url(self) -> None:
        """Durations in seconds; code wins."""
        url = "pg8000://me:secret@there:5433/shop?prefix=a_&call_timeout=3"
        options: Any = PG8000Backend(url, prefix="b_", patience=1)._options
        assert (options.host, options.port, options.user, options.password) == ("there", 5433, "me", "secret")
        assert (options.database, options.prefix, options.call_timeout, options.lock_timeout) == ("shop", "b_", 3, 1)

    def test_an_unknown_one_is_refused_with_the_nearest(self) -> None:
        """Before anything is opened."""
        with pytest.raises(ConfigError, match="did you mean 'prefix'"):
            PG8000Backend("pg8000://there/shop?prefx=a_")
        with pytest.raises(ConfigError, match="names no database; for example pg8000://"):
            PG8000Backend("pg8000://there")

    def test_a_password_is_not_shown(self) -> None:
        """Neither by the store nor by its options."""
        store = PG8000Backend("pg8000://me:secret@there/shop")
        assert repr(store).startswith("PG8000Backend(")
        assert "secret" not in repr(store) + repr(store._options)

    def test_a_store_must_say_how_to_connect(self) -> None:
        """The base alone is none."""
        with pytest.raises(NotImplementedError, match="connect"):
            SQLBackend.connect(Options(database="d"))


class Joins(PG8000Backend):
    """The sample as it would be for transactions of its users."""

    capabilities = SQLBackend.capabilities._replace(joins=True)

    def join(self, given: object) -> JoinedConnection:
        raw = connection_in(given, (pg8000_store.pg8000.Connection,), "a pg8000 connection")
        return JoinedConnection(raw, self.dialect, self._options)


@pytest.mark.slow
class TestWithin:
    def test_a_store_that_says_nothing_joins_none(self, store: PG8000Backend) -> None:
        """It need not know of it."""
        assert not store.capabilities.joins
        with pytest.raises(ConfigError, match="this PG8000 store cannot join a transaction"):
            store.enqueue([factory.new_job()], within=object())

    def test_a_method_is_all_it_takes(self, postgres_url: str) -> None:
        """The statements are those of every enqueue; what fails is undone alone."""
        store = Joins(pg8000_url(postgres_url), prefix=postgres.new_prefix())
        store.migrate()
        parts = parse(postgres_url)
        raw = pg8000_store.pg8000.connect(
            parts.user, host=parts.host, port=parts.port, database=parts.path, password=parts.password
        )
        there = factory.new_job(unique_key="k")
        once = {"once_key": "o", "once_until": 1 << 60}
        store.enqueue([there])
        jobs = [factory.new_job(unique_key="k"), there, factory.new_job(**once), factory.new_job(**once)]
        fates = [Fate.KEY_TAKEN, Fate.REPEATED, Fate.STORED, Fate.KEY_TAKEN]
        for ends, ids in ((raw.rollback, {there.id}), (raw.commit, {there.id, jobs[2].id})):
            assert [answer.fate for answer in store.enqueue(jobs, within=raw)] == fates
            raw.cursor().execute("select 1")
            ends()
            assert {row.id for row in store.get([job.id for job in jobs])} == ids
        with pytest.raises(InvalidJobError):
            store.enqueue([factory.new_job(args=b'["\\ud800"]'.decode("unicode_escape"))], within=raw)
        [answer] = store.enqueue([factory.new_job()], within=raw)
        raw.commit()
        assert store.get([answer.existing])
        raw.close()
        store.close()
