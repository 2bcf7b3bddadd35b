"""Workers as the plan sees them, and the jobs in their hands: this one for those that run one job at a time.

`sharer.py` has those that run many side by side. What is the same for both stands here once: what a job in hand is,
when its time is up, when its start is stamped, and what it may still be told.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from jobcard.core import clock
from jobcard.core.job import Claimed
from jobcard.engine.commands import Given
from jobcard.workers.messages import Why

WINDOW = 64  # jobs in a worker's pipe at most …
WINDOW_TEXT = 1 << 20  # … and about so many characters of arguments at once
HELLO_SECONDS = 120.0  # a worker that has not imported the application by then is killed
STAMP_SECONDS = 0.3  # a job still going after this is stamped `running`
RECYCLE_SECONDS = 60.0  # a worker is not replaced for its number of jobs before this: short ones come by the million
RECALL_SECONDS = 0.02  # a worker busy with one job for this long gives back what it has not started
_RECALL = RECALL_SECONDS * clock.SECOND


class Told(NamedTuple):
    """A running job was told to end. why: a `messages.Why`. kill_at: when that is no longer waited for."""

    seq: int
    why: str
    reason: str
    kill_at: float

    def and_then(self, why: str, reason: str, kill_at: float) -> Told:
        """What it is told now that there is one more reason to end.

        The first reason stands, but a cancel outweighs any other, a time-out too: all others let the job run again,
        and whoever canceled it waits for its end. A canceled job that runs out of time is canceled. It is never
        given more time than it was told before.
        """
        kill_at = min(kill_at, self.kill_at)
        if why == Why.CANCEL and self.why != Why.CANCEL:
            return Told(self.seq, why, reason, kill_at)
        return self._replace(kill_at=kill_at)


@dataclass(slots=True, eq=False)
class InHand:
    """A job that a worker runs or is about to run, and what was said of it and to it.

    started: when it began, as far as we know; None: it has not.
    """

    seq: int
    claim: Claimed
    since: float
    """Since when we hold it."""
    given_at: float
    started: float | None = None
    stamped: bool = False
    """The store knows, or is about to be told, that it runs."""
    told: Told | None = None
    recalled: bool = False
    """What waits behind it was taken back."""

    def began(self) -> float:
        """When it began; it may not have said so yet."""
        return self.given_at if self.started is None else self.started

    def ends_by(self) -> float:
        """When its time is up. A process is killed then, a job that shares one is told."""
        timeout = self.claim.timeout
        return float("inf") if timeout is None else self.began() + timeout / clock.SECOND

    def stamp_at(self) -> float:
        """When it has gone on for long enough to be stamped `running`."""
        return self.began() + STAMP_SECONDS

    def stamp(self) -> float | None:
        """Its start, for whoever says it to the store; None: that was said before."""
        if self.stamped:
            return None
        self.stamped = True
        return self.began()


@dataclass(slots=True, eq=False)
class Process:
    """What every worker process is to the plan."""

    number: int
    ready_since: float = 0.0
    served: int = 0
    leaving: bool = False
    """It gets no more jobs and ends when it is empty."""
    retired: bool = False
    """It was told to end."""
    fat: bool = False
    """It holds so much memory without a job that a new process should take its place."""
    killed: str | None = None
    """We killed it, and why."""
    lost: set[int] = field(default_factory=set)
    """Jobs it was given whose claims may be somebody else's by now."""


@dataclass(slots=True, eq=False)
class Worker(Process):
    """One worker process that runs one job at a time."""

    ready: bool = False
    sent: deque[Given] = field(default_factory=deque)
    """What it was given and has not answered, in order; the first is the one it runs."""
    current_since: float = 0.0
    reserved: tuple[Claimed, float] | None = None
    """A job that is being stamped `running` before it may be handed over."""
    killed_for: int = -1
    """The number of the job it ran when it was killed."""
    _first: InHand | None = None

    @property
    def idle(self) -> bool:
        return not self.sent and self.reserved is None

    @property
    def takes(self) -> bool:
        return self.ready and not self.leaving and self.killed is None and self.reserved is None

    @property
    def is_new(self) -> bool:
        """Whether it has run nothing yet and nothing is meant for it."""
        return not self.served and self.idle and not self.leaving and self.killed is None

    def running(self) -> InHand | None:
        """The job it runs."""
        if not self.sent:
            return None
        seq, claim, since = self.sent[0]
        job = self._first
        if job is None or job.seq != seq:
            # Made when somebody asks: most jobs have ended before.
            job = self._first = InHand(seq, claim, since, self.current_since, self.current_since)
        return job

    def is_young(self, now: float) -> bool:
        """Whether nothing can be due yet for the job it runs: so it is with most, as long as they last."""
        if now >= self.current_since + RECALL_SECONDS or self.lost:
            return False
        seq, claim, _since = self.sent[0]
        is_limited = claim.timeout is not None and claim.timeout < _RECALL
        return not is_limited and (self._first is None or self._first.seq != seq)

    def is_stuck(self, now: float) -> bool:
        """Whether it runs a job for so long that nothing may wait behind it."""
        return bool(self.sent) and now >= self.current_since + RECALL_SECONDS

    def has(self, queue: str) -> bool:
        """Whether it was given a job of this queue."""
        if self.reserved is not None and self.reserved[0].queue == queue:
            return True
        return any(claim.queue == queue for _seq, claim, _since in self.sent)

    def next_time(self, now: float) -> float:
        """When something is to be decided about the job it runs; what is past was decided and waits for an event."""
        if not self.ready:
            return self.current_since + HELLO_SECONDS if self.killed is None else float("inf")
        if not self.sent or self.killed is not None:
            return float("inf")
        if self.is_young(now):
            return self.current_since + RECALL_SECONDS
        job = self.running()
        assert job is not None
        times = [self.current_since + RECALL_SECONDS, job.ends_by()]
        if not job.stamped:
            times.append(job.stamp_at())
        if job.told is not None:
            times.append(job.told.kill_at)
        return min([time for time in times if time > now], default=float("inf"))
