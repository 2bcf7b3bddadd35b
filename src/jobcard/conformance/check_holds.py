"""Jobs that wait and may not be claimed: delayed, parked, unreadable."""

from __future__ import annotations

from typing import Any

from jobcard.backends.base import Backend, Filter, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed


def _parked(backend: Backend, **given: Any) -> Claimed:
    claim = factory.claimed_job(backend, **given)
    assert factory.settle(backend, claim, states.park(claim)) == []
    return claim


def check_a_job_is_not_claimed_before_it_is_due(backend: Backend, clock: FrozenClock) -> None:
    """A delayed job is claimed at its instant and not a millisecond before."""
    job_id = factory.enqueue(backend, delay=micros(30))
    assert factory.claim_some(backend, 5) == []
    clock.advance(29.999)
    assert factory.claim_some(backend, 5) == []
    assert factory.row_of(backend, job_id).hold == "delay"
    clock.advance(0.001)
    assert [claim.id for claim in factory.claim_some(backend, 5)] == [job_id]


def check_one_claim_releases_all_that_are_due(backend: Backend, clock: FrozenClock) -> None:
    """The exchange in which jobs have become due claims them too, and leaves later ones on hold."""
    due = [factory.enqueue(backend, delay=micros(seconds)) for seconds in (3, 1, 2)]
    later = factory.enqueue(backend, delay=micros(10))
    clock.advance(5)
    answer = backend.exchange("e", want=Want([("default", 10)], 10), lease=factory.LEASE)
    assert [claim.id for claim in answer.claimed] == [due[1], due[2], due[0]]
    assert answer.next_due == micros(5)
    assert factory.row_of(backend, later).hold == "delay"


def check_a_crowd_due_at_once_is_released_to_the_last(backend: Backend, clock: FrozenClock) -> None:
    """However many fall due together, exchanges release them all; while some still wait for that, `next_due` is 0."""
    ids = [job_id for _ in range(2) for job_id in factory.enqueue_several(backend, 600, delay=micros(5))]
    later = factory.enqueue(backend, delay=micros(60), queue="later")
    clock.advance(5)
    most = backend.capabilities.max_batch
    claimed: list[bytes] = []
    while len(claimed) < len(ids):
        answer = backend.exchange("e", want=Want([("default", most)], most), lease=factory.LEASE)
        assert answer.claimed, f"{len(ids) - len(claimed)} jobs are left behind"
        claimed += [claim.id for claim in answer.claimed]
        left = sorted(set(ids) - set(claimed))
        held = [row for part in (left[:1_000], left[1_000:]) for row in backend.get(part) if row.hold is not None]
        assert answer.next_due == (0 if held else micros(55))
    assert sorted(claimed) == ids
    assert factory.row_of(backend, later).hold == "delay"


def check_a_released_job_keeps_its_times(backend: Backend, clock: FrozenClock) -> None:
    """A claim of a delayed job leaves when it was due and where it stood."""
    job_id = factory.enqueue(backend, delay=micros(5), order_offset=-7_000)
    due = clock.now() + micros(5)
    clock.advance(60)
    factory.claim_one(backend)
    row = factory.row_of(backend, job_id)
    assert (row.hold, row.available_at, row.order_at) == (None, due, due - 7_000)


def check_a_parked_job_is_out_of_the_line(backend: Backend, clock: FrozenClock) -> None:
    """A parked job is claimed by nobody, however long it waits, and its attempt is returned."""
    claim = _parked(backend, queue="default")
    clock.advance(86_400)
    assert factory.claim_some(backend, 5) == []
    row = factory.row_of(backend, claim.id)
    assert (row.state, row.hold, row.attempt) == ("waiting", "parked", 0)


def check_unparking_puts_jobs_of_a_name_where_they_stood(backend: Backend) -> None:
    """Parked jobs of these names are back in their old place; how many is answered."""
    first = _parked(backend, queue="default", name="a")
    second = _parked(backend, queue="default", name="b")
    third = factory.enqueue(backend)
    assert backend.unpark(["a", "b", "c"]) == 2
    assert [claim.id for claim in factory.claim_some(backend, 5)] == [first.id, second.id, third]


def check_unparking_leaves_all_others_alone(backend: Backend) -> None:
    """Other names and other holds stay as they are."""
    a = _parked(backend, name="a")
    others = [_parked(backend, name=name).id for name in ("b", "A", "aa")]
    others.append(factory.enqueue(backend, name="a", delay=micros(9)))
    broken = factory.claimed_job(backend, name="a")
    factory.settle(backend, broken, factory.quarantine(broken))
    others += [broken.id, factory.claimed_job(backend, name="a").id]
    before = factory.rows_of(backend, others)
    assert backend.unpark([]) == 0
    assert backend.unpark(["a"]) == 1
    assert backend.unpark(["a"]) == 0
    assert factory.rows_of(backend, others) == before
    assert factory.row_of(backend, a.id).hold is None


def check_a_snoozed_parked_job_waits_for_both(backend: Backend, clock: FrozenClock) -> None:
    """Unparked before it is due, a job is delayed until then; it is not claimed early."""
    claim = _parked(backend, queue="default", name="a")
    row = factory.row_of(backend, claim.id)
    snoozed = backend.apply_by_operator(claim.id, states.snooze_waiting(row, delay=micros(60)))
    assert snoozed is not None and snoozed.hold == "parked"
    assert backend.unpark(["a"]) == 1
    assert factory.row_of(backend, claim.id).hold == "delay"
    assert factory.claim_some(backend, 5) == []
    clock.advance(60)
    assert [again.id for again in factory.claim_some(backend, 5)] == [claim.id]


def check_a_job_taken_out_of_the_line_is_its_holders_no_more(backend: Backend) -> None:
    """Whoever parked or quarantined a job can do nothing more to it."""
    for move in (states.park, factory.quarantine):
        claim = factory.claimed_job(backend)
        factory.settle(backend, claim, move(claim))
        before = factory.row_of(backend, claim.id)
        assert [refusal.verdict for refusal in factory.complete(backend, claim)] == [Verdict.MINE]
        assert backend.renew("engine", [(claim.ref, claim.token)], lease=factory.LEASE) == [claim.ref]
        assert factory.row_of(backend, claim.id) == before


def check_an_unreadable_job_stays_out_with_its_bytes(backend: Backend, clock: FrozenClock) -> None:
    """A quarantined job is claimed no more and keeps every text it had."""
    claim = factory.claimed_job(backend, queue="default", args="not json {", kwargs="\t")
    assert factory.settle(backend, claim, factory.quarantine(claim)) == []
    clock.advance(86_400)
    assert factory.claim_some(backend, 5) == []
    assert backend.unpark([claim.name]) == 0
    row = factory.row_of(backend, claim.id)
    assert (row.hold, row.reason, row.args, row.kwargs) == ("broken", "broken", "not json {", "\t")


def check_held_jobs_hide_none_behind_them(backend: Backend) -> None:
    """A line full of delayed and parked jobs gives the ready ones behind them."""
    factory.enqueue_several(backend, 30, delay=micros(60), rank=-5)
    for _ in range(5):
        _parked(backend, queue="default", rank=-9)
    ready = factory.enqueue(backend, rank=5)
    assert [claim.id for claim in factory.claim_some(backend, 3)] == [ready]
    assert backend.count(Filter()) == {"default": {"waiting": 35, "claimed": 1}}


def check_a_released_job_stays_released_when_the_clock_steps_back(backend: Backend, clock: FrozenClock) -> None:
    """A job that was in line does not leave it because the clock was set back."""
    factory.enqueue(backend, delay=micros(5))
    second = factory.enqueue(backend, delay=micros(5))
    clock.advance(5)
    assert len(factory.claim_some(backend, 1)) == 1
    clock.step(-3)
    assert [claim.id for claim in factory.claim_some(backend, 1)] == [second]
