"""What a running job says of itself: progress and checkpoint, set by a fenced change."""

from __future__ import annotations

from functools import partial

from jobcard.backends.base import Backend, Outcome, Verdict
from jobcard.conformance import factory
from jobcard.conformance.check_transitions import MOVES
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import both_at_once
from jobcard.conformance.rules import changed
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, JobRow
from jobcard.core.states import Change

HALF = '{"value": 0.5, "text": "é 😀 half", "at": 1}'
PLACE = '{"row": [1, "it\'s", null]}'


def _note(claim: Claimed, *, ago: int | None = None) -> Change:
    return states.note(claim, ago=ago, progress=HALF, checkpoint=PLACE, lines=((0, "a line"),))


def _seen(row: JobRow) -> tuple[str, str | None, str | None]:
    return row.state, row.progress, row.checkpoint


def check_a_note_leaves_exactly_what_it_says(backend: Backend, clock: FrozenClock) -> None:
    """Progress and checkpoint are set, the job is running, and nothing else changes: not its lease, nor a cancel."""
    for make in (factory.claimed_job, factory.running_job):
        claim = make(backend, unique_key=make.__name__, tags='["t"]')
        ask = states.ask_to_cancel(factory.row_of(backend, claim.id), reason="too late")
        assert backend.apply_by_operator(claim.id, ask) is not None
        clock.advance(1)
        before = factory.row_of(backend, claim.id)
        note = _note(claim, ago=micros(0.5))
        assert factory.settle(backend, claim, note) == []
        after = factory.row_of(backend, claim.id)
        expected = changed(before, note, clock.now())
        assert factory.without_version(after) == factory.without_version(expected)
        assert _seen(after) == ("running", HALF, PLACE)
        assert (after.started_at, after.lease_until) == (clock.now() - micros(0.5), before.lease_until)


def check_only_what_a_note_gives_changes(backend: Backend, clock: FrozenClock) -> None:
    """A later note without a checkpoint keeps the one that is there, and so with progress and the start."""
    claim = factory.running_job(backend)
    start = factory.row_of(backend, claim.id).started_at
    for note, expected in (
        (states.note(claim, ago=None, progress='"1"'), ('"1"', None)),
        (states.note(claim, ago=None, checkpoint='"2"'), ('"1"', '"2"')),
        (states.note(claim, ago=None, lines=((0, "nothing else"),)), ('"1"', '"2"')),
        (states.note(claim, ago=None, progress='"3"', checkpoint="null"), ('"3"', "null")),
    ):
        clock.advance(1)
        assert factory.settle(backend, claim, note) == []
        row = factory.row_of(backend, claim.id)
        assert (row.progress, row.checkpoint, row.started_at) == (*expected, start)


def check_notes_apply_in_their_order(backend: Backend) -> None:
    """Of several notes in one exchange the last stands, and an end behind them applies too."""
    claim = factory.claimed_job(backend)
    notes = [states.note(claim, ago=None, progress=f'"{n}"', checkpoint=f'"{n}"') for n in range(3)]
    outcomes = [Outcome(claim.ref, claim.token, change) for change in (*notes, states.complete("1"))]
    assert backend.exchange("engine", outcomes=outcomes).refusals == []
    assert _seen(factory.row_of(backend, claim.id)) == ("completed", '"2"', '"2"')


def check_a_note_needs_the_token(backend: Backend) -> None:
    """A note with another token is `LOST`: no progress, no checkpoint, no line."""
    claim = factory.running_job(backend)
    before = factory.row_of(backend, claim.id)
    for token in (claim.token - 1, claim.token + 1, 0):
        refusals = factory.settle(backend, claim._replace(token=token), _note(claim))
        assert [refusal.verdict for refusal in refusals] == [Verdict.LOST]
    assert (factory.row_of(backend, claim.id), backend.log_lines([claim.id])) == (before, [])


def check_a_note_for_a_job_that_ended_changes_nothing(backend: Backend) -> None:
    """After the end, or a way back into the line, a note with the same token is `MINE` and leaves no trace."""
    for name in ("complete", "fail", "cancel", "snooze for no time", "interrupt"):
        claim = factory.claimed_job(backend)
        factory.settle(backend, claim, MOVES[name](claim))
        before = factory.row_of(backend, claim.id)
        refusals = factory.settle(backend, claim, _note(claim, ago=0))
        assert [refusal.verdict for refusal in refusals] == [Verdict.MINE]
        assert (factory.row_of(backend, claim.id), backend.log_lines([claim.id])) == (before, [])


def check_a_note_for_a_job_that_was_taken_changes_nothing(backend: Backend, clock: FrozenClock) -> None:
    """After a rescue the former holder's notes are `LOST`, before and after the next claim; so it learns of it."""
    claim = factory.running_job(backend, queue="default", lease=micros(30))
    clock.advance(31)
    [held] = backend.find_held([], lapsed=True, limit=10).claims
    assert factory.settle(backend, held, states.rescue(held, error=factory.ERROR, lapsed=True)) == []
    for again in (False, True):
        if again:
            factory.claim_one(backend, owner="other")
        before = factory.row_of(backend, claim.id)
        refusals = factory.settle(backend, claim, _note(claim))
        assert [refusal.verdict for refusal in refusals] == [Verdict.LOST]
        assert (factory.row_of(backend, claim.id), backend.log_lines([claim.id])) == (before, [])


def check_a_checkpoint_comes_with_the_next_claim(backend: Backend) -> None:
    """The next attempt is given the last checkpoint, however the one before ended, and so is whoever finds it held."""
    factory.enqueue(backend, max_attempts=9)
    for turn, move in enumerate(("retry at once", "interrupt", "rescue of one that ran", "suspect")):
        claim = factory.claim_one(backend)
        assert claim.checkpoint == (None if turn == 0 else f'"{turn - 1}"')
        note = states.note(claim, ago=0, checkpoint=f'"{turn}"')
        assert factory.settle(backend, claim, note) == []
        [held] = backend.find_held(["engine"], lapsed=False, limit=10).claims
        assert held.checkpoint == f'"{turn}"'
        assert factory.settle(backend, held, MOVES[move](held)) == []
    assert factory.claim_one(backend).checkpoint == '"3"'


def check_an_operators_retry_keeps_the_checkpoint(backend: Backend) -> None:
    """Run again from the start by an operator, a job shows no old progress and still has its checkpoint."""
    claim = factory.claimed_job(backend)
    factory.settle(backend, claim, _note(claim, ago=0))
    factory.settle(backend, claim, states.fail(claim, reason="error", error=factory.ERROR, kind="X"))
    assert _seen(factory.row_of(backend, claim.id)) == ("failed", HALF, PLACE)
    backend.apply_by_operator(claim.id, states.retry_ended(factory.row_of(backend, claim.id)))
    assert _seen(factory.row_of(backend, claim.id)) == ("waiting", None, PLACE)


def check_notes_come_back_as_the_same_bytes(backend: Backend) -> None:
    """A checkpoint is opaque text, and may be as long as a result."""
    claim = factory.claimed_job(backend)
    for text in ("null", " [1 ,2] ", '["é 😀 \\u0000 % \' \\\\"]', '"' + "x" * 500_000 + '"'):
        assert factory.settle(backend, claim, states.note(claim, ago=0, progress=text, checkpoint=text)) == []
        assert _seen(factory.row_of(backend, claim.id)) == ("running", text, text)


def check_a_note_the_store_cannot_take_is_refused_alone(backend: Backend) -> None:
    """A text without bytes leaves the job as it was and is `REFUSED`; other notes of the exchange apply."""
    bad, good = factory.claimed_job(backend), factory.claimed_job(backend)
    before = factory.row_of(backend, bad.id)
    for change in (
        states.note(bad, ago=0, checkpoint=factory.NO_TEXT),
        states.note(bad, ago=0, progress=factory.NO_TEXT),
        states.note(bad, ago=0, progress=HALF, lines=((0, factory.NO_TEXT),)),
    ):
        outcomes = [Outcome(bad.ref, bad.token, change), Outcome(good.ref, good.token, _note(good))]
        [refusal] = backend.exchange("engine", outcomes=outcomes).refusals
        assert (refusal.ref, refusal.verdict) == (bad.ref, Verdict.REFUSED) and refusal.why
    assert factory.row_of(backend, bad.id) == before
    assert _seen(factory.row_of(backend, good.id)) == ("running", HALF, PLACE)
    assert len(backend.log_lines([good.id])) == 3


def check_a_note_races_the_end(harness: Harness) -> None:
    """A note sent while its job ends either came before the end or changes nothing: the end stands whole."""
    backend = harness.ready()
    here, there = harness.open(), harness.open()
    for _ in range(8):
        claim = factory.running_job(backend)
        late, ended = both_at_once(
            partial(factory.settle, here, claim, _note(claim)),
            partial(factory.complete, there, claim, result="1"),
        )
        row, lines = factory.row_of(backend, claim.id), backend.log_lines([claim.id])
        assert ended == []
        assert [refusal.verdict for refusal in late] in ([], [Verdict.MINE])
        came = not late
        assert (row.state, row.result, row.progress, len(lines)) == (
            "completed", "1", HALF if came else None, int(came),
        )  # fmt: skip
    harness.close()
