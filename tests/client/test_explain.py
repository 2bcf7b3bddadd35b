"""Why a job does not run: every cause that holds, by its code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hands import Hands
from test_engines import write

from jobcard import Jobcard, JobNotFoundError, Reason
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
