"""How many jobs may start: the limits of a queue and of a key, and who of a line they let in.

A rate is a number of starts in any window of time, by the store's clock. A store counts starts in slots of a twentieth
of the window, and a slot is forgotten only when all of it is older than the window: so the limit holds in every window
there is, and nineteen twentieths of it can be reached.

    slot  ── 0 ── 1 ── … ── 19 ── 20 ── 21 ──     now is in slot 20: what started in 0..20 counts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

from jobcard.core import clock, limits
from jobcard.core.job import JobRow
from jobcard.core.states import Hold
from jobcard.errors import ConfigError

SLOTS = 20
"""A window is counted in this many slots."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` starts in any `per` seconds, over all engines.

    count: 1..1,000,000. per: seconds or a timedelta, a tenth of a second to 31 days; seconds when read.
    """

    count: int
    per: float | timedelta

    def __post_init__(self) -> None:
        limits.check_whole(self.count, "count of a rate limit", 1, limits.MAX_RATE, error=ConfigError)
        per = limits.check_duration(self.per, "per of a rate limit", *limits.RATE_WINDOW, error=ConfigError)
        object.__setattr__(self, "per", per / clock.SECOND)

    @property
    def rate(self) -> Rate:
        """As stores have it."""
        return Rate(self.count, clock.to_duration(self.per))


def check_rate(value: object) -> RateLimit | None:
    """A rate as it is declared; `ConfigError` when it is something else."""
    if value is not None and not isinstance(value, RateLimit):
        raise ConfigError(f"rate must be a RateLimit, for example RateLimit(50, per=1), not {type(value).__name__}")
    return value


class Rate(NamedTuple):
    """At most `most` starts in any `per` microseconds."""

    most: int
    per: int

    @property
    def slot(self) -> int:
        """How long a slot is, in microseconds."""
        return -(-self.per // SLOTS)

    def slot_at(self, now: int) -> int:
        """The slot of an instant."""
        return now // self.slot

    def oldest(self, now: int) -> int:
        """The oldest slot that counts; those below may be forgotten."""
        return self.slot_at(now) - SLOTS

    def lapses(self, slot: int) -> int:
        """The instant from which the starts of a slot count no more."""
        return (slot + SLOTS + 1) * self.slot


class Starts(NamedTuple):
    """The starts that a store has counted under one rate: (slot, how many), by slot."""

    slots: Sequence[tuple[int, int]]

    def room(self, rate: Rate, now: int) -> int:
        """How many more may start now."""
        return max(0, rate.most - sum(used for _slot, used in self._counting(rate, now)))

    def free_at(self, rate: Rate, now: int) -> int:
        """The instant from which one more may start; `now` if it may at once."""
        counting = self._counting(rate, now)
        over = sum(used for _slot, used in counting) - rate.most + 1
        if over <= 0:
            return now
        for slot, used in counting:
            over -= used
            if over <= 0:
                return rate.lapses(slot)
        return now

    def _counting(self, rate: Rate, now: int) -> list[tuple[int, int]]:
        # Those far behind and far ahead of now were counted when the window was another one.
        first, last = rate.oldest(now), rate.slot_at(now) + SLOTS
        return [(slot, used) for slot, used in sorted(self.slots) if first <= slot <= last]


NO_STARTS = Starts(())


MOST_KEPT_OUT = 10_000
"""Jobs that wait for the rate of one key are counted up to here; more of them share the last turns."""


class Use(NamedTuple):
    """How far the limits of one queue or key are used. at_work: its jobs that are claimed or running.

    kept_out: of a key, its jobs that its rate has put off and whose turn is still to come; `MOST_KEPT_OUT` at most.
    """

    at_work: int
    starts: Starts = NO_STARTS
    kept_out: int = 0


class QueueLimit(NamedTuple):
    """What bounds a queue over all engines. at_once: its jobs at work."""

    at_once: int | None
    rate: Rate | None

    def room(self, use: Use, now: int) -> int | None:
        """How many more of its jobs may be claimed now; None: nothing bounds it."""
        rooms = []
        if self.at_once is not None:
            rooms.append(max(0, self.at_once - use.at_work))
        if self.rate is not None:
            rooms.append(use.starts.room(self.rate, now))
        return min(rooms, default=None)


class Limited(NamedTuple):
    """One job of the line as the limits of its key see it; each job brings the limits it was enqueued with."""

    limit_key: str
    key_limit: int | None
    rate: Rate | None


class Bound(Protocol):
    """A record of a job, whichever, that tells the limits of its key."""

    @property
    def limit_key(self) -> str | None: ...
    @property
    def key_limit(self) -> int | None: ...
    @property
    def rate_count(self) -> int | None: ...
    @property
    def rate_per(self) -> int | None: ...


def rate_of(job: Bound) -> Rate | None:
    """How many jobs with its key may start in a window of time, as the job says; None: nothing bounds it."""
    if job.rate_count is None or job.rate_per is None:
        return None
    return Rate(job.rate_count, job.rate_per)


def limits_of(job: Bound) -> Limited:
    """A job that has a limit key, as its limits see it."""
    assert job.limit_key is not None
    return Limited(job.limit_key, job.key_limit, rate_of(job))


def is_put_off(row: JobRow) -> bool:
    """Whether a waiting job was due before, and the rate of its key has put it off."""
    # That moves when it is due and leaves its place in line.
    return row.hold == Hold.DELAY and row.available_at + row.order_offset > row.order_at


def of_queue(name: str) -> str:
    """What the starts of a queue are counted under."""
    return f"queue/{name}"


def of_key(limit_key: str) -> str:
    """What the starts of a limit key are counted under."""
    return f"key/{limit_key}"


class Admission(NamedTuple):
    """Whether a job may start. until: no sooner than at this instant; 0: when another one with its key has left."""

    enters: bool
    until: int = 0

    @property
    def hold(self) -> Hold | None:
        """What the job waits under; None: it enters."""
        if self.enters:
            return None
        return Hold.DELAY if self.until else Hold.LIMIT


ENTERS = Admission(True)
WAITS = Admission(False)


def admit(line: Iterable[Limited], use: Mapping[str, Use], now: int) -> list[Admission]:
    """Who of these, in the order of the line, may start; one answer each.

    Those that a rate keeps out are spread over the next windows, behind those it kept out before, so that they do not
    all come back at once.
    """
    entered: dict[str, int] = {}
    kept_out: dict[str, int] = {}
    answers = []
    for job in line:
        key = job.limit_key
        used = use.get(key, Use(0))
        new = entered.get(key, 0)
        if job.key_limit is not None and used.at_work + new >= job.key_limit:
            answers.append(WAITS)
        elif job.rate is not None and used.starts.room(job.rate, now) - new <= 0:
            place = kept_out.get(key, used.kept_out)
            kept_out[key] = place + 1
            answers.append(Admission(False, _turn(job.rate, used.starts, new, place, now)))
        else:
            entered[key] = new + 1
            answers.append(ENTERS)
    return answers


def _turn(rate: Rate, starts: Starts, new: int, place: int, now: int) -> int:
    """When the job at this place among those kept out may come again."""
    with_new = Starts([*starts.slots, (rate.slot_at(now), new)]) if new else starts
    return with_new.free_at(rate, now) + place // rate.most * (SLOTS + 1) * rate.slot
