"""Moves of an operator: cancel, ask to cancel, retry, run now, snooze."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from jobcard.backends.base import Backend, Outcome, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once, both_at_once
from jobcard.conformance.rules import changed
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import JobRow
from jobcard.core.states import Change, JobState

EVERY_STATE = tuple(str(state) for state in JobState)

MOVES: Mapping[str, Callable[[JobRow], Change]] = MappingProxyType(
    {
        "cancel": lambda row: states.cancel_waiting(reason="canceled"),
        "ask to cancel": lambda row: states.ask_to_cancel(row, reason="too late"),
        "retry": lambda row: states.retry_ended(row),
        "run now": lambda row: states.run_now(row),
        "snooze": lambda row: states.snooze_waiting(row, delay=micros(60)),
        "snooze for no time": lambda row: states.snooze_waiting(row, delay=0),
    }
)


def check_each_operators_move_does_what_it_says_where_it_may(backend: Backend, clock: FrozenClock) -> None:
    """An allowed move sets exactly its fields and answers the row as it then is; from other states it does nothing."""
    for name, move in MOVES.items():
        for state in EVERY_STATE:
            job_id = factory.job_in_state(backend, state, keep=micros(9), order_offset=-4_000)
            clock.advance(1)
            before = factory.row_of(backend, job_id)
            change = move(before)
            answer = backend.apply_by_operator(job_id, change)
            after = factory.row_of(backend, job_id)
            if state not in change.sources:
                assert (answer, after) == (None, before), f"{name} from {state}"
                continue
            assert answer == after, f"{name} from {state}"
            expected = changed(before, change, clock.now())
            assert factory.without_version(after) == factory.without_version(expected), f"{name} from {state}"


def check_an_operators_move_touches_one_job(backend: Backend) -> None:
    """Jobs that were not named stay as they were, in every state."""
    others = [factory.job_in_state(backend, state) for state in EVERY_STATE]
    before = factory.rows_of(backend, others)
    for move in MOVES.values():
        for state in EVERY_STATE:
            job_id = factory.job_in_state(backend, state)
            backend.apply_by_operator(job_id, move(factory.row_of(backend, job_id)))
    assert factory.rows_of(backend, others) == before


def check_a_job_nobody_knows_is_none(backend: Backend) -> None:
    """A move of an unknown or deleted job answers None and makes nothing."""
    gone = factory.job_in_state(backend, "failed")
    row = factory.row_of(backend, gone)
    backend.delete([gone])
    for job_id in (factory.new_id(), gone):
        for move in MOVES.values():
            assert backend.apply_by_operator(job_id, move(row)) is None
        assert backend.get([job_id]) == []


def check_a_canceled_job_never_starts(backend: Backend, clock: FrozenClock) -> None:
    """Once a waiting job is canceled nobody claims it, delayed or not."""
    for delay in (0, micros(5)):
        job_id = factory.enqueue(backend, delay=delay)
        row = backend.apply_by_operator(job_id, states.cancel_waiting(reason="canceled"))
        assert row is not None
        assert (row.state, row.reason, row.finished_at, row.hold) == ("canceled", "canceled", clock.now(), None)
    clock.advance(60)
    assert factory.claim_some(backend, 5) == []


def check_a_taking_move_refuses_the_former_holder(backend: Backend) -> None:
    """An operator's move of a job that was given back raises the token, so a repeated outcome is `LOST`."""
    for name in ("cancel", "run now", "snooze"):
        claim = factory.claimed_job(backend)
        factory.settle(backend, claim, states.hand_back(claim))
        row = backend.apply_by_operator(claim.id, MOVES[name](factory.row_of(backend, claim.id)))
        assert row is not None and row.claim_token > claim.token, name
        assert [refusal.verdict for refusal in factory.complete(backend, claim)] == [Verdict.LOST], name
        assert factory.row_of(backend, claim.id) == row, name


def check_asking_to_cancel_leaves_the_claim(backend: Backend) -> None:
    """A job at work that shall stop stays its holder's: token, lease and state are untouched, results accepted."""
    for make in (factory.claimed_job, factory.running_job):
        claim = make(backend)
        before = factory.row_of(backend, claim.id)
        row = backend.apply_by_operator(claim.id, states.ask_to_cancel(before, reason="stop"))
        assert row is not None
        expected = before._replace(cancel_requested="stop")
        assert factory.without_version(row) == factory.without_version(expected)
        assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(60)) == []
        assert factory.complete(backend, claim, result="1") == []
        after = factory.row_of(backend, claim.id)
        assert (after.state, after.result, after.cancel_requested) == ("completed", "1", None)


def check_a_request_to_cancel_outlives_the_claim(backend: Backend) -> None:
    """Whoever claims a job that was asked to cancel and went back to waiting is told with that very claim."""
    claim = factory.claimed_job(backend, queue="default")
    backend.apply_by_operator(claim.id, states.ask_to_cancel(factory.row_of(backend, claim.id), reason="stop"))
    factory.settle(backend, claim, states.hand_back(claim))
    answer = backend.exchange("another", want=Want([("default", 1)], 1), lease=factory.LEASE)
    assert [found.id for found in answer.claimed] == [claim.id]
    assert answer.cancels == [(answer.claimed[0].ref, "stop")]


def check_a_retry_by_an_operator_starts_over(backend: Backend, clock: FrozenClock) -> None:
    """An ended job that is retried is due now at attempt 0, with its id, arguments and recorded tries."""
    for state in ("failed", "canceled"):
        job_id = factory.job_in_state(backend, state, queue=state, args="[7]", max_attempts=1)
        tries = backend.attempts([job_id])
        clock.advance(5)
        row = backend.apply_by_operator(job_id, states.retry_ended(factory.row_of(backend, job_id)))
        assert row is not None
        assert (row.state, row.attempt, row.available_at, row.args) == ("waiting", 0, clock.now(), "[7]")
        assert (row.finished_at, row.expires_at, row.reason, row.error_kind) == (None, None, None, None)
        assert backend.attempts([job_id]) == tries
        claim = factory.claim_one(backend, queue=state)
        assert (claim.id, claim.attempt) == (job_id, 1)


def check_a_delayed_job_runs_now(backend: Backend) -> None:
    """A delayed job told to run now is claimed at once."""
    job_id = factory.enqueue(backend, delay=micros(3600))
    assert backend.apply_by_operator(job_id, states.run_now(factory.row_of(backend, job_id))) is not None
    assert [claim.id for claim in factory.claim_some(backend, 5)] == [job_id]


def check_a_snoozed_waiting_job_waits_again(backend: Backend, clock: FrozenClock) -> None:
    """A waiting job put off is claimed at its new time and not before."""
    job_id = factory.enqueue(backend)
    backend.apply_by_operator(job_id, states.snooze_waiting(factory.row_of(backend, job_id), delay=micros(10)))
    clock.advance(9)
    assert factory.claim_some(backend, 5) == []
    clock.advance(1)
    assert [claim.id for claim in factory.claim_some(backend, 5)] == [job_id]


def check_a_change_to_one_version_needs_that_version(backend: Backend) -> None:
    """A change that names a version applies only to a job that nothing has happened to since it was read."""
    job_id, other = factory.enqueue_several(backend, 2, delay=micros(60))
    was = factory.row_of(backend, job_id)
    change = Change(verb="run_now", sources=states.WAITING, target=JobState.WAITING, sets={"hold": None})
    backend.apply_by_operator(job_id, states.snooze_waiting(was, delay=micros(90)))
    before = factory.rows_of(backend, [job_id, other])
    assert before[job_id].version > was.version
    for version in (was.version, before[job_id].version + 1):
        assert backend.apply_by_operator(job_id, change._replace(version=version)) is None
    assert factory.rows_of(backend, [job_id, other]) == before
    moved = backend.apply_by_operator(job_id, change._replace(version=before[job_id].version))
    assert moved is not None and moved.hold is None
    assert factory.row_of(backend, other) == before[other]


def check_a_holders_change_to_one_version_needs_that_version(backend: Backend) -> None:
    """It is `LOST` when something has happened to the job, by the same exchange too."""
    claims = [factory.claimed_job(backend) for _ in range(2)]
    one, other = (factory.row_of(backend, claim.id) for claim in claims)
    outcomes = [
        Outcome(claims[0].ref, claims[0].token, states.note(claims[0], ago=0, progress="1")),
        Outcome(claims[0].ref, claims[0].token, states.hand_back(claims[0])._replace(version=one.version)),
        Outcome(claims[1].ref, claims[1].token, states.hand_back(claims[1])._replace(version=other.version)),
    ]
    refusals = backend.exchange("engine", outcomes=outcomes).refusals
    assert [(refusal.ref, refusal.verdict) for refusal in refusals] == [(claims[0].ref, Verdict.LOST)]
    rows = factory.rows_of(backend, [one.id, other.id])
    assert (rows[one.id].state, rows[other.id].state) == ("running", "waiting")


def check_an_operators_change_may_record_a_try(backend: Backend, clock: FrozenClock) -> None:
    """A change that carries an error leaves its record, whoever makes it."""
    claim = factory.claimed_job(backend)
    change = states.fail(claim, reason="lost", error=factory.ERROR, kind="lost")
    assert backend.apply_by_operator(claim.id, change) is not None
    assert [(one.attempt, one.at, one.error) for one in backend.attempts([claim.id])] == [
        (1, clock.now(), factory.ERROR)
    ]


def check_cancel_and_claim_race_to_one_end(harness: Harness) -> None:
    """A waiting job that is canceled while engines claim is either claimed or canceled, never both."""
    backend = harness.ready()
    operator, engine = harness.open(), harness.open()
    for round_ in range(10):
        job_id = factory.enqueue(backend, queue=f"q{round_}")
        canceled, claims = both_at_once(
            partial(operator.apply_by_operator, job_id, states.cancel_waiting(reason="x")),
            partial(factory.claim_some, engine, queues=[f"q{round_}"]),
        )
        assert (canceled is None) is bool(claims)
        assert factory.row_of(backend, job_id).state == ("claimed" if claims else "canceled")
    harness.close()


def check_cancel_and_complete_race_to_one_end(harness: Harness) -> None:
    """A job that completes while it is asked to cancel completes; its end is never overwritten."""
    backend = harness.ready()
    operator, engine = harness.open(), harness.open()
    for _ in range(10):
        claim = factory.running_job(backend)
        ask = states.ask_to_cancel(factory.row_of(backend, claim.id), reason="x")
        refusals, asked = both_at_once(
            partial(factory.complete, engine, claim, result="1"),
            partial(operator.apply_by_operator, claim.id, ask),
        )
        assert refusals == []
        assert asked is None or asked.state == "running"
        row = factory.row_of(backend, claim.id)
        assert (row.state, row.result, row.cancel_requested) == ("completed", "1", None)
    harness.close()


def check_two_operators_retry_a_job_once(harness: Harness) -> None:
    """When two operators retry one failed job, one does and the other learns that it was too late."""
    backend = harness.ready()
    operators = [harness.open() for _ in range(3)]
    for _ in range(5):
        job_id = factory.job_in_state(backend, "failed")
        before = factory.row_of(backend, job_id)
        retry = states.retry_ended(before)
        answers = at_once([partial(at.apply_by_operator, job_id, retry) for at in operators])
        assert sum(answer is not None for answer in answers) == 1
        assert factory.row_of(backend, job_id).claim_token == before.claim_token + 1
    harness.close()
