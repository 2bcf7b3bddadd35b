"""The page of a job: what is known of it, for whom, and what may be done."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from visitors import Site

from jobcard import Ended, Unique
from jobcard.backends.base import Outcome, Want
from jobcard.backends.url import parse
from jobcard.client import Jobcard
from jobcard.conformance import factory
from jobcard.core import clock, ids, states
from jobcard.core.job import Attempt, Claimed, JobRow, LogLine, WholeJob
from jobcard.engine.dependents import see_to_all
from jobcard.engine.outcomes import error_text

ERROR = {
    "attempt": 1,
    "kind": "error",
    "type": "shop.NoStamp",
    "message": "no stamp",
    "traceback": "Traceback (most recent call last):\n  File shop.py, line 3\nshop.NoStamp: no stamp",
    "exit_code": None,
    "signal": None,
    "output": "licking…",
}


def claim(jobs: Jobcard, queue: str) -> Claimed:
    """The next job of a queue, claimed."""
    with jobs.parts.connection as store:
        want = Want(queues=[(queue, 1)], total=1)
        [found] = store.exchange("hands", want=want, lease=clock.MINUTE).claimed
    return found


def settle(jobs: Jobcard, held: Claimed, change: states.Change) -> None:
    """Apply a move of the holder."""
    with jobs.parts.connection as store:
        assert store.exchange("hands", outcomes=[Outcome(held.ref, held.token, change)]).refusals == []


def row_of(jobs: Jobcard, job_id: UUID) -> JobRow:
    """The stored job."""
    return jobs.parts.lookup.row(job_id.bytes)


def put(jobs: Jobcard, row: JobRow, *tries: Attempt, lines: tuple[LogLine, ...] = ()) -> None:
    """Write a job as it is."""
    with jobs.parts.connection as store:
        assert store.put([WholeJob(row, tries, lines)]) == []


def found(site: Site, job_id: UUID, role: str = "operator") -> dict[str, object]:
    """What programs are told of a job."""
    answer = site.get(f"/api/v1/jobs/{job_id}", role)
    assert answer.status_code == 200, answer.text
    told: dict[str, object] = answer.json()
    return told


def section(page: str, name: str) -> list[str]:
    """The lines of a list of a section, as they are read."""
    part = page.split(f'id="{name}-title"')[1].split("</ul>")[0]
    return [" ".join(re.sub("<[^>]*>", "", line).split()) for line in re.findall(r"<li[^>]*>(.*?)</li>", part, re.S)]


def unreadable(jobs: Jobcard, job_id: UUID) -> None:
    """Arguments that are no text, as a damaged disk leaves them."""
    with contextlib.closing(sqlite3.connect(parse(jobs.parts.connection.settings.url).path)) as file, file:
        file.execute("update jobcard_jobs set args = cast(x'22ff22' as text) where id = ?", (job_id.bytes,))


class TestPage:
    def test_the_timeline_is_made_of_stamps_and_tries(self, site: Site) -> None:
        """Every move that the record tells of, in the order of time."""
        job = site.jobs.enqueue("stamp", ["a"], queue="post", delay=0.001, max_attempts=2)
        waited = site.jobs.run_now(job.id)
        assert waited.state == "waiting"
        first = claim(site.jobs, "post")
        error = error_text(ERROR)
        settle(site.jobs, first, states.start(first, ago=0))
        settle(site.jobs, first, states.retry(first, reason="error", delay=0, error=error, kind="shop.NoStamp"))
        second = claim(site.jobs, "post")
        settle(site.jobs, second, states.start(second, ago=0))
        settle(site.jobs, second, states.fail(second, reason="error", error=error, kind="shop.NoStamp"))
        told = found(site, job.id)
        timeline = told["timeline"]
        assert isinstance(timeline, list)
        assert [each["what"] for each in timeline if each["what"] != "due"] in (
            ["stored", "try 1 ended", "claimed", "started", "try 2 ended", "failed"],
            ["stored", "try 1 ended", "claimed", "started", "failed", "try 2 ended"],
        )
        assert [each["at"] for each in timeline] == sorted(each["at"] for each in timeline)
        page = site.get(f"/jobs/{job.id}", "viewer").text
        for words in ("shop.NoStamp: no stamp", "File shop.py, line 3", "licking…", "try 2 of 2", "2 of 2"):
            assert words in page
        assert 'href="/jobs?state=failed&amp;error_kind=shop.NoStamp"' in page

    def test_what_operators_did_is_in_its_timeline(self, site: Site) -> None:
        """By whom, and what came of it; of other jobs nothing."""
        job, other = site.jobs.enqueue("stamp", delay=60), site.jobs.enqueue("stamp", delay=60)
        assert site.post(f"/jobs/{str(job.id).replace('-', '')}/cancel", {}).status_code == 303
        assert site.post(f"/jobs/{job.id}/cancel", {}).status_code == 409
        timeline = found(site, job.id)["timeline"]
        assert isinstance(timeline, list)
        [done, refused] = [each["text"] for each in timeline if each["what"] == "cancel a job"]
        assert done.startswith("by operator: ") and refused.startswith("by operator (refused): ")
        assert "by operator" in site.get(f"/jobs/{job.id}").text
        assert "by operator" not in site.get(f"/jobs/{other.id}").text

    def test_progress_and_log_are_on_it(self, site: Site) -> None:
        """A bar, and the lines that it wrote."""
        job = site.jobs.enqueue("import", queue="slow")
        held = claim(site.jobs, "slow")
        said = json.dumps({"value": 0.4, "text": "rows", "at": held.claimed_at})
        settle(site.jobs, held, states.note(held, ago=0, progress=said, lines=((0, "four"), (0, "five"))))
        page = site.get(f"/jobs/{job.id}").text
        assert '<progress max="1" value="0.4"' in page
        assert "40 % rows" in page
        assert re.search(r"\d four\n.*\d five\n", page)
        told = found(site, job.id)
        assert told["progress"]["value"] == 0.4  # type: ignore[index]
        assert [line["text"] for line in told["log"]] == ["four", "five"]  # type: ignore[attr-defined]
        assert "it runs since" in page

    def test_it_says_what_keeps_it(self, site: Site) -> None:
        """As `explain` does."""
        job = site.jobs.enqueue("waits", queue="odd")
        page = site.get(f"/jobs/{job.id}").text
        assert "its queue &#39;odd&#39; is paused" in page
        assert "(no_engine)" in page
        assert [reason["code"] for reason in found(site, job.id)["reasons"]] == [  # type: ignore[attr-defined]
            reason.code for reason in site.jobs.explain(job.id)
        ]

    def test_what_belongs_together_is_linked(self, site: Site) -> None:
        """The parent, those that follow, the schedule."""
        parent, child = (site.jobs.enqueue(name) for name in ("mother", "child"))
        row = row_of(site.jobs, child.id)
        place = ids.follow_up_id(parent.id.bytes, 1)
        put(site.jobs, row._replace(id=place, parent_id=parent.id.bytes, schedule_id="nightly"))
        put(site.jobs, row_of(site.jobs, parent.id)._replace(state="completed", finished_at=row.created_at))
        assert f'Followed by <a href="/jobs/{UUID(bytes=place)}">child</a>' in site.get(f"/jobs/{parent.id}").text
        page = site.get(f"/jobs/{UUID(bytes=place)}").text
        assert f'Follows <a href="/jobs/{parent.id}">mother</a>' in page
        assert '<a href="/jobs?schedule=nightly">nightly</a>' in page
        unreadable(site.jobs, parent.id)
        page = site.get(f"/jobs/{UUID(bytes=place)}").text
        assert "Follows" not in page and "child" in page, "a parent that cannot be read hides no child"

    def test_what_it_waits_for_is_linked(self, site: Site) -> None:
        """Jobs with their state, a batch as the list of its jobs; one that is not there, by its id."""
        [done] = site.jobs.list(state="completed", limit=1)
        [later] = site.jobs.list(name="later")
        with site.jobs.batch("night") as batch:
            batch.enqueue(site.jobs.job(name="packed")(lambda: None).call())
        gone = UUID("018f0000-0000-7000-8000-000000000000")
        job = site.jobs.enqueue("last", strict=False, after=[later.id, Ended(done), Ended(batch), gone])
        page = site.get(f"/jobs/{job.id}").text
        assert "<dt>Hold</dt><dd>waits for other jobs</dd>" in page
        assert section(page, "awaited") == [
            f"later {later.id.hex[-8:]} waiting",
            f"mail.welcome {done.id.hex[-8:]} completed (any end)",
            f"The batch {batch.id} (any end)",
            f"{gone}, which is not there",
        ]
        assert f'<a href="/jobs?batch={batch.id}">{batch.id}</a>' in page
        assert f'<a href="/jobs/{later.id}">later</a>' in page
        assert f'<a href="/jobs/{gone}">' not in page.split('id="awaited-title"')[1]
        assert '<h2 id="awaited-title">Waits for</h2>' in page
        told = found(site, job.id)
        assert told["after"] == [
            {"kind": "job", "id": str(later.id), "until": "completed"},
            {"kind": "job", "id": str(done.id), "until": "ended"},
            {"kind": "batch", "id": str(batch.id), "until": "ended"},
            {"kind": "job", "id": str(gone), "until": "completed"},
        ]
        assert told["job"]["hold"] == "after"  # type: ignore[index]

    def test_what_it_has_waited_for_stays_on_it(self, site: Site) -> None:
        """Of a job that others wait for nothing more is shown."""
        first = site.jobs.enqueue("first")
        second = site.jobs.enqueue("second", after=first)
        with site.jobs.parts.connection as store:
            assert factory.release(store, second.id.bytes) == 1
        page = site.get(f"/jobs/{second.id}").text
        assert '<h2 id="awaited-title">Waited for</h2>' in page
        assert section(page, "awaited") == [f"first {first.id.hex[-8:]} waiting"]
        page = site.get(f"/jobs/{first.id}").text
        assert "awaited-title" not in page and str(second.id) not in page
        assert found(site, first.id)["after"] == []

    def test_one_that_will_never_run_says_why(self, site: Site) -> None:
        """What it waited for, and what became of that; no try of it is spoken of."""
        first = site.jobs.enqueue("first")
        second = site.jobs.enqueue("second", after=first)
        first.cancel()
        with site.jobs.parts.connection as store:
            see_to_all(store, {})
        page = site.get(f"/jobs/{second.id}").text
        assert f"it waited for the success of job {first.id}, which was canceled" in page
        assert "<summary>Not tried," in page
        assert "<dt>Reason</dt><dd>dependency</dd>" in page
        timeline = found(site, second.id)["timeline"]
        assert sorted(each["what"] for each in timeline) == ["canceled", "not tried", "stored"]  # type: ignore[attr-defined]

    def test_many_that_it_waits_for_are_not_all_looked_up(self, site: Site) -> None:
        """The first are shown, and how many more there are; programs are told of all."""
        handles = [site.jobs.enqueue("one") for _ in range(60)]
        job = site.jobs.enqueue("last", after=handles)
        lines = section(site.get(f"/jobs/{job.id}").text, "awaited")
        assert len(lines) == 51 and lines[-1] == "and 10 more"
        told = found(site, job.id)
        assert [each["id"] for each in told["after"]] == [str(each.id) for each in handles]  # type: ignore[attr-defined]

    def test_its_batch_is_the_list_of_its_jobs(self, site: Site) -> None:
        """One click away."""
        with site.jobs.batch() as batch:
            handle = batch.enqueue(site.jobs.job(name="packed")(lambda: None).call())
        page = site.get(f"/jobs/{handle.id}").text
        assert f'<dt>Batch</dt><dd><a href="/jobs?batch={batch.id}">{batch.id}</a></dd>' in page

    def test_arguments_and_result_are_for_operators(self, site: Site) -> None:
        """Neither on a viewer's page nor in its JSON; what is hidden is so for all."""
        [job] = site.jobs.list(state="completed", limit=1)
        put(site.jobs, row_of(site.jobs, job.id)._replace(result='{"sent": "canary", "Token": "s3cr3t"}'))
        for path in (f"/jobs/{job.id}", f"/jobs/{job.id}/now", f"/api/v1/jobs/{job.id}"):
            viewer, operator, admin = (site.get(path, role).text for role in ("viewer", "operator", "admin"))
            assert "canary" in operator
            assert "canary" in admin
            assert "canary" not in viewer
            assert "password" not in viewer
            assert "(hidden)" in operator
            for page in (viewer, operator, admin):
                assert "hunter2" not in page
                assert "s3cr3t" not in page

    @pytest.mark.parametrize(
        "job_id", ["1", "x" * 36, "018f0000-0000-7000-8000-000000000000", "%00", "a%2fb", "-" * 32]
    )
    def test_an_unknown_id_is_404(self, site: Site, job_id: str) -> None:
        """Also with something after it."""
        for rest in ("", "/now", "/edit"):
            assert site.get(f"/jobs/{job_id}{rest}", "operator").status_code == 404
            assert site.get(f"/api/v1/jobs/{job_id}", "operator").status_code == 404
        assert site.post(f"/jobs/{job_id}/retry", {}).status_code == 404

    @pytest.mark.parametrize(
        "damage",
        [
            {"args": "[{"},
            {"kwargs": "7"},
            {"result": "{bad"},
            {"tags": "{", "meta": "[1"},
            {"meta": '{"edited_from": [1]}'},
            {"progress": '{"value": "x"}'},
            {"progress": "[1]"},
            {"finished_at": 1 << 62, "created_at": -(1 << 62)},
            {"args": "[" * 5_000 + "]" * 5_000},
            {"waits_for": "["},
            {"waits_for": "[" * 50_000},
            {"waits_for": '[["job", "1", "completed"]]'},
            {"waits_for": '[["<b>", "018f0000-0000-7000-8000-000000000000", "completed"]]'},
            {"waits_for": "<b>", "state": "waiting", "hold": "after", "finished_at": None},
        ],
    )
    def test_a_damaged_record_is_shown_as_far_as_it_goes(self, site: Site, damage: dict[str, object]) -> None:
        """Never a 500."""
        job = site.jobs.enqueue("bad")
        row = row_of(site.jobs, job.id)._replace(state="failed", claim_token=1, finished_at=clock.DAY)
        put(site.jobs, row._replace(**damage), Attempt(row.id, 1, 1, "[1]"), Attempt(row.id, 2, 1 << 62, "{"))
        for path in (f"/jobs/{job.id}", f"/api/v1/jobs/{job.id}", f"/jobs/{job.id}/edit"):
            assert site.get(path, "operator").status_code in (200, 409)
        assert site.get(f"/jobs/{job.id}", "operator").status_code == 200


class TestActions:
    def test_a_waiting_job_is_made_due_and_canceled(self, site: Site) -> None:
        """And the next page says so."""
        [job] = site.jobs.list(name="later")
        page = site.get(f"/jobs/{job.id}", "operator").text
        assert "Run now" in page
        assert "Retry" not in page
        answer = site.post(f"/jobs/{job.id}/run_now", {})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job.id}")
        assert "It is due now." in site.get(f"/jobs/{job.id}", "operator").text
        assert site.jobs.get(job.id).hold is None
        site.post(f"/jobs/{job.id}/cancel", {})
        assert site.jobs.get(job.id).state == "canceled"
        assert site.post(f"/jobs/{job.id}/cancel", {}).status_code == 409

    def test_one_that_waits_for_others_goes_on_waiting(self, site: Site) -> None:
        """Whoever makes it due is told so."""
        job = site.jobs.enqueue("last", after=site.jobs.enqueue("first"), delay=60)
        site.post(f"/jobs/{job.id}/run_now", {})
        assert "It is due now, and still waits for other jobs." in site.get(f"/jobs/{job.id}", "operator").text
        assert site.jobs.get(job.id).hold == "after"

    def test_a_job_at_work_is_told_to_stop(self, site: Site) -> None:
        """By its engine, which holds it."""
        [job] = site.jobs.list(state="claimed")
        site.post(f"/jobs/{job.id}/cancel", {})
        assert "Its engine is told to stop it." in site.get(f"/jobs/{job.id}", "operator").text
        assert site.jobs.get(job.id).cancel_requested

    def test_a_failed_job_is_retried(self, site: Site) -> None:
        """From the start; programs are told the same way."""
        job, other = site.jobs.list(state="failed")
        site.post(f"/jobs/{job.id}/retry", {})
        assert site.jobs.get(job.id).state == "waiting"
        token = site.token("operator")
        answer = site.browser("operator").post(f"/api/v1/jobs/{other.id}/retry", headers={"x-csrf-token": token})
        assert answer.json() == {"done": "It runs again from the start.", "id": str(other.id)}

    def test_a_viewer_is_shown_none(self, site: Site) -> None:
        """And may do none: the table of routes is walked elsewhere."""
        [job] = site.jobs.list(name="later")
        page = site.get(f"/jobs/{job.id}").text
        assert "<button>Run now" not in page
        assert site.post(f"/jobs/{job.id}/run_now", {}, role="viewer").status_code == 403


class TestEdit:
    def edited(self, site: Site, job_id: UUID, **form: str) -> UUID:
        """The id of the job that is stored by this form."""
        answer = site.post(f"/jobs/{job_id}/edit", form)
        assert answer.status_code == 303, answer.text
        return UUID(answer.headers["location"].removeprefix("/jobs/"))

    def test_the_job_is_stored_again(self, site: Site) -> None:
        """With other arguments; the old one stays as it is. What is hidden comes along unseen."""
        job = site.jobs.list(state="failed")[0]
        page = site.get(f"/jobs/{job.id}/edit", "operator").text
        assert "hunter2" not in page
        shown = json.dumps([job.args[0] + 100, {"password": "(hidden)"}])
        new = site.jobs.get(self.edited(site, job.id, args=shown, kwargs='{"when": {"$jc": ["timedelta", 60000000]}}'))
        assert new.args == [job.args[0] + 100, {"password": "hunter2"}]
        assert (new.name, new.queue, new.state) == (job.name, job.queue, "waiting")
        assert new.meta == {"edited_from": str(job.id)}
        assert site.jobs.get(job.id) == job
        assert f'<a href="/jobs/{job.id}">{job.id}</a>' in site.get(f"/jobs/{new.id}").text

    def test_what_nobody_touched_is_as_it_was(self, site: Site) -> None:
        """Types that JSON lacks, too."""
        args = [(1, 2), {"at": timedelta(seconds=3), "secret": b"x", "$jc": {"token": 2}}]
        job = site.jobs.enqueue("typed", args, {"x": {"token": 1}})
        job.cancel()
        fields = site.get(f"/api/v1/jobs/{job.id}/edit", "operator").json()
        assert "(hidden)" in json.dumps(fields["args"])
        form = {name: json.dumps(fields[name]) for name in ("args", "kwargs")}
        new = site.jobs.get(self.edited(site, job.id, **form))
        assert (new.args, new.kwargs) == (args, {"x": {"token": 1}})

    @pytest.mark.parametrize(
        "form",
        [
            {"args": "{}"},
            {"kwargs": "[]"},
            {"args": "[1"},
            {"args": "[NaN]"},
            {"args": "[" * 3_000 + "]" * 3_000},
            {"args": '[{"$jc": ["os.system", "x"]}]'},
            {"args": "[" + "9" * 5_000 + "]"},
            {"args": '["(hidden)"]'},
            {"args": '[{"a": {"password": "(hidden)"}}]'},
            {"args": "x" * 100_001},
            {"name": "other"},
        ],
    )
    def test_what_cannot_be_stored_is_refused(self, site: Site, form: dict[str, str]) -> None:
        """400, and nothing is stored."""
        job = site.jobs.list(state="failed")[0]
        before = site.jobs.count().total
        assert site.post(f"/jobs/{job.id}/edit", form).status_code == 400
        assert site.jobs.count().total == before

    def test_known_code_says_what_fits(self, site: Site) -> None:
        """Where the dashboard is the application's own."""

        @site.jobs.job(name="sum")
        def add(a: int, b: int) -> int:
            """Two of them."""
            return a + b

        job = add.enqueue(1, 2)
        job.cancel()
        assert site.post(f"/jobs/{job.id}/edit", {"args": "[1]"}).status_code == 400
        assert site.jobs.get(self.edited(site, job.id, args="[1, 3]")).args == [1, 3]

    def test_keys_of_the_old_arguments_are_made_anew(self, site: Site) -> None:
        """Moved from one tenant to another it stands under the other's limit; a key that was said by hand stays."""

        @site.jobs.job(name="sync", unique=Unique(by=("tenant",)), concurrency_key="tenant", key_limit=1)
        def sync(tenant: str) -> None: ...

        other = sync.enqueue("b")
        job = sync.enqueue("a")
        job.cancel()
        refused = site.post(f"/jobs/{job.id}/edit", {"args": '["b"]'})
        assert refused.status_code == 409 and str(other.id) in refused.text
        other.cancel()
        new = self.edited(site, job.id, args='["b"]')
        with site.jobs.parts.connection as store:
            [was], [now] = store.get([other.id.bytes]), store.get([new.bytes])
        assert (now.unique_key, now.limit_key) == (was.unique_key, was.limit_key)
        by_hand = sync.options(unique=Unique(key=lambda tenant: "mine")).enqueue("c")
        by_hand.cancel()
        kept = self.edited(site, by_hand.id, args='["d"]')
        with site.jobs.parts.connection as store:
            [row], [old] = store.get([kept.bytes]), store.get([by_hand.id.bytes])
        assert row.unique_key == old.unique_key and row.limit_key not in (old.limit_key, None)

    @pytest.mark.parametrize(("was", "said"), [([True], "[1]"), ([1], "[1.0]"), ([0], "[false]")])
    def test_what_python_calls_equal_is_a_change(self, site: Site, was: list[Any], said: str) -> None:
        """In JSON they are different values."""
        job = site.jobs.enqueue("typed", was)
        job.cancel()
        assert json.dumps(site.jobs.get(self.edited(site, job.id, args=said)).args) == said

    def test_only_a_job_that_has_ended(self, site: Site) -> None:
        """One that waits would run twice."""
        [job] = site.jobs.list(name="later")
        assert site.post(f"/jobs/{job.id}/edit", {}).status_code == 409

    def test_whoever_sees_no_arguments_changes_none(self, site: Site) -> None:
        """Where even operators do not."""
        job = site.jobs.list(state="failed")[0]
        strict = Site(site.jobs, site.jobs.dashboard(auth=lambda _: "operator", show_arguments_to="admin"))
        strict.browsers["operator"] = strict.browser(None)
        assert strict.get(f"/jobs/{job.id}/edit", "operator").status_code == 403
        assert strict.post(f"/jobs/{job.id}/edit", {"args": "[]"}).status_code == 403
        strict.app.close()
