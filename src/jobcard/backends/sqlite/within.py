"""Somebody else's transaction on the file of this store: new jobs become part of it, by the connection in it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apsw

from jobcard.backends import within
from jobcard.backends.sqlite.bodies import Row
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.errors import driver_errors
from jobcard.backends.sqlite.files import file_key
from jobcard.backends.sqlite.options import MEMORY, Options
from jobcard.errors import ConfigError

_BEGIN = "begin a transaction (conn.execute('begin'), `with conn:` of apsw, transaction.atomic() of Django)"


def join(given: object, path: str, options: Options) -> JoinedConnection:
    """The connection behind what was given, in its transaction, on the file at this path.

    In a mode in which the library begins a transaction before the first write, this is the first write.
    """
    if path == MEMORY:
        raise ConfigError("within: a store in memory is its own, and no transaction elsewhere can reach it")
    if options.library == "sqlcipher":
        # That library does not tell which files it has open, so ours would refuse to open this one beside it.
        raise ConfigError("within: an encrypted store keeps its file to itself: enqueue after the commit")
    raw = _connection_in(given, options.library)
    body = (_ApswBody if options.library == "apsw" else _StandardBody)(raw)
    _check_file(body, path)
    with driver_errors:
        body.begin()
    return JoinedConnection(body)


def _connection_in(given: object, library: str) -> Any:
    wanted = f"a connection of {library} to the file of the jobs"
    if library == "sqlite3":
        return within.connection_in(given, (sqlite3.Connection,), wanted)
    # Found too, to say what would have done: the library comes with Python, and every framework uses it.
    found = within.connection_in(given, (apsw.Connection, sqlite3.Connection), wanted)
    if isinstance(found, sqlite3.Connection):
        raise ConfigError(
            "within: this store opens its file through apsw, and two SQLite libraries on one file lose rows: "
            "say ?library=sqlite3 in its URL to join connections of Python's sqlite3"
        )
    return found


def _check_file(body: _Joined, path: str) -> None:
    try:
        rows = body.execute("pragma database_list", ())
    except Exception as error:
        # Closed, or another thread's: both libraries say it in exceptions of their own.
        raise ConfigError(f"within: the connection cannot be used here: {error}") from error
    file = next((file for _, name, file in rows if name == "main"), "")
    if not file or file_key(file) != file_key(path):
        raise ConfigError(
            f"within: the connection has {file or 'a database in memory'!r} open as its main database, "
            f"and the jobs are in {path!r}"
        )


class JoinedConnection(Connection):
    """A connection that belongs to somebody else, as is the transaction that it is in."""

    def __init__(self, body: _Joined) -> None:
        self._body = body
        self._limit = self._until = 0.0
        self.version = body.version

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, inside the transaction that is there."""
        with within.savepoint(self.execute):
            yield


class _Joined:
    """What the bodies of a connection of our own do, by one that has settings of its own."""

    version = ""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def begin(self) -> None:
        raise NotImplementedError

    def _cursor(self) -> Any:
        raise NotImplementedError

    def total_changes(self) -> int:
        raise NotImplementedError

    def in_transaction(self) -> bool:
        return bool(self._raw.in_transaction)

    def execute(self, sql: str, values: Sequence[object]) -> list[Row]:
        rows: list[Row] = self._cursor().execute(sql, values).fetchall()
        return rows

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._cursor().executemany(sql, rows)

    def interrupt_when(self, is_late: Callable[[], bool]) -> None:
        """Not ours to interrupt."""

    def close(self) -> None:
        """Not ours to close."""


class _ApswBody(_Joined):
    def _cursor(self) -> Any:
        cursor = apsw.Cursor(self._raw)
        cursor.row_trace = lambda _, row: row
        return cursor

    def begin(self) -> None:
        if not self._raw.in_transaction:
            raise within.not_begun(_BEGIN)

    def total_changes(self) -> int:
        changes: int = self._raw.total_changes()
        return changes


class _StandardBody(_Joined):
    def _cursor(self) -> Any:
        cursor = self._raw.cursor()
        cursor.row_factory = None
        return cursor

    def execute(self, sql: str, values: Sequence[object]) -> list[Row]:
        theirs, self._raw.text_factory = self._raw.text_factory, str
        try:
            return super().execute(sql, values)
        finally:
            self._raw.text_factory = theirs

    def begin(self) -> None:
        if self._raw.in_transaction:
            return
        # As the library does before the first write; with None, or the newer autocommit=True, it never does.
        mode = self._raw.isolation_level
        if mode is None or getattr(self._raw, "autocommit", None) is True:
            raise within.not_begun(_BEGIN)
        self.execute(f"begin {mode}", ())

    def total_changes(self) -> int:
        changes: int = self._raw.total_changes
        return changes
