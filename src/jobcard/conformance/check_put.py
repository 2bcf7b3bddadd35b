"""Putting whole jobs: they are as they were, and behave as if they had come there by themselves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest

from jobcard.backends.base import Backend, Enqueued, Fate, Filter, RecordKind, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.every_kind import every_kind, jobs_in, queues_of
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.conformance.rules import claim_order, is_alive
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, Attempt, LogLine, WholeJob
from jobcard.core.rates import QueueLimit
from jobcard.errors import JobcardError

HOUR = micros(3600)


def _beside(harness: Harness) -> Harness:
    """An empty store of the same kind, at the same time."""
    other = harness.fresh()
    other.advance((harness.clock.now() - other.clock.now()) / 1e6)
    return other


def _with(job: WholeJob, **fields: object) -> WholeJob:
    """The same job but for these fields of its row; with another id its tries and lines are that one's too."""
    row = job.row._replace(**fields)  # type: ignore[arg-type]
    return WholeJob(
        row,
        [each._replace(job_id=row.id) for each in job.attempts],
        [each._replace(job_id=row.id) for each in job.lines],
    )


# ------------------------------------------------------------------ as they are


def check_a_put_job_is_field_by_field_what_it_was(harness: Harness) -> None:
    """Read from one store and put into another, a job of any kind is the same row, tries and log lines."""
    source = harness.ready()
    kinds = every_kind(source, harness.clock)
    there = _beside(harness)
    target = there.ready()
    jobs = factory.whole_of(source, list(kinds.values()))
    assert target.put(jobs) == []
    found = dict(zip(kinds, factory.whole_of(target, list(kinds.values())), strict=True))
    for name, job in zip(kinds, jobs, strict=True):
        assert found[name] == job, name
    there.close()
    harness.close()


def check_put_jobs_are_seen_as_before(backend: Backend, clock: FrozenClock) -> None:
    """Lists, counts, charts, figures, versions, ends and claims say of put jobs what they said before."""
    every_kind(backend, clock)
    before = jobs_in(backend)
    factory.put_anew(backend)
    after = jobs_in(backend)
    for what, seen in before.items():
        assert after[what] == seen, what


def check_putting_twice_is_putting_once(backend: Backend, clock: FrozenClock) -> None:
    """The same jobs again change nothing, whether what they were put over came there by itself or was put."""
    kinds = every_kind(backend, clock)
    before = jobs_in(backend)
    jobs = factory.whole_of(backend, list(kinds.values()))
    for _ in range(2):
        assert backend.put(jobs) == []
        assert jobs_in(backend) == before


def check_a_put_job_leaves_no_trace_of_what_it_was_put_over(backend: Backend, clock: FrozenClock) -> None:
    """Whatever the job was before, afterwards the store is as one that has only ever had what was put."""
    ids = list(every_kind(backend, clock).values())
    for shift in (1, 7, 16):
        jobs = factory.whole_of(backend, ids)
        turned = [
            _with(
                jobs[(place + shift) % len(jobs)],
                id=job.row.id,
                unique_key=f"unique {shift} {place}",
                queue=f"queue {place % 5}",
            )
            for place, job in enumerate(jobs)
        ]
        keys = [job.row.unique_key for job in (*jobs, *turned)]
        assert backend.put(turned) == []
        over = (jobs_in(backend), _worked_off(backend, clock, turned, keys))
        backend.truncate()
        assert backend.put(turned) == []
        alone = (jobs_in(backend), _worked_off(backend, clock, turned, keys))
        for what, seen in alone[0].items():
            # The clock has moved on: how long the oldest one waits, and what the last hour was, is another matter.
            assert over[0][what] == seen or what in ("tally", "charted"), what
        assert over[1] == alone[1]
        backend.truncate()
        assert backend.put(jobs) == []


def _worked_off(
    backend: Backend, clock: FrozenClock, jobs: Sequence[WholeJob], keys: Sequence[str | None]
) -> tuple[object, ...]:
    """Who guards which key, what is claimed then and in which order, and what is left when old jobs are pruned."""
    probes = [factory.new_job(unique_key=key, queue="probe") for key in keys if key is not None]
    answers = backend.enqueue(probes)
    guards = [(answer.fate, answer.fate is Fate.KEY_TAKEN and answer.existing) for answer in answers]
    clock.advance(3600)
    queues = queues_of(jobs)
    most = min(100, backend.capabilities.max_batch)
    want = Want([(queue, most) for queue in queues], most)
    gone: list[bytes] = []
    while claims := backend.exchange("worker", want=want, lease=factory.LEASE).claimed:
        freed = {claim.limit_key for claim in claims if claim.limit_key is not None}
        done = factory.completions_of(claims)
        assert backend.exchange("worker", completions=done, freed=freed).refusals == []
        gone += [claim.id for claim in claims]
    clock.advance(3600)
    ended = ("completed", "failed", "canceled")
    pruned = backend.prune(states=ended, finished_before=clock.now(), age=None, limit=1_000)
    left = [row.id for page in factory.pages(backend, Filter(queues=queues), 100) for row in page]
    return guards, gone, pruned, left


def check_a_put_jobs_text_comes_back_as_the_same_bytes(backend: Backend) -> None:
    """Arguments, results, errors and lines are opaque: quotes, wildcards, emoji, half a megabyte."""
    claim = factory.claimed_job(backend)
    factory.complete(backend, claim)
    [job] = factory.whole_of(backend, [claim.id])
    for text in (
        "",
        " ",
        '"it\'s 100% `_` \\\\ {} ; -- $1 %s :x ?"',
        '"é 😀 \\u0000 \u2028"',
        '"' + "x" * 500_000 + '"',
    ):
        changed = _with(job, args=text, kwargs=text, result=text, progress=text, checkpoint=text)
        said = [LogLine(claim.id, claim.claimed_at, line) for line in (text[:2_000], "")]
        changed = changed._replace(attempts=[Attempt(claim.id, 1, claim.claimed_at, text[:60_000])], lines=said)
        assert backend.put([changed]) == []
        assert factory.whole_of(backend, [claim.id]) == [changed]


def check_put_takes_a_thousand_at_once(backend: Backend) -> None:
    """As many as an enqueue takes may be put in one call, with what belongs to them."""
    ids = factory.enqueue_several(backend, 1_000)
    jobs = factory.whole_of(backend, ids)
    backend.truncate()
    assert backend.put(jobs) == []
    assert backend.put([]) == []
    assert factory.whole_of(backend, ids) == jobs
    assert backend.count(Filter()) == {"default": {"waiting": 1_000}}


def check_a_job_that_cannot_be_put_takes_the_call_with_it(backend: Backend) -> None:
    """All or nothing: when one job's row, try or line cannot be stored, an error of ours is raised and none is put."""
    claim = factory.claimed_job(backend)
    factory.settle(backend, claim, states.fail(claim, reason="error", error=factory.ERROR, kind="X"))
    [good] = factory.whole_of(backend, [claim.id])
    before = jobs_in(backend)
    fresh = _with(good, id=factory.new_id())
    other = _with(good, id=factory.new_id())
    for bad in (
        _with(other, args=factory.NO_TEXT),
        other._replace(attempts=[each._replace(error=factory.NO_TEXT) for each in other.attempts]),
        other._replace(lines=[LogLine(other.row.id, good.row.created_at, factory.NO_TEXT)]),
    ):
        with pytest.raises(JobcardError):
            backend.put([fresh, _with(good, args='"other"'), bad])
        assert jobs_in(backend) == before


def check_putting_opens_queues(backend: Backend) -> None:
    """A queue unknown so far gets a record, and engines are told; one that is known keeps its own."""
    factory.enqueue(backend, queue="known")
    factory.enqueue(backend, queue="unknown")
    jobs = factory.whole_of(backend, factory.ids_in(backend))
    backend.truncate()
    backend.write_record(RecordKind.QUEUE, "known", '{"concurrency": 3}')
    [known] = backend.read_records(RecordKind.QUEUE)
    before = backend.exchange("e").settings
    assert backend.put(jobs) == []
    found = {record.key: record for record in backend.read_records(RecordKind.QUEUE)}
    assert sorted(found) == ["known", "unknown"]
    assert found["known"].value == known.value and found["known"].version == known.version
    assert backend.exchange("e").settings > before


def check_put_looks_at_no_once_keys(backend: Backend, clock: FrozenClock) -> None:
    """A put job takes no once key and needs none: those are records of their own."""
    job = factory.new_job(once_key="once", once_until=clock.now() + HOUR)
    other = job._replace(id=factory.new_id())
    assert backend.enqueue([job]) == [Enqueued(Fate.STORED, job.id)]
    [whole] = factory.whole_of(backend, [job.id])
    backend.truncate()
    assert backend.put([whole]) == []
    assert list(backend.once_keys(after=None, limit=10)) == []
    assert backend.enqueue([other]) == [Enqueued(Fate.STORED, other.id)]
    assert backend.put([whole]) == []
    assert factory.whole_of(backend, [job.id]) == [whole]
    assert [each.job_id for each in backend.once_keys(after=None, limit=10)] == [other.id]


def check_racing_putters_of_the_same_jobs_leave_each_once(harness: Harness) -> None:
    """A tool that was started twice by mistake writes the same jobs beside itself: each is there once, and whole."""
    backend = harness.ready()
    every_kind(backend, harness.clock)
    before = jobs_in(backend)
    jobs = factory.whole_of(backend, factory.ids_in(backend))
    putters = [harness.open() for _ in range(3)]
    for _ in range(4):
        assert at_once([partial(at.put, jobs) for at in putters]) == [[], [], []]
        assert jobs_in(backend) == before
    harness.close()


# ------------------------------------------------------------------ unique keys


def check_a_put_job_guards_its_unique_key(backend: Backend) -> None:
    """While it lives it is the one with its key; when it has ended, or was put as one that has, the key is free."""
    ids = {state: factory.job_in_state(backend, state, unique_key=state) for state in ("waiting", "claimed", "failed")}
    factory.put_anew(backend)
    for state in ("waiting", "claimed"):
        assert backend.enqueue([factory.new_job(unique_key=state)]) == [Enqueued(Fate.KEY_TAKEN, ids[state])]
    new = factory.new_job(unique_key="failed")
    assert backend.enqueue([new]) == [Enqueued(Fate.STORED, new.id)]
    [held] = backend.find_held(["engine"], lapsed=False, limit=9).claims
    factory.complete(backend, held)
    again = factory.new_job(unique_key="claimed")
    assert backend.enqueue([again]) == [Enqueued(Fate.STORED, again.id)]


def check_a_put_waiting_job_may_be_replaced(backend: Backend) -> None:
    """A job that replaces writes itself over one that was put."""
    job_id = factory.enqueue(backend, unique_key="k", args="[1]")
    factory.put_anew(backend)
    new = factory.new_job(unique_key="k", args="[2]", queue="other", replaces=True)
    assert backend.enqueue([new]) == [Enqueued(Fate.REPLACED, job_id)]
    assert [(claim.id, claim.args) for claim in factory.claim_some(backend, 5, queues=["default", "other"])] == [
        (job_id, "[2]")
    ]


def check_a_taken_unique_key_is_answered_and_the_rest_is_written(backend: Backend) -> None:
    """A living job whose key another living job has is not written and named; all others of the call are."""
    wanted = [
        factory.job_in_state(backend, state, unique_key=key)
        for state, key in (("waiting", "k"), ("claimed", "taken"), ("completed", "taken too"), ("waiting", None))
    ]
    jobs = factory.whole_of(backend, wanted)
    backend.truncate()
    holders = [factory.enqueue(backend, unique_key=key) for key in ("taken", "taken too")]
    before = factory.rows_of(backend, holders)
    assert backend.put(jobs) == [wanted[1]]
    written = [job for job in jobs if job.row.id != wanted[1]]
    assert factory.whole_of(backend, [job.row.id for job in written]) == written
    assert backend.get([wanted[1]]) == []
    assert factory.rows_of(backend, holders) == before
    # Once the key is free, what was not written can be.
    assert backend.apply_by_operator(holders[0], states.cancel_waiting(reason="canceled")) is not None
    assert backend.put(jobs) == []
    assert factory.whole_of(backend, wanted) == jobs


def check_a_key_conflict_leaves_the_job_that_was_there(backend: Backend) -> None:
    """A job that cannot be put for its key stays as it was, in every way."""
    job_id = factory.job_in_state(backend, "failed", unique_key="mine")
    factory.enqueue(backend, unique_key="taken")
    [job] = factory.whole_of(backend, [job_id])
    before = jobs_in(backend)
    other = _with(job, state="waiting", unique_key="taken", finished_at=None, queue="elsewhere")
    assert backend.put([other]) == [job_id]
    assert jobs_in(backend) == before


def check_of_two_put_jobs_with_one_key_one_lives(backend: Backend) -> None:
    """Of living jobs with one key in one call exactly one is written, the others are named."""
    [job] = factory.whole_of(backend, [factory.enqueue(backend, unique_key="k")])
    backend.truncate()
    jobs = [_with(job, id=factory.new_id()) for _ in range(3)]
    refused = backend.put(jobs)
    assert len(refused) == len(set(refused)) == 2
    [left] = factory.rows_of(backend, [job.row.id for job in jobs])
    assert {*refused, left} == {job.row.id for job in jobs}
    assert backend.enqueue([factory.new_job(unique_key="k")]) == [Enqueued(Fate.KEY_TAKEN, left)]


def check_a_put_over_frees_the_key_that_the_job_had(backend: Backend) -> None:
    """Put with another key, or as one that has ended, a job gives up the key it had; with the same it keeps it."""
    ids = [factory.enqueue(backend, unique_key=key) for key in ("a", "b", "c")]
    one, two, three = factory.whole_of(backend, ids)
    now = one.row.created_at
    ended = _with(two, state="completed", finished_at=now)
    assert backend.put([_with(one, unique_key="another"), ended, _with(three, args='"c"')]) == []
    fates = {key: backend.enqueue([factory.new_job(unique_key=key)])[0] for key in ("a", "b", "c", "another")}
    assert [answer.fate for answer in fates.values()] == [
        Fate.STORED,
        Fate.STORED,
        Fate.KEY_TAKEN,
        Fate.KEY_TAKEN,
    ]
    assert (fates["c"].existing, fates["another"].existing) == (ids[2], ids[0])


def check_a_put_job_is_repeated_by_its_id(backend: Backend) -> None:
    """The enqueue of a job that has come by `put` is a repeat of it; of other content it is refused."""
    job = factory.new_job(args="[1]")
    assert backend.enqueue([job]) == [Enqueued(Fate.STORED, job.id)]
    factory.put_anew(backend)
    assert backend.enqueue([job]) == [Enqueued(Fate.REPEATED, job.id)]
    assert backend.enqueue([job._replace(args="[2]")]) == [Enqueued(Fate.ID_TAKEN, job.id)]


# ------------------------------------------------------------------ waiting jobs


def check_put_jobs_are_claimed_in_their_order(backend: Backend, clock: FrozenClock) -> None:
    """In whichever order they were put, each queue's line is that of rank, order and id."""
    chance = random.Random(7)
    for place in range(40):
        queue = "a" if place % 3 else "b"
        offset = micros(chance.randint(-3, 3))
        factory.enqueue(backend, queue=queue, rank=chance.randint(-2, 2), order_offset=offset)
        clock.advance(0.5)
    jobs = factory.whole_of(backend, factory.ids_in(backend))
    backend.truncate()
    factory.enqueue(
        backend, queue="a", id=factory.new_id(), rank=5
    )  # one that was there before stands in the same line
    chance.shuffle(jobs)
    for first in range(0, len(jobs), 15):
        assert backend.put(jobs[first : first + 15]) == []
    for queue in ("b", "a"):
        line = sorted((job.row for job in jobs if job.row.queue == queue), key=claim_order)
        claims = factory.claim_some(backend, len(line), queues=[queue])
        assert [claim.id for claim in claims] == [row.id for row in line]
    assert [claim.rank for claim in factory.claim_some(backend, 5, queues=["a", "b"])] == [5]


def check_a_put_delayed_job_is_released_when_it_is_due(backend: Backend, clock: FrozenClock) -> None:
    """It waits for its instant, engines are told how long, and one that is due by then is claimed at once."""
    late = factory.enqueue(backend, delay=micros(60))
    soon = factory.enqueue(backend, delay=micros(5))
    jobs = factory.whole_of(backend, [late, soon])
    backend.truncate()
    clock.advance(10)
    assert backend.put(jobs) == []
    answer = backend.exchange("engine", want=Want([("default", 5)], 5), lease=factory.LEASE)
    assert ([claim.id for claim in answer.claimed], answer.next_due) == ([soon], micros(50))
    clock.advance(50)
    assert [claim.id for claim in factory.claim_some(backend, 5)] == [late]


def check_a_put_job_under_a_hold_stays_under_it(backend: Backend, clock: FrozenClock) -> None:
    """Parked, broken and waiting for others: not claimed, however long; `unpark` finds the parked ones."""
    kinds = every_kind(backend, clock)
    held = ("parked", "broken", "after others", "in a batch")
    jobs = factory.whole_of(backend, [kinds[name] for name in held])
    backend.truncate()
    assert backend.put(jobs) == []
    clock.advance(86_400)
    queues = queues_of(jobs)
    assert factory.claim_some(backend, 9, queues=queues) == []
    assert backend.unpark([job.row.name for job in jobs]) == 1
    assert [claim.id for claim in factory.claim_some(backend, 9, queues=queues)] == [kinds["parked"]]


def check_put_jobs_count_for_their_limits(backend: Backend) -> None:
    """Those at work fill the places of their key and their queue, and those held come in by turns as they end."""
    ids = factory.enqueue_several(backend, 4, limit_key="k", key_limit=1)
    assert [claim.id for claim in factory.claim_some(backend, 4)] == ids[:1]
    jobs = factory.put_anew(backend)
    assert [job.row.hold for job in jobs][1] == "limit"
    claims = backend.find_held(["engine"], lapsed=False, limit=9).claims
    limited = Want([("default", 9)], 9, {"default": QueueLimit(2, None)})
    assert backend.let_in(100) == 0
    assert backend.exchange("other", want=limited, lease=factory.LEASE).claimed == []
    factory.enqueue_several(backend, 3)
    assert len(backend.exchange("other", want=limited, lease=factory.LEASE).claimed) == 1
    for expected in ids[1:]:
        done = factory.completions_of(claims)
        want = Want([("default", 1)], 1)
        # Behind it in the line stand jobs without a key: who comes in keeps its place before them.
        claims = backend.exchange("engine", completions=done, want=want, lease=factory.LEASE, freed=["k"]).claimed
        assert [claim.id for claim in claims] == [expected]


def check_what_is_put_held_by_a_key_with_room_is_let_in(backend: Backend) -> None:
    """Where the job that had the key did not come along, `let_in` finds those that it held."""
    ids = factory.enqueue_several(backend, 3, limit_key="k", key_limit=1)
    factory.claim_some(backend, 3)
    jobs = factory.whole_of(backend, ids[1:])
    backend.truncate()
    assert backend.put(jobs) == []
    assert backend.let_in(100) >= 1
    assert [claim.id for claim in factory.claim_some(backend, 3)] == ids[1:2]


def check_operators_move_put_jobs(backend: Backend, clock: FrozenClock) -> None:
    """What waits can be canceled, put off and run now, what failed can be retried, what runs asked to cancel."""
    ids = {state: factory.job_in_state(backend, state) for state in ("waiting", "running", "failed")}
    delayed = factory.enqueue(backend, delay=micros(60))
    factory.put_anew(backend)
    rows = factory.rows_of(backend, [*ids.values(), delayed])
    assert backend.apply_by_operator(ids["waiting"], states.cancel_waiting(reason="canceled")) is not None
    assert backend.apply_by_operator(ids["failed"], states.retry_ended(rows[ids["failed"]])) is not None
    assert backend.apply_by_operator(delayed, states.run_now(rows[delayed])) is not None
    asks = states.ask_to_cancel(rows[ids["running"]], reason="too late")
    assert backend.apply_by_operator(ids["running"], asks) is not None
    [claim] = backend.find_held(["engine"], lapsed=False, limit=9).claims
    assert backend.exchange("engine").cancels == [(claim.ref, "too late")]
    queues = ["default", rows[ids["failed"]].queue]
    assert {claim.id for claim in factory.claim_some(backend, 5, queues=queues)} == {ids["failed"], delayed}


# ------------------------------------------------------------------ jobs at work, and ended ones


def check_a_put_claim_is_its_owners(backend: Backend) -> None:
    """Its owner finds it, renews it and settles it with the token it had; nobody else and no other token does."""
    for make in (factory.claimed_job, factory.running_job):
        claim = make(backend, owner="owner", limit_key="k", key_limit=5)
        factory.put_anew(backend)
        assert backend.find_held(["other"], lapsed=True, limit=9).claims == []
        [found] = backend.find_held(["owner"], lapsed=False, limit=9).claims
        assert found._replace(ref=b"") == claim._replace(ref=b"")
        assert backend.renew("other", [(found.ref, found.token)], lease=factory.LEASE) == [found.ref]
        assert backend.renew("owner", [(found.ref, found.token)], lease=factory.LEASE) == []
        for token in (found.token - 1, found.token + 1):
            wrong = factory.complete(backend, found._replace(token=token), owner="owner")
            assert [refusal.verdict for refusal in wrong] == [Verdict.LOST]
        assert factory.complete(backend, found, owner="owner", result='"done"') == []
        row = factory.row_of(backend, claim.id)
        assert (row.state, row.result, row.claim_token) == ("completed", '"done"', claim.token)
        assert [refusal.verdict for refusal in factory.complete(backend, found, owner="owner")] == [Verdict.MINE]


def check_a_put_claim_that_lapsed_is_rescued(backend: Backend, clock: FrozenClock) -> None:
    """Its lease runs out at the instant it had: then it is found, taken, and claimed under a higher token."""
    claim = factory.running_job(backend)
    early = factory.claimed_job(backend, lease=micros(5))
    clock.advance(10)
    factory.put_anew(backend)
    assert [each.id for each in backend.find_held([], lapsed=True, limit=9).claims] == [early.id]
    clock.advance(50)
    found = {each.id: each for each in backend.find_held([], lapsed=True, limit=9).claims}
    assert set(found) == {claim.id, early.id}
    assert backend.renew("engine", [(found[claim.id].ref, claim.token)], lease=factory.LEASE) == [found[claim.id].ref]
    rescue = states.rescue(found[claim.id], error=factory.ERROR, lapsed=True)
    assert factory.settle(backend, found[claim.id], rescue, owner="rescuer") == []
    assert [refusal.verdict for refusal in factory.complete(backend, found[claim.id])] == [Verdict.LOST]
    again = factory.claim_one(backend, queue=claim.queue)
    assert (again.id, again.attempt, again.crashes) == (claim.id, 2, 1) and again.token > claim.token


def check_what_is_recorded_of_a_put_job_goes_on(backend: Backend) -> None:
    """Further tries and lines come behind those that were put, and both stay bounded."""
    claim = factory.running_job(backend)
    [job] = factory.whole_of(backend, [claim.id])
    at = job.row.created_at
    tries = [Attempt(claim.id, turn, at, f'{{"n": {turn}}}') for turn in range(LAST_ATTEMPTS)]
    note = states.note(claim, ago=None, lines=tuple((0, str(n)) for n in range(LAST_LINES)))
    assert factory.settle(backend, claim, note) == []
    lines = backend.log_lines([claim.id])
    backend.truncate()
    assert backend.put([WholeJob(job.row, tries, lines)]) == []
    [held] = backend.find_held(["engine"], lapsed=False, limit=9).claims
    ends = states.fail(held, reason="error", error='{"n": 99}', kind="X")
    said = states.note(held, ago=None, lines=((0, "one more"),))
    answer = backend.exchange("engine", outcomes=[factory.outcome_of(held, said), factory.outcome_of(held, ends)])
    assert answer.refusals == []
    assert [each.error for each in backend.attempts([claim.id])] == [
        *(f'{{"n": {turn}}}' for turn in range(1, LAST_ATTEMPTS)),
        '{"n": 99}',
    ]
    texts = [line.text for line in backend.log_lines([claim.id])]
    assert texts[-2:] == [str(LAST_LINES - 1), "one more"]
    assert LAST_LINES <= len(texts) <= 2 * LAST_LINES
    assert backend.delete([claim.id]) == 1
    assert (backend.attempts([claim.id]), backend.log_lines([claim.id])) == ([], [])


def check_a_put_jobs_version_rises_on(backend: Backend) -> None:
    """From the version it came with a job goes on: whoever knew that one sees that it has changed."""
    claim = factory.claimed_job(backend)
    [job] = factory.whole_of(backend, [claim.id])
    assert backend.put([_with(job, version=1_000)]) == []
    [held] = backend.find_held(["engine"], lapsed=False, limit=9).claims
    assert factory.row_of(backend, claim.id).version == 1_000
    factory.complete(backend, held)
    assert factory.row_of(backend, claim.id).version > 1_000


def check_put_jobs_that_ended_are_pruned(backend: Backend, clock: FrozenClock) -> None:
    """By the end they had and by the time they are to be kept, as if they had ended here."""
    old = [factory.job_in_state(backend, state) for state in ("completed", "failed", "canceled")]
    kept = factory.job_in_state(backend, "completed", keep=micros(600))
    clock.advance(60)
    new = factory.job_in_state(backend, "completed")
    alive = factory.job_in_state(backend, "running")
    factory.put_anew(backend)
    ended = ("completed", "failed", "canceled")
    clock.advance(30)
    assert backend.prune(states=ended, finished_before=None, age=micros(60), limit=100) == 3
    assert set(factory.rows_of(backend, [*old, kept, new, alive])) == {kept, new, alive}
    clock.advance(600)
    assert backend.prune(states=ended, finished_before=clock.now(), age=None, limit=100) == 2
    assert factory.ids_in(backend) == [alive]
    assert backend.count(Filter())[factory.row_of(backend, alive).queue] == {"running": 1}


def check_every_put_job_comes_to_its_end(harness: Harness) -> None:
    """After a move everything that could run runs, once, and the figures say so."""
    backend = harness.ready()
    every_kind(backend, harness.clock)
    jobs = factory.put_anew(backend)
    waiting = {job.row.id for job in jobs if job.row.state == "waiting"}
    stay = {job.row.id for job in jobs if job.row.hold in ("parked", "broken", "after", "batch")}
    harness.advance(3600)
    queues = queues_of(jobs)
    for held in factory.held_pages(backend, [], lapsed=True, limit=100):
        for claim in held:
            rescue = states.rescue(claim, error=factory.ERROR, lapsed=True)
            assert factory.settle(backend, claim, rescue) == []
    backend.let_in(100)
    harness.advance(1)
    runs: Counter[bytes] = Counter()
    while claims := factory.claim_some(backend, 50, queues=queues):
        runs.update(claim.id for claim in claims)
        freed = {claim.limit_key for claim in claims if claim.limit_key is not None}
        backend.exchange("engine", completions=factory.completions_of(claims), freed=freed)
        harness.advance(61)  # a rate lets in one a minute
    alive = {job.row.id for job in jobs if is_alive(job.row)}
    failed = {row.id for row in backend.list(Filter(states=["failed"]), limit=100).rows}
    assert set(runs) == alive - stay - failed and set(runs.values()) == {1}
    assert waiting - stay <= set(runs)
    assert backend.tally().counts["waiting"] == len(stay)
    harness.close()
