"""Holding claims for longer, and finding those that nobody holds any more."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import cast

from jobcard.backends.base import Held
from jobcard.backends.pages import end_of
from jobcard.backends.postgres.connection import Connection
from jobcard.backends.postgres.lookup import can_be_stored, readable
from jobcard.backends.postgres.rows import CLAIMED_COLUMNS, to_claimed
from jobcard.backends.postgres.values import Numbers, Texts
from jobcard.core.job import Ref
from jobcard.errors import CorruptRecordError, StoreMovedError

_log = logging.getLogger("jobcard.store")

Sql = Mapping[str, str]


def renew(
    connection: Connection, sql: Sql, owner: str, held: Sequence[tuple[Ref, int]], lease: int, now: int | None
) -> list[Ref]:
    """Hold claims for longer; the refs of those that are gone."""
    ordered = sorted(cast(Sequence[tuple[int, int]], held))
    values = {
        "now": now,
        "refs": Numbers(ref for ref, _ in ordered),
        "tokens": Numbers(token for _, token in ordered),
        "owner": owner,
        "lease": lease,
    }
    return [ref for (ref,) in connection.execute(sql["renew"], values)]


def find_held(
    connection: Connection,
    sql: Sql,
    owners: Sequence[str],
    *,
    lapsed: bool,
    limit: int,
    after: Ref | None,
    now: int | None,
) -> Held:
    """Claims of some owners, and with `lapsed` those of anybody whose lease has run out: by ref, behind `after`.

    One that cannot be read is left out; if its lease has run out it is taken from its holder and out of the line.
    """
    known = [owner for owner in owners if can_be_stored(owner)]
    first = after if isinstance(after, int) else 0
    values = {"owners": Texts(known), "lapsed": lapsed, "limit": limit, "after": first, "now": now}
    try:
        rows = connection.execute(sql["held"].replace("{what}", CLAIMED_COLUMNS), values)
        met = [row[0] for row in rows]
    except CorruptRecordError:
        refs = connection.execute(sql["held"].replace("{what}", "n"), values)
        rows = readable(connection, sql["get_claimed"], refs)
        met = [ref for (ref,) in refs]
        broken = set(met) - {row[0] for row in rows}
        # Of a sealed store they are only read.
        with contextlib.suppress(StoreMovedError):
            connection.execute(sql["quarantine_lapsed"], {"refs": Numbers(sorted(broken)), "now": now})
    return Held(list(map(to_claimed, rows)), end_of(met, limit))


def quarantine(connection: Connection, sql: Sql, refs: Sequence[int]) -> None:
    """Take jobs that cannot be read out of the line, and put them under the hold `broken`; all else is kept."""
    _log.error("jobs number %s cannot be read: taken out of the line, their bytes kept", refs)
    connection.execute(sql["quarantine"], {"refs": Numbers(refs)})
