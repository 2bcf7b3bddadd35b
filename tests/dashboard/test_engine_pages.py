"""Engines: what they run and hold now, and what operators tell them."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from elements import HOSTILE, elements
from visitors import Site

from helpers.waiting import PATIENCE, wait_until
from jobcard.backends.base import RecordKind
from jobcard.client import Jobcard
from jobcard.core import clock

BASE = {
    "pid": 10,
    "keeper_pid": 9,
    "host": "here",
    "version": "1",
    "started_at": 1_800_000_000 * clock.SECOND,
    "heartbeat": 3600,
    "queues": ["default"],
    "workers": [11, 12],
    "app": "shop:jobs",
}


def write(jobs: Jobcard, engine_id: str = "e1", /, **more: Any) -> None:
    """What an engine tells of itself."""
    with jobs.parts.connection as store:
        store.write_record(RecordKind.ENGINE, engine_id, json.dumps({**BASE, **more}))


def orders(jobs: Jobcard) -> dict[str, Any]:
    """What engines are told."""
    with jobs.parts.connection as store:
        return {record.key: json.loads(record.value)["order"] for record in store.read_records(RecordKind.ORDER)}


class TestShown:
    def test_what_each_worker_runs(self, site: Site) -> None:
        """And until when it holds it; a worker that runs nothing is shown as well."""
        [held] = site.jobs.list(state="claimed")
        write(site.jobs, jobs=[[12, str(held.id), "mail.welcome", BASE["started_at"]]])
        [found] = site.get("/api/v1/engines").json()["engines"]
        busy, idle = found["workers"]
        assert (busy["pid"], [job["name"] for job in busy["jobs"]]) == (12, ["mail.welcome"])
        until = datetime.fromisoformat(busy["jobs"][0]["lease_until"])
        assert timedelta(0) < until - datetime.now(UTC) <= timedelta(minutes=1)
        assert (idle["pid"], idle["jobs"]) == (11, [])
        page = site.get("/engines").text
        assert f'href="/jobs/{held.id}"' in page
        assert "kept by pid 9" in page
        assert "Engines of 1 work on this store" in page

    def test_a_job_that_is_gone_has_no_lease(self, site: Site) -> None:
        """The record is some seconds old."""
        write(site.jobs, jobs=[[12, str(uuid4()), "gone", BASE["started_at"]]])
        [found] = site.get("/api/v1/engines").json()["engines"]
        assert found["workers"][0]["jobs"][0]["lease_until"] is None

    def test_without_one_it_says_so(self, site: Site) -> None:
        """Nothing runs jobs then."""
        assert "No engine is alive" in site.get("/engines").text

    def test_each_role_is_offered_what_it_may(self, site: Site) -> None:
        """Operators quiet an engine, admins stop it."""
        write(site.jobs)
        offered = {role: site.get("/engines", role).text for role in ("viewer", "operator", "admin")}
        assert ["/engines/e1/quiet" in page for page in offered.values()] == [False, True, True]
        assert ["/engines/e1/stop" in page for page in offered.values()] == [False, False, True]


class TestOrders:
    def test_a_real_one_is_quiet_and_works_again(self, site: Site) -> None:
        """It takes nothing while it is, and shows it."""
        begun, goes = threading.Event(), threading.Event()

        @site.jobs.job(name="waits")
        def waits() -> None:
            begun.set()
            assert goes.wait(PATIENCE)

        with site.jobs.running(in_process=True):
            first = waits.enqueue()
            assert begun.wait(PATIENCE)
            [engine] = site.jobs.engines.list()
            assert site.post(f"/engines/{engine.id}/quiet", {}).headers["location"] == "/engines"
            wait_until(lambda: "quiet</span>" in site.get("/engines").text, "the page to say that it is quiet")
            goes.set()
            first.result(timeout=PATIENCE)
            second = waits.enqueue()
            assert site.jobs.get(second.id).state == "waiting"
            assert 'value="' in site.get("/engines", "operator").text
            assert site.post(f"/engines/{engine.id}/work", {}).status_code == 303
            second.result(timeout=PATIENCE)

    @pytest.mark.parametrize(
        ("verb", "least", "others"),
        [
            ("quiet", "operator", ["viewer"]),
            ("work", "operator", ["viewer"]),
            ("stop", "admin", ["viewer", "operator"]),
        ],
    )
    def test_it_is_told_by_those_who_may(self, site: Site, verb: str, least: str, others: list[str]) -> None:
        """And by nobody else: 403, and the engine hears nothing."""
        write(site.jobs)
        for role in others:
            assert site.post(f"/engines/e1/{verb}", {}, role=role).status_code == 403
            assert site.post(f"/api/v1/engines/e1/{verb}", {}, role=role).status_code == 403
        assert orders(site.jobs) == {}
        assert site.post(f"/engines/e1/{verb}", {}, role=least).status_code == 303
        assert orders(site.jobs) == {"e1": verb}

    @pytest.mark.parametrize("verb", ["quiet", "work", "stop"])
    def test_one_that_does_not_live_hears_nothing(self, site: Site, verb: str) -> None:
        """404, and no order lies about for whoever has its id next."""
        write(site.jobs, "silent", heartbeat=0)
        for name in ("silent", "nobody", "%00", "%3Cb%3E"):
            assert site.post(f"/engines/{name}/{verb}", {}, role="admin").status_code == 404
        assert orders(site.jobs) == {}


class TestHostile:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_what_an_engine_tells_is_text(self, site: Site, text: str) -> None:
        """Wherever it stands in its record, it adds no element."""

        def shown(word: str) -> list[str]:
            job = [12, str(uuid4()), word, BASE["started_at"]]
            write(site.jobs, host=word, version=word, app=word, queues=[word], jobs=[job])
            return [site.get(path, "admin").text for path in ("/engines", "/")]

        plain, hostile = shown("plain"), shown(text)
        assert list(map(elements, hostile)) == list(map(elements, plain))
        assert not any("\x1b" in page or "‮" in page for page in hostile)

    @pytest.mark.parametrize("text", [text for text in HOSTILE if text.isprintable()])
    def test_nor_does_its_id(self, site: Site, text: str) -> None:
        """And the button still means this engine."""
        write(site.jobs, text)
        page = site.get("/engines", "admin").text
        assert "<planted" not in page
        assert "<b id=planted" not in page
        assert "<script>planted" not in page
        for action in [each.split('"')[0] for each in page.split('action="/engines/')[1:]]:
            assert site.post(f"/engines/{action}", {}, role="admin").status_code == 303
        assert list(orders(site.jobs)) == [text]
