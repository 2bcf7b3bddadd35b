"""Limits as an application writes them, and what `explain` says of each: staged on every store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hands import Hands
from test_engines import write

from jobcard import (
    ConfigError,
    InvalidJobError,
    Jobcard,
    JobClass,
    JobHandle,
    Queue,
    QueueNotFoundError,
    RateLimit,
    Reason,
    ResultTimeoutError,
)
from jobcard.backends.base import RecordKind, Want
from jobcard.core import states
from jobcard.core.job import Claimed
from jobcard.core.queue import queue_from_plain, queue_from_text, queue_to_plain, queue_to_text, reconcile
from jobcard.core.settings import Settings, settings_to_plain

pytestmark = pytest.mark.turns


@pytest.fixture
def url(of_each_kind: str) -> str:
    """A store of each kind: a limit is one everywhere."""
    return of_each_kind


def row_of(jobs: Jobcard, handle: JobHandle[Any]) -> Any:
    with jobs.parts.connection as store:
        return store.get([handle.id.bytes])[0]


def limits_of(jobs: Jobcard, handle: JobHandle[Any]) -> tuple[Any, ...]:
    row = row_of(jobs, handle)
    return row.limit_key, row.key_limit, row.rate_count, row.rate_per


def reasons(jobs: Jobcard, handle: JobHandle[Any]) -> dict[str, Reason]:
    found = jobs.explain(handle.id)
    assert len({reason.code for reason in found}) == len(found)
    return {reason.code: reason for reason in found}


def claim(hands: Hands, jobs: Jobcard, count: int = 10) -> list[Claimed]:
    """Claim of the default queue as an engine does that heeds its limits."""
    queue = jobs.queues.get("default")
    limits = {} if queue.limit is None else {queue.name: queue.limit}
    want = Want([("default", count)], count, limits)
    return hands.store.exchange("hands", want=want, lease=60_000_000).claimed


class TestKeys:
    def test_a_job_of_its_own(self, jobs: Jobcard) -> None:
        """Without a concurrency key all jobs of the name share the limit."""

        @jobs.job(name="call", key_limit=3, rate=RateLimit(50, per=timedelta(seconds=2)))
        def call(x: int) -> None: ...

        assert limits_of(jobs, call.enqueue(1)) == ("call", 3, 50, 2_000_000)
        assert call.enqueue(2).refresh().limit_key == "call"

    def test_by_parameters(self, jobs: Jobcard) -> None:
        """One name, several, or all: equal arguments share a limit of 1, however they were written."""

        @jobs.job(name="call", concurrency_key="tenant")
        def call(tenant: str, x: int = 1) -> None: ...

        first = limits_of(jobs, call.enqueue("a"))
        assert first == (limits_of(jobs, call.enqueue(tenant="a", x=9))) and first[1:] == (1, None, None)
        other = limits_of(jobs, call.enqueue("b"))
        assert other[0] != first[0] and other[0].startswith("call#")

        @jobs.job(name="both", concurrency_key=("tenant", "x"), key_limit=2)
        def both(tenant: str, x: int = 1) -> None: ...

        assert limits_of(jobs, both.enqueue("a")) == limits_of(jobs, both.enqueue("a", 1))
        assert limits_of(jobs, both.enqueue("a")) != limits_of(jobs, both.enqueue("a", 2))

        @jobs.job(name="report", concurrency_key="region")
        class Report(JobClass):
            def __init__(self, region: str) -> None: ...

            def run(self, day: int) -> None: ...

        eu = [limits_of(jobs, Report.with_("eu").enqueue(day)) for day in (1, 2)]
        assert eu[0] == eu[1] != limits_of(jobs, Report.with_("us").enqueue(1))

    def test_by_a_function_jobs_share_a_limit(self, jobs: Jobcard) -> None:
        """Its text is the key, whatever the job is called; no job's own limit is ever the same."""

        @jobs.job(name="tenant-7", key_limit=2)
        def plain(tenant: int) -> None: ...

        def key(tenant: int) -> str:
            return f"tenant-{tenant}"

        @jobs.job(name="a", concurrency_key=key, key_limit=2)
        def a(tenant: int) -> None: ...

        @jobs.job(name="b", concurrency_key=key, rate=RateLimit(5, per=60))
        def b(tenant: int) -> None: ...

        assert limits_of(jobs, a.enqueue(7)) == ("#tenant-7", 2, None, None)
        # A key with a rate alone has no limit of how many at once.
        assert limits_of(jobs, b.enqueue(7)) == ("#tenant-7", None, 5, 60_000_000)
        assert limits_of(jobs, plain.enqueue(7))[0] == "tenant-7"

    def test_any_text_is_a_key(self, jobs: Jobcard) -> None:
        """Long or odd text is a key of its own, too, and fits the store."""

        @jobs.job(name="call", concurrency_key=lambda text: text)
        def call(text: str) -> None: ...

        texts = ["x" * 200, "x" * 201, "x" * 100_000, "a b", "a\0b", "\ud800", "%", "é", "#", "a"]
        keys = [limits_of(jobs, call.enqueue(text))[0] for text in texts]
        assert len(set(keys)) == len(texts) and max(map(len, keys)) <= 201
        wrong: list[tuple[Any, str]] = [("", "empty text"), (5, "must return text, not int")]
        for text, said in wrong:
            with pytest.raises(InvalidJobError, match=said):
                call.enqueue(text)

    def test_all_ways_of_enqueueing_bring_them(self, jobs: Jobcard) -> None:
        """Many at once, by name, as a follow-up; an enqueue cannot say otherwise."""
        import asyncio

        @jobs.job(name="call", concurrency_key="x")
        def call(x: int) -> None: ...

        one = call.enqueue(1)
        handles = [*jobs.enqueue_many([call.call(1), call.call(1)]), jobs.enqueue("call", [1])]
        handles += [asyncio.run(call.enqueue_async(1)), *asyncio.run(jobs.enqueue_many_async([call.call(1)]))]
        assert {limits_of(jobs, handle) for handle in handles} == {limits_of(jobs, one)}
        new = jobs.parts.producer.new_follow_up(call.call(1), bytes(16), one.id.bytes)
        assert (new.limit_key, new.key_limit) == limits_of(jobs, one)[:2]
        with pytest.raises(ConfigError, match="concurrency_key"):
            call.options(concurrency_key="y")  # type: ignore[call-arg]
        assert limits_of(jobs, jobs.enqueue("other", strict=False)) == (None, None, None, None)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"concurrency_key": "y"}, "no parameter 'y'"),
            ({"concurrency_key": ("x", "tenannt")}, "did you mean 'tenant'"),
            ({"concurrency_key": 5}, "must be names of parameters"),
            ({"concurrency_key": ()}, "must be names of parameters"),
            ({"concurrency_key": ""}, "must be names of parameters"),
            ({"concurrency_key": "x", "key_limit": 0}, "key_limit must be 1 to"),
            ({"key_limit": 1.5}, "key_limit must be a whole number"),
            ({"key_limit": True}, "key_limit must be a whole number"),
            ({"key_limit": 10_001}, "key_limit must be 1 to 10,000"),
            ({"rate": 50}, "rate must be a RateLimit"),
            ({"rate": (50, 1)}, "rate must be a RateLimit"),
            ({"ratee": 5}, "did you mean 'rate'"),
        ],
        ids=str,
    )
    def test_a_bad_limit_is_told_at_the_declaration(self, jobs: Jobcard, options: Any, said: str) -> None:
        """As a `ConfigError`, and the job is not declared."""
        with pytest.raises(ConfigError, match=said):

            @jobs.job(name="call", **options)
            def call(tenant: str, x: int) -> None: ...

        assert len(jobs.registry) == 0

    def test_a_key_function_that_is_async(self, jobs: Jobcard) -> None:
        """Nobody would wait for it."""

        async def key(x: int) -> str:
            return str(x)

        with pytest.raises(ConfigError, match="not async"):
            jobs.job(name="call", concurrency_key=key)(lambda x: x)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "given",
        [(0, 1), (-1, 1), (1.5, 1), (True, 1), ("5", 1), (10**7, 1), (5, 0), (5, -1), (5, 0.01), (5, "1"), (5, None),
         (5, float("nan")), (5, timedelta(days=32))],
        ids=str,
    )  # fmt: skip
    def test_a_bad_rate(self, given: Any) -> None:
        """A `ConfigError` where it is written."""
        with pytest.raises(ConfigError):
            RateLimit(given[0], per=given[1])


class TestQueues:
    def test_limits_are_made_changed_and_read(self, jobs: Jobcard) -> None:
        """Like every other field; None takes a limit away."""
        rate = RateLimit(50, per=1)
        assert jobs.queues.create("mail", global_concurrency=4, rate=rate) == Queue(
            "mail", global_concurrency=4, rate=rate
        )
        assert jobs.queues.get("mail").rate == RateLimit(50, per=timedelta(seconds=1))
        assert jobs.queues.update("mail", rate=None) == Queue("mail", global_concurrency=4)
        assert jobs.queues.update("mail", global_concurrency=None, concurrency=3) == Queue("mail", 3)

    def test_lists_may_be_in_their_order(self, jobs: Jobcard) -> None:
        """No limit is the highest one; rates are compared by starts in a second."""
        for name, most, rate in (("a", 9, None), ("b", None, RateLimit(60, 60)), ("c", 2, RateLimit(2, 1))):
            jobs.queues.create(name, global_concurrency=most, rate=rate)
        assert [queue.name for queue in jobs.queues.list("global_concurrency")] == ["c", "a", "b"]
        assert [queue.name for queue in jobs.queues.list("-rate")] == ["a", "c", "b"]
        for field in ("paused_by", "-paused_since"):
            with pytest.raises(ConfigError):
                jobs.queues.list(field)

    @pytest.mark.parametrize(
        "options",
        [{"global_concurrency": 0}, {"global_concurrency": 1.5}, {"global_concurrency": "4"},
         {"global_concurrency": True}, {"global_concurrency": 10_001}, {"rate": 5}, {"rate": "50/1"},
         {"rate": {"count": 5, "per": 1}}, {"global_concurency": 4}, {"paused_by": "ann"}],
        ids=str,
    )  # fmt: skip
    def test_a_bad_limit_changes_nothing(self, jobs: Jobcard, options: Any) -> None:
        """It is a `ConfigError`, for a new queue and an old one."""
        jobs.queues.create("mail")
        for name, change in (("new", jobs.queues.create), ("mail", jobs.queues.update)):
            with pytest.raises(ConfigError):
                change(name, **options)
        assert jobs.queues.list() == [Queue("mail")]

    def test_declared_ones_reach_the_engines_process(self) -> None:
        """They go there as JSON and come back the same."""
        queue = Queue("mail", global_concurrency=4, rate=RateLimit(50, per=0.5), ageing=3)
        plain = json.loads(json.dumps(settings_to_plain(Settings(queues=(queue,)))["queues"]))
        assert [queue_from_plain(each) for each in plain] == [queue] == [queue_from_plain(queue_to_plain(queue))]

    def test_who_paused_it_and_since_when(self, jobs: Jobcard) -> None:
        """The first who did, until somebody resumes it; without a name this user on this host."""
        jobs.queues.create("mail")
        paused = jobs.queues.pause("mail", by="ann")
        since = paused.paused_since
        assert paused.paused_by == "ann" and since is not None
        assert abs(since - datetime.now(UTC)) < timedelta(minutes=5)
        for again in (
            jobs.queues.pause("mail", by="bob"),
            jobs.queues.update("mail", priority=3),
            jobs.queues.get("mail"),
        ):
            assert (again.paused_by, again.paused_since) == ("ann", since)
        resumed = jobs.queues.resume("mail")
        assert (resumed.paused, resumed.paused_by, resumed.paused_since) == (False, None, None)
        mine = jobs.queues.update("mail", paused=True)
        assert mine.paused_by is not None and "@" in mine.paused_by
        assert jobs.queues.create("new", paused=True).paused_by == mine.paused_by
        with pytest.raises(QueueNotFoundError):
            jobs.queues.pause("missing", by="ann")
        for wrong in ("", "x" * 201, "a\nb", 5):
            with pytest.raises(ConfigError):
                jobs.queues.pause("mail", by=wrong)  # type: ignore[arg-type]

    def test_older_readers_pass_over_it(self, jobs: Jobcard) -> None:
        """What they know of the record is as it was; a new declaration in code does not lift the pause."""
        jobs.queues.create("mail", concurrency=3)
        jobs.queues.pause("mail", by="ann")
        with jobs.parts.connection as store:
            (record,) = store.read_records(RecordKind.QUEUE)
        document = json.loads(record.value)
        assert (document.pop("paused_by"), type(document.pop("paused_since"))) == ("ann", int)
        assert queue_from_text("mail", json.dumps(document))[0] == Queue("mail", 3, paused=True)
        stored = jobs.queues.get("mail")
        declared = reconcile(stored, None, Queue("mail", 9))
        assert declared == Queue("mail", 9, paused=True)
        assert (declared.paused_by, declared.paused_since) == ("ann", stored.paused_since)
        assert "paused_by" not in queue_to_text(Queue("mail"))


class TestExplain:
    """Each code that a limit has, and several at once."""

    def test_a_queue_that_is_full_over_all_engines(self, jobs: Jobcard, hands: Hands) -> None:
        """`global_limit`, with up to three of those at work; free again, it is no cause any more."""
        jobs.queues.create("default", global_concurrency=4)
        for engine in ("e1", "e2"):
            write(jobs, engine)
        handles = [jobs.enqueue("x", strict=False) for _ in range(6)]
        claims = claim(hands, jobs)
        assert len(claims) == 4
        found = reasons(jobs, handles[-1])
        assert list(found) == ["global_limit"]
        reason = found["global_limit"]
        assert set(reason.jobs) < {handle.id for handle in handles[:4]} and len(reason.jobs) == 3
        assert all(str(job_id) in reason.text for job_id in reason.jobs) and reason.text.endswith(" and 1 more")
        hands.complete(claims[0])
        assert reasons(jobs, handles[-1]) == {}

    def test_a_queue_that_is_full_in_each_engine(self, jobs: Jobcard, hands: Hands) -> None:
        """`queue_limit`, beside `global_limit` where both hold."""
        jobs.queues.create("default", concurrency=1, global_concurrency=1)
        write(jobs)
        first, second = (jobs.enqueue("x", strict=False) for _ in range(2))
        claim(hands, jobs)
        found = reasons(jobs, second)
        assert list(found) == ["queue_limit", "global_limit"]
        assert found["queue_limit"].jobs == found["global_limit"].jobs == (first.id,)

    def test_a_queue_whose_rate_is_used_up(self, jobs: Jobcard, hands: Hands) -> None:
        """`rate_limit` until the window has room."""
        jobs.queues.create("default", rate=RateLimit(2, per=3600))
        write(jobs)
        handles = [jobs.enqueue("x", strict=False) for _ in range(4)]
        assert reasons(jobs, handles[-1]) == {}
        assert len(claim(hands, jobs)) == 2
        reason = reasons(jobs, handles[-1])["rate_limit"]
        assert "2 of the jobs of its queue 'default' may start in 3600 s" in reason.text
        self.in_about_an_hour(reason)

    @staticmethod
    def in_about_an_hour(reason: Reason) -> None:
        assert reason.until is not None
        assert timedelta(minutes=50) < reason.until - datetime.now(UTC) < timedelta(minutes=70)

    def test_a_key_at_its_limit(self, jobs: Jobcard, hands: Hands) -> None:
        """`key_limit`, before an engine came by and after; the holders are named, other keys are free."""

        @jobs.job(name="call", concurrency_key=lambda tenant: tenant, key_limit=2)
        def call(tenant: str) -> None: ...

        write(jobs)
        handles = [call.enqueue("a") for _ in range(3)]
        claims = claim(hands, jobs, 2)
        other = call.enqueue("b")
        for hold in (None, "limit"):
            assert handles[2].refresh().hold == hold
            found = reasons(jobs, handles[2])
            assert list(found) == ["key_limit"]
            assert set(found["key_limit"].jobs) == {handle.id for handle in handles[:2]}
            assert "2 of the jobs with the key 'a' are at work, and 2 is all" in found["key_limit"].text
            if hold is None:
                assert reasons(jobs, other) == {}
                assert [claimed.id for claimed in claim(hands, jobs)] == [other.id.bytes]
        hands.complete(claims[0])
        assert "about to come back in line" in reasons(jobs, handles[2])["key_limit"].text

    def test_a_job_at_its_own_limit(self, jobs: Jobcard, hands: Hands) -> None:
        """It is named by its name; with a key made of arguments, by both."""
        for by, said in ((None, "1 of the jobs call are"), ("x", "the jobs call with its key")):

            @jobs.job(name="call", key_limit=1, concurrency_key=by)
            def call(x: int) -> None: ...

            write(jobs)
            call.enqueue(1)
            (claimed,) = claim(hands, jobs)
            second = call.enqueue(1)
            assert said in reasons(jobs, second)["key_limit"].text
            second.cancel()
            hands.complete(claimed)

    @pytest.mark.parametrize("ageing", [None, 60])
    def test_a_key_whose_rate_is_used_up(self, jobs: Jobcard, hands: Hands, ageing: int | None) -> None:
        """`rate_limit` before an engine came by and after, when the job is put off: not `not_due`."""
        jobs.queues.create("default", ageing=ageing)

        @jobs.job(name="call", rate=RateLimit(1, per=3600), priority=5)
        def call(x: int) -> None: ...

        write(jobs)
        call.enqueue(1)
        second = call.enqueue(2)
        assert reasons(jobs, second) == {}
        assert len(claim(hands, jobs, 1)) == 1
        for hold in (None, "delay"):
            assert second.refresh().hold == hold
            found = reasons(jobs, second)
            assert list(found) == ["rate_limit"]
            assert "1 of the jobs call may start in 3600 s, and have" in found["rate_limit"].text
            self.in_about_an_hour(found["rate_limit"])
            assert claim(hands, jobs) == []
        later = call.options(delay=60).enqueue(3)
        assert list(reasons(jobs, later)) == ["not_due"]

    def test_a_paused_queue_says_who_and_since_when(self, jobs: Jobcard) -> None:
        """As far as it is known."""
        write(jobs)
        handle = jobs.enqueue("x", strict=False)
        jobs.queues.pause("default", by="ann")
        reason = reasons(jobs, handle)["paused"]
        since = jobs.queues.get("default").paused_since
        assert since is not None
        assert reason.text == f"its queue 'default' is paused by ann since {since.isoformat(timespec='seconds')}"
        with jobs.parts.connection as store:
            store.write_record(RecordKind.QUEUE, "default", '{"paused":true}')
        assert reasons(jobs, handle)["paused"].text == "its queue 'default' is paused"

    def test_every_cause_at_once(self, jobs: Jobcard, hands: Hands) -> None:
        """Whoever lifts one need not ask again for the next."""
        jobs.queues.create("default", concurrency=1, global_concurrency=1)

        @jobs.job(name="call", key_limit=1, rate=RateLimit(1, per=3600))
        def call(x: int) -> None: ...

        write(jobs)
        call.enqueue(1)
        second = call.enqueue(2)
        claim(hands, jobs)
        assert list(reasons(jobs, second)) == ["queue_limit", "global_limit", "key_limit", "rate_limit"]
        jobs.queues.pause("default")
        assert list(reasons(jobs, second)) == ["paused", "queue_limit", "global_limit", "key_limit", "rate_limit"]
        write(jobs, quiet=True)
        assert list(reasons(jobs, second)) == ["paused", "no_engine", "global_limit", "key_limit", "rate_limit"]
        jobs.queues.update("default", rate=RateLimit(1, per=60), global_concurrency=None)
        jobs.snooze(second.id, 60)
        assert list(reasons(jobs, second)) == ["not_due", "paused", "no_engine"]

    def test_who_waits_for_the_result_hears_it(self, jobs: Jobcard, hands: Hands) -> None:
        """`ResultTimeoutError` says the same words."""

        @jobs.job(name="call", key_limit=1)
        def call(x: int) -> None: ...

        write(jobs)
        first, second = call.enqueue(1), call.enqueue(2)
        claim(hands, jobs)
        jobs.queues.pause("default", by="ann")
        with pytest.raises(ResultTimeoutError) as caught:
            second.result(timeout=0)
        assert all(reason.text in str(caught.value) for reason in jobs.explain(second.id))
        assert "paused by ann" in str(caught.value) and str(first.id) in str(caught.value)

    def test_at_work_and_ended_nothing_else_matters(self, jobs: Jobcard, hands: Hands) -> None:
        """A limit keeps only what waits."""

        @jobs.job(name="call", key_limit=1)
        def call(x: int) -> None: ...

        handle = call.enqueue(1)
        (claimed,) = claim(hands, jobs)
        assert list(reasons(jobs, handle)) == ["running"]
        hands.end(claimed, states.fail(claimed, reason="error", error=None, kind=None))
        assert list(reasons(jobs, handle)) == ["ended"]


class TestUnderTest:
    def test_a_rate_lets_time_pass(self, jobs: Jobcard) -> None:
        """A drain stops at a rate; `advance`, or `with_scheduled`, goes on when it has room."""
        runs: list[int] = []

        @jobs.job(name="call", rate=RateLimit(2, per=60))
        def call(x: int) -> None:
            runs.append(x)

        with jobs.testing() as t:
            jobs.enqueue_many([call.call(x) for x in range(5)])
            t.drain()
            assert runs == [0, 1]
            t.advance(70)
            t.drain()
            assert runs == [0, 1, 2, 3]
            t.drain(with_scheduled=True)
            assert runs == [0, 1, 2, 3, 4]

    def test_a_queues_rate_too(self, jobs: Jobcard) -> None:
        """And limits of how many at once keep nobody, where one runs after the other."""
        jobs.job(name="call", key_limit=1)(lambda x: x)
        with jobs.testing() as t:
            jobs.queues.create("default", global_concurrency=1, rate=RateLimit(3, per=60))
            for number in range(5):
                jobs.enqueue("call", [number])
            assert t.drain().completed == 3
            assert t.drain(with_scheduled=True).completed == 2

    def test_inline_a_job_runs_at_once(self, jobs: Jobcard) -> None:
        """Whatever its limits: nothing else would ever run it."""

        @jobs.job(name="call", key_limit=1, rate=RateLimit(1, per=60))
        def call(x: int) -> int:
            return call.enqueue(x - 1).result() + 1 if x else 0

        with jobs.testing("inline"):
            assert call.enqueue(2).result() == 2
