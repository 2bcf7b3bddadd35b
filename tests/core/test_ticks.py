"""When schedules are due: by cron expressions in every kind of time zone, and by intervals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobcard.core import clock
from jobcard.core.ticks import ALIASES, Ticks, check_when
from jobcard.errors import ConfigError


def at(text: str) -> int:
    """An instant from a time in UTC."""
    return clock.to_instant(datetime.fromisoformat(text).replace(tzinfo=UTC))


def shown(ticks: Ticks, after: str, count: int) -> list[str]:
    found = ticks.several_after(at(after), count)
    return [f"{clock.to_datetime(tick):%Y-%m-%dT%H:%M:%S}" for tick in found]


# Worked out by hand from the rules of each zone. Clocks go forward at `change` (UTC), by `shift` minutes; `missing` is
# a time of day in the gap, `next` when it is due the day after.
FORWARD = [
    # zone, change, shift, missing, next
    ("Europe/Berlin", "2026-03-29T01:00:00", 60, "30 2 * * *", "2026-03-30T00:30:00"),
    ("Europe/London", "2026-03-29T01:00:00", 60, "30 1 * * *", "2026-03-30T00:30:00"),
    ("America/New_York", "2026-03-08T07:00:00", 60, "0 2 * * *", "2026-03-09T06:00:00"),
    ("America/St_Johns", "2026-03-08T05:30:00", 60, "45 2 * * *", "2026-03-09T05:15:00"),
    # Midnight itself is missing in these four.
    ("America/Havana", "2026-03-08T05:00:00", 60, "0 0 * * *", "2026-03-09T04:00:00"),
    ("America/Santiago", "2026-09-06T04:00:00", 60, "0 0 * * *", "2026-09-07T03:00:00"),
    ("Africa/Cairo", "2026-04-23T22:00:00", 60, "15 0 * * *", "2026-04-24T21:15:00"),
    ("Asia/Beirut", "2026-03-28T22:00:00", 60, "59 0 * * *", "2026-03-29T21:59:00"),
    # South of the equator spring is in September; on Lord Howe the gap is half an hour.
    ("Australia/Sydney", "2026-10-03T16:00:00", 60, "30 2 * * *", "2026-10-04T15:30:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00", 30, "15 2 * * *", "2026-10-04T15:15:00"),
    ("Pacific/Auckland", "2026-09-26T14:00:00", 60, "1 2 * * *", "2026-09-27T13:01:00"),
    ("Pacific/Chatham", "2026-09-26T14:00:00", 60, "0 3 * * *", "2026-09-27T13:15:00"),
]
# Clocks go back at `change` by `shift` minutes; `twice` is a time of day that comes twice, first at `first`.
BACK = [
    # zone, change, shift, twice, first, next
    ("Europe/Berlin", "2026-10-25T01:00:00", 60, "30 2 * * *", "2026-10-25T00:30:00", "2026-10-26T01:30:00"),
    ("Europe/London", "2026-10-25T01:00:00", 60, "0 1 * * *", "2026-10-25T00:00:00", "2026-10-26T01:00:00"),
    ("America/New_York", "2026-11-01T06:00:00", 60, "30 1 * * *", "2026-11-01T05:30:00", "2026-11-02T06:30:00"),
    ("America/St_Johns", "2026-11-01T04:30:00", 60, "15 1 * * *", "2026-11-01T03:45:00", "2026-11-02T04:45:00"),
    ("America/Havana", "2026-11-01T05:00:00", 60, "0 0 * * *", "2026-11-01T04:00:00", "2026-11-02T05:00:00"),
    ("America/Santiago", "2026-04-05T03:00:00", 60, "30 23 * * *", "2026-04-05T02:30:00", "2026-04-06T03:30:00"),
    ("Africa/Cairo", "2026-10-29T21:00:00", 60, "30 23 * * *", "2026-10-29T20:30:00", "2026-10-30T21:30:00"),
    ("Asia/Beirut", "2026-10-24T21:00:00", 60, "0 23 * * *", "2026-10-24T20:00:00", "2026-10-25T21:00:00"),
    ("Australia/Sydney", "2026-04-04T16:00:00", 60, "30 2 * * *", "2026-04-04T15:30:00", "2026-04-05T16:30:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00", 30, "45 1 * * *", "2026-04-04T14:45:00", "2026-04-05T15:15:00"),
    ("Pacific/Auckland", "2026-04-04T14:00:00", 60, "59 2 * * *", "2026-04-04T13:59:00", "2026-04-05T14:59:00"),
    ("Pacific/Chatham", "2026-04-04T14:00:00", 60, "0 3 * * *", "2026-04-04T13:15:00", "2026-04-05T14:15:00"),
]
CHANGES = [*((zone, change, shift) for zone, change, shift, *_ in FORWARD), *((z, c, -s) for z, c, s, *_ in BACK)]


def earlier(text: str, minutes: int) -> str:
    return f"{datetime.fromisoformat(text) - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S}"


class TestWhereClocksChange:
    @pytest.mark.parametrize(("zone", "change", "shift"), CHANGES)
    def test_the_table_is_right(self, zone: str, change: str, shift: int) -> None:
        """The zone's own data says that its clocks change then, and by so much."""
        moment = datetime.fromisoformat(change).replace(tzinfo=UTC)
        before, after = (
            (moment - ago).astimezone(ZoneInfo(zone)).utcoffset() for ago in (timedelta(seconds=1), -UTC_0)
        )
        assert before is not None
        assert after == before + timedelta(minutes=shift)

    @pytest.mark.parametrize(("zone", "change", "shift", "missing", "following"), FORWARD)
    def test_a_time_that_does_not_exist_is_due_after_the_gap(
        self, zone: str, change: str, shift: int, missing: str, following: str
    ) -> None:
        """Once, at the first instant there is; the next day as always."""
        assert shown(Ticks(missing, zone), earlier(change, 600), 2) == [change, following]
        seconds = Ticks(f"0 {missing}", zone)
        assert shown(seconds, earlier(change, 600), 2) == [change, following]

    @pytest.mark.parametrize(("zone", "change", "shift", "twice", "first", "following"), BACK)
    def test_a_time_that_comes_twice_is_due_the_first_time(
        self, zone: str, change: str, shift: int, twice: str, first: str, following: str
    ) -> None:
        """Once, whenever the question is put: before the change, between the two, or behind the second."""
        for expression in (twice, f"0 {twice}"):
            ticks = Ticks(expression, zone)
            assert shown(ticks, earlier(change, 300), 2) == [first, following]
            for passed in range(shift + 60):
                asked = earlier(first, -passed)
                assert shown(ticks, asked, 1) == [following], asked

    @pytest.mark.parametrize(("zone", "change", "shift"), CHANGES)
    def test_every_quarter_of_an_hour_is_every_quarter_that_passes(self, zone: str, change: str, shift: int) -> None:
        """With a star time simply runs on, through the gap and through both passes."""
        for expression in ("*/15 * * * *", "0 */15 * * * *", "0,15,30,45 * * * *"):
            start = earlier(change, 120)
            assert shown(Ticks(expression, zone), start, 16) == [earlier(start, -15 * n) for n in range(1, 17)]

    def test_an_hour_of_which_half_is_missing(self) -> None:
        """On Lord Howe 02:00 does not come when clocks go forward: with a star it is left out."""
        assert shown(Ticks("0 * * * *", "Australia/Lord_Howe"), "2026-10-03T14:00:00", 3) == [
            "2026-10-03T14:30:00",
            "2026-10-03T16:00:00",
            "2026-10-03T17:00:00",
        ]

    def test_several_times_in_one_gap_are_one_tick(self) -> None:
        """They would all be due at the same instant."""
        for expression in ("0,30 2 * * *", "0 0,30 2 * * *"):
            assert shown(Ticks(expression, "Europe/Berlin"), "2026-03-28T12:00:00", 3) == [
                "2026-03-29T01:00:00",
                "2026-03-30T00:00:00",
                "2026-03-30T00:30:00",
            ]

    def test_seconds_go_with_their_minute(self) -> None:
        """A fixed time of day with seconds keeps them behind the gap."""
        assert shown(Ticks("15,45 30 2 * * *", "Europe/Berlin"), "2026-03-28T12:00:00", 3) == [
            "2026-03-29T01:00:15",
            "2026-03-29T01:00:45",
            "2026-03-30T00:30:15",
        ]

    def test_a_zone_whose_clocks_never_change(self) -> None:
        """The same time of day all year round, half an hour off UTC's."""
        ticks = Ticks("30 2 * * *", "Asia/Kolkata")
        year = ticks.several_after(at("2025-12-31T23:00:00"), 365)
        assert year[0] == at("2026-01-01T21:00:00") == year[1] - clock.DAY
        assert {later - sooner for sooner, later in pairwise(year)} == {clock.DAY}

    def test_a_day_that_a_zone_left_out(self) -> None:
        """Samoa crossed the date line: there was no 30 December 2011."""
        assert shown(Ticks("0 12 30 12 *", "Pacific/Apia"), "2011-12-01T00:00:00", 1) == ["2011-12-30T10:00:00"]


UTC_0 = timedelta(0)


class TestExpressions:
    @pytest.mark.parametrize(
        ("expression", "after", "expected"),
        [
            ("*/5 * * * *", "2026-01-01T00:00:00", ["2026-01-01T00:05:00", "2026-01-01T00:10:00"]),
            ("0 3 * * *", "2026-02-28T12:00:00", ["2026-03-01T03:00:00", "2026-03-02T03:00:00"]),
            ("0 0 29 2 *", "2026-01-01T00:00:00", ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
            ("0 0 29 2 *", "2097-01-01T00:00:00", ["2104-02-29T00:00:00"]),
            ("0 0 31 * *", "2026-01-31T00:00:00", ["2026-03-31T00:00:00", "2026-05-31T00:00:00"]),
            ("0 9 * * MON-FRI", "2026-11-20T09:00:00", ["2026-11-23T09:00:00"]),
            ("0 0 L * *", "2026-02-01T00:00:00", ["2026-02-28T00:00:00", "2026-03-31T00:00:00"]),
            ("*/20 * * * * *", "2026-01-01T00:00:05", ["2026-01-01T00:00:20", "2026-01-01T00:00:40"]),
            ("0 0 1 1 *", "2100-01-01T00:00:00", ["2101-01-01T00:00:00"]),
            ("@hourly", "2026-01-01T00:30:00", ["2026-01-01T01:00:00"]),
            ("@weekly", "2026-11-22T00:00:00", ["2026-11-29T00:00:00"]),
            ("@Yearly", "2026-01-01T00:00:00", ["2027-01-01T00:00:00"]),
        ],
    )
    def test_ticks_in_utc(self, expression: str, after: str, expected: list[str]) -> None:
        """What cron says; a tick is never the instant that was asked from."""
        assert shown(check_when(expression), after, len(expected)) == expected

    @pytest.mark.parametrize(
        "wrong",
        [
            "", "  ", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",
            "0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6 *", "*/0 * * * *", "5/ * * * *", "1-0 * * * *", ",", "0 0 * * ,",
            "@every 0s", "@reboot", "@", "x" * 10_000, "* " * 5_000, "é * * * *", "² * * * *", "\x00 * * * *",
            "0 0 1 1 * 2100", "-1 * * * *", "1.5 * * * *", "\ud800 * * * *", "* * * * *; rm",
            None, 5, 0.5, b"* * * * *", ["* * * * *"], datetime(2026, 1, 1, tzinfo=UTC),
            timedelta(0), timedelta(seconds=0.5), timedelta(seconds=-5), timedelta(days=100_000),
        ],
        ids=lambda value: repr(value)[:24],
    )  # fmt: skip
    def test_what_is_no_time_is_refused(self, wrong: object) -> None:
        """With the reason, and no more of the text than says which it was."""
        with pytest.raises(ConfigError) as refused:
            check_when(wrong)
        assert 10 < len(str(refused.value)) < 300

    @pytest.mark.parametrize(
        "zone",
        ["Mars/Base", "", "/etc/passwd", "../UTC", "Europe/Berlin\x00", "Europe", "CET-99", "x" * 5_000, None, 5, UTC],
        ids=lambda value: repr(value)[:20],
    )
    def test_an_unknown_zone_is_refused(self, zone: object) -> None:
        """It is never UTC by stealth."""
        with pytest.raises(ConfigError, match=r"time zone"):
            check_when("@daily", zone)

    def test_zone_data_that_is_missing_on_the_host_is_told(self) -> None:
        """A host without any: only UTC needs none."""
        code = """
import sys
sys.modules["tzdata"] = None
from jobcard.core.ticks import check_when
print(check_when("@daily").after(0))
check_when("@daily", "Europe/Berlin")
"""
        ran = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONTZPATH": ""}, capture_output=True, text=True, timeout=60
        )
        assert ran.stdout == f"{clock.DAY}\n"
        assert "there is no time zone 'Europe/Berlin' on this machine" in ran.stderr


class TestIntervals:
    def test_they_count_from_1970(self) -> None:
        """Whoever asks, and whenever it began."""
        ticks = check_when(timedelta(minutes=5))
        assert shown(ticks, "2026-01-01T00:01:07", 2) == ["2026-01-01T00:05:00", "2026-01-01T00:10:00"]
        assert shown(check_when(timedelta(days=7)), "1970-01-01T00:00:00", 1) == ["1970-01-08T00:00:00"]

    @given(st.integers(1_000, 10**9), st.integers(0, at("2200-01-01T00:00:00")))
    def test_each_is_one_interval_behind_the_last(self, millis: int, start: int) -> None:
        """And the first one less than that behind the question."""
        ticks = check_when(timedelta(milliseconds=millis))
        first, second = ticks.several_after(start, 2)
        assert start < first <= start + millis * 1_000 == start + (second - first)


ZONES = st.sampled_from([*sorted({zone for zone, *_ in CHANGES}), "Asia/Kolkata", "UTC"])
EXPRESSIONS = st.sampled_from(
    [
        *(*ALIASES, "*/7 * * * *", "0,30 2 * * *", "45 1,2,3 * * *", "30 23 * * 6", "5 0,2 * * *", "*/20 * 2 * * *"),
        *("0 45 2 * * *", "7,8 59 1 * * *", "0 */3 * * *", "30 2 L * *", "30 * * * *", "* 0 * * *"),
    ]
)
MOMENTS = st.integers(at("2025-12-01T00:00:00"), at("2027-01-01T00:00:00"))
NEAR_CHANGES = st.builds(
    lambda change, off: at(change[1]) + off * clock.MINUTE, st.sampled_from(CHANGES), st.integers(-200, 200)
)


@given(EXPRESSIONS, ZONES, MOMENTS | NEAR_CHANGES)
@example("45 2 * * *", "Europe/Berlin", at("2026-10-25T01:40:00"))
def test_ticks_rise_and_lie_behind_the_question(expression: str, zone: str, start: int) -> None:
    """Wherever one stands; else an engine would turn on the spot, or see to a tick again."""
    ticks = Ticks(expression, zone)
    found = [start, *ticks.several_after(start, 6)]
    assert len(found) == 7
    assert all(sooner < later for sooner, later in pairwise(found))


@given(EXPRESSIONS, ZONES, MOMENTS | NEAR_CHANGES, st.integers(1, 5 * clock.HOUR))
def test_it_does_not_matter_from_where_one_counts(expression: str, zone: str, start: int, step: int) -> None:
    """Two engines that begin at different moments agree on every tick behind both."""
    ticks = Ticks(expression, zone)
    from_start = ticks.several_after(start, 400 if "* * * *" in expression else 40)
    middle = start + step
    behind = [tick for tick in from_start if tick > middle]
    assert list(ticks.several_after(middle, len(behind))) == behind


class TestTheLastOnes:
    @pytest.mark.parametrize("when", ["* * * * * *", "*/7 * * * *", "30 2 * * *", "@monthly", timedelta(seconds=90)])
    @pytest.mark.parametrize("days", [0.01, 3, 70])
    @pytest.mark.parametrize("count", [1, 5, 1_000])
    def test_they_are_those_of_the_whole_list(self, when: str | timedelta, days: float, count: int) -> None:
        """However dense the ticks are, and where clocks change between them."""
        ticks = check_when(when, "Europe/Berlin" if isinstance(when, str) else "UTC")
        end = at("2026-11-20T12:00:00")
        start = end - round(days * clock.DAY)
        if when == "* * * * * *" and days > 1:
            every = list(range(end - (count - 1) * clock.SECOND, end + 1, clock.SECOND))
        else:
            every = list(takewhile(lambda tick: tick <= end, ticks.all_after(start)))
        assert ticks.last_until(start, end, count) == every[-count:]

    def test_those_before_them_are_not_walked(self) -> None:
        """A month of seconds has two and a half million ticks."""
        walked = 0

        class Counted(Ticks):
            def all_after(self, instant: int) -> Iterator[int]:
                nonlocal walked
                for tick in super().all_after(instant):
                    walked += 1
                    yield tick

        end = at("2026-11-20T12:00:00")
        assert Counted("* * * * * *").last_until(end - 31 * clock.DAY, end, 1_000)[0] == end - 999 * clock.SECOND
        assert walked < 5_000

    def test_none_is_none(self) -> None:
        """Neither those at the start nor those behind the end."""
        hour = at("2026-11-20T12:00:00")
        assert check_when("@hourly").last_until(hour, hour + clock.HOUR - 1, 5) == []
        assert check_when("@hourly").last_until(hour, hour + clock.HOUR, 5) == [hour + clock.HOUR]
