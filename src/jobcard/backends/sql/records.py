"""Small records, and the version of settings that tells engines to read them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from jobcard.backends.base import SETTINGS, Record, RecordKind
from jobcard.backends.sql import sealing
from jobcard.backends.sql.connection import Connection, Rows, Step
from jobcard.backends.sql.errors import UniqueKeyError
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import or_nothing


def read(connection: Connection, sql: Statements, kind: RecordKind, now: int | None) -> list[Record]:
    """All records of a kind, by key."""
    rows = connection.execute(sql["read_records"], {"kind": kind.value, "now": now})
    return [Record(key, value, version, max(0, age)) for key, value, version, age in rows]


def write(
    connection: Connection,
    sql: Statements,
    kind: RecordKind,
    key: str,
    value: str,
    *,
    expect: int | None,
    now: int | None,
) -> int | None:
    """Write one; its new version. expect: only over this version (0: only if absent), else None."""
    place = {"kind": kind.value, "key": key}
    values = {**place, "value": value, "expect": expect, "now": now}
    name = "put_record" if expect is None else "replace_record" if expect else "add_record"
    try:
        with connection.transaction():
            if not _change(connection, sql, name, values):
                return None
            version: int = connection.execute(sql["lock_record"], place)[0][0]
            _tell(connection, sql, kind)
    except UniqueKeyError:
        return None
    return version


def remove(connection: Connection, sql: Statements, kind: RecordKind, key: str) -> bool:
    """Remove one; False: it was not there."""
    with connection.transaction():
        removed = _change(connection, sql, "remove_record", {"kind": kind.value, "key": key}) > 0
        if removed:
            _tell(connection, sql, kind)
    return removed


def _change(connection: Connection, sql: Statements, name: str, values: Mapping[str, object]) -> int:
    steps = [Step(sql["seal"]), Step(sql[name], values)]
    [sealed, _], [_, found] = connection.run_and_count(steps)
    sealing.refuse(sealed)  # whose transaction this is, undoes it
    return found


def _tell(connection: Connection, sql: Statements, kind: RecordKind) -> None:
    if kind in SETTINGS:
        connection.commit(Step(sql["raise_settings"]))


def queues_known(sql: Statements, queues: Collection[str]) -> Step:
    """The step that finds out which of some queues have a record."""
    return Step(sql["queues_known"], {"queues": or_nothing(sorted(filter(sql.can_look_for, queues)))})


def add_queues(sql: Statements, queues: Collection[str], known: Rows, now: int) -> list[Step]:
    """The steps that give queues unknown so far a record, and tell running engines."""
    new = sorted(set(queues) - {queue for (queue,) in known})
    if not new:
        return []
    rows = [("queue", queue, "{}", 1, now) for queue in new]
    return [Step(sql["add_queues"], {"rows": rows}), Step(sql["raise_settings"])]
