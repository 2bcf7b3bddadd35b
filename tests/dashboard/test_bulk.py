"""Moves of many jobs: what the preview names is touched and nothing else, and what came of it is told as it is."""

from __future__ import annotations

import re
from types import SimpleNamespace
from uuid import UUID

import pytest
from visitors import PASSWORD, Site, visit

from jobcard.client import browsing, moves
from jobcard.core.job import WholeJob
from jobcard.core.states import JobState


def failed(site: Site, count: int) -> list[UUID]:
    """So many more failed jobs in the queue bulk."""
    made = [site.jobs.enqueue("bulk.job", [number], queue="bulk") for number in range(count)]
    for job in made:
        row = site.jobs.parts.lookup.row(job.id.bytes)
        with site.jobs.parts.connection as store:
            store.put([WholeJob(row._replace(state="failed", finished_at=row.created_at, claim_token=1), [], [])])
    return [job.id for job in made]


def form_of(page: str) -> dict[str, list[str]]:
    """The hidden fields of a preview's form, but for its token."""
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page):
        if name != "csrf":
            fields.setdefault(name, []).append(value)
    return fields


class TestPreview:
    def test_it_names_all_that_fit(self, site: Site) -> None:
        """How many, in which states, of which names."""
        wanted = failed(site, 3)
        page = site.get("/jobs/bulk?verb=retry&queue=bulk", "operator").text
        assert "Retry 3 jobs?" in page
        assert "3 failed" in page
        assert "3 bulk.job" in page
        assert form_of(page)["id"] == [job.hex for job in wanted[::-1]]
        assert form_of(page)["queue"] == ["bulk"]

    def test_it_names_hundreds_on_a_slow_machine_too(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """A look for a page ends after a moment, one for a move when as many as are moved at once were looked at."""
        failed(site, 120)
        monkeypatch.setattr(browsing, "FEW", 10)
        monkeypatch.setattr(browsing, "LOOKS_FOR", 0.0)
        assert len(site.get("/api/v1/jobs?queue=bulk&limit=200").json()["jobs"]) == 50
        assert "Retry 120 jobs?" in site.get("/jobs/bulk?verb=retry&queue=bulk", "operator").text

    def test_it_leaves_out_what_is_in_no_state_for_it(self, site: Site) -> None:
        """Of those chosen by hand; and says so."""
        some = [job.id.hex for job in site.jobs.list()] + ["018f0000-0000-7000-8000-000000000000"]
        page = site.get("/jobs/bulk?verb=retry" + "".join(f"&id={each}" for each in some), "operator").text
        assert "Retry 3 jobs?" in page
        assert "8 of those chosen are in no state for it" in page
        assert "1 of those chosen are gone" in page

    def test_canceled_jobs_are_retried_only_when_named(self, site: Site) -> None:
        """As by `jobs.retry_many`."""
        assert site.get("/api/v1/jobs/bulk", "operator").json()["by_state"] == {"failed": 2, "canceled": 0}
        assert len(site.get("/api/v1/jobs/bulk?state=canceled&state=failed", "operator").json()["ids"]) == 3

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("verb=retry&state=waiting", 400),
            ("verb=cancel&state=completed", 400),
            ("verb=delete&state=running", 400),
            ("verb=destroy", 400),
            ("id=1", 400),
            ("verb=retry&limit=9", 400),
            ("verb=retry&queue=nowhere", 200),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, site: Site, query: str, status: int) -> None:
        """400 with a sentence."""
        assert site.get(f"/jobs/bulk?{query}", "operator").status_code == status

    def test_it_changes_nothing(self, site: Site) -> None:
        """It is only looked at."""
        before = site.jobs.count()
        for verb in ("retry", "cancel", "delete"):
            assert site.get(f"/jobs/bulk?verb={verb}", "operator").status_code == 200
        assert dict(site.jobs.count()) == dict(before)


class TestMove:
    def test_those_of_the_preview_are_moved_and_the_others_told(self, site: Site) -> None:
        """What has changed since is not touched, nor what has come since."""
        some = failed(site, 10)
        form = form_of(site.get("/jobs/bulk?verb=retry&queue=bulk", "operator").text)
        for job in some[:2]:
            site.jobs.retry(job)
        with site.jobs.parts.connection as store:
            assert store.delete([some[2].bytes]) == 1
        [late] = failed(site, 1)
        answer = site.post("/jobs/bulk", form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?queue=bulk")
        assert "7 of 10 retried, 3 had changed" in site.get("/jobs", "operator").text
        assert {site.jobs.get(job).state for job in some if job != some[2]} == {JobState.WAITING}
        assert site.jobs.get(late).state == "failed"

    def test_waiting_jobs_are_canceled_and_others_told_to_stop(self, site: Site) -> None:
        """Those that ended meanwhile had changed."""
        found = [str(job.id) for job in site.jobs.list()]
        sent = {"json": {"verb": "cancel", "id": found}, "auth": ("operator", PASSWORD)}
        answer = visit(site.app).post("/api/v1/jobs/bulk", **sent).json()
        assert answer["done"] == "5 of 11 canceled, or told to stop, 6 had changed"
        assert (answer["moved"], answer["changed"], answer["left"]) == (5, 6, 0)
        assert site.jobs.count().waiting == 0

    def test_a_taken_unique_key_is_told(self, site: Site) -> None:
        """That job stays as it is, the others go on."""

        @site.jobs.job(name="only", unique=True)
        def only() -> None:
            """One at a time."""

        [other] = site.jobs.list(state="failed", limit=1)
        job = only.enqueue()
        job.cancel()
        only.enqueue()
        answer = site.post("/jobs/bulk", {"verb": "retry", "id": [str(job.id), str(other.id)]})
        assert answer.status_code == 303
        said = "1 of 2 retried, 1 have a unique key that another job has taken"
        assert said in site.get("/", "operator").text

    def test_what_ended_is_deleted_by_an_admin(self, site: Site) -> None:
        """And nothing that lives."""
        found = [job.id.hex for job in site.jobs.list()]
        assert site.post("/jobs/delete", {"id": found}).status_code == 403
        assert site.post("/jobs/bulk", {"verb": "delete", "id": found}).status_code == 400
        assert site.post("/jobs/delete", {"id": found}, role="admin").status_code == 303
        assert "6 of 11 deleted, 5 had changed" in site.get("/", "admin").text
        assert site.jobs.count().total == 5

    def test_more_than_a_batch_goes_on_with_the_next(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each with a preview of its own."""
        monkeypatch.setattr("jobcard.dashboard.views.bulk.AT_ONCE", 4)
        some = failed(site, 6)
        page = site.get("/jobs/bulk?verb=retry&queue=bulk", "operator").text
        assert "More fit than are moved at once" in page
        answer = site.post("/jobs/bulk", form_of(page))
        going = answer.headers["location"]
        assert going.startswith("/jobs/bulk?queue=bulk&verb=retry&cursor=")
        page = site.get(going, "operator").text
        assert "4 of 4 retried" in page
        assert form_of(page)["id"] == [job.hex for job in some[1::-1]]
        assert site.post("/jobs/bulk", form_of(page)).headers["location"] == "/jobs?queue=bulk"
        assert site.jobs.count(queue="bulk", state="failed").total == 0

    def test_time_has_an_end_and_what_is_left_is_told(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits longer; nothing is done twice."""
        some = failed(site, 5)
        ticks = iter(range(100))
        monkeypatch.setattr(moves, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
        moved = site.jobs.parts.moves.each("retry", some, seconds=3.5)
        assert (moved.asked, moved.moved, moved.left) == (5, 3, 2)

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"verb": "retry"},
            {"verb": "retry", "id": "x"},
            {"verb": "retry", "id": ["018f0000000070008000000000000000"] * 1_001},
            {"verb": "run", "id": "018f0000000070008000000000000000"},
        ],
    )
    def test_nobody_is_moved_by_mistake(self, site: Site, form: dict[str, object]) -> None:
        """No ids: no jobs, and never all of them."""
        assert site.post("/jobs/bulk", form).status_code == 400

    def test_a_job_named_twice_is_moved_once(self, site: Site) -> None:
        """And counts once."""
        [job] = failed(site, 1)
        site.post("/jobs/bulk", {"id": [job.hex, str(job)]})
        assert "1 of 1 retried" in site.get("/", "operator").text
