"""A shared worker as the plan sees it: a process that runs all jobs it is given at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobcard.core.job import Claimed
from jobcard.engine.held import Told


@dataclass(slots=True, eq=False)
class SharedJob:
    """A job that a shared worker was given."""

    claim: Claimed
    since: float
    """Since when we hold it."""
    given_at: float
    started: float | None = None
    stamped: bool = False
    told: Told | None = None
    lost: bool = False
    """Its claim may be somebody else's by now."""


@dataclass(slots=True, eq=False)
class Sharer:
    """One worker process whose jobs run side by side. It never was, and never becomes, one that runs them in turn."""

    number: int
    ready_since: float
    jobs: dict[int, SharedJob] = field(default_factory=dict)
    served: int = 0
    idle_since: float = 0.0
    leaving: bool = False
    """It gets no more jobs and ends when it is empty."""
    retired: bool = False
    """It was told to end."""
    fat: bool = False
    """It holds so much memory that another should take its place."""
    blocked_until: float = 0.0
    """Something holds its loop, so it takes nothing: until then it gets nothing, unless it says a word before."""
    guilty: set[int] = field(default_factory=set)
    """Jobs that did not end though they were told to, and the grace is over."""
    kill_at: float = float("inf")
    """When it is killed for the guilty ones."""
    killed: str | None = None
    """We killed it, and why."""

    def takes(self, now: float) -> bool:
        """Whether it may be given jobs."""
        return not self.leaving and self.killed is None and now >= self.blocked_until

    def unstarted(self) -> bool:
        """Whether it has jobs that, as far as we know, it has not begun."""
        return any(job.started is None for job in self.jobs.values())
