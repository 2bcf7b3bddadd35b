"""What a running job can see of itself, and what a process knows about being a worker."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jobcard.core import clock, view

if TYPE_CHECKING:
    from jobcard.core.codec import Codec
    from jobcard.core.job import Claimed, Job


class JobContext:
    """The running job's view of itself: a first parameter annotated `JobContext` receives it.

    attempt: the number of this try, from 1. token: rises with every claim of the job, so that what a job writes
    elsewhere can be fenced against an older try.
    """

    def __init__(self, claim: Claimed, codec: Codec, *, deadline: int | None = None) -> None:
        self._claim = claim
        self._codec = codec
        self.attempt = claim.attempt
        self.token = claim.token
        self._deadline = deadline

    @cached_property
    def job(self) -> Job:
        """The job as it was claimed."""
        # Built on demand: most jobs never look, and it costs more than starting them.
        return view.job_from_claim(self._claim, self._codec)

    @cached_property
    def deadline(self) -> datetime | None:
        """When its timeout ends it, or None."""
        return None if self._deadline is None else clock.to_datetime(self._deadline)

    def __repr__(self) -> str:
        return f"<JobContext {self._claim.name} attempt={self.attempt}>"


current: ContextVar[JobContext | None] = ContextVar("jobcard.current", default=None)
"""Set by the worker around each job."""


def current_job() -> JobContext | None:
    """The context of the job this code runs in, or None outside of one."""
    return current.get()


# ------------------------------------------------------------------ being a worker


@dataclass(frozen=True, slots=True)
class WorkerLink:
    """How a worker process reaches the store: through its engine. backend: obeys `backends.base.Backend`."""

    backend: Any


inside_worker: WorkerLink | None = None
"""Set for good in a worker process: every `Jobcard` there uses this link and starts no engine."""

importing = False
"""True while a worker imports the application, when waiting for a job would wait for ever."""


def enter_worker(backend: Any) -> None:
    """Make this process a worker: every `Jobcard` in it reaches the store through `backend`."""
    global inside_worker
    inside_worker = WorkerLink(backend)
