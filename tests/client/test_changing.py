"""What an operator may do to a job, and what its state does not allow."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hands import Hands

from jobcard import ConfigError, InvalidJobError, Jobcard, JobNotFoundError, TransitionError
from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend
from jobcard.client import moves
from jobcard.conformance import factory
from jobcard.core import clock, states
from jobcard.core.job import JobRow
from jobcard.core.states import Change

STATES = ("waiting", "claimed", "running", "completed", "failed", "canceled")


def job_in(jobs: Jobcard, hands: Hands, state: str) -> Any:
    """A job in this state, and the only one that could be claimed."""
    handle = jobs.enqueue("x", queue=state)
    if state == "canceled":
        jobs.cancel(handle.id)
    elif state != "waiting":
        (claim,) = hands.claim(1, state)
        if state == "running":
            hands.end(claim, states.start(claim, ago=0))
        elif state == "completed":
            hands.complete(claim)
        elif state == "failed":
            hands.fail(claim)
    assert handle.refresh().state == state
    return handle


ALLOWED = {
    "cancel": {"waiting", "claimed", "running"},
    "retry": {"failed", "canceled"},
    "run_now": {"waiting"},
    "snooze": {"waiting"},
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", ALLOWED)
def test_each_move_is_allowed_from_its_states_only(jobs: Jobcard, hands: Hands, verb: str, state: str) -> None:
    """Elsewhere it raises what it found and what it needs, and nothing changes."""
    handle = job_in(jobs, hands, state)
    before = handle.refresh()
    arguments = (60,) if verb == "snooze" else ()
    if state in ALLOWED[verb]:
        after = getattr(jobs, verb)(handle.id, *arguments)
        assert after == handle.refresh()
        return
    with pytest.raises(TransitionError) as caught:
        getattr(jobs, verb)(str(handle.id), *arguments)
    assert (caught.value.verb, caught.value.found) == (verb, state)
    assert set(caught.value.allowed) == ALLOWED[verb]
    assert str(handle.id) in str(caught.value)
    assert handle.refresh() == before


@pytest.mark.parametrize("verb", ALLOWED)
def test_a_missing_job_is_told(jobs: Jobcard, verb: str) -> None:
    """Whether its id is one or not."""
    for wrong in (uuid4(), "x"):
        with pytest.raises(JobNotFoundError):
            getattr(jobs, verb)(wrong, *((60,) if verb == "snooze" else ()))


class TestCancel:
    def test_a_waiting_job_never_starts(self, jobs: Jobcard, hands: Hands) -> None:
        """It ends at once."""
        job = jobs.cancel(jobs.enqueue("x", delay=60).id)
        assert (job.state, job.reason, job.hold, job.cancel_requested) == ("canceled", "canceled", None, False)
        assert hands.claim() == []

    @pytest.mark.parametrize("state", ["claimed", "running"])
    def test_a_job_at_work_is_told(self, jobs: Jobcard, hands: Hands, state: str) -> None:
        """Its holder keeps it until it has stopped, and hears of it with its next exchange."""
        handle = job_in(jobs, hands, state)
        job = handle.cancel()
        assert (job.state, job.cancel_requested, job.claimed_by) == (state, True, "hands")
        assert handle.cancel().cancel_requested
        assert [why for _, why in hands.store.exchange("hands").cancels] == ["canceled"]


class TestRetry:
    def test_it_starts_from_the_beginning(self, jobs: Jobcard, hands: Hands) -> None:
        """Due now, attempt 0; the id, the arguments and the errors are kept."""
        handle = job_in(jobs, hands, "failed")
        job = jobs.retry(handle.id)
        assert (job.state, job.attempt, job.reason, job.finished_at) == ("waiting", 0, None, None)
        assert [error["message"] for error in job.errors] == ["it broke"]
        (claim,) = hands.claim(1, "failed")
        assert (claim.id, claim.attempt) == (handle.id.bytes, 1)


class TestWhen:
    def test_run_now_and_snooze_move_the_time(self, url: str) -> None:
        """By the store's clock."""
        now = clock.FrozenClock()
        with Jobcard(backend=open_backend(url, clock=now)) as jobs:
            handle = jobs.enqueue("x", delay=3600)
            now.advance(60)
            job = jobs.run_now(handle.id)
            assert (job.available_at, job.hold) == (clock.to_datetime(now.now()), None)
            job = jobs.snooze(handle.id, timedelta(minutes=5))
            assert (job.available_at, job.hold) == (clock.to_datetime(now.now() + 300 * clock.SECOND), "delay")
            assert jobs.snooze(handle.id, 0).hold is None

    @pytest.mark.parametrize("delay", [-(10**9), 10**12, float("nan"), "5", True, None, timedelta.max])
    def test_a_bad_delay_is_refused(self, jobs: Jobcard, delay: Any) -> None:
        """As for an enqueue."""
        handle = jobs.enqueue("x")
        with pytest.raises(InvalidJobError):
            jobs.snooze(handle.id, delay)


class TestMoving:
    """The job moves between our reading and our writing."""

    def test_a_claim_in_between_is_seen(self, jobs: Jobcard, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
        """The cancel of a job that was just claimed becomes a request; it is neither lost nor forced."""
        handle = jobs.enqueue("x")
        self.meanwhile(monkeypatch, jobs, lambda: hands.claim())
        job = jobs.cancel(handle.id)
        assert (job.state, job.cancel_requested, job.claim_token) == ("claimed", True, 1)

    def test_a_start_in_between_is_kept(self, jobs: Jobcard, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
        """A cancel request never takes a running job back to claimed."""
        handle = jobs.enqueue("x")
        (claim,) = hands.claim()
        self.meanwhile(monkeypatch, jobs, lambda: hands.end(claim, states.start(claim, ago=0)))
        job = handle.cancel()
        assert (job.state, job.cancel_requested) == ("running", True)

    def test_an_end_in_between_is_told(self, jobs: Jobcard, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
        """What has ended by then is not changed any more."""
        handle = jobs.enqueue("x")
        (claim,) = hands.claim()
        self.meanwhile(monkeypatch, jobs, lambda: hands.complete(claim))
        with pytest.raises(TransitionError) as caught:
            handle.cancel()
        assert caught.value.found == "completed"

    def test_a_release_in_between_is_seen(self, jobs: Jobcard, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
        """A job that was let go by those it waited for, and put off at that moment, waits for its time."""
        job_id = factory.enqueue(hands.store, waits_for="[]")
        self.meanwhile(monkeypatch, jobs, lambda: factory.release(hands.store, job_id))
        assert jobs.snooze(UUID(bytes=job_id), 3600).hold == "delay"
        assert hands.claim() == []

    @pytest.mark.parametrize("delay", [0, 60 * clock.SECOND])
    def test_one_replaced_in_between_waits_for_its_own(
        self, jobs: Jobcard, hands: Hands, monkeypatch: pytest.MonkeyPatch, delay: int
    ) -> None:
        """Told to run now it goes on waiting for those that the new one came with."""
        job_id = factory.enqueue(hands.store, unique_key="k", delay=delay)
        new = factory.new_job(unique_key="k", waits_for="[]", replaces=True)
        self.meanwhile(monkeypatch, jobs, lambda: hands.store.enqueue([new]))
        assert jobs.run_now(UUID(bytes=job_id)).hold == "after"
        assert hands.claim() == []

    def meanwhile(self, monkeypatch: pytest.MonkeyPatch, jobs: Jobcard, happens: Any) -> None:
        with jobs._parts.connection as store:
            real = store.apply_by_operator
        pending = [happens]

        def apply(job_id: bytes, change: Change) -> JobRow | None:
            if pending:
                pending.pop()()
            return real(job_id, change)

        monkeypatch.setattr(store, "apply_by_operator", apply)


class TestMany:
    def test_failed_jobs_are_retried(self, jobs: Jobcard, hands: Hands) -> None:
        """All that fit; canceled ones only when asked for."""
        handles = {state: job_in(jobs, hands, state) for state in STATES}
        assert jobs.retry_many(queue="other") == 0
        assert jobs.retry_many() == 1
        assert jobs.retry_many(state="canceled", queue=["canceled", "failed"]) == 1
        assert [handle.refresh().state for handle in handles.values()] == [
            "waiting", "claimed", "running", "completed", "waiting", "waiting",
        ]  # fmt: skip

    def test_living_jobs_are_canceled(self, jobs: Jobcard, hands: Hands) -> None:
        """Waiting ones end, those at work are told, ended ones stay."""
        handles = {state: job_in(jobs, hands, state) for state in STATES}
        assert jobs.discard_many(state="waiting", name="y") == 0
        assert jobs.discard_many() == 3
        found = [handle.refresh() for handle in handles.values()]
        assert [job.state for job in found] == ["canceled", "claimed", "running", "completed", "failed", "canceled"]
        assert [job.cancel_requested for job in found] == [False, True, True, False, False, False]

    def test_states_that_cannot_be_meant_are_refused(self, jobs: Jobcard) -> None:
        """A completed job is neither retried nor canceled."""
        for call in (lambda: jobs.retry_many(state="waiting"), lambda: jobs.discard_many(state=["waiting", "failed"])):
            with pytest.raises(ConfigError):
                call()


class TestDeleting:
    def test_finished_jobs_are_deleted_by_age(self, url: str) -> None:
        """Older than seconds, a timedelta or a moment; jobs that live are never touched."""
        now = clock.FrozenClock()
        store: Backend = open_backend(url, clock=now)
        with Jobcard(backend=store) as jobs:
            for _ in range(3):
                jobs.enqueue("x").cancel()
                now.advance(60)
            living = jobs.enqueue("x")
            assert jobs.delete_finished(older_than=3600) == 0
            assert jobs.delete_finished(older_than=timedelta(seconds=130)) == 1
            moment = clock.to_datetime(now.now() - 90 * clock.SECOND)
            assert jobs.delete_finished(older_than=moment) == 1
            assert jobs.delete_finished(older_than=0) == 1
            assert [job.id for job in jobs.list()] == [living.id]

    def test_more_than_a_step(self, jobs: Jobcard, monkeypatch: pytest.MonkeyPatch) -> None:
        """All of them, some at a time."""
        monkeypatch.setattr(moves, "_AT_ONCE", 10)
        job = jobs.job(name="x")(lambda: None)
        jobs.enqueue_many([job.call() for _ in range(25)])
        assert jobs.discard_many() == 25
        assert jobs.delete_finished(older_than=0) == 25
        assert jobs.count().total == 0

    @pytest.mark.parametrize("older_than", [-1, "1", None, True, float("nan"), datetime(2026, 1, 1)])
    def test_a_bad_age_is_refused(self, jobs: Jobcard, older_than: Any) -> None:
        """Nothing is deleted by mistake."""
        jobs.enqueue("x").cancel()
        with pytest.raises((ConfigError, InvalidJobError)):
            jobs.delete_finished(older_than=older_than)
        assert jobs.count().total == 1

    def test_truncate_needs_a_word(self, jobs: Jobcard) -> None:
        """Without `confirm=True` nothing happens; with it everything is gone and the store still works."""
        jobs.enqueue("x", queue="mail")
        for confirm in (False, 1, "yes"):
            with pytest.raises(ConfigError):
                jobs.truncate(confirm=confirm)  # type: ignore[arg-type]
        assert jobs.count().total == 1
        jobs.truncate(confirm=True)
        assert (jobs.count().total, jobs.queues.names()) == (0, [])
        jobs.enqueue("x")
        assert jobs.count().total == 1
