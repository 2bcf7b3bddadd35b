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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar
from uuid import UUID

from jobcard.backends.base import Backend, Filter
from jobcard.core import dependencies, states
from jobcard.core.dependencies import BATCH, JOB, Dependency, Known, Outlook
from jobcard.core.job import Claimed, Dependent
from jobcard.core.states import ALIVE, ENDED, Hold, JobState
from jobcard.engine.outcomes import error_of_dependency
from jobcard.errors import CorruptRecordError

log = logging.getLogger("jobcard.engine")

T = TypeVar("T")

TURN_SECONDS = 1.0
IN_TURN = 100  # … so many of all are looked at, whatever is known of them
NEW_AT_ONCE = 1_000
CANCELED_AT_ONCE = 100  # each is a write of its own, and others wait for what a look does
MOST_KNOWN = 100_000  # so many are remembered with what they wait for; others are found in turn
GONE_SECONDS = (
    60.0  # a job that is waited for and was not there for so long was deleted: until then it may yet be stored
)
THERE_SECONDS = 10.0  # for so long one that was there is not looked for again
_ASKED_AT_ONCE = 1_000
_READ_AT_ONCE = 100  # whole rows: some may be large
_CLOCKS_DIFFER = 3_600_000  # milliseconds: an id that is so far ahead is none by a clock
_NOT_COMPLETED = tuple(sorted((ALIVE | ENDED) - {JobState.COMPLETED}))


class SeenTo(NamedTuple):
    """What came of a look.

    released: the jobs for which all has come. number: how many of them are in line by this look, and not by somebody
    else's. more: there is more to do at once. took: seconds.
    """

    released: Sequence[bytes]
    number: int
    more: bool
    took: float


class Dependents:
    """Those of one store, as one engine sees to them; `look` is called by one thread at a time."""

    def __init__(self, backend: Backend, seconds: Callable[[], float] | None = None) -> None:
        """seconds: tells the time; None: that of this host."""
        self._backend = backend
        self._seconds = seconds or time.monotonic
        self._newest: bytes | None = None
        """All up to here were new once."""
        self._turn_at = 0.0
        self._turn: bytes | None = None
        """How far the look in turn has come."""
        self._known = _Waiters()
        self._next_known = _Waiters()
        """Those met in this round: they are all there are when it ends, so nobody is remembered for ever."""
        self._left: dict[bytes, None] = {}
        """Those to be looked at still, in this order."""
        self._missing: dict[UUID, float] = {}
        """Jobs waited for that were not there, and since when."""
        self._there: dict[UUID, float] = {}
        """Those that were, and until when that will do."""

    def are_told_by(self, claims: Iterable[Claimed]) -> list[bytes]:
        """The ids of those jobs, and batches, that somebody is known to wait for; from any thread."""
        known = self._known.by_awaited
        if not known:
            return []
        ended = (awaited for claim in claims for awaited in (claim.id, claim.batch_id))
        return [awaited for awaited in ended if awaited is not None and awaited in known]

    def look(self, ended: Collection[bytes] = ()) -> SeenTo:
        """See to those who wait for these jobs and batches, to new ones, and to some in turn.

        After an error the next look begins with what this one did not come to.
        """
        began, now = time.monotonic(), self._seconds()
        told = dict.fromkeys(self._known.of(ended))
        first = [*told, *islice(self._left, CANCELED_AT_ONCE)]
        self._left |= told
        new, newest, more = self._find_new()
        found = [*new, *(self._take_turn(now) if now >= self._turn_at else ())]
        for one in found:
            self._remember(one)
        found += self._read(first)
        seen = see_to(self._backend, found, self._missing, now, there=self._there, most_canceled=CANCELED_AT_ONCE)
        self._newest = newest
        for job_id in first:
            self._left.pop(job_id, None)
        self._left |= dict.fromkeys((*seen.left, *self._known.of(seen.canceled)))  # others may wait for those canceled
        for job_id in (*seen.released, *seen.canceled):
            self._forget(job_id)
        return SeenTo(seen.released, seen.number, more or bool(self._left), time.monotonic() - began)

    def _find_new(self) -> tuple[Sequence[Dependent], bytes | None, bool]:
        """Those not met yet, the newest id then, and whether there are more."""
        page = self._backend.dependents(after=self._newest, limit=NEW_AT_ONCE)
        # An id may be any: one that is ahead of all clocks would make all that come later old.
        latest = (time.time_ns() // 1_000_000 + _CLOCKS_DIFFER).to_bytes(6, "big")
        by_clocks = [one.id for one in page if one.id[:6] <= latest]
        newest = by_clocks[-1] if by_clocks else self._newest
        return [one for one in page if one.id not in self._known], newest, len(by_clocks) == NEW_AT_ONCE

    def _take_turn(self, now: float) -> Sequence[Dependent]:
        some = self._backend.dependents(after=self._turn, limit=IN_TURN)
        self._turn_at = now + TURN_SECONDS
        self._turn = some[-1].id if len(some) == IN_TURN else None
        for one in some:
            self._remember(one)
        if self._turn is None:
            self._known, self._next_known = self._next_known, _Waiters()
            awaited = self._known.by_awaited
            for times in (self._missing, self._there):
                for job_id in [job_id for job_id in times if job_id.bytes not in awaited]:
                    del times[job_id]
        return some

    def _read(self, job_ids: Sequence[bytes]) -> Iterator[Dependent]:
        """Those of these that wait still, and for what: by now it may be for others than they are known to."""
        for some in _parts(job_ids, _READ_AT_ONCE):
            for row in _readable(self._backend.get, some):
                if row.hold == Hold.AFTER:
                    one = Dependent(row.id, row.waits_for, row.version)
                    self._remember(one)
                    yield one
                else:
                    self._forget(row.id)

    def _remember(self, one: Dependent) -> None:
        self._known.add(one)
        self._next_known.add(one)

    def _forget(self, job_id: bytes) -> None:
        self._known.forget(job_id)
        self._next_known.forget(job_id)


class _Waiters:
    """Who waits, and by what for."""

    def __init__(self) -> None:
        self._those: dict[bytes, Dependent] = {}
        self.by_awaited: defaultdict[bytes, set[bytes]] = defaultdict(set)

    def __contains__(self, job_id: bytes) -> bool:
        return job_id in self._those

    def add(self, one: Dependent) -> None:
        if self._those.get(one.id) == one:
            return
        self.forget(one.id)
        if len(self._those) >= MOST_KNOWN:
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

    def of(self, awaited: Collection[bytes]) -> Iterator[bytes]:
        """Those who wait for one of these."""
        for each in awaited:
            yield from self.by_awaited.get(each, ())


def _awaited(one: Dependent) -> Sequence[Dependency]:
    try:
        return dependencies.from_text(one.waits_for)
    except ValueError:
        # It stays where it is, with its bytes; `explain` says so.
        return ()


# ------------------------------------------------------------------ one look, without a memory of who waits


class Seen(NamedTuple):
    """For which jobs all has come, how many the store released, which are canceled, and which are to be still."""

    released: Sequence[bytes]
    number: int
    canceled: Sequence[bytes]
    left: Sequence[bytes] = ()


def see_to(
    backend: Backend,
    those: Sequence[Dependent],
    missing: dict[UUID, float],
    now: float,
    *,
    there: dict[UUID, float] | None = None,
    most_canceled: int | None = None,
) -> Seen:
    """Release those of these jobs for which all has come, and cancel those for which it never will.

    missing: what is waited for and was not there, and since when; kept by the caller from look to look. now: seconds.
    there: likewise what was there, and until when it is not looked for again.
    """
    by_id = {one.id: one for one in those}  # of one that was read twice, as it was last
    waits = {one.id: found for one in by_id.values() if (found := _what_for(one)) is not None}
    if not waits:
        return Seen([], 0, [])
    known = _ask(
        backend, [each for found in waits.values() for each in found], missing, {} if there is None else there, now
    )
    outlooks = {job_id: dependencies.outlook(found, known) for job_id, found in waits.items()}
    released = [job_id for job_id, (what, _) in outlooks.items() if what is Outlook.READY]
    # As they were read: one that was replaced since may wait for others.
    as_read = ([by_id[job_id] for job_id in some] for some in _parts(released, _ASKED_AT_ONCE))
    number = sum(map(backend.release_dependents, as_read))
    never = [(job_id, why) for job_id, (what, why) in outlooks.items() if what is Outlook.NEVER]
    canceled = [job_id for job_id, why in never[:most_canceled] if _cancel(backend, by_id[job_id], why)]
    return Seen(released, number, canceled, [job_id for job_id, _ in never[len(never[:most_canceled]) :]])


def see_to_all(backend: Backend, missing: dict[UUID, float], now: float = 0.0) -> list[bytes]:
    """The same for all that there are; which were released."""
    all_released: list[bytes] = []
    after: bytes | None = None
    some_canceled = False
    while True:
        some = backend.dependents(after=after, limit=NEW_AT_ONCE)
        seen = see_to(backend, some, missing, now)
        all_released += seen.released
        some_canceled |= bool(seen.canceled)
        after = some[-1].id if len(some) == NEW_AT_ONCE else None
        if after is None and not some_canceled:
            return all_released
        if after is None:
            some_canceled = False  # of those that are canceled others may wait: once more


def _what_for(one: Dependent) -> Sequence[Dependency] | None:
    try:
        return dependencies.from_text(one.waits_for)
    except ValueError:
        return None


def _ask(
    backend: Backend,
    all_awaited: Collection[Dependency],
    missing: dict[UUID, float],
    there: dict[UUID, float],
    now: float,
) -> Known:
    jobs = {one.id for one in all_awaited if one.kind == JOB}
    ends = {
        UUID(bytes=end.id): end.state for some in _ids(jobs, _ASKED_AT_ONCE) for end in _readable(backend.ended, some)
    }
    gone = _gone(backend, jobs - ends.keys(), missing, there, now)
    batches = {
        one.id: _counts(backend, one.id) for one in {one.id: one for one in all_awaited if one.kind == BATCH}.values()
    }
    return Known(ends, batches, gone)


def _gone(
    backend: Backend, jobs: set[UUID], missing: dict[UUID, float], there: dict[UUID, float], now: float
) -> Collection[UUID]:
    asked = {job_id for job_id in jobs if there.get(job_id, now) <= now}
    found = {UUID(bytes=row.id) for some in _ids(asked, _READ_AT_ONCE) for row in _readable(backend.get, some)}
    overdue = {job_id for job_id in asked - found if now >= missing.setdefault(job_id, now) + GONE_SECONDS}
    # One that cannot be read is left out among others.
    found |= {job_id for job_id in overdue if _is_there(backend, job_id)}
    for job_id in found:
        missing.pop(job_id, None)
        there[job_id] = now + THERE_SECONDS
    return overdue - found


def _is_there(backend: Backend, job_id: UUID) -> bool:
    try:
        return bool(backend.get([job_id.bytes]))
    except CorruptRecordError:
        return True


def _ids(jobs: Collection[UUID], size: int) -> Iterator[Sequence[bytes]]:
    return _parts(sorted(job_id.bytes for job_id in jobs), size)


def _parts(job_ids: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for first in range(0, len(job_ids), size):
        yield job_ids[first : first + size]


def _readable(ask: Callable[[Sequence[bytes]], Sequence[T]], job_ids: Sequence[bytes]) -> Sequence[T]:
    try:
        return ask(job_ids)
    except CorruptRecordError:
        return ()  # where a job is asked for alone; among others it is left out


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


def _cancel(backend: Backend, one: Dependent, why: str) -> bool:
    change = states.cancel_dependent(one, error=error_of_dependency(why))
    try:
        if backend.apply_by_operator(one.id, change) is None:
            return False
    except CorruptRecordError:
        return False  # its record cannot be read: it stays as it is
    log.info("job.cancel id=%s why=dependency", UUID(bytes=one.id))
    return True
