"""What a job leaves behind in its process is gone before the next; and how jobs reach their store."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobcard.backends.ready import make_ready
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.workers.tidy import Room
from workers.engine_side import Worker

Start = Callable[..., Worker]


def test_a_job_finds_the_process_as_the_first_one_did(start: Start) -> None:
    """Directory, umask, handlers, signal mask, alarms and environment."""
    worker = start("untidy")
    before = worker.result_of(worker.give("look"))
    for _ in range(3):
        assert worker.result_of(worker.give("upset")) is None
        assert worker.result_of(worker.give("waits")) == "waited"
        assert worker.result_of(worker.give("look")) == before
    assert worker.stop() == 0


def test_what_a_module_sets_at_its_import_stays(start: Start) -> None:
    """It will not be imported again."""
    worker = start("untidy")
    worker.result_of(worker.give("imports"))
    worker.result_of(worker.give("upset"))
    environment = worker.result_of(worker.give("look"))["environment"]
    assert (environment["UNTIDY_MODULE"], environment["UNTIDY_NEW"]) == ("set", None)


def test_tidying_up_what_is_tidy_costs_next_to_nothing() -> None:
    """It happens after every job."""
    room = Room()
    began = time.process_time()  # others may have the machine meanwhile
    for _ in range(1_000):
        room.tidy()
    took = (time.process_time() - began) / 1_000
    print(f"{took * 1e6:.1f} µs")
    assert took < 0.001


@pytest.fixture
def store(tmp_path: Path) -> SQLiteBackend:
    backend = SQLiteBackend(f"sqlite:///{tmp_path}/jobs.db")
    make_ready(backend, migrate=True, strict_durability=False)
    return backend


def test_jobs_reach_the_store_through_their_engine(start: Start, store: SQLiteBackend) -> None:
    """Unless they are told to do it themselves."""
    worker = start("untidy", store=store)
    found = worker.result_of(worker.give("where"))
    assert (found["direct"], found["state"], found["started"], found["run"]) == (False, "waiting", "None", 0)
    store.close()


@pytest.mark.parametrize("said_by", ["application", "engine"])
def test_jobs_open_the_store_of_their_engine(
    start: Start, store: SQLiteBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_by: str
) -> None:
    """With `worker_client="direct"`: whatever URL the application has, and no engine is started from inside."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    if said_by == "application":
        monkeypatch.setenv("WORKER_CLIENT", "direct")
    monkeypatch.setenv("JOBCARD_URL", f"sqlite:///{tmp_path}/another.db")
    boot = {"store": {"url": url, **({} if said_by == "application" else {"worker_client": "direct"})}}
    worker = start("untidy", boot=boot)
    found = worker.result_of(worker.give("where"))
    assert found == {"url": url, "direct": True, "state": "waiting", "started": "None", "run": 0}
    assert not worker.calls
    assert not Path(tmp_path, "another.db").exists()
    store.close()


def test_what_goes_around_the_engine_reaches_its_store(
    start: Start, store: SQLiteBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup and an enqueue within a transaction: whatever URL the application has, which nothing is written to."""
    factory.enqueue_several(store, 3)
    monkeypatch.setenv("JOBCARD_URL", f"sqlite:///{tmp_path}/another.db")
    boot = {"store": {"url": f"sqlite:///{tmp_path}/jobs.db?library=sqlite3"}}
    worker = start("untidy", store=store, boot=boot)
    assert worker.result_of(worker.give("goes_around_its_engine", str(tmp_path))) == [3, "waiting"]
    assert not Path(tmp_path, "another.db").exists()
    store.close()
