"""An engine that stops: what goes back, what may end, what is killed."""

from __future__ import annotations

from plan_desk import ERROR, KILLED, Desk, answer, claimed, several

from jobcard.core.states import JobState
from jobcard.engine.commands import Exchange, FindStrays, Finished, Kill, Recall, Send, Tell
from jobcard.workers.board import TELL_SIGNAL
from jobcard.workers.messages import Exit


def test_stopping_hands_back_what_has_not_started() -> None:
    """At once, with its attempt, and takes nothing new."""
    desk = Desk(slots=1)
    desk.warm_up()
    first, second = several(2)
    sent = desk.run(first, second)
    waiting = claimed()
    desk.hold(waiting)
    desk.plan.stop(desk.now, at_once=False)
    desk.turn()
    desk.one(Recall)
    desk.plan.recalled(sent.worker, [sent.jobs[1][0]])
    desk.turn(0.05)
    said = desk.take(Exchange)
    desk.plan.exchanged(answer(), desk.now)
    desk.turn(0.05)
    said += desk.take(Exchange)
    outcomes = {outcome.ref: outcome for command in said for outcome in command.outcomes}
    assert set(outcomes) == {second.ref, waiting.ref}
    assert {outcome.change.sets["attempt"] for outcome in outcomes.values()} == {0}
    assert all(command.want.total == 0 for command in said)


def test_stopping_lets_running_jobs_end_and_then_finishes() -> None:
    """Finished comes when the last outcome is in the store."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.plan.stop(desk.now, at_once=False)
    desk.turn(1)
    desk.settle()
    assert desk.take(Kill) == [] and desk.take(Finished) == []
    desk.done(sent)
    desk.turn()
    assert desk.one(Exchange).completions.refs and desk.take(Finished) == []
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    desk.one(Finished)


def test_stopping_interrupts_what_still_runs_at_the_deadline() -> None:
    """Two seconds before the budget ends, so that it can still be said; the attempt is returned."""
    desk = Desk(slots=1, stop_timeout=10)
    job = claimed()
    sent = desk.run(job)
    desk.plan.stop(desk.now, at_once=False)
    for _ in range(79):
        desk.turn(0.1)
        desk.settle()
    assert desk.take(Kill) == []
    desk.turn(0.2)
    assert desk.one(Kill).worker == sent.worker
    desk.settle()
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [outcome for command in desk.take(Exchange) for outcome in command.outcomes]
    assert (outcome.change.verb, outcome.change.sets["attempt"]) == ("interrupt", 0)


def test_stopping_tells_jobs_before_it_kills_them() -> None:
    """Five seconds before the time is up: one that ends then is put back in line with its attempt."""
    desk = Desk(slots=1, stop_timeout=10)
    sent = desk.run(claimed())
    desk.serve(0.5)
    desk.plan.stop(desk.now, at_once=False)
    desk.serve(4.9)
    assert desk.take(Tell) == []
    desk.serve(0.2)
    assert desk.one(Tell) == Tell(sent.worker, sent.jobs[0][0], "stop", "the engine stops")
    assert desk.plan.ended(sent.worker, sent.jobs[0][0], desk.now, desk.now, ERROR._replace(kind="told"))
    desk.turn()
    assert (desk.outcome().change.verb, desk.take(Kill)) == ("interrupt", [])


def test_a_worker_that_dies_of_being_told_was_not_crashed_by_its_job() -> None:
    """The job had reset the handler of the signal, perhaps; it is interrupted all the same."""
    desk = Desk(slots=1, stop_timeout=10)
    sent = desk.run(claimed())
    desk.serve(0.5)
    desk.plan.stop(desk.now, at_once=False)
    desk.serve(6)
    desk.settle()
    desk.plan.worker_gone(sent.worker, [], Exit(-TELL_SIGNAL, ""), desk.now)
    desk.turn()
    assert desk.outcome().change.verb == "interrupt"


def test_an_error_of_a_job_that_was_told_of_the_stop_is_its_own() -> None:
    """Only what being told made it raise is forgiven."""
    desk = Desk(slots=1, stop_timeout=10)
    sent = desk.run(claimed())
    desk.serve(0.5)
    desk.plan.stop(desk.now, at_once=False)
    desk.serve(6)
    desk.one(Tell)
    assert desk.plan.ended(sent.worker, sent.jobs[0][0], desk.now, desk.now, ERROR)
    desk.turn()
    assert desk.outcome().change.verb == "retry"


def test_a_job_canceled_while_the_engine_stops_is_canceled() -> None:
    """The engine still asks for such requests, and a cancel outweighs the stop."""
    desk = Desk(slots=1, stop_timeout=10)
    sent = desk.run(claimed())
    desk.serve(0.5)
    desk.plan.stop(desk.now, at_once=False)
    desk.serve(6)
    assert desk.one(Tell).why == "stop"
    desk.cancel(sent)
    assert desk.one(Tell).why == "cancel"
    assert desk.plan.ended(sent.worker, sent.jobs[0][0], desk.now, desk.now, ERROR._replace(kind="told"))
    desk.turn()
    assert desk.outcome().change.target is JobState.CANCELED


def test_a_job_that_may_start_only_once_fails_when_it_is_interrupted() -> None:
    """It has begun: put back in line it would begin again."""
    desk = Desk(slots=1)
    job = claimed(max_attempts=1)
    desk.claim(job)
    desk.settle()
    sent = desk.one(Send)
    desk.plan.stop(desk.now, at_once=True)
    desk.turn()
    desk.one(Kill)
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
    desk.turn(0.1)
    [outcome] = [outcome for command in desk.take(Exchange) for outcome in command.outcomes]
    assert outcome.change.target is JobState.FAILED


def test_stopping_at_once_kills_at_once() -> None:
    """The second signal."""
    desk = Desk(slots=1)
    sent = desk.run(claimed())
    desk.plan.stop(desk.now, at_once=True)
    desk.turn()
    assert desk.one(Kill).worker == sent.worker


def test_stopping_does_not_finish_before_strays_are_looked_for() -> None:
    """The last exchange may have claimed jobs without our hearing of it."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.plan.stop(desk.now, at_once=False)
    desk.turn(1)
    assert desk.take(Finished) == []
    desk.one(FindStrays)
    stray = claimed()
    desk.plan.strays([stray], desk.now)
    desk.turn(0.1)
    assert desk.verbs() == [(stray.ref, "hand_back")]
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    desk.one(Finished)
