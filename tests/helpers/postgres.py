"""PostgreSQL stores for tests: a database of its own for each test process, any number of prefixes in it."""

from __future__ import annotations

import contextlib
import functools
import secrets
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from helpers.servers import Postgres, using
from jobcard.backends.base import Backend
from jobcard.backends.postgres import PostgresBackend
from jobcard.backends.postgres.connection import Connection
from jobcard.backends.postgres.rows import column
from jobcard.backends.postgres.values import Id, Ids, Numbers, Texts
from jobcard.conformance import Harness, Shelf
from jobcard.core.clock import FrozenClock
from jobcard.core.job import NewJob

_prefixes = (f"t{number}_" for number in count())


@contextlib.contextmanager
def databases() -> Iterator[tuple[str, str]]:
    """The URLs of two new databases, dropped afterwards. In the second a commit does not wait for the disk."""
    names = [f"jobcard_test_{secrets.token_hex(4)}" for _ in range(2)]
    with using(Postgres()) as server, psycopg.connect(server, autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        setting = sql.SQL("alter database {} set synchronous_commit = off")
        connection.execute(setting.format(sql.Identifier(names[1])))
        place, _, _ = server.rpartition("/")
        try:
            yield f"{place}/{names[0]}", f"{place}/{names[1]}"
        finally:
            for name in names:
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def new_prefix() -> str:
    """A prefix that no other test has."""
    return next(_prefixes)


def postgres_harness(url: str, **options: Any) -> Harness:
    """Each store is a prefix of its own in this database."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = new_prefix()
        return lambda: PostgresBackend(url, clock=clock, prefix=prefix, **options)

    return Harness(new_store, spoil=spoil, shelf=_shelf(url, **options))


@functools.cache
def _shelf(url: str, **options: Any) -> Shelf:
    return Shelf(lambda prefix, clock: PostgresBackend(url, clock=clock, prefix=prefix, **options))


def spoil(store: Backend, job_id: bytes) -> None:
    """Arguments that are no text: bytes pass for it as long as a cast says so, which nobody else sees."""
    assert isinstance(store, PostgresBackend)
    with store._pool.use() as connection, connection.raw.transaction():
        connection.raw.execute("create cast (bytea as text) without function")
        connection.raw.execute(
            f"update {store._options.prefix}jobs set args = cast('\\xff'::bytea as text) where id = %s",  # noqa: S608
            [UUID(bytes=job_id)],
        )
        connection.raw.execute("drop cast (bytea as text)")


def raw(store: PostgresBackend, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement behind the store's back, through its own connection; `{prefix}` is its prefix."""
    with store._pool.use() as connection:
        cursor = connection.raw.execute(statement.replace("{prefix}", store._options.prefix), values or None)
        return cursor.fetchall() if cursor.description is not None else []


def plan_of(store: PostgresBackend, text: str) -> str:
    """The plan that every later call of this statement takes."""
    nothing, no_text, no_id = Numbers([]), Texts([]), Ids([])
    values = {
        "now": None, "refs": nothing, "tokens": nothing, "results": no_text, "started_ago": nothing, "count": 0,
        "owner": "x", "lease": 1, "queues": no_text, "most": nothing, "total": 1, "owners": no_text,
        "lapsed": True, "after": 0, "limit": 5, "ids": no_id, "versions": nothing, "id": Id(bytes(16)),
        "keys": no_text, "names": no_text,
        "state": "failed", "before": 0, "age": None, "keep": 20, "characters": 9, "first": 0, "end": 1, "step": 1,
        "touched_since": 0, "queue": "x", "ref": 1, "keyed": False, "holds": no_text, "untils": nothing,
        "slots": nothing, "used": nothing, "key": "", "prefix": "", "holder": Id(bytes(16)),
    }  # fmt: skip
    if "new_job" in text:
        values |= {name: column(name, ()) for name in NewJob._fields}
    connection = Connection(store._options)
    cursor = connection.raw.execute("begin", prepare=False)
    cursor.execute(text, values, prepare=True)
    [(name, parameters)] = cursor.execute(
        "select name, cardinality(parameter_types) from pg_prepared_statements where not from_sql", prepare=False
    ).fetchall()
    arguments = f"({', '.join(['null'] * parameters)})" if parameters else ""
    lines = cursor.execute(f"explain (costs off) execute {name}{arguments}", prepare=False).fetchall()
    connection.close()
    return "\n".join(line for (line,) in lines).replace(store._options.prefix, "")
