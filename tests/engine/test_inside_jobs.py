"""What a job can do with the client: over the pipe, through its engine, as from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from checker.lab import Lab, Tree
from helpers.stores import raw
from helpers.waiting import wait_until
from jobcard import Job, JobFailedError
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory

TIMEOUT = 30


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Any, Tree]]:
    """One engine for all of these: each test looks at its own jobs only."""
    lab = Lab(tmp_path_factory.mktemp("inside"))
    try:
        app = lab.app("inside")
        yield lab, app, lab.start("inside")
    finally:
        lab.close()


@pytest.fixture
def app(room: tuple[Lab, Any, Tree]) -> Any:
    return room[1]


def test_a_job_enqueues_jobs(app: Any) -> None:
    """One, many, by name and with options: stored when the call returns, and run like any other."""
    ids = app.enqueues.enqueue(50).result(timeout=TIMEOUT)
    assert len(set(ids)) == 53
    *due, later = ids
    results = [app.jobs.handle(job_id).result(timeout=TIMEOUT) for job_id in due]
    assert results == [3, *(2 * n for n in range(50)), 7]
    job = app.jobs.get(later)
    assert (job.state, job.hold, job.tags, job.priority, job.args) == ("waiting", "delay", ("later",), 7, [5, 6])


def test_a_job_enqueues_from_an_event_loop(app: Any) -> None:
    """The awaitable calls work inside a job too."""
    assert app.enqueues_async.enqueue(40).result(timeout=TIMEOUT) == 40


def test_threads_of_a_job_enqueue_at_once(app: Any) -> None:
    """The way to the engine is shared by all threads of a job."""
    assert app.enqueues_from_threads.enqueue(20).result(timeout=TIMEOUT) == 20


def test_a_job_waits_for_another(app: Any) -> None:
    """A result can be waited for inside a job, since another worker runs it; several at once."""
    handles = [app.waits_for_another.enqueue(n) for n in range(4)]
    assert [handle.result(timeout=TIMEOUT) for handle in handles] == [10 * (n + 1) for n in range(4)]


def test_a_job_looks_up_and_cancels_others(app: Any) -> None:
    """Look-ups and moves are the same as from outside."""
    other = app.add.enqueue(2, 2)
    assert other.result(timeout=TIMEOUT) == 4
    seen = app.looks_up.enqueue(str(other.id)).result(timeout=TIMEOUT)
    assert (seen["state"], seen["result"], seen["missing"]) == ("completed", 4, "missing")
    assert seen["count"] == app.jobs.count(name="inside.add").total
    assert seen["listed"][0] == str(other.id)
    assert seen["queues"] == ["default"]
    assert seen["own_state"] in ("claimed", "running")
    assert seen["engines"] == 1
    victim = app.add.options(delay=3600).enqueue(1, 1)
    assert app.cancels.enqueue(str(victim.id)).result(timeout=TIMEOUT) == "canceled"
    assert victim.refresh().state == "canceled"


def test_a_missing_job_is_missing_inside_too(app: Any) -> None:
    """Errors of the client keep their class and facts over the pipe; the job that lets one out fails with it."""
    handle = app.cancels.options(max_attempts=1).enqueue("01900000-0000-7000-8000-000000000001")
    with pytest.raises(JobFailedError):
        handle.result(timeout=TIMEOUT)
    error = handle.refresh().error
    assert error["type"] == "jobcard.errors.JobNotFoundError"
    assert "01900000-0000-7000-8000-000000000001" in error["message"]


@pytest.mark.parametrize(("what", "answer"), [("start", "None"), ("run", "0"), ("stop", "None")])
def test_starting_an_engine_inside_a_job_does_nothing(app: Any, room: Any, what: str, answer: str) -> None:
    """`start`, `run` and `stop` inside a worker start and stop nothing."""
    engine = room[2].engine()
    assert app.meddles.enqueue(what).result(timeout=TIMEOUT) == answer
    assert room[2].engine() == engine
    assert len(app.jobs.engines.list()) == 1


def test_the_schema_is_out_of_reach_of_a_job(app: Any) -> None:
    """A job cannot migrate; it is told so."""
    assert "inside a job" in app.meddles.enqueue("migrate").result(timeout=TIMEOUT)


def test_a_block_with_an_engine_inside_a_job_uses_the_one_there_is(app: Any) -> None:
    """`with jobs.running()` inside a worker starts no second engine."""
    assert app.runs_an_engine.enqueue().result(timeout=TIMEOUT) == 21
    assert len(app.jobs.engines.list()) == 1


def test_a_job_knows_itself(app: Any, room: Any) -> None:
    """The context tells attempt, token and the job; it is the first parameter, by annotation, or `current_job()`."""
    handle = app.tells.options(tags=["a", "b"], meta={"trace": "1"}, timeout=60).enqueue(extra="more")
    told = handle.result(timeout=TIMEOUT)
    worker, parent = told.pop("pid"), told.pop("parent")
    assert told == {
        "attempt": 1,
        "token": 1,
        "id": str(handle.id),
        "name": "inside.tells",
        "queue": "default",
        "args": [],
        "tags": ["a", "b"],
        "meta": {"trace": "1"},
        "has_deadline": True,
        "same": True,
        "extra": "more",
    }
    assert parent == room[2].engine()
    assert worker != parent


def test_a_class_is_a_job(app: Any) -> None:
    """A class job is constructed in the worker from what `with_` was given; its types come back."""
    assert app.Report.with_("eu", pages=3).enqueue(date(2026, 11, 22)).result(timeout=TIMEOUT) == Path(
        "eu-2026-11-22-3.txt"
    )
    job: Job = app.Report.with_("us").enqueue(date(2026, 1, 1)).refresh()
    assert job.init == {"args": ["us"], "kwargs": {}}


def test_a_coroutine_is_a_job(app: Any) -> None:
    """`async def` jobs run to their end, with values of their own types; a failure is recorded like any other."""
    handles = [app.ships.enqueue(app.Order(n, ["a", "b"]), 0.01) for n in range(20)]
    assert [handle.result(timeout=TIMEOUT) for handle in handles] == [app.Order(n + 1, ["A", "B"]) for n in range(20)]
    with pytest.raises(JobFailedError, match="awaited"):
        app.fails_awaiting.options(max_attempts=1).enqueue().result(timeout=TIMEOUT)
    with pytest.raises(JobFailedError) as raised:
        app.hangs_awaiting.enqueue().result(timeout=TIMEOUT)
    assert raised.value.errors[-1]["kind"] == "timeout"


def test_an_enqueue_of_a_job_that_is_tried_again_stores_one(app: Any) -> None:
    """An id given by the caller makes two enqueues one job, over the pipe and over the death of a worker."""
    job_id = "01900000-0000-7000-8000-0000000000aa"
    assert app.enqueues_then_dies_once.enqueue(job_id).result(timeout=TIMEOUT) is True
    assert app.jobs.handle(job_id).result(timeout=TIMEOUT) == 9


def test_a_forked_child_of_a_job_does_not_disturb_it(app: Any) -> None:
    """A child that a job forks is told that it has no way to the engine; the job's own way stays whole."""
    said, enqueued = app.forks_and_enqueues.enqueue().result(timeout=TIMEOUT)
    assert said.startswith("ConfigError"), said
    assert enqueued == 100


def test_a_forked_child_that_comes_back_from_the_job_is_no_second_worker(app: Any) -> None:
    """Only the process that was given a job answers for it; those behind it run as ever."""
    handles = [app.forks_and_returns_twice.enqueue() for _ in range(5)]
    behind = [app.add.enqueue(n, 0) for n in range(50)]
    assert [handle.result(timeout=TIMEOUT) for handle in handles] == ["parent"] * 5
    assert [handle.result(timeout=TIMEOUT) for handle in behind] == list(range(50))


def test_a_look_up_that_takes_long_holds_up_nobody(tmp_path: Path) -> None:
    """While the store still counts for one job, others are handed out, look up and enqueue, and are ended in time."""
    lab = Lab(tmp_path)
    try:
        app = lab.app("inside")
        app.jobs.migrate()
        tags = fill_with_tags(lab)
        tree = lab.start("inside")
        note = tmp_path / "note"
        asking = app.counts_for_long.enqueue(tags, str(note))
        wait_until(lambda: note.exists() and note.read_text() == "asks", "a job that asks")
        late = app.outlasts_its_time.enqueue()
        assert app.add.enqueue(1, 2).result(timeout=TIMEOUT) == 3
        assert len(app.enqueues.enqueue(20).result(timeout=TIMEOUT)) == 23
        for handle in (late, asking):
            with pytest.raises(JobFailedError):
                handle.result(timeout=TIMEOUT)
            assert handle.refresh().reason == "timeout"
        assert note.read_text() == "asks"
        assert app.jobs.engines.list()[0].pid == tree.engine()
        assert tree.stop() == 0
    finally:
        lab.close()


def fill_with_tags(lab: Lab) -> list[str]:
    """Ended jobs with so many tags that a count of those that have all of some takes minutes; those tags."""
    store = open_backend(lab.url)
    assert isinstance(store, SQLiteBackend)
    claims = factory.claim_some(store, len(factory.enqueue_several(store, 400, name="tagged")))
    assert factory.complete(store, claims) == []
    names = [f"tag-{number}" for number in range(10_000)]
    raw(store, "update jobcard_jobs set tags = ?", json.dumps(names))
    store.close()
    return names[-100:]
