"""Jobs that are stored in the same step as the change they follow, or not at all."""

from __future__ import annotations

from functools import partial

from jobcard.backends.base import Backend, Filter, Outcome, RecordKind, Refusal, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.check_transitions import MOVES
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core import limits, states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, NewJob

DONE = states.complete("1")


def _verdicts(refusals: list[Refusal]) -> list[Verdict]:
    return [refusal.verdict for refusal in refusals]


def _complete(backend: Backend, claim: Claimed, *then: NewJob) -> list[Verdict]:
    return _verdicts(factory.settle(backend, claim, DONE, then=then))


def check_follow_ups_are_stored_with_the_change(backend: Backend, clock: FrozenClock) -> None:
    """Once the change has applied its follow-ups are there, new and waiting, each field as it was given."""
    claim = factory.claimed_job(backend)
    jobs = [factory.new_job(queue="after", args=f"[{n}]", parent_id=claim.id, priority=n) for n in range(3)]
    clock.advance(1)
    assert _complete(backend, claim, *jobs) == []
    assert factory.row_of(backend, claim.id).state == "completed"
    for job in jobs:
        row = factory.row_of(backend, job.id)
        given = {name: value for name, value in job._asdict().items() if name in row._fields}
        assert {name: getattr(row, name) for name in given} == given
        assert (row.state, row.hold, row.attempt, row.created_at) == ("waiting", None, 0, clock.now())
    assert [claim.id for claim in factory.claim_some(backend, 9, queues=["after"])] == [job.id for job in jobs[::-1]]


def check_every_move_may_have_follow_ups(backend: Backend) -> None:
    """Follow-ups belong to the change they came with, whatever it does to its job."""
    for name, move in MOVES.items():
        claim, job = factory.claimed_job(backend), factory.new_job()
        assert factory.settle(backend, claim, move(claim), then=[job]) == [], name
        assert factory.row_of(backend, job.id).state == "waiting", name


def check_many_follow_ups_are_all_stored(backend: Backend) -> None:
    """A job may be followed by as many others as one enqueue takes."""
    claim = factory.claimed_job(backend)
    jobs = [factory.new_job(queue="after") for _ in range(limits.BULK)]
    assert _complete(backend, claim, *jobs) == []
    assert backend.count(Filter(queues=["after"])) == {"after": {"waiting": limits.BULK}}


def check_follow_ups_of_a_lost_claim_are_not_stored(backend: Backend) -> None:
    """Whoever no longer holds the job starts nothing in its name."""
    claim, job = factory.claimed_job(backend), factory.new_job()
    gone = factory.claimed_job(backend)
    factory.complete(backend, gone)
    backend.delete([gone.id])
    for wrong in (claim._replace(token=claim.token - 1), claim._replace(token=claim.token + 1), gone):
        assert _complete(backend, wrong, job) == [Verdict.LOST]
        assert backend.get([job.id]) == []
    assert factory.row_of(backend, claim.id).state == "claimed"


def check_follow_ups_of_a_rescued_job_are_not_stored(backend: Backend, clock: FrozenClock) -> None:
    """A late end with follow-ups is `LOST` as a whole; the attempt that counts brings its own."""
    claim, job = factory.running_job(backend, queue="default", lease=micros(10)), factory.new_job(queue="after")
    clock.advance(11)
    [held] = backend.find_held([], lapsed=True, limit=10).claims
    assert factory.settle(backend, held, states.rescue(held, error=factory.ERROR, lapsed=True)) == []
    assert _complete(backend, claim, job) == [Verdict.LOST]
    assert backend.get([job.id]) == []
    assert _complete(backend, factory.claim_one(backend), job) == []
    assert _complete(backend, claim, job._replace(args="[9]")) == [Verdict.LOST]
    assert factory.row_of(backend, job.id).args == "[]"


def check_a_repeat_stores_no_follow_up_again(backend: Backend) -> None:
    """A change that was ours before has stored its follow-ups: one that ended and was deleted since stays away."""
    claim, job, other = factory.claimed_job(backend), factory.new_job(queue="after"), factory.new_job()
    assert _complete(backend, claim, job) == []
    assert factory.complete(backend, factory.claim_one(backend, queue="after")) == []
    assert backend.delete([job.id]) == 1
    assert _complete(backend, claim, job, other) == [Verdict.MINE]
    assert backend.get([job.id, other.id]) == []


def check_a_follow_up_dropped_once_is_not_stored_later(backend: Backend) -> None:
    """Whether a unique key was taken is decided when the change applies, not when it is repeated."""
    claim, holder = factory.claimed_job(backend), factory.claimed_job(backend, unique_key="k")
    job = factory.new_job(unique_key="k")
    assert _complete(backend, claim, job) == []
    assert factory.complete(backend, holder) == []
    assert _complete(backend, claim, job) == [Verdict.MINE]
    assert backend.get([job.id]) == []


def check_follow_ups_of_a_refused_change_are_not_stored(backend: Backend) -> None:
    """A change that the store cannot take leaves its job as it was and stores none of its follow-ups."""
    claim, job = factory.claimed_job(backend), factory.new_job(queue="after")
    before = factory.row_of(backend, claim.id)
    for change in (
        states.complete(factory.NO_TEXT),
        states.fail(claim, reason="error", error=factory.NO_TEXT, kind="X"),
        states.note(claim, ago=None, lines=((0, factory.NO_TEXT),)),
    ):
        assert _verdicts(factory.settle(backend, claim, change, then=[job])) == [Verdict.REFUSED]
    assert factory.row_of(backend, claim.id) == before
    assert backend.get([job.id]) == []
    assert "after" not in {record.key for record in backend.read_records(RecordKind.QUEUE)}


def check_a_refused_follow_up_refuses_the_change(backend: Backend) -> None:
    """One follow-up that the store cannot take refuses the whole outcome with a reason, and nothing else."""
    bad, good, done = (factory.claimed_job(backend) for _ in range(3))
    before = factory.row_of(backend, bad.id)
    jobs = [factory.new_job(queue=f"after {n}") for n in range(4)]
    failed = states.fail(bad, reason="error", error=factory.ERROR, kind="X")
    answer = backend.exchange(
        "engine",
        completions=factory.completions_of([done]),
        outcomes=[
            Outcome(bad.ref, bad.token, failed, [jobs[0], jobs[1]._replace(args=factory.NO_TEXT), jobs[2]]),
            Outcome(good.ref, good.token, DONE, [jobs[3]]),
        ],
    )
    assert [(refusal.ref, refusal.verdict) for refusal in answer.refusals] == [(bad.ref, Verdict.REFUSED)]
    assert answer.refusals[0].why
    assert factory.row_of(backend, bad.id) == before
    assert backend.attempts([bad.id]) == []
    assert [row.id for row in backend.get([job.id for job in jobs])] == [jobs[3].id]
    assert {row.state for row in backend.get([good.id, done.id])} == {"completed"}
    keys = {record.key for record in backend.read_records(RecordKind.QUEUE)}
    assert keys.isdisjoint(["after 0", "after 1", "after 2"]) and "after 3" in keys
    # Told so, the engine says instead that it failed: nothing of the refused outcome stands in the way.
    assert factory.settle(backend, bad, states.fail_refused(bad, error=factory.ERROR)) == []


def check_a_follow_up_that_is_there_is_left_as_it_is(backend: Backend) -> None:
    """A follow-up whose id is known is not stored again, in whatever state and with whatever content it is."""
    for state in ("waiting", "running", "completed", "failed"):
        there = factory.job_in_state(backend, state, args="[1]")
        before = factory.row_of(backend, there)
        claim, beside = factory.claimed_job(backend), factory.new_job()
        assert _complete(backend, claim, factory.new_job(id=there, args="[2]"), beside, beside) == []
        assert factory.row_of(backend, there) == before
        assert factory.row_of(backend, beside.id).state == "waiting"
        assert factory.row_of(backend, claim.id).state == "completed"


def check_a_job_does_not_follow_itself(backend: Backend) -> None:
    """A follow-up under the id of the job that ends changes nothing about it."""
    claim = factory.claimed_job(backend)
    assert _complete(backend, claim, factory.new_job(id=claim.id, queue="after")) == []
    row = factory.row_of(backend, claim.id)
    assert (row.state, row.queue) == ("completed", claim.queue)


def check_a_follow_up_with_a_taken_key_is_dropped(backend: Backend) -> None:
    """While a living job holds the unique key, a follow-up is passed over and the rest of the outcome stands."""
    holder = factory.enqueue(backend, unique_key="k")
    before = factory.row_of(backend, holder)
    claim = factory.claimed_job(backend)
    first, second = (factory.new_job(unique_key="fresh") for _ in range(2))
    taken, plain = factory.new_job(unique_key="k"), factory.new_job()
    assert _complete(backend, claim, taken, first, second, plain) == []
    assert {row.id for row in backend.get([taken.id, first.id, second.id, plain.id])} == {first.id, plain.id}
    assert factory.row_of(backend, holder) == before


def check_a_follow_up_may_take_over_its_parents_key(backend: Backend) -> None:
    """The change comes first: a key that the end has freed is the follow-up's to hold."""
    claim, job = factory.claimed_job(backend, unique_key="k"), factory.new_job(unique_key="k")
    assert _complete(backend, claim, job) == []
    assert factory.row_of(backend, job.id).state == "waiting"
    other, late = factory.claimed_job(backend, unique_key="still held"), factory.new_job(unique_key="still held")
    assert factory.settle(backend, other, states.snooze(other, delay=0), then=[late]) == []
    assert backend.get([late.id]) == []


def check_follow_ups_are_in_line_for_the_same_exchange(backend: Backend) -> None:
    """What follows an end can be claimed by the exchange that brought it; what is delayed is in its `next_due`."""
    claim = factory.claimed_job(backend)
    now, later = factory.new_job(queue="after"), factory.new_job(queue="after", delay=micros(30))
    outcome = Outcome(claim.ref, claim.token, DONE, [later, now])
    answer = backend.exchange("engine", outcomes=[outcome], want=Want([("after", 5)], 5), lease=factory.LEASE)
    assert ([one.id for one in answer.claimed], answer.refusals) == ([now.id], [])
    assert answer.next_due == micros(30)
    assert factory.row_of(backend, later.id).hold == "delay"


def check_a_follow_up_opens_its_queue(backend: Backend) -> None:
    """A queue that was unknown so far gets a record, and running engines are told; a known one keeps its own."""
    claims = [factory.claimed_job(backend, queue="default") for _ in range(2)]
    before = backend.exchange("e").settings
    assert _complete(backend, claims[0], factory.new_job(queue="brand new")) == []
    assert "brand new" in {record.key for record in backend.read_records(RecordKind.QUEUE)}
    assert backend.exchange("e").settings > before
    backend.write_record(RecordKind.QUEUE, "brand new", '{"priority": 3}')
    assert _complete(backend, claims[1], factory.new_job(queue="brand new")) == []
    values = {record.key: record.value for record in backend.read_records(RecordKind.QUEUE)}
    assert values["brand new"] == '{"priority": 3}'


def check_two_finishers_store_follow_ups_once(harness: Harness) -> None:
    """When the same outcome is sent twice at once, one applies with its follow-ups and the other is told so."""
    backend = harness.ready()
    senders = [harness.open(), harness.open()]
    for _ in range(8):
        claim, jobs = factory.claimed_job(backend), [factory.new_job() for _ in range(3)]
        answers = at_once([partial(_complete, at, claim, *jobs) for at in senders])
        assert sorted(answers) == [[], [Verdict.MINE]]
        assert {row.id for row in backend.get([job.id for job in jobs])} == {job.id for job in jobs}
    assert backend.count(Filter(states=["waiting"])) == {"default": {"waiting": 24}}
    harness.close()


def check_two_parents_race_for_one_follow_up(harness: Harness) -> None:
    """Ends that bring the same job, by id or by unique key, at once: all of them apply and it is stored once."""
    backend = harness.ready()
    senders = [harness.open() for _ in range(3)]
    for turn in range(6):
        same = factory.new_job(queue=f"same {turn}")
        claims = [factory.claimed_job(backend) for _ in senders]
        answers = at_once(
            [
                partial(_complete, at, claim, same, factory.new_job(queue=f"key {turn}", unique_key=f"k{turn}"))
                for at, claim in zip(senders, claims, strict=True)
            ]
        )
        assert answers == [[]] * len(senders)
        counts = backend.count(Filter(states=["waiting"]))
        assert (counts[same.queue], counts[f"key {turn}"]) == ({"waiting": 1}, {"waiting": 1})
    harness.close()
