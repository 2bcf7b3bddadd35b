"""Who gets which job when, one decision of the plan at a time."""

from __future__ import annotations

import pytest
from plan_desk import KILLED, Desk, answer, claimed, sent_to, several

from jobcard.backends.base import Refusal, Verdict
from jobcard.core.queue import Queue
from jobcard.engine.commands import Exchange, Recall, Retire, Send, Spawn


def test_jobs_of_unknown_length_get_a_worker_each() -> None:
    """The first of a kind may take long: nothing is put behind it."""
    desk = Desk(slots=2)
    one, two = several(2)
    desk.claim(one, two)
    assert sent_to(desk.take(Send)) == {0: [one], 1: [two]}


def test_short_jobs_go_down_in_one_chunk() -> None:
    """Known to be short, they share a worker and a message."""
    desk = Desk(slots=2, cpus=1)
    desk.warm_up()
    jobs = several(5)
    desk.claim(*jobs)
    assert sent_to(desk.take(Send)) == {0: jobs}


def test_a_worker_busy_for_twenty_milliseconds_gives_its_window_back() -> None:
    """Nobody waits behind a long job while another worker is free."""
    desk = Desk(slots=2, cpus=1)
    desk.warm_up()
    long, *rest = several(4)
    sent = desk.run(long, *rest)
    desk.turn(0.019)
    assert desk.take(Recall) == []
    desk.turn(0.002)
    assert desk.one(Recall).worker == sent.worker
    desk.plan.recalled(sent.worker, [seq for seq, _claim, _since in sent.jobs[1:]])
    desk.turn(0.05)
    [(worker, jobs)] = sent_to(desk.take(Send)).items()
    assert worker != sent.worker and jobs == rest


def test_a_job_that_could_not_be_taken_back_is_not_sent_again() -> None:
    """Only what the worker has not started comes back."""
    desk = Desk(slots=2, cpus=1)
    desk.warm_up()
    sent = desk.run(*several(3))
    desk.turn(0.03)
    desk.plan.recalled(sent.worker, [sent.jobs[2][0]])
    desk.turn(0.1)
    again = [claim for command in desk.take(Send) for _seq, claim, _since in command.jobs]
    assert again == [sent.jobs[2][1]]


def test_no_more_jobs_run_than_there_are_slots() -> None:
    """The spare worker is no slot."""
    desk = Desk(slots=2, workers=3)
    desk.claim(*several(3, name="unknown"))
    assert len(desk.take(Send)) == 2


def test_the_concurrency_of_a_queue_is_kept() -> None:
    """A queue of one at a time has jobs in one worker only; other queues go on."""
    desk = Desk(slots=4, workers=4, queues=[Queue("single", concurrency=1, priority=1), Queue("default")])
    first, second = several(2, queue="single")
    other = claimed()
    desk.claim(first, second, other)
    assert sorted(map(len, sent_to(desk.take(Send)).values())) == [1, 1]
    having = [w.number for w in desk.plan.workers.values() if any(claim.queue == "single" for _, claim, _ in w.sent)]
    assert len(having) == 1


def test_queues_are_wanted_and_served_by_priority() -> None:
    """A higher queue is asked for first and handed out first."""
    desk = Desk(slots=1, queues=[Queue("low", priority=-1), Queue("high", priority=5), Queue("middle")])
    desk.plan.wake(desk.now)
    desk.turn()
    assert [name for name, _most in desk.one(Exchange).want.queues] == ["high", "middle", "low"]
    low, high = claimed(queue="low"), claimed(queue="high")
    desk.plan.exchanged(answer([low, high]), desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {0: [high]}


def test_what_waits_for_long_goes_back_to_the_store() -> None:
    """All slots are taken by long jobs: another engine may have room."""
    desk = Desk(slots=1)
    desk.run(claimed())
    desk.turn(0.01)
    desk.settle()
    waiting = claimed()
    desk.hold(waiting)
    desk.turn(0.2)
    assert (waiting.ref, "hand_back") in desk.verbs()


def test_what_its_full_queue_does_not_let_start_goes_back() -> None:
    """Free workers are no use to a job whose queue has all places taken by long ones; nor is it asked for again."""
    desk = Desk(slots=4, queues=[Queue("single", concurrency=1), Queue("default")])
    desk.run(claimed(queue="single"))
    desk.turn(0.01)
    desk.settle()
    waiting = claimed(queue="single")
    desk.hold(waiting)
    said = desk.serve(0.2)
    assert (waiting.ref, "hand_back") in [(o.ref, o.change.verb) for command in said for o in command.outcomes]
    said = desk.serve(3)
    assert said and all(name != "single" for command in said for name, _most in command.want.queues)


def test_jobs_of_a_paused_queue_go_back() -> None:
    """Paused means that the engine neither starts nor keeps them."""
    desk = Desk(slots=1, queues=[Queue("default"), Queue("other", concurrency=1)])
    desk.run(claimed())
    desk.turn(0.03)
    desk.settle()
    waiting = claimed(queue="other")
    desk.hold(waiting)
    desk.plan.know_queues([Queue("default"), Queue("other", concurrency=1, paused=True)], 2)
    desk.turn()
    assert (waiting.ref, "hand_back") in desk.verbs()


# ------------------------------------------------------------------ stamps and jobs alone


def test_a_job_still_running_after_a_third_of_a_second_is_stamped() -> None:
    """Short jobs cost no write at their start, long ones one."""
    desk = Desk()
    job = claimed()
    desk.run(job)
    desk.turn(0.29)
    desk.settle()
    desk.said.clear()
    desk.turn(0.02)
    assert desk.verbs() == [(job.ref, "start")]
    desk.settle()
    desk.turn(2)
    assert desk.verbs() == []


@pytest.mark.parametrize("given", [{"max_attempts": 1}, {"crashes": 3, "max_crashes": 3}])
def test_a_job_that_must_run_alone_is_stamped_before_it_is_handed_over(given: dict[str, int]) -> None:
    """At once, so that it can be told afterwards whether it ran; and nothing is behind it."""
    desk = Desk(slots=1)
    job = claimed(**given)
    desk.claim(job, claimed())
    assert desk.take(Send) == []
    said = desk.one(Exchange)
    assert [(outcome.ref, outcome.change.verb) for outcome in said.outcomes] == [(job.ref, "start")]
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {0: [job]}


def test_a_job_whose_stamp_was_refused_does_not_run() -> None:
    """It is somebody else's by now."""
    desk = Desk(slots=1)
    job = claimed(max_attempts=1)
    desk.claim(job)
    desk.one(Exchange)
    desk.plan.exchanged(answer(refusals=[Refusal(job.ref, job.token, Verdict.LOST)]), desk.now)
    desk.turn()
    assert desk.take(Send) == []


def test_a_late_word_about_an_earlier_claim_does_not_touch_the_new_one() -> None:
    """A refusal names job and token; the same job claimed once more is another claim."""
    desk = Desk(slots=1)
    job = claimed(max_attempts=1, token=2)
    desk.plan.disown_unknown([job._replace(token=1)], desk.now)
    desk.hold(job)
    desk.turn()
    said = desk.one(Exchange)
    assert [(outcome.token, outcome.change.verb) for outcome in said.outcomes] == [(1, "hand_back"), (2, "start")]
    desk.plan.exchanged(answer(refusals=[Refusal(job.ref, 1, Verdict.LOST)]), desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {0: [job]}


def test_a_fresh_job_gets_a_worker_that_has_run_nothing() -> None:
    """A used worker ends, a new one takes the job and ends after it."""
    desk = Desk(slots=1, isolation={"alone": "fresh"})
    desk.warm_up()
    desk.plan.worker_gone(1, [], KILLED, desk.now)
    desk.said.clear()
    job = claimed(name="alone")
    desk.claim(job)
    assert desk.take(Send) == []
    desk.turn()
    spawned = [command.worker for command in desk.take(Spawn)]
    assert spawned
    desk.plan.hello(spawned[0], desk.names, desk.now)
    desk.turn()
    assert sent_to(desk.take(Send)) == {spawned[0]: [job]}
    desk.plan.done(spawned[0], desk.plan.workers[spawned[0]].sent[0][0], desk.now, desk.now, "null")
    desk.turn()
    assert spawned[0] in [command.worker for command in desk.take(Retire)]


@pytest.mark.parametrize("apart", [True, False])
def test_a_store_elsewhere_is_at_the_next_jobs_while_these_are_handed_out(apart: bool) -> None:
    """One in this process would hold up the workers."""
    desk = Desk(slots=2, cpus=1, store_is_apart=apart)
    desk.warm_up()
    sent = desk.run(*several(3))
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    for place in range(3):
        desk.done(sent, place)
    desk.plan.exchanged(answer(several(2)), desk.now)
    desk.turn()
    kinds = [type(command) for command in desk.said if isinstance(command, Exchange | Send)]
    assert kinds[0] is (Exchange if apart else Send)
