"""Deleting jobs: those kept long enough, those named, all; never in a sealed store, but for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.postgres.connection import Connection, Step
from jobcard.backends.postgres.values import Ids

Sql = Mapping[str, str]


def prune(
    connection: Connection,
    sql: Sql,
    states: Sequence[str],
    finished_before: int | None,
    age: int | None,
    limit: int,
    now: int | None,
) -> int:
    """Delete at most `limit` ended jobs in these states; then once keys and starts whose time is over."""
    total = 0
    for state in map(str, states):
        looks = []
        if finished_before is not None:
            looks.append(("prune_finished", {"before": finished_before, "age": None}))
        if age is not None:
            looks.append(("prune_finished", {"before": None, "age": age}))
            looks.append(("prune_expired", {}))
        for look, values in looks:
            if total < limit:
                left = {"state": state, "limit": limit - total, "now": now}
                total += connection.execute(sql[look], {**values, **left})[0][0]
    over = {"limit": limit, "now": now}
    connection.run([Step(sql["forget_once"], over), Step(sql["forget_starts"], over)])
    return total


def delete(connection: Connection, sql: Sql, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs if they have ended; how many."""
    number: int = connection.execute(sql["delete"], {"ids": Ids(job_ids)})[0][0]
    return number


def erase(connection: Connection, sql: Sql, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs in whatever state they are; how many were there."""
    number: int = connection.run([removal(sql, job_ids)])[0][0][0]
    return number


def removal(sql: Sql, job_ids: Sequence[bytes]) -> Step:
    """The step that deletes jobs in whatever state they are; it tells how many."""
    return Step(sql["erase"], {"ids": Ids(job_ids)})


def truncate(connection: Connection, sql: Sql) -> None:
    """Delete every job and record; the schema and the store's identity stay."""
    connection.run([Step(sql["truncate"]), Step(sql["raise_settings"])])
