"""Errors of SQL databases that their stores must tell apart, and the SQLSTATEs that many databases share."""

from __future__ import annotations

from jobcard.backends.verbs import NotUnderstoodError
from jobcard.errors import (
    ConfigError,
    InvalidJobError,
    JobcardError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

SEALED = "this store was sealed: its jobs live elsewhere now"


class UniqueKeyError(InvalidJobError):
    """A unique index refused a row; its caller finds out who is there."""


class StatementError(NotUnderstoodError):
    """The server did not understand a statement: the tables are missing or not of this version."""


class AlreadySoError(StatementError):
    """A column or index that a statement adds is there, or one that it takes away is gone: it has been run before."""


class ConflictError(StoreUnavailableError):
    """Two transactions were in each other's way and this one was undone; the same again will do."""


def by_sqlstate(state: str, said: str) -> JobcardError:
    """The jobcard error for a SQLSTATE as the standard and PostgreSQL have it. said: the server's words, no values."""
    said = said.split("\n", 1)[0][:300]
    match state:
        case "23505":
            return UniqueKeyError("another job holds the same id or unique key")
        case "53100":
            return StoreFullError("the disk of the server is full; nothing was stored")
        case "JC001":  # by the barrier of raise_barrier.sql
            return StoreMovedError(SEALED)
        case "55P03" | "57014" | "25006":  # a lock, a statement that took too long, a server that takes no writes
            return StoreUnavailableError(f"the server is busy, or takes no writes: {said}")
        case "3D000" | "42501":  # no such database, no right to do that
            return ConfigError(f"the server refused the connection, or what this user may not do: {said}")
    match state[:2]:
        case "40":
            return ConflictError(f"the server undid a transaction that was in another's way: {said}")
        case "42" | "3F":
            return StatementError(f"the server refused a statement: {said}")
        case "21" | "22" | "23" | "54":  # data, constraints, limits
            return InvalidJobError(f"the server refused a value: {said}")
        case "28":
            return ConfigError(f"the server refused the connection: {said}")
        case "08" | "25" | "53" | "57" | "58":  # connection, transaction, resources, intervention, system
            return StoreUnavailableError(f"the server is not available: {said}")
    return StoreError(f"the server failed with {state}: {said}")
