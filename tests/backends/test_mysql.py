# ruff: noqa: S608 - the only thing put into these statements is a prefix of our own
"""The MySQL store: the public suite on MariaDB and on MySQL, and what only such a server does to it."""

from __future__ import annotations

import functools
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pymysql
import pytest

from helpers.days import has_its_turn
from helpers.facade import AT_ONCE, check_through_the_facade, histories_through_the_facade
from helpers.mysql_servers import OwnServer, direct_connection, new_prefix
from helpers.servers import MySQL, _free_port
from helpers.stores import in_fork
from helpers.waiting import wait_until
from jobcard.backends.base import Backend, Completions, Fate, Filter, Outcome, RecordKind, Verdict, Want
from jobcard.backends.mysql import MySQLBackend, checkup, connection, drivers, errors
from jobcard.backends.mysql.dialect import MYSQL
from jobcard.backends.mysql.options import read_options
from jobcard.backends.registry import open_backend
from jobcard.backends.sql.schema import Schema
from jobcard.backends.sql.statements import statements
from jobcard.backends.verbs import NotAllowedError
from jobcard.conformance import (
    AsyncBackendSuite,
    BackendSuite,
    Harness,
    Shelf,
    factory,
)
from jobcard.conformance.drawing import SERVER, SHORT
from jobcard.conformance.races import both_at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed
from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    CorruptRecordError,
    InvalidJobError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

# A history is hundreds of writes: on a busy machine they take their time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def mysql_harness(url: str) -> Harness:
    """Each store has tables of its own. Without TLS, which takes half of the time and has tests of its own."""
    url = MySQL().told_apart(url)

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = new_prefix()
        return lambda: MySQLBackend(url, clock=clock, prefix=prefix)

    return Harness(new_store, spoil=lambda store, job_id: spoil(url, store, job_id), shelf=shelf(url))


@functools.cache
def shelf(url: str) -> Shelf:
    """Making the tables takes most of many a test's time."""
    return Shelf(lambda prefix, clock: MySQLBackend(url, clock=clock, prefix=prefix))


def spoil(url: str, store: Backend, job_id: bytes) -> None:
    """Arguments that are no text: the server takes them once somebody has made bytes of their column."""
    assert isinstance(store, MySQLBackend)
    with closing(direct_connection(url)) as direct:
        run(direct, f"alter table {store._prefix}jobs modify args longblob not null")
        run(direct, f"update {store._prefix}jobs set args = x'ff00' where id = x'{job_id.hex()}'")


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.turns)])
def url(request: pytest.FixtureRequest) -> str:
    """Either server."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


class TestMariaDB(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, mariadb_url: str) -> Iterator[Harness]:
        harness = mysql_harness(mariadb_url)
        yield harness
        harness.close()


class TestMySQL(BackendSuite):
    histories = SERVER if has_its_turn("MySQL") else SHORT

    @pytest.fixture
    def harness(self, mysql_url: str) -> Iterator[Harness]:
        harness = mysql_harness(mysql_url)
        yield harness
        harness.close()


@pytest.mark.long
class TestMariaDBAwaited(AsyncBackendSuite, TestMariaDB):
    """The same through the async facade."""


@pytest.mark.long
class TestMySQLAwaited(AsyncBackendSuite, TestMySQL):
    """The same through the async facade."""


@pytest.mark.parametrize("name", AT_ONCE)
def test_through_the_async_facade(name: str, mariadb_url: str) -> None:
    """The facade is the same for every store; what threads and connections have a part in is seen on each."""
    check_through_the_facade(name, mysql_harness(mariadb_url))


@pytest.mark.slow
@pytest.mark.turns
def test_histories_through_the_async_facade(mariadb_url: str) -> None:
    """Awaited, too, the store holds what the model holds, and several threads are told what fits together."""
    histories_through_the_facade(mysql_harness(mariadb_url))


@pytest.fixture
def store(url: str) -> Iterator[MySQLBackend]:
    """A store by the server's own clock."""
    backend = MySQLBackend(url, prefix=new_prefix())
    backend.migrate()
    yield backend
    backend.close()


@pytest.fixture
def direct(url: str) -> Iterator[Any]:
    """The server itself."""
    raw = direct_connection(url)
    yield raw
    raw.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    server = OwnServer(tmp_path)
    server.start()
    yield server
    server.kill()


def claim(store: Backend, number: int = 1, *, owner: str = "engine", lease: int = 60_000_000) -> list[Claimed]:
    return store.exchange(owner, want=Want([("default", number)], number), lease=lease).claimed


def run(raw: Any, statement: str) -> Any:
    with raw.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


# ------------------------------------------------------------------ at once with others


def test_a_claim_passes_over_what_others_have_locked(store: MySQLBackend, direct: Any) -> None:
    """An engine in the middle of its claim keeps nobody waiting, and only its own jobs from others."""
    ids = factory.enqueue_several(store, 6)
    line = f"select n from {store._prefix}jobs where line = 'default' order by `rank`, order_at, id limit 3 for update"
    run(direct, "set session transaction isolation level read committed")
    run(direct, "begin")
    assert len(run(direct, line)) == 3
    assert [job.id for job in claim(store, 6)] == ids[3:]  # the lock is held meanwhile: who waits for it fails
    run(direct, "rollback")
    assert [job.id for job in claim(store, 6)] == ids[:3]


def test_a_due_job_that_is_locked_is_let_in_later(url: str, direct: Any) -> None:
    """Letting delayed jobs in waits for nobody either."""
    clock = FrozenClock()
    store = MySQLBackend(url, prefix=new_prefix(), clock=clock)
    store.migrate()
    first, second = (factory.enqueue(store, delay=1_000_000) for _ in range(2))
    clock.advance(1)
    run(direct, "begin")
    run(direct, f"select n from {store._prefix}jobs where id = x'{first.hex()}' for update")
    assert [job.id for job in claim(store, 5)] == [second]
    run(direct, "rollback")
    assert [job.id for job in claim(store, 5)] == [first]
    store.close()


def test_a_lock_held_too_long_is_an_error_and_undoes_all(url: str, store: MySQLBackend, direct: Any) -> None:
    """A timeout undoes one statement for the server; the store undoes the rest, and says that it may be repeated."""
    impatient = MySQLBackend(url, prefix=store._prefix, patience=1, call_timeout=1)
    factory.enqueue_several(store, 2)
    free, locked = claim(store, 2)
    run(direct, "begin")
    run(direct, f"select n from {store._prefix}jobs where n = {locked.ref} for update")
    done = [Outcome(job.ref, job.token, states.hand_back(job)) for job in (free, locked)]
    with pytest.raises(StoreUnavailableError):
        impatient.exchange("engine", outcomes=done)
    assert factory.row_of(store, free.id).state == "claimed"
    run(direct, "rollback")
    assert impatient.exchange("engine", outcomes=done).refusals == []
    impatient.close()


def test_a_deadlock_is_tried_again(store: MySQLBackend, direct: Any) -> None:
    """Whoever the server chose as the victim: the exchange succeeds, and nobody hears of it."""
    factory.enqueue_several(store, 2)
    first, second = claim(store, 2)
    tries = []

    def work() -> None:
        tries.append(1)
        with store._pool.use() as other, other.transaction():
            other.execute(store._sql["lock"], {"refs": [second.ref]})
            if len(tries) == 1:
                raise errors.ConflictError("chosen as the victim")

    with store._pool.use() as one:
        one.again(work)
    assert len(tries) == 2
    assert errors.translate(pymysql.err.OperationalError(1213, "Deadlock found")).__class__ is errors.ConflictError
    assert store.exchange("engine", completions=factory.completions_of([second, first])).refusals == []


def test_ends_and_rescues_in_opposite_orders_settle(store: MySQLBackend) -> None:
    """Two engines that settle the same jobs from both ends at once: each job once, no deadlock comes out."""
    factory.enqueue_several(store, 200)
    claims = claim(store, 200, lease=1)
    done = factory.completions_of(claims)
    rescues = [
        Outcome(job.ref, job.token, states.rescue(job, error=factory.ERROR, lapsed=True)) for job in claims[::-1]
    ]

    def settle() -> list[Verdict]:
        return [refusal.verdict for refusal in store.exchange("engine", completions=done).refusals]

    def rescue() -> list[Verdict]:
        return [refusal.verdict for refusal in store.exchange("rescuer", outcomes=rescues).refusals]

    refused, lost = both_at_once(settle, rescue)
    assert {*lost, *refused} <= {Verdict.LOST, Verdict.MINE}
    counts = store.count(Filter())["default"]
    assert (counts.get("waiting", 0), counts.get("completed", 0)) == (len(refused), len(lost))
    assert len(refused) + len(lost) == 200


def test_a_sealed_store_takes_no_jobs(store: MySQLBackend, direct: Any) -> None:
    """Neither by an enqueue nor behind another's end, and nothing of that exchange is stored."""
    factory.enqueue(store)
    [job] = claim(store)
    run(direct, f"update {store._prefix}meta set word = 'elsewhere' where name = 'seal'")
    with pytest.raises(StoreMovedError):
        store.enqueue([factory.new_job()])
    with pytest.raises(StoreMovedError):
        store.exchange("engine", outcomes=[Outcome(job.ref, job.token, states.complete("1"), [factory.new_job()])])
    assert factory.row_of(store, job.id).state == "claimed"


# ------------------------------------------------------------------ what a session is told


def test_a_session_is_strict_whatever_the_server_is(store: MySQLBackend) -> None:
    """Mode, isolation, character set and collation are ours for each connection."""
    with store._pool.use() as ours:
        variable = "tx_isolation" if ours.is_mariadb else "transaction_isolation"
        asked = f"select @@sql_mode, @@{variable}, @@character_set_client, @@collation_connection, @@autocommit"
        [(mode, isolation, charset, collation, autocommit)] = ours.execute(asked)
    assert "STRICT_ALL_TABLES" in mode and "NO_BACKSLASH_ESCAPES" not in mode and "ANSI_QUOTES" not in mode
    assert (isolation, charset, autocommit) == ("READ-COMMITTED", "utf8mb4", 1)
    assert collation in ("utf8mb4_nopad_bin", "utf8mb4_0900_bin")


def test_the_servers_time_is_told_in_any_time_zone(url: str, store: MySQLBackend) -> None:
    """Instants are microseconds since 1970 in UTC, also where the server thinks it is in Kathmandu."""
    with store._pool.use() as ours:
        ours.execute("set session time_zone = '+05:45'")
        [(now,)] = ours.execute(store._sql["moment"], {"now": None})
    assert abs(now / 1e6 - time.time()) < 10
    assert abs(store.facts().now / 1e6 - time.time()) < 10


def test_a_text_too_long_for_its_column_is_refused_not_cut(store: MySQLBackend) -> None:
    """The server would cut it without a word if it were not strict; the other jobs of the exchange are settled."""
    with pytest.raises(InvalidJobError):
        store.enqueue([factory.new_job(schedule_id="x" * 201)])
    factory.enqueue_several(store, 2)
    bad, good = claim(store, 2)
    outcomes = [
        Outcome(bad.ref, bad.token, states.fail(bad, reason="r" * 70_000, error=None, kind=None)),
        Outcome(good.ref, good.token, states.fail(good, reason="error", error=None, kind=None)),
    ]
    [refusal] = store.exchange("engine", outcomes=outcomes).refusals
    assert (refusal.ref, refusal.verdict) == (bad.ref, Verdict.REFUSED) and refusal.why
    assert factory.row_of(store, bad.id).state == "claimed"
    assert factory.row_of(store, good.id).state == "failed"


def test_a_space_at_the_end_makes_another_key(store: MySQLBackend) -> None:
    """Texts are equal only if every byte is; the usual collations ignore what stands at the end."""
    first = factory.enqueue(store, unique_key="k")
    second = factory.enqueue(store, unique_key="k ", args="[1] ")
    assert [answer.fate for answer in store.enqueue([factory.new_job(unique_key="k ")])] == [Fate.KEY_TAKEN]
    assert [row.id for row in store.list(Filter(args="[1]"), limit=9).rows] == []
    assert [row.id for row in store.list(Filter(args="[1] "), limit=9).rows] == [second]
    assert factory.row_of(store, first).unique_key == "k"


def test_quotes_and_backslashes_stay_text(store: MySQLBackend) -> None:
    """Whatever stands in a value, it ends no statement."""
    texts = [
        "'",
        "\\",
        "\\'",
        "'; drop table x; --",
        "%s %(n)s %%",
        "\x00\n\r\x1a\t",
        "\\Z\\0",
        "ß𝄞\u2028",
        '`"/*!50000 */',
    ]
    for text in texts:
        job_id = factory.enqueue(store, args=text, kwargs=text * 2, meta=text, unique_key=text)
        row = factory.row_of(store, job_id)
        assert (row.args, row.kwargs, row.meta, row.unique_key) == (text, text * 2, text, text)
        assert [row.id for row in store.list(Filter(args=text), limit=2).rows] == [job_id]


# ------------------------------------------------------------------ records that cannot be read


def test_a_job_whose_text_is_none_is_quarantined(url: str, direct: Any) -> None:
    """The server takes only UTF-8, unless somebody made bytes of a column: that job never comes, and the others do."""
    clock = FrozenClock()
    store = MySQLBackend(url, prefix=new_prefix(), clock=clock)
    store.migrate()
    bad, good = factory.enqueue(store), factory.enqueue(store)
    run(direct, f"alter table {store._prefix}jobs modify args longblob not null")
    run(direct, f"update {store._prefix}jobs set args = x'ff00' where id = x'{bad.hex()}'")
    with pytest.raises(CorruptRecordError):
        store.get([bad])
    assert [row.id for row in store.get([bad, good])] == [good]
    assert [row.id for row in store.list(Filter(), limit=9).rows] == [good]
    assert [job.id for job in claim(store, 9)] == [good]
    [(hold, args)] = run(direct, f"select hold, args from {store._prefix}jobs where id = x'{bad.hex()}'")
    assert (hold, args) == ("broken", b"\xff\x00")
    store.close()


def test_an_unreadable_claim_is_taken_once_its_lease_is_over(url: str, direct: Any) -> None:
    """What a rescue cannot even read goes out of the line instead of being looked at for ever."""
    clock = FrozenClock()
    store = MySQLBackend(url, prefix=new_prefix(), clock=clock)
    store.migrate()
    factory.enqueue_several(store, 2)
    bad, good = claim(store, 2, lease=5_000_000)
    run(direct, f"alter table {store._prefix}jobs modify args longblob not null")
    run(direct, f"update {store._prefix}jobs set args = x'ff' where n = {bad.ref}")
    assert [job.ref for job in store.find_held(["engine"], lapsed=False, limit=9).claims] == [good.ref]
    clock.advance(6)
    assert [job.ref for job in store.find_held([], lapsed=True, limit=9).claims] == [good.ref]
    [(state, hold, attempt)] = run(direct, f"select state, hold, attempt from {store._prefix}jobs where n = {bad.ref}")
    assert (state, hold, attempt) == ("waiting", "broken", 0)
    store.close()


# ------------------------------------------------------------------ schema


def test_a_look_while_another_migrates_is_no_damage() -> None:
    """Between two reads another process may make all tables: until it has said so, there is no schema yet."""

    class Connection:
        def __init__(self) -> None:
            self.tables = [("p_meta",)]

        def execute(self, statement: str, values: object = None) -> list[tuple[Any, ...]]:
            if values is not None:
                found, self.tables = self.tables, [("p_meta",), ("p_jobs",)]
                return found
            return []

    assert Schema(statements(MYSQL, "p_"), "database").version(Connection()) == 0  # type: ignore[arg-type]


def test_a_migration_that_was_killed_goes_on(store: MySQLBackend, direct: Any) -> None:
    """Nothing here is undone by the server, so what is half made is made whole."""
    for wreck in (
        f"drop table {store._prefix}jobs, {store._prefix}records",
        f"drop table {store._prefix}jobs, {store._prefix}records, {store._prefix}attempts, {store._prefix}log_lines",
    ):
        run(direct, wreck)
        run(direct, f"update {store._prefix}meta set number = 0 where name = 'schema'")
        assert store.migrate() == [1, 2, 3]
        factory.complete(store, factory.claimed_job(store))
    run(direct, f"drop table {store._prefix}jobs, {store._prefix}records")
    run(direct, f"drop table {store._prefix}attempts, {store._prefix}log_lines")
    run(direct, f"drop table {store._prefix}once, {store._prefix}starts, {store._prefix}turns")
    run(direct, f"delete from {store._prefix}meta")
    assert store.migrate() == [1, 2, 3]
    assert len(store.facts().identity) == 32


def test_tables_of_others_are_left_alone(url: str, direct: Any) -> None:
    """A table of our name that is not ours is a clear error, and stays as it is."""
    for name in ("jobs", "meta"):
        prefix = new_prefix()
        run(direct, f"create table {prefix}{name} (x int)")
        store = MySQLBackend(url, prefix=prefix)
        with pytest.raises(ConfigError, match="prefix"):
            store.migrate()
        assert run(direct, f"select count(*) from {prefix}{name}") == ((0,),)
        store.close()


# ------------------------------------------------------------------ connections


def test_killed_connections_heal(store: MySQLBackend, direct: Any) -> None:
    """After KILL the next call, or the one after it, is answered again."""
    for _ in range(5):
        factory.enqueue(store)
        with store._pool.use() as ours:
            [(number,)] = ours.execute("select connection_id()")
        run(direct, f"kill {number}")
        try:
            factory.enqueue(store)
        except StoreUnavailableError:
            factory.enqueue(store)
    assert len(claim(store, 50)) == 10


def test_a_forked_child_has_connections_of_its_own(store: MySQLBackend) -> None:
    """The child's calls do not mix with the parent's on one socket, and its end does not end the parent's."""
    factory.enqueue(store)

    def child() -> None:
        for _ in range(20):
            factory.enqueue(store)

    in_fork(child)
    with store._pool.use() as ours:
        assert ours.execute("select 1") == [(1,)]
    for _ in range(20):
        factory.enqueue(store)
    assert store.tally().counts["waiting"] == 41


def test_what_was_acknowledged_outlives_the_servers_death(own_server: OwnServer) -> None:
    """SIGKILL of the server after many enqueues and claims: all are there when it is back."""
    store = MySQLBackend(own_server.url)
    store.migrate()
    ids: list[bytes] = []
    for _ in range(2):
        ids += [factory.enqueue(store) for _ in range(30)]
        claimed = claim(store, 20)
        own_server.kill()
        with pytest.raises(StoreUnavailableError):
            factory.enqueue(store)
        own_server.start()
        assert store.exchange("engine", completions=factory.completions_of(claimed)).refusals == []
    rows = {row.id: row.state for row in store.get(ids)}
    assert rows.keys() == set(ids)
    assert sorted(rows.values()).count("completed") == 40
    store.close()


def test_a_server_that_hangs_is_given_up(own_server: OwnServer) -> None:
    """A stopped server takes connections and says nothing: the call ends in time, and all goes on afterwards."""
    store = MySQLBackend(own_server.url, connect_timeout=1, call_timeout=1)
    store.migrate()
    factory.enqueue(store)
    with own_server.stopped():
        for _ in range(2):  # on a connection that was there, and on a new one
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                claim(store)
            assert time.monotonic() - began < 15
    wait_until(lambda: claim(store), "the job")
    store.close()


def test_facts_name_what_weakens_durability(own_server: OwnServer) -> None:
    """Each setting that may lose a confirmed job is a problem with its remedy."""
    store = MySQLBackend(own_server.url)
    store.migrate()
    assert store.facts().problems == []
    for value, word in ((2, "power"), (0, "server dies")):
        own_server.run(f"set global innodb_flush_log_at_trx_commit = {value}")
        [problem] = store.facts().problems
        assert "innodb_flush_log_at_trx_commit" in problem and word in problem and "= 1" in problem
    store.close()


def test_what_does_not_fit_a_packet_goes_in_pieces(own_server: OwnServer) -> None:
    """A thousand jobs and large results fit through a small `max_allowed_packet`; one text that never can is named."""
    own_server.run(f"set global max_allowed_packet = {1 << 20}")
    store = MySQLBackend(own_server.url)
    store.migrate()
    factory.enqueue_several(store, 1_000, args='"' + "x" * 5_000 + '"')
    claims = claim(store, 100)
    assert (
        store.exchange("e", completions=factory.completions_of(claims, result='"' + "\\" * 40_000 + '"')).refusals == []
    )
    assert {len(row.result or "") for row in store.get([job.id for job in claims])} == {40_002}
    with pytest.raises(InvalidJobError, match="max_allowed_packet"):
        factory.enqueue(store, args='"' + "x" * (1 << 20) + '"')
    small, large = claim(store, 2)
    answer = store.exchange(
        "e",
        completions=Completions([small.ref, large.ref], [small.token, large.token], ["1", "x" * (1 << 20)], [0, 0]),
    )
    assert [(refusal.ref, refusal.verdict) for refusal in answer.refusals] == [(large.ref, Verdict.REFUSED)]
    store.close()


# ------------------------------------------------------------------ waking


def test_an_operator_wakes_engines_too(store: MySQLBackend) -> None:
    """A job that an operator puts in line is hinted at, though none was added; draining empties the descriptor."""
    job_id = factory.enqueue(store, delay=3_600_000_000)
    waker = store.waker()
    assert waker.fd is not None
    assert store.apply_by_operator(job_id, states.run_now(factory.row_of(store, job_id))) is not None
    assert select.select([waker.fd], [], [], 10)[0]
    waker.drain()
    assert not select.select([waker.fd], [], [], 0)[0]
    store.write_record(RecordKind.ORDER, "e", "{}")
    assert select.select([waker.fd], [], [], 10)[0]
    waker.close()


def test_a_waker_outlives_the_servers_absence(own_server: OwnServer) -> None:
    """Hints stop while the server is away, and come again when it is back; nobody waits for it meanwhile."""
    store = MySQLBackend(own_server.url)
    store.migrate()
    waker = store.waker()
    own_server.kill()
    began = time.monotonic()
    waker.drain()
    assert time.monotonic() - began < 10  # nothing is expected
    own_server.start()
    factory.enqueue(store)
    assert select.select([waker.fd], [], [], 20)[0]
    waker.close()
    store.close()


# ------------------------------------------------------------------ URLs, errors, drivers


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mysql://localhost", "database"),
        ("mysql://localhost/db?pool_size=0", "pool_size"),
        ("mysql://localhost/db?pool_sise=3", "pool_size"),
        ("mysql://localhost/db?database=other", "twice"),
        ("mysql://localhost/db?prefix=Robert'--", "prefix"),
        ("mysql://localhost/db?ssl_mode=maybe", "ssl_mode"),
        ("mysql://localhost/db?ssl_ca=/x", "ssl_mode"),
        ("mysql://localhost/db?ssl_mode=verify_ca", "ssl_ca"),
        ("mysql://localhost/db?local_infile=1", "local_infile"),
        ("mysql://localhost/db?init_command=drop%20table%20x", "init_command"),
        ("mysql://localhost/db?read_default_file=/etc/x", "read_default_file"),
        ("mysql://localhost/db?unsafe_url_options=1", "only code"),
        ("mysql://localhost/db?driver=oracle", "driver"),
        ("mariadb://localhost:99999/db", "port"),
    ],
)
def test_bad_urls_are_refused_by_name(url: str, word: str) -> None:
    """Each error names the part that is wrong."""
    with pytest.raises(ConfigError, match=word):
        open_backend(url)


def test_dangerous_options_need_code(url: str) -> None:
    """What the driver runs or reads on this host may stand in a URL only if code says so; one of them never."""
    told = open_backend(f"{url}?init_command=set%20@x=1", {"unsafe_url_options": True, "prefix": new_prefix()})
    assert told.migrate() == [1, 2, 3]
    told.close()
    with pytest.raises(ConfigError, match="local_infile"):
        open_backend(url, {"unsafe_url_options": True, "local_infile": "1"})


def test_a_password_never_shows(url: str) -> None:
    """Neither in the repr nor in an error about the connection."""
    store = open_backend(f"mysql://user:canary-secret@127.0.0.1:{_free_port()}/db")
    assert "canary" not in repr(store)
    refused = open_backend(url.replace("jobcard:", "jobcard:canary-secret-"))
    for backend, kind in ((store, StoreUnavailableError), (refused, ConfigError)):
        with pytest.raises(kind) as caught:
            backend.facts()
        seen: BaseException | None = caught.value
        while seen is not None:
            assert "canary" not in str(seen)
            seen = seen.__cause__


def test_tls_is_as_it_was_asked_for(mysql_url: str, mariadb_url: str) -> None:
    """Required where there is none is refused; an unknown authority is refused; required where there is one works."""
    required = MySQLBackend(f"{mysql_url}?ssl_mode=required&prefix={new_prefix()}")
    assert required.migrate() == [1, 2, 3]
    with required._pool.use() as ours:
        [(_, cipher)] = ours.execute("show session status like 'Ssl_cipher'")
    assert cipher
    required.close()
    with pytest.raises(ConfigError, match="TLS"):
        MySQLBackend(f"{mariadb_url}?ssl_mode=required").check_schema()
    with pytest.raises(ConfigError, match="TLS"):
        MySQLBackend(f"{mysql_url}?ssl_mode=verify_identity").check_schema()


def test_an_unknown_database_or_right_is_a_matter_of_configuration(url: str) -> None:
    """Trying again would not help, and the error says so by its kind."""
    place, _, _ = url.rpartition("/")
    with pytest.raises(ConfigError):
        MySQLBackend(f"{place}/nowhere").check_schema()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (1213, errors.ConflictError),
        (1205, errors.ConflictError),
        (1020, errors.ConflictError),
        (1062, errors.UniqueKeyError),
        (1146, errors.StatementError),
        (1021, StoreFullError),
        (1114, StoreFullError),
        (1406, InvalidJobError),
        (1366, InvalidJobError),
        (1045, AccessDeniedError),
        (1049, AccessDeniedError),
        (1142, NotAllowedError),
        (1273, ConfigError),
        (2026, ConfigError),
        (1040, StoreUnavailableError),
        (1290, StoreUnavailableError),
        (2006, StoreUnavailableError),
        (2013, StoreUnavailableError),
        (4031, StoreUnavailableError),
        (1877, StoreError),
        (9999, StoreError),
    ],
)
def test_errors_go_by_their_numbers(number: int, kind: type[Exception]) -> None:
    """Of either driver, whatever the message says."""
    assert type(errors.translate(pymysql.err.OperationalError(number, "Duplicate deadlock of 1213"))) is kind


def test_versions_are_read_as_servers_write_them() -> None:
    """MariaDB's may have an old number before its own."""
    assert connection._version_of("10.11.19-MariaDB-0+deb12u1") == (10, 11, 19)
    assert connection._version_of("5.5.5-10.4.8-MariaDB-log") == (10, 4, 8)
    assert connection._version_of("8.0.36-0ubuntu0.22.04.1") == (8, 0, 36)
    assert connection._version_of("9.7.4") == (9, 7, 4)
    assert connection._version_of("5.7.25-TiDB-v7.1.0") < connection.OLDEST_MYSQL


def test_without_a_driver_the_extra_is_named() -> None:
    """The bare package knows the scheme, and says what to install."""
    script = (
        "import sys; sys.modules['pymysql'] = sys.modules['MySQLdb'] = None\n"
        "from jobcard.backends.registry import open_backend\n"
        "try: open_backend('mariadb://localhost/x')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "ConfigError" in ran.stdout and "jobcard[mysql]" in ran.stdout and "pymysql" in ran.stdout


def test_the_drivers_version_is_told_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """mysqlclient's module does not say its version, and an engine looks at it before it starts."""
    told = checkup.driver(read_options("mysql://localhost/test?driver=pymysql", {}))
    assert told.subject == f"PyMySQL {metadata.version('PyMySQL')}"
    monkeypatch.setattr(drivers, "mysqldb", ModuleType("MySQLdb"))
    monkeypatch.setattr(checkup.metadata, "version", {"mysqlclient": "2.2.4"}.__getitem__)
    told = checkup.driver(read_options("mysql://localhost/test?driver=mysqlclient", {}))
    assert (told.subject, told.severity) == ("mysqlclient 2.2.4", "ok")


# ------------------------------------------------------------------ bounded work


def test_no_look_walks_what_has_ended_or_waits_for_its_time(url: str) -> None:
    """With thousands of jobs ended and delayed, each verb reads about as many rows as it needs, on either server."""
    store = MySQLBackend(url, prefix=new_prefix(), pool_size=1)
    store.migrate()
    crowd = 3_000
    for _ in range(crowd // 1_000):
        factory.enqueue_several(store, 1_000, delay=3_600_000_000)
        factory.enqueue_several(store, 1_000, queue="old")
        factory.enqueue_several(store, 1_000, queue="older")
    while done := store.exchange("e", want=Want([("old", 500), ("older", 500)], 500), lease=10**9).claimed:
        store.exchange("e", completions=factory.completions_of(done))
    moment = store.facts().now + 1
    ids = factory.enqueue_several(store, 20)

    def reads(work: Callable[[], object]) -> int:
        before = _rows_read(store)
        work()
        return _rows_read(store) - before

    held: list[Claimed] = []
    wants = Want([("old", 5), ("default", 5), ("nowhere", 5)], 10)
    looks: dict[str, tuple[int, Callable[[], object]]] = {
        "idle": (60, lambda: store.exchange("e", want=Want([("nowhere", 5)], 5), lease=10**9)),
        "claim one queue": (80, lambda: held.extend(claim(store, 5))),
        "claim several": (120, lambda: held.extend(store.exchange("e", want=wants, lease=10**9).claimed)),
        "complete": (120, lambda: store.exchange("e", completions=factory.completions_of(held[:5]))),
        "settle": (120, lambda: factory.settle(store, held[5], states.hand_back(held[5]))),
        "renew": (120, lambda: store.renew("e", [(job.ref, job.token) for job in held[6:]], lease=10**9)),
        "find_held": (80, lambda: store.find_held(["e"], lapsed=True, limit=100)),
        "ended": (80, lambda: store.ended(ids)),
        "list newest": (120, lambda: store.list(Filter(), limit=20)),
        "list touched": (300, lambda: store.list(Filter(touched_since=moment), limit=20)),
        "prune nothing": (
            120, lambda: store.prune(states=["completed", "failed"], finished_before=5, age=10**15, limit=100),
        ),
        "prune some": (300, lambda: store.prune(states=["completed"], finished_before=10**18, age=None, limit=10)),
        "count to a limit": (400, lambda: store.count(Filter(states=["completed", "claimed"]), limit=30)),
        "chart": (400, lambda: store.count_over_time(first=moment, step=10**6, buckets=10)),
        "news": (30, store.waker),
    }  # fmt: skip
    found = {name: (reads(work), most) for name, (most, work) in looks.items()}
    assert not {name: reads for name, reads in found.items() if reads[0] > reads[1]}
    store.close()


def _rows_read(store: MySQLBackend) -> int:
    """Rows and index entries the server has looked at for this store's only connection."""
    with store._pool.use() as ours:
        return sum(int(number) for _, number in ours.execute("show session status like 'Handler_read%'"))
