"""Storing new jobs: in one statement, and a second look at those that were not stored.

Where a job has a once key, the locks of these keys are taken first, on the same trip: so nobody else takes one of them
between the look whether it is free and the end of the transaction.

Jobs that wait for others appear together with those before them in the call: such a call is one transaction, whatever
is found out on the way. Other calls commit what they have stored before they look who was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from jobcard.backends.base import Enqueued, Fate
from jobcard.backends.postgres import admission
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.rows import columns_of
from jobcard.backends.postgres.values import Id, Ids, Texts
from jobcard.core.job import JobRow, NewJob
from jobcard.errors import StoreMovedError, StoreUnavailableError

_ROUNDS = 20
"""How often a job may find its id or key taken and, on a second look, free again."""


_WRITTEN = (Fate.STORED, Fate.REPLACED)


def in_order(jobs: Sequence[NewJob | JobRow]) -> list[int]:
    """Their places in the order in which they are stored: two producers never wait for each other in a ring.

    Of those with one key the first stays the first.
    """

    def rank(place: int) -> tuple[str, bytes]:
        job = jobs[place]
        return ("", job.id) if job.unique_key is None else (job.unique_key, b"")

    return sorted(range(len(jobs)), key=rank)


def queues_of(jobs: Sequence[NewJob | JobRow]) -> Texts:
    """The queues of some jobs, each once."""
    return Texts(dict.fromkeys(job.queue for job in jobs))


def takes_once(jobs: Iterable[NewJob]) -> bool:
    """Whether any of these jobs has a once key."""
    return any(job.once_key is not None for job in jobs)


def once_name(key: str) -> str:
    """The name under which a once key is locked."""
    return f"once/{key}"


def once_names(jobs: Iterable[NewJob]) -> set[str]:
    """The names under which the once keys of some jobs are locked."""
    return {once_name(job.once_key) for job in jobs if job.once_key is not None}


def firsts(jobs: Iterable[NewJob]) -> list[int]:
    """The places of those that may go out in one statement: of several with one once key only the first."""
    seen: set[str | None] = set()
    places = []
    for place, job in enumerate(jobs):
        if job.once_key is None or job.once_key not in seen:
            places.append(place)
            seen.add(job.once_key)
    return places


def storing(sql: Mapping[str, str], name: str, *, once: bool) -> str:
    """A statement that stores jobs; once: such as have once keys, too."""
    return _storing(sql[name], *((sql["once_free"], sql["take_once"]) if once else ("", "")))


@lru_cache(maxsize=64)
def _storing(text: str, once_free: str, take_once: str) -> str:
    return text.replace("{once_free}", f" {once_free}").replace("{take_once}", take_once)


def store(
    connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int | None, *, ring: Step | None
) -> list[Enqueued]:
    """Store jobs, all or nothing; one answer each, in order. ring: what tells the engines, on the same trip."""
    if len(jobs) == 1 or all(job.waits_for is None for job in jobs):
        return _store(Enqueue(connection, sql, jobs, now=now, ring=ring), jobs)
    answers = connection.again(partial(_store_at_once, connection, sql, jobs, now))
    if ring is not None:
        connection.run([ring])
    return answers


def _store_at_once(
    connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int | None
) -> list[Enqueued]:
    with connection.transaction():
        return _store(Enqueue(connection, sql, jobs, now=now), jobs)


def _store(call: Enqueue, jobs: Sequence[NewJob]) -> list[Enqueued]:
    turns: list[list[int]] = [[]]
    seen: dict[bytes | str | None, int] = {}
    seen_once: dict[str | None, int] = {}
    replacing = 0
    once = takes_once(jobs)
    for place, job in enumerate(jobs):
        # An id for the second time has to wait for what becomes of the first. Beside once keys so has a unique key:
        # the first job with it may be kept out by its once key.
        keys = (job.id, job.unique_key) if once and job.unique_key is not None else (job.id,)
        # And none with the same once key goes before one that has to wait.
        turn = max(max(seen.get(key, -1) for key in keys) + 1, seen_once.get(job.once_key, 0))
        if job.replaces:
            # Two may find the same job by its two keys: the later one has its way.
            turn = replacing = max(turn, replacing)
        seen.update(dict.fromkeys(keys, turn))
        if job.once_key is not None:
            seen_once[job.once_key] = turn
        if turn == len(turns):
            turns.append([])
        turns[turn].append(place)
    try:
        for places in turns:
            call.settle(places)
    except StoreMovedError as error:
        if not call.is_one_transaction and any(answer.fate in _WRITTEN for answer in call.answers.values()):
            raise StoreUnavailableError("the store was sealed in the middle of a call that had begun") from error
        raise
    return [call.answers[place] for place in range(len(jobs))]


class Enqueue:
    """What one call of `store` sends, on a connection lent for it. answers: what became of the jobs, by their place."""

    def __init__(
        self,
        connection: Connection,
        sql: Mapping[str, str],
        jobs: Sequence[NewJob],
        *,
        now: int | None,
        ring: Step | None = None,
    ) -> None:
        """A connection inside a transaction: all of it belongs to that."""
        self._connection = connection
        self._sql = sql
        self._jobs = jobs
        self._now = now
        self._ring = ring
        self.is_one_transaction = connection.in_transaction
        self.answers: dict[int, Enqueued] = {}

    def settle(self, places: list[int]) -> None:
        """Store those at these places, or find out who was there."""
        for _ in range(_ROUNDS):
            # In the order of the call: of several that replace one the last has its way.
            places = sorted(self._explain(sorted(self._store(places))))
            if not places:
                return
        raise StoreUnavailableError("jobs come and go under the same ids and unique keys; try again")

    def _store(self, places: Sequence[int]) -> list[int]:
        """Store those at these places; the places of those that were not stored."""
        jobs = [self._jobs[place] for place in places]
        once = takes_once(jobs)
        if once:
            sent = firsts(jobs)
            missing = [places[at] for at in sorted({*range(len(jobs))}.difference(sent))]
            places, jobs = [places[at] for at in sent], [jobs[at] for at in sent]
        else:
            missing = []
        order = in_order(jobs)
        values: dict[str, object] = {
            **columns_of([jobs[at] for at in order]),
            "queues": queues_of(jobs),
            "count": len(jobs),
            "now": self._now,
        }
        steps = [Step(storing(self._sql, "enqueue", once=once), values)]
        if once:
            steps.insert(0, Step(self._sql["lock_names"], {"names": Texts(once_names(jobs))}))
        [(ids,)] = self._run(steps)[-1]
        stored = None if ids is None else set(ids)
        for place, job in zip(places, jobs, strict=True):
            if stored is None or job.id in stored:
                self.answers[place] = Enqueued(Fate.STORED, job.id)
            else:
                missing.append(place)
        return missing

    def _explain(self, places: Sequence[int]) -> list[int]:
        """Say who was there; the places of those where nobody is any more, to be stored again."""
        if not places:
            return []
        jobs = [self._jobs[place] for place in places]
        steps = [Step(self._sql["find_unique_keys"], {"keys": Texts({job.unique_key for job in jobs} - {None})})]
        if takes_once(jobs):
            keys = Texts({job.once_key for job in jobs} - {None})
            steps.append(Step(self._sql["find_once_keys"], {"keys": keys, "now": self._now}))
        # Last: a key may be the job's own, and then it is a repeat as long as the job is there.
        steps.append(Step(self._sql["find_ids"], {"ids": Ids(job.id for job in jobs)}))
        unique, *once, found = self._run(steps)
        there = {job_id: content for job_id, *content in found}
        by_unique: dict[str | None, _Holder] = {key: _Holder(*holder) for key, *holder in unique}
        by_once: dict[str | None, _Holder] = {key: _Holder(*holder) for rows in once for key, *holder in rows}
        again = []
        replaced = []
        for place, job in zip(places, jobs, strict=True):
            holder = by_unique.get(job.unique_key) or by_once.get(job.once_key)
            if job.id in there:
                same = there[job.id] == [job.name, job.init, job.args, job.kwargs]
                self.answers[place] = Enqueued(Fate.REPEATED if same else Fate.ID_TAKEN, job.id)
            elif holder is None:
                again.append(place)
            elif job.replaces and holder.waits:
                replaced.append((place, holder.id))
            else:
                self.answers[place] = Enqueued(Fate.KEY_TAKEN, holder.id)
        return [*again, *self._replace(replaced)]

    def _replace(self, replaced: Sequence[tuple[int, bytes]]) -> list[int]:
        """Write jobs over those that wait; the places of those that found theirs waiting no more."""
        if not replaced:
            return []
        # By the job that is written over, as everybody does who replaces several.
        ordered = sorted(replaced, key=lambda each: each[1])
        steps = []
        for place, holder in ordered:
            columns = columns_of([self._jobs[place]])
            steps.append(Step(self._sql["replace"], {**columns, "holder": Id(holder), "now": self._now}))
        write = partial(self._write_over, steps)
        again = []
        found = write() if self.is_one_transaction else self._connection.again(write)
        for (place, holder), rows in zip(ordered, found, strict=True):
            if rows:
                self.answers[place] = Enqueued(Fate.REPLACED, holder)
            else:
                again.append(place)
        return again

    def _run(self, steps: Sequence[Step]) -> list[list[Row]]:
        if self.is_one_transaction:
            return self._connection.ask_all(steps)
        ring, self._ring = self._ring, None
        return self._connection.run(steps, then=ring)

    def _write_over(self, steps: Sequence[Step]) -> list[list[Row]]:
        """Replace jobs, and let those in that stood behind them; the rows of each."""
        with self._connection.transaction():
            answers = self._connection.ask_all(steps)
            left = {key for rows in answers for _, key in rows if key is not None}
            # The locks of their keys are nothing to hold until somebody else commits; an engine's `let_in` sees to it.
            if left and not self._connection.is_joined:
                self._connection.ask_all(admission.let_in(self._sql, left))
        return answers


class _Holder(NamedTuple):
    """Who has a key. waits: what it is to do may be replaced."""

    id: bytes
    waits: bool
