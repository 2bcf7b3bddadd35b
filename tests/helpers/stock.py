"""A store with something of everything in it, and everything a store has, to compare it with another."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobcard.backends.base import Backend, Outcome, RecordKind
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core.job import LAST_ATTEMPTS, Attempt, LogLine, OnceKey, WholeJob
from jobcard.core.states import JobState, note
from jobcard.moving.whole import canonical, newest_first, once_keys, records

TEXT = "naïve — 你好 🐘 \\ \" ' % _ \t end"
LARGE = '"' + "x" * 200_000 + '"'


def fill(store: Backend, *, jobs: int = 300) -> None:
    """Jobs in every state and under every hold, with every field there is; keys, queues, schedules."""
    for number in range(jobs // 6):
        for state in JobState:
            factory.job_in_state(store, state, tags=f'["t{number % 3}"]', args=f"[{number}]", priority=number % 5 - 2)
    at_work = factory.running_job(store, unique_key="report#1", limit_key="#shop", key_limit=2)
    said = note(at_work, ago=5, progress='{"value":0.5}', checkpoint='{"page":7}', lines=((3, TEXT), (1, "two")))
    store.exchange("engine", outcomes=[Outcome(at_work.ref, at_work.token, said)])
    factory.enqueue(store, delay=micros(3600), queue="späte", once_key="bill@1", once_until=store.facts().now + 10**12)
    factory.enqueue(store, unique_key="report#2", kwargs=LARGE[:1000])
    waits = f'[["batch","{UUID(int=7 << 76 | 1 << 63)}","ended"]]'
    factory.enqueue(store, waits_for=waits, delay=micros(3600))
    assert factory.release(store, factory.enqueue(store, waits_for=waits)) == 1
    assert store.put([*_put_aside(store)]) == []
    store.put_once_keys([OnceKey("#tick/nightly@5", factory.new_id(), store.facts().now + 10**13)])
    store.write_record(RecordKind.SCHEDULE, "nightly", '{"when":"0 3 * * *"}')
    store.write_record(RecordKind.TICK, "nightly", '{"at":5}')
    store.write_record(RecordKind.QUEUE, "mail", '{"concurrency":3,"paused":true}')
    store.write_record(RecordKind.ENGINE, "e1", "{}")


def _put_aside(store: Backend) -> Sequence[WholeJob]:
    """What takes long to come about: many tries, a full log, a job that nobody can run, values at their bounds."""
    template = factory.row_of(store, factory.enqueue(store))
    now = template.created_at
    failed = template._replace(
        id=factory.new_id(), state="failed", hold=None, attempt=1_000, max_attempts=1_000, crashes=7, interrupts=3,
        claimed_at=now + 1_000, started_at=now + 2_000, finished_at=now + 3_000, expires_at=now + 10**9,
        claim_token=2_000, version=5_000, reason="error", error_kind="ValueError", keep=10**9, timeout=10**6,
        init='{"args":[1],"kwargs":{}}', args=LARGE, meta='{"traceparent":"00-1"}', batch_id=factory.new_id(),
        parent_id=factory.new_id(), schedule_id="nightly", rate_count=5, rate_per=10**6, limit_key="#shop",
    )  # fmt: skip
    tries = [Attempt(failed.id, 981 + n, now + 1_000 * n, f'{{"attempt":{n}}}') for n in range(LAST_ATTEMPTS)]
    lines = [LogLine(failed.id, now + 1_000 * n, f"{n} {TEXT}") for n in range(500)]
    parked = template._replace(id=factory.new_id(), hold="parked", name="gone.away", rank=-32_767, priority=32_767)
    broken = template._replace(id=factory.new_id(), hold="broken", reason="its record cannot be read", version=9)
    done = template._replace(
        id=factory.new_id(), state="completed", attempt=1, claim_token=1, result=LARGE, finished_at=now, claimed_at=now
    )
    return [WholeJob(failed, tries, lines), *(WholeJob(row, (), ()) for row in (parked, broken, done))]


def everything(store: Backend) -> dict[str, list[object]]:
    """What a store has, in a form that is the same for every kind of store."""
    whole = [job for page in newest_first(store) for job in page]
    keys = [key._replace(until=key.until // 1000) for page in once_keys(store) for key in page]
    return {
        "jobs": sorted(map(canonical, whole)),
        "once keys": sorted(keys),
        "records": sorted((kind, record.key, record.value) for kind, record in records(store)),
    }
