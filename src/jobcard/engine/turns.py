"""Which queue is served next, and how much of the room it may get: by priority, or shared out by weight.

By priority, strictly, until one queue that is served has a weight other than 1. From then on by stride scheduling:
each queue has a `level`, what it was given so far divided by its weight, and the lowest comes first. Pure: time is
handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobcard.core.queue import Queue


@dataclass(slots=True)
class _Line:
    """What is remembered of one queue. since: when its waiting for a turn began."""

    since: float
    level: float
    place: int = 0
    aged: bool = False
    taken: int = 0


class Turns:
    """The turns of the queues of one engine.

    Before each exchange: `order` for the queues to ask, `quota` for the most of each; after it: `took` for each queue
    that jobs came from. Asking twice changes nothing.
    """

    def __init__(self) -> None:
        self._queues: list[Queue] = []
        self._lines: dict[str, _Line] = {}
        self._order: list[Queue] = []
        self._by_weight = False
        self._lasts = True
        """The order is the same until the queues are others."""
        self._unsettled = False

    def order(self, queues: Sequence[Queue], now: float) -> list[Queue]:
        """The queues in the order to serve now."""
        if self._unsettled:
            self._settle()
        same = self._queues == list(queues)
        if same and self._lasts:
            return list(self._order)
        if not same:
            self._know(list(queues), now)
        if self._by_weight:
            self._order = sorted(
                self._queues, key=lambda queue: (self._lines[queue.name].level, -queue.priority, queue.name)
            )
        else:
            urgent = {queue.name: self._urgency(queue, now) for queue in self._queues}
            # At a draw the one that has risen: it has waited.
            self._order = sorted(self._queues, key=lambda queue: (-urgent[queue.name], queue.priority, queue.name))
        highest = None
        for place, queue in reversed(list(enumerate(self._order))):
            line = self._lines[queue.name]
            line.place = place
            line.aged = not self._by_weight and highest is not None and queue.priority < highest
            highest = queue.priority if highest is None else max(highest, queue.priority)
        return list(self._order)

    def quota(self, queue: Queue, room: int) -> int:
        """The most that a queue may get of this room, while the others of the last `order` may want their part.

        room: that of the whole exchange, the same for all of them.
        """
        line = self._lines[queue.name]
        if room <= 1 or line.place == len(self._order) - 1:
            return room  # the last in the order gets what the others leave
        if line.aged:
            return 1  # its age puts it before a higher priority: that shall not cost the others a whole room
        if not self._by_weight:
            return room
        return max(1, round((self._waterline(room) - line.level) * queue.weight))

    def took(self, name: str, number: int, now: float) -> None:
        """So many jobs came from this queue."""
        line = self._lines.get(name)
        if line is not None and number > 0 and not self._lasts:
            line.taken += number
            line.since = now
            self._unsettled = True

    # -------------------------------------------------------------- the parts

    def _know(self, queues: list[Queue], now: float) -> None:
        by_weight = any(queue.weight != 1 for queue in queues)
        if by_weight and not self._by_weight:
            # What was taken by priority is no debt.
            for line in self._lines.values():
                line.level = 0.0
        # One that is new, or comes back, starts where the least served one is: no turns are saved up meanwhile.
        present = min((line.level for line in self._lines.values()), default=0.0)
        self._lines = {queue.name: self._lines.get(queue.name) or _Line(now, present) for queue in queues}
        self._queues = queues
        self._by_weight = by_weight
        self._lasts = not self._by_weight and all(queue.ageing is None for queue in queues)

    def _urgency(self, queue: Queue, now: float) -> float:
        if queue.ageing is None:
            return queue.priority
        return queue.priority + max(0.0, now - self._lines[queue.name].since) / queue.ageing

    def _settle(self) -> None:
        """Charge what was taken; what was asked in vain saves nothing up."""
        reached = max((line for line in self._lines.values() if line.taken), key=lambda line: line.place)
        at = reached.level
        for queue in self._order:
            line = self._lines[queue.name]
            line.level += line.taken / queue.weight
            if line.place < reached.place:
                # It was asked before that one was. If it gave nothing, or less than its part, it had no more to give.
                line.level = max(line.level, at)
                line.since = max(line.since, reached.since)
        for line in self._lines.values():
            line.taken = 0
        self._unsettled = False

    def _waterline(self, room: int) -> float:
        """The level that all queues below it rise to when this room is shared out, lowest first."""
        weights = filled = 0.0
        level = 0.0
        for queue in self._order:
            own = self._lines[queue.name].level
            if weights and level <= own:
                break
            weights += queue.weight
            filled += own * queue.weight
            level = (room + filled) / weights
        return level
