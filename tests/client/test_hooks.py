"""What an application hangs around its jobs, as far as the client is concerned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobcard import ConfigError, Enqueuing, InvalidJobError, Jobcard, JobClass, JobContext, JobGroup
from jobcard.client.functions import Call
from jobcard.core.ids import IdSource, follow_up_id


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add", queue="sums", tags=["declared"])
    def add(a: Any, b: Any = 2) -> Any:
        return a + b

    return add


class TestBeforeEnqueue:
    def test_it_sees_every_way_into_the_store(self, jobs: Jobcard, add: Any) -> None:
        """One, many, awaitable, by name, by an unknown name, of a class, of a group."""
        seen: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

        @jobs.before_enqueue
        def note(job: Enqueuing) -> None:
            seen.append((job.name, tuple(job.args), dict(job.kwargs)))

        group = JobGroup(prefix="mail.")

        @group.job(name="send")
        def send(to: str) -> None: ...

        @jobs.job(name="report")
        class Report(JobClass):
            def __init__(self, region: str) -> None: ...

            def run(self, day: int) -> None: ...

        async def awaitable() -> None:
            await add.enqueue_async(2)
            await jobs.enqueue_many_async([add.call(3), add.call(4)])

        jobs.include(group)
        add.enqueue(1, b=5)
        asyncio.run(awaitable())
        jobs.enqueue_many([add.call(5), add.options(delay=5).call(6)])
        jobs.enqueue("add", [7])
        jobs.enqueue("elsewhere", kwargs={"x": 8}, strict=False)
        send.enqueue("ann")
        Report.with_("eu").enqueue(9)
        assert seen == [
            ("add", (1,), {"b": 5}),
            *(("add", (number,), {}) for number in (2, 3, 4, 5, 6, 7)),
            ("elsewhere", (), {"x": 8}),
            ("mail.send", ("ann",), {}),
            ("report", (9,), {}),
        ]
        assert jobs.count().total == len(seen)

    def test_what_it_leaves_is_stored(self, jobs: Jobcard, add: Any) -> None:
        """Arguments and options; what it leaves alone stays as declared and said."""

        @jobs.before_enqueue
        def change(job: Enqueuing) -> None:
            job.args = [*job.args, 40]
            job.options["meta"] = {**(job.options.get("meta") or {}), "trace": "t1"}
            job.options["priority"] = job.options.get("priority", 0) + 1

        first = add.enqueue(1).refresh()
        assert (first.args, first.meta, first.priority) == ([1, 40], {"trace": "t1"}, 1)
        assert (first.queue, first.tags) == ("sums", ("declared",))
        bound = add.options(priority=5, meta={"user": 7}, tags=iter(["own"]), timeout=timedelta(seconds=3))
        for job in (bound.enqueue(2).refresh(), jobs.enqueue_many([bound.call(3)])[0].refresh()):
            assert (job.priority, job.meta, job.tags) == (6, {"user": 7, "trace": "t1"}, ("own",))
            assert job.timeout == timedelta(seconds=3)
        unknown = jobs.enqueue("elsewhere", [1], strict=False, queue="far").refresh()
        assert (unknown.args, unknown.queue, unknown.meta) == ([1, 40], "far", {"trace": "t1"})

    def test_one_enqueue_knows_nothing_of_another(self, jobs: Jobcard, add: Any) -> None:
        """However a hook changes what it is given: the same bound job starts from what it was told."""
        meta = {"list": ["a"]}
        bound = add.options(meta=meta, tags=["x"], delay=5)
        meta["list"].append("changed by the caller since")

        @jobs.before_enqueue
        def change(job: Enqueuing) -> None:
            assert job.options == {"meta": {"list": ["a"]}, "tags": ["x"], "delay": 5}
            job.options["meta"]["list"].append("b")  # type: ignore[index]
            job.options["tags"].append("y")  # type: ignore[attr-defined]
            del job.options["delay"]

        for _ in range(2):
            job = bound.enqueue(1).refresh()
            assert (job.meta, job.tags, job.hold) == ({"list": ["a", "b"]}, ("x", "y"), None)
        assert meta == {"list": ["a", "changed by the caller since"]}

    def test_what_was_not_given_is_not_there(self, jobs: Jobcard, add: Any) -> None:
        """None for delay, at, id and meta means nothing was said; for timeout and keep it says none."""
        seen: list[dict[str, Any]] = []
        jobs.before_enqueue(lambda job: seen.append(dict(job.options)))
        add.options(delay=None, at=None, id=None, meta=None, timeout=None, keep=None).enqueue(1)
        assert seen == [{"timeout": None, "keep": None}]

    def test_they_are_called_in_order(self, jobs: Jobcard, add: Any) -> None:
        """Each sees what those before it left."""
        jobs.before_enqueue(lambda job: setattr(job, "args", [f"{next(iter(job.args))} first"]))
        jobs.before_enqueue(lambda job: setattr(job, "args", [f"{next(iter(job.args))} second"]))
        assert add.enqueue("0").refresh().args == ["0 first second"]

    @pytest.mark.parametrize("many", [False, True])
    def test_what_it_raises_refuses(self, jobs: Jobcard, add: Any, many: bool) -> None:
        """Nothing of the call is stored, and the caller sees the hook's own error."""

        class NotTodayError(Exception): ...

        @jobs.before_enqueue
        def refuse(job: Enqueuing) -> None:
            if tuple(job.args) == (13,):
                raise NotTodayError

        with pytest.raises(NotTodayError):
            jobs.enqueue_many([add.call(1), add.call(13)]) if many else add.enqueue(13)
        assert jobs.count().total == 0

    def test_what_it_leaves_is_checked(self, jobs: Jobcard, add: Any) -> None:
        """As if the caller had said it; in a list with its place."""
        wrong: dict[str, Any] = {}

        @jobs.before_enqueue
        def spoil(job: Enqueuing) -> None:
            for name, value in wrong.items():
                setattr(job, name, value)

        for wrong in (  # noqa: B007 - the hook reads it
            {"args": (1, 2, 3)},
            {"args": "text"},
            {"args": 5},
            {"kwargs": []},
            {"kwargs": {"c": 1}},
            {"options": {"priority": "high"}},
            {"options": None},
            {"options": ["priority"]},
            {"options": {"delay": 1, "at": "x"}},
            {"args": (object(),)},
        ):
            with pytest.raises(InvalidJobError):
                add.enqueue(1)
            with pytest.raises(InvalidJobError) as caught:
                jobs.enqueue_many([add.call(1)])
            assert caught.value.index == 0
        wrong = {"options": {"prioritty": 1}}
        with pytest.raises(ConfigError, match="priority"):
            add.enqueue(1)
        wrong = {"name": "other"}
        with pytest.raises(AttributeError):
            add.enqueue(1)
        assert jobs.count().total == 0

    def test_an_id_it_gives_is_a_given_id(self, jobs: Jobcard, add: Any) -> None:
        """Repeating it makes no second job, and says so."""
        own = uuid4()

        @jobs.before_enqueue
        def name(job: Enqueuing) -> None:
            job.options["id"] = own

        first, second = add.enqueue(1), add.enqueue(1)
        (third,) = jobs.enqueue_many([add.call(1)])
        assert first.id == second.id == third.id == own
        assert (first.duplicate, second.duplicate, third.duplicate) == (False, True, True)

    def test_only_a_plain_function_will_do(self, jobs: Jobcard) -> None:
        """A coroutine would never run."""

        async def wrong(job: Enqueuing) -> None: ...

        for value in (wrong, None, 5):
            with pytest.raises(ConfigError):
                jobs.before_enqueue(value)  # type: ignore[type-var]


class TestAroundRun:
    def test_they_are_kept_in_order_for_the_worker(self, jobs: Jobcard) -> None:
        """As functions of the context that return a context manager, whatever they were written as."""

        @jobs.around_run
        def generator(ctx: JobContext) -> Iterator[None]:
            yield

        @jobs.around_run
        @contextmanager
        def manager(ctx: JobContext) -> Iterator[None]:
            yield

        @jobs.around_run
        async def async_generator(ctx: JobContext) -> AsyncIterator[None]:
            yield

        class Object:
            def __init__(self, ctx: JobContext) -> None: ...
            def __enter__(self) -> None: ...
            def __exit__(self, *_: object) -> None: ...

        assert jobs.around_run(Object) is Object
        first, second, third, fourth = (hook(None) for hook in jobs.parts.hooks.around_run)  # type: ignore[arg-type]
        assert isinstance(first, AbstractContextManager) and isinstance(second, AbstractContextManager)
        assert isinstance(third, AbstractAsyncContextManager) and isinstance(fourth, Object)
        assert callable(generator) and not isinstance(generator(None), AbstractContextManager)  # type: ignore[arg-type]

    def test_a_generator_hears_how_the_job_ended(self, jobs: Jobcard) -> None:
        """It really wraps: an error comes out of its `yield`, a signal like `Retry` too."""
        heard: list[str] = []

        @jobs.around_run
        def around(ctx: JobContext) -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                heard.append(type(error).__name__)
                raise

        (hook,) = jobs.parts.hooks.around_run
        for error in (ValueError, KeyboardInterrupt):
            with pytest.raises(error), hook(None):  # type: ignore[arg-type,union-attr]
                raise error
        assert heard == ["ValueError", "KeyboardInterrupt"]

    def test_only_a_function_will_do(self, jobs: Jobcard) -> None:
        """A coroutine function is none that gives a context manager."""

        async def wrong(ctx: JobContext) -> None: ...

        for value in (wrong, None, 5):
            with pytest.raises(ConfigError):
                jobs.around_run(value)  # type: ignore[type-var]


class TestFollowUps:
    def new(self, jobs: Jobcard, call: Any) -> Any:
        [self.parent] = IdSource().take(1)
        self.id = follow_up_id(self.parent, 0)
        return jobs.parts.producer.new_follow_up(call, self.id, self.parent)

    def test_it_is_a_job_like_any_other(self, jobs: Jobcard, add: Any) -> None:
        """With the ids it is given, and with the options of its call; nothing is stored yet."""
        job = self.new(jobs, add.options(priority=3, delay=60, tags=["x"]).call(1, b=5))
        assert jobs.count().total == 0
        with jobs.parts.connection as store:
            store.enqueue([job])
        found = jobs.get(UUID(bytes=self.id))
        assert (found.name, found.args, found.kwargs, found.parent_id) == (
            "add",
            [1],
            {"b": 5},
            UUID(bytes=self.parent),
        )
        assert (found.queue, found.priority, found.hold, found.tags) == ("sums", 3, "delay", ("x",))

    def test_it_is_checked_like_any_other(self, jobs: Jobcard, add: Any) -> None:
        """Arguments, and whose job it is; an id of its own is refused."""
        for call in (add.call(1, 2, 3), add.call(object()), add.options(id=uuid4()).call(1), add, None, "add"):
            with pytest.raises(InvalidJobError):
                self.new(jobs, call)
        with Jobcard() as other, pytest.raises(ConfigError):
            self.new(other, add.call(1))

    def test_hooks_hear_of_it(self, jobs: Jobcard, add: Any) -> None:
        """As of every job that is about to be stored."""
        jobs.before_enqueue(lambda job: job.options.update(priority=7))
        call: Call[int] = add.call(1)
        assert self.new(jobs, call).priority == 7

    def test_the_ageing_of_its_queue_counts(self, jobs: Jobcard, add: Any) -> None:
        """It stands in line as if it had been enqueued."""
        jobs.queues.create("sums", ageing=2)
        job = self.new(jobs, add.options(priority=3).call(1))
        assert (job.rank, job.order_offset) == (0, -6_000_000)
