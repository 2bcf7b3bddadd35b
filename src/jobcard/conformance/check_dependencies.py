"""Jobs that wait for others, and the jobs of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from jobcard.backends.base import Backend, Fate, Filter, Outcome
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Dependent
from jobcard.core.states import Change

WAITS = '[["job","0190a3f0-0000-7000-8000-000000000001","completed"]]'


def _found(backend: Backend) -> list[tuple[bytes, str | None]]:
    return [(one.id, one.waits_for) for one in backend.dependents(after=None, limit=1_000)]


def _cancel(one: Dependent) -> Change:
    return states.cancel_dependent(one, error=factory.ERROR)


def check_a_job_that_waits_for_others_is_claimed_by_nobody(backend: Backend, clock: FrozenClock) -> None:
    """Due or not, it stays out of the line until it is released, and says what it waits for."""
    due = factory.enqueue(backend, waits_for=WAITS)
    delayed = factory.enqueue(backend, waits_for="[]", delay=micros(5))
    other = factory.enqueue(backend)
    clock.advance(86_400)
    assert [claim.id for claim in factory.claim_some(backend, 9)] == [other]
    rows = [factory.row_of(backend, job_id) for job_id in (due, delayed)]
    assert [(row.state, row.hold, row.waits_for) for row in rows] == [
        ("waiting", "after", WAITS),
        ("waiting", "after", "[]"),
    ]
    assert _found(backend) == [(due, WAITS), (delayed, "[]")]


def check_dependents_come_page_by_page(backend: Backend) -> None:
    """By ascending id, above the one that was named; jobs that wait for nobody are none of them."""
    ids = sorted(factory.enqueue_several(backend, 5, waits_for=WAITS))
    factory.enqueue(backend)
    factory.enqueue(backend, delay=micros(60))
    assert [one.id for one in backend.dependents(after=None, limit=2)] == ids[:2]
    assert [one.id for one in backend.dependents(after=ids[1], limit=2)] == ids[2:4]
    assert [one.id for one in backend.dependents(after=ids[3], limit=2)] == ids[4:]
    assert list(backend.dependents(after=ids[4], limit=2)) == []


def check_released_dependents_stand_where_they_belong(backend: Backend, clock: FrozenClock) -> None:
    """By their rank and time, as if they had never been held; one that is not due yet is delayed until then."""
    first = factory.enqueue(backend, waits_for=WAITS)
    late = factory.enqueue(backend, waits_for=WAITS, delay=micros(60))
    clock.advance(1)
    last = factory.enqueue(backend)
    urgent = factory.enqueue(backend, waits_for=WAITS, priority=1)
    assert factory.release(backend, late, first, urgent) == 3
    assert factory.row_of(backend, late).hold == "delay"
    assert [claim.id for claim in factory.claim_some(backend, 9)] == [urgent, first, last]
    clock.advance(60)
    assert [claim.id for claim in factory.claim_some(backend, 9)] == [late]
    assert _found(backend) == []
    assert factory.row_of(backend, late).waits_for == WAITS


def check_releasing_leaves_all_others_alone(backend: Backend) -> None:
    """Only jobs that wait for others, and of those only the ones named; each once."""
    named, unnamed = factory.enqueue_several(backend, 2, waits_for=WAITS)
    delayed = factory.enqueue(backend, delay=micros(60))
    parked = factory.claimed_job(backend)
    factory.settle(backend, parked, states.park(parked))
    at_work = factory.claimed_job(backend)
    others = [unnamed, delayed, parked.id, at_work.id, factory.job_in_state(backend, "completed")]
    before = factory.rows_of(backend, others)
    assert backend.release_dependents([]) == 0
    seen = factory.as_read(backend, [named, *others[1:]])
    assert backend.release_dependents([*seen, Dependent(factory.new_id(), WAITS, 1)]) == 1
    assert backend.release_dependents(seen) == factory.release(backend, named) == 0
    assert factory.rows_of(backend, others) == before
    assert _found(backend) == [(unnamed, WAITS)]


def check_a_dependent_that_is_canceled_waits_for_nobody(backend: Backend) -> None:
    """Whoever cancels it for what it waits for does so only while it waits, and a retry puts it in line."""
    canceled, released = factory.enqueue_several(backend, 2, waits_for=WAITS)
    cancels = {one.id: _cancel(one) for one in factory.as_read(backend, [canceled, released])}
    assert factory.release(backend, released) == 1
    assert backend.apply_by_operator(released, cancels[released]) is None
    row = backend.apply_by_operator(canceled, cancels[canceled])
    assert row is not None
    assert (row.state, row.hold, row.reason) == ("canceled", None, "dependency")
    assert factory.release(backend, canceled) == 0
    assert _found(backend) == []
    assert backend.apply_by_operator(canceled, states.retry_ended(row)) is not None
    assert {claim.id for claim in factory.claim_some(backend, 9)} == {canceled, released}


def check_a_dependent_that_is_put_off_waits_for_both(backend: Backend, clock: FrozenClock) -> None:
    """Snoozed or told to run now it goes on waiting for others."""
    job_id = factory.enqueue(backend, waits_for=WAITS)
    for move in (states.run_now, lambda row: states.snooze_waiting(row, delay=micros(30))):
        row = backend.apply_by_operator(job_id, move(factory.row_of(backend, job_id)))
        assert row is not None and row.hold == "after"
        assert _found(backend) == [(job_id, WAITS)]
    assert factory.release(backend, job_id) == 1
    assert factory.claim_some(backend) == []
    clock.advance(30)
    assert [claim.id for claim in factory.claim_some(backend)] == [job_id]


def check_who_replaces_a_dependent_decides_what_it_waits_for(backend: Backend) -> None:
    """A job that takes over from one that waits for others waits for its own, or for nobody."""
    job_id = factory.enqueue(backend, unique_key="k", waits_for=WAITS)
    for waits_for, hold in (("[]", "after"), (None, None), (WAITS, "after")):
        new = factory.new_job(unique_key="k", waits_for=waits_for, replaces=True)
        assert [(one.fate, one.existing) for one in backend.enqueue([new])] == [(Fate.REPLACED, job_id)]
        row = factory.row_of(backend, job_id)
        assert (row.hold, row.waits_for) == (hold, waits_for)
        assert _found(backend) == ([] if hold is None else [(job_id, waits_for)])


def check_a_look_that_is_old_does_nothing_to_a_job_that_was_replaced(backend: Backend) -> None:
    """What was read is not so any more: the new one waits for others, and hears of what came of those. So it stays."""
    job_id = factory.enqueue(backend, unique_key="k", waits_for=WAITS)
    other = factory.enqueue(backend, waits_for=WAITS)
    seen = list(backend.dependents(after=None, limit=9))
    assert seen == factory.as_read(backend, [job_id, other])
    backend.enqueue([factory.new_job(unique_key="k", waits_for="[]", replaces=True)])
    assert backend.apply_by_operator(job_id, _cancel(seen[0])) is None
    assert backend.release_dependents(seen) == 1
    assert _found(backend) == [(job_id, "[]")]
    assert backend.attempts([job_id]) == []
    assert [claim.id for claim in factory.claim_some(backend, 9)] == [other]
    assert backend.release_dependents(backend.dependents(after=None, limit=9)) == 1


def check_follow_ups_may_wait_for_others(backend: Backend) -> None:
    """A job stored with the success of another one is held as any other."""
    claim = factory.claimed_job(backend)
    then = [factory.new_job(waits_for=WAITS), factory.new_job()]
    outcome = Outcome(claim.ref, claim.token, states.complete(None), then)
    assert backend.exchange("engine", outcomes=[outcome]).refusals == []
    assert _found(backend) == [(then[0].id, WAITS)]
    assert [one.id for one in factory.claim_some(backend, 9)] == [then[1].id]


def check_a_released_dependent_keeps_to_its_limit(backend: Backend) -> None:
    """It has a place like any other, and no more jobs of its key are at work than may be."""
    ids = factory.enqueue_several(backend, 3, waits_for=WAITS, limit_key="k", key_limit=1)
    assert factory.release(backend, *ids) == 3
    [claim] = factory.claim_some(backend, 9)
    assert claim.id == ids[0]
    assert factory.complete(backend, claim) == []
    backend.let_in(10)
    assert [one.id for one in factory.claim_some(backend, 9)] == [ids[1]]


def check_racing_releases_put_each_in_line_once(harness: Harness) -> None:
    """Of many that release the same jobs, and one that cancels them, each job hears one."""
    backends = [harness.ready() for _ in range(4)]
    backend = backends[0]
    ids = factory.enqueue_several(backend, 40, waits_for=WAITS)
    seen = factory.as_read(backend, ids)

    def end() -> int:
        return sum(backend.apply_by_operator(one.id, _cancel(one)) is not None for one in reversed(seen))

    works: list[Callable[[], int]] = [end, *(partial(other.release_dependents, seen) for other in backends[1:])]
    assert sum(at_once(works)) == len(ids)
    rows = factory.rows_of(backend, ids).values()
    assert {(row.state, row.hold) for row in rows} <= {("waiting", None), ("canceled", None)}
    assert len(factory.claim_some(backend, 40)) == sum(row.state == "waiting" for row in rows)


def check_jobs_of_a_batch_are_counted_in_every_state(backend: Backend) -> None:
    """By queue and state, up to a limit too; jobs of other batches, and of none, are not."""
    batch, other = factory.new_id(), factory.new_id()
    for state in ("canceled", "claimed", "running", "completed", "completed", "failed", "waiting"):
        factory.job_in_state(backend, state, batch_id=batch, queue="a", rank=-1)
        factory.job_in_state(backend, state, batch_id=other)
        factory.job_in_state(backend, state)
    factory.enqueue(backend, batch_id=batch, queue="b", waits_for=WAITS)
    counted = {"waiting": 1, "claimed": 1, "running": 1, "completed": 2, "failed": 1, "canceled": 1}
    assert backend.count(Filter(batch_id=batch)) == {"a": counted, "b": {"waiting": 1}}
    alive = Filter(batch_id=batch, states=("waiting", "claimed", "running"))
    assert backend.count(alive, limit=1) == {"a": {"waiting": 1, "claimed": 1, "running": 1}, "b": {"waiting": 1}}
    assert backend.count(Filter(batch_id=factory.new_id())) == {}
    assert len(backend.list(Filter(batch_id=batch), limit=50).rows) == 8
