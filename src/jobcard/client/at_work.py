"""What is at work now: how far the limits of queues are used, and until when jobs are held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from jobcard.backends.pages import readable
from jobcard.core import clock
from jobcard.core.rates import QueueLimit, Starts
from jobcard.core.states import AT_WORK

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.core.queue import Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueUse:
    """How far the limits of a queue are used. at_work: its jobs that are claimed or running.

    started: how many of its rate's starts are used up; None: it has no rate. full_until: when its rate lets the next
    one start; None: at once.
    """

    at_work: int
    started: int | None
    full_until: datetime | None


def use_of(parts: Parts, queues: Sequence[Queue]) -> dict[str, QueueUse]:
    """Of these queues, by name."""
    with parts.connection as store:
        now = store.facts().now
        used, _ = store.usage([queue.name for queue in queues], [])
    found = {}
    for queue in queues:
        of_it = used[queue.name]
        started, full_until = _of_rate(queue.limit, of_it.starts, now)
        found[queue.name] = QueueUse(at_work=of_it.at_work, started=started, full_until=full_until)
    return found


def _of_rate(limit: QueueLimit | None, starts: Starts, now: int) -> tuple[int | None, datetime | None]:
    if limit is None or limit.rate is None:
        return None, None
    room, free_at = starts.room(limit.rate, now), starts.free_at(limit.rate, now)
    return limit.rate.most - room, clock.to_datetime(free_at) if free_at > now else None


def leases_of(parts: Parts, job_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Until when up to 1,000 jobs are held by whoever is at them; of those that are at work."""
    if not job_ids:
        return {}
    with parts.connection as store:
        rows = readable(store.get, [job_id.bytes for job_id in job_ids])
    return {
        UUID(bytes=row.id): clock.to_datetime(row.lease_until)
        for row in rows
        if row.state in AT_WORK and row.lease_until is not None
    }
