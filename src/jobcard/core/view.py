"""The `Job` that users see, from what a store keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.core import clock, ids
from jobcard.core.dependencies import Dependency, from_text
from jobcard.core.job import Attempt, Claimed, JobRow, LogLine
from jobcard.core.states import JobState
from jobcard.core.unique import tick_key
from jobcard.errors import CorruptRecordError

if TYPE_CHECKING:
    from jobcard.core.codec import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job says it is. value: 0..1. text: its own words. at: when it said so."""

    value: float
    text: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when it was read; ask again with `jobs.get(job.id)`.

    Instants are aware datetimes in UTC, durations timedeltas, None: not (yet) so.
    """

    id: UUID
    queue: str
    name: str
    init: dict[str, Any] | None
    """Constructor arguments of a class job, {"args": [...], "kwargs": {...}}; None for a function."""
    args: list[Any]
    kwargs: dict[str, Any]
    result: Any
    state: JobState
    hold: str | None
    """Why a waiting job may not be claimed: delay, limit, after, batch, parked, broken; None: it may."""
    priority: int
    attempt: int
    max_attempts: int
    crashes: int
    interrupts: int
    timeout: timedelta | None
    available_at: datetime
    created_at: datetime
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    claimed_by: str | None
    claim_token: int
    lease_until: datetime | None
    cancel_requested: bool
    unique_key: str | None
    """No other living job has this key; None: it is not unique, or is so for a time, by `once_key`."""
    once_key: str | None
    """No other job gets this key while its time lasts, whatever becomes of this one; of a tick "#tick/…"."""
    limit_key: str | None
    """What it shares limits under: "name" or "name#digest", "#text" where a function gave the text; None: none."""
    batch_id: UUID | None
    after: tuple[Dependency, ...]
    """What it waits for, or has waited for, before it may run: (kind job or batch, id, until completed or ended)."""
    parent_id: UUID | None
    schedule: str | None
    reason: str | None
    error_kind: str | None
    progress: Progress | None
    checkpoint: Any
    tags: tuple[str, ...]
    meta: dict[str, Any]
    errors: Sequence[dict[str, Any]]
    """One entry per failed or interrupted try, oldest first, the last 20."""
    log: Sequence[tuple[datetime, str]] = ()
    """The last lines it wrote with `ctx.log`, oldest first; in a list of jobs they are left out."""

    @property
    def error(self) -> dict[str, Any] | None:
        """The last recorded error, or None."""
        return self.errors[-1] if self.errors else None

    @property
    def scheduled_for(self) -> datetime:
        """The tick a schedule made this job for; for other jobs, those of `run_now` too, when they are due."""
        if self.schedule is not None:
            # A tick's moment is in its job's id: that stays, whatever jitter and retries make of `available_at`.
            tick = ids.moment_of(self.id.bytes)
            if self.id.bytes == ids.tick_id(tick_key(self.schedule, tick), tick):
                return clock.to_datetime(tick)
        return self.available_at


def job_from_row(row: JobRow, attempts: Iterable[Attempt], codec: Codec, *, lines: Iterable[LogLine] = ()) -> Job:
    """A stored job, its recorded tries and log lines; `CorruptRecordError` when a field cannot be read."""
    try:
        return Job(
            id=UUID(bytes=row.id),
            queue=row.queue,
            name=row.name,
            init=_load(codec, row.init),
            args=codec.loads(row.args),
            kwargs=codec.loads(row.kwargs),
            result=_load(codec, row.result),
            state=JobState(row.state),
            hold=row.hold,
            priority=row.priority,
            attempt=row.attempt,
            max_attempts=row.max_attempts,
            crashes=row.crashes,
            interrupts=row.interrupts,
            timeout=None if row.timeout is None else clock.to_timedelta(row.timeout),
            available_at=clock.to_datetime(row.available_at),
            created_at=clock.to_datetime(row.created_at),
            claimed_at=_moment(row.claimed_at),
            started_at=_moment(row.started_at),
            finished_at=_moment(row.finished_at),
            expires_at=_moment(row.expires_at),
            claimed_by=row.claimed_by,
            claim_token=row.claim_token,
            lease_until=_moment(row.lease_until),
            cancel_requested=row.cancel_requested is not None,
            unique_key=row.unique_key,
            once_key=row.once_key,
            limit_key=row.limit_key,
            batch_id=_id(row.batch_id),
            after=from_text(row.waits_for),
            parent_id=_id(row.parent_id),
            schedule=row.schedule_id,
            reason=row.reason,
            error_kind=row.error_kind,
            progress=_progress(codec, row.progress),
            checkpoint=_load(codec, row.checkpoint),
            tags=tuple(_load(codec, row.tags) or ()),
            meta=_load(codec, row.meta) or {},
            errors=[error_of(attempt, codec) for attempt in attempts],
            log=[(clock.to_datetime(line.at), line.text) for line in lines],
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CorruptRecordError(f"the record of job {row.id.hex()} cannot be read") from error


def job_from_claim(claim: Claimed, codec: Codec) -> Job:
    """A job at work as its worker knows it: earlier errors and the lease stay in the store."""
    return Job(
        id=UUID(bytes=claim.id),
        queue=claim.queue,
        name=claim.name,
        init=_load(codec, claim.init),
        args=codec.loads(claim.args),
        kwargs=codec.loads(claim.kwargs),
        result=None,
        state=JobState.RUNNING,
        hold=None,
        priority=claim.priority,
        attempt=claim.attempt,
        max_attempts=claim.max_attempts,
        crashes=claim.crashes,
        interrupts=claim.interrupts,
        timeout=None if claim.timeout is None else clock.to_timedelta(claim.timeout),
        available_at=clock.to_datetime(claim.available_at),
        created_at=clock.to_datetime(claim.created_at),
        claimed_at=clock.to_datetime(claim.claimed_at),
        started_at=None,
        finished_at=None,
        expires_at=None,
        claimed_by=claim.claimed_by,
        claim_token=claim.token,
        lease_until=None,
        cancel_requested=False,
        unique_key=None,
        once_key=None,
        limit_key=claim.limit_key,
        batch_id=_id(claim.batch_id),
        after=(),
        parent_id=_id(claim.parent_id),
        schedule=claim.schedule_id,
        reason=None,
        error_kind=None,
        progress=None,
        checkpoint=_load(codec, claim.checkpoint),
        tags=tuple(_load(codec, claim.tags) or ()),
        meta=_load(codec, claim.meta) or {},
        errors=(),
    )


def _load(codec: Codec, text: str | None) -> Any:
    return None if text is None else codec.loads(text)


def _moment(instant: int | None) -> datetime | None:
    return None if instant is None else clock.to_datetime(instant)


def _id(value: bytes | None) -> UUID | None:
    return None if value is None else UUID(bytes=value)


def _progress(codec: Codec, text: str | None) -> Progress | None:
    if text is None:
        return None
    # stored: {"value": 0..1, "text": text or null, "at": microseconds}
    said = codec.loads(text)
    return Progress(value=said["value"], text=said["text"], at=clock.to_datetime(said["at"]))


def error_of(attempt: Attempt, codec: Codec) -> dict[str, Any]:
    """A recorded try as users see it, with the moment it ended."""
    return {**codec.loads(attempt.error), "at": clock.to_datetime(attempt.at)}
