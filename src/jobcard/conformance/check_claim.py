"""Claiming: who gets which job, and what a claim leaves on it."""

from __future__ import annotations

from collections import Counter
from functools import partial

from jobcard.backends.base import Backend, Completions, Filter, Outcome, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed


def check_a_claim_stamps_the_job(backend: Backend, clock: FrozenClock) -> None:
    """A claim sets state, time, owner and lease, and adds one to attempt and token; nothing else."""
    job_id = factory.enqueue(backend, timeout=5, tags='["a"]')
    before = factory.row_of(backend, job_id)
    clock.advance(1.5)
    claim = factory.claim_one(backend, owner="engine-7", lease=micros(42))
    expected = before._replace(
        state="claimed", attempt=1, claim_token=before.claim_token + 1, claimed_at=clock.now(),
        claimed_by="engine-7", lease_until=clock.now() + micros(42),
    )  # fmt: skip
    after = factory.row_of(backend, job_id)
    assert factory.without_version(after) == factory.without_version(expected)
    assert claim.token == expected.claim_token


def check_a_claim_carries_what_running_needs(backend: Backend) -> None:
    """Every field of a `Claimed` is the row's own."""
    job_id = factory.enqueue(
        backend, queue="default", name="n.x", init="{}", args='["a"]', kwargs='{"b": 1}', priority=4, rank=-4,
        max_attempts=2, max_crashes=1, backoff="{}", timeout=7, batch_id=b"b" * 16, parent_id=b"p" * 16,
        schedule_id="s", tags='["t"]', meta="{}",
    )  # fmt: skip
    claim = factory.claim_one(backend)
    row = factory.row_of(backend, job_id)
    assert type(claim) is Claimed
    shared = [name for name in Claimed._fields if name not in ("ref", "token")]
    assert {name: getattr(claim, name) for name in shared} == {name: getattr(row, name) for name in shared}
    assert (claim.token, claim.state) == (row.claim_token, "claimed")


def check_only_waiting_jobs_are_claimed(backend: Backend) -> None:
    """A job at work or ended is never claimed, and a failed look changes nothing about it."""
    ids = [
        factory.job_in_state(backend, state, queue="only", unique_key=state)
        for state in ("claimed", "running", "completed", "failed", "canceled")
    ]
    before = factory.rows_of(backend, ids)
    assert factory.claim_some(backend, 10, queues=["only"], owner="other") == []
    assert factory.rows_of(backend, ids) == before


def check_a_claimed_job_is_not_claimed_again(backend: Backend) -> None:
    """Neither by another engine nor by its own, and not once its lease has run out either."""
    factory.enqueue(backend)
    factory.claim_one(backend, owner="a")
    assert factory.claim_some(backend, 5, owner="b") == []
    assert factory.claim_some(backend, 5, owner="a") == []


def check_a_lapsed_lease_alone_frees_no_job(backend: Backend, clock: FrozenClock) -> None:
    """A job whose lease ran out is not claimed before somebody rescued it."""
    claim = factory.claimed_job(backend, queue="default", lease=micros(10))
    clock.advance(1000)
    before = factory.row_of(backend, claim.id)
    assert factory.claim_some(backend, 5, owner="b") == []
    assert factory.row_of(backend, claim.id) == before


def check_only_wanted_queues_are_claimed_from(backend: Backend) -> None:
    """Jobs of queues that are not asked for stay untouched."""
    wanted = factory.enqueue(backend, queue="a")
    others = [factory.enqueue(backend, queue=name) for name in ("b", "A", "a.", "aa")]
    before = factory.rows_of(backend, others)
    assert [claim.id for claim in factory.claim_some(backend, 10, queues=["a"])] == [wanted]
    assert factory.rows_of(backend, others) == before


def check_an_unknown_queue_gives_none(backend: Backend) -> None:
    """A queue nobody heard of has no jobs, and asking makes no record of it."""
    factory.enqueue(backend)
    assert factory.claim_some(backend, 3, queues=["nowhere"]) == []
    assert backend.count(Filter()) == {"default": {"waiting": 1}}


def check_an_empty_store_gives_none(backend: Backend) -> None:
    """Claiming from nothing is no error."""
    answer = backend.exchange("engine", want=Want([("default", 5)], 5), lease=factory.LEASE)
    assert (answer.claimed, answer.refusals, answer.cancels, answer.next_due) == ([], [], [], None)


def check_several_jobs_come_in_one_claim(backend: Backend) -> None:
    """As many as asked for are claimed, each once."""
    ids = factory.enqueue_several(backend, 30)
    claims = factory.claim_some(backend, 30)
    assert [claim.id for claim in claims] == ids
    assert len({claim.ref for claim in claims}) == 30


def check_never_more_than_asked(backend: Backend) -> None:
    """A queue gives at most its number and a claim at most its total; the rest stays waiting."""
    for queue in ("a", "b"):
        factory.enqueue_several(backend, 10, queue=queue)
    first = backend.exchange("e", want=Want([("a", 2), ("b", 3)], 10), lease=factory.LEASE).claimed
    assert Counter(claim.queue for claim in first) == {"a": 2, "b": 3}
    second = backend.exchange("e", want=Want([("a", 6), ("b", 6)], 7), lease=factory.LEASE).claimed
    assert Counter(claim.queue for claim in second) == {"a": 6, "b": 1}
    assert backend.count(Filter(states=["waiting"])) == {"a": {"waiting": 2}, "b": {"waiting": 6}}


def check_what_one_queue_leaves_goes_to_the_next(backend: Backend) -> None:
    """An empty queue takes nothing from the total of those behind it."""
    factory.enqueue_several(backend, 1, queue="a")
    factory.enqueue_several(backend, 9, queue="c")
    claims = backend.exchange("e", want=Want([("a", 5), ("b", 5), ("c", 5)], 5), lease=factory.LEASE).claimed
    assert [claim.queue for claim in claims] == ["a", "c", "c", "c", "c"]


def check_wanting_nothing_claims_nothing(backend: Backend) -> None:
    """An empty want, a total of zero and a queue's zero claim no job."""
    factory.enqueue(backend)
    for want in (Want(), Want([], 5), Want([("default", 5)], 0), Want([("default", 0)], 5)):
        assert backend.exchange("e", want=want, lease=factory.LEASE).claimed == []
    assert backend.count(Filter()) == {"default": {"waiting": 1}}


def check_each_claim_raises_the_token(backend: Backend) -> None:
    """The token rises by at least one with every claim of a job, and never falls between them."""
    job_id = factory.enqueue(backend)
    tokens = [factory.row_of(backend, job_id).claim_token]
    for _ in range(5):
        claim = factory.claim_one(backend)
        tokens.append(claim.token)
        factory.settle(backend, claim, states.hand_back(claim))
        tokens.append(factory.row_of(backend, job_id).claim_token)
    assert tokens == sorted(tokens) and len(set(tokens)) == 6


def check_a_claim_holds_on_every_backend_of_the_store(harness: Harness) -> None:
    """The proof of a claim made through one backend is good on another."""
    here, there = harness.ready(), harness.open()
    claim = factory.claimed_job(here)
    assert factory.complete(there, claim) == []
    assert factory.row_of(here, claim.id).state == "completed"
    harness.close()


def check_a_job_freed_in_an_exchange_may_be_claimed_in_it(backend: Backend) -> None:
    """Outcomes are settled before the claim: a job put back without delay is in line for it."""
    claim = factory.claimed_job(backend, queue="default")
    back = states.retry(claim, reason="error", delay=0, error=factory.ERROR, kind="X")
    answer = backend.exchange(
        "engine", outcomes=[Outcome(claim.ref, claim.token, back)], want=Want([("default", 1)], 1), lease=factory.LEASE
    )
    assert answer.refusals == []
    [again] = answer.claimed
    assert (again.id, again.attempt, again.token) == (claim.id, 2, claim.token + 1)


def check_a_job_put_off_in_an_exchange_is_not_claimed_in_it(backend: Backend) -> None:
    """A job put back with a delay waits for it, also when the same exchange claims."""
    claim = factory.claimed_job(backend, queue="default")
    back = states.snooze(claim, delay=micros(5))
    answer = backend.exchange(
        "engine", outcomes=[Outcome(claim.ref, claim.token, back)], want=Want([("default", 1)], 1), lease=factory.LEASE
    )
    assert (answer.claimed, answer.refusals, answer.next_due) == ([], [], micros(5))


def check_claiming_and_settling_share_one_exchange(backend: Backend) -> None:
    """One exchange completes old claims and makes new ones; neither hinders the other."""
    ids = factory.enqueue_several(backend, 6)
    held = factory.claim_some(backend, 3)
    answer = factory.complete_in_exchange(backend, held, want=Want([("default", 2)], 2))
    assert answer.refusals == []
    assert [claim.id for claim in answer.claimed] == ids[3:5]
    found = [factory.row_of(backend, job_id).state for job_id in ids]
    assert found == ["completed"] * 3 + ["claimed"] * 2 + ["waiting"]


def check_as_many_as_one_batch_allows(backend: Backend) -> None:
    """An exchange takes as many claims and completions as the store says it does."""
    size = min(backend.capabilities.max_batch, 1_000)
    factory.enqueue_several(backend, size)
    claims = factory.claim_some(backend, size)
    assert len(claims) == size
    assert factory.complete(backend, claims) == []
    assert backend.count(Filter()) == {"default": {"completed": size}}


def check_racing_claimers_get_each_job_once(harness: Harness) -> None:
    """Eight engines that claim and complete at once run each job exactly once, and none is left."""
    backend, engines, jobs = harness.ready(), 8, 200
    ids = factory.enqueue_several(backend, jobs)
    backends = [harness.open() for _ in range(engines)]

    def run(place: int) -> list[bytes]:
        mine, done = backends[place], Completions()
        seen: list[bytes] = []
        while True:
            answer = mine.exchange(
                f"engine-{place}", completions=done, want=Want([("default", 7)], 7), lease=factory.LEASE
            )
            assert answer.refusals == []
            if not answer.claimed:
                return seen
            seen += [claim.id for claim in answer.claimed]
            done = factory.completions_of(answer.claimed)

    seen = at_once([partial(run, place) for place in range(engines)])
    assert sorted(job_id for several in seen for job_id in several) == sorted(ids)
    rows = factory.rows_of(backend, ids).values()
    assert {(row.state, row.attempt) for row in rows} == {("completed", 1)}
    harness.close()


def check_racing_claimers_share_a_short_queue(harness: Harness) -> None:
    """With fewer jobs than engines each job has one owner, the one its row names."""
    backend = harness.ready()
    backends = [harness.open() for _ in range(6)]
    for round_ in range(6):
        ids = factory.enqueue_several(backend, 3, queue=f"q{round_}")
        claims = at_once(
            [
                partial(factory.claim_some, at, owner=f"engine-{place}", queues=[f"q{round_}"])
                for place, at in enumerate(backends)
            ]
        )
        owners = {claim.id: claim.claimed_by for several in claims for claim in several}
        assert sum(len(several) for several in claims) == 3
        assert owners == {row.id: row.claimed_by for row in backend.get(ids)}
    harness.close()


def check_enqueue_and_claim_race_without_loss(harness: Harness) -> None:
    """Jobs stored while engines claim are each claimed once, whoever comes first."""
    harness.ready()
    batches = [[factory.new_job() for _ in range(10)] for _ in range(12)]
    total = sum(map(len, batches))
    taken: list[bytes] = []

    def produce() -> None:
        backend = harness.open()
        for batch in batches:
            backend.enqueue(batch)

    def consume(owner: str) -> None:
        backend = harness.open()
        while len(taken) < total:
            taken.extend(claim.id for claim in factory.claim_some(backend, 9, owner=owner))

    at_once([produce, lambda: consume("a"), lambda: consume("b")])
    assert sorted(taken) == sorted(job.id for batch in batches for job in batch)
    harness.close()
