"""What an engine says of itself in the store, whether it has a process of its own or not; `client` reads it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.backends.base import Backend, Record, RecordKind
from jobcard.core import clock
from jobcard.errors import CorruptRecordError, JobcardError
from jobcard.version import VERSION

if TYPE_CHECKING:
    from jobcard.engine.dispatcher import Dispatcher

JOBS_SHOWN = 50  # of those that run
BEATS = 3
"""An engine that missed this many heartbeats is gone."""
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading a record raises that is none."""


def name_of(reference: dict[str, Any]) -> str:
    """An application as the command line names it: its module or script, and what it is called there."""
    return f"{reference['module'] or reference['path']}:{reference['attribute']}"


def describe(
    dispatcher: Dispatcher,
    *,
    app: str | None,
    keeper: int | None,
    started_at: float,
    heartbeat: float,
    workers: Sequence[int],
    pid_of: Callable[[int], int | None],
) -> dict[str, Any]:
    """The record of the engine in this process; an older engine has not all of it, a newer one may have more.

    heartbeat: seconds between two writings of it. workers: their processes. pid_of: where the worker of a number runs.
    """
    now = time.time()
    return {
        "pid": os.getpid(),
        "keeper_pid": keeper,
        "host": socket.gethostname(),
        "version": VERSION,
        "started_at": round(started_at * 1e6),
        "heartbeat": heartbeat,
        "queues": dispatcher.served,
        "workers": workers,
        "quiet": dispatcher.is_quiet,
        "follows": dispatcher.follows,
        "app": app,
        # [worker's pid, job's id, name, began at] of what runs now, instants in microseconds.
        "jobs": [
            [pid_of(worker), str(UUID(bytes=claim.id)), claim.name, round((now - ago) * 1e6)]
            for worker, claim, ago in dispatcher.running(JOBS_SHOWN)
        ],
    }


def is_alive(record: Record) -> bool:
    """Whether an engine was heard of lately, by its record; `CorruptRecordError` when that cannot be read."""
    try:
        return record.age < BEATS * clock.to_duration(json.loads(record.value)["heartbeat"])
    except UNREADABLE as error:
        raise corrupt(record) from error


def corrupt(record: Record) -> CorruptRecordError:
    """What to raise for an engine's record that cannot be read."""
    return CorruptRecordError(f"the record of engine {record.key} cannot be read")


def remove(backend: Backend, owner: str) -> None:
    """Take away what the store has of an engine that ends: its record, and what it was told."""
    for kind in (RecordKind.ENGINE, RecordKind.ORDER):
        with contextlib.suppress(JobcardError):
            backend.remove_record(kind, owner)
