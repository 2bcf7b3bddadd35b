"""What time the store has, between two questions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from jobcard.core import clock

KNOWN_SECONDS = 60.0
"""How old a measurement may be: clocks that are kept by NTP drift apart by far less than a millisecond in it."""
_LOOKS = 3
"""The quickest answer of so many is believed …"""
_GOOD_TRIP_SECONDS = 0.01
"""… or the first that is as quick as this."""
_JUMP_SECONDS = 0.05
"""A host whose clocks differ by so much more than before slept, or was set: the store may be too."""


class _Measured(NamedTuple):
    """at: by this host's monotonic clock. ahead: the store's clock, less that. apart: this host's own two clocks."""

    at: float
    ahead: int
    apart: float


class StoreClock:
    """The store's time in microseconds, by this host's clock that never steps; any thread may use it."""

    def __init__(self, ask: Callable[[], int], *, stands_still: bool = False) -> None:
        """ask: the store for its time. stands_still: that moves only when a test moves it, so we ask each time."""
        self._ask = ask
        self._stands_still = stands_still
        self._measured: _Measured | None = None

    @property
    def is_known(self) -> bool:
        """Whether `now` answers without asking the store."""
        return self._known() is not None

    def now(self) -> int:
        """The store's time now."""
        known = self._known()
        return self.measure() if known is None else known.ahead + round(time.monotonic() * clock.SECOND)

    def is_doubtful(self) -> bool:
        """Whether this host slept, or its clock was set, since the store was asked."""
        measured = self._measured
        return measured is not None and abs(_apart() - measured.apart) > _JUMP_SECONDS

    def _known(self) -> _Measured | None:
        measured = self._measured
        if measured is None or self._stands_still or time.monotonic() - measured.at >= KNOWN_SECONDS:
            return None
        return None if self.is_doubtful() else measured

    def measure(self) -> int:
        """Ask the store; its time now."""
        if self._stands_still:
            return self._ask()
        trip, ahead = math.inf, 0
        for _ in range(_LOOKS):
            began = time.monotonic()
            then = self._ask()
            ended = time.monotonic()
            if ended - began < trip:
                trip = ended - began
                # As if the answer had taken the whole way: a tick may be a little late, but not early.
                ahead = then - round(ended * clock.SECOND)
            if trip < _GOOD_TRIP_SECONDS:
                break
        self._measured = _Measured(ended, ahead, _apart())
        return ahead + round(time.monotonic() * clock.SECOND)


def _apart() -> float:
    return time.time() - time.monotonic()
