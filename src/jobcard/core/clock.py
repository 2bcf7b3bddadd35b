"""Time as the rules see it: handed in, never read from the machine.

Below the client an instant is an integer, microseconds since 1970 in UTC, and a duration is an
integer number of microseconds. Users see aware datetimes and timedeltas; this module converts.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Clock(Protocol):
    """Where the engine and the SQLite store read time."""

    def now(self) -> int:
        """Wall time in microseconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back; comparable between processes of one host."""
        ...


class SystemClock:
    """The host's own clocks."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class FrozenClock:
    """A clock that moves only when told to; for tests and simulations."""

    def __init__(self, now: int = 1_800_000_000 * SECOND, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> int:
        """Let time pass on both clocks; returns the new wall time."""
        self._monotonic += seconds
        return self.step(seconds)

    def step(self, seconds: float) -> int:
        """Set the wall clock forward or back, as an operator or NTP would; returns it."""
        self._now += round(seconds * SECOND)
        return self._now


def to_datetime(instant: int) -> datetime:
    """An instant as an aware datetime in UTC."""
    return _EPOCH + instant * _MICROSECOND


def to_instant(moment: datetime) -> int:
    """An aware datetime as an instant; the caller has made sure that it is aware."""
    return (moment - _EPOCH) // _MICROSECOND


def to_duration(value: float | timedelta) -> int:
    """Seconds or a timedelta as whole microseconds."""
    if isinstance(value, timedelta):
        return value // _MICROSECOND
    return round(value * SECOND)


def to_timedelta(duration: int) -> timedelta:
    """A duration as a timedelta."""
    return duration * _MICROSECOND
