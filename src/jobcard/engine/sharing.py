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
from jobcard.core import clock, states
from jobcard.core.job import Claimed, NewJob, Ref
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.engine.ahead import Ahead
from jobcard.engine.commands import Command, Given, Kill, Recall, Retire, Send, Share, Tell
from jobcard.engine.crew import LOST_GRACE, SPARE_SECONDS
from jobcard.engine.endings import Endings
from jobcard.engine.held import RECALL_SECONDS, RECYCLE_SECONDS, STAMP_SECONDS, Told, Worker
from jobcard.engine.outcomes import Ended
from jobcard.engine.pace import Pace
from jobcard.engine.places import Places
from jobcard.engine.sharer import SharedJob, Sharer
from jobcard.engine.turns import Turns
from jobcard.engine.words import Words
from jobcard.workers.messages import LAST_PERMIT, Exit, Why

CROWD = 8  # jobs in every shared worker that make another one worth its memory
BEGIN_SECONDS = 0.1  # a worker that has not begun by then what it was given has its loop blocked …
BLOCKED_SECONDS = 5.0  # … and gets nothing for so long, unless it says a word
NEIGHBOUR_SECONDS = 30.0  # how long a worker that must be killed for one job is left to the others
AHEAD = 400
SURE = 8  # so many shared jobs in a row, and a queue is taken for one of shared jobs
MOST_FORETOLD = 4096  # shared jobs in a row that are remembered
PROBE_SECONDS = 1.0  # without room for processes, a queue is asked so often whether its next job is a shared one


class Sharing:
    """The shared workers of one engine and the jobs meant for them; it shares the plan's words and commands."""

    def __init__(
        self,
        settings: Settings,
        workers: dict[int, Worker],
        places: Places,
        words: Words,
        endings: Endings,
        commands: list[Command],
        *,
        cpus: int,
    ) -> None:
        self.names: frozenset[str] = frozenset()
        """The names of jobs that run side by side."""
        self.queues: Sequence[Queue] = ()
        """The queues served now."""
        self.sharers: dict[int, Sharer] = {}
        self.ahead = Ahead()
        """Claimed and not handed out yet."""
        self.waits_for_place = False
        """Whether, when we last looked, only the number of jobs at once kept one waiting."""
        self.wants_worker = False
        """Whether a worker that has run nothing yet is needed, and there is none."""
        self.pace = Pace()
        self.recycle_seconds = RECYCLE_SECONDS
        self._settings = settings
        self._workers = workers
        self._places = places
        self._words = words
        self._endings = endings
        self._commands = commands
        self._cpus = cpus
        self._turns = Turns()
        self._seqs = itertools.count()
        self._where: dict[Ref, tuple[Sharer, int]] = {}
        self._alarms: list[tuple[float, int, int]] = []
        """(when, worker, job): a moment at which something may have to be decided about a job; -1: the worker."""
        self._young: deque[tuple[float, Sharer, int]] = deque()
        """What was handed out last: (when, to whom, its number)."""
        self._streaks: dict[str, int] = {}
        self._probe_at: dict[str, float] = {}

    def takes(self, claim: Claimed) -> bool:
        """Whether this job runs side by side; one that must run alone gets a process of its own."""
        return claim.name in self.names and not states.must_run_alone(claim)

    # -------------------------------------------------------------- how much to claim

    def room(self, now: float, *, may_start: bool) -> tuple[int, int]:
        """How many more shared jobs to hold, and how many that would be beside those that run.

        may_start: whether more workers can be had for the asking.
        """
        if not self.names or not self._has_somebody(now, may_start):
            return 0, 0
        free = max(0, self._places.free_to_share())
        target = free + min(AHEAD, (free + self._moving(now)) * self.pace.jobs_in_a_moment(AHEAD))
        return target - len(self.ahead), target

    def _moving(self, now: float) -> int:
        """How many jobs are so young that their places may soon be free."""
        while self._young and self._young[0][0] + RECALL_SECONDS <= now:
            self._young.popleft()
        return sum(seq in sharer.jobs for _at, sharer, seq in self._young)

    def _has_somebody(self, now: float, may_start: bool) -> bool:
        """Whether there is, or soon will be, a worker for a shared job."""
        if any(sharer.takes(now) for sharer in self.sharers.values()):
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
            streak = self._streaks.get(claim.queue, 0) + 1 if self.takes(claim) else 0
            self._streaks[claim.queue] = min(streak, MOST_FORETOLD)

    # -------------------------------------------------------------- handing out

    def hand_out(self, now: float) -> None:
        """Give held jobs to shared workers, each to the one that has the fewest."""
        self.waits_for_place = False
        if not self.ahead:
            return
        room = self._places.free_to_share()
        chunks: dict[int, list[Given]] = {}
        for queue in self._turns.order(self.queues, now):
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
                claim, since = line.popleft()
                chunks.setdefault(sharer.number, []).append(self._give(sharer, claim, since, now))
                self._turns.took(queue.name, 1, now)
                room -= 1
            if room <= 0 and line and left > 0:
                self.waits_for_place = True
        for worker, given in chunks.items():
            self._commands.append(Send(worker, given))

    def _give(self, sharer: Sharer, claim: Claimed, since: float, now: float) -> Given:
        seq = next(self._seqs) & LAST_PERMIT
        sharer.jobs[seq] = SharedJob(claim, since, now)
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
        return sum(sharer.killed is None for sharer in self.sharers.values()) <= self._cpus

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
                job.started = at
                self._watch_job(sharer, seq, job)

    def _watch_job(self, sharer: Sharer, seq: int, job: SharedJob) -> None:
        assert job.started is not None
        self._alarm(job.started + STAMP_SECONDS, sharer, seq)
        if job.claim.timeout is not None:
            self._alarm(job.started + job.claim.timeout / clock.SECOND, sharer, seq)

    def done(self, number: int, seq: int, started: float, ended: float, result: str) -> bool:
        """A job returned; False: it never had that one."""
        job = self._take(number, seq, ended, ended - started)
        if job is not None:
            self._endings.returned(job.claim, result, started, ended)
        return job is not None or self._is_dead(number)

    def followed(
        self, number: int, seq: int, started: float, ended: float, result: str, jobs: Sequence[NewJob]
    ) -> bool:
        """A job returned, and these jobs follow."""
        job = self._take(number, seq, ended, ended - started)
        if job is not None:
            self._endings.followed(job.claim, result, jobs, started, ended)
        return job is not None or self._is_dead(number)

    def ended(self, number: int, seq: int, started: float, ended: float, what: Ended) -> bool:
        """A job ended in any other way."""
        job = self._take(number, seq, ended, ended - started)
        if job is not None:
            self._endings.ended(job.claim, what, job.told, ended)
        return job is not None or self._is_dead(number)

    def _is_dead(self, number: int) -> bool:
        sharer = self.sharers.get(number)
        return sharer is None or sharer.killed is not None

    def job(self, number: int, seq: int) -> SharedJob | None:
        """A job that a shared worker has."""
        sharer = self.sharers.get(number)
        return None if sharer is None else sharer.jobs.get(seq)

    def _take(self, number: int, seq: int, now: float, seconds: float) -> SharedJob | None:
        sharer = self.sharers.get(number)
        job = None if sharer is None else self._remove(sharer, seq)
        if sharer is None or job is None:
            return None
        sharer.blocked_until = 0.0
        sharer.served += 1
        sharer.idle_since = now
        self.pace.learn(job.claim.name, seconds)
        if sharer.guilty:
            sharer.guilty.discard(seq)
            self._judge(sharer, now)
        return job

    def _remove(self, sharer: Sharer, seq: int) -> SharedJob | None:
        job = sharer.jobs.pop(seq, None)
        if job is not None:
            self._places.shared -= 1
            self._places.shared_of[job.claim.queue] -= 1
            if self._where.get(job.claim.ref) == (sharer, seq):
                del self._where[job.claim.ref]
        return job

    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        """These were not begun and will not be. What else it has not begun, it is about to: its permit is gone."""
        sharer = self.sharers[number]
        for seq in reversed(seqs):
            job = self._remove(sharer, seq)
            if job is None:
                continue
            if job.lost:
                self._endings.give_back(job.claim, job.given_at)
            else:
                self.ahead.add_first(job.claim, job.since)
        for seq, job in sharer.jobs.items():
            if job.started is None:
                job.started = job.given_at
                self._watch_job(sharer, seq, job)

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit, now: float, *, unsafe: bool) -> None:
        """A shared worker ended. unsafe: nobody renews what we hold, so the keeper may have killed it."""
        sharer = self.sharers[number]
        self.recalled(number, unstarted)
        del self.sharers[number]
        alone = len(sharer.jobs) == 1
        for seq in list(sharer.jobs):
            job = self._remove(sharer, seq)
            assert job is not None
            why = sharer.killed
            if why is None:
                why = "lost" if unsafe else "crash"
            if why in ("crash", "memory") and not alone:
                why = "suspect"
            if why == "guilty":
                why = job.told.why if seq in sharer.guilty and job.told is not None else "neighbour"
            if job.told is not None and job.told.why == Why.TIMEOUT and why != "crash":
                why = "timeout"
            self._endings.died(job.claim, why, exit, job.told, now)

    # -------------------------------------------------------------- what time brings

    def _alarm(self, at: float, sharer: Sharer, seq: int) -> None:
        heapq.heappush(self._alarms, (at, sharer.number, seq))
        if len(self._alarms) > 1000 + 8 * self._places.shared:
            # Most are for jobs that have ended long before.
            self._alarms = [alarm for alarm in self._alarms if self._is_there(alarm)]
            heapq.heapify(self._alarms)

    def _is_there(self, alarm: tuple[float, int, int]) -> bool:
        _at, number, seq = alarm
        sharer = self.sharers.get(number)
        return sharer is not None and (seq < 0 or seq in sharer.jobs)

    def next_time(self) -> float:
        """When to look again."""
        return self._alarms[0][0] if self._alarms else float("inf")

    def watch(self, now: float) -> None:
        """Decide what is due: starts to be stamped, time-outs, loops that are blocked, grace that is over."""
        self.wants_worker = False
        while self._alarms and self._alarms[0][0] <= now:
            _at, number, seq = heapq.heappop(self._alarms)
            sharer = self.sharers.get(number)
            if sharer is None or sharer.killed is not None:
                continue
            if seq < 0:
                if now >= sharer.kill_at:
                    self.kill(sharer, "guilty")
                continue
            job = sharer.jobs.get(seq)
            if job is not None:
                self._look_at(sharer, seq, job, now)
        for sharer in list(self.sharers.values()):
            self._look_after(sharer, now)

    def _look_at(self, sharer: Sharer, seq: int, job: SharedJob, now: float) -> None:
        if job.started is None:
            if now >= job.given_at + BEGIN_SECONDS and sharer.blocked_until != now + BLOCKED_SECONDS:
                sharer.blocked_until = now + BLOCKED_SECONDS
                self._commands.append(Recall(sharer.number))
            return
        if not job.stamped and now >= job.started + STAMP_SECONDS:
            job.stamped = True
            ago = round((now - job.started) * clock.SECOND)
            self._words.move(job.claim, states.start(job.claim, ago=ago), now)
        timeout = job.claim.timeout
        if timeout is not None and now >= job.started + timeout / clock.SECOND:
            reason = f"not finished after its timeout of {timeout / clock.SECOND:g} s"
            self.tell(sharer, seq, Why.TIMEOUT, reason, now + self._settings.cancel_grace)
        if job.told is not None and now >= job.told.kill_at and seq not in sharer.guilty:
            sharer.guilty.add(seq)
            self._judge(sharer, now)

    def _judge(self, sharer: Sharer, now: float) -> None:
        """A worker with guilty jobs takes no more, and is killed when the others have ended or had their time."""
        if not sharer.guilty:
            sharer.kill_at = float("inf")  # they ended after all; it only leaves
            return
        self.leave(sharer)
        at_once = len(sharer.guilty) == len(sharer.jobs) or any(sharer.jobs[seq].lost for seq in sharer.guilty)
        sharer.kill_at = min(sharer.kill_at, now if at_once else now + NEIGHBOUR_SECONDS)
        self._alarm(sharer.kill_at, sharer, -1)

    def _look_after(self, sharer: Sharer, now: float) -> None:
        if sharer.killed is not None:
            return
        if not sharer.leaving and self._is_worn(sharer, now) and self._open(now) is not None:
            self.leave(sharer)
        if not sharer.jobs and not sharer.leaving and now - sharer.idle_since > SPARE_SECONDS:
            sharer.leaving = True
        if sharer.leaving and not sharer.jobs and not sharer.retired:
            sharer.retired = True
            self._commands.append(Retire(sharer.number))

    def _is_worn(self, sharer: Sharer, now: float) -> bool:
        most = self._settings.recycle_after
        worn = sharer.fat or (most is not None and sharer.served >= most)
        return worn and now - sharer.ready_since >= self.recycle_seconds

    # -------------------------------------------------------------- telling and killing

    def tell(self, sharer: Sharer, seq: int, why: str, reason: str, kill_at: float) -> None:
        """Tell a running job to end; its worker suffers when it has not by `kill_at`. A cancel outweighs the rest."""
        job = sharer.jobs[seq]
        if sharer.killed is not None:
            return
        if job.told is not None:
            kill_at = min(kill_at, job.told.kill_at)
            if why != Why.CANCEL or job.told.why in (Why.CANCEL, Why.TIMEOUT):
                why, reason = job.told.why, job.told.reason
        if job.told is None or job.told.why != why:
            self._commands.append(Tell(sharer.number, seq, why, reason))
        if job.told is None or (why, kill_at) != (job.told.why, job.told.kill_at):
            job.told = Told(seq, why, reason, kill_at)
            self._alarm(kill_at, sharer, seq)

    def kill(self, sharer: Sharer, why: str) -> None:
        """Kill a shared worker, once."""
        if sharer.killed is None:
            sharer.killed = why
            self._commands.append(Kill(sharer.number))

    def leave(self, sharer: Sharer) -> None:
        """It gets no more, and gives back what it has not begun."""
        if not sharer.leaving and sharer.unstarted():
            self._commands.append(Recall(sharer.number))
        sharer.leaving = True

    def cancel(self, cancels: Mapping[Ref, str], now: float) -> Collection[Ref]:
        """Tell those that somebody wants canceled; the ones that cannot be told yet, for they have not begun."""
        early = []
        for ref, reason in cancels.items():
            place = self._where.get(ref)
            if place is None:
                continue
            sharer, seq = place
            if sharer.jobs[seq].started is None:
                early.append(ref)  # it begins within a moment, or its worker's loop is blocked and it is taken back
            else:
                self.tell(sharer, seq, Why.CANCEL, reason, now + self._settings.cancel_grace)
        return early

    def lose(self, is_lost: Callable[[Claimed], bool], now: float) -> None:
        """These claims may be somebody else's now."""
        for claim in self.ahead.take(is_lost):
            self._endings.give_back(claim, now)
        grace = min(self._settings.cancel_grace, LOST_GRACE * self._settings.lease)
        for sharer in self.sharers.values():
            for seq, job in sharer.jobs.items():
                if is_lost(job.claim) and not job.lost:
                    job.lost = True
                    # Also where it is to be killed: that would cost the others their run, and telling mostly ends it.
                    self.tell(sharer, seq, Why.LOST, "its claim is gone", now + grace)

    def fence(self, tells: Callable[[Claimed], bool], kill_at: float, now: float) -> None:
        """Nobody renews what we hold: tell those that want to be told, kill the workers of all others."""
        for claim in self.ahead.take_all():
            self._endings.give_back(claim, now)
        for sharer in self.sharers.values():
            if not sharer.jobs or sharer.killed is not None:
                continue
            if now >= kill_at or not all(tells(job.claim) for job in sharer.jobs.values()):
                self.kill(sharer, "lost")
                continue
            if sharer.unstarted() and now >= sharer.blocked_until:
                sharer.blocked_until = now + BLOCKED_SECONDS
                self._commands.append(Recall(sharer.number))
            for seq in sharer.jobs:
                self.tell(sharer, seq, Why.LOST, "the engine cannot renew its claim", kill_at)

    def wind_down(self, now: float, *, tell: bool, kill_at: float, reason: str) -> None:
        """The engine stops: what has not begun goes back, what runs is told when it is time, and killed in the end."""
        for claim in self.ahead.take_all():
            self._endings.give_back(claim, now)
        for sharer in self.sharers.values():
            self.leave(sharer)
            if not sharer.jobs:
                continue
            if now >= kill_at:
                self.kill(sharer, "stop")
            elif tell:
                for seq in sharer.jobs:
                    self.tell(sharer, seq, Why.STOP, reason, kill_at)

    # -------------------------------------------------------------- what there is

    def memory_limits(self, limit_of: Callable[[Claimed], int | None]) -> Iterator[tuple[int, int]]:
        """(worker, bytes) of those whose jobs are all limited: whose memory it is nobody knows, so the most counts."""
        for sharer in self.sharers.values():
            limits = [limit_of(job.claim) for job in sharer.jobs.values()]
            if limits and sharer.killed is None and all(limits):
                yield sharer.number, max(limit or 0 for limit in limits)

    @property
    def idle(self) -> bool:
        """Whether no shared worker has a job."""
        return not self._places.shared

    def held(self) -> Iterator[tuple[Claimed, float]]:
        """Every claim in here, and since when we have it."""
        yield from self.ahead
        for sharer in self.sharers.values():
            for job in sharer.jobs.values():
                yield job.claim, job.since

    def running(self) -> Iterator[tuple[int, Claimed, float]]:
        """(worker, job, since when) of what runs."""
        for sharer in self.sharers.values():
            for job in sharer.jobs.values():
                if job.started is not None:
                    yield sharer.number, job.claim, job.started
