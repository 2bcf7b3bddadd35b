"""Every move of a holder: what it leaves, where it may start, what refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import pytest

from jobcard.backends.base import Backend, Outcome, Verdict
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.conformance.rules import changed
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, JobRow
from jobcard.core.states import Change
from jobcard.errors import InvalidJobError

ERROR = factory.ERROR

MOVES: Mapping[str, Callable[[Claimed], Change]] = MappingProxyType(
    {
        "complete": lambda claim: states.complete('"done"'),
        "fail": lambda claim: states.fail(claim, reason="error", error=ERROR, kind="ValueError"),
        "fail without an error": lambda claim: states.fail(claim, reason="timeout", error=None, kind=None),
        "retry": lambda claim: states.retry(claim, reason="error", delay=micros(7), error=ERROR, kind="X"),
        "retry at once": lambda claim: states.retry(claim, reason="error", delay=0, error=ERROR, kind=None),
        "retry without attempts left": lambda claim: states.retry(
            claim._replace(max_attempts=claim.attempt), reason="error", delay=0, error=ERROR, kind="X"
        ),
        "crash": lambda claim: states.crash(claim, reason="crash", delay=micros(1), error=ERROR, kind="crash"),
        "crash for good": lambda claim: states.crash(
            claim._replace(max_crashes=1), reason="memory", delay=0, error=ERROR, kind="memory"
        ),
        "snooze": lambda claim: states.snooze(claim, delay=micros(90)),
        "snooze for no time": lambda claim: states.snooze(claim, delay=0),
        "cancel": lambda claim: states.cancel_at_work(claim, reason="canceled"),
        "cancel with an error": lambda claim: states.cancel_at_work(claim, reason="canceled", error=ERROR),
        "hand back": lambda claim: states.hand_back(claim),
        "interrupt": lambda claim: states.interrupt(claim, error=ERROR),
        "park": lambda claim: states.park(claim),
        "quarantine": lambda claim: factory.quarantine(claim),
        "start": lambda claim: states.start(claim, ago=micros(0.3)),
        "note": lambda claim: states.note(claim, ago=micros(0.3), progress='"p"', checkpoint='"c"', lines=((0, "l"),)),
        "note without a start": lambda claim: states.note(claim, ago=None, progress='"p"'),
        "suspect": lambda claim: states.suspect(claim, error=ERROR),
        "rescue of one not started": lambda claim: states.rescue(
            claim._replace(state="claimed"), error=ERROR, lapsed=False
        ),
        "rescue of one that ran": lambda claim: states.rescue(
            claim._replace(state="running"), error=ERROR, lapsed=False
        ),
        "rescue of a poisonous one": lambda claim: states.rescue(
            claim._replace(state="running", crashes=99), error=ERROR, lapsed=False
        ),
    }
)
"""Every move of a holder, in each of its forms."""

MAKERS = MappingProxyType({"claimed": factory.claimed_job, "running": factory.running_job})


def check_each_move_leaves_exactly_what_it_says(backend: Backend, clock: FrozenClock) -> None:
    """From claimed and from running, every move sets its fields, its target and nothing else."""
    for state, make in MAKERS.items():
        for name, move in MOVES.items():
            claim = make(backend, unique_key=f"{state} {name}", order_offset=micros(-3), tags='["t"]')
            clock.advance(1)
            before = factory.row_of(backend, claim.id)
            assert before.state == state
            assert factory.settle(backend, claim, move(claim)) == [], name
            expected = changed(before, move(claim), clock.now())
            after = factory.row_of(backend, claim.id)
            assert factory.without_version(after) == factory.without_version(expected), f"{name} from {state}"


def check_each_move_touches_one_job(backend: Backend) -> None:
    """Jobs that were not named stay as they were, in every state."""
    every = ("waiting", "claimed", "running", "completed", "failed", "canceled")
    others = [factory.job_in_state(backend, state) for state in every]
    before, tries = factory.rows_of(backend, others), backend.attempts(others)
    for move in MOVES.values():
        claim = factory.claimed_job(backend)
        assert factory.settle(backend, claim, move(claim)) == []
    assert factory.rows_of(backend, others) == before
    assert backend.attempts(others) == tries


def check_each_move_needs_the_token(backend: Backend) -> None:
    """Without the claim's own token a move is `LOST` and leaves the job and its tries alone."""
    for make in MAKERS.values():
        claim = make(backend)
        before = factory.row_of(backend, claim.id)
        for name, move in MOVES.items():
            for token in (claim.token - 1, claim.token + 1):
                refusals = factory.settle(backend, claim._replace(token=token), move(claim))
                assert [refusal.verdict for refusal in refusals] == [Verdict.LOST], name
        assert factory.row_of(backend, claim.id) == before
        assert backend.attempts([claim.id]) == []


def check_no_move_starts_from_a_job_that_ended(backend: Backend) -> None:
    """Exactly one end: after it, every move with the same token is `MINE` and changes nothing."""
    ends = ("complete", "fail", "cancel")
    for end in ends:
        claim = factory.running_job(backend, keep=5_000)
        factory.settle(backend, claim, MOVES[end](claim))
        before, tries = factory.row_of(backend, claim.id), backend.attempts([claim.id])
        late = factory.complete(backend, claim, result='"late"')
        assert [refusal.verdict for refusal in late] == [Verdict.MINE]
        for name, move in MOVES.items():
            refusals = factory.settle(backend, claim, move(claim))
            assert [refusal.verdict for refusal in refusals] == [Verdict.MINE], f"{name} after {end}"
        assert factory.row_of(backend, claim.id) == before
        assert backend.attempts([claim.id]) == tries


def check_no_holders_move_starts_from_waiting(backend: Backend) -> None:
    """A holder that gave its job back can do nothing more to it."""
    claim = factory.claimed_job(backend)
    factory.settle(backend, claim, states.hand_back(claim))
    before = factory.row_of(backend, claim.id)
    assert [refusal.verdict for refusal in factory.complete(backend, claim)] == [Verdict.MINE]
    for name, move in MOVES.items():
        assert [refusal.verdict for refusal in factory.settle(backend, claim, move(claim))] == [Verdict.MINE], name
    assert factory.row_of(backend, claim.id) == before


def check_a_holders_own_outcome_leaves_the_token(backend: Backend) -> None:
    """Only a change that takes the job raises its token, and by at least one."""
    for name, move in MOVES.items():
        claim = factory.claimed_job(backend)
        factory.settle(backend, claim, move(claim))
        token = factory.row_of(backend, claim.id).claim_token
        assert token > claim.token if move(claim).takes else token == claim.token, name


def check_a_change_that_takes_the_job_refuses_its_former_holder(backend: Backend) -> None:
    """After a rescue the holder's late result is `LOST` at once, not only after a new claim."""
    taking = [name for name in MOVES if MOVES[name](factory.claimed_job(backend)).takes]
    assert len(taking) >= 3
    for name in taking:
        claim = factory.claimed_job(backend)
        factory.settle(backend, claim, MOVES[name](claim))
        before = factory.row_of(backend, claim.id)
        refusals = factory.complete(backend, claim, result='"late"')
        assert [refusal.verdict for refusal in refusals] == [Verdict.LOST], name
        assert factory.row_of(backend, claim.id) == before


def check_a_change_sets_only_what_moves(backend: Backend) -> None:
    """What a job was asked for with never changes, nor what a store keeps itself: such a change is refused, alone."""
    fixed = sorted({*JobRow._fields, "nonsense"} - states.SETTABLE)
    assert {"id", "state", "claim_token", "priority", "tags", "keep"} < set(fixed)
    for name in fixed:
        claim, other = factory.claimed_job(backend), factory.claimed_job(backend)
        before = factory.row_of(backend, claim.id)
        bad = states.start(claim, ago=0)._replace(sets={"started_at": states.NOW, name: None})
        outcomes = [Outcome(each.ref, each.token, move) for each, move in ((claim, bad), (other, MOVES["fail"](other)))]
        refusals = backend.exchange("engine", outcomes=outcomes).refusals
        assert [(refusal.ref, refusal.verdict) for refusal in refusals] == [(claim.ref, Verdict.REFUSED)], name
        assert name in refusals[0].why
        with pytest.raises(InvalidJobError, match=name):
            backend.apply_by_operator(claim.id, bad)
        assert factory.row_of(backend, claim.id) == before, name
        assert factory.row_of(backend, other.id).state == "failed"


def check_a_start_may_be_written_twice(backend: Backend, clock: FrozenClock) -> None:
    """A repeated start of a job still at work is harmless."""
    claim = factory.claimed_job(backend)
    assert factory.settle(backend, claim, states.start(claim, ago=5_000)) == []
    assert factory.settle(backend, claim, states.start(claim, ago=5_000)) == []
    row = factory.row_of(backend, claim.id)
    assert (row.state, row.started_at, row.claim_token) == ("running", clock.now() - 5_000, claim.token)


def check_a_snoozed_job_keeps_its_attempt(backend: Backend, clock: FrozenClock) -> None:
    """Snoozed again and again, a job of one attempt still runs."""
    job_id = factory.enqueue(backend, max_attempts=1)
    for _ in range(5):
        claim = factory.claim_one(backend)
        assert (claim.id, claim.attempt) == (job_id, 1)
        assert factory.settle(backend, claim, states.snooze(claim, delay=micros(2))) == []
        assert factory.claim_some(backend, 1) == []
        clock.advance(2)
    assert factory.complete(backend, factory.claim_one(backend)) == []


def check_retries_end_with_the_last_attempt(backend: Backend) -> None:
    """A job fails for good when its attempts are spent, and is claimed no more."""
    job_id = factory.enqueue(backend, max_attempts=3)
    for attempt in (1, 2, 3):
        claim = factory.claim_one(backend)
        assert claim.attempt == attempt
        factory.settle(backend, claim, states.retry(claim, reason="error", delay=0, error=ERROR, kind="X"))
    row = factory.row_of(backend, job_id)
    assert (row.state, row.attempt, row.reason, row.error_kind) == ("failed", 3, "error", "X")
    assert factory.claim_some(backend, 1) == []
