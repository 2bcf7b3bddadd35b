"""Jobs that run side by side: who gets them, and what becomes of them when one blocks, ignores us or crashes.

All jobs of a shared worker share its fate, so that is the last resort: a loop that is blocked loses only what it has
not begun; a job that does not end when told to costs its neighbours their run only after they had time to end it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from jobcard.backends.base import Want
from jobcard.core import clock
from jobcard.core.job import Claimed, Ref
from jobcard.core.queue import Queue
from jobcard.engine.ahead import Waiting
from jobcard.engine.commands import Given, Recall, Retire, Send, Share
from jobcard.engine.hand import CANNOT_RENEW, CLAIM_IS_GONE, ENGINE_STOPS, SPARE_SECONDS, Common, Hand
from jobcard.engine.held import RECALL_SECONDS, InHand, Process
from jobcard.engine.sharer import Sharer
from jobcard.engine.turns import Turns
from jobcard.workers.messages import LAST_PERMIT, Exit, Why

CROWD = 8  # jobs in every shared worker that make another one worth its memory
BEGIN_SECONDS = 0.1  # a worker that has not begun by then what it was given has its loop blocked …
BLOCKED_SECONDS = 5.0  # … and gets nothing for so long, unless it says a word
NEIGHBOUR_SECONDS = 30.0  # how long a worker that must be killed for one job is left to the others
AHEAD = 400
SURE = 8  # so many shared jobs in a row, and a queue is taken for one of shared jobs
MOST_FORETOLD = 4096  # shared jobs in a row that are remembered
PROBE_SECONDS = 1.0  # without room for processes, a queue is asked so often whether its next job is a shared one


class Sharing(Hand):
    """The shared workers of one engine and the jobs meant for them."""

    def __init__(self, common: Common) -> None:
        super().__init__(common)
        self.sharers: dict[int, Sharer] = {}
        self.waits_for_place = False
        """Whether, when we last looked, only the number of jobs at once kept one waiting."""
        self.wants_worker = False
        """Whether a worker that has run nothing yet is needed, and there is none."""
        self._workers = common.workers
        self._turns = Turns()
        self._seqs = itertools.count()
        self._where: dict[Ref, tuple[Sharer, int]] = {}
        self._alarms: list[tuple[float, int, int]] = []
        """(when, worker, job): a moment at which something may have to be decided about a job; -1: the worker."""
        self._young: deque[tuple[float, Sharer, int]] = deque()
        """What was handed out last: (when, to whom, its number)."""
        self._streaks: dict[str, int] = {}
        self._probe_at: dict[str, float] = {}

    # -------------------------------------------------------------- how much to claim

    def room(self, now: float, *, may_start: bool) -> tuple[int, int]:
        """How many more shared jobs to hold, and how many that would be beside those that run.

        may_start: whether more workers can be had for the asking.
        """
        if not self._names.shared or not self._has_somebody(now, may_start):
            return 0, 0
        free = max(0, self._places.free_to_share())
        target = free + min(AHEAD, (free + self._moving(now)) * self.pace.jobs_in_a_moment(AHEAD))
        return target - len(self.ahead), target

    def at_once(self) -> int:
        """How many more shared jobs could begin now."""
        return self._places.free_to_share() - len(self.ahead)

    def _moving(self, now: float) -> int:
        """How many jobs are so young that their places may soon be free."""
        while self._young and self._young[0][0] + RECALL_SECONDS <= now:
            self._young.popleft()
        return len([seq for _at, sharer, seq in self._young if seq in sharer.jobs])

    def _has_somebody(self, now: float, may_start: bool) -> bool:
        """Whether there is, or soon will be, a worker for a shared job."""
        if self.sharers and any(sharer.takes(now) for sharer in self.sharers.values()):
            return True
        return self._may_open() and (may_start or any(w.ready and w.is_new for w in self._workers.values()))

    def shares(self, queue: Queue) -> bool:
        """Whether this queue's last job was a shared one."""
        return self._streaks.get(queue.name, 0) > 0

    def split(self, queue: Queue, room: int, to_share: int, now: float) -> int:
        """The most to claim from a queue, with so much room for jobs in processes and so much for shared ones.

        The store does not tell them apart; the last jobs of the queue foretell the next.
        """
        streak = self._streaks.get(queue.name, 0)
        may_probe = now >= self._probe_at.get(queue.name, 0.0)
        if streak and to_share <= 0:
            # Those at its head cannot start now; one behind them may need a process only.
            return room if may_probe else 0
        if streak >= SURE or (streak and room <= 0):
            return min(to_share, 2 * streak)
        if streak:
            return min(to_share, max(room, 2 * streak))
        if room <= 0 < to_share and may_probe:
            return 1
        return room

    def learn_from(self, claims: Sequence[Claimed], want: Want, now: float) -> None:
        """What the store gave when it was asked for this."""
        for name, _most in want.queues:
            self._probe_at[name] = now + PROBE_SECONDS
        for claim in claims:
            streak = self._streaks.get(claim.queue, 0) + 1 if self._names.shares(claim) else 0
            self._streaks[claim.queue] = min(streak, MOST_FORETOLD)

    # -------------------------------------------------------------- handing out

    def hand_out(self, queues: Sequence[Queue], now: float) -> None:
        """Give held jobs to shared workers, each to the one that has the fewest."""
        self.waits_for_place = False
        if not self.ahead:
            return
        room = self._places.free_to_share()
        chunks: dict[int, list[Given]] = {}
        for queue in self._turns.order(queues, now):
            line = self.ahead.line(queue.name)
            if not line:
                continue
            left = self._places.left_in(queue) if self._places.binds(queue) else len(line)
            number = min(left, len(line), self._turns.quota(queue, max(0, room)))
            for _ in range(number):
                if room <= 0:
                    self.waits_for_place = True
                    break
                sharer = self._next_sharer(now)
                if sharer is None:
                    break
                claim, since = self.ahead.take_first(queue.name)
                chunks.setdefault(sharer.number, []).append(self._give(sharer, claim, since, now))
                self._turns.took(queue.name, 1, now)
                room -= 1
            if room <= 0 and line and left > 0:
                self.waits_for_place = True
        for worker, given in chunks.items():
            self._commands.append(Send(worker, given))

    def _give(self, sharer: Sharer, claim: Claimed, since: float, now: float) -> Given:
        seq = next(self._seqs) & LAST_PERMIT
        sharer.jobs[seq] = InHand(seq, claim, since, now)
        self._where[claim.ref] = (sharer, seq)
        self._places.shared += 1
        self._places.shared_of[claim.queue] += 1
        self._young.append((now, sharer, seq))
        self._alarm(now + BEGIN_SECONDS, sharer, seq)
        return seq, claim, since

    def _next_sharer(self, now: float) -> Sharer | None:
        able = [sharer for sharer in self.sharers.values() if sharer.takes(now)]
        best = min(able, key=lambda sharer: len(sharer.jobs), default=None)
        if best is None:
            return self._open(now) if self._may_open() else None
        if len(best.jobs) >= CROWD and len(able) < self._cpus and self._may_open():
            return self._open(now, needed=False) or best
        return best

    def _may_open(self) -> bool:
        # One more than there are processors: whoever is blocked or on its way out has somebody who takes over.
        return len([sharer for sharer in self.sharers.values() if sharer.killed is None]) <= self._cpus

    def _open(self, now: float, *, needed: bool = True) -> Sharer | None:
        """Turn a worker that has run nothing yet into a shared one."""
        for worker in self._workers.values():
            if worker.ready and worker.is_new:
                del self._workers[worker.number]
                sharer = Sharer(worker.number, worker.ready_since, idle_since=now)
                self.sharers[worker.number] = sharer
                self._commands.append(Share(worker.number))
                return sharer
        self.wants_worker |= needed
        return None

    # -------------------------------------------------------------- what workers say

    def started(self, number: int, starts: Sequence[tuple[int, float]]) -> None:
        """A shared worker began these."""
        sharer = self.sharers.get(number)
        if sharer is None:
            return
        sharer.blocked_until = 0.0
        for seq, at in starts:
            job = sharer.jobs.get(seq)
            if job is not None:
                self._begin(sharer, job, at)

    def _begin(self, sharer: Sharer, job: InHand, at: float) -> None:
        job.started = at
        self._alarm(job.stamp_at(), sharer, job.seq)
        if job.claim.timeout is not None:
            self._alarm(job.ends_by(), sharer, job.seq)

    def _take(self, number: int, seq: int, started: float, ended: float) -> InHand | None:
        sharer = self.sharers.get(number)
        job = None if sharer is None else self._remove(sharer, seq)
        if sharer is None or job is None:
            return None
        sharer.blocked_until = 0.0
        sharer.served += 1
        sharer.idle_since = ended
        self.pace.learn(job.claim.name, ended - started)
        if sharer.guilty:
            sharer.guilty.discard(seq)
            self._judge(sharer, ended)
        return job

    def _remove(self, sharer: Sharer, seq: int) -> InHand | None:
        job = sharer.jobs.pop(seq, None)
        if job is not None:
            self._places.shared -= 1
            self._places.shared_of[job.claim.queue] -= 1
            if self._where.get(job.claim.ref) == (sharer, seq):
                del self._where[job.claim.ref]
        return job

    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        # What else it has not begun, it is about to: its permit is gone.
        sharer = self.sharers.get(number)
        if sharer is None:
            return
        for seq in reversed(seqs):
            job = self._remove(sharer, seq)
            if job is None:
                continue
            if seq in sharer.lost:
                self._endings.give_back(job.claim, job.given_at)
            else:
                self.ahead.add_first(job.claim, job.since)
        for job in sharer.jobs.values():
            if job.started is None:
                self._begin(sharer, job, job.given_at)

    def gone(self, number: int, exit: Exit, now: float, *, unsafe: bool) -> None:
        sharer = self.sharers.get(number)
        if sharer is None:
            return
        del self.sharers[number]
        alone = len(sharer.jobs) == 1
        for seq in list(sharer.jobs):
            job = self._remove(sharer, seq)
            assert job is not None
            why = sharer.killed
            if why is None:
                # Lost with its template, or by the keeper: whoever does not renew must not run.
                why = "lost" if unsafe or exit.is_lost else "crash"
            if why in ("crash", "memory") and not alone:
                why = "suspect"
            if why == "guilty":
                why = job.told.why if seq in sharer.guilty and job.told is not None else "neighbour"
            if job.told is not None and job.told.why == Why.TIMEOUT and why != "crash":
                why = "timeout"
            self._endings.died(job.claim, why, exit, job.told, now)

    # -------------------------------------------------------------- what time brings

    def _alarm(self, at: float, sharer: Process, seq: int) -> None:
        heapq.heappush(self._alarms, (at, sharer.number, seq))
        if len(self._alarms) > 1000 + 8 * self._places.shared:
            # Most are for jobs that have ended long before.
            self._alarms = [alarm for alarm in self._alarms if self._is_there(alarm)]
            heapq.heapify(self._alarms)

    def _is_there(self, alarm: tuple[float, int, int]) -> bool:
        _at, number, seq = alarm
        sharer = self.sharers.get(number)
        return sharer is not None and (seq < 0 or seq in sharer.jobs)

    def next_time(self, now: float) -> float:
        return self._alarms[0][0] if self._alarms else float("inf")

    def watch(self, now: float) -> None:
        self.wants_worker = False
        while self._alarms and self._alarms[0][0] <= now:
            _at, number, seq = heapq.heappop(self._alarms)
            sharer = self.sharers.get(number)
            if sharer is None or sharer.killed is not None:
                continue
            if seq < 0:
                if now >= sharer.kill_at:
                    self._kill(sharer, "guilty")
                continue
            job = sharer.jobs.get(seq)
            if job is not None:
                self._look_at(sharer, job, now)
        for sharer in list(self.sharers.values()):
            self._look_after(sharer, now)

    def _look_at(self, sharer: Sharer, job: InHand, now: float) -> None:
        if job.started is None:
            if now >= job.given_at + BEGIN_SECONDS and sharer.blocked_until != now + BLOCKED_SECONDS:
                sharer.blocked_until = now + BLOCKED_SECONDS
                self._commands.append(Recall(sharer.number))
            return
        self._stamp_if_due(job, now)
        if now >= job.ends_by():
            reason = f"not finished after its timeout of {(job.claim.timeout or 0) / clock.SECOND:g} s"
            self._tell(sharer, job, Why.TIMEOUT, reason, now + self._settings.cancel_grace)
        if job.told is not None and now >= job.told.kill_at and job.seq not in sharer.guilty:
            sharer.guilty.add(job.seq)
            self._judge(sharer, now)

    def _judge(self, sharer: Sharer, now: float) -> None:
        """A worker with guilty jobs takes no more, and is killed when the others have ended or had their time."""
        if not sharer.guilty:
            sharer.kill_at = float("inf")  # they ended after all; it only leaves
            return
        self._leave(sharer)
        at_once = len(sharer.guilty) == len(sharer.jobs) or bool(sharer.guilty & sharer.lost)
        sharer.kill_at = min(sharer.kill_at, now if at_once else now + NEIGHBOUR_SECONDS)
        self._alarm(sharer.kill_at, sharer, -1)

    def _look_after(self, sharer: Sharer, now: float) -> None:
        if sharer.killed is not None:
            return
        if not sharer.leaving and self._is_worn(sharer, now) and self._open(now) is not None:
            self._leave(sharer)
        if not sharer.jobs and not sharer.leaving and now - sharer.idle_since > SPARE_SECONDS:
            sharer.leaving = True
        if sharer.leaving and not sharer.jobs and not sharer.retired:
            sharer.retired = True
            self._commands.append(Retire(sharer.number))

    # -------------------------------------------------------------- what must end

    def _tell(self, worker: Process, job: InHand, why: str, reason: str, kill_at: float) -> bool:
        changes = super()._tell(worker, job, why, reason, kill_at)
        if changes and job.told is not None:
            self._alarm(job.told.kill_at, worker, job.seq)
        return changes

    def _leave(self, sharer: Sharer) -> None:
        """It gets no more, and gives back what it has not begun."""
        if not sharer.leaving and sharer.unstarted():
            self._commands.append(Recall(sharer.number))
        sharer.leaving = True

    def _cancel_given(self, cancels: Mapping[Ref, str], now: float) -> Collection[Ref]:
        early = []
        for ref, reason in cancels.items():
            place = self._where.get(ref)
            if place is None:
                continue
            sharer, seq = place
            job = sharer.jobs[seq]
            if job.started is None:
                early.append(ref)  # it begins within a moment, or its worker's loop is blocked and it is taken back
            else:
                self._tell(sharer, job, Why.CANCEL, reason, now + self._settings.cancel_grace)
        return early

    def _lose_given(self, is_lost: Callable[[Claimed], bool], now: float) -> None:
        for sharer in self.sharers.values():
            for seq, job in sharer.jobs.items():
                if is_lost(job.claim) and seq not in sharer.lost:
                    sharer.lost.add(seq)
                    # Also where it is to be killed: that would cost the others their run, and telling mostly ends it.
                    self._tell(sharer, job, Why.LOST, CLAIM_IS_GONE, now + self._lost_grace())

    def _fence_given(self, kill_at: float, now: float) -> None:
        for sharer in self.sharers.values():
            if not sharer.jobs or sharer.killed is not None:
                continue
            if now >= kill_at or not all(self._names.tells(job.claim) for job in sharer.jobs.values()):
                self._kill(sharer, "lost")
                continue
            if sharer.unstarted() and now >= sharer.blocked_until:
                sharer.blocked_until = now + BLOCKED_SECONDS
                self._commands.append(Recall(sharer.number))
            for job in sharer.jobs.values():
                self._tell(sharer, job, Why.LOST, CANNOT_RENEW, kill_at)

    def _wind_down_given(self, now: float, *, tell: bool, kill_at: float) -> None:
        for sharer in self.sharers.values():
            self._leave(sharer)
            if not sharer.jobs:
                continue
            if now >= kill_at:
                self._kill(sharer, "stop")
            elif tell:
                for job in sharer.jobs.values():
                    self._tell(sharer, job, Why.STOP, ENGINE_STOPS, kill_at)

    # -------------------------------------------------------------- who and what there is

    def worker(self, number: int) -> Sharer | None:
        return self.sharers.get(number)

    def job(self, number: int, seq: int) -> InHand | None:
        sharer = self.sharers.get(number)
        return None if sharer is None else sharer.jobs.get(seq)

    @property
    def idle(self) -> bool:
        return not self._places.shared

    def is_quiet(self, now: float) -> bool:
        return self.idle

    def _given(self) -> Iterator[Waiting]:
        for sharer in self.sharers.values():
            for job in sharer.jobs.values():
                yield job.claim, job.since

    def running(self) -> Iterator[tuple[int, Claimed, float]]:
        for sharer in self.sharers.values():
            for job in sharer.jobs.values():
                if job.started is not None:
                    yield sharer.number, job.claim, job.started

    def memory_limits(self) -> Iterator[tuple[int, int]]:
        # Those whose jobs are all limited: whose memory it is nobody knows, so the most counts.
        for sharer in self.sharers.values():
            limits = [self._names.memory_limit(job.claim) for job in sharer.jobs.values()]
            if limits and sharer.killed is None and all(limits):
                yield sharer.number, max(limit or 0 for limit in limits)

    def resting(self) -> Iterator[int]:
        for sharer in self.sharers.values():
            if not sharer.jobs and sharer.served and not sharer.fat:
                yield sharer.number

    def over_memory(self, number: int) -> None:
        sharer = self.sharers.get(number)
        if sharer is not None and sharer.jobs:
            self._kill(sharer, "memory")
