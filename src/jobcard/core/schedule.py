"""Schedules: what is said about one, what the store keeps of it, and which of its ticks become jobs.

Timetable   what code or an operator says: a small record `schedule`, written when that changes
Progress    how far it is: a small record `tick`, written by engines at every tick
Schedule    what users see of both
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jobcard.core import clock, ids, limits
from jobcard.core.job import NewJob
from jobcard.core.ticks import Ticks, check_when
from jobcard.core.unique import overlap_key, tick_key
from jobcard.errors import ConfigError, CorruptRecordError

if TYPE_CHECKING:
    from jobcard.core.codec import Codec

Missed = Literal["once", "skip"] | int
Overlap = Literal["skip", "allow"]

LATE = 10 * clock.SECOND
"""A tick that is not seen to for so long is missed, whoever is there."""
WINDOW = clock.HOUR
LONGEST_WINDOW = 31 * clock.DAY
MOST_MISSED = 1_000
MOST_LOOKED_AT = 2 * MOST_MISSED
_KEY_KEPT = clock.DAY
"""How much longer than its window a tick's once key is kept: no engine is frozen for so long between two calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it was when it was read.

    when: a cron expression, or a timedelta. job: the name of the job that each tick makes. jitter: how much later than
    its tick a job may be due. window: how long a missed tick can be made up for. paused: its ticks are passed over.
    next_at: None: it is paused, or never due again. last_at: its last tick that became a job.
    """

    name: str
    when: str | timedelta
    job: str
    args: list[Any]
    kwargs: dict[str, Any]
    tz: str
    missed: Missed
    overlap: Overlap
    paused: bool
    next_at: datetime | None
    last_at: datetime | None
    queue: str
    jitter: timedelta
    window: timedelta


class Timetable(NamedTuple):
    """When a schedule is due and what it then makes; durations and instants in microseconds.

    job: what every tick's job has in common. since: ticks count from here on. declared: what code last said of it, so
    that a start of an engine re-applies only what code changed.
    """

    name: str
    ticks: Ticks
    job: NewJob
    missed: Missed = "once"
    overlap: Overlap = "skip"
    jitter: int = 0
    window: int = WINDOW
    since: int = 0
    paused: bool = False
    declared: str | None = None

    def between(self, done: int, now: int) -> Sequence[int]:
        """The ticks behind `done` that are due, oldest first; those beyond the window are none any more.

        Of more than `MOST_LOOKED_AT` the last ones: nobody wants more, and a month of seconds would take long.
        """
        start = max(done, self.since, now - self.window - 1)
        return [] if self.paused else self.ticks.last_until(start, now, MOST_LOOKED_AT)

    def made_up_for(self, missed: Sequence[int]) -> Sequence[int]:
        """Those of the missed ticks that become jobs after all."""
        most = {"skip": 0, "once": 1}.get(str(self.missed), self.missed)
        assert isinstance(most, int)
        return missed[max(0, len(missed) - most) :]

    def job_of(self, tick: int) -> NewJob:
        """The job that this tick makes, the same whoever makes it."""
        key = tick_key(self.name, tick)
        own = self.job.unique_key
        return self.job._replace(
            id=ids.tick_id(key, tick),
            at=tick + self._delay_of(key),
            once_key=key,
            once_until=tick + self.window + _KEY_KEPT,
            unique_key=overlap_key(self.name) if own is None and self.overlap == "skip" else own,
            replaces=False,  # a tick that took over another job would leave no key behind, and be made again
        )

    def job_now(self, job_id: bytes) -> NewJob:
        """A job beside its ticks: due now, and nothing keeps it back."""
        return self.job._replace(id=job_id, unique_key=None, once_key=None, once_until=None, replaces=False)

    def _delay_of(self, key: str) -> int:
        # From the key: all engines must agree.
        return int.from_bytes(_digest(f"jitter {key}")[:8], "big") % (self.jitter + 1)


class Progress(NamedTuple):
    """How far a schedule is. done: all ticks up to this one are seen to. last: the last one that became a job.

    version: of its record; 0: there is none.
    """

    done: int = 0
    last: int | None = None
    version: int = 0


def view(timetable: Timetable, progress: Progress, codec: Codec, now: int) -> Schedule:
    """A schedule as users see it; `CorruptRecordError` when the call of its job cannot be read."""
    job, ticks = timetable.job, timetable.ticks
    following = None if timetable.paused else ticks.after(max(progress.done, timetable.since, now - timetable.window))
    try:
        args, kwargs = codec.loads(job.args), codec.loads(job.kwargs)
    except (ValueError, TypeError) as error:
        raise CorruptRecordError(f"the call of schedule {timetable.name} cannot be read") from error
    return Schedule(
        name=timetable.name,
        when=clock.to_timedelta(ticks.when) if isinstance(ticks.when, int) else ticks.when,
        job=job.name,
        args=args,
        kwargs=kwargs,
        tz=ticks.zone,
        missed=timetable.missed,
        overlap=timetable.overlap,
        paused=timetable.paused,
        next_at=None if following is None else clock.to_datetime(following),
        last_at=None if progress.last is None else clock.to_datetime(progress.last),
        queue=job.queue,
        jitter=clock.to_timedelta(timetable.jitter),
        window=clock.to_timedelta(timetable.window),
    )


# ------------------------------------------------------------------ what a user may say


def check_schedule(
    name: object, when: object, job: NewJob, *, tz: object, missed: object, overlap: object, jitter: Any, window: Any
) -> Timetable:
    """A schedule as users write it; `ConfigError` when something of it cannot be, `InvalidJobError` for a bad name."""
    name = limits.check_name(name, "schedule")
    ticks = check_when(when, tz)
    if isinstance(ticks.when, int) and ticks.when % 1000:
        raise ConfigError("the interval of a schedule is a whole number of milliseconds")
    if missed not in ("once", "skip") or isinstance(missed, bool):
        if isinstance(missed, str):
            raise ConfigError('missed must be "once", "skip", or how many missed ticks are made up for')
        limits.check_whole(missed, "missed", 1, MOST_MISSED, error=ConfigError)
    if overlap not in ("skip", "allow"):
        raise ConfigError('overlap must be "skip" or "allow"')
    return Timetable(
        name=name,
        ticks=ticks,
        job=job._replace(id=b"", schedule_id=name),
        missed=missed,  # type: ignore[arg-type]  # just checked
        overlap=overlap,
        jitter=limits.check_duration(jitter, "jitter", 0, limits.MAX_DELAY, error=ConfigError),
        window=limits.check_duration(window, "window", 0, LONGEST_WINDOW, error=ConfigError),
    )


# ------------------------------------------------------------------ as text

# Of the job's fields those that its schedule says: text, whole numbers. None is left out.
_TEXTS = ("queue", "name", "init", "args", "kwargs", "backoff", "unique_key", "limit_key", "tags", "meta")
_NUMBERS = ("priority", "max_attempts", "max_crashes", "timeout", "keep", "key_limit", "rate_count", "rate_per")
_NEEDED = frozenset({"queue", "name", "args", "kwargs", "backoff", "priority", "max_attempts", "max_crashes"})
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def to_text(timetable: Timetable) -> str:
    """A timetable as its small record."""
    state = {"since": timetable.since, "paused": timetable.paused, "declared": timetable.declared}
    return json.dumps({**_said(timetable), **state}, separators=(",", ":"))


def from_text(name: str, text: str) -> Timetable:
    """The timetable of a small record; `CorruptRecordError`, and why, when it is none."""
    try:
        document = json.loads(text)
        when = document["when"]
        checked = check_schedule(
            name,
            timedelta(microseconds=_whole(when)) if isinstance(when, int) else when,
            _job_from(document["job"]),
            tz=document["tz"],
            missed=document["missed"],
            overlap=document["overlap"],
            jitter=clock.to_timedelta(_whole(document["jitter"])),
            window=clock.to_timedelta(_whole(document["window"])),
        )
        return checked._replace(
            since=_whole(document["since"]),
            paused=document["paused"] is True,
            declared=document.get("declared"),
        )
    except _UNREADABLE as error:
        raise CorruptRecordError(f"the record of schedule {name} cannot be read: {error}") from error


def progress_to_text(progress: Progress) -> str:
    """How far a schedule is, as its small record."""
    return json.dumps({"done": progress.done, "last": progress.last}, separators=(",", ":"))


def progress_from_text(text: str, version: int) -> Progress:
    """How far the record says a schedule is; one that cannot be read says nothing."""
    try:
        document = json.loads(text)
        last = document["last"]
        return Progress(_whole(document["done"]), None if last is None else _whole(last), version)
    except _UNREADABLE:
        return Progress(version=version)


def declaration(timetable: Timetable) -> str:
    """What code says of a schedule, in short: equal where nothing changed."""
    return _digest(json.dumps(_said(timetable), sort_keys=True)).hex()[:32]


def _digest(text: str) -> bytes:
    from hashlib import sha256  # 5 ms to import, and an engine without schedules never needs it

    return sha256(text.encode()).digest()


def renewed(stored: Timetable | None, wanted: Timetable, now: int) -> Timetable:
    """What is to be stored of a schedule that is said anew: a pause stays, and other times count from now on."""
    if stored is None:
        return wanted._replace(since=now)
    since = stored.since if stored.ticks == wanted.ticks else now
    return wanted._replace(since=since, paused=stored.paused, declared=stored.declared)


def _said(timetable: Timetable) -> dict[str, Any]:
    job = {field: value for field in (*_TEXTS, *_NUMBERS) if (value := getattr(timetable.job, field)) is not None}
    return {
        "when": timetable.ticks.when,
        "tz": timetable.ticks.zone,
        "missed": timetable.missed,
        "overlap": timetable.overlap,
        "jitter": timetable.jitter,
        "window": timetable.window,
        "job": job,
    }


def _job_from(said: Mapping[str, Any]) -> NewJob:
    for names, kind in ((_TEXTS, str), (_NUMBERS, int)):
        for name in names:
            value = said[name] if name in _NEEDED else said.get(name)
            if not (isinstance(value, kind) or (value is None and name not in _NEEDED)) or isinstance(value, bool):
                raise ValueError(f"its job's {name} is no {'text' if kind is str else 'number'}")
    limits.check_name(said["queue"], "queue")
    limits.check_name(said["name"], "job")
    known = {name: said.get(name) for name in (*_TEXTS, *_NUMBERS)}
    nothing = dict.fromkeys(NewJob._fields)
    made = {"id": b"", "rank": -said["priority"], "order_offset": 0, "delay": 0, "replaces": False}
    return NewJob(**{**nothing, **known, **made})


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{str(value)[:20]!r} is no whole number")
    return value
