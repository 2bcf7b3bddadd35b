"""Sees to jobs that wait for others: puts them in line when all has come, cancels them when it never will.

    a job ended here ─► those that wait for it ─┐
    a hint from the store ─► those that are new ─┼─► what has come of what they wait for? ─► release, or cancel
    every second ─► some of all, in turn ────────┘

Every engine does so. Nothing is decided by memory: that only says whom to look at, and the look in turn finds whomever
a death, an operator or the end of another engine left behind. A job leaves the hold once, whoever is first.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from jobcard.backends.base import Backend, Filter
from jobcard.core import dependencies, states
from jobcard.core.dependencies import BATCH, JOB, Dependency, Known, Outlook
from jobcard.core.job import Claimed, Dependent
from jobcard.core.states import ALIVE, ENDED, JobState
from jobcard.engine.outcomes import error_of_dependency
from jobcard.errors import CorruptRecordError

log = logging.getLogger("jobcard.engine")

TURN_SECONDS = 1.0
IN_TURN = 100  # … so many of all are looked at, whatever is known of them
NEW_AT_ONCE = 1_000
MOST_KNOWN = 100_000  # so many are remembered with what they wait for; others are found in turn
GONE_SECONDS = (
    60.0  # a job that is waited for and was not there for so long was deleted: until then it may yet be stored
)
_ASKED_AT_ONCE = 1_000
_NOT_COMPLETED = tuple(sorted((ALIVE | ENDED) - {JobState.COMPLETED}))


class SeenTo(NamedTuple):
    """What came of a look: the jobs that were released, whether there may be more new ones, the seconds it took."""

    released: Sequence[bytes]
    more: bool
    took: float


class Dependents:
    """Those of one store, as one engine sees to them; `look` is called by one thread at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._newest: bytes | None = None
        """All up to here were new once."""
        self._turn_at = 0.0
        self._turn: bytes | None = None
        """How far the look in turn has come."""
        self._known = _Waiters()
        self._next_known = _Waiters()
        """Those met in this round: they are all there are when it ends, so nobody is remembered for ever."""
        self._missing: dict[UUID, float] = {}
        """Jobs waited for that were not there, and since when."""

    def are_told_by(self, claims: Iterable[Claimed]) -> list[bytes]:
        """The ids of those jobs, and batches, that somebody is known to wait for; from any thread."""
        known = self._known.by_awaited
        if not known:
            return []
        ended = (awaited for claim in claims for awaited in (claim.id, claim.batch_id))
        return [awaited for awaited in ended if awaited is not None and awaited in known]

    def look(self, ended: Collection[bytes] = ()) -> SeenTo:
        """See to those who wait for these jobs and batches, to new ones, and to some in turn."""
        now = time.monotonic()
        new = self._backend.dependents(after=self._newest, limit=NEW_AT_ONCE)
        if new:
            self._newest = new[-1].id
        found = {one.id: one for one in (*self._known.of(ended), *new)}
        if now >= self._turn_at:
            self._turn_at = now + TURN_SECONDS
            found |= {one.id: one for one in self._take_turn()}
        for one in new:
            self._remember(one)
        all_released: list[bytes] = []
        while found:
            released, canceled = see_to(self._backend, list(found.values()), self._missing)
            all_released += released
            found = {one.id: one for one in self._known.of(canceled)}  # of those that are canceled others may wait
            for job_id in (*released, *canceled):
                self._known.forget(job_id)
                self._next_known.forget(job_id)
        return SeenTo(all_released, len(new) == NEW_AT_ONCE, time.monotonic() - now)

    def _take_turn(self) -> Sequence[Dependent]:
        some = self._backend.dependents(after=self._turn, limit=IN_TURN)
        for one in some:
            self._remember(one)
        self._turn = some[-1].id if some else None
        if len(some) < IN_TURN:
            self._turn, self._known, self._next_known = None, self._next_known, _Waiters()
            for one in some:
                self._next_known.add(one)
        return some

    def _remember(self, one: Dependent) -> None:
        self._known.add(one)
        self._next_known.add(one)


class _Waiters:
    """Who waits, and by what for."""

    def __init__(self) -> None:
        self._those: dict[bytes, Dependent] = {}
        self.by_awaited: defaultdict[bytes, set[bytes]] = defaultdict(set)

    def add(self, one: Dependent) -> None:
        if one.id in self._those or len(self._those) >= MOST_KNOWN:
            return
        self._those[one.id] = one
        for awaited in _awaited(one):
            self.by_awaited[awaited.id.bytes].add(one.id)

    def forget(self, job_id: bytes) -> None:
        one = self._those.pop(job_id, None)
        for awaited in () if one is None else _awaited(one):
            those = self.by_awaited[awaited.id.bytes]
            those.discard(job_id)
            if not those:
                del self.by_awaited[awaited.id.bytes]

    def of(self, awaited: Collection[bytes]) -> Iterator[Dependent]:
        """Those who wait for one of these."""
        for each in awaited:
            yield from (self._those[job_id] for job_id in self.by_awaited.get(each, ()))


def _awaited(one: Dependent) -> Sequence[Dependency]:
    try:
        return dependencies.from_text(one.waits_for)
    except ValueError:
        return ()


# ------------------------------------------------------------------ one look, without a memory of who waits


def see_to(
    backend: Backend, those: Sequence[Dependent], missing: dict[UUID, float]
) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Release those of these jobs for which all has come, and cancel those for which it never will; which ones.

    missing: what is waited for and was not there, and since when; kept by the caller from look to look.
    """
    waits = {one.id: found for one in those if (found := _readable(one)) is not None}
    if not waits:
        return [], []
    known = _ask(backend, [each for found in waits.values() for each in found], missing)
    released: list[bytes] = []
    canceled: list[bytes] = []
    for job_id, found in waits.items():
        what, why = dependencies.outlook(found, known)
        if what is Outlook.READY:
            released.append(job_id)
        elif what is Outlook.NEVER and _cancel(backend, job_id, why):
            canceled.append(job_id)
    for first in range(0, len(released), _ASKED_AT_ONCE):
        backend.release_dependents(released[first : first + _ASKED_AT_ONCE])
    return released, canceled


def see_to_all(backend: Backend, missing: dict[UUID, float]) -> list[bytes]:
    """The same for all that there are; which were released."""
    all_released: list[bytes] = []
    after: bytes | None = None
    some_canceled = False
    while True:
        some = backend.dependents(after=after, limit=NEW_AT_ONCE)
        released, canceled = see_to(backend, some, missing)
        all_released += released
        some_canceled |= bool(canceled)
        after = some[-1].id if len(some) == NEW_AT_ONCE else None
        if after is None and not some_canceled:
            return all_released
        if after is None:
            some_canceled = False  # of those that are canceled others may wait: once more


def _readable(one: Dependent) -> Sequence[Dependency] | None:
    try:
        return dependencies.from_text(one.waits_for)
    except ValueError:
        # It stays where it is, with its bytes; `explain` says so.
        return None


def _ask(backend: Backend, all_awaited: Collection[Dependency], missing: dict[UUID, float]) -> Known:
    jobs = {one.id for one in all_awaited if one.kind == JOB}
    ends = {UUID(bytes=end.id): end.state for some in _parts(jobs) for end in backend.ended(some)}
    gone = _gone(backend, jobs - ends.keys(), missing)
    batches = {
        one.id: _counts(backend, one.id) for one in {one.id: one for one in all_awaited if one.kind == BATCH}.values()
    }
    return Known(ends, batches, gone)


def _gone(backend: Backend, jobs: set[UUID], missing: dict[UUID, float]) -> Collection[UUID]:
    there = {UUID(bytes=row.id) for some in _parts(jobs) if len(some) > 1 for row in backend.get(some)}
    there |= {job_id for job_id in jobs - there if _is_there(backend, job_id)}
    now = time.monotonic()
    for job_id in there:
        missing.pop(job_id, None)
    return {job_id for job_id in jobs - there if now >= missing.setdefault(job_id, now) + GONE_SECONDS}


def _is_there(backend: Backend, job_id: UUID) -> bool:
    try:
        return bool(backend.get([job_id.bytes]))
    except CorruptRecordError:
        return True


def _parts(jobs: Collection[UUID]) -> Iterator[list[bytes]]:
    ids = sorted(job_id.bytes for job_id in jobs)
    for first in range(0, len(ids), _ASKED_AT_ONCE):
        yield ids[first : first + _ASKED_AT_ONCE]


def _counts(backend: Backend, batch: UUID) -> Mapping[str, int]:
    """In which states but completed a batch has jobs: a count of 1 says so."""
    found = _count(backend, batch, limit=1)
    if ALIVE.isdisjoint(found):
        # A job that moved meanwhile may have been missed: only a count without a limit is of one moment.
        found = _count(backend, batch, limit=None)
    return found


def _count(backend: Backend, batch: UUID, *, limit: int | None) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for by_state in backend.count(Filter(batch_id=batch.bytes, states=_NOT_COMPLETED), limit=limit).values():
        found |= by_state
    return found


def _cancel(backend: Backend, job_id: bytes, why: str) -> bool:
    change = states.cancel_dependent(error=error_of_dependency(why))
    if backend.apply_by_operator(job_id, change) is None:
        return False
    log.info("job.cancel id=%s why=dependency", UUID(bytes=job_id))
    return True
