"""Storing new jobs: in one statement, and a second look at those that were not stored.

Where a job has a once key, the locks of these keys are taken first, on the same trip: so nobody else takes one of them
between the look whether it is free and the end of the transaction.

The last job of a call may wait for the others: whoever sees it must see them all. Where one of those is not stored at
once, neither is it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
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


def storing(sql: Mapping[str, str], name: str, *, once: bool, beside: bool = False) -> str:
    """A statement that stores jobs; once: such as have once keys, too; beside: only where others are there."""
    conditions = (sql["once_free"] if once else "", sql["others_there"] if beside else "")
    return _storing(sql[name], " ".join(conditions), sql["take_once"] if once else "")


@lru_cache(maxsize=64)
def _storing(text: str, conditions: str, take_once: str) -> str:
    return text.replace("{conditions}", f" {conditions}").replace("{take_once}", take_once)


def store(
    connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], now: int | None, *, ring: Step | None
) -> list[Enqueued]:
    """Store jobs, all or nothing; one answer each, in order. ring: what tells the engines, on the same trip."""
    call = Enqueue(connection, sql, jobs, now=now, ring=ring)
    last = len(jobs) - 1 if jobs[-1].waits_for is not None else None
    turns: list[list[int]] = [[]]
    seen: dict[bytes | str | None, int] = {}
    seen_once: dict[str | None, int] = {}
    replacing = 0
    once = takes_once(jobs)
    for place, job in enumerate(jobs[:last]):
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
        for places in turns[:-1]:
            call.settle(places)
        call.settle(turns[-1], last)
    except StoreMovedError as error:
        if any(answer.fate in _WRITTEN for answer in call.answers.values()):
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
        ring: Step | None,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._jobs = jobs
        self._now = now
        self._ring = ring
        self.answers: dict[int, Enqueued] = {}

    def settle(self, places: list[int], last: int | None = None) -> None:
        """Store those at these places, or find out who was there; the last one beside all of them, or after them."""
        for _ in range(_ROUNDS):
            if not places:
                places, last = ([] if last is None else [last]), None
            if not places:
                return
            missing = self._store(places, last)
            if last in self.answers:
                last = None
            # In the order of the call: of several that replace one the last has its way.
            places = sorted(self._explain(sorted(missing)))
        raise StoreUnavailableError("jobs come and go under the same ids and unique keys; try again")

    def _store(self, places: Sequence[int], last: int | None) -> list[int]:
        """Store those at these places, and beside all of them the last one; the places of those not stored, but it."""
        jobs = [self._jobs[place] for place in places]
        groups = [[places[at] for at in firsts(jobs)], *([] if last is None else [[last]])]
        steps = [self._step(groups[0]), *(self._step(group, beside=jobs) for group in groups[1:])]
        if names := once_names(self._jobs[place] for group in groups for place in group):
            steps.insert(0, Step(self._sql["lock_names"], {"names": Texts(names)}))
        answers = self._connection.run(steps, then=self._ring)[-len(groups) :]
        self._ring = None
        for group, [(ids,)] in zip(groups, answers, strict=True):
            stored = None if ids is None else set(ids)
            for place in group:
                job = self._jobs[place]
                if stored is None or job.id in stored:
                    self.answers[place] = Enqueued(Fate.STORED, job.id)
        return [place for place in places if place not in self.answers]

    def _step(self, places: Sequence[int], *, beside: Sequence[NewJob] = ()) -> Step:
        """The step that stores those at these places. beside: only where all of these are there."""
        jobs = [self._jobs[place] for place in places]
        values: dict[str, object] = {
            **columns_of([jobs[at] for at in in_order(jobs)]),
            "queues": queues_of(jobs),
            "count": len(jobs),
            "others": Ids(job.id for job in beside),
            "now": self._now,
        }
        return Step(storing(self._sql, "enqueue", once=takes_once(jobs), beside=bool(beside)), values)

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
        unique, *once, found = self._connection.run(steps)
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
        again = []
        for (place, holder), rows in zip(ordered, self._connection.again(lambda: self._write_over(steps)), strict=True):
            if rows:
                self.answers[place] = Enqueued(Fate.REPLACED, holder)
            else:
                again.append(place)
        return again

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
