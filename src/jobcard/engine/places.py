"""How many jobs may run at once, and how many of the places are taken: by processes, and by jobs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from jobcard.core.queue import Queue
from jobcard.engine.held import Worker


class Places:
    """The places of one engine. A process worker that has jobs takes one, however many wait in its pipe."""

    def __init__(self, workers: Mapping[int, Worker], *, slots: int, most: int) -> None:
        """slots: jobs at once that need a process of their own. most: jobs at once, of both kinds."""
        self._workers = workers
        self._slots = slots
        self._most = most
        self.shares = False
        """Whether there are jobs that run side by side at all."""
        self.shared = 0
        """Jobs that shared workers have."""
        self.shared_of: Counter[str] = Counter()
        """… by queue."""

    @property
    def of_processes(self) -> int:
        """How many process workers may have jobs now."""
        return min(self._slots, self._most - self.shared)

    def free_to_share(self) -> int:
        """How many more jobs may run side by side now."""
        return self._most - self.shared - len([worker for worker in self._workers.values() if not worker.idle])

    def binds(self, queue: Queue) -> bool:
        """Whether its concurrency may keep a job of this queue waiting; cheap."""
        return queue.concurrency < (self._most if self.shares else self._slots)

    def left_in(self, queue: Queue, *, but: Worker | None = None) -> int:
        """How many more workers, or shared jobs, this queue may have now. but: a worker that is not counted."""
        # A worker runs one job at a time, so it counts once, however many of them it has.
        having = sum(1 for worker in self._workers.values() if worker is not but and worker.has(queue.name))
        return queue.concurrency - self.shared_of[queue.name] - having
