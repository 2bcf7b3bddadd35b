"""The record of each failed or interrupted try."""

from __future__ import annotations

from jobcard.backends.base import Backend
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import LAST_ATTEMPTS, Attempt


def check_a_failed_try_is_recorded(backend: Backend, clock: FrozenClock) -> None:
    """A change that carries an error leaves one record: which try, when, and the same text."""
    claim = factory.claimed_job(backend)
    clock.advance(1)
    error = ' {"kind": "error", "message": "é 😀 %s \' \\u0000"} '
    factory.settle(backend, claim, states.retry(claim, reason="error", delay=0, error=error, kind="X"))
    assert backend.attempts([claim.id]) == [Attempt(claim.id, 1, clock.now(), error)]


def check_a_try_without_an_error_leaves_no_record(backend: Backend) -> None:
    """Snoozes, hand-backs and results are no failures."""
    for move in (
        states.complete("1"),
        states.fail(factory.claimed_job(backend), reason="timeout", error=None, kind=None),
    ):
        claim = factory.claimed_job(backend)
        factory.settle(backend, claim, move)
        assert backend.attempts([claim.id]) == []


def check_tries_come_oldest_first(backend: Backend, clock: FrozenClock) -> None:
    """Each job's tries come in the order they were recorded, also when the clock stepped back between."""
    ids = factory.enqueue_several(backend, 2)
    for round_ in range(3):
        clock.step(-1)
        for claim in factory.claim_some(backend, 2):
            error = f'{{"round": {round_}}}'
            factory.settle(backend, claim, states.retry(claim, reason="error", delay=0, error=error, kind="X"))
    for job_id in ids:
        tries = [attempt for attempt in backend.attempts(ids) if attempt.job_id == job_id]
        assert [(attempt.attempt, attempt.error) for attempt in tries] == [
            (round_ + 1, f'{{"round": {round_}}}') for round_ in range(3)
        ]


def check_a_try_given_back_is_recorded_each_time(backend: Backend) -> None:
    """Interrupted tries share their number, as the attempt was returned, and are all kept."""
    factory.enqueue(backend)
    for round_ in range(3):
        claim = factory.claim_one(backend)
        factory.settle(backend, claim, states.interrupt(claim, error=f'"{round_}"'))
    tries = backend.attempts([claim.id])
    assert [(attempt.attempt, attempt.error) for attempt in tries] == [(1, '"0"'), (1, '"1"'), (1, '"2"')]


def check_the_last_twenty_tries_are_kept(backend: Backend) -> None:
    """The oldest tries of a job go when there are more than twenty; those of other jobs stay."""
    other = factory.claimed_job(backend)
    factory.settle(backend, other, states.fail(other, reason="error", error='"other"', kind="X"))
    job_id = factory.enqueue(backend, max_attempts=100)
    for round_ in range(LAST_ATTEMPTS + 5):
        claim = factory.claim_one(backend)
        factory.settle(backend, claim, states.retry(claim, reason="e", delay=0, error=f'"{round_}"', kind="X"))
    assert [attempt.error for attempt in backend.attempts([job_id])] == [f'"{n}"' for n in range(5, LAST_ATTEMPTS + 5)]
    assert [attempt.error for attempt in backend.attempts([other.id])] == ['"other"']


def check_tries_of_jobs_nobody_knows_are_none(backend: Backend) -> None:
    """Asking for tries of no job, an unknown one or one that never failed gives none."""
    assert backend.attempts([]) == []
    assert backend.attempts([factory.new_id(), factory.enqueue(backend)]) == []


def check_a_large_error_is_kept_whole(backend: Backend) -> None:
    """The text of an error is opaque and may be as long as jobcard allows."""
    claim = factory.claimed_job(backend)
    error = '"' + "é" * 100_000 + '"'
    assert factory.settle(backend, claim, states.fail(claim, reason="error", error=error, kind="X")) == []
    assert [attempt.error for attempt in backend.attempts([claim.id])] == [error]
