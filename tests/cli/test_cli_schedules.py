"""`jobcard schedules`: what operators see of schedules, and do with them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from answers import complaint, listed, succeeded
from terminal import on_terminal

from helpers.apps import App
from jobcard import Jobcard, Queue, Unique
from jobcard.backends.base import RecordKind


@pytest.fixture
def store(shop: App) -> Iterator[Jobcard]:
    """A client of the shop's store, in which two schedules stand."""
    with Jobcard(f"sqlite:///{shop.directory}/jobcard.db") as jobs:
        jobs.schedule("nightly", "0 3 * * *", "shop.thumbnail", args=["cat.jpg"], tz="Asia/Kolkata")
        jobs.schedule("weekly", "@weekly", "shop.welcome", args=["ann"], queue="mail", overlap="allow", jitter=90)
        yield jobs


def test_list_has_the_fields_of_the_record(shop: App, store: Jobcard) -> None:
    """As `jobs.schedules.list()` gives them: times in UTC, durations in seconds."""
    nightly, weekly = json.loads(succeeded(shop.jobcard("schedules", "list", "--json")).out)
    assert (nightly["name"], nightly["when"], nightly["tz"], nightly["job"], nightly["args"]) == (
        "nightly", "0 3 * * *", "Asia/Kolkata", "shop.thumbnail", ["cat.jpg"],
    )  # fmt: skip
    assert nightly["next_at"].endswith("T21:30:00Z")
    assert (nightly["last_at"], nightly["paused"], nightly["missed"]) == (None, False, "once")
    assert (weekly["overlap"], weekly["queue"], weekly["jitter"]) == ("allow", "mail", 90)


def test_a_table_fits_a_terminal(shop: App, store: Jobcard) -> None:
    """The least important columns go first."""
    for columns in (80, 160):
        lines = on_terminal(shop, "schedules", "list", columns=columns).out.splitlines()
        assert max(map(len, lines)) <= columns
        assert lines[0].split()[:2] == ["name", "when"]


def test_none_at_all(shop: App) -> None:
    """A line for people, an empty array for programs."""
    assert succeeded(shop.jobcard("schedules", "list")).err == "there is no schedule\n"
    assert json.loads(succeeded(shop.jobcard("schedules", "list", "--json")).out) == []


def test_next_prints_ticks_in_utc(shop: App, store: Jobcard) -> None:
    """Five, or as many as are asked for."""
    lines = succeeded(shop.jobcard("schedules", "next", "nightly")).out.splitlines()
    assert len(lines) == 5
    assert {line[10:] for line in lines} == {"T21:30:00Z"}
    assert json.loads(succeeded(shop.jobcard("schedules", "next", "nightly", "-n", "2", "--json")).out) == lines[:2]
    assert "1 to 1,000" in complaint(shop.jobcard("schedules", "next", "nightly", "-n", "0"), 2)


def test_pause_resume_and_remove(shop: App, store: Jobcard) -> None:
    """One is an object, several an array."""
    assert json.loads(succeeded(shop.jobcard("schedules", "pause", "nightly", "--json")).out)["paused"] is True
    assert "yes" in succeeded(shop.jobcard("schedules", "list")).out
    resumed = json.loads(succeeded(shop.jobcard("schedules", "resume", "nightly", "weekly", "--json")).out)
    assert [(schedule["name"], schedule["paused"]) for schedule in resumed] == [("nightly", False), ("weekly", False)]
    assert json.loads(succeeded(shop.jobcard("schedules", "remove", "weekly", "--json")).out) == {"name": "weekly"}
    assert [schedule.name for schedule in store.schedules.list()] == ["nightly"]


def test_run_enqueues_its_job(shop: App, store: Jobcard) -> None:
    """Beside its ticks; the id is printed."""
    told = json.loads(succeeded(shop.jobcard("schedules", "run", "nightly", "--json")).out)
    [job] = [job for job in listed(shop) if job["id"] == told["id"]]
    assert (job["name"], job["schedule"], job["state"]) == ("shop.thumbnail", "nightly", "waiting")


@pytest.mark.parametrize("verb", ["next", "pause", "resume", "run", "remove"])
def test_one_that_is_not_there(verb: str, shop: App, store: Jobcard) -> None:
    """Exit code 4."""
    assert "no schedule is named 'none'" in complaint(shop.jobcard("schedules", verb, "none"), 4)


def test_one_that_is_not_there_keeps_no_other_back(shop: App, store: Jobcard) -> None:
    """The first error is the command's."""
    ran = shop.jobcard("schedules", "pause", "none", "weekly", "--json")
    assert (ran.code, [schedule["name"] for schedule in json.loads(ran.out)]) == (4, ["weekly"])


def test_one_that_cannot_be_read(shop: App, store: Jobcard) -> None:
    """The doctor tells of it, the list leaves it out, and it can be removed."""
    with store.parts.connection as backend:
        backend.write_record(RecordKind.SCHEDULE, "worn", "{")
    ran = shop.jobcard("doctor", "--json")
    [finding] = [each for each in json.loads(ran.out)["findings"] if each["code"] == "schedules.unreadable"]
    assert (ran.code, finding["severity"], finding["subject"]) == (1, "error", "schedule worn")
    assert "worn" not in succeeded(shop.jobcard("schedules", "list")).out
    assert "schedule worn cannot be read" in complaint(shop.jobcard("schedules", "pause", "worn"), 3)
    assert succeeded(shop.jobcard("schedules", "remove", "worn")).out == "removed worn\n"


def test_a_job_is_shown_with_the_key_of_its_period(shop: App, store: Jobcard) -> None:
    """As with its other keys: whoever wonders why there is no second one sees it."""
    handle = store.enqueue("shop.welcome", ["ann"], unique=Unique(by="args", per="ever"))
    job = json.loads(succeeded(shop.jobcard("jobs", "show", str(handle.id), "--json")).out)
    assert job["once_key"].startswith("shop.welcome#") and job["unique_key"] is None
    shown = succeeded(shop.jobcard("jobs", "show", str(handle.id))).out
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("once_key")] == [job["once_key"]]


def test_a_queue_that_cannot_be_read_is_mended_as_the_doctor_says(shop: App, store: Jobcard) -> None:
    """Its words can be run as they stand."""
    with store.parts.connection as backend:
        backend.write_record(RecordKind.QUEUE, "mail", "{")
    told = json.loads(shop.jobcard("doctor", "--json").out)["findings"]
    [finding] = [each for each in told if each["code"] == "queues.unreadable"]
    said = finding["fix"].split("`")[1].split()
    assert said[:4] == ["jobcard", "queues", "set", "mail"]
    succeeded(shop.jobcard(*said[1:]))
    assert store.queues.get("mail") == Queue("mail")
