"""How long a failed job waits before its next try."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from jobcard.core import clock
from jobcard.core.limits import MAX_DELAY, check_duration
from jobcard.errors import ConfigError

Seconds = float | timedelta
MAX_FACTOR = 1_000
_MAX_TEXT = 500


class Growth(StrEnum):
    """How the delay grows from try to try."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a failed job waits before its next try; made by `exponential`, `linear`, `fixed` or `custom`.

    first: the delay after the first failed try, and limit: the longest one, in microseconds.
    jitter: the share, 0..1, of the delay that chance may take off, so that a crowd does not return together.
    """

    growth: Growth
    first: int
    limit: int
    factor: float = 1
    jitter: float = 0
    function: Callable[[int], Seconds] | None = None
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Written once: every enqueue of the job stores it.
        parts: dict[str, object] = {"kind": self.growth.value, "first": self.first, "limit": self.limit}
        if self.growth is Growth.EXPONENTIAL:
            parts |= {"factor": self.factor, "jitter": self.jitter}
        if self.function is not None:
            parts["custom"] = True
        object.__setattr__(self, "_text", json.dumps(parts, separators=(",", ":")))

    # -- making one

    @classmethod
    def exponential(cls, base: Seconds = 1, limit: Seconds = 3600, factor: float = 2, jitter: float = 0.5) -> Backoff:
        """`base` after the first failed try, `factor` times as long after each further one, never above `limit`.

        jitter: up to this share of the delay (0..1) is taken off by chance; 0.5: half of it to all of it.
        """
        return cls(
            growth=Growth.EXPONENTIAL,
            first=_delay(base, "base"),
            limit=_limit(limit, base, "base"),
            factor=_number(factor, "factor", 1, MAX_FACTOR),
            jitter=_number(jitter, "jitter", 0, 1),
        )

    @classmethod
    def fixed(cls, delay: Seconds) -> Backoff:
        """The same delay before each try."""
        first = _delay(delay, "delay")
        return cls(growth=Growth.FIXED, first=first, limit=first)

    @classmethod
    def linear(cls, step: Seconds, limit: Seconds = 3600) -> Backoff:
        """`step` after the first failed try, longer by `step` after each further one, never above `limit`."""
        return cls(growth=Growth.LINEAR, first=_delay(step, "step"), limit=_limit(limit, step, "step"))

    @classmethod
    def custom(cls, function: Callable[[int], Seconds]) -> Backoff:
        """Whatever `function(attempt)` says, in seconds or as a timedelta; `attempt` is the try that failed, from 1.

        It runs in the worker. Where it cannot (the worker died) or fails, the default back-off is used.
        """
        if not callable(function):
            raise ConfigError(f"backoff: custom needs a function, not {type(function).__name__}")
        standard = DEFAULT_BACKOFF
        return cls(
            growth=standard.growth,
            first=standard.first,
            limit=standard.limit,
            factor=standard.factor,
            jitter=standard.jitter,
            function=function,
        )

    # -- using it

    def delay_before(self, attempt: int, random: Callable[[], float]) -> int:
        """Microseconds to wait after try number `attempt` (from 1) failed; 0..`limit`.

        random: a number in 0..1, not 1 itself; taken once if there is jitter. A custom function is not asked.
        """
        past = max(0, attempt - 1)
        if self.growth is Growth.FIXED:
            return self.first
        if self.growth is Growth.LINEAR:
            return min(self.first * (past + 1), self.limit)
        try:
            delay = min(self.first * self.factor**past, self.limit)
        except OverflowError:
            delay = self.limit if self.first else 0
        return min(round(delay * (1 - self.jitter * random())), self.limit) if self.jitter else round(delay)

    def custom_delay(self, attempt: int, random: Callable[[], float]) -> tuple[int, str | None]:
        """Microseconds as the custom function says, and what is wrong with it: then they are the default's."""
        if self.function is None:
            return self.delay_before(attempt, random), None
        try:
            delay = check_duration(self.function(attempt), "it", 0, MAX_DELAY)
        except Exception as error:
            return self.delay_before(attempt, random), f"the custom back-off was not used: {_described(error)}"
        return delay, None

    # -- stored with the job

    def to_text(self) -> str:
        """Compact JSON text; a custom function's own part is not in it, only that there is one."""
        return self._text

    @classmethod
    def from_text(cls, text: str) -> Backoff:
        """The back-off that was stored as this text, without a custom function; the default if it is unreadable."""
        try:
            return _parsed(text)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return DEFAULT_BACKOFF

    @property
    def is_custom(self) -> bool:
        """Whether a function of the application decides."""
        return self.function is not None


@functools.lru_cache(maxsize=256)  # an application has a few, and every try that fails asks for one
def _parsed(text: str) -> Backoff:
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise ValueError("no back-off is that long")
    parts: dict[str, Any] = json.loads(text)
    growth = Growth(parts["kind"])
    first, limit = (clock.to_timedelta(_whole(parts[name])) for name in ("first", "limit"))
    if growth is Growth.FIXED:
        return Backoff.fixed(first)
    if growth is Growth.LINEAR:
        return Backoff.linear(first, limit)
    return Backoff.exponential(first, limit, parts["factor"], parts["jitter"])


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError("microseconds are whole")
    return value


def _delay(value: Seconds, what: str) -> int:
    return check_duration(value, f"backoff: {what}", 0, MAX_DELAY, error=ConfigError)


def _limit(limit: Seconds, first: Seconds, what: str) -> int:
    longest = _delay(limit, "limit")
    if longest < _delay(first, what):
        raise ConfigError(f"backoff: limit must be at least {what}")
    return longest


def _number(value: object, what: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"backoff: {what} must be a number, not {type(value).__name__}")
    if not low <= value <= high:
        raise ConfigError(f"backoff: {what} must be {low:g} to {high:g}")
    return float(value)


def _described(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {str(error)[:200]}"
    except Exception:
        return type(error).__name__


DEFAULT_BACKOFF = Backoff.exponential()
