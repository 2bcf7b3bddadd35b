"""A job as the code that enqueued it holds it: its id, and the way to its result."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from jobcard.client import living
from jobcard.core import clock, context, limits
from jobcard.core.states import JobState
from jobcard.errors import ConfigError, JobFailedError, JobNotFoundError

if TYPE_CHECKING:
    from jobcard.backends.base import Ended
    from jobcard.client.parts import Parts
    from jobcard.client.watcher import Told
    from jobcard.core.definition import JobDefinition
    from jobcard.core.view import Job

R = TypeVar("R")


class JobHandle(Generic[R]):
    """One stored job. It pickles as its id; unpickled, it belongs to the only `Jobcard` of the process.

    duplicate: the job was there before; this call stored nothing and changed nothing.
    """

    __slots__ = ("_definition", "_id", "_joined", "_parts", "duplicate")

    def __init__(
        self,
        parts: Parts | None,
        job_id: bytes,
        definition: JobDefinition | None = None,
        *,
        duplicate: bool = False,
        joined: bool = False,
    ) -> None:
        """joined: it became part of a transaction, and nobody can see it before that commits."""
        self._parts = parts
        self._id = job_id
        self._definition = definition
        self._joined = joined
        self.duplicate = duplicate

    @property
    def id(self) -> UUID:
        """The job's id."""
        return UUID(bytes=self._id)

    def become(self, other: JobHandle[R]) -> None:
        """Stand for the job that another handle stands for: what was enqueued turned out to be there already."""
        self._id, self.duplicate = other._id, other.duplicate

    # -- its result

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait until the job has ended and return what it returned, rebuilt by the job's return annotation.

        timeout: seconds or a timedelta; None: as long as it takes; 0: look once. `JobFailedError` when it failed or
        was canceled; `ResultTimeoutError` when it has not ended, saying what it waits for. A job enqueued within a
        transaction is waited for until that commits, too.
        """
        parts = self._bound()
        seconds = _seconds(timeout)
        until = _until(seconds)
        told = parts.watcher.wait(self._id, seconds) if seconds != 0 else None
        while self._may_come(told):
            told = parts.watcher.wait(self._id, _left(until))
        if told is None:
            told = _last_look(parts, self._id, seconds or 0, joined=self._joined)
        return self._settle(parts, told)

    async def result_async(self, timeout: float | timedelta | None = None) -> R:
        """The same as `result`, awaitable."""
        parts = self._bound()
        seconds = _seconds(timeout)
        until = _until(seconds)
        told = await parts.threads.wait(parts.watcher, self._id, seconds)
        while self._may_come(told):
            told = await parts.threads.wait(parts.watcher, self._id, _left(until))
        if told is None:
            told = await parts.threads.run(_last_look, parts, self._id, seconds or 0, joined=self._joined)
        if not isinstance(told, Exception) and told.state == JobState.COMPLETED and self._definition is not None:
            # The common case needs nothing more from the store, and so no thread.
            return self._settle(parts, told)
        return await parts.threads.run(self._settle, parts, told)

    def __await__(self) -> Generator[Any, None, R]:
        return self.result_async().__await__()

    def _may_come(self, told: Told | None) -> bool:
        """Whether a job that is not there may be one whose transaction is open still."""
        return self._joined and isinstance(told, JobNotFoundError)

    def _settle(self, parts: Parts, told: Told) -> R:
        if isinstance(told, Exception):
            raise told
        if told.state != JobState.COMPLETED:
            raise JobFailedError(self.id, told.state, told.reason, parts.lookup.errors(self._id))
        return self._load(parts, told)

    def _load(self, parts: Parts, ended: Ended) -> R:
        definition = self._definition
        if definition is None:
            definition = parts.registry.find(parts.lookup.row(self._id).name)
        if definition is not None:
            result: R = definition.load_result(parts.codec, ended.result)
        else:
            result = parts.codec.loads(ended.result or "null", what="the result")
        return result

    # -- the job

    def refresh(self) -> Job:
        """The job as it is now; `JobNotFoundError` when it is gone, `CorruptRecordError` when it cannot be read."""
        return self._owner().lookup.get(self.id)

    def cancel(self) -> Job:
        """Cancel the job: at once while it waits, by telling its engine while it is at work.

        Returns the job as it now is; `TransitionError` when it has ended, `JobNotFoundError` when it is gone.
        """
        return self._owner().moves.cancel(self.id)

    def _owner(self) -> Parts:
        if self._parts is None:
            self._parts = living.only()
        return self._parts

    def _bound(self) -> Parts:
        if context.importing:
            raise ConfigError(
                "a worker that imports the application would wait for ever for this job: "
                'put what the script does under `if __name__ == "__main__":`'
            )
        return self._owner()

    # -- as a value

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._id,)

    def __eq__(self, other: object) -> bool:
        return self._id == other._id if isinstance(other, JobHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        name = "" if self._definition is None else f" {self._definition.name}"
        return f"<JobHandle{name} {self.id}>"


def _unpickled(job_id: bytes) -> JobHandle[Any]:
    if not isinstance(job_id, bytes) or len(job_id) != 16:
        raise JobNotFoundError(job_id)
    return JobHandle(None, job_id)


def _last_look(parts: Parts, job_id: bytes, waited: float, *, joined: bool) -> Ended:
    from jobcard.client.explain import last_look  # only now: most processes wait for no job, or not in vain

    return last_look(parts, job_id, waited, joined=joined)


def _seconds(timeout: float | timedelta | None) -> float | None:
    if timeout is None:
        return None
    return limits.check_duration(timeout, "timeout", 0, limits.MAX_DELAY, error=ConfigError) / clock.SECOND


def _until(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())
