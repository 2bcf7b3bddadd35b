"""New jobs on their way into the line: those of an enqueue, and those that follow another's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.base import Enqueued, Fate
from jobcard.backends.sqlite.connection import Connection
from jobcard.core.job import NewJob
from jobcard.errors import StoreMovedError


def enqueue(connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int) -> list[Enqueued]:
    """Store these jobs in one transaction; one answer each, in order."""
    # Where keys may collide, one by one at once; else all in one go, and again if one was there already.
    if len(jobs) > 1 and all(job.unique_key is None for job in jobs):
        answers = _enqueue_all(connection, sql, jobs, now)
        if answers is not None:
            return answers
    return _enqueue_singly(connection, sql, jobs, now)


def _enqueue_all(
    connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int
) -> list[Enqueued] | None:
    stored = Fate.STORED
    end = (now,)
    try:
        with connection.transaction():
            _open_line(connection, sql, jobs, now)
            if connection.change_many(sql["enqueue"], [job + end for job in jobs]) != len(jobs):
                raise _TakenError
    except _TakenError:
        return None
    return [Enqueued(stored, job.id) for job in jobs]


def _enqueue_singly(connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int) -> list[Enqueued]:
    with connection.transaction():
        _open_line(connection, sql, jobs, now)
        return [
            Enqueued(Fate.STORED, job.id)
            if connection.change(sql["enqueue"], (*job, now))
            else _find_taken(connection, sql, job)
            for job in jobs
        ]


def follow(connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int) -> bool:
    """Store the jobs that follow a change, in its transaction; one that is there or taken is passed over.

    Whether any was stored.
    """
    _open_line(connection, sql, jobs, now)
    return connection.change_many(sql["enqueue"], [(*job, now) for job in jobs]) > 0


def _open_line(connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int) -> None:
    [(seal,)] = connection.execute(sql["seal"])
    if seal is not None:
        raise StoreMovedError("this store was sealed: its jobs live elsewhere now")
    for queue in {job.queue for job in jobs}:
        if connection.change(sql["add_queue"], (queue, "{}", now)):
            connection.execute(sql["raise_settings"])


def _find_taken(connection: Connection, sql: Mapping[str, str], job: NewJob) -> Enqueued:
    found = connection.execute(sql["find_id"], (job.id,))
    if found:
        same = found[0] == (job.name, job.init, job.args, job.kwargs)
        return Enqueued(Fate.REPEATED if same else Fate.ID_TAKEN, job.id)
    [(existing,)] = connection.execute(sql["find_unique_key"], (job.unique_key,))
    return Enqueued(Fate.KEY_TAKEN, existing)


class _TakenError(Exception):
    """An id of the batch is there already; the batch is stored again one by one."""
