"""`jobs.testing()`: jobs are stored in a private store, looked at, and run when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobcard import (
    Backoff,
    Cancel,
    ConfigError,
    Fail,
    InvalidJobError,
    Jobcard,
    JobClass,
    JobContext,
    JobFailedError,
    JobGroup,
    JobNotFoundError,
    Queue,
    ResultTimeoutError,
    Snooze,
    StoreError,
)
from jobcard.client import trial
from jobcard.testing import Testing


@dataclass
class Order:
    number: int


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobcard]:
    with Jobcard(f"sqlite:///{tmp_path}/jobs.db", queues=[Queue("mail", priority=10)]) as client:
        yield client


@pytest.fixture
def shop(jobs: Jobcard) -> Any:
    """Some jobs, and what they did."""
    return Shop(jobs)


class Shop:
    def __init__(self, jobs: Jobcard) -> None:
        self.ran: list[object] = []

        @jobs.job(name="add")
        def add(a: int, b: int = 2) -> int:
            self.ran.append((a, b))
            return a + b

        @jobs.job(name="ship")
        def ship(ctx: JobContext, order: Order, *, fast: bool = False, to: object = object) -> Order:
            self.ran.append(order)
            return Order(order.number + 1)

        @jobs.job(name="fetch", queue="mail")
        async def fetch(url: str) -> int:
            await asyncio.sleep(0)
            self.ran.append(url)
            await add.enqueue_async(len(url))
            return len(url)

        @jobs.job(name="breaks", max_attempts=3, backoff=Backoff.fixed(60))
        def breaks() -> None:
            raise ValueError("no")

        @jobs.job(name="report")
        class Report(JobClass):
            def __init__(self, region: str = "eu") -> None:
                self.region = region

            def run(self, day: date) -> str:
                return f"{self.region} {day}"

        self.add, self.ship, self.fetch, self.breaks, self.Report = add, ship, fetch, breaks, Report


# ------------------------------------------------------------------ the block


def test_the_real_store_is_not_touched(jobs: Jobcard, shop: Any, tmp_path: Path) -> None:
    """Inside the block everything goes to a private store; before and after to the real one."""
    before = shop.add.enqueue(1)
    with jobs.testing() as t:
        assert isinstance(t, Testing)
        assert jobs.count().total == 0
        inside = shop.add.enqueue(2)
        assert inside.refresh().state == "waiting"
        assert jobs.find(before.id) is None
        jobs.truncate(confirm=True)
    assert [job.id for job in jobs.list()] == [before.id]
    with pytest.raises(JobNotFoundError):
        inside.refresh()


def test_no_store_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is opened, and no settings are read: the client can be configured afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBCARD_URL", "nosuch://")
    jobs = Jobcard()
    shop = Shop(jobs)
    with jobs.testing() as t:
        handle = shop.add.enqueue(1)
        t.drain()
        assert handle.result() == 3
    jobs.configure(f"sqlite:///{tmp_path}/late.db")
    assert list(tmp_path.iterdir()) == []
    jobs.close()


def test_engines_are_not_started(jobs: Jobcard, shop: Any) -> None:
    """Code under test may call `start`, `running` and `run`: they do nothing."""
    with jobs.testing() as t:
        jobs.start()
        with jobs.running(), jobs.running(in_process=True):
            shop.add.enqueue(1)
        assert jobs.run() == 0
        assert jobs.engines.list() == []
        assert t.drain().completed == 1


def test_blocks_may_stand_in_each_other(jobs: Jobcard, shop: Any) -> None:
    """The inner one has a store of its own; at its end the outer one is back, error or not."""
    with jobs.testing() as outer:
        shop.add.enqueue(1)
        with pytest.raises(ZeroDivisionError), jobs.testing("inline") as inner:
            assert shop.add.enqueue(5).result() == 7
            inner.assert_enqueued(shop.add, 5)
            raise ZeroDivisionError
        outer.assert_enqueued(shop.add, 1)
        outer.refute_enqueued(shop.add, 5)
        with jobs.testing():
            assert len(outer.all_enqueued()) == 1


def test_a_block_is_used_once_and_while_it_is_open(jobs: Jobcard) -> None:
    """Afterwards, and before, there is nothing to look at; a wrong mode is told."""
    t = jobs.testing()
    with pytest.raises(ConfigError, match="over"):
        t.drain()
    with t, pytest.raises(ConfigError, match="open already"):
        t.__enter__()
    with pytest.raises(ConfigError, match="over"):
        t.all_enqueued()
    with pytest.raises(ConfigError, match="manual"):
        jobs.testing("auto")  # type: ignore[arg-type]


def test_closing_inside_closes_both(tmp_path: Path) -> None:
    """A client that the code under test closes stays closed."""
    jobs = Jobcard(f"sqlite:///{tmp_path}/jobs.db")
    jobs.count()
    with jobs.testing():
        jobs.close()
    with pytest.raises((ConfigError, StoreError)):
        jobs.count()
    with pytest.raises(ConfigError, match="closed"), jobs.testing():
        pass


# ------------------------------------------------------------------ what is there


def test_asserting_what_is_enqueued(jobs: Jobcard, shop: Any) -> None:
    """By job alone or with arguments, however they are written; by queue; the job comes back."""
    with jobs.testing() as t:
        shop.add.enqueue(1, b=5)
        shop.add.options(queue="mail", delay=60).enqueue(a=3)
        job = t.assert_enqueued(shop.add)
        assert (job.kwargs, job.hold) == ({"a": 3}, "delay")  # the newest
        assert t.assert_enqueued(shop.add, 1, 5).args == [1]
        t.assert_enqueued(shop.add, b=5, a=1)
        t.assert_enqueued(shop.add, 3)
        t.assert_enqueued(shop.add, 3, b=2, queue="mail")
        t.assert_enqueued("add", 3)
        t.assert_enqueued(shop.add.call(1, 5))
        t.assert_enqueued(shop.add.options(priority=3), 1, 5)
        t.refute_enqueued(shop.add, 1)
        t.refute_enqueued(shop.add, 1, 5, queue="mail")
        t.refute_enqueued(shop.fetch)
        t.refute_enqueued("nothing")
        assert [job.name for job in t.all_enqueued()] == ["add", "add"]


def test_arguments_are_compared_as_stored(jobs: Jobcard, shop: Any) -> None:
    """By the job's annotations, with defaults that cannot be stored left alone; True is not 1."""
    with jobs.testing() as t:
        shop.ship.enqueue(Order(7), fast=True)
        t.assert_enqueued(shop.ship, Order(7), fast=True)
        t.assert_enqueued(shop.ship, fast=True, order=Order(7))
        t.refute_enqueued(shop.ship, Order(7))
        t.refute_enqueued(shop.ship, Order(8), fast=True)
        t.refute_enqueued(shop.ship, Order(7), fast=1)


def test_class_jobs_by_what_they_are_made_with(jobs: Jobcard, shop: Any) -> None:
    """The class alone: whatever its constructor got; `with_` compares that too."""
    day = date(2030, 1, 31)
    with jobs.testing() as t:
        shop.Report.with_("us").enqueue(day)
        t.assert_enqueued(shop.Report, day)
        t.assert_enqueued(shop.Report.with_(region="us"), day)
        t.refute_enqueued(shop.Report.with_("eu"))
        shop.Report.enqueue(day)
        t.assert_enqueued(shop.Report.with_("eu"), day)


def test_a_failed_assertion_says_what_is_there(jobs: Jobcard, shop: Any) -> None:
    """The job wanted as it was written, and the jobs enqueued, twenty at most."""
    with jobs.testing() as t:
        with pytest.raises(AssertionError, match=r"^add\(1, b=3\) is not enqueued; nothing is$"):
            t.assert_enqueued(shop.add, 1, b=3)
        shop.fetch.enqueue("x")
        shop.add.options(delay=60).enqueue(1)
        shop.Report.with_("us").enqueue(date(2030, 1, 31))
        with pytest.raises(AssertionError) as caught:
            t.assert_enqueued(shop.add, 2, queue="mail")
        first, *lines = str(caught.value).splitlines()
        assert first == "add(2) in queue 'mail' is not enqueued; there are:"
        assert lines[0] == "  fetch('x') in queue 'mail', waiting"
        assert lines[1].startswith("  add(1) in queue 'default', waiting, due 20")
        assert lines[2].startswith("  report(datetime.date(2030, 1, 31)) with {'args': ['us']")
        with pytest.raises(AssertionError, match=r"^fetch is enqueued|^fetch\(\) is enqueued"):
            t.refute_enqueued(shop.fetch)
        jobs.enqueue_many([shop.add.call(n) for n in range(30)])
        with pytest.raises(AssertionError, match="… and 13 more"):
            t.assert_enqueued(shop.add, 99)


def test_what_cannot_be_meant_is_refused(jobs: Jobcard, shop: Any, tmp_path: Path) -> None:
    """Arguments that the job does not take, a plain function, another client's job: an error, not a passing refute."""
    with jobs.testing() as t:
        with pytest.raises(InvalidJobError):
            t.refute_enqueued(shop.add, 1, 2, 3)
        with pytest.raises(ConfigError):
            t.refute_enqueued(len)  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            t.refute_enqueued(JobClass)
        with Jobcard(f"sqlite:///{tmp_path}/other.db") as other, pytest.raises(ConfigError, match="another Jobcard"):
            t.refute_enqueued(Shop(other).add)


# ------------------------------------------------------------------ draining


def test_drain_runs_what_is_due_and_what_that_enqueues(jobs: Jobcard, shop: Any) -> None:
    """In claim order: queues by priority, then jobs by priority and age; delayed ones stay."""
    with jobs.testing() as t:
        first = shop.add.enqueue(1)
        shop.add.options(delay=1).enqueue(2)
        shop.add.options(priority=5).enqueue(3)
        mail = shop.fetch.enqueue("four")
        drained = t.drain()
        assert shop.ran == ["four", (3, 2), (1, 2), (4, 2)]
        assert (drained.completed, drained.failed, drained.canceled, drained.retried) == (4, 0, 0, 0)
        assert [job.name for job in drained.jobs] == ["fetch", "add", "add", "add"]
        assert (first.result(), mail.result()) == (3, 4)
        assert [job.args for job in t.all_enqueued()] == [[2]]
        assert t.drain().jobs == []


def test_results_go_the_way_of_real_ones(jobs: Jobcard, shop: Any) -> None:
    """Arguments and results are written as text and rebuilt: a job gets a copy, not the object."""
    order = Order(1)
    with jobs.testing() as t:
        handle = shop.ship.enqueue(order)
        t.drain()
        assert handle.result() == Order(2)
        assert shop.ran == [order] and shop.ran[0] is not order


def test_retries_run_when_their_time_comes(jobs: Jobcard, shop: Any) -> None:
    """A failed try waits for its back-off in virtual time; `advance` lets it come, `with_scheduled` does it all."""
    with jobs.testing() as t:
        handle = shop.breaks.enqueue()
        assert t.drain().retried == 1
        assert t.drain().retried == 0
        t.advance(59.9)
        assert t.drain().jobs == []
        t.advance(timedelta(seconds=0.1))
        assert t.drain().retried == 1
        began = t.now
        drained = t.drain(with_scheduled=True)
        assert (drained.retried, drained.failed, [job.state for job in drained.jobs]) == (0, 1, ["failed"])
        assert t.now - began == timedelta(seconds=60)
        with pytest.raises(JobFailedError) as caught:
            handle.result()
        assert [error["message"] for error in caught.value.errors] == ["no"] * 3
        assert "test_manual.py" in caught.value.errors[0]["traceback"]


def test_every_end_is_counted(jobs: Jobcard) -> None:
    """Completed, failed, canceled, snoozed; a name that nobody declared is put aside and not counted."""

    @jobs.job(name="ends")
    def ends(how: str) -> str:
        raise {"fail": Fail("f"), "cancel": Cancel("c"), "snooze": Snooze(60)}[how]

    with jobs.testing() as t:
        handles = [ends.enqueue(how) for how in ("fail", "cancel", "snooze")]
        unknown = jobs.enqueue("unknown", strict=False)
        drained = t.drain()
        assert (drained.failed, drained.canceled, drained.snoozed, drained.completed) == (1, 1, 1, 0)
        assert [handle.refresh().state for handle in handles] == ["failed", "canceled", "waiting"]
        assert unknown.refresh().hold == "parked"

        @jobs.job(name="unknown")
        def known() -> int:
            return 1

        assert t.drain().completed == 1


def test_scheduled_jobs_run_in_the_order_of_their_time(jobs: Jobcard, shop: Any) -> None:
    """`with_scheduled` lets time pass to each of them; instants count from the real time at the start of the block."""
    with jobs.testing() as t:
        assert abs(t.now - datetime.now(UTC)) < timedelta(minutes=1)
        at = datetime.now(UTC) + timedelta(days=30)
        shop.add.options(at=at).enqueue(1)
        shop.add.options(delay=timedelta(days=400)).enqueue(3)
        shop.add.options(delay=60).enqueue(2)
        assert t.drain(with_scheduled=True).completed == 3
        assert [a for a, _b in shop.ran] == [2, 1, 3]
        assert t.now > at + timedelta(days=300)


def test_paused_queues_and_canceled_jobs_are_left_alone(jobs: Jobcard, shop: Any) -> None:
    """As an engine would."""
    with jobs.testing() as t:
        shop.fetch.enqueue("x")
        canceled = shop.add.enqueue(1)
        canceled.cancel()
        jobs.queues.pause("mail")
        assert t.drain().jobs == []
        jobs.queues.resume("mail")
        assert t.drain().completed == 2


def test_jobs_that_never_end_are_noticed(jobs: Jobcard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain without end fails the test instead of hanging it."""
    assert trial.MOST_RUNS == 10_000
    monkeypatch.setattr(trial, "MOST_RUNS", 200)  # as it would after many more

    @jobs.job(name="ever")
    def ever() -> None:
        raise Snooze(3600)

    with jobs.testing() as t:
        ever.enqueue()
        with pytest.raises(AssertionError, match="200 runs and no end"):
            t.drain(with_scheduled=True)


def test_what_is_meant_for_the_test_passes_through(jobs: Jobcard) -> None:
    """Ctrl-C, `pytest.fail` and `pytest.skip` inside a job reach the test; plain errors are the job's own."""

    @jobs.job(name="gives_up", max_attempts=1)
    def gives_up(how: str) -> None:
        if how == "fail":
            pytest.fail("really")
        if how == "interrupt":
            raise KeyboardInterrupt
        raise AssertionError("only the job's")

    with jobs.testing() as t:
        gives_up.enqueue("assert")
        assert t.drain().failed == 1
        gives_up.enqueue("fail")
        with pytest.raises(pytest.fail.Exception, match="really"):
            t.drain()
        gives_up.enqueue("interrupt")
        with pytest.raises(KeyboardInterrupt):
            t.drain()


# ------------------------------------------------------------------ handles, loops, groups


def test_waiting_does_not_hang(jobs: Jobcard, shop: Any) -> None:
    """Nothing runs by itself under test, so `result` looks once and says what is missing."""

    async def wait(handle: Any) -> None:
        await handle

    with jobs.testing() as t:
        handle = shop.add.enqueue(1)
        for ask in (handle.result, lambda: handle.result(timeout=600), lambda: asyncio.run(wait(handle))):
            with pytest.raises(ResultTimeoutError, match=r"drain\(\)"):
                ask()
        later = shop.add.options(delay=60).enqueue(1)
        with pytest.raises(ResultTimeoutError, match="it is due at"):
            later.result()
        t.drain()
        assert handle.result(timeout=1) == 3
        with pytest.raises(JobNotFoundError):
            jobs.handle("01890000-0000-7000-8000-000000000000").result()


def test_from_an_event_loop(jobs: Jobcard, shop: Any) -> None:
    """Awaitable calls, and a drain of coroutines while the test's own loop runs."""

    async def story(t: Testing) -> None:
        first = await shop.fetch.enqueue_async("abc")
        many = await jobs.enqueue_many_async([shop.add.call(n) for n in range(3)])
        assert t.drain().completed == 5
        assert await first == 3
        assert [await handle for handle in many] == [2, 3, 4]

    with jobs.testing() as t:
        asyncio.run(story(t))


def test_groups_and_names(jobs: Jobcard) -> None:
    """Jobs of an included group, and those stored by name, are this client's as well."""
    mail = JobGroup(queue="mail", prefix="mail.")

    @mail.job
    def welcome(to: str) -> str:
        return to

    jobs.include(mail)
    with jobs.testing() as t:
        handle = welcome.enqueue("ann")
        t.assert_enqueued(welcome, "ann", queue="mail")
        by_name = jobs.enqueue(welcome.name, args=["bob"])
        t.assert_enqueued(welcome, "bob")
        t.drain()
        assert [handle.result(), by_name.result()] == ["ann", "bob"]


def test_queues_are_as_declared(jobs: Jobcard) -> None:
    """The private store knows the queues that code gave."""
    with jobs.testing():
        assert jobs.queues.get("mail").priority == 10
