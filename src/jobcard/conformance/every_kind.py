"""One job of every kind: in each state, under each hold, with all that a store may keep of one; and a look at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, OnceKey
from jobcard.core.states import Change, Hold, JobState

OWNERS = ("engine", "other")
"""Who holds the claims among them."""
KEYED, RATED = "#keyed", "#rated"
"""Limit keys: of one at a time, and of one start a minute."""


def everything_given(clock: FrozenClock, name: str) -> dict[str, Any]:
    """Every option that a job may be enqueued with, each with a value of its own."""
    return {
        "name": f"shop.{name} é",
        "init": '{"args": [1], "kwargs": {}}',
        "args": '["é 😀 \\u0000 % \'", 1.5e300, null]',
        "kwargs": '{"a": {"b": []}}',
        "priority": 3,
        "rank": -3,
        "order_offset": micros(-7),
        "max_attempts": 7,
        "max_crashes": 2,
        "backoff": '{"kind": "fixed", "delay": 3}',
        "timeout": micros(90),
        "keep": micros(3600),
        "unique_key": f"unique {name}",
        "once_key": f"once {name}",
        "once_until": clock.now() + micros(86_400),
        "batch_id": factory.new_id(),
        "parent_id": factory.new_id(),
        "schedule_id": "nightly",
        "tags": '["red", "é"]',
        "meta": '{"traceparent": "00-1-2-03"}',
    }


def every_kind(backend: Backend, clock: FrozenClock) -> dict[str, bytes]:
    """Store them; their ids by what they are. All keys are different, and stamps lie a second apart."""
    found: dict[str, bytes] = {}
    for name, make in {**_WAITING, **_AT_WORK, **_ENDED}.items():
        found[name] = make(backend, everything_given(clock, name))
        clock.advance(1)
    found |= _limited(backend)
    return found


def _enqueued(backend: Backend, given: dict[str, Any]) -> bytes:
    return factory.enqueue(backend, **given)


def _delayed(backend: Backend, given: dict[str, Any]) -> bytes:
    return factory.enqueue(backend, **given, delay=micros(600))


def _waiting_for_others(backend: Backend, given: dict[str, Any]) -> bytes:
    return factory.enqueue(backend, **given, waits_for='[["job", "é", "ended"]]')


def _released(backend: Backend, given: dict[str, Any]) -> bytes:
    job_id = _waiting_for_others(backend, given)
    assert factory.release(backend, job_id) == 1
    return job_id


def _under(hold: Hold) -> Callable[[Backend, dict[str, Any]], bytes]:
    def make(backend: Backend, given: dict[str, Any]) -> bytes:
        job_id = factory.enqueue(backend, **given)
        change = Change(verb="hold", sources=states.WAITING, target=JobState.WAITING, sets={"hold": hold})
        assert backend.apply_by_operator(job_id, change) is not None
        return job_id

    return make


def _back_by(move: Callable[[Claimed], Change]) -> Callable[[Backend, dict[str, Any]], bytes]:
    """A job that was claimed, ran and said something, and of which this became."""

    def make(backend: Backend, given: dict[str, Any]) -> bytes:
        claim = _talking(backend, given)
        assert factory.settle(backend, claim, move(claim)) == []
        return claim.id

    return make


def _talking(backend: Backend, given: dict[str, Any]) -> Claimed:
    claim = factory.running_job(backend, **given)
    lines = ((micros(0.5), "first é"), (0, ""), (0, "x" * 3_000))
    note = states.note(claim, ago=None, progress='{"value": 0.5}', checkpoint='{"page": 7}', lines=lines)
    assert factory.settle(backend, claim, note) == []
    return claim


def _tried_often(backend: Backend, given: dict[str, Any]) -> bytes:
    given = {**given, "queue": "often", "max_attempts": 50}
    job_id = factory.enqueue(backend, **given)
    for turn in range(22):
        claim = factory.claim_one(backend, queue="often")
        again = states.retry(claim, reason="error", delay=0, error=f'{{"turn": {turn}}}', kind="X")
        assert factory.settle(backend, claim, again) == []
    return job_id


def _asked_to_cancel(backend: Backend, given: dict[str, Any]) -> bytes:
    claim = factory.claimed_job(backend, owner="other", **given)
    asks = states.ask_to_cancel(factory.row_of(backend, claim.id), reason="too late")
    assert backend.apply_by_operator(claim.id, asks) is not None
    return claim.id


def _asked_and_handed_back(backend: Backend, given: dict[str, Any]) -> bytes:
    claim = factory.claimed_job(backend, **given)
    asks = states.ask_to_cancel(factory.row_of(backend, claim.id), reason="too late")
    assert backend.apply_by_operator(claim.id, asks) is not None
    assert factory.settle(backend, claim, states.hand_back(claim)) == []
    return claim.id


def _retried_by_an_operator(backend: Backend, given: dict[str, Any]) -> bytes:
    job_id = _FAILED(backend, given)
    assert backend.apply_by_operator(job_id, states.retry_ended(factory.row_of(backend, job_id))) is not None
    return job_id


def _canceled(backend: Backend, given: dict[str, Any]) -> bytes:
    return factory.job_in_state(backend, "canceled", **given)


def _completed(backend: Backend, given: dict[str, Any]) -> bytes:
    claim = factory.claimed_job(backend, **given)
    assert factory.complete(backend, claim, result='["é 😀"]', started_ago=micros(0.25)) == []
    return claim.id


_ERROR = factory.ERROR
_FAILED = _back_by(lambda claim: states.fail(claim, reason="error", error=_ERROR, kind="ValueError"))

Maker = Callable[[Backend, dict[str, Any]], bytes]
_WAITING: Mapping[str, Maker] = {
    "waiting": _enqueued,
    "delayed": _delayed,
    "after others": _waiting_for_others,
    "after others, and released": _released,
    "in a batch": _under(Hold.BATCH),
    "parked": _back_by(states.park),
    "broken": _back_by(factory.quarantine),
    "retried": _back_by(lambda claim: states.retry(claim, reason="error", delay=micros(600), error=_ERROR, kind="X")),
    "tried often": _tried_often,
    "crashed": _back_by(lambda claim: states.crash(claim, reason="crash", delay=0, error=_ERROR, kind="crash")),
    "interrupted": _back_by(lambda claim: states.interrupt(claim, error=_ERROR)),
    "rescued": _back_by(lambda claim: states.rescue(claim, error=_ERROR, lapsed=False)),
    "asked and handed back": _asked_and_handed_back,
    "retried by an operator": _retried_by_an_operator,
}
_AT_WORK: Mapping[str, Maker] = {
    "claimed": lambda backend, given: factory.claimed_job(backend, **given).id,
    "running": lambda backend, given: _talking(backend, given).id,
    "asked to cancel": _asked_to_cancel,
}
_ENDED: Mapping[str, Maker] = {
    "completed": _completed,
    "completed after it ran": _back_by(lambda claim: states.complete('"done"')),
    "failed": _FAILED,
    "canceled at work": _back_by(lambda claim: states.cancel_at_work(claim, reason="canceled", error=_ERROR)),
    "canceled": _canceled,
}


def _limited(backend: Backend) -> dict[str, bytes]:
    keyed = factory.enqueue_several(backend, 2, queue="keyed", limit_key=KEYED, key_limit=1)
    rated = factory.enqueue_several(
        backend, 2, queue="rated", limit_key=RATED, rate_count=1, rate_per=micros(60), key_limit=9
    )
    assert {claim.id for claim in factory.claim_some(backend, 4, queues=["keyed", "rated"])} == {keyed[0], rated[0]}
    assert factory.row_of(backend, keyed[1]).hold == "limit" and factory.row_of(backend, rated[1]).hold == "delay"
    return dict(
        zip(("has the key", "held by its key", "used the rate", "put off by its rate"), (*keyed, *rated), strict=True)
    )


# ------------------------------------------------------------------ a look at all


def jobs_in(backend: Backend) -> dict[str, object]:
    """All that can be seen of the jobs in a store, in whichever way one may ask for it."""
    rows = [row for page in factory.pages(backend, Filter(), 100) for row in page]
    ids = sorted(row.id for row in rows)
    now = backend.facts().now
    at_work, keys_at_work = backend.usage(
        sorted({row.queue for row in rows}), sorted({row.limit_key for row in rows if row.limit_key is not None})
    )
    tally = backend.tally()
    return {
        "listed": rows,
        "whole": {job.row.id: job for job in factory.whole_of(backend, ids)},
        "versions": list(versions_in(backend)),
        "ended": sorted(backend.ended(ids)),
        "counted": _without_zeros(backend.count(Filter())),
        "counted by tag": _without_zeros(backend.count(Filter(tags=["red"]))),
        "charted": [
            (bucket.at, _without_zero(bucket.counts))
            for bucket in backend.count_over_time(first=now - micros(3540), step=micros(60), buckets=60)
        ],
        "tally": (_without_zero(tally.counts), tally.delayed, tally.oldest_waiting),
        "at work": {name: use.at_work for name, use in {**at_work, **keys_at_work}.items()},
        "held": {
            (lapsed, claim.id): claim._replace(ref=b"")
            for lapsed in (False, True)
            for page in factory.held_pages(backend, OWNERS, lapsed=lapsed, limit=100)
            for claim in page
        },
    }


def everything_in(backend: Backend) -> dict[str, object]:
    """All that can be seen of a store: its jobs, its once keys, its records."""
    records = {
        (kind, record.key): (record.value, record.version)
        for kind in RecordKind
        for record in backend.read_records(kind)
    }
    return {**jobs_in(backend), "once keys": list(once_keys_in(backend)), "records": records}


def versions_in(backend: Backend, limit: int = 100) -> Iterator[tuple[bytes, int]]:
    """What `versions` gives, page by page to its end."""
    after: bytes | None = None
    while True:
        page = backend.versions(after=after, limit=limit)
        assert len(page) <= limit
        yield from page
        if len(page) < limit:
            return
        assert after is None or page[-1][0] > after, "the next page is the one before"
        after = page[-1][0]


def once_keys_in(backend: Backend, limit: int = 100) -> Iterator[OnceKey]:
    """What `once_keys` gives, page by page to its end."""
    after: str | None = None
    while True:
        page = backend.once_keys(after=after, limit=limit)
        assert len(page) <= limit
        yield from page
        if len(page) < limit:
            return
        assert after is None or page[-1].key > after, "the next page is the one before"
        after = page[-1].key


def queues_of(jobs: Sequence[Any]) -> list[str]:
    """The queues that whole jobs are in."""
    return sorted({job.row.queue for job in jobs})


def _without_zero(counts: Mapping[str, int]) -> dict[str, int]:
    return {state: number for state, number in counts.items() if number}


def _without_zeros(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    trimmed = {queue: _without_zero(by_state) for queue, by_state in counts.items()}
    return {queue: by_state for queue, by_state in trimmed.items() if by_state}
