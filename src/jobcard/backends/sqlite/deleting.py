"""Deleting jobs: those kept long enough, those named, all; never in a sealed store, but for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.sqlite import lookup, records, sealing
from jobcard.backends.sqlite.connection import Connection

_TRUNCATE = tuple(f"truncate_{table}" for table in ("attempts", "lines", "once", "starts", "jobs", "records"))


def prune(
    connection: Connection,
    sql: Mapping[str, str],
    states: Sequence[str],
    finished_before: int | None,
    age: int | None,
    limit: int,
    now: int,
) -> int:
    """Delete at most `limit` ended jobs in these states; then once keys and starts whose time is over."""
    refs: dict[int, None] = {}
    for state in map(str, states):
        looks: list[tuple[str, tuple[object, ...]]] = []
        if finished_before is not None:
            looks.append(("finished_before", (state, finished_before, True)))
        if age is not None:
            looks.append(("finished_before", (state, now - age, False)))
            looks.append(("expired", (state, now)))
        for look, values in looks:
            if len(refs) < limit:
                rows = connection.execute(sql[look], (*values, limit - len(refs)))
                refs |= dict.fromkeys(ref for (ref,) in rows)
    connection.execute(sql["forget_once"], (now, limit))
    connection.execute(sql["forget_starts"], (now,))
    return _remove(connection, sql, list(refs), "delete")


def delete(connection: Connection, sql: Mapping[str, str], job_ids: Sequence[bytes]) -> int:
    """Delete these jobs if they have ended; how many."""
    found = lookup.by_ids(connection, sql["ended_refs"], job_ids)
    return _remove(connection, sql, [ref for (ref,) in found], "delete")


def erase(connection: Connection, sql: Mapping[str, str], job_ids: Sequence[bytes]) -> int:
    """Delete these jobs in whatever state they are; how many were there."""
    found = lookup.by_ids(connection, sql["find_refs"], job_ids)
    return _remove(connection, sql, [ref for ref, _ in found], "erase")


def _remove(connection: Connection, sql: Mapping[str, str], refs: Sequence[int], statement: str) -> int:
    keys = [(ref,) for ref in refs]
    connection.change_many(sql["delete_attempts"], keys)
    connection.change_many(sql["delete_lines"], keys)
    return connection.change_many(sql[statement], keys)


def truncate(connection: Connection, sql: Mapping[str, str]) -> None:
    """Delete every job and record; the schema and the store's identity stay."""
    with sealing.lifted(connection, sql):
        for name in _TRUNCATE:
            connection.execute(sql[name])
        records.raise_settings(connection, sql)
