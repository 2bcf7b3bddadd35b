"""The record of a job, in each form it takes on its way.

    NewJob    what a client hands to a store
    JobRow    everything a store keeps about a job, stored text unread
    Claimed   what an engine gets at a claim and passes to a worker
    Job       what users see

Stored text (`init`, `args`, `kwargs`, `result`, …) is JSON written by `core/codec.py`. Instants and
durations are integer microseconds in every form but the last (see `core/clock.py`); ids are 16 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from jobcard.core import clock, ids
from jobcard.core.dependencies import Dependency
from jobcard.core.states import JobState
from jobcard.core.unique import tick_key

Ref = int | str | bytes
"""What a store finds a claimed job by, fastest: a rowid, a number or the id. Opaque to everyone else."""


class NewJob(NamedTuple):
    """One job to store; the store adds what only it knows: its clock's time."""

    id: bytes
    queue: str
    name: str
    init: str | None
    args: str
    kwargs: str
    priority: int
    rank: int
    order_offset: int
    """`order_at` = `available_at` + this, also when the job comes back later; 0 unless the queue has ageing."""
    delay: int
    """Due this long after the store's now; ignored when `at` is given."""
    at: int | None
    """Due at this instant, whatever the store's clock says."""
    max_attempts: int
    max_crashes: int
    backoff: str
    timeout: int | None
    keep: int | None
    """How long the job is kept after it ended; None: as the engine's settings say."""
    unique_key: str | None
    """No other living job has this key."""
    once_key: str | None
    """No other job gets this key until `once_until`, whatever becomes of this one."""
    once_until: int | None
    replaces: bool
    """Where a waiting job has the unique or once key: that job takes over what this one is to do."""
    limit_key: str | None
    """Jobs with this key share a limit: of those at work at once, of starts in a window of time, or both."""
    key_limit: int | None
    rate_count: int | None
    rate_per: int | None
    batch_id: bytes | None
    parent_id: bytes | None
    schedule_id: str | None
    tags: str | None
    meta: str | None
    waits_for: str | None
    """What must have ended before it may run, as `core/dependencies.py` writes it: it is stored under hold `after`."""


class JobRow(NamedTuple):
    """One job as a store keeps it; every store's `rows.py` yields exactly these fields in this order."""

    id: bytes
    queue: str
    name: str
    init: str | None
    args: str
    kwargs: str
    result: str | None
    priority: int
    rank: int
    order_at: int
    order_offset: int
    hold: str | None
    state: str
    attempt: int
    max_attempts: int
    crashes: int
    max_crashes: int
    interrupts: int
    backoff: str
    timeout: int | None
    keep: int | None
    available_at: int
    created_at: int
    claimed_at: int | None
    started_at: int | None
    finished_at: int | None
    expires_at: int | None
    claimed_by: str | None
    claim_token: int
    lease_until: int | None
    cancel_requested: str | None
    """Why a cancel was asked for, while the job is at work; None: nobody asked."""
    unique_key: str | None
    once_key: str | None
    limit_key: str | None
    key_limit: int | None
    rate_count: int | None
    rate_per: int | None
    batch_id: bytes | None
    parent_id: bytes | None
    schedule_id: str | None
    reason: str | None
    error_kind: str | None
    progress: str | None
    checkpoint: str | None
    tags: str | None
    meta: str | None
    waits_for: str | None
    version: int


class Claimed(NamedTuple):
    """One claimed job: proof of holding it (`ref`, `token`) and what running it needs.

    `find_held` gives the same shape with the state found; a claim always says `claimed`.
    """

    ref: Ref
    token: int
    state: str
    id: bytes
    queue: str
    name: str
    init: str | None
    args: str
    kwargs: str
    priority: int
    rank: int
    order_at: int
    order_offset: int
    attempt: int
    max_attempts: int
    crashes: int
    max_crashes: int
    interrupts: int
    backoff: str
    timeout: int | None
    available_at: int
    created_at: int
    claimed_at: int
    claimed_by: str
    checkpoint: str | None
    limit_key: str | None
    key_limit: int | None
    rate_count: int | None
    rate_per: int | None
    batch_id: bytes | None
    parent_id: bytes | None
    schedule_id: str | None
    tags: str | None
    meta: str | None


class Attempt(NamedTuple):
    """One failed or interrupted try, a record of its own; the store keeps the last 20 of a job.

    error: JSON text of {attempt, kind, type, message, traceback, exit_code, signal, output}.
    """

    job_id: bytes
    attempt: int
    at: int
    error: str


LAST_ATTEMPTS = 20


class LogLine(NamedTuple):
    """One line a job wrote with `ctx.log`, a record of its own; of a job's lines the store keeps the last."""

    job_id: bytes
    at: int
    text: str


LAST_LINES = 1_000
LINES_TEXT = 64 << 10
"""Of a job's log lines the last 1,000 are kept, and no more characters than this (a store may keep somewhat more)."""


class WholeJob(NamedTuple):
    """Everything a store keeps about one job: what is copied, backed up and restored. Both lists oldest first."""

    row: JobRow
    attempts: Sequence[Attempt]
    lines: Sequence[LogLine]


class Dependent(NamedTuple):
    """A job that waits for others, and for which: see `core/dependencies.py`."""

    id: bytes
    waits_for: str | None


class OnceKey(NamedTuple):
    """A once key in force: no job but this one gets it until `until`, whatever became of that one."""

    key: str
    job_id: bytes
    until: int


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
