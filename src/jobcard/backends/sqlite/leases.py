"""Holding claims for longer, and finding those that nobody holds any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.base import Held
from jobcard.backends.pages import end_of
from jobcard.backends.sqlite import lookup
from jobcard.backends.sqlite.bodies import Row
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.rows import CLAIMED_COLUMNS, to_claimed
from jobcard.core.job import Ref
from jobcard.errors import CorruptRecordError


def renew(
    connection: Connection, sql: Mapping[str, str], owner: str, held: Sequence[tuple[Ref, int]], lease: int, now: int
) -> list[Ref]:
    """Hold claims for longer; the refs of those that are gone."""
    rows = [(now + lease, ref, token, owner, now) for ref, token in held]
    if connection.change_many(sql["renew"], rows) == len(rows):
        return []
    # Again one by one: what was renewed just now is renewed again, what was lost stays so.
    return [row[1] for row in rows if not connection.change(sql["renew"], row)]


def find_held(
    connection: Connection,
    sql: Mapping[str, str],
    owners: Sequence[str],
    *,
    lapsed: bool,
    limit: int,
    after: Ref | None,
    now: int,
) -> tuple[Held, list[Ref]]:
    """Claims of some owners, and with `lapsed` those of anybody whose lease has run out: by ref, behind `after`.

    Beside them the refs of those that cannot be read.
    """
    found: dict[int, Row | None] = {}
    looks: list[tuple[str, object]] = [*(("held_by", owner) for owner in owners), *[("lapsed", now)] * lapsed]
    for name, value in looks:
        found |= _held_by_one(connection, sql, sql[name], (value, limit, after or 0))
    met = sorted(found)[:limit]
    claims = [to_claimed(row) for ref in met if (row := found[ref]) is not None]
    return Held(claims, end_of(met, limit)), [ref for ref in met if found[ref] is None]


def _held_by_one(
    connection: Connection, sql: Mapping[str, str], statement: str, values: Sequence[object]
) -> dict[int, Row | None]:
    """What one statement finds, by number; None: it cannot be read."""
    try:
        return {row[0]: row for row in connection.execute(statement.replace("{what}", CLAIMED_COLUMNS), values)}
    except CorruptRecordError:
        refs = [ref for (ref,) in connection.execute(statement.replace("{what}", "n"), values)]
        rows = {row[0]: row for row in lookup.readable(connection, sql["get_claimed"], refs)}
        return {ref: rows.get(ref) for ref in refs}


def quarantine_lapsed(connection: Connection, sql: Mapping[str, str], refs: Sequence[Ref], now: int) -> None:
    """Take claims that cannot be read, and whose lease has run out, from their holder; all else is kept."""
    connection.change_many(sql["quarantine_lapsed"], [(ref, now) for ref in refs])
