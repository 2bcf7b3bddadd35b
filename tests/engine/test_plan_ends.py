"""How tries end: time-outs, cancels and deaths."""

from __future__ import annotations

import pytest
from plan_desk import ERROR, KILLED, Desk, answer, claimed, sent_to, several

from jobcard.core.clock import SECOND
from jobcard.core.states import JobState
from jobcard.engine.commands import Exchange, Kill, Send, Tell
from jobcard.engine.held import Told
from jobcard.workers.messages import Exit, Why


def test_a_timeout_kills_only_the_job_that_timed_out() -> None:
    """Its worker dies, the job behind it is taken back, the other worker goes on."""
    desk = Desk(slots=2)
    short, long = claimed(timeout=SECOND), claimed(timeout=60 * SECOND)
    desk.claim(short, long)
    workers = {command.jobs[0][1].ref: command for command in desk.take(Send)}
    desk.turn(0.999)
    assert desk.take(Kill) == []
    desk.turn(0.002)
    victim = workers[short.ref]
    assert desk.one(Kill).worker == victim.worker
    desk.settle()
    desk.plan.worker_gone(victim.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [o for command in desk.take(Exchange) for o in command.outcomes if o.change.verb != "start"]
    assert outcome.ref == short.ref and outcome.change.error is not None and "timeout" in outcome.change.error


def test_a_kill_for_a_job_that_ended_meanwhile_blames_nobody() -> None:
    """The next job was under way when the kill arrived: it is interrupted and keeps its attempts."""
    desk = Desk(slots=1)
    desk.warm_up()
    first, second = claimed(timeout=SECOND), claimed()
    sent = desk.run(first, second)
    desk.turn(0.05)
    desk.plan.recalled(sent.worker, [])
    desk.turn(1)
    desk.one(Kill)
    desk.settle()
    desk.done(sent, 0)
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    assert (second.ref, "interrupt") in desk.verbs()


def test_a_crash_is_blamed_on_the_job_that_ran() -> None:
    """The rest was not started and goes to another worker untouched."""
    desk = Desk(slots=1, cpus=1)
    desk.warm_up()
    sent = desk.run(*several(3))
    desk.plan.worker_gone(sent.worker, [seq for seq, _claim, _since in sent.jobs[1:]], Exit(-11, ""), desk.now)
    desk.turn()
    desk.turn(0.06)
    assert desk.verbs() == [(sent.jobs[0][1].ref, "crash")]
    assert [claim for jobs in sent_to(desk.take(Send)).values() for claim in jobs] == [j[1] for j in sent.jobs[1:]]


def test_a_worker_that_dies_while_nothing_is_safe_blames_nobody() -> None:
    """The keeper kills workers whose engine does not renew: that was not the job's doing."""
    desk = Desk(lease=30, heartbeat=5)
    job = claimed()
    sent = desk.run(job)
    desk.now += 0.7 * 30
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn()
    assert (job.ref, "interrupt") in desk.verbs()


def test_a_canceled_job_that_has_not_started_ends_without_a_worker() -> None:
    """The request may come with the claim itself."""
    desk = Desk()
    job = claimed()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.exchanged(answer([job], cancels=[job]), desk.now)
    desk.turn()
    assert desk.take(Send) == []
    assert desk.verbs() == [(job.ref, "cancel")]


def test_a_canceled_job_that_runs_is_told_and_killed_after_the_grace() -> None:
    """Told at once, once; killed only when it has not ended; it ends as canceled, with the operator's words."""
    desk = Desk(slots=1, cancel_grace=10)
    sent = desk.run(claimed())
    desk.cancel(sent)
    assert desk.one(Tell) == Tell(sent.worker, sent.jobs[0][0], "cancel", "operator")
    asked = desk.now
    desk.serve(1)
    desk.cancel(sent)
    desk.serve(asked + 9.9 - desk.now)
    assert desk.take(Tell) == [] and desk.take(Kill) == []
    desk.serve(0.2)
    assert desk.one(Kill).worker == sent.worker
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    outcome = desk.outcome()
    assert (outcome.change.target, outcome.change.sets["reason"]) == (JobState.CANCELED, "operator")


@pytest.mark.parametrize("kind", ["told", "error", "retry", "snooze", "unknown_name"])
def test_a_canceled_job_that_would_run_again_is_canceled(kind: str) -> None:
    """Whatever being told made it raise: the error is recorded, the job has ended."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.cancel(sent)
    assert desk.plan.ended(sent.worker, sent.jobs[0][0], desk.now, desk.now, ERROR._replace(kind=kind))
    desk.turn()
    outcome = desk.outcome()
    assert (outcome.change.target, outcome.change.sets["reason"]) == (JobState.CANCELED, "operator")
    assert outcome.change.error is not None and "it broke" in outcome.change.error
    desk.turn(20)
    assert desk.take(Kill) == []


def test_a_canceled_job_that_returns_is_completed() -> None:
    """It finished first: the finish stands."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.cancel(sent)
    desk.done(sent)
    desk.turn()
    assert desk.one(Exchange).completions.refs == [sent.jobs[0][1].ref]


def test_a_canceled_job_that_fails_on_purpose_has_failed() -> None:
    """Its own end stands."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.cancel(sent)
    assert desk.plan.ended(sent.worker, sent.jobs[0][0], desk.now, desk.now, ERROR._replace(kind="fail"))
    desk.turn()
    assert desk.outcome().change.target is JobState.FAILED


@pytest.mark.parametrize("exit", [Exit(1, ""), Exit(-11, "")])
def test_a_canceled_job_whose_worker_dies_is_canceled(exit: Exit) -> None:
    """Nobody wants it to run once more."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.cancel(sent)
    desk.plan.worker_gone(sent.worker, [], exit, desk.now)
    desk.turn()
    assert desk.outcome().change.target is JobState.CANCELED


def test_a_canceled_job_that_times_out_is_canceled() -> None:
    """The kill comes for its time, the cancel came before."""
    desk = Desk(slots=1)
    sent = desk.run(claimed(timeout=2 * SECOND))
    desk.cancel(sent)
    desk.serve(2.1)
    desk.one(Kill)
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn()
    assert desk.outcome().change.target is JobState.CANCELED


def test_a_cancel_that_comes_after_the_kill_finds_a_job_that_timed_out() -> None:
    """It can be told nothing any more; the request stays with the job, and its next claim is canceled unstarted."""
    desk = Desk(slots=1)
    sent = desk.run(claimed(timeout=SECOND))
    desk.serve(1.1)
    desk.one(Kill)
    desk.cancel(sent)
    assert desk.take(Tell) == []
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn()
    outcome = desk.outcome()
    assert outcome.change.verb == "retry" and "timeout" in (outcome.change.error or "")


@pytest.mark.parametrize("later", Why)
@pytest.mark.parametrize("first", Why)
def test_what_a_told_job_may_still_be_told(first: Why, later: Why) -> None:
    """The first reason stands, but a cancel outweighs any other; the time it has only gets shorter."""
    told = Told(1, first, "one", 20.0)
    words = (Why.CANCEL, "two") if later == Why.CANCEL and first != Why.CANCEL else (first, "one")
    assert told.and_then(later, "two", 10.0) == Told(1, *words, 10.0)
    assert told.and_then(later, "two", 30.0) == Told(1, *words, 20.0)


def test_telling_the_job_before_does_not_touch_the_next() -> None:
    """The grace is over, but another job runs by then."""
    desk = Desk(slots=1, cpus=1, cancel_grace=0.01)
    desk.warm_up()
    sent = desk.run(*several(2))
    desk.cancel(sent)
    desk.done(sent)
    desk.turn(0.015)
    assert desk.take(Kill) == []
    desk.settle()
    assert desk.plan.ended(sent.worker, sent.jobs[1][0], desk.now, desk.now, ERROR)
    desk.turn(0.1)
    assert desk.outcome().change.verb == "retry"


def test_a_job_that_says_it_was_told_when_nobody_told_it_is_canceled() -> None:
    """It asked for its end itself."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    assert desk.plan.ended(sent.worker, sent.jobs[0][0], desk.now, desk.now, ERROR._replace(kind="told"))
    desk.turn()
    assert desk.outcome().change.target is JobState.CANCELED


def test_a_job_over_its_memory_is_killed_and_told_why() -> None:
    """The death counts as a crash, with the reason memory."""
    desk = Desk(memory_limit=1 << 30)
    job = claimed(crashes=2)
    sent = desk.run(job)
    assert desk.plan.memory_limits() == [(sent.worker, 1 << 30)]
    desk.plan.over_memory(sent.worker)
    desk.turn()
    desk.one(Kill)
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [outcome for command in desk.take(Exchange) for outcome in command.outcomes]
    assert (outcome.change.verb, outcome.change.sets["reason"]) == ("crash", "memory")


def test_a_worker_that_answers_for_another_job_is_not_believed() -> None:
    """Jobs end in the order they were given."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    assert not desk.plan.done(sent.worker, sent.jobs[0][0] + 1, desk.now, desk.now, "null")
    assert not desk.plan.ended(sent.worker, sent.jobs[0][0] + 1, desk.now, desk.now, ERROR)
