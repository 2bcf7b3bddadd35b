"""Somebody else's transaction: the driver's own connection behind what a caller gave, and a place in it to go back to.

Sessions and connections of SQLAlchemy and Django are known by what they can do, never by their names: neither need be
installed. What is asked for does not commit or roll back anything.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from jobcard.errors import ConfigError, JobcardError, StoreError

_DEEPEST = 6
"""A transaction of a scoped session over a pool's connection is not as deep."""

MARK = "jobcard_enqueue"


def cannot_join(store: object) -> ConfigError:
    """The error for a store whose jobs are never part of a caller's transaction."""
    name = type(store).__name__.removesuffix("Backend")
    return ConfigError(f"this {name} store cannot join a transaction: leave out within=, and enqueue after the commit")


def connection_in(given: object, kinds: tuple[type, ...], wanted: str) -> Any:
    """The driver's connection, one of these kinds, that was given or stands behind what was.

    wanted: what a `ConfigError` says would have done. `StoreError`: a session had no connection to give.
    """
    found: object | None = given
    try:
        for _ in range(_DEEPEST):
            if found is None or isinstance(found, kinds):
                break
            found = _behind(found)
    except Exception as error:
        if isinstance(error, JobcardError):
            raise
        raise StoreError(f"within: no connection could be had of a {_kind(given)}: {type(error).__name__}") from error
    if isinstance(found, kinds):
        return found
    behind = f", behind which is a {_kind(found)}" if found is not None and found is not given else ""
    raise ConfigError(
        f"within takes {wanted}, or a session or connection of SQLAlchemy or Django that has one, not asynchronous; "
        f"this is a {_kind(given)}{behind}"
    )


def _behind(given: object) -> object | None:
    """What a session, a transaction, a pool's connection or a cursor stands upon; None: nothing."""
    if isinstance(given, type) or inspect.ismodule(given) or hasattr(given, "__aenter__"):
        return None  # asynchronous ones have no connection that could be used from here
    if (session := getattr(given, "session", None)) is not None:  # SQLAlchemy's transaction of a session
        return session  # type: ignore[no-any-return]
    if (driver := getattr(given, "driver_connection", None)) is not None:  # its pool's
        return driver  # type: ignore[no-any-return]
    connect = getattr(given, "ensure_connection", None)
    if callable(connect):  # Django's, which connects at its first use
        connect()
    begin, is_in = getattr(given, "begin", None), getattr(given, "in_transaction", None)
    connection = getattr(given, "connection", None)
    if inspect.ismethod(connection):  # SQLAlchemy's session, which begins by this; sqlite3's own can be called, too
        return connection()  # type: ignore[no-any-return]
    if connection is not None and callable(begin) and callable(is_in) and not is_in():
        begin()  # SQLAlchemy's connection does so before its first statement: else its commit would do nothing
    return connection


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def not_begun(what: str) -> ConfigError:
    """The error for a connection whose every statement is committed at once. what: how a transaction is begun on it."""
    return ConfigError(
        f"within: the connection is in autocommit mode and in no transaction, so nothing would tie the job to what "
        f"else it does: {what} first"
    )


@contextlib.contextmanager
def savepoint(run: Callable[[str], object], mark: str = MARK) -> Iterator[None]:
    """In a transaction: what fails in here is undone alone. run: runs one statement of SQL.

    mark: its name; in MySQL one inside of another must not have the same.
    """
    run(f"savepoint {mark}")
    try:
        yield
    except BaseException:
        # Where the server gave up the whole transaction there is none, and the first error is the one to tell.
        with contextlib.suppress(Exception):
            run(f"rollback to savepoint {mark}")
            run(f"release savepoint {mark}")
        raise
    run(f"release savepoint {mark}")


class Identity:
    """Whether a connection leads to our very store: the tables of two stores have the same names."""

    def __init__(self, ask: Callable[[], str]) -> None:
        """ask: reads our own, by a connection of ours; once, and again should it differ from what somebody found."""
        self._ask = ask
        self._own: str | None = None

    def check(self, found: str | None) -> None:
        """`ConfigError` when the identity found by a connection is that of another store."""
        if found is not None and found == self._own:
            return
        self._own = self._ask()
        if found != self._own:
            raise ConfigError("within: the connection leads to another store than this one: another server or database")
