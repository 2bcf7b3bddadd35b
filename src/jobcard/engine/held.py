"""A process worker as the plan sees it, and the jobs it was given; `sharing.py` has those that share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from jobcard.core import clock
from jobcard.core.job import Claimed
from jobcard.engine.commands import Given

WINDOW = 64  # jobs in a worker's pipe at most …
WINDOW_TEXT = 1 << 20  # … and about so many characters of arguments at once
HELLO_SECONDS = 120.0  # a worker that has not imported the application by then is killed
STAMP_SECONDS = 0.3  # a job still going after this is stamped `running`
RECYCLE_SECONDS = 60.0  # a worker is not replaced for its number of jobs before this: short ones come by the million
RECALL_SECONDS = 0.02  # a worker busy with one job for this long gives back what it has not started


class Told(NamedTuple):
    """A running job was told to end. why: a `messages.Why`. kill_at: when that is no longer waited for."""

    seq: int
    why: str
    reason: str
    kill_at: float


@dataclass(slots=True)
class Worker:
    """One worker process that runs one job at a time, as the plan sees it."""

    number: int
    ready: bool = False
    leaving: bool = False
    """It gets no more jobs and ends when it is empty."""
    retired: bool = False
    """It was told to end."""
    sent: deque[Given] = field(default_factory=deque)
    """What it was given and has not answered, in order; the first is the one it runs."""
    current_since: float = 0.0
    ready_since: float = 0.0
    served: int = 0
    stamped: int = -1
    """The number of the job whose start is written in the store."""
    recalled: int = -1
    """The number of the job it ran when its look-ahead was taken back."""
    lost: set[int] = field(default_factory=set)
    """Jobs it was given whose claims may be somebody else's by now."""
    reserved: tuple[Claimed, float] | None = None
    """A job that is being stamped `running` before it may be handed over."""
    killed: tuple[int, str] | None = None
    """We killed it: the number of the job it was killed for (-1: none), and why."""
    told: Told | None = None
    """The last of its jobs that was told to end."""
    fat: bool = False
    """It holds so much memory without a job that a new process should take its place."""

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

    def is_stuck(self, now: float) -> bool:
        """Whether it runs a job for so long that nothing may wait behind it."""
        return bool(self.sent) and now >= self.current_since + RECALL_SECONDS

    def is_worn(self, most: int | None, now: float, *, after: float = RECYCLE_SECONDS) -> bool:
        """Whether it has run so many jobs that a new process should take its place."""
        worn = self.fat or (most is not None and self.served >= most)
        return worn and now - self.ready_since >= after

    def told_now(self) -> Told | None:
        """What the job it runs was told, if anything."""
        return self.told if self.told is not None and self.sent and self.told.seq == self.sent[0][0] else None

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
        seq, claim, _since = self.sent[0]
        times = [self.current_since + RECALL_SECONDS]
        if claim.timeout is not None:
            times.append(self.current_since + claim.timeout / clock.SECOND)
        if self.stamped != seq:
            times.append(self.current_since + STAMP_SECONDS)
        if self.told is not None and self.told.seq == seq:
            times.append(self.told.kill_at)
        return min((time for time in times if time > now), default=float("inf"))
