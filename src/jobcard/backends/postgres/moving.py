"""Jobs and once keys as they are, on their way from or into another store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import psycopg

from jobcard.backends.postgres import admission, deleting
from jobcard.backends.postgres.connection import Connection, Step
from jobcard.backends.postgres.enqueue import in_order, once_name, queues_of
from jobcard.backends.postgres.lookup import readable
from jobcard.backends.postgres.rows import columns_of
from jobcard.backends.postgres.values import Id, Ids, Numbers, Texts
from jobcard.core.job import JobRow, OnceKey, WholeJob
from jobcard.core.states import ENDED
from jobcard.errors import CorruptRecordError, StoreUnavailableError

Sql = Mapping[str, str]

_BELOW_ALL = bytes(16)

_ROUNDS = 20
"""How often jobs may find that somebody has just written others with their ids."""


def put(connection: Connection, sql: Sql, jobs: Sequence[WholeJob], now: int | None) -> list[bytes]:
    """Write jobs as they are, each in place of the one with its id; the ids of those that are not written."""
    by_id = {job.row.id: job for job in jobs}
    refused: list[bytes] = []
    rounds = 0
    while by_id and (missing := connection.again(partial(_put_all, connection, sql, list(by_id.values()), now))):
        taken = _whose_key_is_taken(connection, sql, [job.row for job in by_id.values()], missing)
        refused += taken
        for job_id in taken:
            del by_id[job_id]
        rounds += not taken
        if rounds == _ROUNDS:
            raise StoreUnavailableError("others write jobs with the same ids all the time; try again")
    return refused


def _whose_key_is_taken(
    connection: Connection, sql: Sql, rows: Sequence[JobRow], missing: Collection[bytes]
) -> list[bytes]:
    """Those of the missing whose key another living job has; the others have met somebody who wrote the same id."""
    living = [row for row in rows if row.unique_key is not None and row.state not in ENDED]
    keys = {row.unique_key for row in living if row.id in missing}
    if not keys:
        return []
    holders = {key: job_id for key, job_id, _ in connection.execute(sql["find_unique_keys"], {"keys": Texts(keys)})}
    first: dict[str | None, bytes] = {}
    for row in living:
        first.setdefault(row.unique_key, row.id)
    ours = {row.id for row in rows}
    return [
        row.id
        for row in living
        if row.id in missing and (first[row.unique_key] != row.id or holders.get(row.unique_key, row.id) not in ours)
    ]


def _put_all(connection: Connection, sql: Sql, jobs: Sequence[WholeJob], now: int | None) -> set[bytes]:
    """Write all of them, or none if some cannot be written; the ids of those."""
    steps = [deleting.removal(sql, [job.row.id for job in jobs]), _put(sql, jobs, now), *_put_what_belongs(sql, jobs)]
    missing: set[bytes] = set()
    with connection.transaction():
        _, [(written,)], *_ = connection.ask_all(steps)
        if written is not None:
            missing = {job.row.id for job in jobs}.difference(written)
            # What is there of them has to stay, and is gone by now.
            raise psycopg.Rollback
    return missing


def _put(sql: Sql, jobs: Sequence[WholeJob], now: int | None) -> Step:
    rows = [job.row for job in jobs]
    columns = columns_of([rows[place] for place in in_order(rows)])
    return Step(sql["put"], {**columns, "queues": queues_of(rows), "count": len(rows), "now": now})


def _put_what_belongs(sql: Sql, jobs: Sequence[WholeJob]) -> list[Step]:
    steps = []
    if attempts := [(job.row.id, each.attempt, each.at, each.error) for job in jobs for each in job.attempts]:
        ids, numbers, times, texts = zip(*attempts, strict=True)
        values = {"ids": Ids(ids), "numbers": Numbers(numbers), "times": Numbers(times), "texts": Texts(texts)}
        steps.append(Step(sql["put_attempts"], values))
    if lines := [(job.row.id, line.at, line.text) for job in jobs for line in job.lines]:
        ids, times, texts = zip(*lines, strict=True)
        values = {"ids": Ids(ids), "times": Numbers(times), "texts": Texts(texts)}
        steps.append(Step(sql["put_lines"], values))
    return steps


def versions(connection: Connection, sql: Sql, after: bytes | None, limit: int) -> list[tuple[bytes, int]]:
    """(id, version) of jobs by ascending id; -1 for one that cannot be read."""
    values = {"after": Id(after or _BELOW_ALL), "limit": limit}
    try:
        return [(job_id, version) for job_id, version, _ in connection.execute(sql["versions"], values)]
    except CorruptRecordError:
        found = connection.execute(sql["versions_unread"], values)
        whole = {row[0] for row in readable(connection, sql["get_ref"], [(ref,) for _, _, ref in found])}
        return [(job_id, version if job_id in whole else -1) for job_id, version, _ in found]


def once_keys(connection: Connection, sql: Sql, after: str | None, limit: int, now: int | None) -> list[OnceKey]:
    """Once keys in force, by ascending key."""
    values = {"after": after or "", "limit": limit, "now": now}
    return list(map(OnceKey._make, connection.execute(sql["once_keys"], values)))


def put_once_keys(connection: Connection, sql: Sql, keys: Sequence[OnceKey]) -> None:
    """Write once keys as they are, in place of those that are there."""
    given = {each.key: each for each in keys}.values()
    values = {
        "keys": Texts(each.key for each in given),
        "ids": Ids(each.job_id for each in given),
        "untils": Numbers(each.until for each in given),
    }
    names = [once_name(each.key) for each in given]
    connection.run([*admission.lock(sql, names), Step(sql["put_once_keys"], values)])
