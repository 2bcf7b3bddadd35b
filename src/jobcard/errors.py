"""Everything jobcard raises on purpose.

    JobcardError
    ├── ConfigError (ValueError)        wrong before anything ran: bad URL, unknown option
    ├── InvalidJobError (ValueError)    this job was not stored: bad name, delay, size …
    │   └── SerializationError (TypeError)   arguments or result do not survive the round trip
    ├── UnknownJobError                 no such name in the registry
    ├── NotFoundError
    │   └── JobNotFoundError, QueueNotFoundError, ScheduleNotFoundError, EngineNotFoundError
    ├── DuplicateJobError               carries the existing job's id
    ├── TransitionError                 carries verb, state found, states allowed
    │   └── ClaimLostError              the claim is no longer ours; drop the outcome
    ├── JobFailedError                  what handle.result() raises: carries the recorded errors
    ├── ResultTimeoutError (TimeoutError)
    ├── SchemaVersionError              the store's schema is older or newer than this code
    ├── BackupError                     the file is damaged, not ours, or cannot be written; nothing was written
    └── StoreError                      the store failed; __cause__ is the driver's error
        ├── StoreUnavailableError       worth trying again
        │   └── EnqueueUnknownError     the answer was lost: carries the ids, repeat with them
        ├── AccessDeniedError (ConfigError)  wrong password, or this user may not do that
        ├── StoreFullError
        ├── StoreMovedError             the store was sealed: its jobs live elsewhere now
        └── CorruptRecordError          one row is unreadable: quarantined, bytes kept

What a job raises to steer itself (`Retry`, `Snooze`, …) is a `JobSignal`, not an error: see `signals.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID


class JobcardError(Exception):
    """The root of every error jobcard raises on purpose."""


class ConfigError(JobcardError, ValueError):
    """The configuration is wrong; nothing ran."""


class InvalidJobError(JobcardError, ValueError):
    """This job was not stored: one of its fields is out of bounds.

    index: its place in the list given to `enqueue_many`, else None.
    """

    index: int | None = None


class SerializationError(InvalidJobError, TypeError):
    """A value does not survive the way to JSON and back."""


class UnknownJobError(JobcardError):
    """No job of that name is registered."""

    def __init__(self, name: str, hint: str = "") -> None:
        self.name = name
        super().__init__(f"no job is registered under the name {name!r}{hint}")


class NotFoundError(JobcardError):
    """Something asked for by its name or id is not in the store."""


class JobNotFoundError(NotFoundError):
    """No job has this id."""

    def __init__(self, job_id: object) -> None:
        self.job_id = job_id
        super().__init__(f"no job has the id {str(job_id)[:80]!r}")


class QueueNotFoundError(NotFoundError):
    """No queue has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no queue is named {name!r}")


class ScheduleNotFoundError(NotFoundError):
    """No schedule has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no schedule is named {name!r}")


class EngineNotFoundError(NotFoundError):
    """No live engine has this id."""

    def __init__(self, engine_id: object) -> None:
        self.engine_id = str(engine_id)[:200]
        super().__init__(f"no live engine has the id {self.engine_id[:80]!r}")


class DuplicateJobError(JobcardError):
    """Another job already holds this id or unique key.

    job_id: the job that was refused. existing_id: the job that is already there. index: its place in the list given
    to `enqueue_many`, whose other jobs are stored; else None. verb: the move of a stored job that was refused, such as
    retry; None: an enqueue.
    """

    index: int | None = None

    def __init__(self, job_id: UUID, existing_id: UUID, why: str, verb: str | None = None) -> None:
        self.job_id = job_id
        self.existing_id = existing_id
        self.verb = verb
        refused = f"job {job_id} was not stored: {why}" if verb is None else f"cannot {verb}: job {job_id} {why}"
        super().__init__(f"{refused} (existing job: {existing_id})")


class TransitionError(JobcardError):
    """The job is in a state that does not allow this move; nothing changed.

    verb: the move. found: the state the job is in. allowed: the states it may start from.
    """

    def __init__(self, verb: str, found: str, allowed: Collection[str], job_id: object = None) -> None:
        self.verb = verb
        self.found = found
        self.allowed = tuple(sorted(allowed))
        self.job_id = job_id
        subject = f"job {job_id}" if job_id is not None else "the job"
        super().__init__(f"cannot {verb}: {subject} is {found}, allowed from {', '.join(self.allowed)}")


class ClaimLostError(TransitionError):
    """The claim is no longer ours: the job was rescued or taken; the outcome is dropped."""


class JobFailedError(JobcardError):
    """The job ended without a result.

    state: `failed` or `canceled`. errors: the recorded tries, oldest first. job_id: its id.
    """

    def __init__(self, job_id: UUID, state: str, reason: str | None, errors: Sequence[dict[str, Any]]) -> None:
        self.job_id = job_id
        self.state = state
        self.reason = reason
        self.errors = list(errors)
        last = f": {errors[-1].get('type') or ''} {errors[-1].get('message') or ''}".rstrip() if errors else ""
        super().__init__(f"job {job_id} {state} ({reason or 'no reason recorded'}){last}")


class ResultTimeoutError(JobcardError, TimeoutError):
    """The job did not end in time; it may still run.

    job_id: its id. state: its state when we stopped waiting.
    """

    def __init__(self, job_id: UUID, waited: float, state: str, explanation: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"job {job_id} has not ended after {waited:g} s; it is {state}: {explanation}")


class SchemaVersionError(JobcardError):
    """The store's schema is older or newer than this code; nothing was written.

    found: the version in the store (0: none). wanted: the version this code needs.
    """

    def __init__(self, found: int, wanted: int) -> None:
        self.found = found
        self.wanted = wanted
        way_out = "run `jobcard migrate`" if found < wanted else "run a newer jobcard"
        super().__init__(f"the store's schema has version {found}, this code needs {wanted}: {way_out}")


class BackupError(JobcardError):
    """The backup file is damaged, not ours, or cannot be written; nothing was written."""


class StoreError(JobcardError):
    """The store failed; `__cause__` is the driver's own error."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached or is too busy; worth trying again."""


class EnqueueUnknownError(StoreUnavailableError):
    """The answer to an enqueue was lost: the jobs may be stored or not.

    ids: the ids of the jobs; repeating the call with them never makes a second job.
    """

    def __init__(self, ids: Sequence[UUID]) -> None:
        self.ids = tuple(ids)
        super().__init__(
            f"the store's answer was lost: {len(self.ids)} job(s) may be stored or not; "
            "repeat with the same id, it never makes a second job"
        )


class AccessDeniedError(StoreError, ConfigError):
    """The store does not let this user in, or not do this; nothing was stored."""


class StoreFullError(StoreError):
    """The store has no room left; nothing was stored."""


class StoreMovedError(StoreError):
    """The store was sealed: its jobs live elsewhere now."""


class CorruptRecordError(StoreError):
    """One record is unreadable; its bytes are kept and it is not run."""


ABOUT_THE_STORE = (StoreUnavailableError, StoreFullError, StoreMovedError, AccessDeniedError)
"""What a store says that no single job or record is to blame for."""
