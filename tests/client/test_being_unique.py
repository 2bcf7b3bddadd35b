"""Unique jobs as an application writes them: which are the same, for how long, and what the second one does."""

from __future__ import annotations

import asyncio
import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hands import Hands

from jobcard import (
    ConfigError,
    DuplicateJobError,
    Enqueuing,
    InvalidJobError,
    Jobcard,
    JobClass,
    JobContext,
    JobGroup,
    JobHandle,
    SerializationError,
    TransitionError,
    Unique,
)
from jobcard.backends.registry import open_backend
from jobcard.core.clock import to_instant
from jobcard.core.ids import follow_up_id
from jobcard.core.unique import OnConflict
from jobcard.engine import store_clock

pytestmark = pytest.mark.turns


@pytest.fixture
def url(of_each_kind: str) -> str:
    """A store of each kind: what is unique is so everywhere."""
    return of_each_kind


@dataclass
class Order:
    number: int
    lines: dict[str, int]


def declare(jobs: Jobcard, unique: Any, **options: Any) -> Any:
    @jobs.job(name="welcome", unique=unique, **options)
    def welcome(to: str, style: str = "plain", *, copies: int = 1) -> str:
        return f"{to} {style} {copies}"

    return welcome


def same(first: JobHandle[Any], second: JobHandle[Any]) -> bool:
    """Whether the second call came upon the job of the first."""
    assert second.duplicate == (first.id == second.id)
    return first.id == second.id


class TestWhatIsTheSame:
    def test_by_name_alone_there_is_one(self, jobs: Jobcard) -> None:
        """`unique=True` is `Unique()`: whatever the arguments, and whoever enqueues it."""
        welcome = declare(jobs, True)
        first = welcome.enqueue("ann")
        assert not first.duplicate
        assert same(first, welcome.enqueue("bob", "fancy"))
        assert same(first, jobs.enqueue("welcome", ["eve"]))
        assert jobs.count().total == 1
        assert first.refresh().args == ["ann"] and first.refresh().unique_key == "welcome"

    @pytest.mark.parametrize("unique", [None, False])
    def test_not_unique_there_are_many(self, jobs: Jobcard, unique: Any) -> None:
        """As by default, and as one enqueue may say of a job that is unique otherwise."""
        welcome = declare(jobs, unique)
        assert welcome.enqueue("ann").id != welcome.enqueue("ann").id
        strict = welcome.options(unique=True)
        assert same(strict.enqueue("ann"), strict.enqueue("ann"))
        assert not strict.options(unique=unique).enqueue("ann").duplicate
        assert jobs.count().total == 4

    def test_by_chosen_arguments(self, jobs: Jobcard) -> None:
        """However they were written, with defaults filled in; the other arguments do not count."""
        welcome = declare(jobs, Unique(by=("to", "style")))
        first = welcome.enqueue("ann")
        for again in (
            welcome.enqueue("ann", "plain"),
            welcome.enqueue(style="plain", to="ann"),
            welcome.enqueue("ann", copies=7),
            jobs.enqueue("welcome", kwargs={"to": "ann"}),
            welcome.options(unique=Unique(by=("style", "to"))).enqueue("ann"),
        ):
            assert same(first, again)
        assert not same(first, welcome.enqueue("bob"))
        assert not same(first, welcome.enqueue("ann", "fancy"))
        assert jobs.count().total == 3

    def test_by_all_arguments(self, jobs: Jobcard) -> None:
        """Defaults filled in too."""
        welcome = declare(jobs, Unique(by="args"))
        first = welcome.enqueue("ann")
        assert same(first, welcome.enqueue(to="ann", style="plain", copies=1))
        assert not same(first, welcome.enqueue("ann", copies=2))
        assert not same(first, welcome.enqueue("ann", "1"))

    def test_equal_values_are_the_same(self, jobs: Jobcard) -> None:
        """Dicts and sets in any order, by the annotation, however deep; values that differ in type are not."""

        @jobs.job(name="take", unique=Unique(by="args"))
        def take(value: Any, *rest: Path, order: Order | None = None, **others: date) -> None: ...

        words = ["ham", "eggs", "spam", "tea"]
        backwards = words[::-1]
        for left, right in (
            (dict.fromkeys(words, 1), dict.fromkeys(backwards, 1)),
            ([{"a": {"x": 1, "y": 2}}], [{"a": {"y": 2, "x": 1}}]),
            ({"$jc": 1, "b": 2}, {"b": 2, "$jc": 1}),
            (set(words), set(backwards)),
        ):
            assert same(take.enqueue(left), take.enqueue(right)), left
        one, other = Order(7, {"a": 1, "b": 2}), Order(7, {"b": 2, "a": 1})
        assert same(take.enqueue(1, order=one), take.enqueue(1, order=other))
        assert same(take.enqueue(1, Path("a/b")), take.enqueue(1, Path("a", "b")))
        day = date(2030, 1, 1)
        assert same(take.enqueue(1, up=day, to=day), take.enqueue(1, to=day, up=day))
        different = [1, True, 1.0, "1", [1], (1,), {1}, None, "", 0, -0.0, {"1": 1}]
        handles = [take.enqueue(value) for value in different]
        assert len({handle.id for handle in handles}) == len(different)

    def test_a_default_that_cannot_be_stored_does_not_count(self, jobs: Jobcard) -> None:
        """Only the function itself ever sees it; all else is compared as always."""
        nothing = object()

        @jobs.job(name="odd", unique=Unique(by="args"))
        def odd(a: int, b: Any = nothing, c: int = 3) -> None: ...

        first = odd.enqueue(1)
        assert same(first, odd.enqueue(1, c=3))
        assert not same(first, odd.enqueue(1, None))

    def test_by_a_key_function(self, jobs: Jobcard) -> None:
        """It sees the call as it was written, defaults not filled in, and what it returns counts."""
        seen: list[Any] = []

        def domain(to: str, **more: Any) -> str:
            seen.append((to, more))
            return to.rpartition("@")[2]

        welcome = declare(jobs, Unique(key=domain))
        first = welcome.enqueue("ann@example.org")
        assert same(first, welcome.enqueue("bob@example.org", copies=3))
        assert not same(first, welcome.enqueue("ann@example.com"))
        assert seen == [("ann@example.org", {}), ("bob@example.org", {"copies": 3}), ("ann@example.com", {})]

    def test_any_text_makes_a_key(self, jobs: Jobcard) -> None:
        """A megabyte, nothing, NUL, half a character: each is one key, and fits the store."""
        welcome = declare(jobs, Unique(key=lambda to: to))
        texts = ["", "x" * (1 << 20), "x" * (1 << 19), "a\0b", "a", "\ud800", "\ud801", "é", "e\u0301", " ", "#", "%"]
        handles = []
        for text in texts:
            with_text = welcome.options(unique=Unique(key=lambda _, text=text: text))
            handles.append(with_text.enqueue("ann"))
            assert same(handles[-1], with_text.enqueue("ann"))
        assert len({handle.id for handle in handles}) == len(texts)
        for handle in handles:
            key = handle.refresh().unique_key
            assert key is not None and len(key) <= 244 and key.isascii()

    def test_what_cannot_be_stored_makes_no_key(self, jobs: Jobcard) -> None:
        """Lists and dicts are compared by what they hold; NaN and the like are refused as always, and take no key."""
        welcome = declare(jobs, Unique(by="to"))
        lists: list[Any] = [["ann", {"a": [1]}], ["ann", {"a": [2]}]]
        assert not same(*(welcome.enqueue(value) for value in lists))
        assert same(welcome.enqueue(lists[0]), welcome.enqueue(["ann", {"a": [1]}]))
        for value in (float("nan"), [float("inf")], object(), {1: 2}, lambda: 5):
            with pytest.raises(SerializationError):
                welcome.enqueue(value)
        assert jobs.count().total == 2

    def test_names_do_not_meet(self, jobs: Jobcard) -> None:
        """Two jobs with equal arguments are two."""

        @jobs.job(name="a", unique=Unique(by="args"))
        def a(x: int) -> None: ...

        @jobs.job(name="b", unique=Unique(by="args"))
        def b(x: int) -> None: ...

        assert not same(a.enqueue(1), b.enqueue(1))

    def test_a_class_job_by_either_kind_of_argument(self, jobs: Jobcard) -> None:
        """Those of its constructor are parameters of it like those of `run`."""

        @jobs.job(name="report", unique=Unique(by=("region", "day")))
        class Report(JobClass):
            def __init__(self, region: str, size: int = 10) -> None: ...

            def run(self, ctx: JobContext, day: int, final: bool = False) -> None: ...

        first = Report.with_("eu").enqueue(1)
        assert same(first, Report.with_(region="eu", size=20).enqueue(day=1, final=True))
        assert not same(first, Report.with_("us").enqueue(1))
        assert not same(first, Report.with_("eu").enqueue(2))
        whole = Report.with_("eu").options(unique=Unique(by="args"))
        again = whole.enqueue(1)
        assert same(again, Report.with_("eu", 10).options(unique=Unique(by="args")).enqueue(1, False))
        assert not same(again, Report.with_("eu", 11).options(unique=Unique(by="args")).enqueue(1))

    def test_a_job_that_this_code_lacks(self, jobs: Jobcard) -> None:
        """By its name, all its arguments or a key function; its parameters nobody here knows."""
        for unique in (True, Unique(by="args"), Unique(key=lambda x: str(sorted(x)))):
            first = jobs.enqueue("elsewhere", [{"a": 1, "b": 2}], strict=False, unique=unique)
            assert same(first, jobs.enqueue("elsewhere", [{"b": 2, "a": 1}], strict=False, unique=unique))
        with pytest.raises(InvalidJobError, match="not known here"):
            jobs.enqueue("elsewhere", [1], strict=False, unique=Unique(by="x"))


class TestHowLong:
    @pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
    def test_while_alive_until_its_end(self, jobs: Jobcard, hands: Hands, end: str) -> None:
        """The key is free as soon as the job has ended, however."""
        welcome = declare(jobs, True)
        first = welcome.enqueue("ann")
        if end == "cancel":
            first.cancel()
        else:
            (claim,) = hands.claim()
            assert same(first, welcome.enqueue("ann"))
            getattr(hands, end)(claim)
        assert not same(first, welcome.enqueue("ann"))

    @pytest.mark.parametrize(
        ("per", "into", "beyond"),
        [
            ("minute", datetime(2031, 5, 5, 12, 0, 59, 999_999), datetime(2031, 5, 5, 12, 1)),
            ("hour", datetime(2031, 5, 5, 12, 59, 59), datetime(2031, 5, 5, 13)),
            ("day", datetime(2031, 5, 5, 23, 59, 59), datetime(2031, 5, 6)),
            ("week", datetime(2031, 5, 11, 23, 59, 59), datetime(2031, 5, 12)),
            ("month", datetime(2031, 5, 31, 23, 59, 59), datetime(2031, 6, 1)),
            (timedelta(minutes=10), datetime(2031, 5, 5, 12, 9, 59), datetime(2031, 5, 5, 12, 10)),
            ("second", datetime(2031, 5, 5, 12, 0, 0, 999_000), datetime(2031, 5, 5, 12, 0, 1)),
        ],
        ids=str,
    )
    def test_one_in_each_window_by_when_it_is_due(
        self, jobs: Jobcard, per: Any, into: datetime, beyond: datetime
    ) -> None:
        """Not by when it was enqueued; what became of the first does not matter."""
        welcome = declare(jobs, Unique(per=per))

        def at(moment: datetime) -> JobHandle[Any]:
            handle: JobHandle[Any] = welcome.options(at=moment.replace(tzinfo=UTC)).enqueue("ann")
            return handle

        first = at(datetime(2031, 5, 5, 12, 0, 0))
        first.cancel()
        assert same(first, at(into))
        assert not same(first, at(beyond))

    def test_ever_is_for_all_time(self, jobs: Jobcard, hands: Hands) -> None:
        """One, even when it has ended and was deleted."""
        welcome = declare(jobs, Unique(by="to", per="ever"))
        first = welcome.enqueue("ann")
        (claim,) = hands.claim()
        hands.complete(claim)
        assert same(first, welcome.options(at=datetime(2199, 1, 1, tzinfo=UTC)).enqueue("ann"))
        assert jobs.delete_finished(older_than=0) == 1
        assert same(first, welcome.enqueue("ann"))
        assert not same(first, welcome.enqueue("bob"))

    def test_the_store_says_what_time_it_is(self, jobs: Jobcard, monkeypatch: pytest.MonkeyPatch) -> None:
        """A job without `at` falls into the window of the store's now plus its delay, whatever this host believes."""
        clock = jobs.parts.keys.clock
        late = to_instant(datetime(2131, 5, 5, 23, 30, tzinfo=UTC))
        monkeypatch.setattr(clock, "_ask", lambda: late)
        welcome = declare(jobs, Unique(per="day"))
        first = welcome.enqueue("ann")
        assert same(first, welcome.options(delay=29 * 60).enqueue("bob"))
        assert not same(first, welcome.options(delay=31 * 60).enqueue("bob"))

    def test_the_time_is_asked_for_now_and_then(self, jobs: Jobcard, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not for each job: an enqueue stays one round trip."""
        welcome = declare(jobs, Unique(by="to", per="month"))
        asked = []
        clock = jobs.parts.keys.clock
        measure = clock.measure

        def counted() -> int:
            asked.append(1)
            return measure()

        monkeypatch.setattr(clock, "measure", counted)
        for number in range(20):
            welcome.enqueue(str(number))
        assert len(asked) == 1
        assert abs(clock.now() - datetime.now(UTC).timestamp() * 1e6) < 60e6
        monkeypatch.setattr(store_clock, "KNOWN_SECONDS", 0)
        welcome.enqueue("again")
        assert len(asked) == 2


class TestTheSecondOne:
    def test_it_may_be_an_error(self, jobs: Jobcard) -> None:
        """It names both ids; nothing is stored."""
        welcome = declare(jobs, Unique(on_conflict="raise"))
        first = welcome.enqueue("ann")
        with pytest.raises(DuplicateJobError, match="welcome is unique") as caught:
            welcome.enqueue("bob")
        assert caught.value.existing_id == first.id != caught.value.job_id
        assert jobs.count().total == 1

    def test_it_may_be_ignored(self, jobs: Jobcard) -> None:
        """Then there is no handle."""
        welcome = declare(jobs, Unique(on_conflict="ignore"))
        assert welcome.enqueue("ann") is not None
        assert welcome.enqueue("bob") is None
        assert jobs.enqueue("welcome", ["eve"]) is None
        assert asyncio.run(welcome.enqueue_async("eve")) is None
        assert jobs.count().total == 1

    def test_it_may_replace_what_waits(self, jobs: Jobcard, hands: Hands) -> None:
        """The first one does what the second one asked for; once at work it stays as it is."""
        welcome = declare(jobs, Unique(on_conflict="replace"))
        first = welcome.enqueue("ann")
        second = welcome.options(delay=60, priority=7, tags=["late"]).enqueue("bob", copies=2)
        assert second.id == first.id and not second.duplicate
        job = first.refresh()
        assert (job.args, job.kwargs, job.priority, job.tags) == (["bob"], {"copies": 2}, 7, ("late",))
        assert job.hold == "delay" and jobs.count().total == 1
        jobs.run_now(first.id)
        hands.claim()
        third = welcome.enqueue("eve")
        assert same(first, third) and first.refresh().args == ["bob"]

    def test_a_window_is_replaced_too(self, jobs: Jobcard) -> None:
        """While the first one of it waits; after that it is what it was."""
        welcome = declare(jobs, Unique(per="ever", on_conflict="replace"))
        first = welcome.enqueue("ann")
        assert welcome.enqueue("bob").id == first.id and first.refresh().args == ["bob"]
        first.cancel()
        assert same(first, welcome.enqueue("eve")) and first.refresh().args == ["bob"]

    def test_the_same_id_is_the_same_job(self, jobs: Jobcard) -> None:
        """Repeating an enqueue is no conflict with itself, whatever a conflict would do."""
        own = UUID(int=7 << 76 | 1 << 63 | 5)
        for on_conflict in ("raise", "ignore", "replace", "return"):
            welcome = declare(jobs, Unique(by="to", on_conflict=on_conflict))
            again = welcome.options(id=own).enqueue("ann")
            assert again.id == own and again.duplicate == (on_conflict != "raise")


class TestEveryWayIn:
    def test_many_at_once(self, jobs: Jobcard) -> None:
        """Duplicates inside one call give one id, in their places; the others are not harmed."""
        welcome = declare(jobs, Unique(by="to"))
        names = ["ann", "bob", "ann", "eve", "bob", "ann"]
        for handles in (
            jobs.enqueue_many([welcome.call(name) for name in names]),
            asyncio.run(jobs.enqueue_many_async([welcome.call(name) for name in names])),
        ):
            ids = [handle.id for handle in handles]
            assert ids[0] == ids[2] == ids[5] and ids[1] == ids[4] and len(set(ids)) == 3
        assert jobs.count().total == 3
        assert [handle.duplicate for handle in jobs.enqueue_many([welcome.call("ann"), welcome.call("new")])] == [
            True,
            False,
        ]

    def test_many_of_which_some_are_refused(self, jobs: Jobcard) -> None:
        """An error says which; ignored ones have None in their places."""
        welcome = declare(jobs, Unique(by="to", on_conflict="raise"))
        with pytest.raises(DuplicateJobError) as caught:
            jobs.enqueue_many([welcome.call("ann"), welcome.call("bob"), welcome.call("ann"), welcome.call("eve")])
        assert caught.value.index == 2 and jobs.count().total == 3
        ignored = welcome.options(unique=Unique(by="to", on_conflict="ignore"))
        handles = jobs.enqueue_many([ignored.call("ann"), ignored.call("new")])
        assert handles[0] is None and handles[1].refresh().args == ["new"]

    def test_a_bad_key_among_many_stores_nothing(self, jobs: Jobcard) -> None:
        """It is told by its place, like a bad argument."""

        def key(to: str) -> Any:
            return 5 if to == "bob" else to

        welcome = declare(jobs, Unique(key=key))
        with pytest.raises(InvalidJobError, match=r"calls\[2\].*must return text, not int") as caught:
            jobs.enqueue_many([welcome.call(to) for to in ("ann", "eve", "bob", "cat")])
        assert caught.value.index == 2 and jobs.count().total == 0

    def test_awaitable(self, jobs: Jobcard) -> None:
        """Also a period, for which the store must be asked; what is enqueued at the same time is one."""
        alive, monthly = (declare_as(jobs, f"j{n}", unique) for n, unique in enumerate((True, Unique(per="ever"))))

        async def enqueue() -> None:
            for job in (alive, monthly):
                handles = await asyncio.gather(*(job.enqueue_async(n) for n in range(20)))
                assert len({handle.id for handle in handles}) == 1
                assert sum(not handle.duplicate for handle in handles) == 1
            (again,) = await jobs.enqueue_many_async([monthly.call(5)])
            assert again.duplicate

        asyncio.run(enqueue())
        assert jobs.count().total == 2

    def test_a_hook_makes_it_so(self, jobs: Jobcard) -> None:
        """Options are the hook's to change, and keys are made of what it leaves of the arguments."""
        welcome = declare(jobs, None)

        @jobs.before_enqueue
        def once(job: Enqueuing) -> None:
            job.args = [str(job.args[0]).lower()]  # type: ignore[index]
            job.options["unique"] = Unique(by="to", per="ever")

        first = welcome.enqueue("ANN")
        assert same(first, welcome.enqueue("ann"))
        assert asyncio.run(jobs.enqueue_many_async([welcome.call("Ann")]))[0].duplicate

    def test_jobs_of_a_group(self, jobs: Jobcard) -> None:
        """Like any other."""
        group = JobGroup(prefix="mail.")

        @group.job(unique=Unique(by="to"))
        def send(to: str, body: str) -> None: ...

        jobs.include(group)
        assert same(send.enqueue("ann", "1"), send.enqueue("ann", "2"))

    def test_follow_ups(self, jobs: Jobcard, hands: Hands) -> None:
        """One whose key is taken is not stored, whatever a conflict would do; the parent completes all the same."""
        from jobcard.backends.base import Outcome
        from jobcard.core import states

        welcome = declare(jobs, Unique(by="to", on_conflict="raise"))
        for expected in (1, 0):
            parent = jobs.enqueue("parent", strict=False, queue="parents")
            (claim,) = hands.claim(1, "parents")
            new = jobs.parts.producer.new_follow_up(welcome.call("ann"), follow_up_id(claim.id, 0), claim.id)
            answer = hands.store.exchange(
                "hands", outcomes=[Outcome(claim.ref, claim.token, states.complete("1"), [new])]
            )
            assert answer.refusals == [] and parent.refresh().state == "completed"
            assert len(hands.store.get([new.id])) == expected

    def test_a_retry_into_a_taken_key(self, jobs: Jobcard, hands: Hands) -> None:
        """`retry` refuses with the holder's id; a job that waits already has its key, and `run_now` takes nobody's."""
        welcome = declare(jobs, Unique(by="to"))
        first = welcome.enqueue("ann")
        (claim,) = hands.claim()
        hands.fail(claim)
        second = welcome.options(delay=60).enqueue("ann")
        with pytest.raises(DuplicateJobError, match=f"^cannot retry: job {first.id} has a unique key") as caught:
            jobs.retry(first.id)
        assert (caught.value.job_id, caught.value.existing_id) == (first.id, second.id)
        assert jobs.retry_many(name="welcome") == 0 and first.refresh().state == "failed"
        assert jobs.run_now(second.id).hold is None
        with pytest.raises(TransitionError):
            jobs.run_now(first.id)
        second.cancel()
        assert jobs.retry(first.id).state == "waiting"
        assert same(first, welcome.enqueue("ann"))

    def test_a_retry_keeps_its_window(self, jobs: Jobcard, hands: Hands) -> None:
        """A job that has the window may run again, and has it still."""
        welcome = declare(jobs, Unique(per="ever"))
        first = welcome.enqueue("ann")
        (claim,) = hands.claim()
        hands.fail(claim)
        assert jobs.retry(first.id).state == "waiting"
        assert same(first, welcome.enqueue("ann"))


def declare_as(jobs: Jobcard, name: str, unique: Any) -> Any:
    @jobs.job(name=name, unique=unique)
    def job(number: int) -> None: ...

    return job


class TestUnderTest:
    def test_manual(self, jobs: Jobcard) -> None:
        """The private store has the same keys, and its own time."""
        welcome, daily = declare(jobs, Unique(by="to")), declare_as(jobs, "daily", Unique(per="day"))
        outside = welcome.enqueue("ann")
        with jobs.testing() as t:
            first = welcome.enqueue("ann")
            assert first.id != outside.id and same(first, welcome.enqueue("ann"))
            one = daily.enqueue(1)
            assert same(one, daily.enqueue(2))
            assert t.drain().completed == 2
            assert not same(first, welcome.enqueue("ann"))
            assert same(one, daily.enqueue(3))
            t.advance(timedelta(days=1))
            assert not same(one, daily.enqueue(4))
            t.assert_enqueued(daily, 4)
        assert welcome.enqueue("ann").id == outside.id

    @pytest.mark.parametrize("on_conflict", ["return", "ignore", "raise", "replace"])
    def test_inline(self, jobs: Jobcard, on_conflict: OnConflict) -> None:
        """A job that has run is no obstacle; one that waits is, and its period lasts."""
        welcome = declare(jobs, Unique(on_conflict=on_conflict))
        once = welcome.options(unique=Unique(per="ever", on_conflict="ignore"))
        with jobs.testing("inline"):
            assert welcome.enqueue("ann").result() == "ann plain 1"
            assert welcome.enqueue("bob").result() == "bob plain 1"
            assert once.enqueue("ann").result() == "ann plain 1"
            assert once.enqueue("ann") is None
            assert jobs.enqueue_many([once.call("ann")]) == [None]
            assert asyncio.run(once.enqueue_async("ann")) is None


class TestRefused:
    @pytest.mark.parametrize(
        ("unique", "said"),
        [
            ("to", "must be True or a Unique"),
            (5, "must be True or a Unique"),
            (["to"], "must be True or a Unique"),
            (Unique, "must be True or a Unique"),
            (Unique(by="too"), "no parameter 'too'; did you mean 'to'"),
            (Unique(by=("to", "ctx")), "no parameter 'ctx'"),
        ],
        ids=str,
    )
    def test_a_bad_rule(self, jobs: Jobcard, unique: Any, said: str) -> None:
        """At the declaration, and at the enqueue before anything is stored."""
        with pytest.raises(ConfigError, match=said):
            declare(jobs, unique)
        welcome = declare(jobs, None)
        with pytest.raises(InvalidJobError, match=said):
            welcome.options(unique=unique)
        with pytest.raises(InvalidJobError, match=said):
            jobs.enqueue("welcome", ["ann"], unique=unique)
        assert jobs.count().total == 0

    @pytest.mark.parametrize(
        "given",
        [
            {"by": ()}, {"by": 5}, {"by": ("a b",)}, {"by": [""]}, {"by": ("a", 5)}, {"by": "a", "key": str},
            {"key": "to"}, {"key": 5}, {"per": "fortnight"}, {"per": 5}, {"per": timedelta(0)},
            {"per": timedelta(seconds=-1)}, {"per": timedelta.max}, {"on_conflict": "explode"}, {"on_conflict": None},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_bad_unique(self, given: Any) -> None:
        """Told where it is written."""
        with pytest.raises(ConfigError):
            Unique(**given)

    def test_a_coroutine_makes_no_key(self) -> None:
        """Nobody would wait for it."""

        async def key(to: str) -> str:
            return to

        with pytest.raises(ConfigError, match="not async"):
            Unique(key=key)  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [None, 5, b"x", ["a"], type("Text", (str,), {})("x")], ids=repr)
    def test_a_key_is_text(self, jobs: Jobcard, value: Any) -> None:
        """Exactly that: nothing is made into text by stealth."""
        welcome = declare(jobs, Unique(key=lambda to: value))
        with pytest.raises(InvalidJobError, match="key function must return text, not"):
            welcome.enqueue("ann")
        assert jobs.count().total == 0

    def test_a_key_function_that_raises(self, jobs: Jobcard) -> None:
        """Its error stands behind ours."""
        welcome = declare(jobs, Unique(key=lambda to: {}[to]))
        for enqueue in (welcome.enqueue, lambda to: asyncio.run(welcome.enqueue_async(to))):
            with pytest.raises(InvalidJobError, match="job welcome: its key function raised KeyError") as caught:
                enqueue("ann")
            assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(InvalidJobError, match="raised TypeError"):
            welcome.enqueue("ann", copies=3)


def test_of_many_clients_one_wins(url: str) -> None:
    """Real processes that enqueue the same at the same time: one job for each key, and all are told the same id."""
    store = open_backend(url)
    store.migrate()
    store.close()
    code = (
        "import sys\nfrom jobcard import Jobcard, Unique\n"
        f"jobs = Jobcard({url!r})\n"
        "@jobs.job(name='one', unique=Unique(by='key'))\ndef one(key: int, who: int) -> None: ...\n"
        "jobs.count()\nsys.stdin.readline()\n"
        "for key in range(40):\n    print(one.enqueue(key, int(sys.argv[1])).id)\n"
    )
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(who)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for who in range(4)
    ]
    for each in crowd:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    told = [each.communicate(timeout=120)[0].split() for each in crowd]
    assert [each.returncode for each in crowd] == [0] * 4
    assert all(len(ids) == 40 for ids in told)
    assert all(len(set(ids)) == 1 for ids in zip(*told, strict=True))
    with Jobcard(url) as jobs:
        assert jobs.count().total == 40


def test_keys_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """Another process, whose hashes differ, makes the same keys of the same sets and dicts."""
    code = (
        "from jobcard import Jobcard, Unique\n"
        f"jobs = Jobcard('sqlite:///{tmp_path}/jobs.db')\n"
        "@jobs.job(name='one', unique=Unique(by='args'))\ndef one(words, table) -> None: ...\n"
        "words = {'ham', 'eggs', 'spam', 'tea', 'jam'}\n"
        "print(one.enqueue(words, {word: 1 for word in words}).id)\n"
    )
    ids = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(ids) == 1


def test_random_calls_are_the_same_when_their_arguments_are() -> None:
    """Two hundred ways to write calls of a function with every kind of parameter, against Python's own binding."""
    import inspect

    jobs = Jobcard("sqlite:///:memory:")

    @jobs.job(name="f")
    def f(a: int, /, b: int = 2, *c: int, d: int = 4, **e: int) -> None: ...

    definition = jobs.registry.find("f")
    assert definition is not None
    chance = random.Random(7)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    for _ in range(200):
        args = tuple(chance.randint(1, 3) for _ in range(chance.randint(1, 4)))
        names = [name for name in ("b", "d", "x", "y") if chance.random() < 0.4 and not (name == "b" and len(args) > 1)]
        chance.shuffle(names)
        calls.append((args, {name: chance.choice([2, 4]) for name in names}))

    def bound(args: Any, kwargs: Any) -> Any:
        found = inspect.signature(f.__wrapped__).bind(*args, **kwargs)
        found.apply_defaults()
        return found.arguments

    say: Callable[..., str] = lambda args, kwargs: definition.say(jobs.codec, "args", None, args, kwargs)  # noqa: E731
    for left, right in itertools.combinations(calls, 2):
        assert (say(*left) == say(*right)) == (bound(*left) == bound(*right)), (left, right)
