"""A job as lists and links show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from jobcard.client.browsing import moment, tags_of
from jobcard.dashboard.asking import Ask
from jobcard.dashboard.views.values import reason_of

if TYPE_CHECKING:
    from jobcard.core.job import JobRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """A job at a glance: its stamps, and nothing that it brought along or returned."""

    id: UUID
    name: str
    queue: str
    state: str
    hold: str | None
    priority: int
    attempt: int
    max_attempts: int
    created_at: datetime
    available_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    reason: str | None
    error_kind: str | None
    schedule: str | None
    tags: tuple[str, ...]


def glance_at(row: JobRow, ask: Ask) -> Glance:
    """A stored job at a glance; also one whose arguments cannot be read."""
    return Glance(
        id=UUID(bytes=row.id),
        name=row.name,
        queue=row.queue,
        state=row.state,
        hold=row.hold,
        priority=row.priority,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        created_at=moment(row.created_at),
        available_at=moment(row.available_at),
        started_at=None if row.started_at is None else moment(row.started_at),
        finished_at=None if row.finished_at is None else moment(row.finished_at),
        cancel_requested=row.cancel_requested is not None,
        reason=reason_of(row, ask),
        error_kind=row.error_kind,
        schedule=row.schedule_id,
        tags=tags_of(row, ask.reading.parts.codec),
    )
