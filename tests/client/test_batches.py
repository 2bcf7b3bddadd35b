"""Batches as an application writes them: what is stored when the block ends, and what is refused before."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hands import Hands
from test_enqueuing import Flaky

from jobcard import (
    Batch,
    ConfigError,
    Dependency,
    DuplicateJobError,
    Ended,
    EnqueueUnknownError,
    Enqueuing,
    InvalidJobError,
    Jobcard,
    JobClass,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    Unique,
)
from jobcard.backends.base import Enqueued
from jobcard.core import limits
from jobcard.core.job import NewJob
from jobcard.engine.dependents import see_to_all


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    return declare(jobs, "add")


@pytest.fixture
def done(jobs: Jobcard) -> Any:
    return declare(jobs, "done")


def declare(jobs: Jobcard, name: str, **options: Any) -> Any:
    @jobs.job(name=name, **options)
    def job(a: int = 1) -> int:
        return a

    return job


def names(jobs: Jobcard) -> Counter[str]:
    return Counter(job.name for job in jobs.iterate())


def one(jobs: Jobcard, name: str) -> Any:
    """The only job of this name."""
    (job,) = jobs.list(name=name)
    return job


def end_all(jobs: Jobcard, hands: Hands) -> list[str]:
    """Run what is due until nothing is, seeing to who waits; the names in the order in which they ran."""
    ran: list[str] = []
    while True:
        see_to_all(hands.store, {})
        claims = hands.claim()
        if not claims:
            return ran
        for claim in claims:
            ran.append(claim.name)
            hands.complete(claim)


class TestTheBlock:
    def test_jobs_are_stored_when_it_ends(self, jobs: Jobcard, add: Any, done: Any) -> None:
        """All of them with the batch's id, and what waits for it without."""
        with jobs.batch("import", on_success=done.call(1), on_end=done.call(2)) as b:
            first = b.enqueue(add.call(1))
            rest = b.enqueue_many(add.call(n) for n in range(2, 5))
            assert jobs.count().total == 0
        assert isinstance(b, Batch) and isinstance(b.id, UUID) and b.name == "import"
        assert [job.args for job in jobs.list(batch=b)][::-1] == [[1], [2], [3], [4]]
        assert [handle.refresh().batch_id for handle in (first, *rest)] == [b.id] * 4
        last = list(jobs.list(name="done"))[::-1]
        assert [job.args for job in last] == [[1], [2]]
        assert [job.after for job in last] == [
            (Dependency("batch", b.id, "completed"),),
            (Dependency("batch", b.id, "ended"),),
        ]
        assert [(job.batch_id, job.hold, job.meta) for job in last] == [(None, "after", {"batch": "import"})] * 2
        assert first.refresh().meta == {"batch": "import"}
        assert repr(b) == f"<Batch import {b.id}>"

    def test_its_name_does_not_take_a_meta_away(self, jobs: Jobcard, add: Any) -> None:
        """It goes beside what a job says of itself; without a name nothing is added."""
        with jobs.batch("import") as b:
            one, two = b.enqueue_many([add.options(meta={"a": 1}).call(), add.options(meta={"batch": 7}).call()])
        assert (one.refresh().meta, two.refresh().meta) == ({"batch": "import", "a": 1}, {"batch": 7})
        with jobs.batch() as b:
            three, four = b.enqueue_many([add.call(), add.options(meta={"a": 1}).call()])
        assert (three.refresh().meta, four.refresh().meta) == ({}, {"a": 1}) and b.name is None
        assert repr(b) == f"<Batch {b.id}>"

    def test_an_error_in_the_block_stores_nothing(self, jobs: Jobcard, add: Any, done: Any) -> None:
        """Neither jobs nor what was to follow; the error goes on up, and the batch is over."""
        with pytest.raises(ZeroDivisionError), jobs.batch(on_success=done.call(), on_end=done.call()) as b:
            b.enqueue(add.call())
            raise ZeroDivisionError
        with pytest.raises(KeyboardInterrupt), jobs.batch(on_end=done.call()) as other:
            other.enqueue(add.call())
            raise KeyboardInterrupt
        assert jobs.count().total == 0
        with pytest.raises(ConfigError, match="inside its block only"):
            b.enqueue(add.call())

    def test_it_is_filled_inside_its_block_only(self, jobs: Jobcard, add: Any) -> None:
        """Before and after an error says so, and nothing is stored."""
        b = jobs.batch()
        for fill in (lambda: b.enqueue(add.call()), lambda: b.enqueue_many([add.call()])):
            with pytest.raises(ConfigError, match="inside its block only"):
                fill()
        with b:
            b.enqueue(add.call())
        for fill in (lambda: b.enqueue(add.call()), lambda: b.enqueue_many([])):
            with pytest.raises(ConfigError, match="inside its block only"):
                fill()
        assert jobs.count().total == 1

    def test_it_is_used_once(self, jobs: Jobcard, add: Any) -> None:
        """Neither again nor inside itself."""
        with jobs.batch() as b:
            b.enqueue(add.call())
            with pytest.raises(ConfigError, match="make another one"):
                b.__enter__()
        with pytest.raises(ConfigError, match="make another one"), b:
            pass
        assert jobs.count().total == 1

    def test_a_bad_item_is_told_by_its_place(self, jobs: Jobcard, add: Any) -> None:
        """None of its call is taken in; the block goes on with what was."""
        with jobs.batch() as b:
            b.enqueue_many([add.call(1), add.call(2)])
            with pytest.raises(InvalidJobError, match=r"calls\[2\]") as caught:
                b.enqueue_many([add.call(3), add.call(4), add.call(5, 6, 7), add.call(8)])
            assert caught.value.index == 2
            with pytest.raises(InvalidJobError, match=r"calls\[1\]") as caught:
                b.enqueue_many([add.call(3), add])
            assert caught.value.index == 1
            with pytest.raises(InvalidJobError):
                b.enqueue(add)
            with pytest.raises(InvalidJobError):
                b.enqueue(None)  # type: ignore[arg-type]
            b.enqueue(add.call(9))
        assert sorted(job.args[0] for job in jobs.list()) == [1, 2, 9]

    @pytest.mark.parametrize("wrong", [5, "add", lambda: None, object()], ids=str)
    def test_what_follows_is_a_call(self, jobs: Jobcard, add: Any, wrong: Any) -> None:
        """Told where it is given, before anything is filled in; a job without its arguments is none."""
        for value in (wrong, add, add.options(priority=1)):
            for given in ({"on_success": value}, {"on_end": value}):
                with pytest.raises(InvalidJobError, match=r"on_(success|end) takes job\.call"):
                    jobs.batch(**given)
        assert jobs.count().total == 0

    def test_what_follows_must_be_callable_so(self, jobs: Jobcard, add: Any) -> None:
        """Bad arguments of it are told at the start of the block, and are none of the items."""
        with pytest.raises(InvalidJobError, match=r"^add.*argument") as caught, jobs.batch(on_end=add.call(1, 2, 3)):
            pytest.fail("it was opened")
        assert caught.value.index is None
        assert jobs.count().total == 0

    def test_jobs_of_another_jobcard_are_refused(self, jobs: Jobcard, add: Any, tmp_path: Path) -> None:
        """They belong into another store."""
        with Jobcard(f"sqlite:///{tmp_path}/other.db") as other:
            strange = declare(other, "strange")
            with pytest.raises(ConfigError, match="another Jobcard"), jobs.batch(on_end=strange.call()):
                pass
            with jobs.batch() as b:
                with pytest.raises(ConfigError, match="another Jobcard"):
                    b.enqueue(strange.call())
                with pytest.raises(ConfigError, match="another Jobcard"):
                    b.enqueue_many([add.call(), strange.call()])
        assert jobs.count().total == 0

    @pytest.mark.parametrize("name", ["", "x" * 300, "a\nb", "\0", 5, b"x"], ids=repr)
    def test_a_bad_name_is_told(self, jobs: Jobcard, name: Any) -> None:
        """As that of a queue would be."""
        with pytest.raises((InvalidJobError, ConfigError)):
            jobs.batch(name)


class Noting(Flaky):
    """A real store that keeps the names of what came in one call."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.stored: list[list[str]] = []

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        self.stored.append([job.name for job in jobs])
        return super().enqueue(jobs)


class TestWhatIsStored:
    @pytest.mark.parametrize("count", [1, 999, 1_000, 1_001, 2_500])
    def test_more_than_a_thousand_jobs(self, url: str, count: int) -> None:
        """By the thousand, in order; what waits for them is stored with the last."""
        noting = Noting(url)
        with Jobcard(backend=noting) as jobs:
            add, done = declare(jobs, "add"), declare(jobs, "done")
            with jobs.batch(on_success=done.call(), on_end=done.call()) as b:
                handles = b.enqueue_many(add.call(n) for n in range(count))
            assert [name for part in noting.stored for name in part] == ["add"] * count + ["done", "done"]
            assert max(map(len, noting.stored)) <= limits.BULK
            assert b.counts().waiting == b.counts().total == jobs.count(batch=b.id).total == count
            assert [job.args[0] for job in jobs.iterate(batch=b)] == list(range(count))[::-1]
            assert handles[-1].refresh().args == [count - 1]

    def test_an_empty_batch_is_over_at_once(self, jobs: Jobcard, done: Any, hands: Hands) -> None:
        """Whoever waits for it goes on; without one nothing is stored at all."""
        with jobs.batch():
            pass
        assert jobs.count().total == 0
        with jobs.batch(on_success=done.call(1), on_end=done.call(2)) as b:
            assert b.enqueue_many([]) == []
        assert b.counts().total == 0 and b.cancel_rest() == 0
        assert end_all(jobs, hands) == ["done", "done"]

    def test_awaitable(self, jobs: Jobcard, add: Any, done: Any) -> None:
        """`async with` stores without blocking the loop; otherwise the same."""

        async def fill() -> Batch:
            async with jobs.batch("import", on_end=done.call()) as b:
                b.enqueue(add.call(1))
                b.enqueue_many([add.call(2)])
                assert (await asyncio.to_thread(jobs.count)).total == 0
            with pytest.raises(ZeroDivisionError):
                async with jobs.batch(on_end=done.call()) as other:
                    other.enqueue(add.call())
                    raise ZeroDivisionError
            with pytest.raises(ConfigError, match="make another one"):
                async with b:
                    pass
            return b

        b = asyncio.run(fill())
        assert (b.counts().total, jobs.count().total) == (2, 3)

    def test_a_class_job_and_a_job_with_options(self, jobs: Jobcard, add: Any) -> None:
        """Whatever has a call; its own options count, but it belongs to this batch."""

        @jobs.job(name="report")
        class Report(JobClass):
            def __init__(self, region: str) -> None: ...

            def run(self, day: int) -> None: ...

        own = uuid4()
        with jobs.batch() as b:
            report = b.enqueue(Report.with_("eu").call(5))
            late = b.enqueue(add.options(delay=60, id=own, priority=3, tags=["x"], queue="mail").call())
        assert report.refresh().init == {"args": ["eu"], "kwargs": {}}
        job = late.refresh()
        assert (job.id, job.batch_id, job.hold, job.priority, job.queue) == (own, b.id, "delay", 3, "mail")

    def test_a_job_that_is_of_another_batch_already_is_refused(self, jobs: Jobcard, add: Any) -> None:
        """One of the two would not count it; to say the same twice is no error."""
        other = jobs.batch()
        with jobs.batch() as b:
            with pytest.raises(InvalidJobError, match=r"calls\[1\].*another batch") as caught:
                b.enqueue_many([add.call(), add.options(batch=other).call()])
            assert caught.value.index == 1
            same = b.enqueue(add.options(batch=b).call())
        assert same.refresh().batch_id == b.id and jobs.count().total == 1

    def test_jobs_of_it_may_wait_for_each_other(self, jobs: Jobcard, add: Any, done: Any, hands: Hands) -> None:
        """A chain inside the block, by the handles that the block gave."""
        with jobs.batch(on_success=done.call()) as b:
            first = b.enqueue(add.call(1))
            second = b.enqueue(add.options(after=first).call(2))
            b.enqueue(declare(jobs, "last").options(after=[second, Ended(first)]).call())
        assert end_all(jobs, hands) == ["add", "add", "last", "done"]

    def test_a_job_of_it_does_not_wait_for_it(self, jobs: Jobcard, add: Any) -> None:
        """It would for ever; the end of another batch it may wait for."""
        with jobs.batch() as other:
            pass
        with jobs.batch() as b:
            for after in (b, Ended(b), [other, b]):
                with pytest.raises(InvalidJobError, match="waits for its own batch") as caught:
                    b.enqueue_many([add.call(), add.options(after=after).call()])
                assert caught.value.index == 1
            b.enqueue(add.options(after=other).call())
        assert jobs.count().total == 1

    def test_what_follows_may_wait_for_more(self, jobs: Jobcard, add: Any, done: Any, hands: Hands) -> None:
        """For the batch and for its own."""
        gate = declare(jobs, "gate").options(delay=3600).enqueue()
        with jobs.batch(on_success=done.options(after=gate, delay=0).call()) as b:
            b.enqueue(add.call())
        assert one(jobs, "done").after == (
            Dependency("job", gate.id, "completed"),
            Dependency("batch", b.id, "completed"),
        )
        assert end_all(jobs, hands) == ["add"]
        jobs.run_now(gate.id)
        assert end_all(jobs, hands) == ["gate", "done"]

    def test_batches_may_follow_each_other(self, jobs: Jobcard, add: Any, done: Any, hands: Hands) -> None:
        """One inside the other, and one after the other."""
        with jobs.batch(on_end=done.call()) as outer, jobs.batch() as inner:
            outer.enqueue(add.call(1))
            inner.enqueue(add.call(2))
        with jobs.batch() as later:
            later.enqueue(declare(jobs, "later").options(after=[outer, inner]).call())
        assert end_all(jobs, hands)[2:] in (["done", "later"], ["later", "done"])

    def test_hooks_hear_of_each_job(self, jobs: Jobcard, add: Any, done: Any) -> None:
        """Of what follows too; what they change is stored, but the batch stays."""
        heard: list[str] = []

        @jobs.before_enqueue
        def hook(event: Enqueuing) -> None:
            heard.append(event.name)
            event.kwargs = {"a": 7}
            event.args = ()
            event.options["tags"] = ["hooked"]

        with jobs.batch(on_success=done.call(1)) as b:
            b.enqueue(add.call(1))
            b.enqueue_many([add.call(2), add.call(3)])
        assert sorted(heard) == ["add", "add", "add", "done"]
        assert {(job.kwargs["a"], job.tags) for job in jobs.list()} == {(7, ("hooked",))}
        assert b.counts().total == 3 and one(jobs, "done").after == (Dependency("batch", b.id, "completed"),)

    def test_what_a_hook_refuses_is_not_taken_in(self, jobs: Jobcard, add: Any, done: Any) -> None:
        """Its error is raised where the job was given."""

        @jobs.before_enqueue
        def hook(event: Enqueuing) -> None:
            if list(event.args) == [13]:
                raise PermissionError("no thirteens")

        with jobs.batch() as b:
            b.enqueue(add.call(12))
            with pytest.raises(PermissionError):
                b.enqueue(add.call(13))
        with pytest.raises(PermissionError), jobs.batch(on_end=done.call(13)):
            pass
        assert names(jobs) == {"add": 1}

    def test_threads_may_fill_it_at_once(self, jobs: Jobcard, add: Any) -> None:
        """Each handle stands for its own job."""
        found: list[tuple[int, Any]] = []
        start = threading.Barrier(8)

        def fill(number: int) -> None:
            start.wait(30)
            for n in range(50):
                found.append((100 * number + n, b.enqueue(unique.call(100 * number + n % 25))))

        unique = declare(jobs, "unique", unique=Unique(by="a"))
        with jobs.batch() as b:
            threads = [threading.Thread(target=fill, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert b.counts().total == 200
        assert all(handle.refresh().args == [100 * (n // 100) + n % 100 % 25] for n, handle in found)


class TestUniqueJobs:
    @pytest.fixture
    def welcome(self, jobs: Jobcard) -> Any:
        return declare(jobs, "welcome", unique=Unique(by="a"))

    def test_one_that_is_there_is_none_of_the_batch(self, jobs: Jobcard, welcome: Any) -> None:
        """When the block has ended its handle is that of the one there is; the batch does not wait for it."""
        there = welcome.enqueue(1)
        with jobs.batch("import") as b:
            first, second, third = (b.enqueue(welcome.call(n)) for n in (1, 2, 2))
            assert not first.duplicate
        assert (first.id, first.duplicate) == (there.id, True) and there.refresh().batch_id is None
        assert (second.duplicate, third.duplicate, third.id) == (False, True, second.id)
        assert b.counts().total == 1

    def test_ignored_ones_are_left_out(self, jobs: Jobcard, add: Any, welcome: Any) -> None:
        """The others are stored, and each handle stays with its own job."""
        there = welcome.enqueue(1)
        ignoring = welcome.options(unique=Unique(by="a", on_conflict="ignore"))
        with jobs.batch() as b:
            handles = b.enqueue_many([ignoring.call(1), ignoring.call(2), add.call(3)])
        assert b.counts().total == 2
        assert [handle.refresh().args for handle in handles[1:]] == [[2], [3]]
        assert jobs.find(handles[0].id) is None and there.refresh().batch_id is None

    def test_an_error_names_the_place(self, jobs: Jobcard, add: Any, welcome: Any, done: Any, hands: Hands) -> None:
        """What is no conflict is stored, as by `enqueue_many`, and what follows it too."""
        there = welcome.enqueue(1)
        raising = welcome.options(unique=Unique(by="a", on_conflict="raise"))
        with pytest.raises(DuplicateJobError) as caught, jobs.batch(on_end=done.call()) as b:
            handles = [b.enqueue(call) for call in (add.call(5), welcome.call(1), raising.call(1), add.call(6))]
        assert (caught.value.index, caught.value.existing_id) == (2, there.id)
        assert b.counts().total == 2
        assert [handles[n].refresh().args for n in (0, 3)] == [[5], [6]]
        there.cancel()
        assert end_all(jobs, hands) == ["add", "add", "done"]

    @pytest.mark.parametrize("which", ["on_success", "on_end"])
    @pytest.mark.parametrize("said_by", ["declaration", "options", "hook"])
    def test_what_follows_is_not_unique(self, jobs: Jobcard, add: Any, which: str, said_by: str) -> None:
        """Where there is one already nothing would follow the batch; it is told at the start of the block."""
        unique = {"unique": Unique()}
        done = declare(jobs, "done", **(unique if said_by == "declaration" else {}))
        call = done.options(**(unique if said_by == "options" else {})).call()
        if said_by == "hook":

            @jobs.before_enqueue
            def hook(event: Enqueuing) -> None:
                event.options |= unique

        with pytest.raises(ConfigError, match=r"^done is unique.*unique=None"), jobs.batch(**{which: call}):
            pytest.fail("it was opened")
        if said_by != "hook":
            with jobs.batch(**{which: done.options(unique=None).call()}) as b:
                b.enqueue(add.call())
            assert names(jobs) == {"add": 1, "done": 1}

    def test_a_replaced_one_joins_the_batch(self, jobs: Jobcard, welcome: Any) -> None:
        """It has a new content, and belongs where that does."""
        there = welcome.options(delay=60).enqueue(1)
        replacing = welcome.options(unique=Unique(by="a", on_conflict="replace"), tags=["new"])
        with jobs.batch() as b:
            handle = b.enqueue(replacing.call(1))
        assert (handle.id, handle.duplicate) == (there.id, False)
        assert (there.refresh().batch_id, there.refresh().tags) == (b.id, ("new",))

    def test_nobody_waits_for_one_that_may_be_left_out(
        self, jobs: Jobcard, add: Any, welcome: Any, hands: Hands
    ) -> None:
        """Whether a unique job is stored, and under which id, is known when the block ends: too late to wait for it."""
        welcome.enqueue(1)
        with jobs.batch() as b:
            first = b.enqueue(welcome.call(1))
            for after in (first, [Ended(first)], [add.enqueue(), first.id]):
                with pytest.raises(InvalidJobError, match="unique") as caught:
                    b.enqueue_many([add.call(), add.options(after=after).call()])
                assert caught.value.index == 1
            own_id = uuid4()
            with pytest.raises(InvalidJobError, match="unique"):
                b.enqueue_many([welcome.options(id=own_id).call(2), add.options(after=own_id).call()])
            own = b.enqueue(welcome.options(unique=None).call(1))
            b.enqueue(add.options(after=own).call())
        assert b.counts().total == 2


class TestAfterwards:
    def test_its_jobs_are_counted_by_state(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """By the batch, by its id, in another client."""
        add.enqueue()
        with jobs.batch() as b:
            assert b.counts().total == 0
            handles = b.enqueue_many(add.call(n) for n in range(5))
        handles[4].cancel()
        _other, first, second, _third = hands.claim(4)
        hands.complete(first)
        hands.fail(second)
        for counts in (b.counts(), jobs.count(batch=b), jobs.count(batch=b.id), jobs.count(batch=str(b.id))):
            assert (counts.total, counts.waiting, counts.claimed, counts.completed, counts.failed, counts.canceled) == (
                5, 1, 1, 1, 1, 1,
            )  # fmt: skip
        assert {job.id for job in jobs.list(batch=b, state="failed")} == {UUID(bytes=second.id)}

    def test_the_rest_of_it_can_be_canceled(self, jobs: Jobcard, add: Any, done: Any, hands: Hands) -> None:
        """What waits at once, what is at work by its engine, what has ended not; what follows is none of it."""
        other = add.options(queue="other").enqueue()
        with jobs.batch(on_success=done.call(1), on_end=done.call(2)) as b:
            b.enqueue_many([add.call(n) for n in range(4)])
            b.enqueue(add.options(delay=60).call())
            b.enqueue(add.options(after=other).call())
        first, second = hands.claim(2)
        hands.complete(first)
        assert b.cancel_rest() == 5
        counts = b.counts()
        assert (counts.canceled, counts.claimed, counts.completed) == (4, 1, 1)
        assert jobs.get(UUID(bytes=second.id)).cancel_requested is not None
        see_to_all(hands.store, {})
        assert [job.state for job in jobs.list(name="done")] == ["waiting"] * 2
        hands.complete(second)
        assert b.cancel_rest() == 0
        assert end_all(jobs, hands) == ["done"]
        assert [(job.args, job.state) for job in jobs.list(name="done")] == [([2], "completed"), ([1], "canceled")]
        assert other.refresh().state == "waiting"

    def test_jobs_may_join_it_later(self, jobs: Jobcard, add: Any, done: Any, hands: Hands) -> None:
        """By the batch or its id, one or many, by name; whoever waits for it waits for these too."""
        with jobs.batch(on_success=done.call()) as b:
            b.enqueue(add.call())
        for joined in (
            add.options(batch=b).enqueue(),
            jobs.enqueue_many([add.options(batch=b.id).call()])[0],
            jobs.enqueue("add", batch=str(b.id)),
        ):
            assert (joined.refresh().batch_id, joined.refresh().meta) == (b.id, {})
        assert b.counts().total == 4
        assert end_all(jobs, hands) == [*["add"] * 4, "done"]

    def test_a_failure_cancels_only_what_wanted_success(self, jobs: Jobcard, add: Any, done: Any, hands: Hands) -> None:
        """And only when all have ended: a retry may still save it."""
        with jobs.batch(on_success=done.call(1), on_end=done.call(2)) as b:
            b.enqueue_many([add.call(1), add.call(2)])
        first, second = hands.claim(2)
        hands.fail(first)
        see_to_all(hands.store, {})
        assert [job.state for job in jobs.list(name="done")] == ["waiting"] * 2
        jobs.retry(UUID(bytes=first.id))
        hands.complete(second)
        assert end_all(jobs, hands) == ["add", "done", "done"]
        with jobs.batch(on_success=done.call(3), on_end=done.call(4)) as b:
            b.enqueue(add.call(1))
        (claim,) = hands.claim()
        hands.fail(claim)
        assert end_all(jobs, hands) == ["done"]
        (canceled,) = jobs.list(name="done", state="canceled")
        assert (canceled.args, canceled.reason) == ([3], "dependency")
        assert canceled.error["message"] == (
            f"it waited for the success of batch {b.id}, which has jobs that failed or were canceled"
        )

    def test_a_retry_between_two_looks_is_waited_for(self, jobs: Jobcard, add: Any, done: Any, hands: Hands) -> None:
        """Whether a batch is a success is asked of one moment: a job that comes back meanwhile is none that is over."""
        with jobs.batch(on_success=done.call()) as b:
            b.enqueue(add.call())
        (claim,) = hands.claim()
        hands.fail(claim)
        count = hands.store.count

        def counted(*args: Any, **kwargs: Any) -> Any:
            found = count(*args, **kwargs)
            for job in jobs.list(batch=b, state="failed"):
                jobs.retry(job.id)
            return found

        hands.store.count = counted  # type: ignore[method-assign]
        try:
            assert see_to_all(hands.store, {}) == []
        finally:
            hands.store.count = count  # type: ignore[method-assign]
        assert b.counts().waiting == 1


class TestLosses:
    @pytest.fixture
    def flaky(self, url: str) -> Flaky:
        return Flaky(url)

    @pytest.fixture
    def jobs(self, flaky: Flaky) -> Iterator[Jobcard]:
        with Jobcard(backend=flaky) as client:
            yield client

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_lost_answer_is_asked_for_again(
        self, jobs: Jobcard, add: Any, done: Any, flaky: Flaky, hands: Hands, when: str
    ) -> None:
        """Every job is stored once, what follows too, and no handle says that another was there before."""
        lost = (when, StoreUnavailableError("busy"))
        flaky.failures = [lost, lost, ("", StoreUnavailableError()), lost]
        with jobs.batch(on_success=done.call()) as b:
            handles = b.enqueue_many(add.call(n) for n in range(1_500))
        assert flaky.failures == []
        assert not any(handle.duplicate for handle in handles)
        assert names(jobs) == {"add": 1_500, "done": 1} and b.counts().total == 1_500

    def test_a_dependent_whose_answer_was_lost_is_one(
        self, jobs: Jobcard, add: Any, flaky: Flaky, hands: Hands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when what it waits for ended, and it was released and run, before the call came again."""
        first = add.enqueue()

        def others_go_on(_seconds: float) -> None:
            assert hands.run(jobs) == 1 and see_to_all(hands.store, {}) and hands.run(jobs) == 1

        monkeypatch.setattr("jobcard.client.producer.time.sleep", others_go_on)
        flaky.failures = [("after", StoreUnavailableError("busy"))]
        held = add.options(after=first).enqueue(2)
        assert (held.duplicate, held.refresh().state, jobs.count().total) == (False, "completed", 2)

    def test_what_became_of_a_batch_may_be_unknown(self, jobs: Jobcard, add: Any, done: Any, flaky: Flaky) -> None:
        """The error carries the ids of all, what follows last; with these, and the batch, the call can be completed."""
        flaky.failures = [("", StoreUnavailableError()), ("before", StoreError("broken"))]
        with pytest.raises(EnqueueUnknownError) as caught, jobs.batch(on_success=done.call()) as b:
            handles = b.enqueue_many(add.call(n) for n in range(1_500))
        *ids, last = caught.value.ids
        assert ids == [handle.id for handle in handles] and b.counts().total == 1_000
        jobs.enqueue_many([add.options(id=own, batch=b).call(n) for n, own in enumerate(ids)])
        done.options(id=last, after=b).enqueue()
        assert b.counts().total == 1_500 and one(jobs, "done").after == (Dependency("batch", b.id, "completed"),)

    @pytest.mark.parametrize("how", ["with", "async with"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_one_that_may_be_stored_is_stored_by_entering_its_block_again(
        self, jobs: Jobcard, add: Any, done: Any, flaky: Flaky, when: str, how: str
    ) -> None:
        """Each job once and as it was taken in; nothing more is taken, and when all is stored the batch is over."""
        flaky.failures = [("", StoreUnavailableError()), (when, StoreError("broken")), ("before", StoreError("broken"))]
        with pytest.raises(EnqueueUnknownError), jobs.batch("import", on_success=done.call()) as b:
            handles = b.enqueue_many(add.options(tags=[str(n)]).call(n) for n in range(1_500))
            handles.append(b.enqueue(add.options(unique=Unique(by="a")).call(7)))
        assert b.counts().total == (1_000 if when == "before" else 1_501)
        # The store has not recovered yet.
        with pytest.raises(EnqueueUnknownError), b, pytest.raises(ConfigError, match="inside its block only"):
            b.enqueue(add.call(1_500))

        async def enter() -> None:
            async with b:
                pass

        if how == "with":
            with b:
                pass
        else:
            asyncio.run(enter())
        assert names(jobs) == {"add": 1_501, "done": 1} and b.counts().total == 1_501
        assert not any(handle.duplicate for handle in handles)
        assert handles[1_234].refresh().tags == ("1234",) and handles[-1].refresh().meta == {"batch": "import"}
        with pytest.raises(ConfigError, match="make another one"), b:
            pass

    def test_a_full_store_stores_nothing(self, jobs: Jobcard, add: Any, done: Any, flaky: Flaky) -> None:
        """It is told where the block ends, and the batch is over."""
        flaky.failures = [("before", StoreFullError("no room"))]
        with pytest.raises(StoreFullError), jobs.batch(on_success=done.call()) as b:
            b.enqueue(add.call())
        assert jobs.count().total == 0
        with pytest.raises(ConfigError), b:
            pass
