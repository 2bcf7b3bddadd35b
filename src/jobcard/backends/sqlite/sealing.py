"""The barrier of a sealed store: triggers that let nobody write, whatever program it is and whatever it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.errors import SEALED
from jobcard.errors import StoreMovedError

_WRITES = ("insert", "update", "delete")


def seal(connection: Connection, sql: Mapping[str, str], word: str | None) -> None:
    """Close the store with this word, or open it; in a transaction, whose lock waits for writers that are open."""
    _move_barrier(connection, sql, "lower_barrier" if word is None else "raise_barrier")
    connection.execute(sql["set_seal"], (word,))


@contextmanager
def lifted(connection: Connection, sql: Mapping[str, str]) -> Iterator[None]:
    """In a transaction: what stands in here may write to a sealed store. Nobody else ever sees it open."""
    [(is_up,)] = connection.execute(sql["barrier_is_up"])
    if is_up:
        _move_barrier(connection, sql, "lower_barrier")
    yield
    if is_up:
        _move_barrier(connection, sql, "raise_barrier")


def refuse(word: str | None) -> None:
    """`StoreMovedError` if the store is sealed; also for what would find nothing to write, and so meet no barrier."""
    if word is not None:
        raise StoreMovedError(SEALED)


def _move_barrier(connection: Connection, sql: Mapping[str, str], statement: str) -> None:
    for (table,) in connection.execute(sql["sealable"]):
        for write in _WRITES:
            connection.execute(sql[statement].replace("{table}", table).replace("{write}", write))
