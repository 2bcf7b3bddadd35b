"""Queues as the store keeps them, and how the store is."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobcard import ConfigError, CorruptRecordError, InvalidJobError, Jobcard, Queue, QueueNotFoundError
from jobcard.backends.base import RecordKind
from jobcard.engine.routines import declare_queues


def test_a_queue_is_made_changed_and_read(jobs: Jobcard) -> None:
    """What is not given has its default, what is not changed stays."""
    assert jobs.queues.create("mail", concurrency=5, priority=3) == Queue("mail", 5, 3)
    assert jobs.queues.update("mail", concurrency=7) == jobs.queues.get("mail") == Queue("mail", 7, 3)
    assert jobs.queues.pause("mail") == Queue("mail", 7, 3, paused=True)
    assert jobs.queues.resume("mail") == Queue("mail", 7, 3)
    assert jobs.queues.create("mail") == jobs.queues.get("mail") == Queue("mail")


def test_a_queue_that_jobs_came_to_is_there(jobs: Jobcard) -> None:
    """It can be changed like one that was made."""
    jobs.enqueue("x", queue="new")
    assert jobs.queues.get("new") == Queue("new")
    assert jobs.queues.pause("new").paused


def test_lists_are_in_the_order_asked_for(jobs: Jobcard) -> None:
    """By any field, ascending or descending; equal ones by name."""
    for name, priority in (("b", 1), ("a", 1), ("c", 5)):
        jobs.queues.create(name, priority=priority)
    jobs.queues.pause("b")
    assert [queue.name for queue in jobs.queues.list()] == jobs.queues.names() == ["a", "b", "c"]
    assert [queue.name for queue in jobs.queues.list(order_by="-priority")] == ["c", "a", "b"]
    assert [queue.name for queue in jobs.queues.list(order_by="priority")] == ["a", "b", "c"]
    assert [queue.name for queue in jobs.queues.list("-name")] == ["c", "b", "a"]
    assert jobs.queues.list("-paused")[0].name == "b"
    for wrong in ("speed", "--name", "", None, 5):
        with pytest.raises(ConfigError):
            jobs.queues.list(wrong)  # type: ignore[arg-type]


def test_weight_and_ageing_are_kept(jobs: Jobcard) -> None:
    """They are made, changed, read and listed like the other fields; ageing may be a timedelta."""
    assert jobs.queues.create("mail", weight=3, ageing=2.5) == Queue("mail", weight=3, ageing=2.5)
    assert jobs.queues.update("mail", ageing=timedelta(minutes=1)) == Queue("mail", weight=3, ageing=60)
    assert jobs.queues.pause("mail") == Queue("mail", weight=3, ageing=60, paused=True)
    assert jobs.queues.update("mail", weight=9, ageing=None) == Queue("mail", weight=9, paused=True)
    jobs.queues.create("fast", ageing=1)
    jobs.queues.create("slow", ageing=9)
    assert [queue.name for queue in jobs.queues.list("ageing")] == ["fast", "slow", "mail"]
    assert [queue.name for queue in jobs.queues.list("-weight")] == ["mail", "fast", "slow"]


def test_a_missing_queue_is_told(jobs: Jobcard) -> None:
    """Only `create` makes one."""
    for call in (jobs.queues.get, jobs.queues.pause, jobs.queues.resume, jobs.queues.update):
        with pytest.raises(QueueNotFoundError):
            call("mail")
    assert jobs.queues.names() == []


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"concurrency": -1}, {"concurrency": 1.5}, {"concurrency": "5"}, {"priority": 1 << 31},
     {"weight": 0}, {"weight": 1001}, {"weight": 1.5}, {"weight": True}, {"weight": None}, {"ageing": 0},
     {"ageing": -5}, {"ageing": "5"}, {"ageing": True}, {"ageing": float("nan")}, {"ageing": 10**6},
     {"paused": 1}, {"concurency": 5}, {"name": "x"}],
    ids=str,
)  # fmt: skip
def test_a_bad_option_changes_nothing(jobs: Jobcard, options: dict[str, Any]) -> None:
    """It is a `ConfigError`, for a new queue and for an old one."""
    jobs.queues.create("mail", concurrency=3)
    with pytest.raises((ConfigError, TypeError)):
        jobs.queues.create("other", **options)
    with pytest.raises((ConfigError, TypeError)):
        jobs.queues.update("mail", **options)
    assert jobs.queues.list() == [Queue("mail", 3)]


@pytest.mark.parametrize("name", ["", "a b", "\0", "a%", None, 5, "x" * 201])
def test_a_bad_name_is_refused(jobs: Jobcard, name: Any) -> None:
    """As it is for a job's queue."""
    with pytest.raises((ConfigError, InvalidJobError)):
        jobs.queues.create(name)
    with pytest.raises(QueueNotFoundError):
        jobs.queues.get(name)


def test_changes_at_once_are_all_kept(jobs: Jobcard) -> None:
    """Two who change different fields do not undo each other."""
    jobs.queues.create("mail")

    def change(field: str, last: int) -> None:
        for value in range(1, last + 1):
            jobs.queues.update("mail", **{field: value})

    threads = [threading.Thread(target=change, args=pair) for pair in (("concurrency", 30), ("priority", 40))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert jobs.queues.get("mail") == Queue("mail", 30, 40)


def test_what_code_declared_stays_with_the_record(jobs: Jobcard) -> None:
    """An operator's change keeps what an engine needs to tell it from a change of the code."""
    from jobcard.core.queue import queue_from_text, queue_to_text

    declared = Queue("mail", 4)
    with jobs._parts.connection as store:
        store.write_record(RecordKind.QUEUE, "mail", queue_to_text(declared, declared=declared))
    jobs.queues.update("mail", concurrency=9)
    with jobs._parts.connection as store:
        (record,) = store.read_records(RecordKind.QUEUE)
    assert queue_from_text("mail", record.value) == (Queue("mail", 9), declared)


def test_what_a_newer_version_wrote_is_read(jobs: Jobcard) -> None:
    """Fields that this code does not know are passed over, in what was declared too."""
    from jobcard.core.queue import queue_from_text

    text = '{"concurrency":3,"colour":"red","declared":{"concurrency":4,"colour":"blue"}}'
    assert queue_from_text("mail", text) == (Queue("mail", 3), Queue("mail", 4))
    with jobs._parts.connection as store:
        store.write_record(RecordKind.QUEUE, "mail", text)
    assert jobs.queues.list() == [jobs.queues.get("mail")] == [Queue("mail", 3)]


@pytest.mark.parametrize(
    "text", ["{bad", "[]", "5", '{"concurrency":0}', '{"declared":5}', "null", pytest.param("[" * 10**5, id="deep")]
)
def test_a_damaged_record_hides_no_other(jobs: Jobcard, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Who asks for it is told by an error of ours; in lists it is left out; looking keeps its bytes."""
    jobs.queues.create("good")
    handle = jobs.enqueue("x", queue="mail")
    with jobs._parts.connection as store:
        store.write_record(RecordKind.QUEUE, "mail", text)
    with pytest.raises(CorruptRecordError, match="mail"):
        jobs.queues.get("mail")
    assert jobs.queues.names() == ["good"]
    assert "the record of queue mail cannot be read; it is left out of the list" in caplog.text
    (reason,) = jobs.explain(handle.id)
    assert reason.code == "no_engine" and "the record of its queue 'mail' cannot be read" in reason.text
    with jobs._parts.connection as store:
        assert {record.key: record.value for record in store.read_records(RecordKind.QUEUE)}["mail"] == text


@pytest.mark.parametrize("text", ["{bad", '{"concurrency":0}', '{"concurrency":3,"declared":{"weight":0}}'])
def test_a_damaged_record_is_mended_by_whoever_writes_it(jobs: Jobcard, text: str) -> None:
    """An operator, by any change, or an engine of the code that declares the queue: the rest has its default."""

    def damage() -> None:
        with jobs._parts.connection as store:
            store.write_record(RecordKind.QUEUE, "mail", text)

    damage()
    assert jobs.queues.update("mail", concurrency=7) == jobs.queues.get("mail") == Queue("mail", 7)
    damage()
    assert jobs.queues.pause("mail") == jobs.queues.get("mail") == Queue("mail", paused=True)
    damage()
    assert jobs.queues.create("mail", weight=2) == jobs.queues.get("mail") == Queue("mail", weight=2)
    damage()
    with jobs._parts.connection as store:
        declare_queues(store, [Queue("mail", 4)])
    assert jobs.queues.get("mail") == Queue("mail", 4)


class TestHealth:
    def test_a_store_that_answers_is_well(self, jobs: Jobcard) -> None:
        """With its versions, size and time."""
        health = jobs.health()
        assert health.ok and health.problems == ()
        assert (health.store, health.schema_version, health.engines) == ("sqlite", 4, 0)
        assert health.version is not None and health.size_bytes is not None and health.size_bytes > 0
        assert health.latency_ms is not None and health.latency_ms > 0

    def test_a_dead_store_is_told_not_raised(self, tmp_path: Path, url: str) -> None:
        """Whatever is wrong stands under `problems`."""
        (tmp_path / "no.db").write_bytes(b"this is no database" * 1000)
        for wrong in (f"sqlite:///{tmp_path}/no.db", f"sqlite:///{tmp_path}", "foo://x"):
            with Jobcard(wrong) as jobs:
                health = jobs.health()
                assert not health.ok and len(health.problems) == 1
                assert health.latency_ms is None
        with Jobcard(url, migrate=False) as jobs:
            assert "schema" in jobs.health().problems[0]
