"""Counting: by queue and state, over time, the whole store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from jobcard.backends.base import Backend, Filter
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.states import JobState

EVERY_STATE = tuple(str(state) for state in JobState)
HOUR = micros(3600)


def counts_of(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Counts without zeros, which a store may state or leave out."""
    trimmed = {key: {state: n for state, n in by_state.items() if n} for key, by_state in counts.items()}
    return {key: by_state for key, by_state in trimmed.items() if by_state}


def _count(backend: Backend, where: Filter | None = None, limit: int | None = None) -> dict[str, dict[str, int]]:
    return counts_of(backend.count(where or Filter(), limit=limit))


def check_an_empty_store_counts_nothing(backend: Backend) -> None:
    """No jobs: no counts, no delayed ones, no oldest."""
    assert _count(backend) == {}
    tally = backend.tally()
    assert ({state: n for state, n in tally.counts.items() if n}, tally.delayed, tally.oldest_waiting) == ({}, 0, None)


def check_jobs_are_counted_by_queue_and_state(backend: Backend) -> None:
    """Every state of every queue has its own number."""
    for place, state in enumerate(EVERY_STATE):
        for queue in ("a", "b: /c"):
            for _ in range(place + 1 if queue == "a" else 1):
                if state in ("waiting", "canceled"):
                    factory.job_in_state(backend, state, queue=f"later {queue}")
                else:
                    factory.job_in_state(backend, state, queue=queue)
    counts = _count(backend)
    assert counts["a"] == {state: n + 1 for n, state in enumerate(EVERY_STATE) if state not in ("waiting", "canceled")}
    assert counts["later a"] == {"waiting": 1, "canceled": 6}
    assert counts["b: /c"] == {"claimed": 1, "running": 1, "completed": 1, "failed": 1}


def check_counts_follow_every_move(backend: Backend) -> None:
    """A job is counted under its present state and nowhere else."""
    claim = factory.claimed_job(backend, queue="q")
    assert _count(backend) == {"q": {"claimed": 1}}
    factory.settle(backend, claim, states.start(claim, ago=0))
    assert _count(backend) == {"q": {"running": 1}}
    factory.settle(backend, claim, states.retry(claim, reason="e", delay=0, error=factory.ERROR, kind="X"))
    assert _count(backend) == {"q": {"waiting": 1}}
    factory.complete(backend, factory.claim_one(backend, queue="q"))
    assert _count(backend) == {"q": {"completed": 1}}
    backend.delete([claim.id])
    assert _count(backend) == {}


def check_counts_obey_the_filter(backend: Backend, clock: FrozenClock) -> None:
    """What `list` would find is what `count` counts."""
    factory.enqueue_several(backend, 2, queue="a", name="n", tags='["t"]')
    clock.advance(10)
    moment = clock.now()
    factory.enqueue_several(backend, 3, queue="a", name="m")
    factory.job_in_state(backend, "failed", queue="b", name="n")
    assert _count(backend, Filter(queues=["a"])) == {"a": {"waiting": 5}}
    assert _count(backend, Filter(states=["failed"])) == {"b": {"failed": 1}}
    assert _count(backend, Filter(names=["n"])) == {"a": {"waiting": 2}, "b": {"failed": 1}}
    assert _count(backend, Filter(after=moment)) == {"a": {"waiting": 3}, "b": {"failed": 1}}
    assert _count(backend, Filter(before=moment)) == {"a": {"waiting": 2}}
    assert _count(backend, Filter(after=moment, before=moment)) == {}
    assert _count(backend, Filter(after=moment, names=["n"])) == {"b": {"failed": 1}}
    assert _count(backend, Filter(tags=["t"])) == {"a": {"waiting": 2}}
    assert _count(backend, Filter(error_kind="ValueError")) == {"b": {"failed": 1}}
    assert _count(backend, Filter(search="n")) == {"a": {"waiting": 2}, "b": {"failed": 1}}


def check_a_limit_bounds_each_number(backend: Backend) -> None:
    """With a limit counting stops there, for every queue and state of its own."""
    factory.enqueue_several(backend, 9, queue="a")
    factory.enqueue_several(backend, 2, queue="b")
    for _ in range(6):
        factory.job_in_state(backend, "completed", queue="c")
    assert _count(backend, limit=5) == {"a": {"waiting": 5}, "b": {"waiting": 2}, "c": {"completed": 5}}
    assert _count(backend, Filter(states=["waiting"]), limit=3) == {"a": {"waiting": 3}, "b": {"waiting": 2}}
    assert _count(backend, Filter(queues=["b", "c", "c"]), limit=5) == {"b": {"waiting": 2}, "c": {"completed": 5}}
    assert _count(backend, Filter(queues=["c", "c"], names=["shop.mail"]), limit=9) == {"c": {"completed": 6}}
    assert _count(backend, Filter(queues=["a", "a", "none"]), limit=12) == {"a": {"waiting": 9}}


def check_many_of_one_state_are_all_counted(backend: Backend) -> None:
    """Without a limit every job counts."""
    factory.enqueue_several(backend, 1_000)
    factory.enqueue_several(backend, 234)
    assert _count(backend) == {"default": {"waiting": 1_234}}


def check_a_chart_has_every_bucket(backend: Backend, clock: FrozenClock) -> None:
    """Exactly the buckets asked for come, oldest first, empty ones too."""
    for size in (1, 12, 24):
        first = clock.now() - size * HOUR
        buckets = backend.count_over_time(first=first, step=HOUR, buckets=size)
        assert [bucket.at for bucket in buckets] == [first + place * HOUR for place in range(size)]
        assert not any(n for bucket in buckets for n in bucket.counts.values())


def check_a_chart_counts_each_job_once_at_its_latest_stamp(backend: Backend, clock: FrozenClock) -> None:
    """A job stands under its present state when it finished, else started, was claimed, was created."""
    first = clock.now()
    waiting, claimed, running, ended = (factory.enqueue(backend, queue=name) for name in ("w", "c", "r", "e"))
    clock.advance(3600)
    claims = {queue: factory.claim_one(backend, queue=queue) for queue in ("c", "r", "e")}
    clock.advance(3600)
    for queue in ("r", "e"):
        factory.settle(backend, claims[queue], states.start(claims[queue], ago=0))
    clock.advance(3600)
    factory.settle(backend, claims["e"], states.fail(claims["e"], reason="e", error=factory.ERROR, kind="X"))
    buckets = backend.count_over_time(first=first, step=HOUR, buckets=4)
    found = [{state: n for state, n in bucket.counts.items() if n} for bucket in buckets]
    assert found == [{"waiting": 1}, {"claimed": 1}, {"running": 1}, {"failed": 1}]
    assert len({waiting, claimed, running, ended}) == 4


def check_a_bucket_includes_its_start_and_not_its_end(backend: Backend, clock: FrozenClock) -> None:
    """Jobs fall into the bucket whose start they reached; those before the first and after the last into none."""
    first = clock.now() + 7_000
    for offset in (-1, 0, 1, 9, 10, 29, 30, 31):
        clock.step((first + 1_000 * offset - clock.now()) / 1_000_000)
        factory.enqueue(backend)
    buckets = backend.count_over_time(first=first, step=10_000, buckets=3)
    assert [bucket.counts.get("waiting", 0) for bucket in buckets] == [3, 1, 1]


def check_a_bucket_counts_each_state(backend: Backend, clock: FrozenClock) -> None:
    """All six states stand side by side in one bucket."""
    for place, state in enumerate(EVERY_STATE):
        for _ in range(place + 1):
            factory.job_in_state(backend, state)
    [bucket] = backend.count_over_time(first=clock.now(), step=micros(60), buckets=1)
    assert dict(bucket.counts) == {state: n + 1 for n, state in enumerate(EVERY_STATE)}


def check_the_tally_counts_the_whole_store(backend: Backend) -> None:
    """The whole store's jobs by state, over all queues."""
    wanted: Counter[str] = Counter()
    for place, state in enumerate(EVERY_STATE):
        for _ in range(2 * place + 1):
            factory.job_in_state(backend, state)
            wanted[state] += 1
    assert {state: n for state, n in backend.tally().counts.items() if n} == wanted


def check_the_tally_knows_delayed_jobs_and_the_oldest(backend: Backend, clock: FrozenClock) -> None:
    """`delayed` counts jobs not due yet; `oldest_waiting` is how long the first of those in line has been due."""
    factory.enqueue_several(backend, 2, delay=micros(500))
    assert (backend.tally().delayed, backend.tally().oldest_waiting) == (2, None)
    factory.enqueue(backend, priority=1)
    clock.advance(30)
    factory.enqueue(backend, priority=9)
    clock.advance(12)
    assert (backend.tally().delayed, backend.tally().oldest_waiting) == (2, micros(42))
    factory.claim_some(backend, 1)
    assert backend.tally().oldest_waiting == micros(42)
    factory.claim_some(backend, 1)
    assert (backend.tally().delayed, backend.tally().oldest_waiting) == (2, None)


def check_an_overdue_job_waits_though_nobody_released_it(backend: Backend, clock: FrozenClock) -> None:
    """Where no engine comes by, a delayed job that is due is delayed no more, and its age is told."""
    factory.enqueue(backend, delay=micros(10))
    factory.enqueue(backend, delay=micros(500))
    clock.advance(10)
    assert (backend.tally().delayed, backend.tally().oldest_waiting) == (1, 0)
    clock.advance(32)
    factory.enqueue(backend)
    assert (backend.tally().delayed, backend.tally().oldest_waiting) == (1, micros(32))
    clock.advance(1_000)
    assert (backend.tally().delayed, backend.tally().oldest_waiting) == (0, micros(1_032))


def check_a_chart_of_some_states_has_no_others(backend: Backend, clock: FrozenClock) -> None:
    """`states` leaves the others out, those that ended and those that live."""
    for state in EVERY_STATE:
        factory.job_in_state(backend, state)
    for wanted in (["completed"], ["completed", "failed", "canceled"], ["waiting"], ["running", "failed"]):
        [bucket] = backend.count_over_time(first=clock.now(), step=micros(60), buckets=1, states=wanted)
        assert {state: n for state, n in bucket.counts.items() if n} == dict.fromkeys(wanted, 1)


def check_the_lines_tell_how_long_the_first_of_each_queue_has_waited(backend: Backend, clock: FrozenClock) -> None:
    """Of jobs in line, whatever their priority, and of those that are due though nobody has released them."""
    assert backend.lines(limit=10) == (0, {})
    factory.enqueue(backend, queue="a", priority=1)
    clock.advance(5)
    factory.enqueue(backend, queue="a", priority=9)
    factory.enqueue(backend, queue="b")
    factory.enqueue(backend, queue="c", delay=micros(7))
    clock.advance(10)
    assert backend.lines(limit=10) == (0, {"a": micros(15), "b": micros(10), "c": micros(3)})
    factory.claim_some(backend, 2, queues=["b", "c"])
    assert backend.lines(limit=10) == (0, {"a": micros(15)})


def check_the_lines_count_delayed_jobs_no_further_than_asked(backend: Backend, clock: FrozenClock) -> None:
    """Those not due yet, and no others; a claimed or an ended job waits no more."""
    factory.enqueue_several(backend, 5, delay=micros(500))
    factory.enqueue(backend, delay=micros(10))
    for state in EVERY_STATE:
        if state != "waiting":
            factory.job_in_state(backend, state)
    assert [backend.lines(limit=most).delayed for most in (1, 3, 6, 100)] == [1, 3, 6, 6]
    clock.advance(10)
    assert backend.lines(limit=100) == (5, {"default": 0})


def check_the_lines_look_at_a_job_behind_as_a_tally_does(backend: Backend, clock: FrozenClock) -> None:
    """The oldest of all queues is the tally's."""
    for number in range(4):
        factory.enqueue(backend, queue=f"q{number % 2}", priority=number)
        clock.advance(3)
    assert max(backend.lines(limit=1).oldest.values()) == backend.tally().oldest_waiting == micros(12)
