"""The process workers of an engine, which run one job at a time: how many there are, what they run, and their end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from jobcard.core.job import Claimed, Ref
from jobcard.core.queue import Queue
from jobcard.engine.ahead import Waiting
from jobcard.engine.commands import Recall, Retire, Spawn
from jobcard.engine.hand import CANNOT_RENEW, CLAIM_IS_GONE, ENGINE_STOPS, SPARE_SECONDS, Common, Hand
from jobcard.engine.hand_out import OPEN_SECONDS, HandOut
from jobcard.engine.held import HELLO_SECONDS, InHand, Process, Worker
from jobcard.engine.words import Batch
from jobcard.workers.board import TELL_SIGNAL
from jobcard.workers.messages import Exit, Why


class Crew(Hand):
    """Starts, feeds, watches and ends the workers that run one job at a time."""

    def __init__(self, common: Common, now: float) -> None:
        super().__init__(common)
        self.workers = common.workers
        self._hand_out = HandOut(common, self.ahead, self.pace)
        self._slots = common.settings.slots
        self._cancel_recalls: set[Ref] = set()
        """Canceled jobs that are being taken back."""
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
        return self.may_start and any(not worker.ready for worker in self.workers.values())

    def adopt(self, number: int) -> None:
        """A worker that was started before us."""
        self.workers[number] = Worker(number)
        self._next_number = number + 1

    def hello(self, number: int, now: float) -> None:
        """A worker is ready."""
        worker = self.workers[number]
        worker.ready = True
        worker.current_since = worker.ready_since = now
        self._failed_spawns = 0
        self._spawn_at = now

    # -------------------------------------------------------------- how many

    def size(self, now: float, *, base: int, one_new: bool) -> None:
        """Enough workers for what could run now, and one spare that has imported the app.

        base: how many there shall be at least beside the spare. one_new: somebody needs one that has run nothing.
        """
        staying, worn = [], []
        busy = 0
        for worker in self.workers.values():
            if not worker.leaving and worker.killed is None:
                staying.append(worker)
                busy += not worker.idle
                if self._is_worn(worker, now):
                    worn.append(worker)
        worth = self._worth_a_worker(self._slots - busy, now) if self.ahead else 0
        wanted = min(self._slots, max(base, busy + worth)) + 1
        if worn and len(staying) >= wanted and self._has_stand_in(staying):
            worn[0].leaving = True
            staying.remove(worn[0])
        missing = wanted - len(staying)
        if (one_new or worn) and not any(worker.is_new for worker in staying):
            missing = max(missing, 1)
        if missing > 0 and now >= self._spawn_at:
            missing = min(missing, 2 * self._cpus - sum(not worker.ready for worker in staying))
            for _ in range(min(missing, 1) if self._failed_spawns else missing):
                self.workers[self._next_number] = Worker(self._next_number, current_since=now)
                self._commands.append(Spawn(self._next_number))
                self._next_number += 1
        for worker in staying[wanted:]:
            if worker.ready and worker.idle and now - worker.current_since > SPARE_SECONDS:
                worker.leaving = True

    @staticmethod
    def _has_stand_in(staying: list[Worker]) -> bool:
        # All of them ready: one that is on its way may be the stand-in of a worker that left before.
        return all(worker.ready for worker in staying) and any(worker.is_new for worker in staying)

    def _worth_a_worker(self, most: int, now: float) -> int:
        """How many of the jobs held ready deserve a worker of their own; more than `most` need not be counted."""
        if most <= 0:
            return 0
        worth = 0
        for claim, _since in self.ahead:
            worth += self.pace.is_slow(claim.name) or self._names.is_limited(claim)
            if worth >= most:
                return worth
        if not worth and any(now >= line[0][1] + OPEN_SECONDS for _queue, line in self.ahead.lines()):
            return 1
        return worth

    # -------------------------------------------------------------- who and what there is

    def worker(self, number: int) -> Worker | None:
        return self.workers.get(number)

    def job(self, number: int, seq: int) -> InHand | None:
        worker = self.workers.get(number)
        job = None if worker is None else worker.running()
        return job if job is not None and job.seq == seq else None

    @property
    def idle(self) -> bool:
        return not [worker for worker in self.workers.values() if not worker.idle]

    def is_quiet(self, now: float) -> bool:
        return all(not worker.sent or worker.is_stuck(now) for worker in self.workers.values())

    def _given(self) -> Iterator[Waiting]:
        for worker in self.workers.values():
            for _seq, claim, since in worker.sent:
                yield claim, since
            if worker.reserved is not None:
                yield worker.reserved

    def running(self) -> Iterator[tuple[int, Claimed, float]]:
        for worker in self.workers.values():
            if worker.sent:
                yield worker.number, worker.sent[0][1], worker.current_since

    def memory_limits(self) -> Iterator[tuple[int, int]]:
        for worker in self.workers.values():
            if worker.sent and worker.killed is None and (limit := self._names.memory_limit(worker.sent[0][1])):
                yield worker.number, limit

    def resting(self) -> Iterator[int]:
        for worker in self.workers.values():
            if worker.takes and worker.idle and worker.served and not worker.fat:
                yield worker.number

    # -------------------------------------------------------------- what workers say

    def done(self, number: int, seq: int, started: float, ended: float, result: str) -> bool:
        worker = self.workers.get(number)
        if worker is None or self._notes.pages or not worker.sent or worker.sent[0][0] != seq:
            return super().done(number, seq, started, ended, result)
        # The same as there without the calls and the record: this is what an engine does most.
        claim = worker.sent.popleft()[1]
        worker.current_since = ended
        worker.served += 1
        self._words.completed(claim, result, started, ended)
        self.pace.learn(claim.name, ended - started)
        return True

    def _take(self, number: int, seq: int, started: float, ended: float) -> InHand | None:
        job = self.job(number, seq)
        if job is None:
            return None
        worker = self.workers[number]
        worker.sent.popleft()
        worker.current_since = ended
        worker.served += 1
        self.pace.learn(job.claim.name, ended - started)
        return job

    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        worker = self.workers.get(number)
        if worker is None or not seqs:
            return
        back = set(seqs)
        for seq, claim, since in reversed(worker.sent):
            if seq in back and seq in worker.lost:
                self._endings.give_back(claim, since)
            elif seq in back:
                self.ahead.add_first(claim, since)
        worker.sent = deque(given for given in worker.sent if given[0] not in back)

    def gone(self, number: int, exit: Exit, now: float, *, unsafe: bool) -> None:
        worker = self.workers.get(number)
        if worker is None:
            return
        del self.workers[number]
        if not worker.ready:
            # It never came up: the next one comes later and later.
            self._failed_spawns += 1
            self._spawn_at = now + min(30.0, 0.5 * 2 ** min(self._failed_spawns, 6))
        if worker.reserved is not None:
            self._endings.give_back(worker.reserved[0], now)
        first = worker.running()
        told = None if first is None else first.told
        for place, (seq, claim, _since) in enumerate(worker.sent):
            # Jobs end in the order they were given, so the first without an outcome is the one that ran. If
            # we killed for an earlier one, this one is innocent.
            why = worker.killed or "crash"
            if place > 0 or (worker.killed is not None and worker.killed_for != seq):
                why = "lost"
            if worker.killed is None and (exit.is_lost or unsafe):
                why = "lost"  # with its template, or by the keeper: whoever does not renew must not run
            elif worker.killed is None and told is not None and exit.code == -TELL_SIGNAL and place == 0:
                why = told.why  # it let the signal that told it end it
            self._endings.died(claim, why, exit, told if place == 0 else None, now)

    def over_memory(self, number: int) -> None:
        worker = self.workers.get(number)
        if worker is not None and worker.sent:
            self._kill(worker, "memory")

    # -------------------------------------------------------------- what a turn brings

    def hand_out(self, queues: Sequence[Queue], now: float) -> None:
        self._hand_out.hand_out(queues, now)

    def starts_stored(
        self, batch: Batch, refused: Collection[tuple[Ref, int]], cancels: dict[Ref, str], now: float, *, stops: bool
    ) -> None:
        """The store was told these: what waited for its stamp goes to the worker that was kept for it."""
        for worker in self.workers.values():
            if worker.reserved is None or not any(move.claim is worker.reserved[0] for move in batch.moves):
                continue
            claim, since = worker.reserved
            worker.reserved = None
            if (claim.ref, claim.token) in refused:
                continue
            if claim.ref in cancels:
                self._cancel_unstarted(claim, cancels.pop(claim.ref), now)
            elif stops or worker.killed is not None:
                self._endings.give_back(claim, now)
            else:
                self._hand_out.send(worker, [(claim, since)], now)
                if (job := worker.running()) is not None:
                    job.stamped = True

    def next_time(self, now: float) -> float:
        times = [worker.next_time(now) for worker in self.workers.values() if worker.sent or not worker.ready]
        return min(times, default=float("inf"))

    def watch(self, now: float) -> None:
        for worker in self.workers.values():
            if worker.killed is not None:
                continue
            if not worker.ready and now >= worker.current_since + HELLO_SECONDS:
                self._kill(worker, "start")
            if worker.sent:
                if not worker.is_young(now) and (job := worker.running()) is not None:
                    self._look_at(worker, job, now)
            elif worker.leaving and worker.reserved is None and not worker.retired:
                worker.retired = True
                self._commands.append(Retire(worker.number))

    def _look_at(self, worker: Worker, job: InHand, now: float) -> None:
        # Compared as `next_time` computes it: the other way round a rounding error would let the moment pass.
        if now >= job.ends_by():
            self._kill(worker, "timeout")
            return
        if job.seq in worker.lost:
            self._end_lost(worker, job, now)
        if job.told is not None and now >= job.told.kill_at:
            self._kill(worker, job.told.why)
            return
        if worker.is_stuck(now):
            self._recall(worker, job)
        self._stamp_if_due(job, now)

    def _end_lost(self, worker: Worker, job: InHand, now: float) -> None:
        """Somebody else may have the job that it runs."""
        if self._names.tells(job.claim):
            self._tell(worker, job, Why.LOST, CLAIM_IS_GONE, now + self._lost_grace())
        else:
            self._kill(worker, "lost")

    def _recall(self, worker: Worker, job: InHand) -> None:
        """Take back what waits behind a job, once."""
        if len(worker.sent) > 1 and not job.recalled:
            job.recalled = True
            self._commands.append(Recall(worker.number))

    def _kill(self, worker: Process, why: str) -> None:
        assert isinstance(worker, Worker)
        if worker.killed is None and worker.sent:
            worker.killed_for = worker.sent[0][0]
        super()._kill(worker, why)

    # -------------------------------------------------------------- what must end

    def _cancel_given(self, cancels: Mapping[Ref, str], now: float) -> Collection[Ref]:
        early = set()
        for worker in self.workers.values():
            job = worker.running()
            for seq, claim, _since in worker.sent:
                if claim.ref not in cancels:
                    continue
                if job is not None and job.seq == seq:
                    self._tell(worker, job, Why.CANCEL, cancels[claim.ref], now + self._settings.cancel_grace)
                    continue
                early.add(claim.ref)
                if claim.ref not in self._cancel_recalls:
                    # Taken back it is unstarted; if it cannot be, it is about to run and is told then.
                    self._cancel_recalls.add(claim.ref)
                    self._commands.append(Recall(worker.number))
        self._cancel_recalls &= early
        return early

    def _lose_given(self, is_lost: Callable[[Claimed], bool], now: float) -> None:
        for worker in self.workers.values():
            if worker.reserved is not None and is_lost(worker.reserved[0]):
                self._endings.give_back(worker.reserved[0], now)
                worker.reserved = None
            lost = {seq for seq, claim, _since in worker.sent if is_lost(claim)}
            if lost:
                # The one it runs is looked after in the next turn, those behind it are taken back.
                worker.lost |= lost
                if lost != {worker.sent[0][0]}:
                    self._commands.append(Recall(worker.number))

    def _fence_given(self, kill_at: float, now: float) -> None:
        for worker in self.workers.values():
            job = worker.running()
            if job is None:
                continue
            if now < kill_at and self._names.tells(job.claim):
                self._recall(worker, job)
                self._tell(worker, job, Why.LOST, CANNOT_RENEW, kill_at)
            else:
                self._kill(worker, "lost")

    def _wind_down_given(self, now: float, *, tell: bool, kill_at: float) -> None:
        for worker in self.workers.values():
            worker.leaving = True
            job = worker.running()
            if job is None:
                continue
            self._recall(worker, job)
            if now >= kill_at:
                self._kill(worker, "stop")
            elif tell:
                self._tell(worker, job, Why.STOP, ENGINE_STOPS, kill_at)
