"""Why a job does not run: every cause that holds, by its code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hands import Hands
from test_engines import write

from helpers.stores import raw
from jobcard import Ended, Jobcard, JobNotFoundError, Reason, ResultTimeoutError
from jobcard.core import states


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add")
    def add(a: int) -> int:
        return a

    return add


def codes(jobs: Jobcard, handle: Any) -> list[str]:
    return [reason.code for reason in jobs.explain(handle.id)]


class TestWaiting:
    def test_without_an_engine_nothing_runs(self, jobs: Jobcard, add: Any) -> None:
        """None at all, none for this queue, none that claims: each says so."""
        handle = add.enqueue(1)
        (reason,) = jobs.explain(handle.id)
        assert reason == Reason("no_engine", reason.text) and "no engine is alive" in reason.text
        write(jobs, "e1", queues=["mail"])
        (reason,) = jobs.explain(str(handle.id))
        assert reason.code == "no_engine" and "serves its queue 'default'" in reason.text
        write(jobs, "e2", queues=["default"], quiet=True)
        (reason,) = jobs.explain(handle.id)
        assert reason.code == "no_engine" and "quiet" in reason.text
        write(jobs, "e3", queues=["default"])
        assert jobs.explain(handle.id) == []

    def test_a_delayed_job_says_until_when(self, jobs: Jobcard, add: Any) -> None:
        """As a moment in UTC."""
        write(jobs)
        (reason,) = jobs.explain(add.options(at=datetime(2099, 1, 31, 8, tzinfo=UTC)).enqueue(1).id)
        assert (reason.code, reason.until) == ("not_due", datetime(2099, 1, 31, 8, tzinfo=UTC))
        assert "2099-01-31" in reason.text

    def test_all_causes_are_told_at_once(self, jobs: Jobcard, add: Any) -> None:
        """Who lifts one shall not have to ask again for the next."""
        handle = add.options(delay=60).enqueue(1)
        jobs.queues.pause("default")
        assert codes(jobs, handle) == ["not_due", "paused", "no_engine"]
        write(jobs)
        assert codes(jobs, handle) == ["not_due", "paused"]
        jobs.run_now(handle.id)
        assert codes(jobs, handle) == ["paused"]
        jobs.queues.resume("default")
        assert codes(jobs, handle) == []

    def test_a_full_queue_is_a_cause(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """When all that its engines may run of it is at work; quiet engines do not count, other queues neither."""
        jobs.queues.create("default", concurrency=2)
        write(jobs, "e1")
        write(jobs, "e2", queues=["mail"])
        write(jobs, "e3", quiet=True)
        handles = jobs.enqueue_many([add.call(number) for number in range(5)])
        jobs.enqueue_many([add.options(queue="mail").call(number) for number in range(5)])
        hands.claim(5, "mail")
        (first,) = hands.claim(1)
        assert codes(jobs, handles[-1]) == []
        hands.claim(1)
        assert codes(jobs, handles[-1]) == ["queue_limit"]
        jobs.snooze(handles[-1].id, 60)
        assert codes(jobs, handles[-1]) == ["not_due"]
        write(jobs, "e4")
        assert codes(jobs, handles[-2]) == []
        hands.complete(first)
        assert codes(jobs, handles[-2]) == []

    def test_a_parked_job_has_a_name_nobody_knows(self, jobs: Jobcard, hands: Hands) -> None:
        """Until an engine does."""
        write(jobs)
        handle = jobs.enqueue("elsewhere", strict=False)
        (claim,) = hands.claim()
        hands.end(claim, states.park(claim))
        assert codes(jobs, handle) == ["unknown_name"]

    def test_a_broken_record_is_held(self, jobs: Jobcard, hands: Hands) -> None:
        """Its bytes are kept, and it is not run."""
        write(jobs)
        handle = jobs.enqueue("x", strict=False)
        (claim,) = hands.claim()
        parked = states.park(claim)
        hands.end(claim, parked._replace(sets={**parked.sets, "hold": states.Hold.BROKEN}))
        assert codes(jobs, handle) == ["held"]


class TestDependents:
    """What a job waits for that others have to do; each line is all of its text."""

    @pytest.fixture(autouse=True)
    def engine(self, jobs: Jobcard) -> None:
        write(jobs)

    def reason(self, jobs: Jobcard, handle: Any) -> Reason:
        (reason,) = jobs.explain(handle.id)
        assert (reason.code, reason.until) == ("dependency", None)
        return reason

    def text(self, jobs: Jobcard, handle: Any) -> str:
        return self.reason(jobs, handle).text

    def test_a_job_that_has_not_ended(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """With its state, and its id among the jobs of the reason."""
        first = add.enqueue(1)
        held, takes = add.options(after=first).enqueue(2), add.options(after=Ended(first)).enqueue(3)
        assert self.reason(jobs, held) == Reason(
            "dependency", f"it waits for job {first.id} (waiting)", jobs=(first.id,)
        )
        (claim,) = hands.claim()
        assert self.text(jobs, takes) == f"it waits for job {first.id} (claimed)"
        hands.end(claim, states.start(claim, ago=0))
        assert self.text(jobs, held) == self.text(jobs, takes) == f"it waits for job {first.id} (running)"

    def test_a_job_that_has(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Until an engine has seen to it; what failed stays what it waits for, unless any end will do."""
        done, failed = add.enqueue(1), add.enqueue(2)
        held, wants, takes = (
            add.options(after=after).enqueue(3) for after in ([done], [done, failed], [Ended(failed), done])
        )
        first, second = hands.claim(2)
        hands.complete(first)
        hands.fail(second)
        soon = "what it waited for has come, and an engine is about to put it in line"
        assert self.text(jobs, held) == self.text(jobs, takes) == soon
        assert self.reason(jobs, held).jobs == ()
        assert self.text(jobs, wants) == f"it waits for job {failed.id} (failed)"

    def test_a_job_that_is_not_there(self, jobs: Jobcard, add: Any) -> None:
        """Deleted, or never stored."""
        strange = uuid4()
        assert self.text(jobs, add.options(after=strange).enqueue(1)) == f"it waits for job {strange} (not there)"

    def test_what_cannot_be_read(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """The record of the one that it waits for, or its own word for whom it waits; no error, for that is asked."""
        first = add.enqueue(1)
        held = add.options(after=first).enqueue(2)
        raw(hands.store, "update jobcard_jobs set args = cast(x'ff' as text) where id = ?", first.id.bytes)
        assert self.text(jobs, held) == f"it waits for job {first.id} (cannot be read)"
        raw(hands.store, "update jobcard_jobs set waits_for = '?' where id = ?", held.id.bytes)
        assert self.text(jobs, held) == "it waits for others, and for which ones cannot be read"

    def test_only_what_has_not_come_is_named(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """The first three, and how many more; however many it waited for at first."""
        handles = jobs.enqueue_many([add.call(n) for n in range(1_000)])
        held = add.options(after=handles).enqueue(0)
        names = [f"job {handle.id} (waiting)" for handle in handles]
        assert self.text(jobs, held) == f"it waits for {', '.join(names[:3])} and 997 more"
        for claim in hands.claim(996):
            hands.complete(claim)
        assert self.text(jobs, held) == f"it waits for {', '.join(names[996:999])} and 1 more"
        assert self.reason(jobs, held).jobs == tuple(handle.id for handle in handles[996:999])
        for claim in hands.claim(3):
            hands.complete(claim)
        assert self.text(jobs, held) == f"it waits for {names[999]}"

    def test_a_batch(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """How much of it is left; when nothing is, whether it was the success that is waited for."""
        with jobs.batch(on_success=add.call(0), on_end=add.call(1)) as b:
            b.enqueue_many([add.call(2), add.options(queue="mail").call(3), add.options(delay=60).call(4)])
        held, takes = jobs.list(args=[0])[0], jobs.list(args=[1])[0]
        left = f"it waits for batch {b.id}"
        assert self.text(jobs, held) == self.text(jobs, takes) == f"{left} (3 of 3 jobs have not ended)"
        assert self.reason(jobs, held).jobs == ()
        (claim,) = hands.claim()
        hands.complete(claim)
        (claim,) = hands.claim(1, "mail")
        assert self.text(jobs, held) == f"{left} (2 of 3 jobs have not ended)"
        hands.fail(claim)
        assert self.text(jobs, takes) == f"{left} (1 of 3 jobs has not ended)"
        assert b.cancel_rest() == 1
        assert self.text(jobs, held) == f"{left} (2 of 3 jobs have not completed)"
        assert "has come" in self.text(jobs, takes)
        empty = jobs.batch()
        with empty:
            pass
        assert "has come" in self.text(jobs, add.options(after=empty).enqueue(5))

    def test_other_causes_are_told_too(self, jobs: Jobcard, add: Any) -> None:
        """A pause, no engine, and that it is not due yet: it waits for both."""
        held = add.options(after=uuid4(), queue="mail").enqueue(1)
        jobs.queues.create("mail", paused=True)
        assert codes(jobs, held) == ["dependency", "paused", "no_engine"]
        at = datetime(2099, 1, 31, 8, tzinfo=UTC)
        told = jobs.explain(add.options(after=uuid4(), at=at).enqueue(1).id)
        assert [(reason.code, reason.until) for reason in told] == [("dependency", None), ("not_due", at)]

    def test_who_waits_for_the_result_hears_it(self, jobs: Jobcard, add: Any) -> None:
        """`ResultTimeoutError` says what `explain` says."""
        first = add.enqueue(1)
        held = add.options(after=first).enqueue(2)
        with pytest.raises(ResultTimeoutError, match=rf"it waits for job {first.id} \(waiting\)"):
            held.result(timeout=0)
        with pytest.raises(ResultTimeoutError, match=rf"it waits for job {first.id} \(waiting\)"):
            held.result(timeout=0.05)


class TestOthers:
    def test_a_job_at_work_runs(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """Claimed or running, with who or since when; nothing else matters then."""
        handle = add.enqueue(1)
        jobs.queues.pause("default")
        (claim,) = hands.claim()
        (reason,) = jobs.explain(handle.id)
        assert reason.code == "running" and "engine hands has claimed it" in reason.text
        hands.end(claim, states.start(claim, ago=0))
        handle.cancel()
        (reason,) = jobs.explain(handle.id)
        assert reason.code == "running" and "it runs since" in reason.text and "asked to cancel" in reason.text

    def test_an_ended_job_has_ended(self, jobs: Jobcard, add: Any, hands: Hands) -> None:
        """How, when and why."""
        done, failed, canceled = (add.enqueue(number) for number in range(3))
        canceled.cancel()
        first, second = hands.claim(2)
        hands.complete(first)
        hands.fail(second, reason="timeout")
        told = [jobs.explain(handle.id) for handle in (done, failed, canceled)]
        assert [[reason.code for reason in reasons] for reasons in told] == [["ended"]] * 3
        assert [reasons[0].text.split()[2] for reasons in told] == ["completed", "failed", "canceled"]
        assert told[1][0].text.endswith(": timeout")

    def test_a_missing_job_is_told(self, jobs: Jobcard) -> None:
        """By any id, well formed or not."""
        for missing in (uuid4(), "nonsense"):
            with pytest.raises(JobNotFoundError):
                jobs.explain(missing)
