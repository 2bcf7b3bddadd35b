"""Schedules as code declares them, as operators change them, and as engines see to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helpers.apps import App
from helpers.waiting import wait_until
from jobcard import (
    ConfigError,
    CorruptRecordError,
    InvalidJobError,
    Jobcard,
    JobClass,
    Schedule,
    ScheduleNotFoundError,
    Unique,
    UnknownJobError,
)
from jobcard.backends.base import RecordKind
from jobcard.core import limits
from jobcard.core.unique import overlap_key, tick_key

SECOND = timedelta(seconds=1)


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add", queue="sums")
    def add(a: int, b: int = 2) -> int:
        return a + b

    return add


def test_a_schedule_is_stored_as_it_was_said(jobs: Jobcard, add: Any) -> None:
    """By cron expression or interval; what is not said has its default."""
    jobs.schedule("nightly", "0 3 * * *", add, args=(1,), kwargs={"b": 5}, tz="Europe/Berlin", missed=3, jitter=60)
    jobs.schedule("often", timedelta(minutes=5), add, [1], overlap="allow", window=timedelta(hours=2), queue="fast")
    jobs.schedule("too", every=SECOND, job=add, args=(1,), missed="skip")
    nightly, often, too = jobs.schedules.list()
    assert isinstance(nightly, Schedule)
    assert nightly == jobs.schedules.get("nightly")
    assert (nightly.name, nightly.when, nightly.job, nightly.tz) == ("nightly", "0 3 * * *", "add", "Europe/Berlin")
    assert (nightly.args, nightly.kwargs, nightly.queue, nightly.missed) == ([1], {"b": 5}, "sums", 3)
    assert (nightly.overlap, nightly.paused, nightly.last_at, nightly.jitter) == ("skip", False, None, 60 * SECOND)
    assert nightly.next_at is not None
    assert nightly.next_at.tzinfo is UTC
    assert (often.when, often.overlap, often.window, often.queue) == (300 * SECOND, "allow", 7200 * SECOND, "fast")
    assert (too.when, too.missed, too.tz, too.window) == (SECOND, "skip", "UTC", 3600 * SECOND)


def test_every_kind_of_job_can_be_scheduled(jobs: Jobcard, add: Any) -> None:
    """A function with options, a class with or without constructor arguments, a name."""

    @jobs.job(name="report")
    class Report(JobClass):
        def __init__(self, region: str = "eu") -> None: ...

        def run(self, day: date) -> None: ...

    day = date(2026, 1, 1)
    jobs.schedule("a", "@daily", add.options(priority=3), args=(1,), timeout=5)
    jobs.schedule("b", "@daily", Report, args=(day,))
    jobs.schedule("c", "@daily", Report.with_("us"), args=(day,))
    jobs.schedule("d", "@daily", "add", kwargs={"a": 1})
    for name in "abcd":
        jobs.schedules.run_now(name)
    *_, a = made = list(jobs.iterate())
    assert [(job.schedule, job.name) for job in made] == [("d", "add"), ("c", "report"), ("b", "report"), ("a", "add")]
    assert (a.priority, a.timeout) == (3, 5 * SECOND)
    assert made[1].init == {"args": ["us"], "kwargs": {}}
    assert jobs.schedules.get("c").args == [day]


def test_what_cannot_be_is_refused_and_nothing_is_stored(jobs: Jobcard, add: Any) -> None:
    """`ConfigError` for the schedule, `InvalidJobError` for its job or name."""
    refused: list[Callable[[], object]] = [
        *(lambda when=when: jobs.schedule("x", when, add, (1,)) for when in ("* * * *", "60 * * * *", "0 0 31 2 *")),
        *(lambda when=when: jobs.schedule("x", when, add, (1,)) for when in ("@every 0s", "*/0 * * * *", "x" * 10_000)),
        lambda: jobs.schedule("x", "0 0 1 1 * 2100", add, (1,)),
        lambda: jobs.schedule("x", "@daily", add, (1,), tz="Mars/Base"),
        lambda: jobs.schedule("x", timedelta(0), add, (1,)),
        lambda: jobs.schedule("x", 5, add, (1,)),  # type: ignore[arg-type]
        lambda: jobs.schedule("x", None, add, (1,)),
        lambda: jobs.schedule("x", "@daily", add, (1,), every=SECOND),
        lambda: jobs.schedule("x", "@daily", None, (1,)),
        lambda: jobs.schedule("x", "@daily", print, (1,)),  # type: ignore[arg-type]
        lambda: jobs.schedule("x", "@daily", add, (1,), id="01890000-0000-7000-8000-000000000000"),
        lambda: jobs.schedule("x", "@daily", add, (1,), delay=5),
        lambda: jobs.schedule("x", "@daily", add, (1,), at=datetime(2030, 1, 1, tzinfo=UTC)),
        lambda: jobs.schedule("x", "@daily", add, (1,), prioriti=5),  # type: ignore[call-arg]
        lambda: jobs.schedule("x", "@daily", Jobcard().job(lambda: None, name="other")),  # type: ignore[call-overload]
    ]
    for call in refused:
        with pytest.raises((ConfigError, TypeError)):
            call()
    for name in ("", "a b", "a\x00b", "x" * 201):
        with pytest.raises(InvalidJobError):
            jobs.schedule(name, "@daily", add, (1,))
    for args in ((), (1, 2, 3), (float("nan"),), "no"):
        with pytest.raises(InvalidJobError):
            jobs.schedule("x", "@daily", add, args)
    with pytest.raises(UnknownJobError, match="did you mean 'add'"):
        jobs.schedule("x", "@daily", "ad")
    assert jobs.schedules.list() == []


def test_two_that_are_not_alike_under_one_name(jobs: Jobcard, add: Any, url: str) -> None:
    """`ConfigError`; the same again is fine, and so is another program, or removing the first."""
    for _ in range(2):
        jobs.schedule("x", "@daily", add, (1,))
    with pytest.raises(ConfigError, match="x is declared twice"):
        jobs.schedule("x", "@daily", add, (2,))
    assert jobs.schedules.get("x").args == [1]
    with Jobcard(url) as other:
        other.schedule("x", "@hourly", "add", (3,))
    assert (jobs.schedules.get("x").args, jobs.schedules.get("x").when) == ([3], "@hourly")
    jobs.schedules.remove("x")
    jobs.schedule("x", "@daily", add, (2,))
    assert jobs.schedules.get("x").args == [2]


def test_pause_resume_and_remove(jobs: Jobcard, add: Any) -> None:
    """Each gives the schedule as it now is; twice is as once."""
    jobs.schedule("x", "@daily", add, (1,))
    for _ in range(2):
        paused = jobs.schedules.pause("x")
        assert (paused.paused, paused.next_at) == (True, None)
    for _ in range(2):
        resumed = jobs.schedules.resume("x")
        assert (resumed.paused, resumed.next_at) == (False, jobs.schedules.next("x")[0])
    jobs.schedules.pause("x")
    jobs.schedule("x", "@daily", add, (1,))
    assert jobs.schedules.get("x").paused
    jobs.schedules.remove("x")
    assert jobs.schedules.list() == []


def test_the_next_ticks(jobs: Jobcard, add: Any) -> None:
    """In UTC, so many, paused or not."""
    jobs.schedule("x", "30 12 * * *", add, (1,), tz="Asia/Kolkata")
    jobs.schedules.pause("x")
    found = jobs.schedules.next("x", 3)
    assert [f"{tick:%H:%M %Z}" for tick in found] == ["07:00 UTC"] * 3
    assert found[2] - found[0] == timedelta(days=2)
    assert len(jobs.schedules.next("x")) == 1
    for wrong in (0, 1_001, True, "5", None):
        with pytest.raises(ConfigError):
            jobs.schedules.next("x", wrong)  # type: ignore[arg-type]


def test_one_that_is_not_there(jobs: Jobcard) -> None:
    """`ScheduleNotFoundError` from everything that names one."""
    there = jobs.schedules
    for call in (there.get, there.pause, there.resume, there.run_now, there.remove, there.next):
        with pytest.raises(ScheduleNotFoundError, match="'none'"):
            call("none")


def test_one_that_cannot_be_read(jobs: Jobcard, add: Any) -> None:
    """It is left out of the list, told when it is asked for, and can be removed."""
    jobs.schedule("good", "@daily", add, (1,))
    with jobs.parts.connection as store:
        store.write_record(RecordKind.SCHEDULE, "bad", '{"when": "61 * * * *"}')
    assert [schedule.name for schedule in jobs.schedules.list()] == ["good"]
    there = jobs.schedules
    for call in (there.get, there.pause, there.resume, there.run_now, there.next):
        with pytest.raises(CorruptRecordError, match="schedule bad cannot be read"):
            call("bad")
    there.remove("bad")
    with pytest.raises(ScheduleNotFoundError):
        there.get("bad")


def test_all_of_it_awaited(jobs: Jobcard, add: Any) -> None:
    """The same verbs with `_async`."""

    async def a_day() -> list[object]:
        await jobs.schedule_async("x", "@daily", add, (1,))
        handle = await jobs.schedules.run_now_async("x")
        seen = [
            [schedule.name for schedule in await jobs.schedules.list_async()],
            (await jobs.schedules.get_async("x")).args,
            (await jobs.schedules.pause_async("x")).paused,
            (await jobs.schedules.resume_async("x")).paused,
            len(await jobs.schedules.next_async("x", 2)),
            handle.refresh().schedule,
        ]
        await jobs.schedules.remove_async("x")
        return [*seen, await jobs.schedules.list_async()]

    assert asyncio.run(a_day()) == [["x"], [1], True, False, 2, "x", []]


def test_ticks_run_in_this_process(jobs: Jobcard) -> None:
    """An engine on threads sees to schedules too, those that come while it runs as well."""
    ran: list[int] = []

    @jobs.job(name="note")
    def note(number: int) -> None:
        ran.append(number)

    jobs.schedule("first", SECOND, note, (1,), overlap="allow")
    with jobs.running(in_process=True):
        wait_until(lambda: 1 in ran, "a tick")
        jobs.schedule("second", SECOND, note, (2,), overlap="allow")
        wait_until(lambda: 2 in ran, "a tick of the second")
        jobs.schedules.remove("first")
        jobs.schedules.remove("second")
    for job in jobs.iterate():
        assert job.scheduled_for == job.available_at
        assert job.scheduled_for.microsecond == 0
        assert job.created_at - job.scheduled_for > -SECOND / 100


DECLARING = """
    from datetime import timedelta
    from jobcard import Jobcard

    jobs = Jobcard("sqlite:///jobs.db")

    @jobs.job
    def note(number: int = 1) -> None: ...

    jobs.schedule("beat", timedelta(seconds=1), note, overlap="allow")
    jobs.schedule("yearly", "@yearly", note, kwargs={"number": 2})
"""


@pytest.mark.slow
def test_what_a_module_declares_is_stored_by_its_engine(tmp_path: Path) -> None:
    """Importing it opens no store; the engine writes it, sees to it, and lets a pause be."""
    app = App(tmp_path)
    app.write("shop.py", DECLARING)
    app.write(
        "main.py",
        """
        import os, time
        from shop import jobs

        if __name__ == "__main__":
            assert not os.path.exists("jobs.db")
            with jobs.running():
                while jobs.count(state="completed", name="shop.note").total < 2:
                    time.sleep(0.01)
            print([schedule.name for schedule in jobs.schedules.list()], jobs.schedules.get("yearly").kwargs)
            jobs.schedules.pause("beat")
            jobs.schedules.remove("yearly")
        """,
    )
    ran = app.python("main.py")
    assert (ran.code, ran.out) == (0, "['beat', 'yearly'] {'number': 2}\n"), ran.err
    app.write("shop.py", DECLARING.replace("number: int = 1", "number: int = 7").replace("seconds=1", "seconds=2"))
    app.write(
        "again.py",
        """
        from shop import jobs

        if __name__ == "__main__":
            with jobs.running():
                beat = jobs.schedules.get("beat")
                print(beat.when, beat.paused, [schedule.name for schedule in jobs.schedules.list()])
        """,
    )
    ran = app.python("again.py")
    assert (ran.code, ran.out) == (0, "0:00:02 True ['beat', 'yearly']\n"), ran.err


@pytest.mark.slow
def test_a_started_script_stores_at_once(tmp_path: Path) -> None:
    """What it says at its top is not being imported: the next program finds it."""
    app = App(tmp_path)
    app.write("shop.py", DECLARING)
    assert app.python("shop.py").code == 0
    ran = app.jobcard("schedules", "list", "--url", "sqlite:///jobs.db")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["name", "beat", "yearly"]


def test_a_job_can_schedule(jobs: Jobcard, add: Any) -> None:
    """At run time, by way of its engine like any other enqueue."""

    @jobs.job(name="plan")
    def plan() -> None:
        jobs.schedule("planned", "@daily", add, (1,))

    with jobs.running(in_process=True):
        plan.enqueue().result(timeout=30)
    assert jobs.schedules.get("planned").args == [1]


class TestInTests:
    def test_ticks_come_with_the_time_that_passes(self, jobs: Jobcard) -> None:
        """Each makes its job, in order, when what was there before has run."""
        seen: list[str] = []

        @jobs.job(name="note")
        def note(what: str) -> None:
            seen.append(what)

        with jobs.testing() as t:
            jobs.schedule("hourly", timedelta(hours=1), note, ("hour",))
            jobs.schedule("daily", timedelta(days=1), note, ("day",))
            assert t.drain().completed == 0
            t.advance(timedelta(days=2))
            done = t.drain()
            assert (done.completed, seen.count("hour"), seen.count("day")) == (50, 48, 2)
            ticks = [job.scheduled_for for job in done.jobs]
            assert ticks == sorted(ticks)
            jobs.schedules.pause("hourly")
            t.advance(3_600)
            assert t.drain(with_scheduled=True).completed <= 1
        with pytest.raises(ScheduleNotFoundError):
            jobs.schedules.get("hourly")

    def test_what_code_declares_is_there(self, jobs: Jobcard, add: Any) -> None:
        """In every block anew."""
        jobs.schedule("x", timedelta(hours=1), add, (1,))
        for mode in ("manual", "inline"):
            with jobs.testing(mode) as t:
                t.advance(3_600)
                t.drain()
                assert [job.result for job in jobs.iterate()] == [3]


def test_a_job_that_is_unique_for_a_time_says_what_its_ticks_are(jobs: Jobcard) -> None:
    """A tick is one job by itself; what holds while a job lives holds for those of ticks, too. Nothing is opened."""

    @jobs.job(name="daily", unique=Unique(per="day"))
    def daily() -> None: ...

    for unique in ({}, {"unique": Unique(per="ever")}):
        with pytest.raises(ConfigError, match="unique=None"):
            jobs.schedule("x", "@hourly", daily, **unique)
        with pytest.raises(ConfigError, match="unique=None"):
            jobs.schedule("x", "@hourly", "daily", **unique)
    jobs.schedule("x", "@hourly", daily, unique=None)
    jobs.schedule("y", "@hourly", daily, unique=True)
    assert [each.name for each in jobs.schedules.list()] == ["x", "y"]


def test_no_job_has_the_key_of_a_tick() -> None:
    """Names hold no "#", and the keys of ticks begin with it."""
    for key in (tick_key("nightly", 0), overlap_key("nightly")):
        assert key.startswith("#") and not limits.is_name(key)
