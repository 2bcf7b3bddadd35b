"""A shared worker as the plan sees it: a process that runs all jobs it is given at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobcard.engine.held import InHand, Process


@dataclass(slots=True, eq=False)
class Sharer(Process):
    """One worker process whose jobs run side by side. It never was, and never becomes, one that runs them in turn."""

    jobs: dict[int, InHand] = field(default_factory=dict)
    idle_since: float = 0.0
    blocked_until: float = 0.0
    """Something holds its loop, so it takes nothing: until then it gets nothing, unless it says a word before."""
    guilty: set[int] = field(default_factory=set)
    """Jobs that did not end though they were told to, and the grace is over."""
    kill_at: float = float("inf")
    """When it is killed for the guilty ones."""

    def takes(self, now: float) -> bool:
        """Whether it may be given jobs."""
        return not self.leaving and self.killed is None and now >= self.blocked_until

    def unstarted(self) -> bool:
        """Whether it has jobs that, as far as we know, it has not begun."""
        return any(job.started is None for job in self.jobs.values())
