"""Jobs and once keys as they are, on their way from or into another store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from jobcard.backends.sql import deleting, records, sealing
from jobcard.backends.sql.connection import Connection, Step, only_row
from jobcard.backends.sql.errors import UniqueKeyError
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import in_pieces, or_nothing
from jobcard.core.job import JobRow, OnceKey, WholeJob
from jobcard.core.states import ENDED
from jobcard.errors import StoreUnavailableError

T = TypeVar("T")

_ROUNDS = 20
"""How often an id or key may be free at the first look and taken by somebody else before it is written."""


def put(connection: Connection, sql: Statements, jobs: Sequence[WholeJob], now: int | None) -> list[bytes]:
    """Write jobs as they are, each in place of the one with its id; the ids of those that are not written."""
    by_id = {job.row.id: job for job in jobs}
    return _again(connection, partial(_put, connection, sql, by_id, now))


def _put(connection: Connection, sql: Statements, jobs: Mapping[bytes, WholeJob], clock: int | None) -> list[bytes]:
    rows = [job.row for job in jobs.values()]
    queues = {row.queue for row in rows}
    keys = [row.unique_key for row in rows if _holds_key(row)]
    with connection.transaction():
        known, moment, found, holders = sealing.begin(
            connection,
            sql,
            records.queues_known(sql, queues),
            Step(sql["moment"], {"now": clock}),
            Step(sql["find_refs"], {"ids": [*jobs]}),
            Step(sql["find_unique_keys"], {"keys": or_nothing(keys)}),
        )
        left_out = _left_out(rows, {key: job_id for key, job_id, *_ in holders})
        written = [job_id for job_id in jobs if job_id not in left_out]
        *_, refs = connection.run(
            [
                *records.add_queues(sql, queues, known, only_row(moment)[0]),
                *deleting.removal(sql, [n for n, job_id in found if job_id not in left_out], "erase"),
                *_inserts(connection, sql, "put", [row for row in rows if row.id not in left_out]),
                Step(sql["find_refs"], {"ids": or_nothing(written)}),
            ]
        )
        numbered = [(n, jobs[job_id]) for n, job_id in sorted(refs)]
        tries = [row for n, job in numbered for row in _tries_of(n, job)]
        lines = [row for n, job in numbered for row in _lines_of(n, job)]
        connection.commit(
            *_inserts(connection, sql, "add_attempts", tries), *_inserts(connection, sql, "add_lines", lines)
        )
    return [job_id for job_id in jobs if job_id in left_out]


def _holds_key(row: JobRow) -> bool:
    return row.unique_key is not None and row.state not in ENDED


def _left_out(rows: Sequence[JobRow], holders: Mapping[str, bytes]) -> set[bytes]:
    """The ids of those whose unique key another living job has; whoever is left out stays as it is, with its key.

    holders: the living jobs that have these keys now.
    """
    left_out: set[bytes] = set()
    while True:
        written = [row for row in rows if row.id not in left_out]
        coming = {row.id for row in written}
        taken: dict[str | None, bytes] = {key: job_id for key, job_id in holders.items() if job_id not in coming}
        more = {row.id for row in written if _holds_key(row) and taken.setdefault(row.unique_key, row.id) != row.id}
        if not more:
            return left_out
        left_out |= more


def _tries_of(ref: int, job: WholeJob) -> Iterator[tuple[object, ...]]:
    for place, one in enumerate(job.attempts, 1):
        yield ref, place, one.at, one.attempt, one.error


def _lines_of(ref: int, job: WholeJob) -> Iterator[tuple[object, ...]]:
    behind = 0
    for place, line in enumerate(job.lines, 1):
        yield ref, place, behind, line.at, line.text
        behind += len(line.text)


def _inserts(connection: Connection, sql: Statements, name: str, rows: Sequence[Sequence[object]]) -> list[Step]:
    """The steps of a statement for all of these rows, in as many pieces as fit."""
    pieces = in_pieces(rows, connection.largest_piece, connection.most_values)
    return [Step(sql[name], {"rows": piece}) for piece in pieces if piece]


def versions(connection: Connection, sql: Statements, after: bytes | None, limit: int) -> list[tuple[bytes, int]]:
    """(id, version) of jobs by ascending id; -1 for one that cannot be read."""
    rows = connection.execute(sql["versions"], {"after": after or b"", "limit": limit})
    return [(job_id, version) for job_id, version in rows]


def once_keys(connection: Connection, sql: Statements, after: str | None, limit: int, now: int | None) -> list[OnceKey]:
    """Once keys in force, by ascending key."""
    rows = connection.execute(sql["once_keys"], {"after": after or "", "limit": limit, "now": now})
    return list(map(OnceKey._make, rows))


def put_once_keys(connection: Connection, sql: Statements, keys: Sequence[OnceKey]) -> None:
    """Write once keys as they are, in place of those that are there."""
    by_key = {key.key: key for key in keys}
    # In one order for everybody, as they are taken.
    rows = [by_key[key] for key in sorted(by_key)]

    def work() -> None:
        with connection.transaction():
            sealing.begin(connection, sql)
            connection.commit(
                Step(sql["drop_once"], {"keys": sorted(by_key)}), *_inserts(connection, sql, "take_once", rows)
            )

    _again(connection, work)


def _again(connection: Connection, work: Callable[[], T]) -> T:
    for _ in range(_ROUNDS):
        try:
            return connection.again(work)
        except UniqueKeyError:
            continue  # undone; somebody has come in between, and is found at the next look
    raise StoreUnavailableError("jobs come and go under the same ids and keys; try again")
