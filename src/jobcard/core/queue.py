"""Queues: what code declares about one and what the store keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from jobcard.core import clock, limits
from jobcard.core.job import NewJob
from jobcard.core.rates import QueueLimit, RateLimit, check_rate
from jobcard.errors import ConfigError, CorruptRecordError

DEFAULT_CONCURRENCY = 10


@dataclass(frozen=True, slots=True)
class Queue:
    """A line of jobs and how fast engines may take from it.

    concurrency: jobs of this queue at once in one engine, 1..10,000.
    priority: queues with a higher one are served first, strictly; -32,768..32,767.
    weight: as soon as one queue has another than 1, engines share their jobs out by weight, not by priority; 1..1,000.
    global_concurrency: jobs of this queue at once over all engines, 1..10,000; None: nothing but what engines can do.
    rate: how many of its jobs may start in a window of time over all engines; None: nothing bounds it.
    ageing: seconds of waiting that count as much as one point of priority, for jobs within the queue and for the
    queue beside others, so that none waits for ever; None: priority is strict.
    paused: engines take nothing from it. paused_by, paused_since: who paused it, and when; two queues that differ in
    nothing else are equal.
    """

    name: str
    concurrency: int = DEFAULT_CONCURRENCY
    priority: int = 0
    weight: int = 1
    global_concurrency: int | None = None
    rate: RateLimit | None = None
    ageing: float | None = None
    paused: bool = False
    paused_by: str | None = field(default=None, compare=False, kw_only=True)
    paused_since: datetime | None = field(default=None, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        limits.check_name(self.name, "queue", error=ConfigError)
        limits.check_whole(self.concurrency, "concurrency", 1, limits.MAX_CONCURRENCY, error=ConfigError)
        limits.check_whole(self.priority, "priority", limits.MIN_PRIORITY, limits.MAX_PRIORITY, error=ConfigError)
        limits.check_whole(self.weight, "weight", 1, limits.MAX_WEIGHT, error=ConfigError)
        if self.global_concurrency is not None:
            most = limits.MAX_CONCURRENCY
            limits.check_whole(self.global_concurrency, "global_concurrency", 1, most, error=ConfigError)
        check_rate(self.rate)
        if self.ageing is not None:
            ageing = limits.check_duration(self.ageing, "ageing", clock.SECOND // 1000, clock.DAY, error=ConfigError)
            object.__setattr__(self, "ageing", ageing / clock.SECOND)
        if not isinstance(self.paused, bool):
            raise ConfigError(f"paused must be True or False, not {type(self.paused).__name__}")

    @property
    def limit(self) -> QueueLimit | None:
        """What bounds it over all engines; None: nothing."""
        if self.global_concurrency is None and self.rate is None:
            return None
        return QueueLimit(self.global_concurrency, None if self.rate is None else self.rate.rate)


def queue_to_text(queue: Queue, *, declared: Queue | None = None) -> str:
    """A queue as its small record. declared: what code last said, so that a start re-applies only what it changed."""
    document = _fields(queue)
    if declared is not None:
        document["declared"] = _fields(declared)
    return json.dumps(document, separators=(",", ":"))


def queue_from_text(name: str, text: str) -> tuple[Queue, Queue | None]:
    """The queue of a small record, and what code last declared about it; `CorruptRecordError` when it is unreadable."""
    try:
        document = json.loads(text)
        declared = document.get("declared")
        return _queue(name, document), None if declared is None else _queue(name, declared)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptRecordError(f"the record of queue {name} cannot be read") from error


def queue_from_plain(plain: Mapping[str, Any]) -> Queue:
    """A queue of what `dataclasses.asdict` makes of one."""
    return _queue(plain["name"], plain)


def reconcile(stored: Queue, last_declared: Queue | None, declared: Queue) -> Queue:
    """What a start makes of a stored queue: only a changed declaration counts, and a pause stays."""
    if last_declared is not None and replace(last_declared, paused=False) == replace(declared, paused=False):
        return stored
    return replace(declared, paused=stored.paused, paused_by=stored.paused_by, paused_since=stored.paused_since)


def queue_to_plain(queue: Queue) -> dict[str, Any]:
    """A queue that code declared as JSON-able data, for the engine's process; `queue_from_plain` reads it."""
    return {"name": queue.name, **_fields(queue)}


def in_line(job: NewJob, ageing: Mapping[str, int]) -> NewJob:
    """The job as it is to be stored. ageing: of the queues that have one, in microseconds for a point of priority.

    In such a queue a job has rank 0 and stands `priority * ageing` before the moment it is due.
    """
    points = ageing.get(job.queue)
    return job if points is None else job._replace(rank=0, order_offset=-job.priority * points)


_FIELDS = tuple(field.name for field in fields(Queue) if field.name != "name")


def _queue(name: str, document: Mapping[str, Any]) -> Queue:
    # A newer version may have written more than we know of.
    known = {name: value for name, value in document.items() if name in _FIELDS}
    if known.get("rate") is not None:
        known["rate"] = RateLimit(**known["rate"])
    if known.get("paused_since") is not None:
        known["paused_since"] = clock.to_datetime(known["paused_since"])
    return Queue(name, **known)


def _fields(queue: Queue) -> dict[str, object]:
    found = {name: getattr(queue, name) for name in _FIELDS}
    if queue.rate is not None:
        found["rate"] = {"count": queue.rate.count, "per": queue.rate.per}
    for name in ("paused_by", "paused_since"):
        if found[name] is None:
            del found[name]
    if queue.paused_since is not None:
        found["paused_since"] = clock.to_instant(queue.paused_since)
    return found
