"""Queues: what code declares about one and what the store keeps."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace

from jobcard.core import limits
from jobcard.errors import ConfigError

DEFAULT_CONCURRENCY = 10


@dataclass(frozen=True, slots=True)
class Queue:
    """A line of jobs and how fast engines may take from it.

    concurrency: jobs of this queue at once in one engine, 1..10,000.
    priority: queues with a higher one are served first, strictly; -32,768..32,767.
    paused: engines take nothing from it.
    """

    name: str
    concurrency: int = DEFAULT_CONCURRENCY
    priority: int = 0
    paused: bool = False

    def __post_init__(self) -> None:
        limits.check_name(self.name, "queue", error=ConfigError)
        limits.check_whole(self.concurrency, "concurrency", 1, limits.MAX_CONCURRENCY, error=ConfigError)
        limits.check_whole(self.priority, "priority", limits.MIN_PRIORITY, limits.MAX_PRIORITY, error=ConfigError)
        if not isinstance(self.paused, bool):
            raise ConfigError(f"paused must be True or False, not {type(self.paused).__name__}")


def queue_to_text(queue: Queue, *, declared: Queue | None = None) -> str:
    """A queue as its small record. declared: what code last said, so that a start re-applies only what it changed."""
    document = _fields(queue)
    if declared is not None:
        document["declared"] = _fields(declared)
    return json.dumps(document, separators=(",", ":"))


def queue_from_text(name: str, text: str) -> tuple[Queue, Queue | None]:
    """The queue of a small record, and what code last declared about it."""
    document = json.loads(text)
    declared = document.pop("declared", None)
    return Queue(name, **document), None if declared is None else Queue(name, **declared)


def reconcile(stored: Queue, last_declared: Queue | None, declared: Queue) -> Queue:
    """What a start makes of a stored queue: only a changed declaration counts, and a pause stays."""
    if last_declared is not None and replace(last_declared, paused=False) == replace(declared, paused=False):
        return stored
    return replace(declared, paused=stored.paused)


def _fields(queue: Queue) -> dict[str, object]:
    return {field.name: getattr(queue, field.name) for field in fields(queue) if field.name != "name"}
