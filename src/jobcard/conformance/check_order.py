"""The order of a queue: (queue as wanted, rank, order_at, id), ascending."""

from __future__ import annotations

from random import Random

from jobcard.backends.base import Backend, Outcome, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock


def _claimed_ids(backend: Backend, count: int = 50) -> list[bytes]:
    """Claims one by one, as a single engine with one slot would."""
    found: list[bytes] = []
    while len(found) < count and (claims := factory.claim_some(backend, 1)):
        found.append(claims[0].id)
    return found


def check_jobs_of_one_rank_go_first_in_first_out(backend: Backend, clock: FrozenClock) -> None:
    """With equal ranks the job due first is claimed first."""
    ids = []
    for _ in range(5):
        ids.append(factory.enqueue(backend))
        clock.advance(0.001)
    assert _claimed_ids(backend) == ids


def check_the_lowest_rank_goes_first(backend: Backend) -> None:
    """A higher priority is a lower rank, and goes before everything due earlier; ranks may be negative."""
    by_rank = {rank: factory.enqueue(backend, priority=-rank, rank=rank) for rank in (3, 0, -7, 12, -32_767, 1)}
    assert _claimed_ids(backend) == [by_rank[rank] for rank in sorted(by_rank)]


def check_rank_decides_and_not_priority(backend: Backend) -> None:
    """The store orders by `rank`; what made it is the client's affair."""
    late = factory.enqueue(backend, priority=9, rank=5)
    early = factory.enqueue(backend, priority=0, rank=4)
    assert _claimed_ids(backend) == [early, late]


def check_order_at_decides_within_a_rank(backend: Backend) -> None:
    """An offset moves a job in its line, forward or back."""
    middle = factory.enqueue(backend)
    last = factory.enqueue(backend, order_offset=micros(10))
    first = factory.enqueue(backend, order_offset=micros(-10))
    assert _claimed_ids(backend) == [first, middle, last]


def check_ties_are_broken_by_id(backend: Backend) -> None:
    """Jobs due at the same instant go by id, compared as bytes, whatever the order they came in."""
    ids = [bytes([first]) + bytes([second] * 15) for first in (0, 1, 127, 128, 255) for second in (0, 65, 97, 128, 255)]
    shuffled = Random(7).sample(ids, len(ids))
    backend.enqueue([factory.new_job(id=job_id) for job_id in shuffled])
    assert _claimed_ids(backend, 10) == sorted(ids)[:10]
    assert [claim.id for claim in factory.claim_some(backend, 50)] == sorted(ids)[10:]


def check_a_batch_is_claimed_and_answered_in_order(backend: Backend, clock: FrozenClock) -> None:
    """Many claimed at once are the first in line, and come sorted as one by one they would."""
    random = Random(11)
    jobs = [
        factory.new_job(rank=random.randint(-2, 2), order_offset=1_000 * random.randint(-3, 3), id=random.randbytes(16))
        for _ in range(40)
    ]
    backend.enqueue(jobs)
    line = sorted(jobs, key=lambda job: (job.rank, clock.now() + job.order_offset, job.id))
    assert [claim.id for claim in factory.claim_some(backend, 15)] == [job.id for job in line[:15]]
    assert [claim.id for claim in factory.claim_some(backend, 40)] == [job.id for job in line[15:]]


def check_queues_are_served_in_the_order_wanted(backend: Backend) -> None:
    """The first queue wanted goes first, whatever the ranks in it; the answer is sorted the same way."""
    ids = {queue: [factory.enqueue(backend, queue=queue, rank=rank) for rank in (5, 1)] for queue in ("a", "b", "c")}
    claims = backend.exchange("e", want=Want([("c", 5), ("a", 5), ("b", 5)], 5), lease=factory.LEASE).claimed
    expected = [*ids["c"][::-1], *ids["a"][::-1], ids["b"][1]]
    assert [claim.id for claim in claims] == expected


def check_a_delayed_jobs_place_is_when_it_is_due(backend: Backend, clock: FrozenClock) -> None:
    """A job stored earlier but due later stands behind one due before it."""
    delayed = factory.enqueue(backend, delay=micros(10))
    clock.advance(5)
    earlier = factory.enqueue(backend)
    clock.advance(15)
    later = factory.enqueue(backend)
    assert _claimed_ids(backend) == [earlier, delayed, later]


def check_a_retried_job_goes_to_its_new_place(backend: Backend, clock: FrozenClock) -> None:
    """A job that failed stands where its new due time puts it, not where it once stood."""
    first = factory.enqueue(backend)
    claim = factory.claim_one(backend)
    second = factory.enqueue(backend)
    clock.advance(1)
    factory.settle(backend, claim, states.retry(claim, reason="error", delay=0, error=factory.ERROR, kind="X"))
    clock.advance(1)
    third = factory.enqueue(backend)
    assert _claimed_ids(backend) == [second, first, third]


def check_a_job_handed_back_goes_to_its_old_place(backend: Backend, clock: FrozenClock) -> None:
    """A job given back unstarted stands where it stood."""
    ids = factory.enqueue_several(backend, 2)
    claims = factory.claim_some(backend, 2)
    clock.advance(1)
    ids.append(factory.enqueue(backend))
    backend.exchange("engine", outcomes=[Outcome(claim.ref, claim.token, states.hand_back(claim)) for claim in claims])
    assert _claimed_ids(backend) == ids


def check_an_offset_is_kept_through_a_retry(backend: Backend, clock: FrozenClock) -> None:
    """A job's head start from ageing stays with it when it is retried."""
    claim = factory.claimed_job(backend, queue="default", order_offset=micros(-30))
    clock.advance(20)
    factory.settle(backend, claim, states.retry(claim, reason="error", delay=0, error=factory.ERROR, kind="X"))
    row = factory.row_of(backend, claim.id)
    assert (row.available_at, row.order_at) == (clock.now(), clock.now() - micros(30))
