"""Unique keys: at most one living job holds each."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import pytest

from jobcard.backends.base import Backend, Enqueued, Fate, Filter
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once, both_at_once
from jobcard.core import states
from jobcard.core.job import JobRow
from jobcard.errors import DuplicateJobError


def check_a_key_is_held_by_one_living_job(backend: Backend) -> None:
    """While its holder waits or is at work, a key refuses other jobs and names its holder."""
    for state in ("waiting", "claimed", "running"):
        holder = factory.job_in_state(backend, state, unique_key=f"key-{state}")
        before = factory.row_of(backend, holder)
        other = factory.new_job(unique_key=f"key-{state}")
        assert backend.enqueue([other]) == [Enqueued(Fate.KEY_TAKEN, holder)], state
        assert backend.get([other.id]) == []
        assert factory.row_of(backend, holder) == before


def check_a_held_back_job_holds_its_key(backend: Backend) -> None:
    """A delayed or parked job is alive, so it holds its key."""
    delayed = factory.enqueue(backend, unique_key="delayed", delay=micros(60))
    parked = factory.claimed_job(backend, unique_key="parked")
    factory.settle(backend, parked, states.park(parked))
    for key, holder in (("delayed", delayed), ("parked", parked.id)):
        assert backend.enqueue([factory.new_job(unique_key=key)]) == [Enqueued(Fate.KEY_TAKEN, holder)]


def check_a_key_is_free_once_its_holder_has_ended(backend: Backend) -> None:
    """The end of a job, whichever, frees its key; the ended job keeps it as a record."""
    for state in ("completed", "failed", "canceled"):
        ended = factory.job_in_state(backend, state, unique_key=f"key-{state}")
        after = factory.new_job(unique_key=f"key-{state}")
        assert backend.enqueue([after]) == [Enqueued(Fate.STORED, after.id)], state
        assert factory.row_of(backend, ended).unique_key == f"key-{state}"
        assert factory.row_of(backend, ended).state == state


def check_a_key_is_kept_through_retries(backend: Backend) -> None:
    """A job that goes back to waiting is alive and holds its key on."""
    claim = factory.claimed_job(backend, unique_key="k")
    factory.settle(backend, claim, states.retry(claim, reason="error", delay=0, error=factory.ERROR, kind="X"))
    assert backend.enqueue([factory.new_job(unique_key="k")]) == [Enqueued(Fate.KEY_TAKEN, claim.id)]


def check_jobs_without_a_key_never_collide(backend: Backend) -> None:
    """No key is no claim to uniqueness, and different keys are different."""
    answers = backend.enqueue([factory.new_job(unique_key=key) for key in (None, None, "a", "b", "A", "á", "a ", "")])
    assert {answer.fate for answer in answers} == {Fate.STORED}


def check_a_key_spans_queues_and_names(backend: Backend) -> None:
    """A key is a key in the whole store: what belongs in it, the client has put in it."""
    holder = factory.enqueue(backend, queue="a", name="n1", unique_key="k")
    other = factory.new_job(queue="b", name="n2", unique_key="k")
    assert backend.enqueue([other]) == [Enqueued(Fate.KEY_TAKEN, holder)]


def check_a_key_twice_in_one_batch_is_stored_once(backend: Backend) -> None:
    """Within one call the first of a key is stored and the others are given its id."""
    first, second, third = (factory.new_job(unique_key="k") for _ in range(3))
    assert backend.enqueue([second, first, third]) == [
        Enqueued(Fate.STORED, second.id),
        Enqueued(Fate.KEY_TAKEN, second.id),
        Enqueued(Fate.KEY_TAKEN, second.id),
    ]
    assert backend.count(Filter()) == {"default": {"waiting": 1}}


def check_an_id_comes_before_a_key(backend: Backend) -> None:
    """A repeated enqueue is a repeat even when another job holds the key by now."""
    job = factory.new_job(unique_key="k")
    factory.job_in_state(backend, "failed", id=job.id, unique_key="k")
    factory.enqueue(backend, unique_key="k")
    assert backend.enqueue([job]) == [Enqueued(Fate.REPEATED, job.id)]


def check_an_operators_retry_into_a_taken_key_is_refused(backend: Backend) -> None:
    """Running an ended job again while another holds its key raises, names both, and changes neither."""
    for state in ("failed", "canceled"):
        ended = factory.job_in_state(backend, state, unique_key=state)
        holder = factory.enqueue(backend, unique_key=state)
        before = factory.rows_of(backend, [ended, holder])
        with pytest.raises(DuplicateJobError) as caught:
            backend.apply_by_operator(ended, states.retry_ended(before[ended]))
        assert (caught.value.job_id, caught.value.existing_id) == (UUID(bytes=ended), UUID(bytes=holder))
        assert factory.rows_of(backend, [ended, holder]) == before


def check_an_operators_retry_takes_its_key_again(backend: Backend) -> None:
    """An ended job that runs again holds its key as before."""
    ended = factory.job_in_state(backend, "failed", unique_key="k")
    assert backend.apply_by_operator(ended, states.retry_ended(factory.row_of(backend, ended))) is not None
    assert backend.enqueue([factory.new_job(unique_key="k")]) == [Enqueued(Fate.KEY_TAKEN, ended)]


def check_deleting_an_ended_job_leaves_the_key_with_its_holder(backend: Backend) -> None:
    """The key belongs to the living job, whatever becomes of earlier ones."""
    ended = factory.job_in_state(backend, "completed", unique_key="k")
    holder = factory.enqueue(backend, unique_key="k")
    assert backend.delete([ended]) == 1
    assert backend.enqueue([factory.new_job(unique_key="k")]) == [Enqueued(Fate.KEY_TAKEN, holder)]


def check_one_key_from_many_threads_is_stored_once(harness: Harness) -> None:
    """Of eight producers with one key exactly one wins; all others get the winner's id."""
    backend = harness.ready()
    for round_ in range(5):
        jobs = [factory.new_job(unique_key=f"k{round_}", queue=f"q{round_}") for _ in range(8)]
        backends = [harness.open() for _ in jobs]
        answers_of_each = at_once([partial(at.enqueue, [job]) for at, job in zip(backends, jobs, strict=True)])
        answers = [answer for [answer] in answers_of_each]
        assert sorted(answer.fate for answer in answers) == [Fate.KEY_TAKEN] * 7 + [Fate.STORED]
        [winner] = [job.id for job, answer in zip(jobs, answers, strict=True) if answer.fate is Fate.STORED]
        assert {answer.existing for answer in answers} == {winner}
        assert [row.id for row in backend.list(Filter(queues=[f"q{round_}"]), limit=10).rows] == [winner]
    harness.close()


def check_a_retry_and_an_enqueue_never_both_get_the_key(harness: Harness) -> None:
    """When an operator's retry races an enqueue of the same key, one of them gets it."""
    backend = harness.ready()
    operator, producer = harness.open(), harness.open()

    def run_again(row: JobRow) -> bool:
        try:
            return operator.apply_by_operator(row.id, states.retry_ended(row)) is not None
        except DuplicateJobError:
            return False

    for round_ in range(8):
        ended = factory.job_in_state(backend, "failed", unique_key=f"k{round_}")
        job = factory.new_job(unique_key=f"k{round_}")
        ran_again, [answer] = both_at_once(
            partial(run_again, factory.row_of(backend, ended)), partial(producer.enqueue, [job])
        )
        assert answer == (Enqueued(Fate.KEY_TAKEN, ended) if ran_again else Enqueued(Fate.STORED, job.id))
        living = [row.id for row in backend.get([ended, job.id]) if row.state == "waiting"]
        assert living == [ended if ran_again else job.id]
    harness.close()
