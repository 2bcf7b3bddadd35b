"""Jobs and once keys as they are, on their way from or into another store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jobcard.backends.sqlite import lookup, records
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.errors import UniqueKeyError
from jobcard.backends.sqlite.rows import JOB_COLUMNS, to_job
from jobcard.core.job import JobRow, OnceKey, WholeJob
from jobcard.core.states import ENDED
from jobcard.errors import CorruptRecordError


def put(connection: Connection, sql: Mapping[str, str], jobs: Sequence[WholeJob], now: int) -> list[bytes]:
    """Write jobs as they are, each in place of the one with its id; the ids of those that are not written."""
    by_id = {job.row.id: job for job in jobs}
    records.add_queues(connection, sql, {job.row.queue for job in jobs}, now)
    left_out = _put_rows(connection, sql, [job.row for job in by_id.values()])
    written = [job_id for job_id in by_id if job_id not in left_out]
    found = lookup.by_ids(connection, sql["find_refs"], written)
    connection.change_many(sql["delete_attempts"], [(ref,) for ref, _ in found])
    connection.change_many(sql["delete_lines"], [(ref,) for ref, _ in found])
    for ref, job_id in found:
        job = by_id[job_id]
        connection.change_many(sql["add_attempt"], [(ref, one.attempt, one.at, one.error) for one in job.attempts])
        connection.change_many(sql["add_line"], _lines_of(ref, job))
    return [job_id for job_id in by_id if job_id in left_out]


def _put_rows(connection: Connection, sql: Mapping[str, str], rows: Sequence[JobRow]) -> set[bytes]:
    # Those that have ended come first: each may give a key free that a living one has by now.
    rows = sorted(rows, key=lambda row: row.state not in ENDED)
    try:
        with connection.savepoint():
            connection.change_many(sql["put"], rows)
    except UniqueKeyError:
        return {row.id for row in rows if not _put_row(connection, sql, row)}
    return set()


def _put_row(connection: Connection, sql: Mapping[str, str], row: JobRow) -> bool:
    try:
        connection.execute(sql["put"], row)
    except UniqueKeyError:
        return False
    return True


def _lines_of(ref: int, job: WholeJob) -> Iterator[tuple[object, ...]]:
    before = 0
    for place, line in enumerate(job.lines, 1):
        yield ref, place, before, line.at, line.text
        before += len(line.text)


def versions(
    connection: Connection, sql: Mapping[str, str], after: bytes | None, limit: int
) -> list[tuple[bytes, int]]:
    """(id, version) of jobs by ascending id; -1 for one that cannot be read."""
    values = (after or b"", limit)
    try:
        # Whole, though two columns are asked for: what cannot be read is found by reading it.
        rows = connection.execute(sql["versions"].replace("{what}", JOB_COLUMNS), values)
    except CorruptRecordError:
        found = connection.execute(sql["versions"].replace("{what}", "id, version"), values)
        readable = {to_job(row).id for row in lookup.readable(connection, sql["get"], [job_id for job_id, _ in found])}
        return [(job_id, version if job_id in readable else -1) for job_id, version in found]
    return [(job.id, job.version) for job in map(to_job, rows)]


def once_keys(connection: Connection, sql: Mapping[str, str], after: str | None, limit: int, now: int) -> list[OnceKey]:
    """Once keys in force, by ascending key."""
    return [OnceKey(*row) for row in connection.execute(sql["once_keys"], (after or "", now, limit))]


def put_once_keys(connection: Connection, sql: Mapping[str, str], keys: Sequence[OnceKey]) -> None:
    """Write once keys as they are, in place of those that are there."""
    connection.change_many(sql["put_once_key"], keys)
