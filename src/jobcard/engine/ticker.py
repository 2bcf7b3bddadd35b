"""Makes the jobs of schedules: every engine does, and the store lets each tick in once.

    read timetables and how far they are ─► which ticks are due ─► enqueue with the tick's once key ─► move on

An engine that is late finds the key taken, or that others have moved on. Ticks go by the store's clock, which is asked
for now and then and measured in between; this host's may be set as it likes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from jobcard.backends.base import Backend, Fate, Record, RecordKind
from jobcard.core import clock, limits
from jobcard.core.queue import in_line
from jobcard.core.schedule import (
    LATE,
    MOST_LOOKED_AT,
    Progress,
    Timetable,
    from_text,
    progress_to_text,
    to_text,
)
from jobcard.core.unique import FOREVER
from jobcard.engine.record import is_alive
from jobcard.engine.small_records import ageing_of
from jobcard.engine.store_clock import StoreClock
from jobcard.engine.timetables import progress_of
from jobcard.errors import ABOUT_THE_STORE, CorruptRecordError

log = logging.getLogger("jobcard.engine")

REST_SECONDS = 60.0  # … between two looks, however far the next tick is
AHEAD = clock.MINUTE  # a schedule that is seen to so far beyond now is so by mistake
BREATH = clock.SECOND // 2  # what was read so long ago is read again; and the rest of who was too slow to act by it


class Looked(NamedTuple):
    """What a look at the schedules came to. made: jobs. next_at: when the next one is due, in monotonic seconds."""

    made: int
    next_at: float


class Ticker:
    """The schedules of one store, as one engine sees to them; used by one thread at a time."""

    def __init__(
        self,
        backend: Backend,
        owner: str,
        dead_owners: Collection[str] = (),
        names: Callable[[], Collection[str]] = lambda: (),
        store_clock: StoreClock | None = None,
    ) -> None:
        """names: of the jobs that are known here; none: nobody knows yet."""
        self._backend = backend
        self._names = names
        self._owner = owner
        self._dead_owners = frozenset(dead_owners)
        self._clock = store_clock or StoreClock(lambda: backend.facts().now)
        self._here_since: int | None = None
        self._looked_at = 0
        self._read: dict[str, tuple[Record, Timetable | None]] = {}
        """By name: the record, and what it says; None: it cannot be read, which has been told."""
        self._looked: dict[str, tuple[Timetable, int]] = {}
        """By name: what was seen to, and when to see to it again."""
        self._refused: dict[str, str] = {}
        """By name: the timetable that the store would not take a job of, which has been told."""
        self._ageing: Mapping[str, int] | None = None

    def settings_changed(self) -> None:
        """Some queue or schedule was changed."""
        self._ageing = None

    def is_doubtful(self) -> bool:
        """Whether it should look at once, for the clock it goes by may have been set."""
        return self._here_since is not None and bool(self._read) and self._clock.is_doubtful()

    def look(self) -> Looked:
        """See to every tick that is due; an error about the store: what is left is seen to next time."""
        now = self._clock.now()
        if now < self._looked_at:
            self._looked.clear()  # the clock was set back, and what was due by then is due again later
        self._looked_at = now
        self._here_since = now if self._here_since is None else min(self._here_since, now)
        timetables = self._timetables()
        if not timetables:
            return Looked(0, math.inf)
        progress = progress_of(self._backend)
        wake = now + round(REST_SECONDS * clock.SECOND)
        made = 0
        for timetable in timetables:
            if timetable.paused:
                continue
            if self._clock.now() > now + BREATH:
                # Those before it took their time: it shall neither be late by that nor pass for one that froze.
                now, progress = self._clock.now(), progress_of(self._backend)
            next_at = self._next_at(timetable)
            if next_at <= now:
                try:
                    count, next_at = self._see_to(timetable, progress.get(timetable.name, Progress()), now)
                    made += count
                except ABOUT_THE_STORE:
                    raise
                except Exception as error:  # whatever a record that somebody wrote by hand has led to
                    self._tell_refused(timetable, error)
                    next_at = self._upcoming(timetable, now)
            self._looked[timetable.name] = timetable, next_at
            wake = min(wake, next_at)
        return Looked(made, time.monotonic() + (wake - self._clock.now()) / clock.SECOND)

    def make_earliest(self, now: int) -> bool:
        """Make the job of the one tick that has been due longest, as an engine would have that was always there.

        For tests, whose clock jumps; False: there is none.
        """
        progress = progress_of(self._backend)
        first: tuple[int, Timetable] | None = None
        for timetable in self._timetables():
            start = max(progress.get(timetable.name, Progress()).done, timetable.since)
            tick = None if timetable.paused else timetable.ticks.after(start)
            if tick is not None and tick <= now and (first is None or tick < first[0]):
                first = tick, timetable
        if first is None:
            return False
        tick, timetable = first
        self._make(timetable, progress.get(timetable.name, Progress()), [tick], tick)
        return True

    # -------------------------------------------------------------- one schedule

    def _next_at(self, timetable: Timetable) -> int:
        """When to see to it, as the last look found: what is not due costs nothing."""
        known = self._looked.get(timetable.name)
        return 0 if known is None or known[0] is not timetable else known[1]

    @staticmethod
    def _upcoming(timetable: Timetable, now: int) -> int:
        tick = timetable.ticks.after(now)
        return FOREVER if tick is None else tick

    def _see_to(self, timetable: Timetable, progress: Progress, now: int) -> tuple[int, int]:
        """Make what is due of it; how many jobs, and when to see to it again."""
        if max(progress.done, timetable.since) > now + AHEAD and self._is_ahead(timetable, progress):
            return 0, self._clock.now() + BREATH
        upcoming = self._upcoming(timetable, now)
        ticks = timetable.between(progress.done, now)
        if not ticks:
            return 0, upcoming
        assert self._here_since is not None
        missed = [tick for tick in ticks if tick <= max(self._here_since, now - LATE)]
        if missed and missed[-1] > now - LATE and self._others_are_there():
            # Due just before we came: who was here then is about to see to it, and may be to others before it.
            return 0, min(upcoming, missed[-1] + LATE)
        chosen = [*timetable.made_up_for(missed), *ticks[len(missed) :]]
        if len(chosen) < len(ticks):
            more = " or more" if len(ticks) == MOST_LOOKED_AT else ""
            log.warning("schedule.missed name=%s count=%d%s", timetable.name, len(ticks) - len(chosen), more)
        made = 0
        for first in range(0, len(chosen), limits.BULK) or (0,):
            if (late := self._clock.now()) > now + LATE:
                # Frozen since we read: others have gone on, and may have passed some of these over.
                return made, late + BREATH
            chunk = chosen[first : first + limits.BULK]
            done = chunk[-1] if first + limits.BULK < len(chosen) else ticks[-1]
            count, moved = self._make(timetable, progress, chunk, done)
            made += count
            if moved is None:
                break
            progress = moved
        return made, upcoming

    def _make(
        self, timetable: Timetable, progress: Progress, ticks: Sequence[int], done: int
    ) -> tuple[int, Progress | None]:
        """Store the jobs of these ticks, then that all up to `done` is seen to; how many jobs, and how far it is now.

        None: another engine was faster.
        """
        last, count = progress.last, 0
        if ticks:
            ageing = self._known_ageing()
            jobs = [in_line(timetable.job_of(tick), ageing) for tick in ticks]
            answers = self._backend.enqueue(jobs)
            for tick, job, answer in zip(ticks, jobs, answers, strict=True):
                count += answer.fate is Fate.STORED
                if answer.existing == job.id:  # else the job of an earlier tick still lives, and keeps this one out
                    last = tick
        moved = progress_to_text(Progress(done, last))
        # In vain if another engine was faster; a crash before it leaves the tick to others, who find its key taken.
        version = self._backend.write_record(RecordKind.TICK, timetable.name, moved, expect=progress.version)
        self._refused.pop(timetable.name, None)
        return count, None if version is None else Progress(done, last, version)

    def _is_ahead(self, timetable: Timetable, progress: Progress) -> bool:
        """Whether it is seen to up to a time that is yet to come: then its ticks count from now on.

        The store's clock was ahead for a while: without this the schedule would be silent until it is there again. What
        was made by that clock is not made a second time, for the ticks' keys are taken.
        """
        now = self._clock.measure()  # ours may be the one that is wrong
        if max(progress.done, timetable.since) <= now + AHEAD:
            return False
        log.error(
            "schedule %s is seen to up to a time beyond now: the store's clock was ahead; its ticks count from now on",
            timetable.name,
        )
        # Each in vain if another engine, or whoever changes the schedule, was faster.
        if progress.done > now:
            last = progress.last if progress.last is None or progress.last <= now else None
            moved = progress_to_text(Progress(now, last))
            self._backend.write_record(RecordKind.TICK, timetable.name, moved, expect=progress.version)
        if timetable.since > now:
            record, _ = self._read[timetable.name]
            text = to_text(timetable._replace(since=now))
            self._backend.write_record(RecordKind.SCHEDULE, timetable.name, text, expect=record.version)
        return True

    def _others_are_there(self) -> bool:
        """Whether another engine lives, as far as its record says."""
        mine = {self._owner, *self._dead_owners}
        return any(
            record.key not in mine and _is_alive(record) for record in self._backend.read_records(RecordKind.ENGINE)
        )

    # -------------------------------------------------------------- what the store has

    def _timetables(self) -> list[Timetable]:
        """All that can be read."""
        before, self._read = self._read, {}
        for record in self._backend.read_records(RecordKind.SCHEDULE):
            known = before.get(record.key)
            said = known[1] if known is not None and known[0].value == record.value else self._understood(record)
            self._read[record.key] = record, said
        return [timetable for _record, timetable in self._read.values() if timetable is not None]

    def _understood(self, record: Record) -> Timetable | None:
        try:
            timetable = from_text(record.key, record.value)
        except CorruptRecordError as error:
            log.error("schedule %s is not seen to: %s", record.key, error)
            return None
        if (known := self._names()) and timetable.job.name not in known:
            # Another engine may know it; until one does, its jobs are parked.
            log.warning("schedule %s: no job is registered here under the name %s", record.key, timetable.job.name)
        return timetable

    def _known_ageing(self) -> Mapping[str, int]:
        if self._ageing is None:
            self._ageing = ageing_of(self._backend.read_records(RecordKind.QUEUE))
        return self._ageing

    def _tell_refused(self, timetable: Timetable, error: Exception) -> None:
        text = to_text(timetable)
        if self._refused.get(timetable.name) != text:
            self._refused[timetable.name] = text
            log.error("schedule %s: its tick became no job: %s", timetable.name, error)


def _is_alive(record: Record) -> bool:
    try:
        return is_alive(record)
    except CorruptRecordError:
        return False  # what cannot be read is not waited for
