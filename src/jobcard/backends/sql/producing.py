"""Storing new jobs: those of an enqueue, and those that follow another's end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from jobcard.backends.base import Enqueued, Fate
from jobcard.backends.sql.connection import Connection, Rows, Step, only_row
from jobcard.backends.sql.errors import UniqueKeyError
from jobcard.backends.sql.rows import new_row
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import in_pieces, or_nothing
from jobcard.core.job import NewJob
from jobcard.errors import StoreMovedError, StoreUnavailableError

_ROUNDS = 20
"""How often a job may find its id or key taken and, on a second look, free again."""


def enqueue(connection: Connection, sql: Statements, jobs: Sequence[NewJob], now: int | None) -> list[Enqueued]:
    """Store these jobs in one transaction; one answer each, in order."""
    taken: dict[int, Enqueued] = {}
    for _ in range(_ROUNDS):
        try:
            return connection.again(partial(_store, connection, sql, jobs, taken, now))
        except UniqueKeyError:
            # Undone: none is stored. Whose id or key is taken is found out, and the others are stored again.
            taken = _find_taken(connection, sql, jobs)
    raise StoreUnavailableError("jobs come and go under the same ids and unique keys; try again")


def _store(
    connection: Connection, sql: Statements, jobs: Sequence[NewJob], taken: Mapping[int, Enqueued], clock: int | None
) -> list[Enqueued]:
    new = [job for place, job in enumerate(jobs) if place not in taken]
    # By key, then by id: two producers never wait for each other in a ring.
    new.sort(key=lambda job: (job.unique_key or "", job.id))
    with connection.transaction():
        sealed, known, moment = connection.run(opening(sql, new, clock))
        refuse_sealed(sealed)
        now: int = only_row(moment)[0]
        steps = add_queues(sql, new, known, now)
        for rows in _pieces(connection, new, now):
            if rows:
                steps.append(Step(sql["enqueue"], {"rows": rows}))
        connection.commit(*steps)
    return [taken.get(place) or Enqueued(Fate.STORED, job.id) for place, job in enumerate(jobs)]


def opening(sql: Statements, jobs: Collection[NewJob], now: int | None) -> list[Step]:
    """What is asked before jobs are stored, in the transaction that stores them."""
    queues = sorted(filter(sql.can_look_for, {job.queue for job in jobs}))
    return [
        Step(sql["seal"]),
        Step(sql["queues_known"], {"queues": or_nothing(queues)}),
        Step(sql["moment"], {"now": now}),
    ]


def refuse_sealed(sealed: Rows) -> None:
    """`StoreMovedError` when nothing may be added any more."""
    if sealed and sealed[0][0] is not None:
        raise StoreMovedError("this store was sealed: its jobs live elsewhere now")


def add_queues(sql: Statements, jobs: Collection[NewJob], known: Rows, now: int) -> list[Step]:
    """The steps that give queues unknown so far a record, and tell running engines."""
    new = sorted({job.queue for job in jobs} - {queue for (queue,) in known})
    if not new:
        return []
    rows = [("queue", queue, "{}", 1, now) for queue in new]
    return [Step(sql["add_queues"], {"rows": rows}), Step(sql["raise_settings"])]


def follow(connection: Connection, sql: Statements, jobs: Sequence[NewJob], now: int) -> list[Step]:
    """The steps that store jobs after the change they follow; one that is there or taken is passed over."""
    return [Step(sql["follow"], {"rows": piece}) for piece in _pieces(connection, jobs, now)]


def _pieces(connection: Connection, jobs: Sequence[NewJob], now: int) -> Sequence[Sequence[Sequence[object]]]:
    rows = [new_row(job, now) for job in jobs]
    return in_pieces(rows, connection.largest_piece, connection.most_values)


def _find_taken(connection: Connection, sql: Statements, jobs: Sequence[NewJob]) -> dict[int, Enqueued]:
    """What becomes of the jobs whose id or key is taken, by their place; also by another of this very call."""
    keys = [job.unique_key for job in jobs if job.unique_key is not None]
    found, holders = connection.run(
        [
            Step(sql["find_ids"], {"ids": or_nothing([job.id for job in jobs])}),
            Step(sql["find_unique_keys"], {"keys": or_nothing(keys)}),
        ]
    )
    there: dict[bytes, list[object]] = {job_id: content for job_id, *content in found}
    holder_of: dict[str, bytes] = dict(holders)
    taken = {}
    for place, job in enumerate(jobs):
        content: list[object] = [job.name, job.init, job.args, job.kwargs]
        if job.id in there:
            taken[place] = Enqueued(Fate.REPEATED if there[job.id] == content else Fate.ID_TAKEN, job.id)
        elif job.unique_key in holder_of:
            taken[place] = Enqueued(Fate.KEY_TAKEN, holder_of[job.unique_key])
        else:
            there[job.id] = content
            if job.unique_key is not None:
                holder_of[job.unique_key] = job.id
    return taken
