"""Somebody else's transaction on the database of this store: new jobs become part of it, by the connection in it.

That connection has settings, adapters and a pooler of its own, so nothing is taken for granted but the protocol: each
statement makes one trip, is planned as the server likes, and brings its own adapters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from jobcard.backends import within
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.errors import StatementError, driver_errors
from jobcard.backends.postgres.values import adapters
from jobcard.errors import ConfigError

T = TypeVar("T")

_WANTED = "a psycopg.Connection of psycopg 3 to the database of the jobs"
_BEGIN = "`with conn.transaction():`, or transaction.atomic() of Django,"


@contextlib.contextmanager
def join(given: object, sql: Mapping[str, str], identity: within.Identity) -> Iterator[JoinedConnection]:
    """The connection behind what was given, in its transaction, for statements that are stored all or not at all.

    Where the driver begins a transaction before the first statement, this is the first statement.
    """
    raw: psycopg.Connection[Any] = within.connection_in(given, (psycopg.Connection,), _WANTED)
    _check(raw)
    connection = JoinedConnection(raw)
    with driver_errors, within.savepoint(lambda statement: connection.ask(Step(statement))):
        _check_store(connection, sql, identity)
        yield connection


def _check(raw: psycopg.Connection[Any]) -> None:
    if raw.closed:
        raise ConfigError("within: the connection is closed")
    status = raw.pgconn.transaction_status
    if status == TransactionStatus.INERROR:
        raise ConfigError("within: the transaction has failed by an earlier statement: roll it back first")
    if status == TransactionStatus.ACTIVE or raw.pgconn.pipeline_status != PipelineStatus.OFF:
        raise ConfigError("within: the connection is in the middle of a statement, a copy or a pipeline")
    if raw.autocommit and status == TransactionStatus.IDLE:
        raise within.not_begun(_BEGIN)
    if raw.pgconn.parameter_status(b"client_encoding") != b"UTF8":
        raise ConfigError("within: the connection does not speak UTF-8: connect with client_encoding=UTF8")


def _check_store(connection: JoinedConnection, sql: Mapping[str, str], identity: within.Identity) -> None:
    try:
        [(found,)] = connection.ask(Step(sql["identity"]))
    except StatementError as error:
        raise ConfigError(
            "within: the connection sees no tables of this store: it leads to another database, or its search_path "
            "to another schema"
        ) from error
    identity.check(found)


class _Cursor(psycopg.Cursor[Row]):
    """Reads and writes values as our own connections do, whatever the application has taught this one."""

    @property
    def adapters(self) -> AdaptersMap:
        return adapters


class JoinedConnection(Connection):
    """A connection that belongs to somebody else, as is the transaction that it is in. Nothing is tried again."""

    is_joined = True

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self._theirs = raw

    @property
    def in_transaction(self) -> bool:
        """In the caller's, always."""
        return True

    def run(self, steps: Sequence[Step], *, then: Step | None = None) -> list[list[Row]]:
        """Run statements one by one. then: there is no later on for it here."""
        assert then is None
        return self.ask_all(steps)

    def again(self, work: Callable[[], T]) -> T:
        """Do something once: who would try again is the caller, with the whole transaction."""
        return work()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """The one that is there, in which all stands or falls together."""
        yield

    def ask(self, step: Step) -> list[Row]:
        """Run one statement; its rows."""
        with driver_errors, _Cursor(self._theirs, row_factory=tuple_row) as cursor:
            cursor.execute(step.sql, step.values, binary=True)
            return self._rows(cursor)

    def ask_all(self, steps: Sequence[Step]) -> list[list[Row]]:
        """Run statements; the rows of each."""
        return [self.ask(step) for step in steps]
