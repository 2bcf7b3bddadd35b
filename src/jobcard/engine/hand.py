"""The two hands of a plan: workers that run one job at a time (`crew.py`), and those that run many (`sharing.py`).

Both hear the same things and are asked the same things. A hand knows its own claims, those that wait and those that its
workers have; the plan decides what is claimed and which hand gets it. What a hand does with a job in its worker:

    still going after 0.3 s      stamped `running`                      `InHand.stamp_at`
    out of time                  killed; if it shares, told             `InHand.ends_by`
    canceled, engine stops, …    told; killed when it does not end      `Told.and_then`: what outweighs what
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jobcard.core import clock, states
from jobcard.core.job import Claimed, NewJob, Ref
from jobcard.core.queue import Queue
from jobcard.core.settings import Settings
from jobcard.engine.ahead import Ahead, Waiting
from jobcard.engine.commands import Command, Kill, Reply, Tell
from jobcard.engine.endings import Endings
from jobcard.engine.held import RECYCLE_SECONDS, InHand, Process, Told, Worker
from jobcard.engine.names import Names
from jobcard.engine.notes import Notes, error_of_lost_claim, note_of
from jobcard.engine.outcomes import Ended
from jobcard.engine.pace import Pace
from jobcard.engine.places import Places
from jobcard.engine.words import Words
from jobcard.workers.messages import Exit

SPARE_SECONDS = 60.0  # an idle worker ends after this
LOST_GRACE = 0.1  # of the lease, at most: how long a job whose claim is gone may take to end when it is told

# What a job hears of why it shall end.
ENGINE_STOPS = "the engine stops"
CLAIM_IS_GONE = "its claim is gone"
CANNOT_RENEW = "the engine cannot renew its claim"


class Common(NamedTuple):
    """What both hands of a plan reach: what is known of jobs, where their words go, and the places there are."""

    settings: Settings
    names: Names
    words: Words
    notes: Notes
    endings: Endings
    commands: list[Command]
    workers: dict[int, Worker]
    """Those that run one job at a time; one that has run nothing may become a shared one."""
    places: Places
    cpus: int


class Hand(ABC):
    """One kind of workers and the jobs meant for them."""

    def __init__(self, common: Common) -> None:
        self.ahead = Ahead()
        """Claimed and not handed out yet."""
        self.pace = Pace()
        self.recycle_seconds = RECYCLE_SECONDS
        self._settings = common.settings
        self._names = common.names
        self._words = common.words
        self._notes = common.notes
        self._endings = common.endings
        self._commands = common.commands
        self._places = common.places
        self._cpus = common.cpus

    # -------------------------------------------------------------- who and what there is

    @abstractmethod
    def worker(self, number: int) -> Process | None:
        """The worker of this number; None: it is not of this hand, or gone."""

    @abstractmethod
    def job(self, number: int, seq: int) -> InHand | None:
        """The job that a worker runs, or is about to run."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether no worker has a job."""

    @abstractmethod
    def is_quiet(self, now: float) -> bool:
        """Whether no job will end within a moment."""

    def held(self) -> Iterator[Waiting]:
        """Every claim in here, and since when we hold it."""
        yield from self.ahead
        yield from self._given()

    @abstractmethod
    def _given(self) -> Iterator[Waiting]:
        """The claims that workers have."""

    @abstractmethod
    def running(self) -> Iterator[tuple[int, Claimed, float]]:
        """(worker, job, since when) of what runs, as far as we know."""

    @abstractmethod
    def memory_limits(self) -> Iterator[tuple[int, int]]:
        """(worker, bytes) for those running a job whose memory is limited."""

    @abstractmethod
    def resting(self) -> Iterator[int]:
        """The workers that have run something and have nothing now: what memory they hold, they keep."""

    def why_killed(self, number: int) -> str | None:
        """Why we killed a worker."""
        worker = self.worker(number)
        return None if worker is None else worker.killed

    # -------------------------------------------------------------- what workers say

    def done(self, number: int, seq: int, started: float, ended: float, result: str) -> bool:
        """A job returned; False: not a job we expected, so the worker cannot be believed (one we killed may)."""
        job = self._take(number, seq, started, ended)
        if job is not None:
            self._endings.returned(job.claim, result, started, ended)
        return job is not None or self._is_dead(number)

    def followed(
        self, number: int, seq: int, started: float, ended: float, result: str, jobs: Sequence[NewJob]
    ) -> bool:
        """A job returned, and these jobs are to be stored with that; False as for `done`."""
        job = self._take(number, seq, started, ended)
        if job is not None:
            self._endings.followed(job.claim, result, jobs, started, ended)
        return job is not None or self._is_dead(number)

    def ended(self, number: int, seq: int, started: float, ended: float, what: Ended) -> bool:
        """A job ended in any other way; False as for `done`."""
        job = self._take(number, seq, started, ended)
        if job is not None:
            self._endings.ended(job.claim, what, job.told, ended)
        return job is not None or self._is_dead(number)

    def noted(self, number: int, seq: int, said: Mapping[str, Any], call: int | None, now: float) -> None:
        """A running job says something of itself. call: somebody waits in the worker until it is stored."""
        job = self.job(number, seq)
        if job is not None:
            note = note_of(job.claim, number, said, call, now)
            note.started = job.stamp()
            self._notes.add(note)
        elif call is not None:  # the job has ended: a thread it left behind
            self._commands.append(Reply(number, call, error_of_lost_claim()))

    @abstractmethod
    def _take(self, number: int, seq: int, started: float, ended: float) -> InHand | None:
        """The job that a worker has ended, out of its hand; None: it does not run that one."""

    def _is_dead(self, number: int) -> bool:
        worker = self.worker(number)
        return worker is None or worker.killed is not None

    @abstractmethod
    def recalled(self, number: int, seqs: Sequence[int]) -> None:
        """These jobs of a worker were not started and will not be: back to the front of the look-ahead."""

    @abstractmethod
    def gone(self, number: int, exit: Exit, now: float, *, unsafe: bool) -> None:
        """A worker process ended, and what it had not started was recalled.

        unsafe: nobody renews what we hold, so the keeper may have killed it.
        """

    @abstractmethod
    def over_memory(self, number: int) -> None:
        """A worker uses more memory than its jobs may."""

    def grew_fat(self, number: int) -> None:
        """A resting worker holds so much memory that another should take its place."""
        worker = self.worker(number)
        if worker is not None:
            worker.fat = True

    # -------------------------------------------------------------- what a turn brings

    @abstractmethod
    def watch(self, now: float) -> None:
        """Decide what is due: starts to be stamped, time-outs, grace that is over, workers to be ended."""

    @abstractmethod
    def next_time(self, now: float) -> float:
        """When to watch again if nothing happens until then."""

    @abstractmethod
    def hand_out(self, queues: Sequence[Queue], now: float) -> None:
        """Give held jobs to workers."""

    def give_back_what_waits(self, served: Collection[str], patience: float, now: float) -> None:
        """Another engine may have a free worker for it, and ours would not be faster."""
        for queue, _line in self.ahead.lines():
            for claim in self.ahead.take_waiting(queue, patience if queue in served else 0.0, now):
                self._endings.give_back(claim, now)

    # -------------------------------------------------------------- what must end

    def cancel(self, cancels: dict[Ref, str], now: float) -> Collection[Ref]:
        """End what somebody asked to cancel: what has not started at once; what runs is told, and killed in the end.

        What has ended is no longer in `cancels` then. Returned are those to be asked for again: they may be about to
        start, and then are told.
        """
        for claim in self.ahead.take(lambda claim: claim.ref in cancels):
            self._cancel_unstarted(claim, cancels.pop(claim.ref), now)
        return self._cancel_given(cancels, now)

    @abstractmethod
    def _cancel_given(self, cancels: Mapping[Ref, str], now: float) -> Collection[Ref]:
        """Tell those that workers have."""

    def _cancel_unstarted(self, claim: Claimed, reason: str, now: float) -> None:
        self._words.move(claim, states.cancel_at_work(claim, reason=reason), now)

    def lose(self, is_lost: Callable[[Claimed], bool], now: float) -> None:
        """Claims that may be somebody else's now are not started, and what runs of them is told or killed.

        What is still to be said of them is said all the same: the store knows whether they were taken.
        """
        for claim in self.ahead.take(is_lost):
            self._endings.give_back(claim, now)
        self._lose_given(is_lost, now)

    @abstractmethod
    def _lose_given(self, is_lost: Callable[[Claimed], bool], now: float) -> None:
        """The same for those that workers have."""

    def fence(self, kill_at: float, now: float) -> None:
        """Nobody renews what we hold: tell the jobs that want to be told, kill the workers of all others.

        kill_at: when those that were told are killed.
        """
        self._give_back_all(now)
        self._fence_given(kill_at, now)

    @abstractmethod
    def _fence_given(self, kill_at: float, now: float) -> None:
        """The same for those that workers have."""

    def wind_down(self, now: float, *, tell: bool, kill_at: float) -> None:
        """The engine stops: what has not begun goes back, what runs is told when it is time, and killed in the end."""
        self._give_back_all(now)
        self._wind_down_given(now, tell=tell, kill_at=kill_at)

    @abstractmethod
    def _wind_down_given(self, now: float, *, tell: bool, kill_at: float) -> None:
        """The same for those that workers have."""

    def _give_back_all(self, now: float) -> None:
        for claim in self.ahead.take_all():
            self._endings.give_back(claim, now)

    # -------------------------------------------------------------- stamping, telling, killing, wear

    def _stamp_if_due(self, job: InHand, now: float) -> None:
        if not job.stamped and now >= job.stamp_at() and (began := job.stamp()) is not None:
            ago = round((now - began) * clock.SECOND)
            self._words.move(job.claim, states.start(job.claim, ago=ago), now)

    def _tell(self, worker: Process, job: InHand, why: str, reason: str, kill_at: float) -> bool:
        """Tell a job to end, by `kill_at`; whether that changes what it has been told. One word for each reason."""
        if worker.killed is not None:
            return False
        before = job.told
        job.told = Told(job.seq, why, reason, kill_at) if before is None else before.and_then(why, reason, kill_at)
        if before is None or before.why != job.told.why:
            self._commands.append(Tell(worker.number, job.seq, job.told.why, job.told.reason))
        return job.told != before

    def _kill(self, worker: Process, why: str) -> None:
        """Kill a worker, once."""
        if worker.killed is None:
            worker.killed = why
            self._commands.append(Kill(worker.number))

    def _is_worn(self, worker: Process, now: float) -> bool:
        """Whether it has run so many jobs, or grown so fat, that a new process should take its place."""
        most = self._settings.recycle_after
        worn = worker.fat or (most is not None and worker.served >= most)
        return worn and now - worker.ready_since >= self.recycle_seconds

    def _lost_grace(self) -> float:
        """How long a job may go on that is told that its claim is gone."""
        return min(self._settings.cancel_grace, LOST_GRACE * self._settings.lease)
