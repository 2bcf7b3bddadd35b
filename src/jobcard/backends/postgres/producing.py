"""Storing new jobs: in one statement, and a second look at those that were not stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.base import Enqueued, Fate
from jobcard.backends.postgres.connection import Connection, Step
from jobcard.backends.postgres.rows import columns_of
from jobcard.backends.postgres.values import Ids, Texts
from jobcard.core.job import NewJob
from jobcard.errors import StoreMovedError, StoreUnavailableError

_ROUNDS = 20
"""How often a job may find its id or key taken and, on a second look, free again."""


def in_order(jobs: Sequence[NewJob]) -> list[int]:
    """Their places in the order in which they are stored: two producers never wait for each other in a ring.

    Of those with one key the first stays the first.
    """

    def rank(place: int) -> tuple[str, bytes]:
        job = jobs[place]
        return ("", job.id) if job.unique_key is None else (job.unique_key, b"")

    return sorted(range(len(jobs)), key=rank)


def queues_of(jobs: Sequence[NewJob]) -> Texts:
    """The queues of some jobs, each once."""
    return Texts(dict.fromkeys(job.queue for job in jobs))


class Enqueue:
    """One call of `enqueue`, on a connection lent for it."""

    def __init__(
        self, connection: Connection, sql: Mapping[str, str], jobs: Sequence[NewJob], *, now: int | None
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._jobs = jobs
        self._now = now
        self._answers: dict[int, Enqueued] = {}

    def run(self, *, ring: Step | None) -> list[Enqueued]:
        """Store them; one answer each, in order. ring: what tells the engines, on the same trip."""
        turns: list[list[int]] = [[]]
        seen: dict[bytes, int] = {}
        for place, job in enumerate(self._jobs):
            # An id for the second time has to wait for what becomes of the first.
            turn = seen[job.id] = seen.get(job.id, -1) + 1
            if turn == len(turns):
                turns.append([])
            turns[turn].append(place)
        for places in turns:
            self._settle(places, ring)
            ring = None
        return [self._answers[place] for place in range(len(self._jobs))]

    def _settle(self, places: list[int], ring: Step | None) -> None:
        for _ in range(_ROUNDS):
            places = self._explain(self._store(places, ring))
            if not places:
                return
        raise StoreUnavailableError("jobs come and go under the same ids and unique keys; try again")

    def _store(self, places: Sequence[int], ring: Step | None) -> list[int]:
        """Store those at these places; the places of those that were not stored."""
        jobs = [self._jobs[place] for place in places]
        order = in_order(jobs)
        values: dict[str, object] = {
            **columns_of([jobs[at] for at in order]),
            "queues": queues_of(jobs),
            "count": len(jobs),
            "now": self._now,
        }
        [[(sealed, ids)]] = self._connection.run([Step(self._sql["enqueue"], values)], then=ring)
        if sealed:
            raise StoreMovedError("this store was sealed: its jobs live elsewhere now")
        stored = None if ids is None else set(ids)
        missing = []
        for place, job in zip(places, jobs, strict=True):
            if stored is None or job.id in stored:
                self._answers[place] = Enqueued(Fate.STORED, job.id)
            else:
                missing.append(place)
        return missing

    def _explain(self, places: Sequence[int]) -> list[int]:
        """Say who was there; the places of those where nobody is any more, to be stored again."""
        if not places:
            return []
        jobs = [self._jobs[place] for place in places]
        found, holders = self._connection.run(
            [
                Step(self._sql["find_ids"], {"ids": Ids(job.id for job in jobs)}),
                Step(self._sql["find_unique_keys"], {"keys": Texts({job.unique_key for job in jobs} - {None})}),
            ]
        )
        there = {job_id: content for job_id, *content in found}
        holder_of: dict[str, bytes] = dict(holders)
        again = []
        for place, job in zip(places, jobs, strict=True):
            if job.id in there:
                same = there[job.id] == [job.name, job.init, job.args, job.kwargs]
                self._answers[place] = Enqueued(Fate.REPEATED if same else Fate.ID_TAKEN, job.id)
            elif job.unique_key in holder_of:
                self._answers[place] = Enqueued(Fate.KEY_TAKEN, holder_of[job.unique_key])
            else:
                again.append(place)
        return again
