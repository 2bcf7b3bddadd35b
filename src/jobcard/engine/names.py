"""What the workers said about the jobs they know: how each runs, and what it may use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jobcard.core import states
from jobcard.core.job import Claimed
from jobcard.core.queue import Queue
from jobcard.core.rates import QueueLimit
from jobcard.core.settings import Settings


class Names:
    """The names of the application's jobs, and what is asked about a claim by its name."""

    def __init__(self, settings: Settings) -> None:
        self.shared: frozenset[str] = frozenset()
        """The names of jobs that run side by side."""
        self.limits: Mapping[str, QueueLimit] = {}
        """What bounds the served queues over all engines, for those that are bounded."""
        self._settings = settings
        self._about: Mapping[str, Mapping[str, Any]] = {}

    def know(self, names: Mapping[str, Mapping[str, Any]]) -> None:
        """A worker has imported the application and says this; where jobs run in this process, names may grow."""
        self._about = names
        self.shared = frozenset(name for name, about in names.items() if about.get("isolation") == "shared")

    def know_queues(self, queues: Iterable[Queue]) -> None:
        """These queues are served."""
        self.limits = {queue.name: limit for queue in queues if (limit := queue.limit) is not None}

    @property
    def all(self) -> list[str]:
        """Every name that is known."""
        return list(self._about)

    @property
    def are_all_shared(self) -> bool:
        """Whether there are jobs, and none that needs a process of its own."""
        return len(self.shared) == len(self._about) > 0

    def shares(self, claim: Claimed) -> bool:
        """Whether this job runs side by side with others; one that must run alone gets a process of its own."""
        return claim.name in self.shared and not states.must_run_alone(claim)

    def is_limited(self, claim: Claimed) -> bool:
        """Whether others wait for the place that it takes, over all engines: so it starts at once or goes back."""
        return claim.limit_key is not None or claim.queue in self.limits

    def wants_fresh(self, claim: Claimed) -> bool:
        """Whether it runs in a process that has run nothing else."""
        return bool(self._of(claim).get("isolation") == "fresh")

    def tells(self, claim: Claimed) -> bool:
        """Whether it wants to be told, not killed, when its claim cannot be renewed."""
        return bool(self._of(claim).get("on_lost_lease") == "tell")

    def memory_limit(self, claim: Claimed) -> int | None:
        """The most bytes its worker may use."""
        return self._of(claim).get("memory_limit") or self._settings.memory_limit

    def _of(self, claim: Claimed) -> Mapping[str, Any]:
        return self._about.get(claim.name, {})
