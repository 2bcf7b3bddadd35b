"""5. An enqueue is answered at once and stored a moment later; who is killed in between has lost what was promised."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from jobcard.backends.base import Enqueued, Fate
from jobcard.core.job import NewJob
from planted import method

LATER = 0.3


def _later(true: Callable[..., Any]) -> Callable[..., list[Enqueued]]:
    def enqueue(self: Any, jobs: Sequence[NewJob]) -> list[Enqueued]:
        threading.Timer(LATER, true, (self, list(jobs))).start()
        return [Enqueued(Fate.STORED, job.id) for job in jobs]

    return enqueue


BREAKS = method("jobcard.backends.sqlite.backend:SQLiteBackend.enqueue", _later)
