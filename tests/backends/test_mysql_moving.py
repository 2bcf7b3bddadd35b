# ruff: noqa: S608 - the only thing put into these statements is a prefix of our own
"""Sealing a store on MySQL and MariaDB: who is waited for, who is refused, and what a death in the middle leaves."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest

from helpers.mysql_servers import direct_connection, new_prefix
from helpers.servers import MariaDB, MySQL, OwnServer
from helpers.waiting import wait_until
from jobcard.backends.base import Completions, Fate, Filter, Outcome, RecordKind, Want
from jobcard.backends.mysql import MySQLBackend
from jobcard.backends.roles import Role
from jobcard.backends.sql.connection import Connection
from jobcard.backends.sql.sealing import CLOSED
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.job import Attempt, Claimed, LogLine, OnceKey, WholeJob
from jobcard.errors import AccessDeniedError, StoreMovedError, StoreUnavailableError

pytestmark = [pytest.mark.turns, pytest.mark.slow]

SEALED_NUMBER = 30745


@pytest.fixture(params=["mariadb", "mysql"])
def url(request: pytest.FixtureRequest) -> str:
    """Either server."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def store(url: str) -> Iterator[MySQLBackend]:
    backend = MySQLBackend(url, prefix=new_prefix())
    backend.migrate()
    yield backend
    backend.close()


@pytest.fixture
def direct(url: str) -> Iterator[Any]:
    """The server itself: a program that knows nothing of seals."""
    raw = direct_connection(url)
    yield raw
    raw.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def run(raw: Any, statement: str) -> Any:
    with raw.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def another(store: MySQLBackend, **given: Any) -> MySQLBackend:
    """A store of the same tables, in another process for all it knows."""
    return MySQLBackend(store._shown.replace("***", store._options.password), prefix=store._prefix, **given)


def triggers(raw: Any, store: MySQLBackend) -> int:
    asked = "select count(*) from information_schema.triggers where trigger_schema = database() and trigger_name like"
    [(number,)] = run(raw, f"{asked} '{store._prefix.replace('_', '!_')}%' escape '!'")
    return int(number)


def everything(raw: Any, store: MySQLBackend) -> list[Any]:
    """What the tables hold that a seal closes."""
    return [run(raw, f"select * from {store._prefix}{table} order by 1, 2") for table in CLOSED]


def wait_for_table(raw: Any, store: MySQLBackend) -> None:
    """Until somebody waits for a table of this store."""
    asked = "select count(*) from information_schema.processlist where state like 'Waiting for table metadata lock%'"
    wait_until(lambda: run(raw, f"{asked} and info like '%{store._prefix}%'")[0][0], "somebody to wait for a table")


def wait_for_row(raw: Any, store: MySQLBackend) -> None:
    """Until somebody waits for a row of this store."""
    asked = "select count(*) from information_schema.innodb_trx where trx_state = 'LOCK WAIT'"
    found = f"{asked} and trx_query like '%{store._prefix}%'"
    # Who asks again within a tenth of a second gets the old answer, and puts off the new one.
    wait_until(lambda: run(raw, found)[0][0], "somebody to wait for a row", interval=0.2)


def insert_of(store: MySQLBackend, job_id: bytes) -> str:
    """A job as somebody stores it who knows nothing of seals."""
    return (
        f"insert into {store._prefix}jobs (id, queue, `rank`, order_at, available_at, created_at, priority,"
        " max_attempts, max_crashes, name, backoff, args, kwargs)"
        f" values (x'{job_id.hex()}', 'default', 0, 1, 1, 1, 0, 1, 1, 'n', '{{}}', '[]', '{{}}')"
    )


# ------------------------------------------------------------------ who is waited for


def test_a_writer_that_is_open_is_waited_for(
    store: MySQLBackend, direct: Any, url: str, threads: ThreadPoolExecutor
) -> None:
    """Nobody is sealed out in the middle of a transaction, and when `seal` returns there is none left."""
    job_id = factory.new_id()
    writer = direct_connection(url)
    run(writer, "begin")
    run(writer, insert_of(store, job_id))
    sealing = threads.submit(another(store, patience=60).seal, "elsewhere")
    wait_for_table(direct, store)
    assert not sealing.done()
    # It may write on, and is not in the way of the seal.
    run(writer, f"update {store._prefix}jobs set args = '[1]' where id = x'{job_id.hex()}'")
    run(writer, "commit")
    sealing.result(60)
    assert factory.row_of(store, job_id).args == "[1]"
    assert store.facts().seal == "elsewhere"
    with pytest.raises(pymysql.err.MySQLError) as error:
        run(writer, insert_of(store, factory.new_id()))
    assert error.value.args[0] == SEALED_NUMBER
    writer.close()


def test_a_writer_that_waits_itself_is_waited_for_too(
    store: MySQLBackend, direct: Any, url: str, threads: ThreadPoolExecutor
) -> None:
    """Who waited for a row when the seal began is served; who comes behind it is refused, and has changed nothing."""
    first, second = factory.enqueue_several(store, 2)
    holder = direct_connection(url)
    run(holder, "begin")
    run(holder, f"select n from {store._prefix}jobs where id = x'{first.hex()}' for update")
    before = threads.submit(store.apply_by_operator, first, CANCEL)
    wait_for_row(direct, store)
    sealing = threads.submit(another(store, patience=60).seal, "elsewhere")
    wait_for_table(direct, store)
    behind = threads.submit(store.apply_by_operator, second, CANCEL)
    run(holder, "commit")
    row = before.result(60)
    assert row is not None and row.state == "canceled"
    sealing.result(60)
    # Between two triggers it may still come in: then it was there before the seal, and is whole.
    error = behind.exception(60)
    assert error is None or isinstance(error, StoreMovedError)
    assert factory.row_of(store, second).state == ("waiting" if error else "canceled")
    holder.close()


def test_a_writer_that_is_open_too_long_stops_the_seal(store: MySQLBackend, direct: Any, url: str) -> None:
    """Nothing is sealed and nothing is left; the error says whose transaction it is."""
    writer = direct_connection(url)
    run(writer, "begin")
    run(writer, insert_of(store, factory.new_id()))
    impatient = another(store, patience=1)
    named = rf"could not be sealed: .*; connection {writer.thread_id()} of .* has a transaction open for \d+ s"
    with pytest.raises(StoreUnavailableError, match=named):
        impatient.seal("elsewhere")
    assert store.facts().seal is None and triggers(direct, store) == 0
    run(writer, "commit")
    factory.enqueue(store)
    impatient.seal("elsewhere")
    assert store.facts().seal == "elsewhere"
    impatient.close()
    writer.close()


def test_triggers_put_up_in_vain_are_taken_away(store: MySQLBackend, direct: Any, url: str) -> None:
    """Also where the writer who is open has touched only the last table."""
    writer = direct_connection(url)
    run(writer, "begin")
    run(writer, f"insert into {store._prefix}records values ('queue', 'mine', '{{}}', 1, 1)")
    impatient = another(store, patience=1)
    with pytest.raises(StoreUnavailableError, match="could not be sealed"):
        impatient.seal("elsewhere")
    assert triggers(direct, store) == 0
    factory.enqueue(store)
    run(writer, "commit")
    impatient.close()
    writer.close()


def test_readers_hold_up_nobody_who_seals_again(store: MySQLBackend, direct: Any, url: str) -> None:
    """A sealed store may be read for hours in one transaction; its word can be changed meanwhile."""
    store.seal("elsewhere")
    reader = direct_connection(url)
    run(reader, "begin")
    run(reader, f"select * from {store._prefix}jobs")
    impatient = another(store, patience=1)
    impatient.seal("somewhere else")
    assert store.facts().seal == "somewhere else"
    run(reader, "commit")
    impatient.close()
    reader.close()


def test_nobody_waits_for_a_table_longer_than_for_a_row(store: MySQLBackend, direct: Any) -> None:
    """As long as the patience lasts, whoever has the table: else all would stand still behind one who seals."""
    impatient = another(store, patience=1, call_timeout=1)
    run(direct, f"lock tables {store._prefix}jobs write")
    with pytest.raises(StoreUnavailableError):
        factory.enqueue(impatient)
    run(direct, "unlock tables")
    factory.enqueue(impatient)
    impatient.close()


# ------------------------------------------------------------------ who is refused

CANCEL = states.cancel_waiting(reason="canceled")
WANT = Want([("default", 9)], 9)
KEY = OnceKey("o", b"j" * 16, 1 << 60)


def writes(store: MySQLBackend, held: Claimed, waiting: bytes, ended: bytes) -> dict[str, Callable[[], object]]:
    """Every verb that writes, also where it finds nothing to write."""
    there = store.get([waiting])[0]
    repeated = factory.new_job(
        id=waiting, name=there.name, args=there.args, kwargs=there.kwargs, init=there.init, queue=there.queue
    )
    lost = Outcome(held.ref, held.token - 1, states.complete("1"))
    return {
        "enqueue": lambda: store.enqueue([factory.new_job()]),
        "enqueue again": lambda: store.enqueue([repeated]),
        "exchange": lambda: store.exchange("engine"),
        "claim": lambda: store.exchange("engine", want=WANT, lease=1_000_000),
        "claim of nothing": lambda: store.exchange("engine", want=Want([("no such queue", 1)], 1), lease=1_000_000),
        "complete": lambda: store.exchange("engine", completions=factory.completions_of([held])),
        "complete what is lost": lambda: store.exchange(
            "engine", completions=Completions([held.ref], [held.token - 1], [None], [0])
        ),
        "an outcome": lambda: store.exchange(
            "engine", outcomes=[Outcome(held.ref, held.token, states.complete("1"), [factory.new_job()])]
        ),
        "an outcome that is lost": lambda: store.exchange("engine", outcomes=[lost]),
        "free": lambda: store.exchange("engine", freed=["no such key"]),
        "renew": lambda: store.renew("engine", [(held.ref, held.token)], lease=1_000_000),
        "renew what is lost": lambda: store.renew("engine", [(held.ref, held.token - 1)], lease=1_000_000),
        "let_in": lambda: store.let_in(9),
        "unpark": lambda: store.unpark(["no such name"]),
        "release nothing": lambda: factory.release(store, waiting),
        "cancel": lambda: store.apply_by_operator(waiting, CANCEL),
        "cancel nothing": lambda: store.apply_by_operator(factory.new_id(), CANCEL),
        "prune": lambda: store.prune(states=["completed"], finished_before=1 << 60, age=0, limit=9),
        "prune nothing": lambda: store.prune(states=["failed"], finished_before=1, age=None, limit=9),
        "delete": lambda: store.delete([ended]),
        "delete nothing": lambda: store.delete([factory.new_id()]),
        "write": lambda: store.write_record(RecordKind.QUEUE, "default", "[]"),
        "add": lambda: store.write_record(RecordKind.QUEUE, "new", "{}", expect=0),
        "add what is there": lambda: store.write_record(RecordKind.QUEUE, "default", "{}", expect=0),
        "write over another": lambda: store.write_record(RecordKind.QUEUE, "default", "{}", expect=99),
        "remove": lambda: store.remove_record(RecordKind.QUEUE, "default"),
        "remove nothing": lambda: store.remove_record(RecordKind.ENGINE, "nobody"),
        "put": lambda: store.put([WholeJob(there, [], [])]),
        "put once keys": lambda: store.put_once_keys([KEY]),
        "erase": lambda: store.erase([waiting]),
        "erase nothing": lambda: store.erase([factory.new_id()]),
    }


def test_every_write_to_a_sealed_store_is_refused(store: MySQLBackend, direct: Any) -> None:
    """Whether it would change anything or not; everything stays as it is and can be read."""
    ended = factory.job_in_state(store, "completed")
    held = factory.claimed_job(store, lease=1 << 50)
    waiting = factory.enqueue(store)
    verbs = writes(store, held, waiting, ended)
    before = everything(direct, store)
    store.seal("elsewhere")
    for name, verb in verbs.items():
        with pytest.raises(StoreMovedError):
            verb()
            raise AssertionError(f"not refused: {name}")
        assert everything(direct, store) == before, name
    assert [row.id for row in store.list(Filter(), limit=9).rows] == sorted([ended, held.id, waiting], reverse=True)
    assert store.tally().counts["waiting"] == 1
    assert [claim.id for claim in store.find_held(["engine"], lapsed=True, limit=9).claims] == [held.id]


def test_those_who_know_nothing_of_seals_are_refused(store: MySQLBackend, direct: Any) -> None:
    """Each write of each table, also in a way that passes over what is wrong; its row stays as it is."""
    factory.claimed_job(store)
    now = store.facts().now
    store.put_once_keys([OnceKey("k", b"j" * 16, now + (1 << 40))])
    run(direct, f"insert into {store._prefix}attempts values (1, 1, 1, 1, 'e')")
    run(direct, f"insert into {store._prefix}log_lines values (1, 1, 1, 1, 't')")
    run(direct, f"insert into {store._prefix}starts values ('s', 1, 1, 1)")
    store.seal("elsewhere")
    before = everything(direct, store)
    assert all(before)
    inserts = {
        "jobs": insert_of(store, factory.new_id()),
        "attempts": f"insert into {store._prefix}attempts values (9, 1, 1, 1, 'e')",
        "log_lines": f"insert into {store._prefix}log_lines values (9, 1, 1, 1, 't')",
        "once": f"insert into {store._prefix}once values ('z', 'jjjjjjjjjjjjjjjj', 1)",
        "starts": f"insert into {store._prefix}starts values ('z', 1, 1, 1)",
        "records": f"insert into {store._prefix}records values ('queue', 'z', '{{}}', 1, 1)",
    }
    columns = {"jobs": "version", "attempts": "at", "log_lines": "at", "once": "`until`", "starts": "used"}
    for table in CLOSED:
        column = columns.get(table, "version")
        for statement in (
            inserts[table],
            inserts[table].replace("insert into", "insert ignore into"),
            inserts[table].replace("insert into", "replace into"),
            f"update {store._prefix}{table} set {column} = {column} + 1",
            f"update ignore {store._prefix}{table} set {column} = {column} + 1",
            f"delete from {store._prefix}{table}",
        ):
            with pytest.raises(pymysql.err.MySQLError) as error:
                run(direct, statement)
                raise AssertionError(f"not refused: {statement}")
            assert error.value.args[0] == SEALED_NUMBER, statement
    assert everything(direct, store) == before


def test_what_was_answered_was_stored_and_nothing_else(store: MySQLBackend, threads: ThreadPoolExecutor) -> None:
    """A seal in the middle of a busy store: every call either happened as it says, or is refused and did nothing."""
    factory.enqueue_several(store, 900)
    enough = threading.Event()

    def engine(name: str) -> set[bytes]:
        mine = another(store)
        completed: set[bytes] = set()
        held: Sequence[Claimed] = mine.exchange(name, want=Want([("default", 10)], 10), lease=1 << 50).claimed
        try:
            while held:
                answer = mine.exchange(
                    name,
                    completions=factory.completions_of(held),
                    want=Want([("default", 10)], 10),
                    lease=1 << 50,
                )
                assert answer.refusals == []
                completed |= {job.id for job in held}
                held = answer.claimed
                if len(completed) > 50:
                    enough.set()
        except StoreMovedError:
            return completed
        finally:
            enough.set()
            mine.close()
        return completed

    def producer() -> set[bytes]:
        mine = another(store)
        stored: set[bytes] = set()
        try:
            while True:
                job = factory.new_job()
                assert mine.enqueue([job])[0].fate is Fate.STORED
                stored.add(job.id)
        except StoreMovedError:
            return stored
        finally:
            mine.close()

    engines = [threads.submit(engine, f"engine-{number}") for number in range(3)]
    producers = [threads.submit(producer) for _ in range(2)]
    assert enough.wait(60)
    another(store, patience=60).seal("elsewhere")
    completed = union(engines)
    stored = union(producers)
    ended = {row.id for page in factory.pages(store, Filter(states=["completed"]), 500) for row in page}
    assert ended == completed
    every = {row.id for page in factory.pages(store, Filter(), 500) for row in page}
    assert stored <= every and len(every) == 900 + len(stored)


def union(futures: Sequence[Future[set[bytes]]]) -> set[bytes]:
    return set().union(*(future.result(120) for future in futures))


# ------------------------------------------------------------------ opening, and what a seal does not stop


def test_a_store_that_is_opened_again_goes_on_as_if_nothing_had_been(store: MySQLBackend, direct: Any) -> None:
    """Claims are still held by the same tokens, and nothing is left of the barrier."""
    held = factory.claimed_job(store, lease=1 << 50)
    store.seal("elsewhere")
    assert triggers(direct, store) == 3 * len(CLOSED)
    store.seal(None)
    assert store.facts().seal is None and triggers(direct, store) == 0
    assert store.exchange("engine", completions=factory.completions_of([held])).refusals == []
    assert factory.row_of(store, held.id).state == "completed"
    store.seal(None)
    factory.enqueue(store)


def test_migrations_and_whoever_empties_the_store_are_not_stopped(store: MySQLBackend, direct: Any) -> None:
    """The seal is for those who work with the jobs, not for those who take the tables away."""
    factory.enqueue_several(store, 3)
    store.seal("elsewhere")
    assert [store.rollback(), store.rollback()] == [3, 2]
    assert store.migrate() == [2, 3]
    assert store.facts().seal == "elsewhere"
    assert triggers(direct, store) == 3 * len(CLOSED)  # tables that were made anew among them
    store.truncate()
    assert sum(store.tally().counts.values()) == 0
    with pytest.raises(StoreMovedError):
        factory.enqueue(store)
    with pytest.raises(pymysql.err.MySQLError):
        run(direct, insert_of(store, factory.new_id()))
    while store.rollback() is not None:
        pass
    assert triggers(direct, store) == 0


# ------------------------------------------------------------------ deaths in the middle


def die(store: MySQLBackend, word: str | None, *, after: int) -> None:
    """A process that seals, or opens, and is killed behind the statement of this number."""
    child = os.fork()
    if child == 0:
        done = 0
        execute, change = Connection.execute, Connection.change

        def count(sql: str) -> None:
            nonlocal done
            done += sql.startswith(("create trigger", "drop trigger", "update"))
            if done == after:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted_execute(self: Connection, sql: str, values: Any = {}) -> Any:  # noqa: B006
            rows = execute(self, sql, values)
            count(sql)
            return rows

        def counted_change(self: Connection, sql: str, values: Any = {}) -> int:  # noqa: B006
            number = change(self, sql, values)
            count(sql)
            return number

        Connection.execute, Connection.change = counted_execute, counted_change  # type: ignore[method-assign]
        try:
            another(store, patience=60).seal(word)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("number", [1, 10, 18])
def test_who_dies_before_the_word_has_sealed_nothing(store: MySQLBackend, direct: Any, number: int) -> None:
    """The triggers that are there let everybody through; the same again seals."""
    die(store, "elsewhere", after=number)
    assert (store.facts().seal, triggers(direct, store)) == (None, number)
    held = factory.claimed_job(store)
    factory.complete(store, held)
    run(direct, insert_of(store, factory.new_id()))
    store.seal("elsewhere")
    assert (store.facts().seal, triggers(direct, store)) == ("elsewhere", 18)
    with pytest.raises(StoreMovedError):
        factory.enqueue(store)
    with pytest.raises(pymysql.err.MySQLError):
        run(direct, insert_of(store, factory.new_id()))


def test_who_dies_behind_the_word_has_sealed_all(store: MySQLBackend, direct: Any) -> None:
    """Though nobody was told; the same again says so."""
    die(store, "elsewhere", after=19)
    assert (store.facts().seal, triggers(direct, store)) == ("elsewhere", 18)
    with pytest.raises(pymysql.err.MySQLError):
        run(direct, insert_of(store, factory.new_id()))
    store.seal("elsewhere")
    assert store.facts().seal == "elsewhere"


@pytest.mark.parametrize("number", [1, 2, 12])
def test_who_dies_while_opening_has_opened_all(store: MySQLBackend, direct: Any, number: int) -> None:
    """The triggers that are left refuse nobody, and go with the next time."""
    store.seal("elsewhere")
    die(store, None, after=number)
    assert (store.facts().seal, triggers(direct, store)) == (None, 18 - (number - 1))
    run(direct, insert_of(store, factory.new_id()))
    factory.complete(store, factory.claimed_job(store))
    store.seal(None)
    assert triggers(direct, store) == 0


# ------------------------------------------------------------------ rights


def account(store: MySQLBackend, raw: Any, role: Role) -> tuple[str, MySQLBackend]:
    """An account with the printed rights of a role, and the store as it sees it."""
    name = f"{role}_{secrets.token_hex(4)}"
    run(raw, f"create user `{name}`@`%` identified by 'secret'")
    for statement in store.grants(role, name):
        run(raw, statement)
    place = store._shown.rpartition("@")[2]
    return name, MySQLBackend(f"mysql://{name}:secret@{place}", prefix=store._prefix)


def test_only_who_may_migrate_may_seal(store: MySQLBackend, direct: Any) -> None:
    """The others are told which role's rights it takes; under the seal they are refused as everybody is."""
    users = {role: account(store, direct, role) for role in Role}
    for role in (Role.ENGINE, Role.PRODUCER, Role.VIEWER):
        for word in ("elsewhere", None):
            with pytest.raises(AccessDeniedError, match="--role migration"):
                users[role][1].seal(word)
    assert (store.facts().seal, triggers(direct, store)) == (None, 0)
    users[Role.MIGRATION][1].seal("elsewhere")
    for role, (_, backend) in users.items():
        assert backend.facts().seal == "elsewhere"
        if role is not Role.VIEWER:
            with pytest.raises(StoreMovedError):
                backend.enqueue([factory.new_job()])
    users[Role.MIGRATION][1].seal(None)
    # Also between the triggers and the word they need no more rights than before.
    die(store, "elsewhere", after=18)
    assert users[Role.PRODUCER][1].enqueue([factory.new_job()])[0].fate is Fate.STORED
    assert len(users[Role.ENGINE][1].exchange("engine", want=WANT, lease=1_000_000).claimed) == 1
    store.seal(None)
    for name, backend in users.values():
        backend.close()
        run(direct, f"drop user `{name}`@`%`")


class _LoggingMariaDB(MariaDB):
    """As a server with replicas is."""

    def command(self, folder: Path, port: int) -> Sequence[str]:
        return [*(word for word in super().command(folder, port) if word != "--skip-log-bin"), *_LOG]


class _LoggingMySQL(MySQL):
    def command(self, folder: Path, port: int) -> Sequence[str]:
        return [*(word for word in super().command(folder, port) if word != "--skip-log-bin"), *_LOG]


_LOG = ("--log-bin=log", "--server-id=1", "--binlog-format=ROW")


@pytest.fixture(params=[_LoggingMariaDB, _LoggingMySQL], ids=["mariadb", "mysql"])
def logging_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that keeps a binary log."""
    request.getfixturevalue(f"{request.param.name}_url")  # it can be had here
    server = OwnServer(request.param())
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def test_a_binary_log_takes_a_word_of_an_administrator(logging_url: str) -> None:
    """The error says what may be set; with it the role's rights are enough, and afterwards it is not needed."""
    owner = MySQLBackend(logging_url)
    owner.migrate()
    raw = direct_connection(logging_url)
    _, migration = account(owner, raw, Role.MIGRATION)
    with pytest.raises(AccessDeniedError, match="log_bin_trust_function_creators = 1"):
        migration.seal("elsewhere")
    assert (owner.facts().seal, triggers(raw, owner)) == (None, 0)
    run(raw, "set global log_bin_trust_function_creators = 1")
    migration.seal("elsewhere")
    run(raw, "set global log_bin_trust_function_creators = 0")
    with pytest.raises(StoreMovedError):
        factory.enqueue(owner)
    # Opened it is in any case; MariaDB lets no trigger go either, but those that are left refuse nobody.
    with contextlib.suppress(AccessDeniedError):
        migration.seal(None)
    factory.enqueue(owner)
    run(raw, "set global log_bin_trust_function_creators = 1")
    migration.seal(None)
    run(raw, "set global log_bin_trust_function_creators = 0")
    assert (owner.facts().seal, triggers(raw, owner)) == (None, 0)
    # Whoever has the right SUPER needs no such word.
    owner.seal("elsewhere")
    assert owner.facts().seal == "elsewhere"
    for backend in (migration, owner):
        backend.close()
    raw.close()


# ------------------------------------------------------------------ jobs as they are


def test_jobs_that_have_changed_keys_with_each_other_are_put_together(store: MySQLBackend) -> None:
    """What goes out of the way in the same call is in nobody's way; whoever is left out keeps what it has."""
    first, second = factory.enqueue(store, unique_key="a"), factory.enqueue(store, unique_key="b")
    third = factory.enqueue(store, unique_key="c")
    rows = factory.rows_of(store, [first, second, third])
    one, two = rows[first]._replace(unique_key="b"), rows[second]._replace(unique_key="a")
    assert store.put([WholeJob(one, [], []), WholeJob(two, [], [])]) == []
    assert factory.rows_of(store, [first, second]) == {first: one, second: two}
    # The second cannot have "c", so it keeps "a", and so the first cannot have that.
    wrong = [one._replace(unique_key="a"), two._replace(unique_key="c")]
    assert store.put([WholeJob(row, [], []) for row in wrong]) == [first, second]
    assert factory.rows_of(store, [first, second, third]) == {first: one, second: two, third: rows[third]}


def test_what_is_larger_than_a_packet_is_put_in_pieces(store: MySQLBackend, direct: Any) -> None:
    """Rows, tries and lines of a thousand jobs, in one transaction all the same."""
    ids = factory.enqueue_several(store, 300)
    rows = factory.rows_of(store, ids)
    [(packet,)] = run(direct, "select @@max_allowed_packet")
    big = "x" * (int(packet) // 250)
    jobs = [
        WholeJob(
            rows[job_id]._replace(args=big, version=7),
            [Attempt(job_id, 1, 5, big)],
            [LogLine(job_id, at, f"line {at}") for at in range(3)],
        )
        for job_id in ids
    ]
    assert store.put(jobs) == []
    assert [version for _, version in store.versions(after=None, limit=999)] == [7] * 300
    assert store.attempts(ids[:1]) == list(jobs[0].attempts)
    assert store.log_lines(ids[-1:]) == list(jobs[-1].lines)
    assert store.erase(ids) == 300
    assert run(direct, f"select count(*) from {store._prefix}attempts") == ((0,),)


def test_a_job_that_cannot_be_read_has_no_version(store: MySQLBackend, direct: Any) -> None:
    """Somebody has made bytes of two columns, and what stands in one of them is no text."""
    good, bad = factory.enqueue(store), factory.enqueue(store, args='["é"]')
    run(direct, f"alter table {store._prefix}jobs modify args longblob not null, modify meta mediumblob")
    run(direct, f"update {store._prefix}jobs set meta = x'c3' where id = x'{bad.hex()}'")
    assert store.versions(after=None, limit=9) == [(good, 1), (bad, -1)]
    assert store.versions(after=good, limit=9) == [(bad, -1)]
