"""Which jobs are one and the same: the keys by which a store lets only one of them in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from jobcard.core import clock, limits
from jobcard.errors import ConfigError

OnConflict = Literal["return", "raise", "replace", "ignore"]
ON_CONFLICT = ("return", "raise", "replace", "ignore")

_WINDOWS = {"second": clock.SECOND, "minute": clock.MINUTE, "hour": clock.HOUR, "day": clock.DAY, "week": 7 * clock.DAY}
_MONDAY = 4 * clock.DAY  # 1970 began on a Thursday
PERIODS = (*_WINDOWS, "month", "ever")
FOREVER = clock.to_instant(datetime(limits.LAST_YEAR + 1, 1, 1, tzinfo=UTC))
"""Until when a key is taken that is taken for ever."""


@dataclass(frozen=True, slots=True)
class Unique:
    """Only one of the jobs that are the same is stored.

    by: which arguments make them the same: names of parameters, "args" for all; None: the job's name alone.
    key: instead of `by`, a function of the arguments that returns text; it runs where the job is enqueued.
    per: None: as long as the first one lives. "second", "minute", "hour", "day", "week", "month", or a timedelta: one
    in each such window of UTC, by when the job is due. "ever": one for all time.
    on_conflict: what the second enqueue does: "return" the handle of the first one (its `duplicate` is True), "raise"
    `DuplicateJobError`, "replace" what the first one is to do if it still waits, "ignore" it and give None.
    """

    by: str | tuple[str, ...] | None = None
    key: Callable[..., str] | None = None
    per: str | timedelta | None = None
    on_conflict: OnConflict = "return"

    def __post_init__(self) -> None:
        if self.by is not None and self.key is not None:
            raise ConfigError("a unique job is so by its arguments or by a key function: give by or key, not both")
        if self.key is not None:
            check_key_function(self.key, "key")
        if self.on_conflict not in ON_CONFLICT:
            raise ConfigError(f"on_conflict must be one of {', '.join(ON_CONFLICT)}")
        object.__setattr__(self, "by", check_parameters(self.by, "by"))
        if isinstance(self.per, timedelta):
            limits.check_duration(self.per, "per", clock.SECOND, limits.MAX_DELAY, error=ConfigError)
        elif self.per is not None and self.per not in PERIODS:
            raise ConfigError(f"per must be a timedelta or one of {', '.join(PERIODS)}")

    @property
    def while_alive(self) -> bool:
        """Whether the key is free again when the job has ended."""
        return self.per is None

    def window(self, due: int) -> tuple[int, int]:
        """The window in which a job due at this instant is the only one: from, until."""
        if self.per == "ever":
            return 0, FOREVER
        if self.per == "month":
            day = clock.to_datetime(due)
            first = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            following = (first + timedelta(days=32)).replace(day=1)
            return clock.to_instant(first), clock.to_instant(following)
        if isinstance(self.per, timedelta):
            length, origin = clock.to_duration(self.per), 0
        else:
            assert self.per is not None  # `while_alive` has no window
            length, origin = _WINDOWS[self.per], _MONDAY if self.per == "week" else 0
        start = (due - origin) // length * length + origin
        return start, start + length


def make_key(name: str, said: str) -> str:
    """The key of a job: its name and what of its arguments counts, in at most 244 characters.

    said: text that is equal where the jobs are the same; empty: the name alone.
    """
    if not said:
        return name
    from hashlib import sha256  # 5 ms to import, and most processes never need it

    return f"{name}#{sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()[:43]}"


def once_key(key: str, start: int) -> str:
    """The key of a job in the window that starts at this instant."""
    return f"{key}@{start}"


def tick_key(schedule: str, tick: int) -> str:
    """The key of the job that a schedule makes for a tick; no key of a job's own begins like it."""
    return f"#tick/{schedule}@{tick}"


def overlap_key(schedule: str) -> str:
    """The key of a schedule's job while it lives, where no second one shall be beside it; as `tick_key`."""
    return f"#schedule/{schedule}"


def limit_key(said: str) -> str:
    """The limit key that a function gave: shared by all jobs whose functions give this text, whatever their names."""
    # No job's name holds a "#", so none of these is ever the key of a job's own limit.
    if len(said) <= limits.MAX_NAME and limits.is_name(said):
        return f"#{said}"
    return make_key("", f"#{said}")


def check_parameters(by: Any, what: str) -> str | tuple[str, ...] | None:
    """Names of parameters, "args" for all of them, or None; `ConfigError` when it is something else."""
    if by is None or by == "args":
        return by  # type: ignore[no-any-return]
    if isinstance(by, str):
        by = (by,)
    try:
        names = tuple(by)
    except TypeError:
        names = ()
    if names and all(isinstance(name, str) and name.isidentifier() for name in names):
        return names
    raise ConfigError(f'{what} must be names of parameters, for example ("to",), or "args" for all of them')


def check_key_function(function: Any, what: str) -> None:
    """`ConfigError` unless this can be called for the key of a job."""
    if not callable(function):
        raise ConfigError(f"{what} must be a function of the job's arguments, not {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{what} must be a function that is not async: it runs wherever a job is enqueued")
