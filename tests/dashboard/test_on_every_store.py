"""The dashboard over every kind of store: pages, moves of many, queues, schedules and the audit, with real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from seeded import seed
from visitors import MARK, Site
from walking import addresses

from helpers.places import ALL, Place, new_place
from jobcard.backends.base import Fate
from jobcard.client import Jobcard, browsing
from jobcard.conformance import factory
from jobcard.dashboard.roles import Role

pytestmark = [pytest.mark.turns, pytest.mark.slow]


@pytest.fixture(scope="module", params=ALL)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A store of each kind; the tests share it, and each empties it first."""
    with new_place(request.param, tmp_path_factory.mktemp("dashboards")) as place:
        yield place


@pytest.fixture
def site(place: Place, users: Path) -> Iterator[Site]:
    """Its dashboard, over the jobs that the dashboard's other tests have."""
    with Jobcard(place.url) as jobs:
        jobs.migrate()
        jobs.truncate(confirm=True)
        seed(jobs)
        app = jobs.dashboard(users=users)
        yield Site(jobs, app)
        app.close()


def listed(site: Site, query: str) -> list[str]:
    """The names of the jobs found."""
    answer = site.get(f"/api/v1/jobs?{query}", "operator")
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in answer.json()["jobs"]]


def test_every_page_of_the_table(site: Site) -> None:
    """For each role, without an error, and without a word that it may not see."""
    [job] = site.jobs.list(state="failed", limit=1)
    words = {"jobs": str(job.id), "queues": "mail", "schedules": "nightly", "engines": "e1"}
    for route, address in addresses(words):
        for role in Role:
            if route.writes:
                continue
            answer = site.get(address, role.value)
            may = route.role is None or role.may(route.role)
            assert (answer.status_code != 403) is may, (address, answer.text)
            assert answer.status_code < 500, (address, answer.text)
            assert "hunter2" not in answer.text
            assert MARK not in answer.text


def test_figures_are_the_store_s(site: Site) -> None:
    """By state, by queue, over time, for people and for Prometheus."""
    found = site.get("/api/v1/overview").json()
    assert found["counts"] == {
        "waiting": 4, "claimed": 1, "running": 0, "completed": 3, "failed": 2, "canceled": 1,
    }  # fmt: skip
    assert found["delayed"] == 1
    assert sum(bucket["completed"] for bucket in found["buckets"]) == 3
    assert [(each["error_kind"], each["jobs"]) for each in found["failures"]] == [(f"ValueError {MARK}", 2)]
    queues = {each["name"]: each for each in found["queues"]}
    assert (queues["mail"]["at_work"], queues["odd"]["paused_by"]) == (1, MARK)
    lines = site.get("/metrics").text.splitlines()
    assert 'jobcard_jobs{queue="mail",state="failed"} 2' in lines
    assert site.browser(None).get("/healthz").text == "ok\n"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 11),
        ("state=failed&state=canceled", 3),
        ("queue=mail&state=completed", 3),
        ("name=add&name=later", 4),
        ("search=elco", 6),
        ("search=ELCO", 0),
        ("search=%25", 0),
        ("search=_dd", 0),
        ("search=.dd", 0),
        ("search=%5C", 0),
        ("search=%27", 0),
        ("error_kind=" + quote(f"ValueError {MARK}"), 2),
        ("error_kind=ValueError", 0),
        ("tag=red", 1),
        ("tag=red&tag=blue", 1),
        ("tag=red&tag=green", 0),
        ("args=hunter", 0),
        ("args=" + quote("Zoë"), 1),
        ("limit=4", 4),
    ],
)
def test_filters_leave_what_fits(site: Site, query: str, count: int) -> None:
    """The same jobs on every store; text is text, and its case counts."""
    if "tag" in query or "Zo" in query:
        site.jobs.enqueue("tagged", ["Zoë"], tags=["red", "blue"])
    assert len(listed(site, query)) == count


@pytest.mark.parametrize("few", [10, 5_000], ids=["looked for", "asked for"])
def test_pages_lead_to_every_job_once(site: Site, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Newest first, by the store's own filter or by looking; times are bounds."""
    monkeypatch.setattr(browsing, "FEW", few)
    with site.jobs.parts.connection as store:
        assert {each.fate for each in store.enqueue([factory.new_job() for _ in range(60)])} == {Fate.STORED}
    names = [f"page-{number:02}" for number in range(23)]
    for name in names:
        site.jobs.enqueue(name)
    hour_ago, in_an_hour = (quote((datetime.now(UTC) + timedelta(hours=each)).isoformat()) for each in (-1, 1))
    for filters in ("search=page-", f"search=page-&after={hour_ago}"):
        seen, cursor = [], ""
        while cursor is not None:
            found = site.get(f"/api/v1/jobs?limit=5&{filters}{cursor and '&cursor=' + cursor}").json()
            seen += [job["name"] for job in found["jobs"]]
            cursor = found["next_cursor"]
        assert seen == names[::-1]
    assert listed(site, f"after={in_an_hour}") == []


def test_a_job_s_page_and_what_may_be_done(site: Site) -> None:
    """Run now, cancel, retry, and again with other arguments."""
    [later] = site.jobs.list(name="later")
    assert (
        "it is due" in site.get(f"/jobs/{later.id}", "operator").text or "not_due" in site.get(f"/jobs/{later.id}").text
    )
    assert site.post(f"/jobs/{later.id}/run_now", {}).status_code == 303
    assert site.post(f"/jobs/{later.id}/cancel", {}).status_code == 303
    assert site.jobs.get(later.id).state == "canceled"
    assert site.post(f"/jobs/{later.id}/cancel", {}).status_code == 409
    failed = site.jobs.list(state="failed", limit=1)[0]
    page = site.get(f"/jobs/{failed.id}", "operator").text
    assert "&lt;b id=planted" in page
    answer = site.post(f"/jobs/{failed.id}/edit", {"args": '[9, {"password": "(hidden)"}]', "kwargs": "{}"})
    assert answer.status_code == 303, answer.text
    assert site.jobs.get(answer.headers["location"].removeprefix("/jobs/")).args == [9, {"password": "hunter2"}]
    assert site.post(f"/jobs/{failed.id}/retry", {}).status_code == 303
    assert site.jobs.get(failed.id).state == "waiting"
    assert site.get(f"/jobs/{'0' * 32}").status_code == 404


def test_many_at_once(site: Site) -> None:
    """What the preview names is moved, each job if it still can be."""
    found = site.get("/api/v1/jobs/bulk?verb=retry&queue=mail", "operator").json()
    assert found["by_state"]["failed"] == len(found["ids"]) == 2
    answer = site.browser("operator").post(
        "/api/v1/jobs/bulk",
        json={"verb": "retry", "id": [*found["ids"], "0" * 32]},
        headers={"x-csrf-token": site.token("operator")},
    )
    assert (answer.status_code, answer.json()["moved"]) == (200, 2), answer.text
    waiting = site.get("/api/v1/jobs/bulk?verb=cancel", "operator").json()["ids"]
    page = site.post("/jobs/bulk", {"verb": "cancel", "id": waiting})
    assert page.status_code == 303
    ended = site.get("/api/v1/jobs/bulk?verb=delete", "admin").json()["ids"]
    assert site.post("/jobs/delete", {"verb": "delete", "id": ended}, role="admin").status_code == 303
    assert {job.state.value for job in site.jobs.list()} <= {"claimed"}
    assert [each["result"] for each in site.get("/api/v1/audit").json()["entries"]] == ["done"] * 3


def test_queues_and_schedules(site: Site) -> None:
    """Paused, changed, resumed, run; the page says it at once."""
    assert site.post("/queues/mail/pause", {}).status_code == 303
    assert 'jobcard_queue_paused{queue="mail"} 1' in site.get("/metrics").text
    form = {"global_concurrency": "", "rate_count": "5", "rate_per": "1.5", "priority": "-3", "ageing": "60"}
    assert site.post("/queues/mail/limits", form).status_code == 303
    told = site.get("/api/v1/queues/mail").json()["queue"]
    assert told["paused_by"] == "operator"
    assert (told["global_concurrency"], told["rate_count"], told["rate_per"]) == (None, 5, 1.5)
    assert (told["priority"], told["ageing"], told["counts"]["failed"]) == (-3, 60.0, 2)
    assert site.post("/queues/mail/resume", {}).status_code == 303
    site.jobs.schedule("a/b", timedelta(hours=1), "report", [{"token": "hunter2"}])
    for name, verb in (("a~b", "pause"), ("a~b", "resume"), ("nightly", "run")):
        assert site.post(f"/schedules/{name}/{verb}", {}).status_code == 303
    assert len(site.get("/api/v1/schedules/nightly").json()["ticks"]) == 10
    assert [job["state"] for job in site.get("/api/v1/schedules/nightly").json()["jobs"]] == ["waiting"]
    assert listed(site, "schedule=nightly") == ["report"]
    assert "hunter2" not in site.get("/schedules/a~b", "admin").text
    assert site.post("/queues/none/pause", {}).status_code == 404
    assert site.post("/schedules/none/run", {}).status_code == 404
    assert site.post("/engines/none/quiet", {}).status_code == 404


def test_the_audit_is_in_order(site: Site) -> None:
    """Newest first, a page at a time, of one thing or of all; hostile text in it is text."""
    for number in range(130):
        entry = site.jobs.parts.audit.begin(
            who=MARK, role="admin", action=f"act {number}", on=f"thing {number % 2}", said={"\ud800": "\x00é"}
        )
        site.jobs.parts.audit.end(entry, "done", "\u202e" + MARK)
    first = site.get("/api/v1/audit").json()
    rest = site.get(f"/api/v1/audit?before={first['older']}").json()
    acts = [each["action"] for each in (*first["entries"], *rest["entries"])]
    assert acts == [f"act {number}" for number in range(129, -1, -1)]
    assert len(site.get("/api/v1/audit?on=thing%201").json()["entries"]) == 65
    page = site.get("/audit").text
    assert MARK not in page
    assert not re.search("[\x00\u202e\ud800]", page)
