"""Deleting jobs: those kept long enough, those named, all; never in a sealed store, but for all.

Each but `truncate` is one transaction, for whoever does it again when it was in another's way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobcard.backends.sql import lookup, sealing
from jobcard.backends.sql.connection import Connection, Step, only_row
from jobcard.backends.sql.statements import Statements

_TRUNCATED = ("attempts", "log_lines", "once", "starts", "jobs", "records")


def prune(
    connection: Connection,
    sql: Statements,
    states: Sequence[str],
    finished_before: int | None,
    age: int | None,
    limit: int,
    now: int | None,
) -> int:
    """Delete at most `limit` ended jobs in these states; then once keys and starts whose time is over."""
    names = [*map(str, states)]
    refs: dict[int, None] = {}
    with connection.transaction():
        [moment] = sealing.begin(connection, sql, Step(sql["moment"], {"now": now}))
        at: int = only_row(moment)[0]
        ends = lookup.ends(connection, sql, names)
        for step in _looks(sql, names, ends, at, finished_before, age):
            if len(refs) < limit:
                left = {**step.values, "limit": limit - len(refs)}
                refs |= dict.fromkeys(n for (n,) in connection.execute(step.sql, left))
        connection.run([Step(sql[name], {"now": at}) for name in ("forget_once", "forget_starts")])
        return _remove(connection, sql, list(refs), "delete")


def _looks(
    sql: Statements,
    states: Sequence[str],
    ends: Sequence[tuple[str, str]],
    now: int,
    before: int | None,
    age: int | None,
) -> list[Step]:
    """Where jobs that may be pruned are looked for, one state, queue and rule after the other."""
    steps = []
    finished_before, expired = sql["finished_before"], sql["expired"]
    for state in states:
        for queue in (queue for ended, queue in ends if ended == state):
            place: dict[str, object] = {"state": state, "queue": queue}
            if before is not None:
                steps.append(Step(finished_before, {**place, "before": before, "kept": True}))
            if age is not None:
                steps.append(Step(finished_before, {**place, "before": now - age, "kept": False}))
        if age is not None:
            steps.append(Step(expired, {"state": state, "now": now}))
    return steps


def delete(connection: Connection, sql: Statements, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs if they have ended; how many."""
    with connection.transaction():
        [found] = sealing.begin(connection, sql, Step(sql["ended_refs"], {"ids": job_ids}))
        return _remove(connection, sql, [n for (n,) in found], "delete")


def erase(connection: Connection, sql: Statements, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs in whatever state they are; how many were there."""
    with connection.transaction():
        [found] = sealing.begin(connection, sql, Step(sql["find_refs"], {"ids": job_ids}))
        return _remove(connection, sql, [n for n, _ in found], "erase")


def removal(sql: Statements, refs: Sequence[int], how: str) -> list[Step]:
    """The steps that take jobs away whose rows are locked, and all that belongs to them; the last one counts them.

    how: the statement for the jobs themselves.
    """
    values = {"refs": sorted(refs)}
    return [Step(sql[name], values) for name in ("delete_attempts", "delete_lines", how)] if refs else []


def _remove(connection: Connection, sql: Statements, refs: Sequence[int], how: str) -> int:
    if not refs:
        return 0
    _, counts = connection.run_and_count(removal(sql, refs, how))
    return counts[-1]


def truncate(connection: Connection, sql: Statements) -> None:
    """Delete every job and record; the schema and the store's identity stay.

    Some thousand at a time, on a connection that no seal stops.
    """
    for table in _TRUNCATED:
        step = partial(connection.change, sql[f"truncate_{table}"])
        while connection.again(step):
            pass
    connection.execute(sql["raise_settings"])
