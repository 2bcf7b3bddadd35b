"""Held jobs to workers: an idle one where that pays, then the pipes of those that keep moving."""

from __future__ import annotations

from collections.abc import Sequence

from jobcard.core import states
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.engine.ahead import Ahead, Waiting
from jobcard.engine.commands import Send
from jobcard.engine.hand import Common
from jobcard.engine.held import WINDOW, WINDOW_TEXT, Worker
from jobcard.engine.pace import MOMENT, Pace
from jobcard.engine.turns import Turns
from jobcard.workers.messages import LAST_PERMIT

OPEN_SECONDS = 0.05  # short jobs that waited this long are worth one more worker


class HandOut:
    """Who of the crew gets what next; it shares the crew's workers, look-ahead and words."""

    def __init__(self, common: Common, ahead: Ahead, pace: Pace) -> None:
        self._names = common.names
        self._workers = common.workers
        self._ahead = ahead
        self._pace = pace
        self._words = common.words
        self._commands = common.commands
        self._places = common.places
        self._cpus = common.cpus
        self._turns = Turns()
        self._now_serving: list[Queue] = []
        self._next_seq = 0

    def hand_out(self, queues: Sequence[Queue], now: float) -> None:
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
        self._now_serving = self._turns.order(queues, now)
        for worker in idle:
            if busy >= self._places.of_processes or not self._opens_a_worker(now, busy - stuck):
                break
            busy += self._fill(worker, now)
        for worker in moving:
            self._fill(worker, now)

    def _opens_a_worker(self, now: float, moving: int) -> bool:
        """Whether the next job is worth one more process: two cores are soon full of short jobs."""
        for queue in self._now_serving:
            line = self._ahead.line(queue.name)
            if line:
                claim, since = line[0]
                worth_it = self._pace.is_slow(claim.name) or self._names.is_limited(claim)
                return worth_it or moving < self._cpus or now >= since + OPEN_SECONDS
        return False

    def _fill(self, worker: Worker, now: float) -> bool:
        """Give a worker as much as it does in a moment, in order; whether it got anything."""
        room, text = WINDOW - len(worker.sent), WINDOW_TEXT
        seconds = MOMENT - sum(self._pace.expected(given[1].name) for given in worker.sent)
        chunk: list[Waiting] = []
        whole = room
        for queue in self._now_serving:
            line = self._ahead.line(queue.name)
            if not line or not self._may_join(queue, worker):
                continue
            last = room - self._turns.quota(queue, whole)
            while line and room > max(0, last) and text > 0:
                claim, since = line[0]
                empty = not chunk and not worker.sent
                if states.must_run_alone(claim) or self._names.wants_fresh(claim):
                    if empty and self._reserve(worker, claim, since, now):
                        self._ahead.take_first(queue.name)
                        return True
                    # It waits for a worker of its own; nothing behind it may pass.
                    return self.send(worker, chunk, now)
                if not empty and self._names.is_limited(claim):
                    return self.send(worker, chunk, now)  # behind another it would keep its place from those who wait
                seconds -= self._pace.expected(claim.name)
                if seconds < 0 and not empty:
                    return self.send(worker, chunk, now)
                chunk.append(self._ahead.take_first(queue.name))
                room -= 1
                text -= len(claim.args) + len(claim.kwargs)
        return self.send(worker, chunk, now)

    def send(self, worker: Worker, chunk: list[Waiting], now: float) -> bool:
        """Give a worker these, in this order; False: there are none."""
        if not chunk:
            return False
        if not worker.sent:
            worker.current_since = now
        # Numbers come again after four billion jobs, when nobody has the old ones any more.
        given = [((self._next_seq + place) & LAST_PERMIT, claim, since) for place, (claim, since) in enumerate(chunk)]
        self._next_seq += len(chunk)
        if len(self._now_serving) > 1:
            for name in {claim.queue for claim, _since in chunk}:
                self._turns.took(name, sum(claim.queue == name for claim, _since in chunk), now)
        worker.sent.extend(given)
        self._commands.append(Send(worker.number, given))
        return True

    def _may_join(self, queue: Queue, worker: Worker) -> bool:
        return not self._places.binds(queue) or self._places.left_in(queue, but=worker) > 0

    def _reserve(self, worker: Worker, claim: Claimed, since: float, now: float) -> bool:
        """Keep an empty worker for a job that runs alone; False: it needs a newer one."""
        if self._names.wants_fresh(claim):
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
