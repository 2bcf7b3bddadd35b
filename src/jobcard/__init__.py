"""Background jobs for Python, kept in the database you already run."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers know this name; `typing` is a tenth of what the keeper imports
if TYPE_CHECKING:
    from typing import Any

    from jobcard.client import Jobcard
    from jobcard.client.batches import Batch
    from jobcard.client.classes import JobClass
    from jobcard.client.events import Event, Events
    from jobcard.client.explain import Reason
    from jobcard.client.groups import JobGroup
    from jobcard.client.handles import JobHandle
    from jobcard.client.health import Health, Stats
    from jobcard.client.hooks import Enqueuing
    from jobcard.client.live_engines import Engine, EngineJob
    from jobcard.client.lookup import Bucket, Counts, Page
    from jobcard.core.context import JobContext, current_job
    from jobcard.core.dependencies import Dependency, Ended
    from jobcard.core.queue import Queue
    from jobcard.core.rates import RateLimit
    from jobcard.core.retry import Backoff
    from jobcard.core.schedule import Schedule
    from jobcard.core.signals import Cancel, Fail, Retry, Snooze
    from jobcard.core.states import JobState
    from jobcard.core.unique import Unique
    from jobcard.core.view import Job
    from jobcard.errors import (
        AccessDeniedError,
        BackupError,
        ClaimLostError,
        ConfigError,
        CorruptRecordError,
        DuplicateJobError,
        EngineNotFoundError,
        EnqueueUnknownError,
        InvalidJobError,
        JobcardError,
        JobFailedError,
        JobNotFoundError,
        NotFoundError,
        QueueNotFoundError,
        ResultTimeoutError,
        ScheduleNotFoundError,
        SchemaVersionError,
        SerializationError,
        StoreError,
        StoreFullError,
        StoreMovedError,
        StoreUnavailableError,
        TransitionError,
        UnknownJobError,
    )
    from jobcard.moving.summary import Backup, Restored

__all__ = [
    "AccessDeniedError",
    "Backoff",
    "Backup",
    "BackupError",
    "Batch",
    "Bucket",
    "Cancel",
    "ClaimLostError",
    "ConfigError",
    "CorruptRecordError",
    "Counts",
    "Dependency",
    "DuplicateJobError",
    "Ended",
    "Engine",
    "EngineJob",
    "EngineNotFoundError",
    "EnqueueUnknownError",
    "Enqueuing",
    "Event",
    "Events",
    "Fail",
    "Health",
    "InvalidJobError",
    "Job",
    "JobClass",
    "JobContext",
    "JobFailedError",
    "JobGroup",
    "JobHandle",
    "JobNotFoundError",
    "JobState",
    "Jobcard",
    "JobcardError",
    "NotFoundError",
    "Page",
    "Queue",
    "QueueNotFoundError",
    "RateLimit",
    "Reason",
    "Restored",
    "ResultTimeoutError",
    "Retry",
    "Schedule",
    "ScheduleNotFoundError",
    "SchemaVersionError",
    "SerializationError",
    "Snooze",
    "Stats",
    "StoreError",
    "StoreFullError",
    "StoreMovedError",
    "StoreUnavailableError",
    "TransitionError",
    "Unique",
    "UnknownJobError",
    "current_job",
]

# Looked up when first asked for: a program that only catches our errors loads nothing else.
_HOMES = {
    "Backoff": "core.retry",
    "Backup": "moving.summary",
    "Batch": "client.batches",
    "Bucket": "client.lookup",
    "Cancel": "core.signals",
    "Counts": "client.lookup",
    "Dependency": "core.dependencies",
    "Ended": "core.dependencies",
    "Engine": "client.live_engines",
    "EngineJob": "client.live_engines",
    "Enqueuing": "client.hooks",
    "Event": "client.events",
    "Events": "client.events",
    "Fail": "core.signals",
    "Health": "client.health",
    "Job": "core.view",
    "JobClass": "client.classes",
    "JobContext": "core.context",
    "JobGroup": "client.groups",
    "JobHandle": "client.handles",
    "JobState": "core.states",
    "Jobcard": "client",
    "Page": "client.lookup",
    "Queue": "core.queue",
    "RateLimit": "core.rates",
    "Reason": "client.explain",
    "Restored": "moving.summary",
    "Retry": "core.signals",
    "Schedule": "core.schedule",
    "Snooze": "core.signals",
    "Stats": "client.health",
    "Unique": "core.unique",
    "current_job": "core.context",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
