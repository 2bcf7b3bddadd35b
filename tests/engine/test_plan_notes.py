"""What running jobs say of themselves: merged, rationed, answered, and never after the job's own end."""

from __future__ import annotations

from typing import Any

from plan_desk import KILLED, Desk, answer, claimed, several

from jobcard.backends.base import Outcome, Refusal, Verdict
from jobcard.core.job import LAST_LINES, LINES_TEXT, NewJob
from jobcard.core.states import After
from jobcard.engine.commands import Exchange, FindStrays, Reply, Send
from jobcard.workers.messages import Exit


def say(desk: Desk, sent: Send, *, call: int | None = None, place: int = 0, **said: Any) -> None:
    desk.plan.noted(sent.worker, sent.jobs[place][0], said, call, desk.now)


def notes(desk: Desk) -> list[Outcome]:
    return [outcome for outcome in desk.outcomes() if outcome.change.verb == "note"]


def find_strays(desk: Desk) -> None:
    """The store is back, and has nothing in our name that we do not know of."""
    desk.turn(1)
    for _ in desk.take(FindStrays):
        desk.plan.strays([], desk.now)
    desk.turn(0.5)


def running(desk: Desk) -> Send:
    """A job under way, nothing in flight."""
    sent = desk.run(claimed())
    desk.serve(0.5)
    return sent


def test_what_a_job_says_is_stored_within_a_second_in_one_note() -> None:
    """The newest progress, all lines, each with its age."""
    desk = Desk()
    sent = running(desk)
    say(desk, sent, progress='{"value":0.1}', lines=[[desk.now - 0.05, "first"]])
    desk.turn(0.1)
    say(desk, sent, progress='{"value":0.2}', lines=[[desk.now, "second"]])
    desk.turn(0.4)
    [note] = notes(desk)
    assert note.change.sets == {"progress": '{"value":0.2}'}
    (first, _), (second, _) = note.change.lines
    assert [text for _ago, text in note.change.lines] == ["first", "second"]
    assert 150_000 < first - second < 151_000 or first - second == 150_000


def test_a_job_that_talks_without_pause_is_noted_four_times_a_second() -> None:
    """A progress bar must not be a load on the store."""
    desk = Desk()
    sent = running(desk)
    carried = []
    for _ in range(200):
        say(desk, sent, progress='{"value":0.5}')
        desk.turn(0.01)
        carried += notes(desk)
        if desk.plan._talk.in_flight:
            desk.plan.exchanged(answer(), desk.now)
    assert 6 <= len(carried) <= 9


def test_a_checkpoint_goes_at_once_and_is_answered_when_it_is_stored() -> None:
    """Whoever saves one waits for it."""
    desk = Desk()
    sent = running(desk)
    say(desk, sent, progress='{"value":0.5}')
    desk.turn(0.3)
    desk.settle()
    say(desk, sent, checkpoint="[7]", call=3)
    desk.turn()
    assert [note.change.sets for note in notes(desk)] == [{"checkpoint": "[7]"}]
    assert desk.take(Reply) == []
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    assert desk.one(Reply) == Reply(sent.worker, 3, None)


def test_a_checkpoint_of_a_lost_job_is_answered_with_that() -> None:
    """The job learns that another may run it, and is ended."""
    desk = Desk(on_lost_lease={"quick": "tell"})
    sent = running(desk)
    claim = sent.jobs[0][1]
    say(desk, sent, checkpoint="[7]", call=3)
    desk.turn()
    desk.one(Exchange)
    desk.plan.exchanged(answer(refusals=[Refusal(claim.ref, claim.token, Verdict.LOST)]), desk.now)
    desk.turn()
    error = desk.one(Reply).error
    assert error is not None and error["class"] == "ClaimLostError"


def test_a_checkpoint_the_store_refuses_is_answered_with_that() -> None:
    """The job goes on, and nothing else of it is lost."""
    desk = Desk()
    sent = running(desk)
    claim = sent.jobs[0][1]
    say(desk, sent, checkpoint="[7]", call=3)
    desk.turn()
    desk.one(Exchange)
    desk.plan.exchanged(answer(refusals=[Refusal(claim.ref, claim.token, Verdict.REFUSED, "too large")]), desk.now)
    desk.turn(0.1)
    error = desk.one(Reply).error
    assert error is not None and error["class"] == "StoreError" and "too large" in error["message"]
    assert desk.outcomes() == []
    desk.done(sent)
    desk.turn()
    assert desk.one(Exchange).completions.refs == [claim.ref]


def test_a_note_of_an_exchange_that_failed_is_said_again_with_what_came_since() -> None:
    """And whoever waits is answered only then."""
    desk = Desk()
    sent = running(desk)
    say(desk, sent, checkpoint="[1]", lines=[[desk.now, "one"]], call=3)
    desk.turn()
    desk.one(Exchange)
    desk.plan.store_failed(desk.now)
    say(desk, sent, lines=[[desk.now, "two"]])
    find_strays(desk)
    assert desk.take(Reply) == []
    [note] = notes(desk)
    assert note.change.sets == {"checkpoint": "[1]"}
    assert [text for _ago, text in note.change.lines] == ["one", "two"]
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    assert desk.one(Reply).error is None


def test_a_note_says_when_its_job_began_if_nobody_knows_yet() -> None:
    """It makes the job running; no stamp is written beside it."""
    desk = Desk()
    sent = desk.run(claimed())
    began = desk.now
    desk.turn(0.01)
    desk.settle()
    say(desk, sent, progress='{"value":0.5}')
    desk.turn(0.28)
    [note] = notes(desk)
    ago = note.change.sets["started_at"]
    assert isinstance(ago, After) and abs(-ago.delay / 1e6 - (desk.now - began)) < 0.03
    desk.plan.exchanged(answer(), desk.now)
    desk.turn(1)
    assert [o for said in desk.take(Exchange) for o in said.outcomes] == []


def test_a_job_that_ends_is_noted_before_its_end() -> None:
    """In the list that is settled in order, for completions are settled first."""
    desk = Desk()
    sent = running(desk)
    say(desk, sent, lines=[[desk.now, "last words"]])
    desk.done(sent)
    desk.turn()
    said = desk.one(Exchange)
    assert [outcome.change.verb for outcome in said.outcomes] == ["note", "complete"]
    assert not said.completions.refs
    assert said.outcomes[1].change.sets["result"] == "null"
    assert isinstance(said.outcomes[1].change.sets["started_at"], After)


def test_a_crashed_job_is_noted_before_its_end() -> None:
    """What it logged helps to find out why."""
    desk = Desk()
    sent = running(desk)
    say(desk, sent, lines=[[desk.now, "about to"]])
    desk.plan.worker_gone(sent.worker, [], Exit(-11, ""), desk.now)
    desk.turn()
    assert [outcome.change.verb for outcome in desk.outcomes()] == ["note", "crash"]


def test_a_note_under_way_when_its_job_ends_comes_before_the_end_also_after_a_failure() -> None:
    """The failed exchange is said again in the order in which it happened."""
    desk = Desk()
    sent = running(desk)
    say(desk, sent, checkpoint="[1]", call=3)
    desk.turn()
    desk.one(Exchange)
    say(desk, sent, lines=[[desk.now, "last words"]])
    desk.done(sent)
    desk.plan.store_failed(desk.now)
    find_strays(desk)
    assert [outcome.change.verb for outcome in desk.outcomes()] == ["note", "note", "complete"]
    desk.plan.exchanged(answer(), desk.now)
    desk.turn()
    assert desk.one(Reply).error is None


def test_a_note_that_is_refused_with_its_jobs_end_does_not_take_the_end_with_it() -> None:
    """The store does not say which of the two it was: the end is said again alone."""
    desk = Desk()
    sent = running(desk)
    claim = sent.jobs[0][1]
    say(desk, sent, lines=[[desk.now, "odd"]])
    desk.done(sent)
    desk.turn()
    desk.one(Exchange)
    desk.plan.exchanged(answer(refusals=[Refusal(claim.ref, claim.token, Verdict.REFUSED, "odd text")]), desk.now)
    desk.turn(0.1)
    assert [outcome.change.verb for outcome in desk.outcomes()] == ["complete"]


def test_what_is_left_of_a_refused_note_comes_before_the_end() -> None:
    """The job ended while its note was under way; only the checkpoint is lost."""
    desk = Desk()
    sent = running(desk)
    claim = sent.jobs[0][1]
    say(desk, sent, checkpoint="[7]", lines=[[desk.now, "kept"]], call=3)
    desk.turn()
    desk.one(Exchange)
    desk.done(sent)
    desk.plan.exchanged(answer(refusals=[Refusal(claim.ref, claim.token, Verdict.REFUSED, "too large")]), desk.now)
    desk.turn(0.1)
    note, end = desk.outcomes()
    assert (note.change.sets, [text for _ago, text in note.change.lines], end.change.verb) == ({}, ["kept"], "complete")


def test_who_speaks_for_a_job_that_has_ended_is_not_heard() -> None:
    """A thread it left behind: nothing is written, and it learns that."""
    desk = Desk()
    sent = running(desk)
    desk.done(sent)
    desk.turn()
    desk.settle()
    say(desk, sent, lines=[[desk.now, "still here"]])
    say(desk, sent, checkpoint="[1]", call=4)
    desk.turn(1)
    error = desk.one(Reply).error
    assert error is not None and error["class"] == "ClaimLostError"
    assert desk.outcomes() == []


def test_notes_do_not_pile_up_while_the_store_is_away() -> None:
    """As many lines are kept as the store would keep."""
    desk = Desk()
    sent = running(desk)
    for number in range(3 * LAST_LINES):
        say(desk, sent, lines=[[desk.now, f"{number:0100}"]])
    desk.turn(0.3)
    [note] = notes(desk)
    assert sum(len(text) for _ago, text in note.change.lines) <= LINES_TEXT
    assert int(note.change.lines[-1][1]) == 3 * LAST_LINES - 1


def test_notes_and_outcomes_together_are_no_more_than_the_store_takes() -> None:
    """What does not fit goes next time."""
    desk = Desk(slots=4, workers=4, max_batch=2)
    desk.claim(*several(2))
    desk.plan.exchanged(answer(several(2)), desk.now) if desk.take(Exchange) else None
    desk.turn()
    sends = desk.take(Send)
    desk.serve(1)
    for sent in sends:
        say(desk, sent, checkpoint="[1]", call=1)
    carried = []
    for _ in range(4):
        desk.turn(0.01)
        for said in desk.take(Exchange):
            carried.append(len(said.outcomes))
            desk.plan.exchanged(answer(), desk.now)
    assert sum(carried) == len(sends) and max(carried) <= 2
    desk.turn()
    assert len(desk.take(Reply)) == len(sends)


# ------------------------------------------------------------------ follow-ups


def follow_up() -> NewJob:
    return NewJob(**{**dict.fromkeys(NewJob._fields), "id": b"f" * 16, "queue": "default", "name": "next"})  # type: ignore[arg-type]


def test_jobs_that_follow_go_with_the_completion() -> None:
    """In one step with it, and with the job's start."""
    desk = Desk()
    sent = running(desk)
    assert desk.plan.followed(sent.worker, sent.jobs[0][0], desk.now - 1, desk.now, "1", [follow_up()])
    desk.turn()
    outcome = desk.outcome()
    assert (outcome.change.verb, outcome.change.sets["result"], outcome.then) == ("complete", "1", [follow_up()])
    assert outcome.change.sets["started_at"] == After(-1_000_000)


def test_a_refused_completion_with_follow_ups_fails_the_job() -> None:
    """Nothing follows from it, and its record says why."""
    desk = Desk()
    sent = running(desk)
    claim = sent.jobs[0][1]
    assert desk.plan.followed(sent.worker, sent.jobs[0][0], desk.now - 1, desk.now, "1", [follow_up()])
    desk.turn()
    desk.one(Exchange)
    desk.plan.exchanged(answer(refusals=[Refusal(claim.ref, claim.token, Verdict.REFUSED, "too large")]), desk.now)
    desk.turn(0.1)
    outcome = desk.outcome()
    assert (outcome.change.verb, outcome.change.sets["reason"], outcome.then) == ("fail", "serialization", ())


def test_follow_ups_of_another_job_are_not_believed() -> None:
    """As with every other word."""
    desk = Desk()
    sent = running(desk)
    assert not desk.plan.followed(sent.worker, sent.jobs[0][0] + 1, desk.now, desk.now, "1", [])
    desk.plan.worker_gone(sent.worker, [], KILLED, desk.now)
