"""Small records, and the version of settings that tells engines to read them again."""

from __future__ import annotations

from collections.abc import Mapping

from jobcard.backends.base import SETTINGS, Record, RecordKind
from jobcard.backends.postgres.connection import Connection

Sql = Mapping[str, str]


def read(connection: Connection, sql: Sql, kind: RecordKind, now: int | None) -> list[Record]:
    """All records of a kind, by key."""
    return list(map(Record._make, connection.execute(sql["read_records"], {"kind": kind.value, "now": now})))


def write(
    connection: Connection, sql: Sql, kind: RecordKind, key: str, value: str, *, expect: int | None, now: int | None
) -> int | None:
    """Write one; its new version. expect: only over this version (0: only if absent), else None."""
    name = "put_record" if expect is None else "replace_record" if expect else "add_record"
    return _change(connection, sql, name, kind, {"key": key, "value": value, "expect": expect, "now": now})


def remove(connection: Connection, sql: Sql, kind: RecordKind, key: str) -> bool:
    """Remove one; False: it was not there."""
    return _change(connection, sql, "remove_record", kind, {"key": key}) is not None


def _change(connection: Connection, sql: Sql, name: str, kind: RecordKind, values: Mapping[str, object]) -> int | None:
    rows = connection.execute(sql[name], {**values, "kind": kind.value, "settings": kind in SETTINGS})
    return rows[0][0] if rows else None
