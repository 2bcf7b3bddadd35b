"""The process workers of an engine: how many there are, what is due for the job each runs, and their end."""

from __future__ import annotations

from collections.abc import Callable

from jobcard.core import clock, states
from jobcard.core.job import Claimed
from jobcard.core.settings import Settings
from jobcard.engine.ahead import Ahead
from jobcard.engine.commands import Command, Kill, Recall, Retire, Spawn, Tell
from jobcard.engine.hand_out import OPEN_SECONDS
from jobcard.engine.held import HELLO_SECONDS, RECYCLE_SECONDS, STAMP_SECONDS, Told, Worker
from jobcard.engine.pace import Pace
from jobcard.engine.words import Words
from jobcard.workers.messages import Why

SPARE_SECONDS = 60.0  # an idle worker ends after this
LOST_GRACE = 0.1  # of the lease, at most: how long a job whose claim is gone may take to end when it is told


class Crew:
    """Starts, watches and ends the workers that run one job at a time; it shares the plan's words and commands."""

    def __init__(
        self,
        settings: Settings,
        workers: dict[int, Worker],
        ahead: Ahead,
        pace: Pace,
        words: Words,
        commands: list[Command],
        *,
        cpus: int,
        tells: Callable[[Claimed], bool],
        now: float,
    ) -> None:
        """tells: whether a job whose claim is lost wants to be told so, not killed."""
        self.recycle_seconds = RECYCLE_SECONDS
        self._settings = settings
        self._workers = workers
        self._ahead = ahead
        self._pace = pace
        self._words = words
        self._commands = commands
        self._slots = settings.slots
        self._cpus = cpus
        self._tells = tells
        self._next_number = 0
        self._spawn_at = now
        self._failed_spawns = 0

    @property
    def may_start(self) -> bool:
        """Whether more workers can be had for the asking: the last ones that were started came up."""
        return not self._failed_spawns

    @property
    def is_growing(self) -> bool:
        """Whether a worker is on its way."""
        return self.may_start and any(not worker.ready for worker in self._workers.values())

    def adopt(self, number: int) -> None:
        """A worker that was started before us."""
        self._workers[number] = Worker(number)
        self._next_number = number + 1

    def hello(self, number: int, now: float) -> None:
        """A worker is ready."""
        worker = self._workers[number]
        worker.ready = True
        worker.current_since = worker.ready_since = now
        self._failed_spawns = 0
        self._spawn_at = now

    def never_came_up(self, now: float) -> None:
        """A worker ended before its hello: the next one comes later and later."""
        self._failed_spawns += 1
        self._spawn_at = now + min(30.0, 0.5 * 2 ** min(self._failed_spawns, 6))

    # -------------------------------------------------------------- how many

    def size(self, now: float, *, base: int, one_new: bool) -> None:
        """Enough workers for what could run now, and one spare that has imported the app.

        base: how many there shall be at least beside the spare. one_new: somebody needs one that has run nothing.
        """
        staying = [worker for worker in self._workers.values() if not worker.leaving and worker.killed is None]
        busy = sum(not worker.idle for worker in staying)
        wanted = min(self._slots, max(base, busy + self._worth_a_worker(now))) + 1
        worn = [
            worker
            for worker in staying
            if worker.is_worn(self._settings.recycle_after, now, after=self.recycle_seconds)
        ]
        if worn and len(staying) >= wanted and self._has_stand_in(staying):
            worn[0].leaving = True
            staying.remove(worn[0])
        missing = wanted - len(staying)
        if (one_new or worn) and not any(worker.is_new for worker in staying):
            missing = max(missing, 1)
        missing = min(missing, 2 * self._cpus - sum(not worker.ready for worker in staying))
        if missing > 0 and now >= self._spawn_at:
            for _ in range(1 if self._failed_spawns else missing):
                self._workers[self._next_number] = Worker(self._next_number, current_since=now)
                self._commands.append(Spawn(self._next_number))
                self._next_number += 1
        for worker in staying[wanted:]:
            if worker.ready and worker.idle and now - worker.current_since > SPARE_SECONDS:
                worker.leaving = True

    @staticmethod
    def _has_stand_in(staying: list[Worker]) -> bool:
        # All of them ready: one that is on its way may be the stand-in of a worker that left before.
        return all(worker.ready for worker in staying) and any(worker.is_new for worker in staying)

    def _worth_a_worker(self, now: float) -> int:
        """How many of the jobs held ready deserve a worker of their own."""
        worth = 0
        for claim, _since in self._ahead:
            worth += self._pace.is_slow(claim.name)
            if worth >= self._slots:
                return worth
        if not worth and any(now >= line[0][1] + OPEN_SECONDS for _queue, line in self._ahead.lines()):
            return 1
        return worth

    # -------------------------------------------------------------- what is due

    def watch(self, now: float) -> None:
        """Time-outs, grace that is over, starts to be stamped, windows to be taken back, empty workers to be ended."""
        for worker in self._workers.values():
            if worker.killed is not None:
                continue
            if not worker.ready and now >= worker.current_since + HELLO_SECONDS:
                self.kill(worker, "start")
            if not worker.sent:
                if worker.leaving and worker.reserved is None and not worker.retired:
                    worker.retired = True
                    self._commands.append(Retire(worker.number))
                continue
            seq, claim, _since = worker.sent[0]
            # Compared as `next_time` computes it: the other way round a rounding error would let the moment pass.
            if claim.timeout is not None and now >= worker.current_since + claim.timeout / clock.SECOND:
                self.kill(worker, "timeout")
                continue
            if worker.lost and seq in worker.lost:
                self._end_lost(worker, claim, now)
            told = worker.told
            if told is not None and told.seq == seq and now >= told.kill_at:
                self.kill(worker, told.why)
                continue
            if worker.is_stuck(now) and len(worker.sent) > 1 and worker.recalled != seq:
                worker.recalled = seq
                self._commands.append(Recall(worker.number))
            if now >= worker.current_since + STAMP_SECONDS and worker.stamped != seq:
                worker.stamped = seq
                ago = round((now - worker.current_since) * clock.SECOND)
                self._words.move(claim, states.start(claim, ago=ago), now)

    # -------------------------------------------------------------- telling and killing

    def _end_lost(self, worker: Worker, claim: Claimed, now: float) -> None:
        """Somebody else may have the job that it runs."""
        if self._tells(claim):
            grace = min(self._settings.cancel_grace, LOST_GRACE * self._settings.lease)
            self.tell(worker, Why.LOST, "its claim is gone", now + grace)
        else:
            self.kill(worker, "lost")

    def tell(self, worker: Worker, why: str, reason: str, kill_at: float) -> None:
        """Tell the job it runs to end; killed at `kill_at` when it has not. A cancel outweighs what was said before."""
        if worker.killed is not None:
            return
        told = worker.told_now()
        if told is not None:
            kill_at = min(kill_at, told.kill_at)
            if why != Why.CANCEL or told.why == Why.CANCEL:
                why, reason = told.why, told.reason
        worker.told = Told(worker.sent[0][0], why, reason, kill_at)
        if told is None or told.why != why:
            self._commands.append(Tell(worker.number, worker.sent[0][0], why, reason))

    def kill(self, worker: Worker, why: str) -> None:
        """Kill a worker for the job it runs, once."""
        if worker.killed is None:
            worker.killed = (worker.sent[0][0] if worker.sent else -1, why)
            self._commands.append(Kill(worker.number))

    def recall(self, worker: Worker) -> None:
        """Take back what it has not started, once for the job it runs."""
        if len(worker.sent) > 1 and worker.recalled != worker.sent[0][0]:
            worker.recalled = worker.sent[0][0]
            self._commands.append(Recall(worker.number))
