"""What is too much: every bound on names, numbers and sizes, and the checks that say so.

Messages name the argument, the limit and the value's type, never a whole value: it may be secret or huge.
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, datetime, timedelta

from jobcard.core import clock
from jobcard.errors import InvalidJobError, JobcardError

MAX_NAME = 200
MIN_PRIORITY, MAX_PRIORITY = -32_768, 32_767
MAX_ATTEMPTS = 1_000
MAX_CRASHES = 1_000
MAX_CONCURRENCY = 10_000
MAX_WEIGHT = 1_000
MAX_RATE = 1_000_000
RATE_WINDOW = (clock.SECOND // 10, 31 * clock.DAY)
MAX_DELAY = 3_650 * clock.DAY
MIN_TIMEOUT = 1_000  # a millisecond
FIRST_YEAR, LAST_YEAR = 1970, 2200
MAX_PAYLOAD = 1 << 20
MAX_RESULT = 1 << 20
MAX_ERROR_TEXT = 64 << 10
MAX_OUTPUT = 16 << 10
MAX_TAGS = 10
BULK = 1_000  # jobs stored in one step; larger calls go in steps of this

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:\-/@+]+")
_SPECIAL = frozenset("_.:-/@+")


def _may_stand_in_a_name(character: str) -> bool:
    # Letters, marks (so that both forms of an accented letter are names, two of them) and digits of any script.
    return character in _SPECIAL or unicodedata.category(character)[0] in "LMN"


def is_name(text: str) -> bool:
    """Whether this text, whatever its length, holds only what may stand in a name."""
    return bool(_PLAIN_NAME.fullmatch(text) or (text and all(map(_may_stand_in_a_name, text)))) and text not in (
        ".",
        "..",
    )


def check_name(value: object, what: str, *, error: type[JobcardError] = InvalidJobError) -> str:
    """A name of a job, queue, tag or schedule: letters, digits and `._:-/@+`, 1..200 characters."""
    if not isinstance(value, str):
        raise error(f"{what}: a name must be text, not {type(value).__name__}")
    if not value or len(value) > MAX_NAME:
        raise error(f"{what}: a name has 1 to {MAX_NAME} characters, this one has {len(value)}")
    if not is_name(value):
        raise error(f"{what}: {value[:40]!r} may hold only letters, digits and ._:-/@+")
    return value


def check_whole(value: object, what: str, low: int, high: int, *, error: type[JobcardError] = InvalidJobError) -> int:
    """A whole number within its range; True and 1.0 are none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise error(f"{what} must be a whole number, not {type(value).__name__}")
    if not low <= value <= high:
        raise error(f"{what} must be {low:,} to {high:,}")
    return value


def check_duration(
    value: object, what: str, low: int, high: int, *, error: type[JobcardError] = InvalidJobError
) -> int:
    """Seconds or a timedelta as microseconds, within `low`..`high` microseconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        raise error(f"{what} must be seconds or a timedelta, not {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise error(f"{what} must be a finite number of seconds")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not low <= seconds * clock.SECOND <= high:
        raise error(f"{what} must be {low / clock.SECOND:g} to {high / clock.SECOND:g} seconds")
    return clock.to_duration(value)


def check_delay(value: object, what: str = "delay") -> int:
    """How long from now: a little in the past means now, ten years at most."""
    return max(0, check_duration(value, what, -MAX_DELAY // 10, MAX_DELAY))


def check_instant(value: object, what: str = "at") -> int:
    """An aware datetime between 1970 and 2200 as an instant."""
    if not isinstance(value, datetime):
        raise InvalidJobError(f"{what} must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidJobError(f"{what} must know its time zone, for example datetime.now(UTC)")
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        raise InvalidJobError(f"{what} must lie between {FIRST_YEAR} and {LAST_YEAR}") from None
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise InvalidJobError(f"{what} must lie between {FIRST_YEAR} and {LAST_YEAR}")
    return clock.to_instant(value)


DASHBOARD_PORT = 8678
"""Where the dashboard listens unless told otherwise."""
