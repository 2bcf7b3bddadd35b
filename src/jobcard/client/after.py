"""What `after=` takes: jobs and batches by their handles or ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from jobcard.client.batches import Batch
from jobcard.client.handles import JobHandle
from jobcard.core import ids
from jobcard.core.dependencies import (
    ANY_END,
    BATCH,
    COMPLETED,
    JOB,
    MOST,
    Dependency,
    Ended,
    circle,
    is_sound,
    to_text,
)
from jobcard.core.view import Job
from jobcard.errors import InvalidJobError, JobNotFoundError

One = JobHandle[Any] | Batch | Job | UUID | str | Ended | Dependency
"""Who may be waited for; a bare id is a job's."""
After = One | Iterable[One]


def check_after(value: object) -> str | None:
    """What a job waits for, as it is stored; None: nothing."""
    if value is None:
        return None
    found = dict.fromkeys(map(_dependency, _each(value)))
    if len(found) > MOST:
        raise InvalidJobError(
            f"after: a job waits for {MOST:,} others at most; put them into a batch and wait for that"
        )
    # Waiting for success waits for the end, too.
    needless = {Dependency(kind, of, ANY_END) for kind, of, until in found if until == COMPLETED}
    return to_text(one for one in found if one not in needless) if found else None


def refuse_circle(after: str | None, job_id: bytes | None, batch_id: bytes | None) -> None:
    """`InvalidJobError` for a job that waits for itself, or for its own batch."""
    if (job_id or batch_id) and (why := circle(after, job_id, batch_id)):
        raise InvalidJobError(f"after: {why}")


def _each(value: object) -> Iterable[object]:
    if isinstance(value, (str, bytes, Dependency)) or not isinstance(value, Iterable):
        return (value,)
    if isinstance(value, Mapping):
        raise _wrong(value)
    return value


def _dependency(value: object) -> Dependency:
    if isinstance(value, Ended):
        return _one(value.of)._replace(until=ANY_END)
    return _one(value)


def _one(value: object) -> Dependency:
    if isinstance(value, Dependency) and is_sound(value):
        return value
    if isinstance(value, Batch):
        return Dependency(BATCH, value.id, COMPLETED)
    if isinstance(value, (JobHandle, Job)):
        return Dependency(JOB, value.id, COMPLETED)
    try:
        return Dependency(JOB, UUID(bytes=ids.parse_id(value)), COMPLETED)
    except JobNotFoundError:
        raise _wrong(value) from None


def _wrong(value: object) -> InvalidJobError:
    shown = repr(value[:40]) if isinstance(value, str) else type(value).__name__
    return InvalidJobError(f"after takes handles or ids of jobs, batches, or Ended(…) of one, not {shown}")
