"""Which engines there are, and what an operator tells them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobcard import Engine, EngineJob, EngineNotFoundError, Jobcard, NotFoundError, ResultTimeoutError
from jobcard.backends.base import RecordKind
from jobcard.client.doctor import look_over
from jobcard.core import clock

BASE = {
    "pid": 10,
    "keeper_pid": 9,
    "host": "here",
    "version": "1",
    "started_at": 1_800_000_000 * clock.SECOND,
    "heartbeat": 5,
    "queues": ["default"],
    "workers": [11, 12],
}


def write(client: Jobcard, engine_id: str = "e1", /, **more: Any) -> None:
    """What an engine tells of itself."""
    with client.parts.connection as store:
        store.write_record(RecordKind.ENGINE, engine_id, json.dumps({**BASE, **more}))


def orders(jobs: Jobcard) -> dict[str, Any]:
    with jobs.parts.connection as store:
        return {record.key: json.loads(record.value) for record in store.read_records(RecordKind.ORDER)}


def settings_version(jobs: Jobcard) -> int:
    with jobs.parts.connection as store:
        return store.exchange("somebody").settings


def test_a_handler_may_stop_what_is_just_being_started(tmp_path: Path) -> None:
    """A signal comes in the midst of `start()`, and its handler calls `stop()` in the same thread."""
    with Jobcard(f"sqlite:///{tmp_path}/own.db") as jobs:

        def interrupted() -> Any:
            jobs.stop()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            jobs.parts.started.start(interrupted, another=False)


class TestList:
    def test_an_engine_of_an_older_version_is_listed(self, jobs: Jobcard) -> None:
        """What it does not tell has its default."""
        write(jobs)
        (engine,) = jobs.engines.list()
        assert (engine.id, engine.pid, engine.workers) == ("e1", 10, (11, 12))
        assert (engine.quiet, engine.app, engine.jobs) == (False, None, ())

    def test_what_it_runs_is_told(self, jobs: Jobcard) -> None:
        """The jobs at work with their worker, and whether it claims."""
        job_id = uuid4()
        running = [[11, str(job_id), "add", BASE["started_at"], "something newer"]]
        write(jobs, quiet=True, app="shop:jobs", jobs=running, colour="red")
        (engine,) = jobs.engines.list()
        since = datetime(2027, 1, 15, 8, tzinfo=UTC)
        assert (engine.quiet, engine.app) == (True, "shop:jobs")
        assert engine.jobs == (EngineJob(pid=11, job_id=job_id, name="add", since=since),)

    @pytest.mark.parametrize(
        "more", [{"jobs": 5}, {"jobs": [5]}, {"jobs": [[]]}, {"jobs": [[1, "x", "add", 0]]}, {"queues": None}]
    )
    def test_a_damaged_record_hides_no_other(
        self, jobs: Jobcard, more: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is left out, with its name in the log; whatever looks at engines goes on, and the doctor names it."""
        write(jobs, "e6")
        write(jobs, "e7", **more)
        assert [engine.id for engine in jobs.engines.list()] == ["e6"]
        assert "the record of engine e7 cannot be read; it is left out of the list" in caplog.text
        health = jobs.health()
        assert (health.ok, health.engines) == (True, 1)
        handle = jobs.enqueue("x")
        assert jobs.explain(handle.id) == []
        with pytest.raises(ResultTimeoutError, match="waits for its turn"):
            handle.result(timeout=0.01)
        found = [finding for finding in look_over(jobs.parts).findings if finding.code == "engines.unreadable"]
        assert [finding.subject for finding in found] == ["e7"]


class TestOrders:
    def test_an_order_is_written_for_its_engine(self, jobs: Jobcard) -> None:
        """The last one counts, engines see that something changed, and others are not meant."""
        write(jobs, "e1")
        write(jobs, "e2")
        seen = settings_version(jobs)
        for order in (jobs.engines.quiet, jobs.engines.work, jobs.engines.stop):
            order("e1")
            assert orders(jobs) == {"e1": {"order": order.__name__}}
            assert seen < (seen := settings_version(jobs))

    @pytest.mark.parametrize("engine_id", ["e2", "", "old", None, 5, UUID(int=7)], ids=str)
    def test_only_a_live_engine_can_be_told(self, jobs: Jobcard, engine_id: Any) -> None:
        """Nothing is written for one that is not there, or was not heard of for three heartbeats."""
        write(jobs, "e1")
        write(jobs, "old", heartbeat=0)
        for order in (jobs.engines.quiet, jobs.engines.work, jobs.engines.stop):
            with pytest.raises(EngineNotFoundError) as caught:
                order(engine_id)
            assert isinstance(caught.value, NotFoundError) and caught.value.engine_id == str(engine_id)
        assert orders(jobs) == {}
        assert isinstance(jobs.engines.list()[0], Engine)
