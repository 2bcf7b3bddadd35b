"""The record of a job, in each form it takes on its way; what users see is in `view.py`.

    NewJob    what a client hands to a store
    JobRow    everything a store keeps about a job, stored text unread
    Claimed   what an engine gets at a claim and passes to a worker

Stored text (`init`, `args`, `kwargs`, `result`, …) is JSON written by `core/codec.py`. Instants and
durations are integer microseconds (see `core/clock.py`); ids are 16 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
    version: int
    """Of its row as it was read: while it is the same, so is what the job waits for."""


class OnceKey(NamedTuple):
    """A once key in force: no job but this one gets it until `until`, whatever became of that one."""

    key: str
    job_id: bytes
    until: int
