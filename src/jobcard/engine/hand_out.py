"""Held jobs to workers: an idle one where that pays, then the pipes of those that keep moving."""

from __future__ import annotations

from typing import Any

from jobcard.core import states
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.engine.ahead import Ahead, Waiting
from jobcard.engine.commands import Command, Send
from jobcard.engine.held import WINDOW, WINDOW_TEXT, Worker
from jobcard.engine.pace import MOMENT, Pace
from jobcard.engine.words import Words
from jobcard.workers.messages import LAST_PERMIT

OPEN_SECONDS = 0.05  # short jobs that waited this long are worth one more worker


class HandOut:
    """Who gets what next; it shares the plan's workers, look-ahead and words."""

    def __init__(
        self,
        workers: dict[int, Worker],
        ahead: Ahead,
        pace: Pace,
        words: Words,
        commands: list[Command],
        *,
        slots: int,
        cpus: int,
    ) -> None:
        self.queues: list[Queue] = []
        """The queues served now, in order."""
        self.names: dict[str, dict[str, Any]] = {}
        """What the workers said about the jobs they know."""
        self._workers = workers
        self._ahead = ahead
        self._pace = pace
        self._words = words
        self._commands = commands
        self._slots = slots
        self._cpus = cpus
        self._next_seq = 0

    def hand_out(self, now: float) -> None:
        """Give held jobs to workers: an idle one where that pays, then the windows of those that keep moving."""
        if not self._ahead:
            return
        idle, moving = [], []
        busy = stuck = 0
        for worker in self._workers.values():
            if not worker.idle:
                busy += 1
                if worker.is_stuck(now):
                    stuck += 1
                elif worker.takes and len(worker.sent) <= WINDOW // 2:
                    moving.append(worker)
            elif worker.takes:
                idle.append(worker)
        for worker in idle:
            if busy >= self._slots or not self._opens_a_worker(now, busy - stuck):
                break
            busy += self._fill(worker, now)
        for worker in moving:
            self._fill(worker, now)

    def _opens_a_worker(self, now: float, moving: int) -> bool:
        """Whether the next job is worth one more process: two cores are soon full of short jobs."""
        for queue in self.queues:
            line = self._ahead.line(queue.name)
            if line:
                claim, since = line[0]
                return moving < self._cpus or self._pace.is_slow(claim.name) or now >= since + OPEN_SECONDS
        return False

    def _fill(self, worker: Worker, now: float) -> bool:
        """Give a worker as much as it does in a moment, in order; whether it got anything."""
        room, text = WINDOW - len(worker.sent), WINDOW_TEXT
        seconds = MOMENT - sum(self._pace.expected(given[1].name) for given in worker.sent)
        chunk: list[Waiting] = []
        for queue in self.queues:
            line = self._ahead.line(queue.name)
            if not line or not self._may_join(queue, worker):
                continue
            while line and room and text > 0:
                claim, since = line[0]
                empty = not chunk and not worker.sent
                if states.must_run_alone(claim) or self._wants_fresh(claim):
                    if empty and self._reserve(worker, claim, since, now):
                        line.popleft()
                        return True
                    # It waits for a worker of its own; nothing behind it may pass.
                    return self.send(worker, chunk, now)
                seconds -= self._pace.expected(claim.name)
                if seconds < 0 and not empty:
                    return self.send(worker, chunk, now)
                chunk.append(line.popleft())
                room -= 1
                text -= len(claim.args) + len(claim.kwargs)
        return self.send(worker, chunk, now)

    def send(self, worker: Worker, chunk: list[Waiting], now: float) -> bool:
        if not chunk:
            return False
        if not worker.sent:
            worker.current_since = now
        # Numbers come again after four billion jobs, when nobody has the old ones any more.
        given = [((self._next_seq + place) & LAST_PERMIT, claim, since) for place, (claim, since) in enumerate(chunk)]
        self._next_seq += len(chunk)
        worker.sent.extend(given)
        self._commands.append(Send(worker.number, given))
        return True

    def _may_join(self, queue: Queue, worker: Worker) -> bool:
        # A worker runs one job at a time, so a queue's concurrency is the number of workers that have some of it.
        if queue.concurrency >= self._slots:
            return True
        having = sum(1 for other in self._workers.values() if other is not worker and other.has(queue.name))
        return having < queue.concurrency

    def _wants_fresh(self, claim: Claimed) -> bool:
        return bool(self.names.get(claim.name, {}).get("isolation") == "fresh")

    def _reserve(self, worker: Worker, claim: Claimed, since: float, now: float) -> bool:
        """Keep an empty worker for a job that runs alone; False: it needs a newer one."""
        if self._wants_fresh(claim):
            if worker.served:
                # One makes room for a new one; the others go on with what is theirs.
                if not any(other.is_new for other in self._workers.values()):
                    worker.leaving = True
                return False
            worker.leaving = True
            if not states.must_run_alone(claim):
                return self.send(worker, [(claim, since)], now)
        worker.reserved = (claim, since)
        self._words.move(claim, states.start(claim, ago=0), now)
        return True
