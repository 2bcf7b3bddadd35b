"""Which queue is served next, and how much of the room it may get: by priority, strictly."""

from __future__ import annotations

from collections.abc import Sequence

from jobcard.core.queue import Queue


class Turns:
    """The turns of the queues of one engine."""

    def order(self, queues: Sequence[Queue], now: float) -> list[Queue]:
        """The queues in the order to serve now."""
        return sorted(queues, key=lambda queue: (-queue.priority, queue.name))

    def quota(self, queue: Queue, room: int) -> int:
        """The most that a queue may get of this room."""
        return room

    def took(self, name: str, number: int, now: float) -> None:
        """So many jobs came from this queue."""
