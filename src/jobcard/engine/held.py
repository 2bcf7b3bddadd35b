"""A worker as the plan sees it, and the jobs it was given."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from jobcard.core.job import Claimed
from jobcard.engine.commands import Given

WINDOW = 64  # jobs in a worker's pipe at most
RECALL_SECONDS = 0.02  # a worker busy with one job for this long gives back what it has not started


@dataclass(slots=True)
class Worker:
    """One worker process as the plan sees it."""

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
    reserved: tuple[Claimed, float] | None = None
    """A job that is being stamped `running` before it may be handed over."""
    killed: tuple[int, str] | None = None
    """We killed it: the number of the job it was killed for (-1: none), and why."""

    @property
    def idle(self) -> bool:
        return not self.sent and self.reserved is None

    @property
    def takes(self) -> bool:
        return self.ready and not self.leaving and self.killed is None and self.reserved is None

    def is_stuck(self, now: float) -> bool:
        """Whether it runs a job for so long that nothing may wait behind it."""
        return bool(self.sent) and now - self.current_since >= RECALL_SECONDS
