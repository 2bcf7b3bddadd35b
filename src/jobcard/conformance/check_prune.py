"""Deleting: prune, delete, truncate."""

from __future__ import annotations

from functools import partial

from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once, both_at_once
from jobcard.core import states as moves
from jobcard.core.clock import FrozenClock

ENDED = ("completed", "failed", "canceled")
ALIVE = ("waiting", "claimed", "running")


def _prune(
    backend: Backend,
    *,
    before: int | None = None,
    age: int | None = None,
    limit: int = 1_000,
    states: tuple[str, ...] = ENDED,
) -> int:
    return backend.prune(states=states, finished_before=before, age=age, limit=limit)


def check_jobs_that_ended_before_an_instant_are_deleted(backend: Backend, clock: FrozenClock) -> None:
    """Old jobs of every ended state go; newer ones, and those that ended at that instant, stay."""
    old = [factory.job_in_state(backend, state) for state in ENDED]
    clock.advance(60)
    moment = clock.now()
    new = [factory.job_in_state(backend, state) for state in ENDED]
    assert _prune(backend, before=moment) == 3
    assert set(factory.rows_of(backend, old + new)) == set(new)
    assert _prune(backend, before=moment) == 0


def check_living_jobs_are_never_deleted(backend: Backend, clock: FrozenClock) -> None:
    """However old, a job that has not ended stays, whatever states are named."""
    living = [factory.job_in_state(backend, state) for state in ALIVE]
    before = factory.rows_of(backend, living)
    clock.advance(1_000_000)
    assert _prune(backend, before=clock.now(), states=(*ALIVE, *ENDED)) == 0
    assert _prune(backend, age=0, states=(*ALIVE, *ENDED)) == 0
    assert backend.delete(living) == 0
    assert factory.rows_of(backend, living) == before


def check_only_the_states_named_are_deleted(backend: Backend, clock: FrozenClock) -> None:
    """A state that is not named keeps its jobs."""
    ids = {state: factory.job_in_state(backend, state) for state in ENDED}
    clock.advance(60)
    assert _prune(backend, before=clock.now(), states=("completed",)) == 1
    assert set(factory.rows_of(backend, ids.values())) == {ids["failed"], ids["canceled"]}
    assert _prune(backend, age=0, states=("canceled", "failed")) == 2


def check_jobs_go_by_age(backend: Backend, clock: FrozenClock) -> None:
    """Jobs that ended longer ago than `age` go; others stay."""
    old = factory.job_in_state(backend, "completed")
    clock.advance(30)
    new = factory.job_in_state(backend, "completed")
    clock.advance(30)
    assert _prune(backend, age=micros(61)) == 0
    assert _prune(backend, age=micros(59)) == 1
    assert set(factory.rows_of(backend, [old, new])) == {new}


def check_a_jobs_own_time_comes_before_the_age(backend: Backend, clock: FrozenClock) -> None:
    """A job with a `keep` of its own goes when that has run out, sooner or later than `age` says."""
    short = factory.job_in_state(backend, "completed", keep=micros(10))
    long = factory.job_in_state(backend, "completed", keep=micros(1000))
    plain = factory.job_in_state(backend, "completed")
    clock.advance(11)
    assert _prune(backend, age=micros(100)) == 1
    assert set(factory.rows_of(backend, [short, long, plain])) == {long, plain}
    clock.advance(100)
    assert _prune(backend, age=micros(100)) == 1
    assert set(factory.rows_of(backend, [short, long, plain])) == {long}
    clock.advance(1000)
    assert _prune(backend, age=micros(100)) == 1


def check_an_instant_comes_before_a_jobs_own_time(backend: Backend, clock: FrozenClock) -> None:
    """Deleting what ended before an instant asks no job how long it would be kept."""
    factory.job_in_state(backend, "completed", keep=micros(1_000_000))
    clock.advance(1)
    assert _prune(backend, before=clock.now()) == 1


def check_no_more_than_the_limit_goes_at_once(backend: Backend, clock: FrozenClock) -> None:
    """A prune goes in steps, so that nobody waits for it, and says when nothing is left."""
    for _ in range(12):
        factory.job_in_state(backend, "completed")
    clock.advance(60)
    steps = [_prune(backend, age=0, limit=5) for _ in range(4)]
    assert steps == [5, 5, 2, 0]
    assert backend.count(Filter()) == {}


def check_a_deleted_jobs_tries_go_with_it(backend: Backend, clock: FrozenClock) -> None:
    """Nothing of a pruned job is left, and nothing of another's is lost."""
    gone, kept = factory.job_in_state(backend, "failed"), factory.job_in_state(backend, "failed")
    tries = backend.attempts([kept])
    assert backend.delete([gone]) == 1
    assert backend.attempts([gone, kept]) == tries and len(tries) == 1
    clock.advance(1)
    assert _prune(backend, age=0) == 1
    assert backend.attempts([gone, kept]) == []


def check_an_empty_store_prunes_nothing(backend: Backend, clock: FrozenClock) -> None:
    """Nothing to delete is no error."""
    assert (_prune(backend, before=clock.now()), _prune(backend, age=0), backend.delete([])) == (0, 0, 0)


def check_delete_takes_ended_jobs_by_id(backend: Backend) -> None:
    """Of the ids given those that ended go, each counted once; unknown ones count for nothing."""
    ids = {state: factory.job_in_state(backend, state) for state in (*ALIVE, *ENDED)}
    other = factory.job_in_state(backend, "completed")
    assert backend.delete([*ids.values(), ids["failed"], factory.new_id()]) == 3
    left = set(factory.rows_of(backend, [*ids.values(), other]))
    assert left == {ids["waiting"], ids["claimed"], ids["running"], other}


def check_the_id_of_a_deleted_job_is_free(backend: Backend) -> None:
    """A repeat is known as long as the job is kept, and no longer."""
    job = factory.new_job()
    factory.job_in_state(backend, "completed", id=job.id)
    backend.delete([job.id])
    assert [answer.fate for answer in backend.enqueue([job])] == ["stored"]


def check_truncate_empties_everything_but_the_store(backend: Backend) -> None:
    """Every job, try and record goes; schema and identity stay, and the store works on."""
    ids = [factory.job_in_state(backend, state) for state in (*ALIVE, *ENDED)]
    for kind in RecordKind:
        backend.write_record(kind, "x", "{}")
    before = backend.facts()
    backend.truncate()
    assert (backend.get(ids), backend.attempts(ids), backend.ended(ids)) == ([], [], [])
    assert backend.count(Filter()) == {}
    assert not any(list(backend.read_records(kind)) for kind in RecordKind)
    after = backend.facts()
    assert (after.identity, after.schema_version) == (before.identity, before.schema_version)
    assert factory.complete(backend, factory.claimed_job(backend)) == []


def check_truncate_tells_running_engines(backend: Backend) -> None:
    """With its records gone the settings have changed, so their version rises."""
    backend.write_record(RecordKind.QUEUE, "x", "{}")
    before = backend.exchange("e").settings
    backend.truncate()
    assert backend.exchange("e").settings > before


def check_a_claim_from_before_a_truncate_is_lost(backend: Backend) -> None:
    """The proof of a job that was truncated away fits no job stored after it."""
    old = factory.claimed_job(backend)
    backend.truncate()
    new = factory.claimed_job(backend)
    assert [refusal.verdict for refusal in factory.complete(backend, old)] == ["lost"]
    assert factory.row_of(backend, new.id).state == "claimed"


def check_pruners_at_once_share_the_work(harness: Harness, clock: FrozenClock) -> None:
    """Engines that prune at the same time delete each job once and count it once."""
    backend = harness.ready()
    factory.enqueue_several(backend, 60)
    factory.complete(backend, factory.claim_some(backend, 60))
    clock.advance(1)
    pruners = [harness.open() for _ in range(3)]

    def prune_all(at: Backend) -> int:
        total = 0
        while deleted := _prune(at, age=0, limit=7):
            total += deleted
        return total

    assert sum(at_once([partial(prune_all, at) for at in pruners])) == 60
    assert backend.count(Filter()) == {}
    harness.close()


def check_a_delete_races_a_retry_to_one_end(harness: Harness) -> None:
    """An ended job that is deleted while an operator retries it is gone or waits again, never both nor neither."""
    backend = harness.ready()
    operator, deleter = harness.open(), harness.open()
    for _ in range(10):
        job_id = factory.job_in_state(backend, "failed")
        retry = moves.retry_ended(factory.row_of(backend, job_id))
        row, deleted = both_at_once(
            partial(operator.apply_by_operator, job_id, retry), partial(deleter.delete, [job_id])
        )
        assert (row is None) == (deleted == 1)
        assert [found.state for found in backend.get([job_id])] == ([] if deleted else ["waiting"])
    harness.close()
