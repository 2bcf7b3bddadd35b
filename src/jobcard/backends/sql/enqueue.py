"""Storing new jobs: those of an enqueue, and those that follow another's end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from jobcard.backends.base import Enqueued, Fate
from jobcard.backends.sql import admission, records, sealing
from jobcard.backends.sql.connection import Connection, Step, only_row
from jobcard.backends.sql.errors import UniqueKeyError
from jobcard.backends.sql.rows import new_row, replacing
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import in_pieces, or_nothing
from jobcard.core.job import NewJob
from jobcard.errors import JobcardError, StoreUnavailableError

_ROUNDS = 20
"""How often a job may find its id or key taken and, on a second look, free again."""


class _MovedOnError(JobcardError):
    """A job that was to be replaced does not wait any more; nothing is stored, and it is looked again."""


def store(connection: Connection, sql: Statements, jobs: Sequence[NewJob], now: int | None) -> list[Enqueued]:
    """Store jobs, all or nothing; one answer each, in order."""
    taken: dict[int, Enqueued] = {}
    left: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            answers = connection.again(partial(_store_all, connection, sql, jobs, taken, now))
        except (UniqueKeyError, _MovedOnError):
            # Undone: none is stored. Whose id or key is taken is found out, and the others are stored again.
            taken, left = _find_taken(connection, sql, jobs, now)
        else:
            # In somebody else's transaction it is too early, and an engine's `let_in` sees to it.
            if not connection.is_joined:
                admission.let_in_after(connection, sql, left)
            return answers
    raise StoreUnavailableError("jobs come and go under the same ids and unique keys; try again")


def _store_all(
    connection: Connection, sql: Statements, jobs: Sequence[NewJob], taken: Mapping[int, Enqueued], clock: int | None
) -> list[Enqueued]:
    new = [job for place, job in enumerate(jobs) if place not in taken]
    # By key, then by id: two producers never wait for each other in a ring.
    new.sort(key=lambda job: (job.unique_key or "", job.id))
    with connection.transaction():
        queues = {job.queue for job in new}
        asked = [records.queues_known(sql, queues), Step(sql["moment"], {"now": clock})]
        known, moment = sealing.begin(connection, sql, *asked)
        now: int = only_row(moment)[0]
        steps = [*records.add_queues(sql, queues, known, now), *_take_once(sql, new, now, "take_once")]
        for rows in _pieces(connection, new, now):
            if rows:
                steps.append(Step(sql["enqueue"], {"rows": rows}))
        replaced = [(jobs[place], answer.existing) for place, answer in taken.items() if answer.fate is Fate.REPLACED]
        if replaced:
            _replace(connection, sql, steps, replaced, now)
            steps = [Step(sql["raise_rings"])]
        connection.commit(*steps)
    return [taken.get(place) or Enqueued(Fate.STORED, job.id) for place, job in enumerate(jobs)]


def _take_once(sql: Statements, jobs: Collection[NewJob], now: int, how: str) -> list[Step]:
    """The steps that take the once keys of new jobs, in one order for everybody."""
    rows = [(job.once_key, job.id, job.once_until) for job in jobs if job.once_key is not None]
    rows.sort(key=itemgetter(0))  # of those with one key the first comes first
    if not rows:
        return []
    return [Step(sql["free_once"], {"keys": [key for key, *_ in rows], "now": now}), Step(sql[how], {"rows": rows})]


def _replace(
    connection: Connection, sql: Statements, before: Sequence[Step], replaced: Sequence[tuple[NewJob, bytes]], now: int
) -> None:
    """Write what these jobs are to do over those that have their keys, behind the steps that store the others."""
    steps = [Step(sql["replace"], {**replacing(job, now), "existing": existing}) for job, existing in replaced]
    _, found = connection.run_and_count([*before, *steps])
    if not all(found[-len(steps) :]):
        raise _MovedOnError


def follow(connection: Connection, sql: Statements, jobs: Sequence[NewJob], now: int) -> list[Step]:
    """The steps that store jobs after the change they follow; one that is there or taken is passed over."""
    return [Step(sql["follow"], {"rows": piece}) for piece in _pieces(connection, jobs, now) if piece]


def follow_once(connection: Connection, sql: Statements, jobs: Sequence[NewJob], now: int) -> None:
    """Store jobs with once keys after the change they follow; one whose once key is taken is passed over too."""
    keys = sorted({job.once_key for job in jobs if job.once_key is not None})
    look = Step(sql["find_once"], {"keys": keys, "now": now})
    before, *_, after = connection.run([look, *_take_once(sql, jobs, now, "follow_once"), look])
    taken = {key for key, *_ in before}
    holders = {key: job_id for key, job_id, *_ in after if key not in taken}
    ours = [job for job in jobs if holders.get(job.once_key) == job.id]
    if ours:
        proofs = [(job.once_key, job.id) for job in ours]
        unused = Step(sql["give_back_once"], {"keys": [key for key, _ in proofs], "proofs": proofs})
        connection.run([*follow(connection, sql, ours, now), unused])


def _pieces(connection: Connection, jobs: Sequence[NewJob], now: int) -> Sequence[Sequence[Sequence[object]]]:
    rows = [new_row(job, now) for job in jobs]
    return in_pieces(rows, connection.largest_piece, connection.most_values)


def _find_taken(
    connection: Connection, sql: Statements, jobs: Sequence[NewJob], now: int | None
) -> tuple[dict[int, Enqueued], set[str]]:
    """What becomes of the jobs whose id or key is taken, by their place; also by another of this very call.

    And the limit keys with which those stand in line that are to be replaced.
    """
    unique_keys = [job.unique_key for job in jobs if job.unique_key is not None]
    once_keys = [job.once_key for job in jobs if job.once_key is not None]
    by_unique_key, by_once_key, found = connection.run(
        [
            Step(connection.latest(sql["find_unique_keys"]), {"keys": or_nothing(unique_keys)}),
            Step(connection.latest(sql["find_once"]), {"keys": or_nothing(once_keys), "now": now}),
            # Last: a key may be the job's own, and then it is a repeat as long as the job is there.
            Step(connection.latest(sql["find_ids"]), {"ids": or_nothing([job.id for job in jobs])}),
        ]
    )
    there: dict[bytes, list[object]] = {job_id: content for job_id, *content in found}
    unique: dict[str | None, _Holder] = {key: _Holder(*holder) for key, *holder in by_unique_key}
    once: dict[str | None, _Holder] = {key: _Holder(*holder) for key, *holder in by_once_key}
    taken = {}
    left = set()
    for place, job in enumerate(jobs):
        content: list[object] = [job.name, job.init, job.args, job.kwargs]
        holder = unique.get(job.unique_key) or once.get(job.once_key)
        if job.id in there:
            taken[place] = Enqueued(Fate.REPEATED if there[job.id] == content else Fate.ID_TAKEN, job.id)
        elif holder is None:
            there[job.id] = content
            if job.unique_key is not None:
                unique[job.unique_key] = _Holder(job.id)
            if job.once_key is not None:
                once[job.once_key] = _Holder(job.id)
        elif holder.waits and job.replaces:
            taken[place] = Enqueued(Fate.REPLACED, holder.id)
            left.add(holder.limit_key)
        else:
            taken[place] = Enqueued(Fate.KEY_TAKEN, holder.id)
    return taken, {key for key in left if key is not None}


class _Holder(NamedTuple):
    """Who has a key. waits: what it is to do may be replaced. limit_key: the one with which it stands in line."""

    id: bytes
    waits: int = 1
    limit_key: str | None = None
