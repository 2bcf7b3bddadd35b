"""Small records, and the version of settings that tells engines to read them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from jobcard.backends.base import SETTINGS, Record, RecordKind
from jobcard.backends.sqlite.connection import Connection


def read(connection: Connection, sql: Mapping[str, str], kind: RecordKind, now: int) -> list[Record]:
    """All records of a kind, by key."""
    rows = connection.execute(sql["read_records"], (kind.value,))
    return [Record(key, value, version, now - at) for key, value, version, at in rows]


def write(
    connection: Connection,
    sql: Mapping[str, str],
    kind: RecordKind,
    key: str,
    value: str,
    *,
    expect: int | None,
    now: int,
) -> int | None:
    """Write one; its new version. expect: only over this version (0: only if absent), else None."""
    name = "put_record" if expect is None else "replace_record" if expect else "add_record"
    values: tuple[object, ...] = (kind.value, key, value, now, *([expect] if expect else ()))
    written = connection.execute(sql[name], values)
    if not written:
        return None
    if kind in SETTINGS:
        raise_settings(connection, sql)
    version: int = written[0][0]
    return version


def remove(connection: Connection, sql: Mapping[str, str], kind: RecordKind, key: str) -> bool:
    """Remove one; False: it was not there."""
    gone = connection.change(sql["remove_record"], (kind.value, key)) > 0
    if gone and kind in SETTINGS:
        raise_settings(connection, sql)
    return gone


def raise_settings(connection: Connection, sql: Mapping[str, str]) -> None:
    """Make running engines read the records again."""
    connection.execute(sql["raise_settings"])


def add_queues(connection: Connection, sql: Mapping[str, str], queues: Collection[str], now: int) -> None:
    """Give those of the queues a record that have none."""
    for queue in queues:
        if connection.change(sql["add_queue"], (queue, "{}", now)):
            raise_settings(connection, sql)
