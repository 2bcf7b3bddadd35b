"""Names, numbers, durations and instants: what passes, and that the rest is refused with its reason."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobcard.core import limits
from jobcard.core.clock import DAY, SECOND, to_datetime
from jobcard.core.queue import Queue
from jobcard.errors import ConfigError, InvalidJobError

BERLIN = ZoneInfo("Europe/Berlin")


def label(value: object) -> str:
    """A test's id: the same in every process, so without addresses and without the order of a set."""
    plain = type(value) in (str, bytes, float, bool) or (type(value) is int and abs(value) < 2**65)
    return ascii(value)[:40] if plain else type(value).__name__


class Line(StrEnum):
    MAIL = "mail"


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "mail.welcome",
        "a-b_c:d/e@f+g",
        "0",
        "...",
        "..a",
        "x" * 200,
        "A",
        "é",
        "e\u0301",
        "日本語",
        "Ünïcode1",
        "os:system",
    ],
)
def test_a_good_name_passes_unchanged(name: str) -> None:
    """Letters and digits of any script and ._:-/@+ make a name; it is kept as written."""
    assert limits.check_name(name, "queue") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "   ",
        "q ",
        " q",
        "a b",
        "a\tb",
        "a\n",
        "a\x00b",
        "\x00",
        "\ud800",
        "a\ud800",
        ".",
        "..",
        "x" * 201,
        "x" * 10_000,
        "a'b",
        'a"b',
        "a;b",
        "a%b",
        "a\\b",
        "a?b",
        "a#b",
        "a&b",
        "a<b",
        "a>b",
        "a`b",
        "a$b",
        "{}",
        "a*b",
        "$where",
        "a|b",
        "a,b",
        "a\u202eb",
        "a\u200db",
        "😀",
        "\ufeffa",
        "a\u00a0",
        "a\x7f",
        None,
        5,
        True,
        b"a",
        {"$gt": ""},
        ["a"],
        1.5,
        object(),
    ],
    ids=label,
)
def test_a_bad_name_is_refused(name: object) -> None:
    """Anything else is refused, with the argument's name and never more than forty characters of it."""
    with pytest.raises(InvalidJobError, match=r"^queue: ") as caught:
        limits.check_name(name, "queue")
    assert len(str(caught.value)) < 150
    str(caught.value).encode()
    with pytest.raises(ConfigError):
        limits.check_name(name, "queue", error=ConfigError)


def test_a_name_may_be_a_text_enum() -> None:
    """Applications keep their queue names in an Enum."""
    assert limits.check_name(Line.MAIL, "queue") == "mail"


def test_names_that_look_alike_are_two_names() -> None:
    """Case and the two Unicode forms of a letter make different names."""
    assert len({limits.check_name(name, "queue") for name in ("A", "a", "é", "e\u0301")}) == 4


# ------------------------------------------------------------------ whole numbers


@pytest.mark.parametrize("value", [-32_768, 0, 32_767])
def test_a_priority_within_its_range_passes(value: int) -> None:
    """The range is that of a 16-bit integer."""
    assert limits.check_whole(value, "priority", limits.MIN_PRIORITY, limits.MAX_PRIORITY) == value


@pytest.mark.parametrize(
    "value",
    [2**31, -(2**31) - 1, 32_768, -32_769, 2**63, 1.5, 1.0, math.nan, math.inf, "5", None, True, False, b"5", 10**4000],
)
def test_another_priority_is_refused(value: object) -> None:
    """Too large, not whole, not a number: `InvalidJobError` naming the argument."""
    with pytest.raises(InvalidJobError, match=r"^priority must be ") as caught:
        limits.check_whole(value, "priority", limits.MIN_PRIORITY, limits.MAX_PRIORITY)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [0, -1, 1_001, 10**9, 1.0, "1", None, True])
def test_attempts_are_1_to_1000(value: object) -> None:
    """A job runs at least once and at most a thousand times."""
    with pytest.raises(InvalidJobError, match=r"^max_attempts must be "):
        limits.check_whole(value, "max_attempts", 1, limits.MAX_ATTEMPTS)


# ------------------------------------------------------------------ durations


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (5, 5 * SECOND),
        (1.5, 1_500_000),
        (0.0000004, 0),
        (timedelta(days=1), DAY),
        (timedelta(microseconds=1), 1),
        (-5, 0),
        (-0.0, 0),
        (timedelta(seconds=-5), 0),
        (3650 * 86400, limits.MAX_DELAY),
        (timedelta(days=3650), limits.MAX_DELAY),
    ],
    ids=repr,
)
def test_a_delay_is_seconds_or_a_timedelta(value: Any, expected: int) -> None:
    """A delay that has passed means now; ten years is the most."""
    assert limits.check_delay(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        -(10**9),
        10**12,
        1e18,
        1e308,
        10**400,
        -(10**400),
        math.nan,
        math.inf,
        -math.inf,
        timedelta.max,
        timedelta.min,
        timedelta(days=3650, microseconds=1),
        "5",
        "",
        True,
        False,
        None,
        b"5",
        [5],
        datetime(2024, 1, 1),
        5j,
    ],
    ids=label,
)
def test_another_delay_is_refused(value: object) -> None:
    """Too long, not finite, not a duration: `InvalidJobError` naming the argument."""
    with pytest.raises(InvalidJobError, match=r"^delay must be ") as caught:
        limits.check_delay(value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [0, -1, 1e-9, 0.0009, math.inf, math.nan, 10**12, "60", True, timedelta(0)])
def test_a_timeout_is_a_millisecond_or_more(value: object) -> None:
    """A timeout that nothing can meet is refused."""
    with pytest.raises(InvalidJobError, match=r"^timeout must be "):
        limits.check_duration(value, "timeout", limits.MIN_TIMEOUT, limits.MAX_DELAY)


# ------------------------------------------------------------------ instants


@pytest.mark.parametrize(
    "value",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2200, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2024, 7, 1, 12, tzinfo=BERLIN),
        datetime(2024, 7, 1, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=-11))),
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
        datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN),
    ],
    ids=repr,
)
def test_an_aware_datetime_is_its_instant(value: datetime) -> None:
    """To the microsecond, also where clocks are changed."""
    instant = limits.check_instant(value)
    assert to_datetime(instant) == value.astimezone(UTC)
    assert instant == round(value.timestamp() * 1_000_000)


def test_the_two_meanings_of_a_doubled_hour_differ() -> None:
    """`fold` says which of the two half past two at the end of summer time is meant."""
    early = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
    assert limits.check_instant(early.replace(fold=1)) - limits.check_instant(early) == 3600 * SECOND


class NoOffset(timezone.__base__):  # type: ignore[misc, name-defined]
    def utcoffset(self, moment: object) -> None:
        return None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (datetime(2024, 1, 1), "time zone"),
        (datetime(2024, 1, 1, tzinfo=NoOffset()), "time zone"),
        (datetime.min.replace(tzinfo=UTC), "between 1970 and 2200"),
        (datetime.max.replace(tzinfo=UTC), "between 1970 and 2200"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "between 1970 and 2200"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), "between 1970 and 2200"),
        (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), "between 1970 and 2200"),
        (datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1))), "between 1970 and 2200"),
        (datetime(2201, 1, 1, tzinfo=UTC), "between 1970 and 2200"),
        ("2024-01-01", "not str"),
        (1_700_000_000, "not int"),
        (None, "not NoneType"),
        (timedelta(1), "not timedelta"),
        (datetime(2024, 1, 1).date(), "not date"),
    ],
    ids=label,
)
def test_another_instant_is_refused(value: object, says: str) -> None:
    """No zone, out of range, no datetime: `InvalidJobError` naming the argument."""
    with pytest.raises(InvalidJobError, match=rf"^at must .*{says}"):
        limits.check_instant(value)


# ------------------------------------------------------------------ queues


@pytest.mark.parametrize(
    "given",
    [
        {"name": "a b"},
        {"name": None},
        {"name": "q", "concurrency": 0},
        {"name": "q", "concurrency": -1},
        {"name": "q", "concurrency": 10**6},
        {"name": "q", "concurrency": "4"},
        {"name": "q", "concurrency": True},
        {"name": "q", "priority": 2**31},
        {"name": "q", "priority": 1.5},
        {"name": "q", "paused": 1},
    ],
    ids=repr,
)
def test_a_wrong_queue_is_refused(given: dict[str, Any]) -> None:
    """A queue's declaration is checked where it is written."""
    with pytest.raises(ConfigError):
        Queue(**given)
