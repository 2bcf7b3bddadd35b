"""Schedules: when they are due, what they made, and what operators do to them."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import quote

import pytest
from elements import HOSTILE, NAMES, elements
from visitors import Site

from jobcard.backends.base import RecordKind
from jobcard.client import Jobcard
from jobcard.client.scheduled import jobs_of
from jobcard.core import clock
from jobcard.core.job import NewJob
from jobcard.core.schedule import from_text, to_text
from jobcard.errors import ScheduleNotFoundError


def address(name: str) -> str:
    return quote(name.replace("/", "~"), safe="")


def tick(jobs: Jobcard, name: str) -> NewJob:
    """The job of the last tick of a schedule, stored as an engine does."""
    with jobs.parts.connection as store:
        [record] = [each for each in store.read_records(RecordKind.SCHEDULE) if each.key == name]
        timetable = from_text(name, record.value)
        now = store.facts().now
        [last] = timetable.ticks.last_until(0, now, 1)
        job = timetable.job_of(last)
        # As if it had been declared before that.
        document = json.loads(record.value)
        store.write_record(RecordKind.SCHEDULE, name, json.dumps({**document, "since": last - clock.SECOND}))
        store.enqueue([job])
    return job


class TestShown:
    def test_all_of_them(self, site: Site) -> None:
        """The next to be due first, with what each makes and when."""
        site.jobs.schedule("soon", timedelta(minutes=1), "beat", queue="mail")
        found = site.get("/api/v1/schedules").json()["schedules"]
        assert [each["name"] for each in found] == ["soon", "nightly"]
        assert (found[0]["when"], found[0]["queue"]) == (60, "mail")
        assert (found[1]["when"], found[1]["tz"], found[1]["paused"]) == ("0 3 * * *", "Europe/Berlin", False)
        page = site.get("/schedules").text
        assert 'href="/schedules/nightly"' in page
        assert 'action="/schedules/' not in page
        assert 'action="/schedules/nightly/run"' in site.get("/schedules", "operator").text

    def test_its_next_ten_ticks(self, site: Site) -> None:
        """As `jobs.schedules.next` tells them."""
        site.jobs.schedule("yearly", "@yearly", "report")
        told = [f"{each:%Y-%m-%dT%H:%M:%S.%fZ}" for each in site.jobs.schedules.next("yearly", 10)]
        assert len(told) == 10
        assert site.get("/api/v1/schedules/yearly").json()["ticks"] == told
        page = site.get("/schedules/yearly").text
        assert page.count("<li><time") == 10
        assert f'<time datetime="{told[9]}">' in page

    def test_the_jobs_it_made(self, site: Site) -> None:
        """Of its ticks, and by `run_now`; none of another that has the same name."""
        site.jobs.enqueue("report")
        ticked = tick(site.jobs, "nightly")
        by_hand = site.jobs.schedules.run_now("nightly")
        found = site.get("/api/v1/schedules/nightly").json()["jobs"]
        assert [each["id"] for each in found] == [str(by_hand.id), str(site.jobs.handle(ticked.id.hex()).id)]
        assert f'href="/jobs/{by_hand.id}"' in site.get("/schedules/nightly").text

    def test_its_jobs_are_found_behind_many_others(self, jobs: Jobcard) -> None:
        """The ids of its ticks' jobs are known, so a crowd of the same name hides none, and costs nothing."""
        jobs.schedule("daily", "0 0 * * *", "busy")
        ticked = tick(jobs, "daily")
        for _ in range(250):
            jobs.enqueue("busy")
        assert [job.id.bytes for job in jobs_of(jobs.parts, "daily", limit=5)] == [ticked.id]
        with pytest.raises(ScheduleNotFoundError):
            jobs_of(jobs.parts, "nothing", limit=5)

    def test_arguments_are_for_operators(self, site: Site) -> None:
        """And what is hidden is hidden from all."""
        site.jobs.schedule("told", "@daily", "report", ["canary-1"], {"password": "hunter2"})
        for path in ("/schedules/told", "/api/v1/schedules/told"):
            assert "canary-1" not in site.get(path).text
            assert "canary-1" in site.get(path, "operator").text
            assert "hunter2" not in site.get(path, "admin").text

    @pytest.mark.parametrize("path", ["/schedules/nothing", "/schedules/%00", "/schedules/%3Cb%3E"])
    def test_one_that_is_not_there(self, site: Site, path: str) -> None:
        """404."""
        assert site.get(path).status_code == site.get(f"/api/v1{path}").status_code == 404


class TestActions:
    def test_it_is_paused_and_resumed(self, site: Site) -> None:
        """A paused one is due never, until it is resumed."""
        answer = site.post("/schedules/nightly/pause", {})
        assert (answer.status_code, answer.headers["location"]) == (303, "/schedules/nightly")
        found = site.jobs.schedules.get("nightly")
        assert (found.paused, found.next_at) == (True, None)
        assert "Paused: its ticks pass without jobs" in site.get("/schedules/nightly").text
        assert site.post("/schedules/nightly/resume", {}).status_code == 303
        assert site.jobs.schedules.get("nightly").next_at is not None

    def test_it_is_run_now(self, site: Site) -> None:
        """One job more, due now and of this schedule; the page says which."""
        before = site.jobs.count().total
        answer = site.post("/api/v1/schedules/nightly/run", {})
        assert answer.status_code == 200
        job = site.jobs.get(answer.json()["id"])
        assert (job.name, job.schedule, job.state) == ("report", "nightly", "waiting")
        assert site.jobs.count().total == before + 1

    @pytest.mark.parametrize("verb", ["pause", "resume", "run"])
    def test_not_by_a_viewer(self, site: Site, verb: str) -> None:
        """403, and nothing is changed or enqueued."""
        before = site.jobs.schedules.list(), site.jobs.count()
        assert site.post(f"/schedules/nightly/{verb}", {}, role="viewer").status_code == 403
        assert site.post(f"/api/v1/schedules/nightly/{verb}", {}, role="viewer").status_code == 403
        assert (site.jobs.schedules.list(), site.jobs.count()) == before

    @pytest.mark.parametrize("verb", ["pause", "resume", "run"])
    def test_what_cannot_be_is_refused(self, site: Site, verb: str) -> None:
        """404 for one that is not there, 400 for a word that nobody knows."""
        before = site.jobs.schedules.list(), site.jobs.count()
        assert site.post(f"/schedules/nighty/{verb}", {}).status_code == 404
        answer = site.post(f"/schedules/nightly/{verb}", {"when": "now"})
        assert answer.status_code == 400
        assert "There is no &#39;when&#39; here" in answer.text
        assert (site.jobs.schedules.list(), site.jobs.count()) == before


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_each_has_a_page_and_is_run(self, site: Site, name: str) -> None:
        """Whatever characters it is made of."""
        site.jobs.schedule(name, "@daily", "report")
        assert f'href="/schedules/{address(name)}"' in site.get("/schedules").text
        page = site.get(f"/schedules/{address(name)}", "operator").text
        for verb in ("pause", "run"):
            assert f'action="/schedules/{address(name)}/{verb}"' in page
            answer = site.post(f"/schedules/{address(name)}/{verb}", {})
            assert site.browser("operator").get(answer.headers["location"]).status_code == 200
        assert [each.name for each in site.jobs.schedules.list() if each.paused] == [name]
        assert len(site.get(f"/api/v1/schedules/{address(name)}").json()["jobs"]) == 1

    @pytest.mark.parametrize("text", HOSTILE)
    def test_arguments_are_text(self, filled: Jobcard, site: Site, text: str) -> None:
        """Whatever they hold, they add no element to the page."""

        def page(word: str) -> str:
            with filled.parts.connection as store:
                [record] = [each for each in store.read_records(RecordKind.SCHEDULE) if each.key == "nightly"]
                timetable = from_text(record.key, record.value)
                job = timetable.job._replace(args=json.dumps([word]), kwargs=json.dumps({word: word}))
                store.write_record(RecordKind.SCHEDULE, record.key, to_text(timetable._replace(job=job)))
            shown: str = site.get("/schedules/nightly", "operator").text
            return shown

        plain, hostile = page("plain"), page(text)
        assert "plain" in plain
        assert elements(hostile) == elements(plain)
        assert "\x1b" not in hostile
        assert "\u202e" not in hostile

    @pytest.mark.parametrize("text", HOSTILE)
    def test_what_somebody_wrote_by_hand_hides_no_other(self, filled: Jobcard, site: Site, text: str) -> None:
        """A name that no client would write: it cannot be read, and what is said about that is text."""
        plain = elements(site.get("/schedules").text)
        with filled.parts.connection as store:
            [record] = store.read_records(RecordKind.SCHEDULE)
            document = json.loads(record.value)
            document["job"]["queue"] = text
            store.write_record(RecordKind.SCHEDULE, "worn", json.dumps(document))
            store.write_record(RecordKind.SCHEDULE, text.encode("ascii", "replace").decode(), record.value)
        assert elements(site.get("/schedules").text) == plain
        problem = site.get("/schedules/worn")
        assert problem.status_code == 503
        assert elements(problem.text) == elements(site.get("/schedules/nothing").text)
