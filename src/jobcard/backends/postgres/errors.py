"""What PostgreSQL says when it fails, in jobcard's words; by SQLSTATE, never by message."""

from __future__ import annotations

import struct

import psycopg

from jobcard.backends.door import Door
from jobcard.backends.verbs import NotAllowedError, NotUnderstoodError
from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    CorruptRecordError,
    InvalidJobError,
    JobcardError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

_NOT_A_VALUE = (OverflowError, UnicodeEncodeError, struct.error)
"""What is raised for a value that cannot be handed to the driver."""


class UniqueKeyError(InvalidJobError):
    """A unique index refused the row; its caller finds out who is there."""


class StatementError(NotUnderstoodError):
    """PostgreSQL did not understand a statement: the tables are missing or not of this version."""


class ConflictError(StoreUnavailableError):
    """Two transactions were in each other's way and this one was undone; the same again will do."""


class BusyError(StoreUnavailableError):
    """Others held for too long what a statement had to wait for."""


class CannotConnectError(StoreUnavailableError):
    """No connection could be made."""


class ProtocolError(CannotConnectError):
    """Whoever answered did not take how we began: it may be a pooler."""


def translate(error: BaseException) -> JobcardError | None:
    """The jobcard error for a driver's; None: it is none of the driver's."""
    if isinstance(error, _NOT_A_VALUE):
        return InvalidJobError(f"PostgreSQL cannot store a value: {error}")
    if isinstance(error, UnicodeDecodeError):
        return CorruptRecordError("a row of the store holds text that is not UTF-8")
    if not isinstance(error, psycopg.Error):
        return None
    if error.sqlstate is not None:
        return _by_state(error.sqlstate, error)
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return StoreUnavailableError(f"the connection to PostgreSQL failed: {_first_line(error)}")
    if isinstance(error, (psycopg.DataError, psycopg.ProgrammingError)):
        return InvalidJobError(f"PostgreSQL cannot store a value: {_first_line(error)}")
    return StoreError(f"PostgreSQL failed: {_first_line(error)}")


def _by_state(state: str, error: psycopg.Error) -> JobcardError:
    said = _first_line(error)
    match state:
        case "23505":
            return UniqueKeyError("another job holds the same unique key")
        case "40001" | "40P01":
            return ConflictError(f"PostgreSQL undid a transaction that was in another's way: {said}")
        case "53100":
            return StoreFullError("the disk of the PostgreSQL server is full; nothing was stored")
        case "25006":
            return StoreUnavailableError("the PostgreSQL server takes no writes: it is a standby, or read-only")
        case "55P03" | "57014":
            return BusyError(f"PostgreSQL was busy for too long: {said}")
        case "0A000":
            # A plan prepared before a migration; the next connection makes a new one.
            return StoreUnavailableError(f"PostgreSQL refused a statement prepared earlier: {said}")
        case "26000" | "42P05":
            return ConfigError(
                "prepared statements do not stay with their connection: a pooler stands before PostgreSQL; "
                "say pooler=transaction in the store URL"
            )
        case "JC001":  # ours: sql/make_barrier.sql
            return StoreMovedError("this store was sealed: its jobs live elsewhere now")
        case "28000" | "28P01" | "3D000":
            return AccessDeniedError(f"PostgreSQL refused the connection: {said}")
        case "42501":
            return NotAllowedError(f"this PostgreSQL user may not do that: {said}")
        case "42P01" | "42703" | "3F000" | "42883":
            return StatementError(f"PostgreSQL refused a statement: {said}")
        case "XX001" | "XX002" | "22021":
            # The last: text that is not UTF-8, in a database that takes any bytes. Ours is looked at before it is sent.
            return CorruptRecordError(f"the PostgreSQL server found damaged data: {said}")
    match state[:2]:
        case "08" | "53" | "57" | "58":  # connection, resources, intervention, system
            return StoreUnavailableError(f"PostgreSQL is not available: {said}")
        case "25":  # a transaction that the server or we gave up
            return StoreUnavailableError(f"PostgreSQL gave up a transaction: {said}")
        case "22" | "23" | "54" | "21":  # data, constraint, limits
            return InvalidJobError(f"PostgreSQL refused a value: {said}")
    return StoreError(f"PostgreSQL failed with {state}: {said}")


def cannot_connect(error: psycopg.Error, state: str | None = None) -> JobcardError:
    """The jobcard error for a connection that could not be made. state: the server's SQLSTATE, if it said one."""
    if isinstance(error, psycopg.ProgrammingError):
        return ConfigError(f"the PostgreSQL library does not know an option of the store: {_first_line(error)}")
    if error.pgconn is not None and error.pgconn.needs_password:
        return AccessDeniedError("PostgreSQL asks for a password: put one into the store URL, or into config")
    said = "; ".join(line.strip(" -") for line in str(error).splitlines() if line.strip())
    if state is not None and isinstance(_by_state(state, error), AccessDeniedError):
        return AccessDeniedError(f"PostgreSQL refused the connection: {said}")
    kind = ProtocolError if state == "08P01" else CannotConnectError
    return kind(f"no connection to PostgreSQL: {said}")


def _first_line(error: psycopg.Error) -> str:
    # Never more: what follows may quote values.
    return (error.diag.message_primary or str(error)).split("\n", 1)[0][:300]


driver_errors = Door(translate)
