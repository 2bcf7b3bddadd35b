"""When a schedule is due: cron expressions and intervals, as instants in UTC.

A cron expression is read as wall time in its time zone. Where clocks change:

- A fixed time of day that does not exist that day is due once, at the first instant after the gap; one that comes
  twice is due once, the first time.
- With `*` in minute or hour time simply runs on: every quarter of an hour is every quarter of an hour that passes, so
  those of a repeated hour are due in both, and those of a missing hour in none.

An interval counts from 1970 in UTC: every five minutes is at 0, 5, 10 … past the hour, whoever asks and whenever it
began.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from itertools import islice, takewhile
from operator import ge
from typing import NamedTuple

from cronsim import CronSim, CronSimError

from jobcard.core import clock, limits
from jobcard.errors import ConfigError

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LONGEST = 200
"""Characters of an expression."""
SHORTEST_INTERVAL, LONGEST_INTERVAL = clock.SECOND, 3_650 * clock.DAY
_NEVER = "is never due"
_FIRST_SPAN = clock.MINUTE


class Ticks(NamedTuple):
    """The instants at which a schedule is due.

    when: five cron fields, or six with seconds first, a name like `@daily`, or an interval in microseconds.
    zone: the name of the time zone in which the expression is meant; an interval has none.
    """

    when: str | int
    zone: str = "UTC"

    def after(self, instant: int) -> int | None:
        """The first tick behind this instant; None: there is none any more."""
        return next(self.all_after(instant), None)

    def all_after(self, instant: int) -> Iterator[int]:
        """The ticks behind this instant, in order."""
        if isinstance(self.when, int):
            first = instant // self.when + 1
            while True:
                yield first * self.when
                first += 1
        yield from _cron_after(self.when, _find_zone(self.zone), instant)

    def several_after(self, instant: int, count: int) -> Sequence[int]:
        """The first `count` ticks behind this instant, fewer if there are no more."""
        return list(islice(self.all_after(instant), count))

    def last_until(self, start: int, end: int, count: int) -> Sequence[int]:
        """The last `count` ticks behind `start` and not behind `end`, oldest first; those before them cost nothing."""
        first = self.after(start)
        if first is None or first > end:
            return []  # as a rule: one look is enough
        found: list[int] = []
        span, until = _FIRST_SPAN, end
        while until > start and len(found) < count:
            since = max(start, until - span)
            found[:0] = takewhile(partial(ge, until), self.all_after(since))
            until, span = since, 4 * span
        return found[-count:]


def check_when(value: object, zone: object = "UTC") -> Ticks:
    """What a user gave as `when` and `tz`; `ConfigError` with the reason if it is no time at all."""
    if isinstance(value, timedelta):
        what = "the interval of a schedule"
        return Ticks(limits.check_duration(value, what, SHORTEST_INTERVAL, LONGEST_INTERVAL, error=ConfigError))
    if not isinstance(value, str):
        raise ConfigError(f"a schedule is a cron expression or a timedelta, not {type(value).__name__}")
    if len(value) > LONGEST:
        raise ConfigError(f"a cron expression has at most {LONGEST} characters, this one has {len(value)}")
    text = " ".join(value.split())
    if text.startswith("@") and text.lower() not in ALIASES:
        raise ConfigError(f"{text[:40]!r} is no schedule; there are {', '.join(sorted(ALIASES))}")
    _find_zone(zone)
    ticks = Ticks(text, str(zone))
    try:
        if ticks.after(0) is None:
            raise ConfigError(f"the schedule {text[:40]!r} {_NEVER}")
    except CronSimError as error:
        hint = "five fields (minute hour day month weekday), or six with seconds first"
        raise ConfigError(f"{text[:40]!r} is no cron expression: {error}; it has {hint}") from None
    return ticks


def _find_zone(name: object) -> tzinfo:
    if not isinstance(name, str):
        raise ConfigError(f"tz must be the name of a time zone, for example 'Europe/Berlin', not {type(name).__name__}")
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # only now: an engine without schedules has no use for it

    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError on some versions
        pass
    except KeyError:
        pass
    raise ConfigError(f"there is no time zone {name[:40]!r} on this machine; one is, for example, 'Europe/Berlin'")


def _cron_after(text: str, zone: tzinfo, instant: int) -> Iterator[int]:
    fields = ALIASES.get(text.lower(), text).split()
    start = clock.to_datetime(instant).astimezone(zone)
    if len(fields) == 6 and not fields[1].startswith("*") and not fields[2].startswith("*"):
        yield from _at_fixed_times(fields, zone, instant)
        return
    last = instant
    for moment in CronSim(" ".join(fields), start):
        tick = clock.to_instant(moment)
        # Asked from within the second pass of an hour, it names a time of the first one again.
        if tick > last:
            last = tick
            yield tick


def _at_fixed_times(fields: Sequence[str], zone: tzinfo, instant: int) -> Iterator[int]:
    """Six fields with a fixed time of day: the minutes as with five fields, so that clock changes count alike."""
    minute = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
    every = CronSim(f"{fields[0]} * * * * *", minute)
    seconds: list[int] = []
    for moment in every:
        if moment.minute:
            break
        seconds.append(moment.second)
    for start in _cron_after(" ".join(fields[1:]), zone, instant - clock.MINUTE):
        for second in seconds:
            tick = start + second * clock.SECOND
            if tick > instant:
                yield tick
