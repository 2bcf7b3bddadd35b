"""What is said about a schedule, its text in the store, and which of its ticks become jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcard.core import clock, ids, schedule
from jobcard.core.codec import Codec
from jobcard.core.job import NewJob
from jobcard.core.schedule import Progress, Timetable, check_schedule, declaration, from_text, renewed, to_text
from jobcard.core.ticks import Ticks
from jobcard.errors import ConfigError, CorruptRecordError, InvalidJobError

MINUTE = clock.MINUTE
NOW = 1_800_000_000 * clock.SECOND


def job(**changed: Any) -> NewJob:
    said = {"queue": "mail", "name": "shop.send", "args": "[1]", "kwargs": "{}", "backoff": '{"kind":"fixed"}'}
    usual = {"priority": 5, "rank": -5, "order_offset": 0, "delay": 0, "max_attempts": 5, "max_crashes": 3}
    return NewJob(**{**dict.fromkeys(NewJob._fields), "id": b"", "replaces": False, **said, **usual, **changed})


def timetable(when: object = "*/5 * * * *", new: NewJob | None = None, **said: Any) -> Timetable:
    usual = {"tz": "UTC", "missed": "once", "overlap": "skip", "jitter": 0, "window": 3600}
    return check_schedule("nightly", when, new or job(), **{**usual, **said})


class TestWhatMayBeSaid:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"when": "* * * *"}, {"tz": "Mars/Base"}, {"when": timedelta(microseconds=1_500_001)},
            {"missed": "all"}, {"missed": 0}, {"missed": -1}, {"missed": True}, {"missed": 1.5}, {"missed": None},
            {"missed": 1_001}, {"overlap": "maybe"}, {"overlap": None}, {"overlap": True},
            {"jitter": -1}, {"jitter": "5"}, {"jitter": float("nan")}, {"jitter": 10**12}, {"window": -1},
            {"window": timedelta(days=32)},
        ],
        ids=repr,
    )  # fmt: skip
    def test_what_cannot_be_is_refused(self, wrong: dict[str, Any]) -> None:
        """A `ConfigError` that says what could be."""
        with pytest.raises(ConfigError):
            timetable(**wrong)

    @pytest.mark.parametrize("name", ["", "a b", "a\x00b", "x" * 201, "a#b", None, 5, ".."])
    def test_a_name_is_as_every_name(self, name: Any) -> None:
        """Letters, digits and `._:-/@+`."""
        with pytest.raises(InvalidJobError):
            check_schedule(name, "@daily", job(), tz="UTC", missed="once", overlap="skip", jitter=0, window=0)


class TestAsText:
    @pytest.mark.parametrize("when", ["0 3 * * *", "@daily", timedelta(minutes=5), timedelta(milliseconds=1_500)])
    def test_it_comes_back_as_it_was(self, when: object) -> None:
        """All of it, the job's own limits and keys too."""
        new = job(tags='["a"]', timeout=5, keep=7, limit_key="k", key_limit=2, rate_count=3, rate_per=9, init="[]")
        said = timetable(when, new, tz="Europe/Berlin", missed=7, overlap="allow", jitter=3, window=60)
        kept = said._replace(since=NOW, paused=True, declared=declaration(said))
        assert from_text("nightly", to_text(kept)) == kept

    @pytest.mark.parametrize(
        "change",
        [
            {"when": "* * * *"}, {"when": 5}, {"when": None}, {"when": 1e6}, {"when": True}, {"tz": "Mars/Base"},
            {"tz": None}, {"missed": "all"}, {"overlap": 1}, {"jitter": -1}, {"jitter": "a"}, {"window": 10**30},
            {"since": "x"}, {"since": 1.5}, {"job": None}, {"job": {}}, {"job": []},
            *({"job": {"name": name}} for name in ("", "a b", 5, None)),
            *({"job": {"args": value}} for value in (None, 5, [])),
            {"job": {"priority": "5"}}, {"job": {"timeout": "soon"}}, {"job": {"max_attempts": True}},
        ],
        ids=repr,
    )  # fmt: skip
    def test_a_record_written_by_hand_that_is_none(self, change: dict[str, Any]) -> None:
        """A `CorruptRecordError` that names the schedule and the reason, never another error."""
        document = json.loads(to_text(timetable()))
        inner = change.get("job")
        change = {"job": {**document["job"], **inner}} if inner else change
        with pytest.raises(CorruptRecordError, match="schedule nightly cannot be read: "):
            from_text("nightly", json.dumps({**document, **change}))

    @pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '"x"', "{}", "[" * 100_000])
    def test_text_that_is_no_record(self, text: str) -> None:
        """The same."""
        with pytest.raises(CorruptRecordError):
            from_text("nightly", text)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"done": "x", "last": null}', '{"done": 5, "last": 1.5}'])
    def test_progress_that_cannot_be_read_says_nothing(self, text: str) -> None:
        """Ticks are then counted from the timetable alone; once keys keep those that were made from coming twice."""
        assert schedule.progress_from_text(text, 3) == Progress(version=3)
        told = Progress(NOW, NOW - 5, 4)
        assert schedule.progress_from_text(schedule.progress_to_text(told), 4) == told


class TestWhatIsDue:
    def test_ticks_are_those_behind_what_is_done(self) -> None:
        """Up to now, and now too."""
        table = timetable()
        assert table.between(NOW - 10 * MINUTE, NOW) == [NOW - 5 * MINUTE, NOW]
        assert table.between(NOW, NOW + 5 * MINUTE - 1) == []

    def test_they_count_from_the_moment_it_was_said(self) -> None:
        """A new one has missed nothing; a paused one is never due."""
        table = timetable()._replace(since=NOW - MINUTE)
        assert table.between(0, NOW) == [NOW]
        assert table._replace(paused=True).between(0, NOW) == []

    def test_beyond_the_window_there_are_none(self) -> None:
        """However long nobody was there."""
        assert timetable(window=600).between(0, NOW) == [NOW - 10 * MINUTE, NOW - 5 * MINUTE, NOW]
        assert timetable(window=0).between(0, NOW + 1) == []

    @pytest.mark.parametrize(
        ("missed", "made"), [("skip", []), ("once", [9]), (1, [9]), (3, [7, 8, 9]), (1_000, list(range(10)))]
    )
    def test_of_the_missed_ones_the_last(self, missed: Any, made: list[int]) -> None:
        """None, one, or so many."""
        table = timetable(missed=missed)
        assert table.made_up_for(list(range(10))) == made
        assert table.made_up_for([]) == []


class TestTheJob:
    def test_whoever_makes_it_makes_the_same(self) -> None:
        """Its id, when it is due, and the key that lets one of them in."""
        table = timetable()
        new = table.job_of(NOW)
        assert new == table.job_of(NOW)
        assert (new.at, new.schedule_id, new.once_key) == (NOW, "nightly", f"#tick/nightly@{NOW}")
        assert new.id != table.job_of(NOW + 1_000_000).id
        assert ids.moment_of(new.id) == NOW
        assert new.once_until is not None
        assert new.once_until > NOW + table.window

    def test_an_overlap_is_kept_out_by_a_key(self) -> None:
        """Of the schedule; a job that is unique by itself keeps its own."""
        assert timetable().job_of(NOW).unique_key == "#schedule/nightly"
        assert timetable(overlap="allow").job_of(NOW).unique_key is None
        for overlap in ("skip", "allow"):
            assert timetable(new=job(unique_key="own"), overlap=overlap).job_of(NOW).unique_key == "own"

    def test_beside_its_ticks_nothing_keeps_it_back(self) -> None:
        """Due now, with no keys but those of its limits."""
        new = timetable(new=job(unique_key="own", limit_key="k")).job_now(b"x" * 16)
        assert (new.id, new.at, new.delay, new.schedule_id) == (b"x" * 16, None, 0, "nightly")
        assert (new.unique_key, new.once_key, new.once_until, new.limit_key) == (None, None, None, "k")

    @given(st.integers(0, 10**7), st.integers(0, 10**6))
    def test_jitter_is_the_same_for_all_and_within_its_bound(self, seconds: int, number: int) -> None:
        """It moves when the job is due, not the tick."""
        table = timetable(jitter=seconds)
        tick = NOW + number * 5 * MINUTE
        new = table.job_of(tick)
        assert new.at is not None
        assert 0 <= new.at - tick <= seconds * clock.SECOND
        assert table.job_of(tick) == new
        assert ids.moment_of(new.id) == tick

    def test_jitter_spreads(self) -> None:
        """Another delay for each tick and each schedule."""
        table = timetable(jitter=600)
        delays = {(table.job_of(tick).at or 0) - tick for tick in range(NOW, NOW + 100 * MINUTE, MINUTE)}
        assert len(delays) == 100
        assert max(delays) - min(delays) > 300 * clock.SECOND
        assert table._replace(name="other").job_of(NOW).at != table.job_of(NOW).at


class TestSaidAnew:
    def test_a_pause_stays_and_ticks_go_on(self) -> None:
        """Only other times count from now on."""
        stored = timetable()._replace(since=5, paused=True, declared="x")
        again = renewed(stored, timetable(new=job(args="[2]"), missed=3), NOW)
        assert (again.since, again.paused, again.declared, again.missed, again.job.args) == (5, True, "x", 3, "[2]")
        for other in (timetable("0 * * * *"), timetable(tz="Europe/Berlin")):
            assert renewed(stored, other, NOW).since == NOW
        assert renewed(None, timetable(), NOW).since == NOW

    def test_a_declaration_is_what_code_says(self) -> None:
        """Neither since when nor a pause is part of it."""
        said = timetable()
        assert declaration(said._replace(since=9, paused=True, declared="x")) == declaration(said)
        for other in (timetable("@daily"), timetable(missed=2), timetable(new=job(args="[2]")), timetable(jitter=1)):
            assert declaration(other) != declaration(said)


def test_what_users_see() -> None:
    """Aware datetimes, timedeltas, and the call as Python values."""
    table = timetable(timedelta(minutes=5), jitter=2)._replace(since=NOW - 10 * MINUTE)
    seen = schedule.view(table, Progress(NOW - 5 * MINUTE, NOW - 5 * MINUTE), Codec(), NOW - MINUTE)
    assert (seen.name, seen.when, seen.job, seen.args, seen.kwargs) == (
        "nightly", timedelta(minutes=5), "shop.send", [1], {},
    )  # fmt: skip
    assert (seen.tz, seen.missed, seen.overlap, seen.paused, seen.queue) == ("UTC", "once", "skip", False, "mail")
    assert seen.next_at == clock.to_datetime(NOW) == seen.last_at + timedelta(minutes=5)  # type: ignore[operator]
    assert (seen.jitter, seen.window) == (timedelta(seconds=2), timedelta(hours=1))
    assert schedule.view(table._replace(paused=True), Progress(), Codec(), NOW).next_at is None
    with pytest.raises(CorruptRecordError):
        schedule.view(timetable(new=job(args="{")), Progress(), Codec(), NOW)


def test_a_leap_day_is_found() -> None:
    """Years away."""
    leap = Timetable(name="leap", ticks=Ticks("0 0 29 2 *"), job=job(), since=NOW)
    seen = schedule.view(leap, Progress(), Codec(), NOW)
    assert seen.next_at == datetime(2028, 2, 29, tzinfo=UTC)
