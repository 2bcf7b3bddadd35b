"""What is stored, what is refused before anything is sent, and what a lost answer means."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from jobcard import (
    ConfigError,
    DuplicateJobError,
    EnqueueUnknownError,
    InvalidJobError,
    Jobcard,
    SerializationError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
    Unique,
    UnknownJobError,
)
from jobcard.backends.base import Enqueued
from jobcard.backends.registry import open_backend
from jobcard.client import producer
from jobcard.client.functions import JobFunction
from jobcard.core.job import NewJob

Add = JobFunction[Any, int, Any, int]


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add")
    def add(a: Any, b: Any = 2) -> Any:
        return a + b

    return add


def now() -> datetime:
    return datetime.now(UTC)


class TestOne:
    def test_a_job_is_stored_as_called(self, jobs: Jobcard, add: Any) -> None:
        """Positional and named arguments stay apart; a handle carries the id, which rises."""
        first, second = add.enqueue(1, b=2), add.enqueue(3, 4)
        assert isinstance(first.id, UUID) and first.id < second.id
        job = first.refresh()
        assert (job.name, job.args, job.kwargs, job.state, job.hold) == ("add", [1], {"b": 2}, "waiting", None)
        assert (second.refresh().args, second.refresh().kwargs) == ([3, 4], {})
        assert not first.duplicate

    def test_arguments_are_those_of_the_moment(self, jobs: Jobcard, add: Any) -> None:
        """What the caller changes afterwards changes nothing."""
        items, meta = [1], {"trace": ["a"]}
        job = add.options(meta=meta)
        handle = job.enqueue(items)
        items.append(2)
        meta["trace"].append("b")
        assert handle.refresh().args == [[1]]
        assert job.enqueue(1).refresh().meta == {"trace": ["a"]}

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"c": 1}), ((), {"b": 1}), ((1,), {5: 1})],
        ids=str,
    )
    def test_wrong_arguments_show_the_signature(self, jobs: Jobcard, add: Any, args: Any, kwargs: Any) -> None:
        """They are refused before the store, in a sentence that names the parameters."""
        with pytest.raises((InvalidJobError, TypeError)) as caught:
            add.enqueue(*args, **kwargs)
        if 5 not in kwargs:
            assert "add(a: Any, b: Any = 2)" in str(caught.value)
        assert jobs.count().total == 0

    @pytest.mark.parametrize(
        "value",
        [
            float("nan"), float("inf"), 10**5000, {1: 2}, {None: 1}, {(1,): 2}, object(), lambda: 0, {"a": [{"b": 1j}]},
            Enum("E", "A").A, (n for n in ()), type("D", (dict,), {})(), bytearray(b"a"), Path("x"),
            "x" * (1 << 20),
        ],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_a_value_that_does_not_survive_is_refused(self, jobs: Jobcard, add: Any, value: Any) -> None:
        """It is a `SerializationError`, never `str()` by stealth, and nothing is stored."""
        for arguments in ((value,), (1, value)):
            with pytest.raises(SerializationError):
                add.enqueue(*arguments)
        with pytest.raises(SerializationError):
            add.enqueue(1, b=value)
        assert jobs.count().total == 0

    def test_a_value_that_refers_to_itself_or_is_too_deep_is_refused(self, jobs: Jobcard, add: Any) -> None:
        """No crash, however deep; a hundred levels are fine."""
        endless: list[Any] = []
        endless.append(endless)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        fine: list[Any] = []
        for _ in range(99):
            fine = [fine]
        for value in (endless, deep):
            with pytest.raises(SerializationError):
                add.enqueue(value)
        assert add.enqueue(fine).refresh().args == [fine]


class TestOptions:
    def test_they_are_stored(self, jobs: Jobcard, add: Any) -> None:
        """Each option of one enqueue wins over the declaration; the bound job may be used again."""
        job = add.options(
            queue="other", priority=-3, delay=timedelta(minutes=1), timeout=2.5, max_attempts=1, tags=("x", "y"),
            keep=60, meta={"traceparent": "00-1"},
        )  # fmt: skip
        for handle in (job.enqueue(1), job.enqueue(2)):
            stored = handle.refresh()
            assert (stored.queue, stored.priority, stored.max_attempts) == ("other", -3, 1)
            assert (stored.timeout, stored.tags) == (timedelta(seconds=2.5), ("x", "y"))
            assert stored.meta == {"traceparent": "00-1"}
            assert stored.hold == "delay"
            assert stored.available_at - stored.created_at == timedelta(minutes=1)
        assert add.enqueue(1).refresh().queue == "default"

    def test_they_add_up(self, jobs: Jobcard, add: Any) -> None:
        """Options of options: the last word counts, and of delay and at the last one."""
        at = datetime(2199, 1, 1, tzinfo=UTC)
        stored = add.options(priority=3, delay=60).options(queue="q", at=at).enqueue(1).refresh()
        assert (stored.priority, stored.queue, stored.available_at) == (3, "q", at)
        again = add.options(at=at).options(delay=0).enqueue(1).refresh()
        assert again.available_at == again.created_at
        assert add.options(timeout=5).options(timeout=None).enqueue(1).refresh().timeout is None

    def test_an_instant_is_taken_as_it_is(self, jobs: Jobcard, add: Any) -> None:
        """In any zone, both sides of a repeated hour, past or future."""
        berlin = ZoneInfo("Europe/Berlin")
        for at in (
            datetime(2027, 10, 31, 2, 30, tzinfo=berlin),
            datetime(2027, 10, 31, 2, 30, tzinfo=berlin, fold=1),
            datetime(2027, 3, 28, 2, 30, tzinfo=berlin),
            datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            datetime(1970, 1, 1, tzinfo=UTC),
        ):
            assert add.options(at=at).enqueue(1).refresh().available_at == at.astimezone(UTC)

    @pytest.mark.parametrize(
        "options",
        [
            {"queue": "\0"}, {"queue": "\ud800"}, {"queue": "q "}, {"queue": ""}, {"queue": " "}, {"queue": "."},
            {"queue": ".."}, {"queue": None}, {"queue": b"q"}, {"queue": 5}, {"queue": "x" * 10_000},
            {"queue": {"$gt": ""}}, {"queue": "$where"}, *({"queue": f"a{mark}"} for mark in "'\";%\\?#&<>`${}*"),
            {"at": datetime(2030, 1, 1)}, {"at": datetime.max}, {"at": datetime.max.replace(tzinfo=UTC)},
            {"at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))},
            {"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
            {"at": datetime(2201, 1, 1, tzinfo=UTC)}, {"at": "2030-01-01"}, {"at": 5},
            {"delay": -(10**9)}, {"delay": 10**12}, {"delay": timedelta.max}, {"delay": 1e18},
            {"delay": float("nan")}, {"delay": "5"}, {"delay": True},
            {"delay": 5, "at": datetime(2030, 1, 1, tzinfo=UTC)},
            {"priority": 1 << 31}, {"priority": -(1 << 31) - 1}, {"priority": 1 << 63}, {"priority": 1.5},
            {"priority": float("nan")}, {"priority": "1"}, {"priority": None},
            {"max_attempts": 0}, {"max_attempts": -1}, {"max_attempts": 1001}, {"max_attempts": 10**9},
            {"timeout": 0}, {"timeout": -1}, {"timeout": 1e-9}, {"timeout": float("inf")}, {"timeout": "5"},
            {"id": "x"}, {"id": 5}, {"id": b"0" * 16}, {"id": "g" * 32}, {"id": "0" * 10_000},
            {"tags": "a"}, {"tags": ["a b"]}, {"tags": [5]}, {"tags": ["x"] + [str(n) for n in range(10)]},
            {"keep": -1}, {"keep": "1"}, {"meta": [1]}, {"meta": {1: 2}}, {"meta": {"a": print}},
            {"meta": {"a": "x" * 70_000}},
        ],
        ids=lambda options: str(options)[:60],
    )  # fmt: skip
    def test_a_bad_one_is_refused_before_the_store(self, jobs: Jobcard, add: Any, options: dict[str, Any]) -> None:
        """It is an `InvalidJobError`, with the job's own declaration and by name alike."""
        for call in (lambda: add.options(**options).enqueue(1), lambda: jobs.enqueue("add", [1], **options)):
            with pytest.raises(InvalidJobError) as caught:
                call()
            assert len(str(caught.value)) < 300
        assert jobs.count().total == 0
        assert jobs.queues.names() == []

    def test_what_is_allowed_at_the_edge(self, jobs: Jobcard, add: Any) -> None:
        """A little in the past is now; None means not given; names of any script are names."""
        stored = add.options(delay=-5, at=None, id=None, meta=None).enqueue(1).refresh()
        assert stored.available_at == stored.created_at
        for queue in ("A", "a", "é", "e\u0301", "队列", "a._:-/@+1"):
            assert add.options(queue=queue).enqueue(1).refresh().queue == queue
        assert add.options(priority=-32_768).enqueue(1).refresh().priority == -32_768

    def test_a_misspelt_one_names_the_nearest(self, jobs: Jobcard, add: Any) -> None:
        """`dellay` is not ignored."""
        with pytest.raises(ConfigError, match="'delay'"):
            add.options(dellay=5)
        with pytest.raises(ConfigError, match="'delay'"):
            jobs.enqueue("add", [1], dellay=5)  # type: ignore[call-arg]


class TestRepeating:
    def test_the_same_again_gives_the_job_that_is_there(self, jobs: Jobcard, add: Any) -> None:
        """By UUID or by text, alone or in bulk: one job, and the handle says that it was there."""
        job_id = uuid4()
        job = add.options(id=job_id)
        first = job.enqueue(1)
        again = [job.enqueue(1), add.options(id=str(job_id)).enqueue(1), *jobs.enqueue_many([job.call(1), job.call(1)])]
        assert not first.duplicate and all(handle.duplicate for handle in again)
        assert {handle.id for handle in (first, *again)} == {job_id}
        assert jobs.count().total == 1

    def test_other_content_is_refused(self, jobs: Jobcard, add: Any) -> None:
        """The stored job is unchanged."""
        job = add.options(id=uuid4())
        first = job.enqueue(1)
        before = first.refresh()
        for call in (lambda: job.enqueue(2), lambda: jobs.enqueue("other", id=first.id, strict=False)):
            with pytest.raises(DuplicateJobError) as caught:
                call()
            assert caught.value.job_id == caught.value.existing_id == first.id
        with pytest.raises(DuplicateJobError):
            jobs.enqueue_many([job.call(3)])
        assert first.refresh() == before

    def test_twice_in_one_call(self, jobs: Jobcard, add: Any) -> None:
        """The first counts, another content of the same id is refused."""
        job = add.options(id=uuid4())
        one, two = jobs.enqueue_many([job.call(1), job.call(1)])
        assert (one, one.duplicate, two.duplicate) == (two, False, True)
        other = add.options(id=uuid4())
        with pytest.raises(DuplicateJobError):
            jobs.enqueue_many([other.call(1), other.call(2)])


class TestByName:
    def test_a_declared_job_is_checked_and_has_its_options(self, jobs: Jobcard, add: Any) -> None:
        """The name is enough where the function is known."""
        assert jobs.enqueue("add", [1], {"b": 5}, priority=4).refresh().priority == 4
        with pytest.raises(InvalidJobError, match="missing a required argument"):
            jobs.enqueue("add")

    def test_an_unknown_name_is_refused_unless_told_otherwise(self, jobs: Jobcard, add: Any) -> None:
        """Where jobs are declared a misspelt one is found; where none are, all are somebody else's."""
        with pytest.raises(UnknownJobError, match="did you mean 'add'"):
            jobs.enqueue("addd", [1])
        assert jobs.enqueue("else.where", [1], strict=False).refresh().args == [1]
        with Jobcard(jobs.settings.url) as producer_only:
            assert producer_only.enqueue("else.where", {1}, {"a": 2}).refresh().kwargs == {"a": 2}

    @pytest.mark.parametrize("name", ["", " ", "a b", "a\0b", None, 5, b"x", "x" * 201, "x;drop", "\ud800"])
    def test_a_bad_name_is_refused(self, jobs: Jobcard, name: Any) -> None:
        """Before the store, whoever knows jobs."""
        with pytest.raises(InvalidJobError):
            jobs.enqueue(name, strict=False)

    @pytest.mark.parametrize(("args", "kwargs"), [("text", {}), (5, {}), ([], [1]), ([], {1: 2}), ([object()], {})])
    def test_bad_arguments_are_refused(self, jobs: Jobcard, args: Any, kwargs: Any) -> None:
        """A text is no list of arguments."""
        with pytest.raises(InvalidJobError):
            jobs.enqueue("x", args, kwargs)
        assert jobs.count().total == 0


class TestMany:
    def test_handles_come_in_order(self, jobs: Jobcard, add: Any) -> None:
        """More than a thousand go in steps; ids rise in the order of the calls."""
        handles = jobs.enqueue_many(add.call(n) for n in range(2500))
        assert [handle.id for handle in handles] == sorted(handle.id for handle in handles)
        assert jobs.count().total == 2500
        assert [handles[n].refresh().args for n in (0, 999, 1000, 2499)] == [[0], [999], [1000], [2499]]

    def test_none_is_nothing(self, jobs: Jobcard) -> None:
        """An empty call is no error."""
        assert jobs.enqueue_many([]) == []

    def test_jobs_of_all_kinds_go_together(self, jobs: Jobcard, add: Any) -> None:
        """Each with its own options."""

        @jobs.job(queue="mail")
        def other() -> None: ...

        handles = jobs.enqueue_many([add.call(1), other.call(), add.options(priority=5).call(2)])
        assert [handle.refresh().queue for handle in handles] == ["default", "mail", "default"]
        assert [handle.refresh().priority for handle in handles] == [0, 0, 5]

    @pytest.mark.parametrize("index", [0, 777, 1999])
    @pytest.mark.parametrize("bad", ["arguments", "value", "no call"])
    def test_one_bad_item_stores_none(self, jobs: Jobcard, add: Any, index: int, bad: str) -> None:
        """The error says which; nothing of the call is stored, the steps before it neither."""
        calls: list[Any] = [add.call(n) for n in range(2000)]
        calls[index] = {"arguments": add.call(), "value": add.call(float("nan")), "no call": add}[bad]
        with pytest.raises(InvalidJobError, match=rf"calls\[{index}\]") as caught:
            jobs.enqueue_many(calls)
        assert caught.value.index == index
        assert jobs.count().total == 0

    def test_calls_of_another_client_are_refused(self, jobs: Jobcard, add: Any, tmp_path: Path) -> None:
        """They would go to the wrong store."""
        with Jobcard(f"sqlite:///{tmp_path}/other.db") as other, pytest.raises(ConfigError, match="another"):
            other.enqueue_many([add.call(1)])


class Flaky:
    """A real store whose enqueue fails as told, before or after it stored the jobs."""

    def __init__(self, url: str) -> None:
        self.store = open_backend(url)
        self.store.migrate()
        self.failures: list[tuple[str, Exception]] = []
        self.calls = 0

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        self.calls += 1
        when, error = self.failures.pop(0) if self.failures else ("", None)
        if when == "before" and error is not None:
            raise error
        answers = self.store.enqueue(jobs)
        if when == "after" and error is not None:
            raise error
        return answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class TestLostAnswers:
    @pytest.fixture
    def flaky(self, url: str) -> Flaky:
        return Flaky(url)

    @pytest.fixture
    def jobs(self, flaky: Flaky) -> Any:
        with Jobcard(backend=flaky) as client:
            yield client

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_lost_answer_is_asked_again(self, jobs: Jobcard, add: Any, flaky: Flaky, when: str) -> None:
        """Whether the job was stored or not: the same ids again give exactly one, and no duplicate is told."""
        flaky.failures = [(when, StoreUnavailableError("busy"))] * 2
        handle = add.enqueue(1)
        assert (handle.duplicate, flaky.calls, jobs.count().total) == (False, 3, 1)
        flaky.failures = [(when, StoreUnavailableError("busy"))]
        handles = jobs.enqueue_many([add.call(n) for n in range(1500)])
        assert not any(handle.duplicate for handle in handles)
        assert jobs.count().total == 1501

    @pytest.mark.parametrize("what", ["replaced", "deleted"])
    def test_what_became_of_it_meanwhile_makes_it_no_duplicate(
        self, jobs: Jobcard, flaky: Flaky, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody else has the id that was made for it: the try whose answer was lost has stored it."""
        per = None if what == "replaced" else "ever"

        @jobs.job(name="index", unique=Unique(by="page", per=per, on_conflict="replace"))
        def index(page: str, version: int) -> None: ...

        def others_do() -> None:
            (stored,) = jobs.iterate()
            if what == "replaced":
                assert index.enqueue("home", 2).id == stored.id
            else:
                jobs.cancel(stored.id)
                assert jobs.delete_finished(older_than=0) == 1

        def others_go_on(_seconds: float) -> None:
            with ThreadPoolExecutor(1) as other:  # this thread is in the middle of its call
                other.submit(others_do).result()

        flaky.failures = [("after", StoreUnavailableError("busy"))]
        monkeypatch.setattr("jobcard.client.producer.time.sleep", others_go_on)
        handle = index.enqueue("home", 1)
        assert not handle.duplicate
        assert [(job.id == handle.id, job.args) for job in jobs.iterate()] == (
            [(True, ["home", 2])] if what == "replaced" else []
        )

    def test_in_the_end_the_ids_are_told(
        self, jobs: Jobcard, add: Any, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who gives up learns the ids of all jobs of the call, and that repeating them is safe."""
        monkeypatch.setattr(producer, "PATIENCE", 0.05)
        flaky.failures = [("after", StoreUnavailableError("away"))] * 100
        with pytest.raises(EnqueueUnknownError) as caught:
            add.enqueue(1)
        (job_id,) = caught.value.ids
        assert isinstance(caught.value.__cause__, StoreUnavailableError)
        flaky.failures = []
        handle = add.options(id=job_id).enqueue(1)
        assert (handle.id, jobs.count().total) == (job_id, 1)
        flaky.failures = [("", StoreUnavailableError())] + [("before", StoreUnavailableError("away"))] * 100
        with pytest.raises(EnqueueUnknownError) as caught:
            jobs.enqueue_many([add.call(n) for n in range(1500)])
        assert len(caught.value.ids) == 1500

    @pytest.mark.parametrize("error", [StoreFullError("no room"), StoreMovedError("sealed"), StoreError("broken")])
    def test_an_error_after_a_step_names_all_jobs(
        self, jobs: Jobcard, add: Any, flaky: Flaky, error: StoreError
    ) -> None:
        """Nobody is told that nothing was stored when some jobs are; repeating with the ids completes the call."""
        flaky.failures = [("", error), ("before", error)]
        with pytest.raises(EnqueueUnknownError) as caught:
            jobs.enqueue_many([add.call(n) for n in range(1500)])
        assert caught.value.__cause__ is error
        assert (len(caught.value.ids), jobs.count().total) == (1500, 1000)
        jobs.enqueue_many([add.options(id=job_id).call(n) for n, job_id in enumerate(caught.value.ids)])
        assert jobs.count().total == 1500

    def test_an_error_that_tells_nothing_names_the_jobs(self, jobs: Jobcard, add: Any, flaky: Flaky) -> None:
        """Only of a full and of a sealed store is it known that nothing was stored."""
        flaky.failures = [("after", StoreError("broken"))]
        with pytest.raises(EnqueueUnknownError) as caught:
            add.enqueue(1)
        assert jobs.get(caught.value.ids[0]).args == [1]
        flaky.failures = [("before", StoreMovedError("sealed"))]
        with pytest.raises(StoreMovedError):
            jobs.enqueue_many([add.call(n) for n in range(1500)])

    def test_full_after_a_lost_answer_names_the_job(self, jobs: Jobcard, add: Any, flaky: Flaky) -> None:
        """The try whose answer was lost may have stored it."""
        flaky.failures = [("after", StoreUnavailableError("busy")), ("before", StoreFullError("no room"))]
        with pytest.raises(EnqueueUnknownError) as caught:
            add.enqueue(1)
        assert jobs.get(caught.value.ids[0]).args == [1]

    def test_a_full_store_is_told_at_once(self, jobs: Jobcard, add: Any, flaky: Flaky) -> None:
        """Only what may pass is tried again."""
        flaky.failures = [("before", StoreFullError("no room"))]
        with pytest.raises(StoreFullError):
            add.enqueue(1)
        assert flaky.calls == 1


def test_many_threads_enqueue_at_once(jobs: Jobcard, add: Any) -> None:
    """Each job is stored once, whatever the threads do."""
    handles: list[Any] = []

    def work() -> None:
        for n in range(50):
            handles.append(add.enqueue(n))
            handles.extend(jobs.enqueue_many([add.call(n), add.call(n)]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({handle.id for handle in handles}) == jobs.count().total == 900


def test_a_million_numbers_are_quick_enough(jobs: Jobcard, add: Any) -> None:
    """A large argument within the limit is checked and stored, far below the time a caller would notice."""
    began = time.monotonic()
    add.enqueue([1] * 500_000)
    assert time.monotonic() - began < 10
