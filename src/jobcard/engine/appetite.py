"""How much to claim now: what can run, and a moment's work ahead of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jobcard.backends.base import NOTHING, Want
from jobcard.core.queue import Queue
from jobcard.engine.ahead import Ahead
from jobcard.engine.held import WINDOW, Worker
from jobcard.engine.pace import Pace

AHEAD = 400  # jobs held ready in the engine at most, however short they are


class Appetite:
    """What one engine wants, from what it has."""

    def __init__(self, *, slots: int, cpus: int, most: int) -> None:
        """slots: jobs at once. most: what the store gives in one exchange."""
        self._slots = slots
        self._cpus = cpus
        self._most = most

    def want(
        self,
        workers: Collection[Worker],
        ahead: Ahead,
        queues: Sequence[Queue],
        pace: Pace,
        *,
        may_start: bool,
        now: float,
    ) -> tuple[Want, bool]:
        """What to claim, and whether that is enough to be worth asking before anybody calls.

        may_start: whether more workers can be had for the asking.
        """
        held = free = stuck = 0
        for worker in workers:
            held += len(worker.sent) + (worker.reserved is not None)
            if worker.is_stuck(now):
                stuck += 1
            elif worker.takes:
                free += 1
        able = min(self._slots - stuck, free + (2 * self._cpus if may_start else 0))
        if able <= 0:
            return NOTHING, False
        target = able + min(AHEAD + WINDOW, pace.jobs_in_a_moment(AHEAD) * min(able, self._cpus))
        room = min(target - (held - stuck + len(ahead)), self._most)
        if room <= 0:
            return NOTHING, False
        wanted = []
        for queue in queues:
            most = room
            if queue.concurrency < self._slots:
                most = min(room, self._room_of(queue, workers, ahead, pace, now))
            if most > 0:
                wanted.append((queue.name, most))
        if not wanted:
            return NOTHING, False
        total = min(room, sum(most for _name, most in wanted))
        return Want(wanted, total), room >= target // 2 or not ahead

    @staticmethod
    def _room_of(queue: Queue, workers: Collection[Worker], ahead: Ahead, pace: Pace, now: float) -> int:
        held = len(ahead.line(queue.name))
        stuck = 0
        for worker in workers:
            if worker.has(queue.name):
                if worker.is_stuck(now):
                    stuck += 1
                else:
                    held += sum(given[1].queue == queue.name for given in worker.sent)
        return (queue.concurrency - stuck) * (1 + pace.jobs_in_a_moment(WINDOW)) - held
