"""Queues: what code declares about one and what the store keeps."""

from __future__ import annotations

from dataclasses import dataclass

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
