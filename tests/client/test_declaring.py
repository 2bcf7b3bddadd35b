"""Jobs as code declares them: names, options, classes, groups."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hands import Hands

from jobcard import Backoff, ConfigError, InvalidJobError, Jobcard, JobClass, JobContext, JobGroup, current_job
from jobcard.core.job import JobRow

shared = Jobcard()


@shared.job
def importable(a: int) -> int:
    """Doubles."""
    return 2 * a


def stored(jobs: Jobcard, handle: Any) -> JobRow:
    with jobs._parts.connection as store:
        return store.get([handle.id.bytes])[0]


class TestFunctions:
    def test_a_job_stays_the_function_it_was(self) -> None:
        """Calling it runs it here; its name, module, docstring and place for pickling are kept."""
        assert importable(4) == 8
        assert (importable.__name__, importable.__module__) == ("importable", __name__)
        assert importable.__doc__ == "Doubles."
        assert pickle.loads(pickle.dumps(importable)) is importable  # noqa: S301
        assert "importable" in repr(importable)

    def test_the_name_is_module_and_function(self, jobs: Jobcard) -> None:
        """Functions inside functions leave out `<locals>`."""

        @jobs.job
        def inner() -> None: ...

        assert importable.name == f"{__name__}.importable"
        assert inner.name == f"{__name__}.TestFunctions.test_the_name_is_module_and_function.inner"

    def test_options_reach_the_store(self, jobs: Jobcard) -> None:
        """What is declared is stored with each job."""

        @jobs.job(
            name="mail.welcome", queue="mail", priority=7, max_attempts=9, max_crashes=2, timeout=timedelta(seconds=60),
            backoff=Backoff.fixed(5), keep=3600, tags=["b", "a", "b"],
        )  # fmt: skip
        def welcome() -> None: ...

        row = stored(jobs, welcome.enqueue())
        assert (row.name, row.queue, row.priority, row.rank) == ("mail.welcome", "mail", 7, -7)
        assert (row.max_attempts, row.max_crashes, row.timeout, row.keep) == (9, 2, 60_000_000, 3_600_000_000)
        assert row.backoff == Backoff.fixed(5).to_text()
        assert welcome.enqueue().refresh().tags == ("b", "a")

    def test_defaults(self, jobs: Jobcard) -> None:
        """Without options: five attempts, three crashes, no timeout, exponential back-off, the queue "default"."""

        @jobs.job
        def plain() -> None: ...

        row = stored(jobs, plain.enqueue())
        assert (row.queue, row.priority, row.max_attempts, row.max_crashes) == ("default", 0, 5, 3)
        assert (row.timeout, row.keep, row.tags, row.meta) == (None, None, None, None)
        assert row.backoff == Backoff.exponential().to_text()

    def test_an_alias_is_run_and_enqueued_as_the_job(self, jobs: Jobcard, hands: Hands) -> None:
        """Jobs stored under a former name are still known."""

        @jobs.job(name="new", aliases=("old", "older"))
        def job(a: int) -> int:
            return a + 1

        assert jobs.registry.names() == ["new", "old", "older"]
        handle = jobs.enqueue("old", [4])
        assert handle.refresh().name == "new"
        assert hands.run(jobs) == 1
        assert handle.result(timeout=5) == 5

    @pytest.mark.parametrize(
        "options",
        [
            {"name": ""}, {"name": "a b"}, {"name": "a\0"}, {"name": "\ud800"}, {"name": 5}, {"name": "x" * 201},
            {"aliases": "old"}, {"aliases": ["a b"]}, {"queue": "q "}, {"queue": None}, {"queue": {"$gt": ""}},
            {"priority": 1 << 31}, {"priority": 1.5}, {"priority": True}, {"max_attempts": 0}, {"max_attempts": 10**9},
            {"max_crashes": 0}, {"timeout": 0}, {"timeout": -1}, {"timeout": 1e-9}, {"timeout": float("inf")},
            {"timeout": "5"}, {"memory_limit": 5}, {"memory_limit": 1.5}, {"backoff": 5}, {"isolation": "thread"},
            {"isolation": 5}, {"isolation": ["shared"]}, {"isolation": ""}, {"on_lost_lease": "ask"},
            {"on_lost_lease": None}, {"on_lost_lease": True}, {"max_crashes": "3"}, {"max_crashes": 10**9},
            {"keep": -1}, {"tags": "a"}, {"tags": ["a b"]}, {"tags": [str(n) for n in range(11)]}, {"tags": 5},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_bad_option_is_refused_where_it_stands(self, jobs: Jobcard, options: dict[str, Any]) -> None:
        """Nothing is registered then."""

        def job() -> None: ...

        with pytest.raises(ConfigError):
            jobs.job(**options)(job)
        assert len(jobs.registry) == 0

    @pytest.mark.parametrize("grouped", [False, True])
    def test_isolation_follows_from_the_function(self, jobs: Jobcard, grouped: bool) -> None:
        """A coroutine shares its worker, a function has it to itself, unless the declaration says otherwise."""
        declares: Any = JobGroup() if grouped else jobs
        if grouped:
            jobs.include(declares)

        async def coroutine() -> None: ...

        def function() -> None: ...

        declares.job(name="coroutine")(coroutine)
        declares.job(name="function", isolation=None)(function)
        for isolation in ("process", "fresh", "shared"):
            declares.job(name=isolation, isolation=isolation, on_lost_lease="tell", max_crashes=7)(coroutine)
        found = {job.name: job for job in jobs.registry}
        assert (found["coroutine"].isolation, found["function"].isolation) == ("shared", "process")
        assert found["coroutine"].options.on_lost_lease == "kill"
        for isolation in ("process", "fresh", "shared"):
            options = found[isolation].options
            assert found[isolation].isolation == isolation
            assert (options.on_lost_lease, options.max_crashes) == ("tell", 7)

    def test_what_cannot_be_a_job_is_refused(self, jobs: Jobcard) -> None:
        """A generator never runs to its end, a lambda has no name, a job is not declared twice."""

        def generator() -> Iterator[int]:
            yield 1

        async def async_generator() -> AsyncIterator[int]:
            yield 1

        for target in (generator, async_generator, lambda: None, 5, importable, "text"):
            with pytest.raises(ConfigError):
                jobs.job(target)
        assert jobs.job(name="named")(lambda: None).name == "named"

    def test_a_name_belongs_to_one_job(self, jobs: Jobcard) -> None:
        """Two jobs with one name, or an alias that is another's name, are refused; the first stays."""

        @jobs.job(name="a", aliases=["b"])
        def first() -> None: ...

        def second() -> None: ...

        for options in ({"name": "a"}, {"name": "b"}, {"name": "c", "aliases": ["a"]}, {"name": "c", "aliases": ["b"]}):
            with pytest.raises(ConfigError, match="two jobs"):
                jobs.job(**options)(second)
        found = jobs.registry.find("b")
        assert found is not None and found.target is first.__wrapped__
        assert jobs.registry.names() == ["a", "b"]

    def test_a_reloaded_module_takes_its_own_place(self, jobs: Jobcard) -> None:
        """The same function declared again replaces itself, its former aliases are gone."""

        def declare(*aliases: str) -> Any:
            @jobs.job(aliases=aliases)
            def job() -> None: ...

            return job

        declare("x", "y")
        last = declare("y")
        assert len(jobs.registry) == 1
        assert jobs.registry.names() == sorted([last.name, "y"])
        found = jobs.registry.find(last.name)
        assert found is not None and found.target is last.__wrapped__


@dataclass(frozen=True)
class Order:
    number: int
    day: date


class TestRunning:
    def test_arguments_and_results_come_back_by_their_annotations(self, jobs: Jobcard, hands: Hands) -> None:
        """A dataclass, a path, a date arrive as what they were, and so does the result."""

        @jobs.job
        def ship(order: Order, *others: Order, to: Path, **more: date) -> list[Order]:
            assert isinstance(to, Path) and all(type(day) is date for day in more.values())
            return [order, *others]

        one, two = Order(1, date(2026, 1, 2)), Order(2, date(2026, 1, 3))
        handle = ship.enqueue(one, two, to=Path("/a"), on=date(2026, 1, 4))
        assert hands.run(jobs) == 1
        assert handle.result(timeout=5) == [one, two]

    def test_the_context_is_filled_in(self, jobs: Jobcard, hands: Hands) -> None:
        """A first parameter annotated `JobContext` is not part of the enqueue; it knows the job."""

        @jobs.job(timeout=60)
        def job(ctx: JobContext, a: int) -> list[object]:
            return [str(ctx.job.id), ctx.job.args, ctx.attempt, ctx.token, ctx.job.state.value, a]

        @jobs.job
        def maybe(ctx: JobContext | None, a: int) -> bool:
            return ctx is not None

        handle, other = job.enqueue(5), maybe.enqueue(1)
        assert hands.run(jobs, 2) == 2
        assert handle.result(timeout=5) == [str(handle.id), [5], 1, 1, "running", 5]
        assert other.result(timeout=5) is True
        with pytest.raises(InvalidJobError, match="a: int"):
            job.enqueue(5, 6)
        assert maybe(None, 1) is False
        assert current_job() is None

    def test_a_coroutine_runs_to_its_end(self, jobs: Jobcard, hands: Hands) -> None:
        """An `async def` job gets a loop of its own."""

        @jobs.job
        async def job(ctx: JobContext, a: int) -> int:
            import asyncio

            await asyncio.sleep(0)
            return a + ctx.attempt

        handle = job.enqueue(1)
        assert hands.run(jobs) == 1
        assert handle.result(timeout=5) == 2


class TestClasses:
    def test_constructor_and_run_are_stored_apart(self, jobs: Jobcard, hands: Hands) -> None:
        """`with_` gives the constructor's arguments, rebuilt in the worker by their annotations."""

        @jobs.job(queue="reports", timeout=5)
        class Report(JobClass):
            def __init__(self, region: str, since: date, *, big: bool = False) -> None:
                self.region, self.since, self.big = region, since, big

            def run(self, ctx: JobContext, day: date) -> list[object]:
                return [self.region, (day - self.since).days, self.big, ctx.attempt]

        handle = Report.with_("eu", since=date(2026, 1, 1), big=True).options(priority=3).enqueue(date(2026, 1, 3))
        job = handle.refresh()
        assert job.init == {"args": ["eu"], "kwargs": {"since": date(2026, 1, 1), "big": True}}
        assert (job.queue, job.priority, job.args) == ("reports", 3, [date(2026, 1, 3)])
        assert hands.run(jobs, 1, "reports") == 1
        assert handle.result(timeout=5) == ["eu", 2, True, 1]

    def test_without_constructor_arguments_it_is_enqueued_directly(self, jobs: Jobcard, hands: Hands) -> None:
        """The class stays the class."""

        @jobs.job
        class Daily(JobClass):
            def run(self, a: int) -> int:
                return a

        assert isinstance(Daily(), Daily)
        handles = [Daily.enqueue(3), *jobs.enqueue_many([Daily.with_().call(4)]), jobs.enqueue(handle_name(Daily), [5])]
        assert hands.run(jobs, 3) == 3
        assert [handle.result(timeout=5) for handle in handles] == [3, 4, 5]

    def test_wrong_constructor_arguments_are_refused(self, jobs: Jobcard) -> None:
        """They show the constructor's signature; nothing is stored."""

        @jobs.job
        class Report(JobClass):
            def __init__(self, region: str) -> None: ...

            def run(self) -> None: ...

        for wrong in (
            lambda: Report.with_(),  # type: ignore[call-arg]
            lambda: Report.with_("a", "b"),  # type: ignore[call-arg]
            lambda: Report.enqueue(),  # type: ignore[misc]
            lambda: jobs.enqueue(handle_name(Report)),
        ):
            with pytest.raises(InvalidJobError, match="region"):
                wrong()
        assert jobs.count().total == 0

    def test_only_a_declared_class_with_run_is_a_job(self, jobs: Jobcard) -> None:
        """A subclass of a job is another job, and says so."""

        @jobs.job
        class Base(JobClass):
            def run(self) -> None: ...

        class Derived(Base): ...

        class NoRun(JobClass): ...

        class Plain:
            def run(self) -> None: ...

        with pytest.raises(ConfigError, match="not declared"):
            Derived.enqueue()
        for wrong in (NoRun, Plain):
            with pytest.raises(ConfigError):
                jobs.job(wrong)
        jobs.job(Derived)
        assert Derived.enqueue().refresh().name.endswith(".Derived")


def handle_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__.replace('.<locals>', '')}"


class TestGroups:
    def test_a_group_gives_queue_and_prefix(self, jobs: Jobcard) -> None:
        """Its jobs are declared without an application and enqueued once one includes it."""
        mail = JobGroup(queue="mail", prefix="mail.")

        @mail.job(name="hello", priority=2)
        def welcome(to: str) -> None: ...

        @mail.job(queue="other")
        class Digest(JobClass):
            def run(self) -> None: ...

        with pytest.raises(ConfigError, match="include"):
            welcome.enqueue("x")
        jobs.include(mail)

        @mail.job
        def late() -> None: ...

        row = stored(jobs, welcome.enqueue("x"))
        assert (row.name, row.queue, row.priority) == ("mail.hello", "mail", 2)
        assert stored(jobs, late.enqueue()).name.endswith("queue_and_prefix.late")
        assert Digest.enqueue().refresh().queue == "other"
        assert len(jobs.registry) == 3

    def test_a_group_belongs_to_one_open_client(self, jobs: Jobcard, url: str) -> None:
        """Included elsewhere it would send jobs to the wrong store; after a close it may move on."""
        group = JobGroup()

        @group.job
        def job() -> None: ...

        with Jobcard(url) as first:
            first.include(group)
            first.include(group)
            with pytest.raises(ConfigError, match="another"):
                jobs.include(group)
        jobs.include(group)
        job.enqueue()
        assert jobs.count().total == 1

    def test_bad_groups_are_refused(self, jobs: Jobcard) -> None:
        """Names are checked, and a clash with a job of the application is told."""
        for wrong in ({"queue": "a b"}, {"prefix": "a b"}, {"queue": 5}):
            with pytest.raises(ConfigError):
                JobGroup(**wrong)
        with pytest.raises(ConfigError):
            jobs.include("group")  # type: ignore[arg-type]
        group = JobGroup()
        jobs.job(name="same")(lambda: None)

        @group.job(name="same")
        def job() -> None: ...

        with pytest.raises(ConfigError, match="same"):
            jobs.include(group)
