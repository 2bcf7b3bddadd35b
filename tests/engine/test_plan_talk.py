"""When the plan talks to the store, and what it does when the store fails."""

from __future__ import annotations

from plan_desk import ERROR, Desk, answer, claimed, several

from jobcard.backends.base import Refusal, Verdict
from jobcard.core.states import JobState
from jobcard.engine.commands import Exchange, FindStrays, Renew, Send


def test_a_wake_up_is_followed_by_an_exchange_at_once() -> None:
    """An idle engine does not wait for its poll."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    assert desk.one(Exchange).want.queues[0][0] == "default"


def test_an_idle_engine_polls_by_itself() -> None:
    """Wake-ups are hints, polling is the truth."""
    desk = Desk(poll_interval=0.5)
    desk.turn(0.45)
    assert desk.take(Exchange) == []
    desk.turn(0.1)
    assert desk.one(Exchange).want.total > 0


def test_the_first_outcome_of_an_idle_engine_is_said_at_once() -> None:
    """Nothing else is coming, so there is nothing to wait for."""
    desk = Desk()
    sent = desk.run(claimed())
    desk.done(sent)
    desk.turn()
    assert desk.one(Exchange).completions.refs == [sent.jobs[0][1].ref]


def test_outcomes_wait_ten_milliseconds_for_company() -> None:
    """While workers keep moving, outcomes are gathered, but not for long."""
    desk = Desk(slots=1)
    desk.warm_up()
    sent = desk.run(*several(2))
    desk.done(sent)
    desk.turn(0.009)
    assert not any(command.completions.refs for command in desk.take(Exchange))
    desk.turn(0.002)
    assert desk.one(Exchange).completions.refs == [sent.jobs[0][1].ref]


def test_half_a_free_look_ahead_is_filled() -> None:
    """When half of what could be held is used up, more is asked for without a wake-up."""
    desk = Desk(slots=1, cpus=1)
    for _ in range(3):
        sent = desk.run(claimed())
        desk.done(sent, took=0.001)
        desk.turn()
        desk.settle()
    desk.plan.wake(desk.now)
    desk.turn()
    total = desk.one(Exchange).want.total
    jobs = several(total)
    desk.plan.exchanged(answer(jobs), desk.now)
    desk.turn()
    given = [job for command in desk.take(Send) for job in command.jobs]
    assert desk.take(Exchange) == []
    for seq, _claim, _since in given[: total // 2 + 2]:
        desk.plan.done(0, seq, desk.now - 1e-3, desk.now, "null")
    desk.turn()
    assert desk.one(Exchange).want.total >= total // 2


def test_only_one_exchange_is_in_flight() -> None:
    """What happens meanwhile waits for the answer."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.wake(desk.now)
    desk.turn(3)
    assert desk.take(Exchange) == []


def test_an_exchange_carries_no_more_than_the_store_takes() -> None:
    """Completions and other outcomes share `max_batch`."""
    desk = Desk(slots=1, max_batch=3)
    for _ in range(2):
        sent = desk.run(claimed())
        desk.done(sent)
        desk.turn()
        desk.settle()
    sent = desk.run(*several(6))
    for place in range(6):
        if place % 2:
            desk.done(sent, place)
        else:
            desk.plan.ended(sent.worker, sent.jobs[place][0], desk.now, desk.now, ERROR)
    desk.turn(0.1)
    carried = []
    while said := desk.take(Exchange):
        carried += [len(command.completions.refs) + len(command.outcomes) for command in said]
        desk.plan.exchanged(answer(), desk.now)
        desk.turn(0.1)
    assert sum(carried) == 6 and max(carried) <= 3


def test_the_plan_does_not_spin_while_it_waits_for_room() -> None:
    """A poll that is overdue, with outcomes to say and no room for more, is no reason to turn at once."""
    desk = Desk(slots=1, cpus=1, poll_interval=0.05)
    desk.warm_up()
    sent = desk.run(*several(2))
    desk.turn(0.06)
    desk.done(sent, 0)
    desk.turn()
    desk.settle()
    assert desk.plan.next_deadline(desk.now) > desk.now


def test_the_plan_does_not_spin_after_an_answer_that_took_long() -> None:
    """The pulse is overdue by then: it is sent, or it is not due."""
    desk = Desk(slots=1, poll_interval=3)
    desk.warm_up()
    sent = desk.run(*several(2))
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.now += 1.2
    desk.done(sent)
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    assert desk.take(Exchange) or desk.plan.next_deadline(desk.now) > desk.now


# ------------------------------------------------------------------ a store that fails


def test_after_a_failure_the_same_words_are_said_again() -> None:
    """The answer may be lost and the words applied: repeated as they are, they are recognised."""
    desk = Desk()
    sent = desk.run(claimed())
    desk.done(sent)
    desk.turn()
    before = desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    desk.plan.strays([], desk.now)
    desk.turn()
    after = desk.one(Exchange)
    assert (after.completions.refs, after.completions.tokens) == (before.completions.refs, before.completions.tokens)


def test_the_next_try_is_never_more_than_five_seconds_away() -> None:
    """However often it failed."""
    desk = Desk()
    desk.plan._talk._random = lambda: 0.999
    desk.plan.wake(desk.now)
    for _ in range(12):
        desk.turn(5.1)
        desk.take(FindStrays)
        if desk.take(Exchange):
            desk.plan.store_failed(desk.now)
        elif desk.plan._talk.strays == "asked":
            desk.plan.strays_failed(desk.now)
        else:
            raise AssertionError("it has not tried again within five seconds")
        for _ in desk.take(Renew):
            desk.plan.renewed([], [], desk.now)


def after_a_long_outage() -> Desk:
    """An engine that has failed so often that its next try is seconds away."""
    desk = Desk()
    desk.plan._talk._random = lambda: 0.999
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    for _ in range(10):
        desk.turn(5.1)
        desk.one(FindStrays)
        desk.plan.strays_failed(desk.now)
        desk.take(Renew)
    desk.turn(0.1)
    assert desk.take(FindStrays) == []
    return desk


def test_whatever_the_store_answers_ends_the_wait_for_it() -> None:
    """It is back: nobody waits out what was meant for one that is away."""
    desk = after_a_long_outage()
    desk.plan.store_answered(desk.now)
    desk.turn()
    desk.one(FindStrays)


def test_a_failure_after_an_answer_is_soon_tried_again() -> None:
    """An answer to one question is not lost at once again because the next one fails; and nobody spins either."""
    desk = after_a_long_outage()
    desk.turn(5.1)
    desk.one(FindStrays)
    desk.plan.strays([], desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.turn(0.05)
    assert (desk.take(FindStrays), desk.take(Exchange)) == ([], [])
    desk.turn(1.0)
    assert len(desk.take(FindStrays)) + len(desk.take(Exchange)) == 1


def test_strays_go_back() -> None:
    """What the store gave without our hearing of it is handed back, what we know of is kept."""
    desk = Desk()
    known = claimed()
    desk.run(known)
    desk.turn(0.4)
    desk.settle()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    stray = claimed()
    desk.plan.strays([known, stray], desk.now)
    desk.turn(0.1)
    assert [(ref, verb) for ref, verb in desk.verbs() if verb != "start"] == [(stray.ref, "hand_back")]


def test_a_stray_is_known_by_its_token_not_by_its_job() -> None:
    """Handed back and claimed again in one exchange whose answer was lost: the old words do not cover the new claim."""
    desk = Desk(slots=1)
    job = claimed(token=1)
    desk.plan.disown_unknown([job], desk.now)
    desk.plan.wake(desk.now)
    desk.turn()
    assert [o.token for o in desk.one(Exchange).outcomes] == [1]
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    desk.plan.strays([job._replace(token=2)], desk.now)
    desk.turn()
    assert [o.token for o in desk.one(Exchange).outcomes] == [1, 2]


def test_the_plan_rests_while_strays_are_looked_for() -> None:
    """The question is on its way: nothing is overdue until its answer."""
    desk = Desk()
    desk.plan.wake(desk.now)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    desk.turn(1)
    desk.one(FindStrays)
    assert desk.plan.next_deadline(desk.now) > desk.now


def test_an_outcome_the_store_refuses_becomes_a_failure() -> None:
    """The job ends, and its record says why."""
    desk = Desk()
    sent = desk.run(claimed())
    desk.done(sent)
    desk.turn()
    desk.one(Exchange)
    claim = sent.jobs[0][1]
    desk.plan.exchanged(answer(refusals=[Refusal(claim.ref, claim.token, Verdict.REFUSED, "no such text")]), desk.now)
    desk.turn(0.1)
    [outcome] = desk.one(Exchange).outcomes
    assert outcome.change.target is JobState.FAILED
    assert outcome.change.sets["reason"] == "serialization"
