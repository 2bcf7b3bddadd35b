"""What a job that has not ended is waiting for, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from jobcard.backends.base import Ended, RecordKind
from jobcard.core import clock
from jobcard.core.job import JobRow
from jobcard.core.queue import queue_from_text
from jobcard.core.states import ENDED, Hold, JobState
from jobcard.errors import JobNotFoundError, ResultTimeoutError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts

_HELD = {
    Hold.AFTER: "it waits for other jobs",
    Hold.BATCH: "its batch is not stored whole yet",
    Hold.PARKED: "no live engine knows a job of its name",
    Hold.BROKEN: "its record cannot be read",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason why a job does not run, or that it has ended. until: when it will be over, if that is known."""

    code: str
    text: str
    until: datetime | None = None


_CODES = {Hold.DELAY: "not_due", Hold.AFTER: "dependency", Hold.PARKED: "unknown_name"}


def reasons(parts: Parts, row: JobRow) -> list[Reason]:
    """Why this job does not run."""
    text = explain(parts, row) if row.state not in ENDED else f"it is {row.state}"
    if row.state in ENDED:
        code = "ended"
    elif row.state == JobState.RUNNING:
        code = "running"
    elif row.state == JobState.CLAIMED:
        code = "held"
    elif row.hold is not None:
        code = _CODES.get(Hold(row.hold), "held")
    elif not parts.engines.list():
        code = "no_engine"
    else:
        code = "paused" if _is_paused(parts, row.queue) else "held"
    return [Reason(code=code, text=text, until=clock.to_datetime(row.available_at) if code == "not_due" else None)]


def last_look(parts: Parts, job_id: bytes, waited: float) -> Ended:
    """How the job ended, if it has by now; else `ResultTimeoutError`, saying what it waits for."""
    with parts.connection as store:
        rows = store.get([job_id])
    if not rows:
        raise JobNotFoundError(UUID(bytes=job_id))
    row = rows[0]
    if row.state in ENDED:
        return Ended(row.id, row.state, row.result, row.reason)
    raise ResultTimeoutError(UUID(bytes=job_id), waited, row.state, explain(parts, row))


def explain(parts: Parts, row: JobRow) -> str:
    """Why this job has not ended."""
    if row.state == JobState.RUNNING:
        since = row.started_at or row.claimed_at
        return "it runs" + (f" since {clock.to_datetime(since):%H:%M:%S} UTC" if since is not None else "")
    if row.state == JobState.CLAIMED:
        return f"engine {row.claimed_by} has claimed it"
    if row.hold == Hold.DELAY:
        return f"it is due at {clock.to_datetime(row.available_at).isoformat()}"
    if row.hold is not None:
        return _HELD[Hold(row.hold)]
    if not parts.engines.list():
        return "no engine is alive for this store; start one with jobs.start() or jobs.run()"
    if _is_paused(parts, row.queue):
        return f"its queue {row.queue!r} is paused"
    return f"it waits for its turn in the queue {row.queue!r}"


def _is_paused(parts: Parts, queue: str) -> bool:
    with parts.connection as store:
        records = store.read_records(RecordKind.QUEUE)
    return any(queue_from_text(record.key, record.value)[0].paused for record in records if record.key == queue)
