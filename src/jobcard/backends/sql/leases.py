"""Holding claims for longer, and finding those that nobody holds any more."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import cast

from jobcard.backends.base import Held
from jobcard.backends.pages import end_of
from jobcard.backends.sql import sealing
from jobcard.backends.sql.connection import Connection, Step
from jobcard.backends.sql.lookup import met, noted
from jobcard.backends.sql.rows import to_claimed
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import or_nothing
from jobcard.core.job import Ref
from jobcard.errors import StoreMovedError

_log = logging.getLogger("jobcard.store")


def renew(
    connection: Connection, sql: Statements, owner: str, held: Sequence[tuple[Ref, int]], lease: int, now: int | None
) -> list[Ref]:
    """Hold claims for longer; the refs of those that are gone."""
    proofs = sorted(cast(Sequence[tuple[int, int]], held))
    asked = {"refs": [ref for ref, _ in proofs], "proofs": proofs, "owner": owner, "now": now}
    with connection.transaction():
        [rows] = sealing.begin(connection, sql, Step(sql["renewable"], asked))
        if rows:
            values = {"refs": [n for n, _, _ in rows], "lease_until": rows[0][2] + lease}
            connection.commit(Step(sql["renew"], values))
    kept = {(n, token) for n, token, _ in rows}
    return [ref for ref, token in held if (ref, token) not in kept]


def find_held(
    connection: Connection,
    sql: Statements,
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
    values = {
        "owners": or_nothing([owner for owner in owners if sql.can_look_for(owner)]),
        "lapsed": lapsed,
        "limit": limit,
        "after": -1 if after is None else after,
        "now": now,
    }
    rows = connection.execute(sql["held"], values)
    if rows.unreadable:
        noted(rows)
        with contextlib.suppress(StoreMovedError):  # of a sealed store it can still be looked up, and nothing more
            connection.execute(sql["quarantine_lapsed"], {"refs": rows.unreadable, "now": now})
    return Held(list(map(to_claimed, rows)), end_of(sorted(met(rows)), limit))


def quarantine(connection: Connection, sql: Statements, refs: Sequence[object]) -> None:
    """Take jobs that cannot be read out of the line, and put them under the hold `broken`; all else is kept."""
    _log.error("jobs number %s cannot be read: taken out of the line, their bytes kept", refs)
    connection.run([Step(sql["quarantine"], {"refs": or_nothing(refs)})])
