"""What a running job can see of itself, and what a process knows about being a worker."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jobcard.core import clock, limits
from jobcard.core.signals import Told
from jobcard.errors import ConfigError, InvalidJobError

if TYPE_CHECKING:
    from jobcard.core.codec import Codec
    from jobcard.core.job import Claimed
    from jobcard.core.view import Job

MAX_LINE = 2_000  # characters of one line of a job's log
MAX_PROGRESS_TEXT = 200


class Line(Protocol):
    """What connects a running job with its engine, while it runs. Any thread of the job may use it."""

    def told(self) -> str | None:
        """Why the job shall end, in the words of whoever wants it; None: it may go on."""
        ...

    def progress(self, value: float, text: str | None) -> None:
        """Say how far it is."""
        ...

    def log(self, text: str) -> None:
        """Say a line."""
        ...

    def save(self, checkpoint: str) -> None:
        """Have this stored, and return when it is."""
        ...

    async def save_async(self, checkpoint: str) -> None:
        """The same, awaitable."""
        ...

    def follow_up(self, call: Any) -> None:
        """Have this call stored with the job's success; refused at once when it does not fit."""
        ...


class JobContext:
    """The running job's view of itself: a first parameter annotated `JobContext` receives it.

    attempt: the number of this try, from 1. token: rises with every claim of the job, so that what a job writes
    elsewhere can be fenced against an older try. Any thread of the job may use it; once the job has ended, what
    speaks to the engine raises `ConfigError`.
    """

    def __init__(self, claim: Claimed, codec: Codec, *, deadline: int | None = None, line: Line | None = None) -> None:
        self._claim = claim
        self._codec = codec
        self.attempt = claim.attempt
        self.token = claim.token
        self._deadline = deadline
        self._line = line
        self._checkpoint = claim.checkpoint

    @property
    def claim(self) -> Claimed:
        """The job as its engine handed it over; for jobcard itself."""
        return self._claim

    @cached_property
    def job(self) -> Job:
        """The job as it was claimed."""
        # Imported and built on demand: most jobs never look, and it costs more than starting them.
        from jobcard.core.view import job_from_claim

        return job_from_claim(self._claim, self._codec)

    @cached_property
    def deadline(self) -> datetime | None:
        """When its timeout ends it, or None."""
        return None if self._deadline is None else clock.to_datetime(self._deadline)

    # -- being told to end

    @property
    def cancelled(self) -> bool:
        """Whether the job is told to end: canceled, out of time, or because its engine stops. Cheap to ask."""
        return self._engine().told() is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why it is told to end, in the words of whoever wants it; None: it may go on."""
        return self._engine().told()

    def raise_if_cancelled(self) -> None:
        """End the job here, with a `Cancel`, if it is told to end."""
        reason = self._engine().told()
        if reason is not None:
            raise Told(reason)

    # -- what others can see while it runs

    def progress(self, value: float, text: str | None = None) -> None:
        """Say how far the job is: 0 to 1, and in up to 200 characters of its own words. Seen within a second.

        It costs next to nothing, however often it is called: only the last is passed on. `InvalidJobError` for a
        value that is none.
        """
        line = self._engine()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InvalidJobError("progress is a number from 0 to 1")
        line.progress(float(value), None if text is None else as_text(text, MAX_PROGRESS_TEXT))

    def log(self, text: str) -> None:
        """Add a line to the job's log: up to 2,000 characters, of all lines the last 1,000. Seen within a second."""
        self._engine().log(as_text(text, MAX_LINE))

    # -- what the next try can see

    @property
    def checkpoint(self) -> Any:
        """What `save_checkpoint` stored last, by this try or an earlier one; None: nothing yet."""
        return None if self._checkpoint is None else self._codec.loads(self._checkpoint, what="the checkpoint")

    def save_checkpoint(self, value: Any) -> None:
        """Store what the next try needs to go on from here; returns when it is stored.

        `SerializationError` for what cannot be stored, `ClaimLostError` when the job is another engine's by now,
        `ConfigError` in a coroutine that shares its event loop: await `save_checkpoint_async` there.
        """
        line = self._engine()
        text = self._written(value)
        line.save(text)
        self._checkpoint = text

    async def save_checkpoint_async(self, value: Any) -> None:
        """The same as `save_checkpoint`, awaitable."""
        line = self._engine()
        text = self._written(value)
        await line.save_async(text)
        self._checkpoint = text

    def _written(self, value: Any) -> str:
        return self._codec.dumps(value, what="the checkpoint", limit=limits.MAX_RESULT)

    # -- what comes after it

    def then(self, call: Any) -> None:
        """Enqueue `job.call(…)` when this job succeeds: stored in the same step as its success, or not at all.

        However often the job is tried, each follow-up is stored once. `InvalidJobError` here for arguments that do
        not fit.
        """
        self._engine().follow_up(call)

    # -- for whoever runs the job

    def end(self) -> None:
        """The job has ended: nothing of it reaches the engine any more."""
        self._line = None

    def _engine(self) -> Line:
        line = self._line
        if line is None:
            raise ConfigError("this job has ended: its context can only speak to the engine while the job runs")
        return line

    def __repr__(self) -> str:
        return f"<JobContext {self._claim.name} attempt={self.attempt}>"


def as_text(value: object, most: int) -> str:
    """Text that every store can keep, of so many characters at most; what is no text is spelled out."""
    text = str(value)
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


current: ContextVar[JobContext | None] = ContextVar("jobcard.current", default=None)
"""Set by the worker around each job."""


def current_job() -> JobContext | None:
    """The context of the job this code runs in, or None outside of one."""
    return current.get()


# ------------------------------------------------------------------ being a worker


class WorkerLink(NamedTuple):
    """How a worker process reaches the store: through its engine, or by itself.

    backend: obeys `backends.base.Backend`; None: each `Jobcard` opens its own.
    """

    backend: Any


inside_worker: WorkerLink | None = None
"""Set in a worker process: every `Jobcard` there uses this link and starts no engine."""

importing = False
"""True while a worker imports the application, when waiting for a job would wait for ever."""


def enter_worker(backend: Any) -> None:
    """Make this process a worker: every `Jobcard` in it reaches the store through `backend`; None: by itself."""
    global inside_worker
    inside_worker = WorkerLink(backend)
