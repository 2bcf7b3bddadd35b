"""Limits over all engines: of a queue and of a key, of jobs at work and of starts in a window of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from jobcard.backends.base import NO_COMPLETIONS, Backend, Completions, Filter, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.job import Claimed, JobRow
from jobcard.core.rates import QueueLimit, Rate, is_put_off


def want(count: int = 10, *, queue: str = "default", at_once: int | None = None, rate: Rate | None = None) -> Want:
    """So many of one queue, limited so."""
    return Want([(queue, count)], count, {queue: QueueLimit(at_once, rate)})


def take(
    backend: Backend,
    wanted: Want,
    *,
    owner: str = "engine",
    done: Completions = NO_COMPLETIONS,
    freed: tuple[str, ...] = (),
) -> list[Claimed]:
    """Claim by one exchange."""
    return backend.exchange(owner, completions=done, want=wanted, lease=factory.LEASE, freed=freed).claimed


def keyed(backend: Backend, count: int, key: str = "k", limit: int = 1, **given: object) -> list[bytes]:
    """Store so many jobs of one key; their ids."""
    return factory.enqueue_several(backend, count, limit_key=key, key_limit=limit, **given)


# ------------------------------------------------------------------ queues


def check_a_queue_is_never_above_its_limit(backend: Backend) -> None:
    """Of a queue with a limit no more jobs are claimed, by whomever, than may be at work; ends make room."""
    factory.enqueue_several(backend, 10)
    first = take(backend, want(at_once=3))
    assert len(first) == 3
    assert take(backend, want(at_once=3), owner="other") == []
    second = take(backend, want(at_once=3), owner="engine", done=factory.completions_of(first[:2]))
    assert len(second) == 2
    # A rise of the limit counts at once, and so does its absence.
    assert len(take(backend, want(at_once=5), owner="other")) == 2
    assert len(take(backend, want())) == 3


def check_a_lowered_limit_takes_nothing_back(backend: Backend) -> None:
    """Jobs at work beyond a limit that was lowered go on; nothing more is claimed until there is room."""
    factory.enqueue_several(backend, 6)
    claims = take(backend, want(4, at_once=4))
    assert take(backend, want(at_once=2)) == []
    assert take(backend, want(at_once=2), done=factory.completions_of(claims[:2])) == []
    assert len(take(backend, want(at_once=2), done=factory.completions_of(claims[2:3]))) == 1


def check_the_limit_of_one_queue_is_none_of_anothers(backend: Backend) -> None:
    """A full queue keeps no job of another back, in the same exchange too."""
    factory.enqueue_several(backend, 3, queue="full")
    factory.enqueue_several(backend, 3, queue="free")
    both = Want([("full", 9), ("free", 9)], 9, {"full": QueueLimit(1, None)})
    assert Counter(claim.queue for claim in take(backend, both)) == {"full": 1, "free": 3}


def check_a_full_queue_leaves_the_others_in_order(backend: Backend) -> None:
    """Of the queues behind a full one the first jobs are claimed, not any."""
    factory.enqueue_several(backend, 5, queue="full")
    line = factory.enqueue_several(backend, 12, queue="free")
    wanted = Want([("full", 3), ("free", 3)], 3, {"full": QueueLimit(0, None)})
    claims = [claim.id for _ in range(4) for claim in take(backend, wanted)]
    assert claims == line


def check_a_dead_engines_jobs_hold_their_places(harness: Harness) -> None:
    """A place belongs to the job at work: it stays taken while the claim stands, and is free when it is rescued."""
    backend = harness.ready()
    factory.enqueue_several(backend, 3)
    [claim] = take(backend, want(at_once=1), owner="dead")
    harness.advance(3600)
    assert take(backend, want(at_once=1)) == []
    assert factory.settle(backend, claim, states.rescue(claim, error=factory.ERROR, lapsed=True)) == []
    assert [again.id for again in take(backend, want(at_once=1))] == [claim.id]


def check_racing_engines_stay_below_a_queues_limit(harness: Harness) -> None:
    """Four engines at once claim, complete and claim again: never more than three at work, and all get done."""
    backends = [harness.ready() for _ in range(4)]
    factory.enqueue_several(backends[0], 60)
    held: list[list[Claimed]] = [[] for _ in backends]

    def turn(place: int) -> None:
        done = factory.completions_of(held[place]) if held[place] else NO_COMPLETIONS
        held[place] = take(backends[place], want(2, at_once=3), owner=f"engine-{place}", done=done)

    for _ in range(200):
        at_once([partial(turn, place) for place in range(len(backends))])
        counts = backends[0].count(Filter())["default"]
        assert counts.get("claimed", 0) <= 3
        if counts.get("completed", 0) == 60:
            return
    raise AssertionError(f"not done: {counts}")


# ------------------------------------------------------------------ rates


def check_a_rate_counts_starts_in_every_window(harness: Harness) -> None:
    """In no second more starts than the rate allows, whoever claims; nearly as many can be reached."""
    backend, other = harness.ready(), harness.ready()
    rate = Rate(10, micros(1))
    factory.enqueue_several(backend, 200)
    starts: list[int] = []
    for _ in range(200):
        for store, owner in ((backend, "a"), (other, "b")):
            claims = take(store, want(3, rate=rate), owner=owner)
            starts += [harness.clock.now()] * len(claims)
            if claims:
                factory.complete(store, claims, owner=owner)
        harness.advance(0.02)
    for at in starts:
        assert sum(at <= start < at + micros(1) for start in starts) <= 10
    assert len(starts) >= 36  # four seconds


def check_an_engine_is_told_when_a_rate_lets_in_one_more(harness: Harness) -> None:
    """`next_due` says when, and then it is so; without a job in line there is nothing to wait for."""
    backend = harness.ready()
    rate = Rate(2, micros(10))
    assert backend.exchange("engine", want=want(rate=rate), lease=factory.LEASE).next_due is None
    factory.enqueue_several(backend, 5)
    answer = backend.exchange("engine", want=want(rate=rate), lease=factory.LEASE)
    assert len(answer.claimed) == 2
    assert answer.next_due is not None and micros(9) < answer.next_due <= micros(11)
    harness.advance(answer.next_due / 1e6 - 0.001)
    assert take(backend, want(rate=rate)) == []
    harness.advance(0.002)
    assert len(take(backend, want(rate=rate))) == 2


def check_rate_and_limit_both_count(harness: Harness) -> None:
    """A queue with both stays below the narrower."""
    backend = harness.ready()
    factory.enqueue_several(backend, 9)
    rate = Rate(3, micros(1))
    first = take(backend, want(at_once=2, rate=rate))
    assert len(first) == 2
    assert len(take(backend, want(at_once=2, rate=rate), done=factory.completions_of(first))) == 1
    harness.advance(2)
    assert len(take(backend, want(at_once=2, rate=rate))) == 1


# ------------------------------------------------------------------ keys


def check_a_key_is_never_above_its_limit(backend: Backend) -> None:
    """Jobs of one key run one at a time, in their order, whoever claims; those of other keys beside them."""
    first, second, third = keyed(backend, 3)
    [free] = keyed(backend, 1, key="other")
    claims = take(backend, want())
    assert [claim.id for claim in claims] == [first, free]
    assert claims[0].limit_key == "k" and claims[0].key_limit == 1
    for job in (second, third):
        row = factory.row_of(backend, job)
        assert (row.state, row.hold, row.attempt) == ("waiting", "limit", 0)
    assert take(backend, want(), owner="other") == []
    for expected in (second, third):
        done = factory.completions_of(claims[:1])
        claims = take(backend, want(), done=done, freed=("k",))
        assert [claim.id for claim in claims] == [expected]
    assert take(backend, want(), done=factory.completions_of(claims), freed=("k",)) == []


def check_a_blocked_key_blocks_nobody_behind_it(backend: Backend) -> None:
    """However many jobs of a full key stand in front, those behind them are claimed in the same exchange."""
    keyed(backend, 300)
    behind = factory.enqueue_several(backend, 5)
    claims = take(backend, want(6))
    assert [claim.id for claim in claims][1:] == behind
    assert claims[0].limit_key == "k"


def check_a_key_lets_them_in_by_their_order(backend: Backend) -> None:
    """A job held by its key is not passed by a later one with that key which had not been looked at."""
    first, second = keyed(backend, 2)
    free = factory.enqueue(backend)
    [third] = keyed(backend, 1)
    [claim] = take(backend, want(1))
    assert claim.id == first
    assert [claimed.id for claimed in take(backend, want(1))] == [free]  # the second is held, the third perhaps not
    for expected in (second, third):
        [claim] = take(backend, want(1), done=factory.completions_of([claim]), freed=("k",))
        assert claim.id == expected


def check_every_way_out_of_work_makes_room(backend: Backend) -> None:
    """A key's place is free after a completion, failure, retry, snooze, cancel, hand-back, crash and park."""
    changes = {
        "fail": lambda claim: states.fail(claim, reason="error", error=factory.ERROR, kind="X"),
        "retry": lambda claim: states.retry(claim, reason="error", delay=micros(60), error=factory.ERROR, kind="X"),
        "snooze": lambda claim: states.snooze(claim, delay=micros(60)),
        "cancel": lambda claim: states.cancel_at_work(claim, reason="canceled"),
        "crash": lambda claim: states.crash(claim, reason="crash", delay=micros(60), error=factory.ERROR, kind="X"),
        "park": states.park,
    }
    for name, change in changes.items():
        queue = f"queue-{name}"
        keyed(backend, 2, key=name, queue=queue)
        [claim] = take(backend, want(queue=queue))
        outcome = factory.outcome_of(claim, change(claim))
        answer = backend.exchange(
            "engine", outcomes=[outcome], want=want(queue=queue), lease=factory.LEASE, freed=[name]
        )
        assert len(answer.claimed) == 1 and answer.claimed[0].id != claim.id, name


def check_a_job_handed_back_comes_first_again(backend: Backend) -> None:
    """An unstarted job of a key that goes back keeps its place before those that its key held."""
    first, _ = keyed(backend, 2)
    [claim] = take(backend, want())
    answer = backend.exchange(
        "engine", outcomes=[factory.outcome_of(claim, states.hand_back(claim))], want=want(), lease=factory.LEASE,
        freed=["k"],
    )  # fmt: skip
    assert [again.id for again in answer.claimed] == [first]


def check_what_a_death_left_is_let_in(backend: Backend) -> None:
    """`let_in` finds keys with room whose jobs are held, as many as there is room for, and no others."""
    keyed(backend, 4, key="a", limit=2)
    keyed(backend, 2, key="b")
    claims = take(backend, want())
    assert Counter(claim.limit_key for claim in claims) == {"a": 2, "b": 1}
    assert backend.let_in(100) == 0
    # Completed by somebody who did not say what it frees.
    factory.complete(backend, [claim for claim in claims if claim.limit_key == "a"])
    assert backend.let_in(100) == 2
    assert backend.let_in(100) == 0
    assert Counter(claim.limit_key for claim in take(backend, want())) == {"a": 2}


def check_an_operator_may_end_what_a_key_holds(backend: Backend) -> None:
    """A job held by its key can be canceled, and is passed over when the key has room."""
    _, second, third = keyed(backend, 3)
    [claim] = take(backend, want())
    canceled = backend.apply_by_operator(second, states.cancel_waiting(reason="canceled"))
    assert canceled is not None and canceled.state == "canceled"
    assert [next_.id for next_ in take(backend, want(), done=factory.completions_of([claim]), freed=("k",))] == [third]


def check_a_queue_that_nobody_serves_holds_up_no_other(backend: Backend) -> None:
    """A job in line or held in one queue keeps none of its key in another from coming in, by ends and by `let_in`."""
    keyed(backend, 1, queue="served")
    claims = take(backend, want(queue="served"))
    keyed(backend, 1, queue="paused")
    second, third = keyed(backend, 2, queue="served")
    assert take(backend, want(queue="served")) == []
    claims = take(backend, want(queue="served"), done=factory.completions_of(claims), freed=("k",))
    assert [claim.id for claim in claims] == [second]
    assert take(backend, want(queue="paused")) == []  # held there too
    factory.complete(backend, claims)
    assert backend.let_in(100) > 0
    assert [claim.id for claim in take(backend, want(queue="served"))] == [third]


def check_who_was_let_in_and_does_not_start_lets_in_the_next(harness: Harness) -> None:
    """A job that came in and is canceled, put off or replaced by something else gives its place on at once."""
    backend = harness.ready()
    cancel = states.cancel_waiting(reason="canceled")
    ways: dict[str, Callable[[bytes], object]] = {
        "cancel": lambda job: backend.apply_by_operator(job, cancel),
        "snooze": lambda job: backend.apply_by_operator(
            job, states.snooze_waiting(factory.row_of(backend, job), delay=micros(60))
        ),
        "replace": lambda job: backend.enqueue([factory.new_job(unique_key="u", queue="other", replaces=True)]),
    }
    for name, way in ways.items():
        keyed(backend, 1, key=name, queue=name)
        claims = take(backend, want(queue=name))
        [second] = keyed(backend, 1, key=name, queue=name, unique_key="u" if name == "replace" else None)
        [third] = keyed(backend, 1, key=name, queue=name)
        assert take(backend, want(queue=name)) == []
        backend.exchange("engine", completions=factory.completions_of(claims), freed=[name])
        assert factory.row_of(backend, second).hold is None, name
        assert factory.row_of(backend, third).hold == "limit", name
        way(second)
        assert [claim.id for claim in take(backend, want(queue=name))] == [third], name


def check_each_held_job_comes_in_by_its_own_limit(backend: Backend) -> None:
    """One without a limit may always; one with a narrow limit keeps those behind it, until it has left."""
    hold = states.Change(
        verb="hold", sources=states.WAITING, target=states.JobState.WAITING, sets={"hold": states.Hold.LIMIT}
    )
    [first] = keyed(backend, 1, limit=5)
    assert [claim.id for claim in take(backend, want())] == [first]
    [narrow] = keyed(backend, 1, limit=1)
    [wide] = keyed(backend, 1, limit=5)
    for job in (narrow, wide):
        backend.apply_by_operator(job, hold)
    assert backend.let_in(100) == 0
    backend.apply_by_operator(narrow, states.cancel_waiting(reason="canceled"))
    assert [claim.id for claim in take(backend, want())] == [wide]
    free = factory.enqueue(backend, limit_key="k")
    backend.apply_by_operator(free, hold)
    backend.let_in(100)
    assert [claim.id for claim in take(backend, want())] == [free]


def check_racing_engines_stay_below_a_keys_limit(harness: Harness) -> None:
    """Four engines at once, ten keys with limit one: never two of a key at work, all done, each key in its order."""
    backends = [harness.ready() for _ in range(4)]
    jobs = [factory.new_job(limit_key=f"key-{number % 10}", key_limit=1) for number in range(80)]
    backends[0].enqueue(jobs)
    order: dict[str, list[bytes]] = {}
    for job in jobs:
        order.setdefault(str(job.limit_key), []).append(job.id)
    held: list[list[Claimed]] = [[] for _ in backends]
    ran: dict[str, list[bytes]] = {key: [] for key in order}

    def turn(place: int) -> None:
        mine = held[place]
        done = factory.completions_of(mine) if mine else NO_COMPLETIONS
        freed = tuple({str(claim.limit_key) for claim in mine})
        held[place] = take(backends[place], want(4), owner=f"engine-{place}", done=done, freed=freed)

    for _ in range(300):
        at_once([partial(turn, place) for place in range(len(backends))])
        at_work = Counter(claim.limit_key for claims in held for claim in claims)
        assert max(at_work.values(), default=0) <= 1
        for claims in held:
            for claim in claims:
                ran[str(claim.limit_key)].append(claim.id)
        if not at_work:
            backends[0].let_in(1_000)
            if backends[0].count(Filter())["default"].get("completed", 0) == len(jobs):
                assert ran == order
                return
    raise AssertionError(f"not done: {backends[0].count(Filter())}")


def check_a_keys_rate_counts_starts_in_every_window(harness: Harness) -> None:
    """Jobs of a key whose rate is used up wait, their place in line kept; those behind go on."""
    backend = harness.ready()
    jobs = factory.enqueue_several(backend, 12, limit_key="k", rate_count=4, rate_per=micros(1))
    free = factory.enqueue(backend)
    claims = take(backend, want(20))
    assert [claim.id for claim in claims] == [*jobs[:4], free]
    row = factory.row_of(backend, jobs[4])
    assert (row.hold, row.attempt, row.state) == ("delay", 0, "waiting")
    assert row.available_at > harness.clock.now() and row.order_at < row.available_at
    ran = [claim.id for claim in claims]
    for _ in range(8):
        assert len(take(backend, want(20))) == 0
        harness.advance(0.5)
        ran += [claim.id for claim in take(backend, want(20))]
        harness.advance(0.6)
        ran += [claim.id for claim in take(backend, want(20))]
    assert ran == [*jobs[:4], free, *jobs[4:]]


def check_jobs_put_off_by_a_rate_are_spread(harness: Harness) -> None:
    """No more jobs of a key come back at one moment than its rate may start, also when later ones join them."""
    backend = harness.ready()
    given = {"limit_key": "k", "rate_count": 2, "rate_per": micros(1)}
    first = factory.enqueue_several(backend, 12, **given)
    assert [claim.id for claim in take(backend, want(3))] == first[:2]
    while any(row.hold is None for row in _waiting(backend, first)):
        assert take(backend, want(3)) == []
    harness.advance(0.1)
    later = factory.enqueue_several(backend, 5, **given)
    while any(row.hold is None for row in _waiting(backend, later)):
        assert take(backend, want(3)) == []
    turns = [Counter(row.available_at for row in _waiting(backend, jobs)) for jobs in (first, later)]
    assert max((turns[0] + turns[1]).values()) == 2
    assert max(turns[0]) <= min(turns[1])


def _waiting(backend: Backend, jobs: list[bytes]) -> list[JobRow]:
    return [row for row in backend.get(jobs) if row.state == "waiting"]


def check_a_job_that_was_put_off_is_retried_like_any_other(harness: Harness) -> None:
    """How long a rate has put a job off moves it neither forward nor back when it is tried again, nor when snoozed."""
    backend = harness.ready()
    given = {"limit_key": "k", "rate_count": 1, "rate_per": micros(60), "order_offset": -micros(7)}
    first, second = factory.enqueue_several(backend, 2, **given)
    assert [claim.id for claim in take(backend, want())] == [first]
    row = factory.row_of(backend, second)
    assert is_put_off(row) and row.order_offset == -micros(7)
    snoozed = backend.apply_by_operator(second, states.snooze_waiting(row, delay=micros(90)))
    assert snoozed is not None and not is_put_off(snoozed)
    assert snoozed.available_at - snoozed.order_at == micros(7)
    backend.apply_by_operator(second, states.run_now(row))
    assert take(backend, want()) == []
    assert is_put_off(factory.row_of(backend, second))
    harness.advance(200)
    [claim] = take(backend, want())
    again = states.retry(claim, reason="error", delay=0, error=factory.ERROR, kind="X")
    assert factory.settle(backend, claim, again) == []
    row = factory.row_of(backend, second)
    assert (row.available_at, row.order_at) == (harness.clock.now(), harness.clock.now() - micros(7))


def check_how_far_limits_are_used(backend: Backend) -> None:
    """`usage` tells jobs at work and the room that rates leave, also of names that nobody has used."""
    keyed(backend, 2, limit=1)
    factory.enqueue_several(backend, 2, limit_key="r", rate_count=5, rate_per=micros(60))
    rate = Rate(7, micros(60))
    take(backend, want(rate=rate))
    queues, keys = backend.usage(["default", "none"], ["k", "r", "nobody"])
    now = backend.facts().now
    assert (queues["default"].at_work, queues["none"].at_work) == (3, 0)
    assert queues["default"].starts.room(rate, now) == 4
    assert (keys["k"].at_work, keys["r"].at_work, keys["nobody"].at_work) == (1, 2, 0)
    assert keys["r"].starts.room(Rate(5, micros(60)), now) == 3


def check_jobs_are_found_by_their_limit_key(backend: Backend) -> None:
    """A filter by limit key finds living and ended jobs of that key and no others."""
    jobs = keyed(backend, 3)
    keyed(backend, 2, key="K")
    factory.complete(backend, take(backend, want(1)))
    assert {row.id for row in backend.list(Filter(limit_key="k"), limit=10).rows} == set(jobs)
    assert sum(backend.count(Filter(limit_key="k"))["default"].values()) == 3
