"""Builds jobs for checks; each check states only what matters to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from jobcard.backends.base import Backend, Completions, Exchanged, Fate, Filter, Outcome, Refusal, Want
from jobcard.conformance.harness import micros
from jobcard.core.ids import IdSource
from jobcard.core.job import Claimed, Dependent, JobRow, NewJob, WholeJob
from jobcard.core.states import Change, Hold, JobState, cancel_waiting, fail, park, start

LEASE = micros(60)
ERROR = '{"kind": "error", "message": "it broke"}'
NO_TEXT = '"\ud800"'
"""Half of a surrogate pair: it has no bytes in UTF-8, so no store can take it."""

_ids = IdSource()


def new_id() -> bytes:
    """An id above all earlier ones."""
    return _ids.take(1)[0]


def new_job(**given: Any) -> NewJob:
    """A job due now in the queue "default"; `priority` sets `rank` too unless both are given."""
    fields: dict[str, Any] = {
        "id": given.get("id") or new_id(),
        "queue": "default",
        "name": "shop.mail",
        "init": None,
        "args": "[]",
        "kwargs": "{}",
        "priority": 0,
        "rank": -given.get("priority", 0),
        "order_offset": 0,
        "delay": 0,
        "at": None,
        "max_attempts": 5,
        "max_crashes": 3,
        "backoff": '{"kind": "exponential"}',
        "timeout": None,
        "keep": None,
        "unique_key": None,
        "once_key": None,
        "once_until": None,
        "replaces": False,
        "limit_key": None,
        "key_limit": None,
        "rate_count": None,
        "rate_per": None,
        "batch_id": None,
        "parent_id": None,
        "schedule_id": None,
        "tags": None,
        "meta": None,
        "waits_for": None,
    }
    return NewJob(**{**fields, **given})


def enqueue(backend: Backend, **given: Any) -> bytes:
    """Store one job; its id."""
    job = new_job(**given)
    assert [answer.fate for answer in backend.enqueue([job])] == [Fate.STORED]
    return job.id


def enqueue_several(backend: Backend, count: int, **given: Any) -> list[bytes]:
    """Store jobs of one kind; their ids, rising."""
    jobs = [new_job(**given) for _ in range(count)]
    assert {answer.fate for answer in backend.enqueue(jobs)} <= {Fate.STORED}
    return [job.id for job in jobs]


def claim_some(
    backend: Backend,
    count: int = 1,
    *,
    owner: str = "engine",
    queues: Sequence[str] = ("default",),
    lease: int = LEASE,
) -> list[Claimed]:
    """Claim up to `count` jobs from each queue and in all."""
    want = Want(queues=[(queue, count) for queue in queues], total=count)
    return backend.exchange(owner, want=want, lease=lease).claimed


def claim_one(backend: Backend, *, owner: str = "engine", queue: str = "default", lease: int = LEASE) -> Claimed:
    """Claim the next job; there must be one."""
    [claim] = claim_some(backend, 1, owner=owner, queues=[queue], lease=lease)
    return claim


def claimed_job(backend: Backend, *, owner: str = "engine", lease: int = LEASE, **given: Any) -> Claimed:
    """Store a job in a queue of its own and claim it."""
    job = new_job(**{"queue": f"only-{new_id().hex()}", **given})
    assert [answer.fate for answer in backend.enqueue([job])] == [Fate.STORED]
    claim = claim_one(backend, owner=owner, queue=job.queue, lease=lease)
    assert claim.id == job.id
    return claim


def running_job(backend: Backend, *, owner: str = "engine", lease: int = LEASE, **given: Any) -> Claimed:
    """Store a job in a queue of its own, claim it and stamp it running; the claim as `find_held` gives it."""
    claim = claimed_job(backend, owner=owner, lease=lease, **given)
    assert settle(backend, claim, start(claim, ago=0), owner=owner) == []
    return claim._replace(state="running")


def pages(backend: Backend, where: Filter, limit: int) -> Iterator[Sequence[JobRow]]:
    """What `list` gives page by page, to the end it says."""
    before_id: bytes | None = None
    while True:
        page = backend.list(where, limit=limit, before_id=before_id)
        assert len(page.rows) <= limit
        yield page.rows
        if page.below is None:
            return
        assert before_id is None or page.below < before_id, "the next page is the one before"
        before_id = page.below


def held_pages(backend: Backend, owners: Sequence[str], *, lapsed: bool, limit: int) -> Iterator[Sequence[Claimed]]:
    """What `find_held` gives page by page, to the end it says."""
    after: Any = None
    while True:
        page = backend.find_held(owners, lapsed=lapsed, limit=limit, after=after)
        assert len(page.claims) <= limit
        yield page.claims
        if page.after is None:
            return
        assert after is None or page.after > after, "the next page is the one before"
        after = page.after


def settle(
    backend: Backend, claim: Claimed, change: Change, *, owner: str = "engine", then: Sequence[NewJob] = ()
) -> list[Refusal]:
    """Apply one holder's change and store the jobs that follow it; what was refused."""
    return backend.exchange(owner, outcomes=[Outcome(claim.ref, claim.token, change, then)]).refusals


def outcome_of(claim: Claimed, change: Change) -> Outcome:
    """One change of a held job."""
    return Outcome(claim.ref, claim.token, change)


def quarantine(claim: Claimed) -> Change:
    """What a store does by itself to a record that it cannot read: out of the line, its bytes kept."""
    change = park(claim)
    return change._replace(verb="quarantine", sets={**change.sets, "hold": Hold.BROKEN, "reason": "broken"})


def complete(
    backend: Backend,
    claims: Claimed | Sequence[Claimed],
    *,
    result: str | None = "null",
    owner: str = "engine",
    started_ago: int = 0,
) -> list[Refusal]:
    """Complete claimed jobs with one result; what was refused."""
    return complete_in_exchange(backend, claims, result=result, owner=owner, started_ago=started_ago).refusals


def complete_in_exchange(
    backend: Backend,
    claims: Claimed | Sequence[Claimed],
    *,
    result: str | None = "null",
    owner: str = "engine",
    started_ago: int = 0,
    want: Want | None = None,
) -> Exchanged:
    """Complete claimed jobs with one result; the whole answer."""
    several = [claims] if isinstance(claims, Claimed) else claims
    return backend.exchange(
        owner,
        completions=completions_of(several, result=result, started_ago=started_ago),
        want=want or Want(),
        lease=LEASE,
    )


def completions_of(claims: Sequence[Claimed], *, result: str | None = "null", started_ago: int = 0) -> Completions:
    """These claims as the columns of an exchange."""
    return Completions(
        refs=[claim.ref for claim in claims],
        tokens=[claim.token for claim in claims],
        results=[result] * len(claims),
        started_ago=[started_ago] * len(claims),
    )


def job_in_state(backend: Backend, state: str, **given: Any) -> bytes:
    """Store a job and bring it into this state; its id."""
    if state == JobState.WAITING:
        return enqueue(backend, **given)
    if state == JobState.CANCELED:
        job_id = enqueue(backend, **given)
        assert backend.apply_by_operator(job_id, cancel_waiting(reason="canceled")) is not None
        return job_id
    claim = running_job(backend, **given) if state == JobState.RUNNING else claimed_job(backend, **given)
    if state == JobState.COMPLETED:
        assert complete(backend, claim) == []
    if state == JobState.FAILED:
        assert settle(backend, claim, fail(claim, reason="error", error=ERROR, kind="ValueError")) == []
    return claim.id


def row_of(backend: Backend, job_id: bytes) -> JobRow:
    """The job as it is stored; it must exist."""
    rows = backend.get([job_id])
    assert len(rows) == 1, f"of the job {job_id.hex()} there are {len(rows)}"
    return rows[0]


def without_version(row: JobRow) -> JobRow:
    """The row but for its version, which rises as each store likes."""
    return row._replace(version=0)


def rows_of(backend: Backend, job_ids: Collection[bytes]) -> dict[bytes, JobRow]:
    """Those of the jobs that exist, by id."""
    return {row.id: row for row in backend.get(list(job_ids))}


def as_read(backend: Backend, job_ids: Sequence[bytes]) -> list[Dependent]:
    """These jobs as an engine reads those that wait for others, whatever they wait for; each must exist."""
    rows = rows_of(backend, job_ids)
    return [Dependent(job_id, rows[job_id].waits_for, rows[job_id].version) for job_id in job_ids]


def release(backend: Backend, *job_ids: bytes) -> int:
    """Release these jobs as they are now; how many waited for others."""
    return backend.release_dependents(as_read(backend, job_ids))


def whole_of(backend: Backend, job_ids: Sequence[bytes]) -> list[WholeJob]:
    """These jobs with all that is kept of them, in the order of the ids; each must exist."""
    rows = rows_of(backend, job_ids)
    tries, lines = backend.attempts(job_ids), backend.log_lines(job_ids)
    return [
        WholeJob(
            rows[job_id],
            [each for each in tries if each.job_id == job_id],
            [each for each in lines if each.job_id == job_id],
        )
        for job_id in job_ids
    ]


def ids_in(backend: Backend) -> list[bytes]:
    """Every job that can be read, by ascending id."""
    return sorted(row.id for page in pages(backend, Filter(), 100) for row in page)


def put_anew(backend: Backend) -> list[WholeJob]:
    """Read every job, empty the store and put them all, as if they had come from elsewhere; what was put."""
    jobs = whole_of(backend, ids_in(backend))
    backend.truncate()
    assert backend.put(jobs) == []
    return jobs
