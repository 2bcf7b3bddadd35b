"""How requests reach the store: whole, on few threads, by clients of their own, a replica for what is only shown."""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from visitors import Site, visit

from jobcard import Jobcard, JobHandle
from jobcard.client import living
from jobcard.dashboard import threads
from jobcard.dashboard.gate import Gate
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.sessions import IDLE_SECONDS


def test_what_waits_too_long_is_never_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told to ask again does, and then it must not be done twice."""
    monkeypatch.setattr(threads, "PATIENCE", 0.05)
    gate, done = threading.Event(), []
    pool = threads.Threads("test", size=1)

    async def ask() -> None:
        slow = asyncio.ensure_future(pool.run(lambda: gate.wait(30) and done.append("slow")))
        await asyncio.sleep(0)
        with pytest.raises(Refused):
            await pool.run(lambda: done.append("waited"))
        with pytest.raises(Refused):
            await slow
        gate.set()
        await pool.run(lambda: done.append("next"))

    asyncio.run(ask())
    pool.close()
    assert done == ["slow", "next"]


def test_a_handle_without_its_client_is_of_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients that a dashboard opens for itself are nobody's choice."""
    monkeypatch.setattr(living, "_living", WeakSet())  # other tests have clients, too
    with Jobcard(f"sqlite:///{tmp_path}/jobs.db") as jobs:
        handle: JobHandle[Any] = jobs.enqueue("add", [1, 2])
        app = jobs.dashboard(open=True)
        assert visit(app, base_url="http://localhost", client=("127.0.0.1", 1)).get("/").status_code == 200
        assert pickle.loads(pickle.dumps(handle)).refresh().name == "add"  # noqa: S301 - our own
        app.close()


class TestReplica:
    @pytest.fixture
    def replica(self, filled: Jobcard, users: Path, tmp_path: Path) -> Any:
        """A site whose replica stands still: a copy of the file as it was."""
        filled.backup(tmp_path / "copy.jobcard")
        with Jobcard(f"sqlite:///{tmp_path}/replica.db") as copy:
            copy.restore(tmp_path / "copy.jobcard")
        app = filled.dashboard(users=users, read_url=f"sqlite:///{tmp_path}/replica.db?readonly=1")
        yield Site(filled, app)
        app.close()

    def test_what_is_shown_comes_from_there(self, replica: Site) -> None:
        """Also while the store itself has moved on."""
        replica.jobs.enqueue("add", [1, 2], queue="recently")
        assert "recently" not in replica.get("/jobs").text

    def test_what_was_just_written_is_shown(self, replica: Site) -> None:
        """The page behind a write is read where that was done: the new job is not on the replica yet."""
        old = next(job for job in replica.jobs.iterate(state="completed"))
        form = {"args": '[7, {"password": "x"}]', "kwargs": "{}"}
        answer = replica.post(f"/jobs/{old.id}/edit", form)
        assert answer.status_code == 303, answer.text
        page = replica.get(re.sub(r"^http://[^/]+", "", answer.headers["location"]), role="operator")
        assert page.status_code == 200

    def test_writes_are_decided_by_the_store(self, replica: Site) -> None:
        """What the replica still calls failed has been retried meanwhile: the verb is refused, not done twice."""
        job = next(job for job in replica.jobs.iterate(state="failed"))
        assert replica.post(f"/jobs/{job.id}/retry", {}).status_code == 303
        assert replica.jobs.get(job.id).state == "waiting"

    def test_without_its_replica_writes_go_on(self, filled: Jobcard, users: Path, tmp_path: Path) -> None:
        """Pages say that the store does not answer; an operator can still pause a queue. Nothing is left open."""
        app = filled.dashboard(users=users, read_url=f"sqlite:///{tmp_path}/nowhere/replica.db?readonly=1")
        site = Site(filled, app)
        assert [site.get("/jobs").status_code for _ in range(3)] == [503, 503, 503]
        assert site.post("/queues/mail/pause", {}).status_code == 303
        assert filled.queues.get("mail").paused
        app.close()


def test_a_cookie_that_has_ended_is_replaced(filled: Jobcard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody signs in: the next page brings a new one, and its forms are believed."""
    app = filled.dashboard(open=True)
    browser = visit(app, base_url="http://localhost", client=("127.0.0.1", 1))
    browser.get("/")
    gate: Gate = app.gate
    monkeypatch.setattr(gate.sessions, "_clock", lambda now=gate.sessions._clock: now() + IDLE_SECONDS + 1)
    page = browser.get("/queues/mail").text
    token = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert token is not None
    answer = browser.post("/queues/mail/pause", data={"csrf": token[1]}, headers={"Origin": "http://localhost"})
    assert answer.status_code == 303, answer.text
    app.close()


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], [["x"], "y"], [{"a": 1}]])
def test_a_body_of_nested_values_is_refused(site: Site, value: Any) -> None:
    """Nothing of it is passed over without a word."""
    body = {"csrf": site.token("operator"), "verb": "retry", "id": value}
    answer = site.browser("operator").post("/api/v1/jobs/bulk", json=body)
    assert answer.status_code == 400 and "list of them" in answer.json()["error"], answer.text


def test_what_is_of_one_visitor_is_shared_with_nobody(site: Site) -> None:
    """Refreshes share answers for a moment; who asks, and what its forms carry, is not among them."""
    tokens = set()
    for _ in range(2):
        browser = visit(site.app)
        assert site.sign_in(browser, "viewer").status_code == 303
        tokens.add(browser.get("/api/v1/session", headers={"HX-Request": "true"}).json()["csrf_token"])
    assert len(tokens) == 2
