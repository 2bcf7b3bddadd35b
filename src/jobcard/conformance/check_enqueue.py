"""Storing new jobs."""

from __future__ import annotations

from functools import partial

import pytest

from jobcard.backends.base import Backend, Enqueued, Fate, Filter, RecordKind
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core import clock as clocks
from jobcard.core import limits
from jobcard.core.clock import FrozenClock
from jobcard.core.job import JobRow, NewJob
from jobcard.errors import JobcardError

STAMPS_OF_LATER = (
    "result", "hold", "claimed_at", "started_at", "finished_at", "expires_at", "claimed_by", "lease_until",
    "cancel_requested", "reason", "error_kind", "progress", "checkpoint",
)  # fmt: skip

HARD_TEXTS = (
    '["plain"]',
    "[ 1 ,\t2.50,\n1e2 ]",
    '["\\u00e9 \\ud83d\\ude00 \\u0000"]',
    '["é 😀 한 \u2028"]',
    '["it\'s 100% `_` \\\\ {} ; -- /* $1 %s :x ?"]',
    '{"b": 1, "a": 1, "b": 2}',
    '["12345678901234567890123456789012345678901234567890", 1.0000000000000000000001]',
    " [] ",
)


def _as_new(row: JobRow) -> dict[str, object]:
    return {name: value for name, value in row._asdict().items() if name in NewJob._fields}


def check_a_job_keeps_every_field_it_was_given(backend: Backend) -> None:
    """What a client gives is what a store keeps, each optional field included."""
    job = factory.new_job(
        queue="mail", name="mail.welcome", init='{"args": ["eu"], "kwargs": {}}', args='["a", 1]', kwargs='{"b": 2}',
        priority=7, rank=-7, max_attempts=9, max_crashes=2, backoff='{"kind": "fixed", "delay": 5}',
        timeout=micros(60), keep=micros(3600), unique_key="mail:a", limit_key="a", batch_id=factory.new_id(),
        parent_id=factory.new_id(), schedule_id="nightly", tags='["x", "y"]', meta='{"traceparent": "00-1"}',
    )  # fmt: skip
    assert backend.enqueue([job]) == [Enqueued(Fate.STORED, job.id)]
    given = {name: value for name, value in job._asdict().items() if name in JobRow._fields}
    assert _as_new(factory.row_of(backend, job.id)) == given


def check_a_new_job_waits_and_nothing_happened_to_it_yet(backend: Backend, clock: FrozenClock) -> None:
    """A new job is waiting, due at once, at attempt 0; every stamp and trace of later life is empty."""
    row = factory.row_of(backend, factory.enqueue(backend))
    assert (row.state, row.attempt, row.crashes, row.interrupts) == ("waiting", 0, 0, 0)
    assert row.created_at == row.available_at == row.order_at == clock.now()
    assert [getattr(row, name) for name in STAMPS_OF_LATER] == [None] * len(STAMPS_OF_LATER)
    assert isinstance(row.claim_token, int)
    assert backend.attempts([row.id]) == []


def check_a_row_has_the_types_the_contract_names(backend: Backend) -> None:
    """A row is a `JobRow` with bytes for ids, whole numbers for instants and plain text."""
    row = factory.row_of(backend, factory.enqueue(backend, tags='["a"]', keep=5))
    assert type(row) is JobRow
    assert {type(row.id)} == {bytes} and len(row.id) == 16
    numbers = (row.priority, row.rank, row.order_at, row.attempt, row.available_at, row.created_at, row.claim_token)
    assert {type(number) for number in numbers} == {int}
    assert {type(text) for text in (row.queue, row.name, row.args, row.kwargs, row.state, row.tags)} == {str}


def check_a_delay_counts_from_the_stores_time(backend: Backend, clock: FrozenClock) -> None:
    """A delayed job is due `delay` after the store's now, and held until then."""
    clock.advance(12.345)
    row = factory.row_of(backend, factory.enqueue(backend, delay=micros(30)))
    assert (row.available_at, row.order_at) == (clock.now() + micros(30), clock.now() + micros(30))
    assert (row.hold, row.created_at) == ("delay", clock.now())


def check_an_instant_is_taken_as_given(backend: Backend, clock: FrozenClock) -> None:
    """`at` says when a job is due, past or future, whatever the clock or `delay` say."""
    past = factory.row_of(backend, factory.enqueue(backend, at=clock.now() - micros(3600) - 1_000, delay=micros(9)))
    now = factory.row_of(backend, factory.enqueue(backend, at=clock.now(), delay=micros(9)))
    future = factory.row_of(backend, factory.enqueue(backend, at=clock.now() + 1_000))
    assert (past.available_at, past.hold) == (clock.now() - micros(3600) - 1_000, None)
    assert (now.available_at, now.hold) == (clock.now(), None)
    assert (future.available_at, future.hold) == (clock.now() + 1_000, "delay")


def check_an_order_offset_moves_the_place_and_not_the_time(backend: Backend, clock: FrozenClock) -> None:
    """`order_at` is `available_at` plus the offset; when a job is due stays as it is."""
    for offset in (micros(-50), 0, micros(50)):
        row = factory.row_of(backend, factory.enqueue(backend, order_offset=offset))
        assert (row.available_at, row.order_at, row.hold) == (clock.now(), clock.now() + offset, None)
        assert row.order_offset == offset


def check_the_same_job_again_is_stored_once(backend: Backend, clock: FrozenClock) -> None:
    """Repeating an enqueue never makes a second job nor touches the first."""
    job = factory.new_job(delay=micros(5))
    backend.enqueue([job])
    before = factory.row_of(backend, job.id)
    clock.advance(3)
    assert backend.enqueue([job]) == [Enqueued(Fate.REPEATED, job.id)]
    assert factory.row_of(backend, job.id) == before
    assert backend.count(Filter())["default"]["waiting"] == 1


def check_a_repeat_leaves_a_job_in_any_state_alone(backend: Backend) -> None:
    """A repeated enqueue changes nothing about a job at work or ended, as long as the job is kept."""
    for state in ("waiting", "claimed", "running", "completed", "failed", "canceled"):
        job = factory.new_job()
        job_id = factory.job_in_state(backend, state, id=job.id)
        before = factory.row_of(backend, job_id)
        assert backend.enqueue([job]) == [Enqueued(Fate.REPEATED, job.id)], state
        assert factory.row_of(backend, job_id) == before, state


def check_a_repeat_is_known_by_name_and_arguments(backend: Backend) -> None:
    """Only name and arguments make a job the same: a repeat with another queue or delay changes neither."""
    job = factory.new_job(queue="a")
    backend.enqueue([job])
    before = factory.row_of(backend, job.id)
    again = job._replace(queue="b", priority=3, rank=-3, delay=5, max_attempts=1)
    assert backend.enqueue([again]) == [Enqueued(Fate.REPEATED, job.id)]
    assert factory.row_of(backend, job.id) == before


def check_an_id_with_other_content_is_taken(backend: Backend) -> None:
    """The same id with another name or other arguments is refused; the job that is there stays."""
    job = factory.new_job(args="[1]", kwargs='{"a": 1}', init='{"args": [], "kwargs": {}}')
    backend.enqueue([job])
    before = factory.row_of(backend, job.id)
    for other in ({"name": "shop.other"}, {"args": "[2]"}, {"kwargs": "{}"}, {"init": None}, {"args": "[1 ]"}):
        assert backend.enqueue([job._replace(**other)]) == [Enqueued(Fate.ID_TAKEN, job.id)], other
    assert factory.row_of(backend, job.id) == before


def check_a_batch_is_answered_in_order(backend: Backend) -> None:
    """One answer per job, in the order asked; an answer that is not `STORED` holds no other job back."""
    there = factory.new_job(unique_key="k")
    backend.enqueue([there])
    first, last, second = factory.new_job(), factory.new_job(), factory.new_job()
    key_taken, id_taken = factory.new_job(unique_key="k"), there._replace(name="shop.other")
    answers = backend.enqueue([last, there, key_taken, first, id_taken, second])
    assert answers == [
        Enqueued(Fate.STORED, last.id),
        Enqueued(Fate.REPEATED, there.id),
        Enqueued(Fate.KEY_TAKEN, there.id),
        Enqueued(Fate.STORED, first.id),
        Enqueued(Fate.ID_TAKEN, there.id),
        Enqueued(Fate.STORED, second.id),
    ]
    everything = [there.id, first.id, last.id, second.id, key_taken.id]
    assert set(factory.rows_of(backend, everything)) == {there.id, first.id, last.id, second.id}


def check_an_id_twice_in_one_batch_is_stored_once(backend: Backend) -> None:
    """Within one call the first of an id is stored, the same again is a repeat, other content is refused."""
    job = factory.new_job()
    answers = backend.enqueue([job, job, job._replace(args="[2]")])
    assert [answer.fate for answer in answers] == [Fate.STORED, Fate.REPEATED, Fate.ID_TAKEN]
    assert factory.row_of(backend, job.id).args == job.args


def check_no_jobs_are_no_work(backend: Backend) -> None:
    """An empty call stores nothing and answers nothing."""
    assert backend.enqueue([]) == []
    assert backend.count(Filter()) == {}


def check_a_thousand_jobs_go_in_one_call(backend: Backend) -> None:
    """The most jobs one call takes are stored, each once."""
    ids = factory.enqueue_several(backend, limits.BULK)
    assert len(set(ids)) == limits.BULK
    assert backend.count(Filter())["default"]["waiting"] == limits.BULK


def check_text_comes_back_as_the_same_bytes(backend: Backend) -> None:
    """Arguments are opaque: spaces, key order, escapes and every character stay."""
    for text in HARD_TEXTS:
        job_id = factory.enqueue(backend, init=text, args=text, kwargs=text, meta=text, backoff=text)
        row = factory.row_of(backend, job_id)
        assert {row.init, row.args, row.kwargs, row.meta, row.backoff} == {text}


def check_the_largest_arguments_fit(backend: Backend) -> None:
    """Arguments at the limit of a payload come back whole."""
    text = '["' + "x" * (limits.MAX_PAYLOAD - 4) + '"]'
    assert factory.row_of(backend, factory.enqueue(backend, args=text)).args == text


def check_numbers_at_their_limits_fit(backend: Backend, clock: FrozenClock) -> None:
    """Every number within the limits of jobcard is stored exactly."""
    latest = 7_289_654_399 * clocks.SECOND + 999_000  # the last millisecond of the year 2200
    for priority in (limits.MIN_PRIORITY, limits.MAX_PRIORITY):
        row = factory.row_of(
            backend,
            factory.enqueue(
                backend, priority=priority, rank=-priority, max_attempts=limits.MAX_ATTEMPTS,
                max_crashes=limits.MAX_CRASHES, timeout=limits.MAX_DELAY, keep=limits.MAX_DELAY, at=latest,
                order_offset=-limits.MAX_DELAY,
            ),
        )  # fmt: skip
        assert (row.priority, row.rank) == (priority, -priority)
        assert (row.max_attempts, row.max_crashes) == (limits.MAX_ATTEMPTS, limits.MAX_CRASHES)
        assert (row.timeout, row.keep) == (limits.MAX_DELAY, limits.MAX_DELAY)
        assert (row.available_at, row.order_at) == (latest, latest - limits.MAX_DELAY)
    early = factory.row_of(backend, factory.enqueue(backend, at=0))
    assert (early.available_at, early.hold) == (0, None)
    far = factory.row_of(backend, factory.enqueue(backend, delay=limits.MAX_DELAY))
    assert far.available_at == clock.now() + limits.MAX_DELAY


def check_names_that_look_alike_are_different(backend: Backend) -> None:
    """Queues differ by case, by accent and by the form of an accent."""
    names = ["mail", "Mail", "mäil", "ma\u0308il", "mail.", "a/b:c-d@e+f", "邮件", "x" * limits.MAX_NAME]
    for name in names:
        factory.enqueue(backend, queue=name, name=name)
    assert backend.count(Filter()) == {name: {"waiting": 1} for name in names}
    assert {record.key for record in backend.read_records(RecordKind.QUEUE)} == set(names)
    for name in names:
        [claim] = factory.claim_some(backend, 5, queues=[name])
        assert (claim.queue, claim.name) == (name, name)


def check_a_queue_unknown_so_far_gets_a_record(backend: Backend) -> None:
    """The first job of a queue makes its record; one that is there stays as it is."""
    backend.write_record(RecordKind.QUEUE, "known", '{"concurrency": 3}')
    backend.enqueue([factory.new_job(queue=name) for name in ("known", "new", "new")])
    records = {record.key: record for record in backend.read_records(RecordKind.QUEUE)}
    assert set(records) == {"known", "new"}
    assert (records["known"].value, records["known"].version) == ('{"concurrency": 3}', 1)


def check_a_job_that_cannot_be_stored_takes_the_call_with_it(backend: Backend) -> None:
    """All or nothing: when one job cannot be stored, an error of ours is raised and none of the call is."""
    jobs = [factory.new_job(), factory.new_job(args='["\ud800"]'), factory.new_job()]
    with pytest.raises(JobcardError):
        backend.enqueue(jobs)
    assert backend.get([job.id for job in jobs]) == []
    assert backend.enqueue([jobs[0]]) == [Enqueued(Fate.STORED, jobs[0].id)]


def check_another_backend_sees_a_stored_job_at_once(harness: Harness) -> None:
    """When `enqueue` has answered, the job is there for everyone, also after the backend was closed."""
    writer = harness.ready()
    job_id = factory.enqueue(writer)
    before = factory.row_of(writer, job_id)
    assert factory.row_of(harness.open(), job_id) == before
    writer.close()
    assert factory.row_of(harness.open(), job_id) == before
    harness.close()


def check_one_id_from_many_threads_is_stored_once(harness: Harness) -> None:
    """Of eight producers of one id exactly one stores it; the others learn that it is there."""
    harness.ready()
    for _ in range(5):
        job = factory.new_job()
        backends = [harness.open() for _ in range(8)]
        answers = at_once([partial(backend.enqueue, [job]) for backend in backends])
        fates = sorted(answer.fate for [answer] in answers)
        assert fates == [Fate.REPEATED] * 7 + [Fate.STORED]
        assert {answer.existing for [answer] in answers} == {job.id}
    harness.close()


def check_overlapping_batches_store_each_job_once(harness: Harness) -> None:
    """Producers whose batches overlap, in opposite orders, all succeed and store each job once."""
    backend = harness.ready()
    jobs = [factory.new_job() for _ in range(60)]
    batches = [jobs, jobs[::-1], jobs[20:] + jobs[:20], jobs[::2] + jobs[1::2]]
    openers = [harness.open() for _ in batches]
    answers = at_once([partial(at.enqueue, batch) for at, batch in zip(openers, batches, strict=True)])
    fates = [answer.fate for several in answers for answer in several]
    assert fates.count(Fate.STORED) == len(jobs) and set(fates) == {Fate.STORED, Fate.REPEATED}
    assert backend.count(Filter()) == {"default": {"waiting": len(jobs)}}
    harness.close()
