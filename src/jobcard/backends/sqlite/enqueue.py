"""New jobs on their way into the line: those of an enqueue, and those that follow another's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.base import Enqueued, Fate
from jobcard.backends.sqlite import admission, records
from jobcard.backends.sqlite.connection import Connection
from jobcard.core.clock import Clock
from jobcard.core.job import NewJob


def store(connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], clock: Clock) -> list[Enqueued]:
    """Store jobs, all or nothing; one answer each, in order."""
    # Where keys may collide, one by one at once; else all in one go, and again if one was there already.
    if len(jobs) > 1 and not any(map(_has_key, jobs)):
        answers = _store_all(connection, sql, jobs, clock)
        if answers is not None:
            return answers
    return _store_singly(connection, sql, jobs, clock)


def _store_all(
    connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], clock: Clock
) -> list[Enqueued] | None:
    stored = Fate.STORED
    try:
        with connection.transaction():
            now = clock.now()
            records.add_queues(connection, sql, {job.queue for job in jobs}, now)
            if connection.change_many(sql["enqueue"], [(*job, now) for job in jobs]) != len(jobs):
                raise _TakenError
    except _TakenError:
        return None
    return [Enqueued(stored, job.id) for job in jobs]


def _store_singly(
    connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], clock: Clock
) -> list[Enqueued]:
    with connection.transaction():
        now = clock.now()
        records.add_queues(connection, sql, {job.queue for job in jobs}, now)
        return [_store_one(connection, sql, job, now) for job in jobs]


def _store_one(connection: Connection, sql: Mapping[str, str], job: NewJob, now: int) -> Enqueued:
    if _insert(connection, sql, job, now):
        return Enqueued(Fate.STORED, job.id)
    taken = _find_taken(connection, sql, job)
    if taken.fate is Fate.KEY_TAKEN and job.replaces and _replace(connection, sql, job, taken.existing, now):
        return Enqueued(Fate.REPLACED, taken.existing)
    return taken


def _replace(connection: Connection, sql: Mapping[str, str], job: NewJob, existing: bytes, now: int) -> bool:
    """Whether the job took the place of this one, which waited; perhaps in line with a limit key, for the next one."""
    left = {key for (key,) in connection.execute(sql["find_limit_key"], (existing,)) if key is not None}
    if not connection.change(sql["replace"], (*job, now, existing)):
        return False
    admission.let_in(connection, sql, left)
    return True


def _insert(connection: Connection, sql: Mapping[str, str], job: NewJob, now: int) -> bool:
    if job.once_key is None:
        return connection.change(sql["enqueue"], (*job, now)) > 0
    try:
        # A once key taken for a job that is not stored then is given back.
        with connection.savepoint():
            if not connection.change(sql["take_once"], (job.once_key, job.id, job.once_until, now)):
                return False
            if not connection.change(sql["enqueue"], (*job, now)):
                raise _TakenError
    except _TakenError:
        return False
    return True


def _has_key(job: NewJob) -> bool:
    return job.unique_key is not None or job.once_key is not None


def follow(connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int) -> bool:
    """Store the jobs that follow a change, in its transaction; one that is there or taken is passed over.

    Whether any was stored.
    """
    records.add_queues(connection, sql, {job.queue for job in jobs}, now)
    if not any(map(_has_key, jobs)):
        return connection.change_many(sql["enqueue"], [(*job, now) for job in jobs]) > 0
    return sum(_insert(connection, sql, job, now) for job in jobs) > 0


def _find_taken(connection: Connection, sql: Mapping[str, str], job: NewJob) -> Enqueued:
    found = connection.execute(sql["find_id"], (job.id,))
    if found:
        same = found[0] == (job.name, job.init, job.args, job.kwargs)
        return Enqueued(Fate.REPEATED if same else Fate.ID_TAKEN, job.id)
    if job.unique_key is not None:
        for (existing,) in connection.execute(sql["find_unique_key"], (job.unique_key,)):
            return Enqueued(Fate.KEY_TAKEN, existing)
    [(existing,)] = connection.execute(sql["find_once"], (job.once_key,))
    return Enqueued(Fate.KEY_TAKEN, existing)


class _TakenError(Exception):
    """An id or key of the batch is there already."""
