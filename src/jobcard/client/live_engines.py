"""Which engines work on this store, and what an operator tells them."""

from __future__ import annotations

import builtins
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobcard.backends.base import Record, RecordKind
from jobcard.client.store import Connection
from jobcard.core import clock
from jobcard.engine.record import UNREADABLE, corrupt, is_alive
from jobcard.errors import CorruptRecordError, EngineNotFoundError

_log = logging.getLogger("jobcard.client")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineJob:
    """A job that a worker of an engine was running when the engine wrote its record. pid: the worker's."""

    pid: int
    job_id: UUID
    name: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A live engine, as it told of itself at its last heartbeat.

    queues: those it serves. workers: the pids of its worker processes. quiet: it was told to claim nothing more.
    app: what it runs, "module:attribute" or a script; None: it does not say, being of an older version,
    or in the process of an application that no other could find.
    """

    id: str
    pid: int
    keeper_pid: int | None
    host: str
    version: str
    started_at: datetime
    heartbeat_at: datetime
    queues: tuple[str, ...]
    workers: tuple[int, ...]
    quiet: bool = False
    app: str | None = None
    jobs: tuple[EngineJob, ...] = ()


class Engines:
    """`jobs.engines`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> builtins.list[Engine]:
        """The engines whose last heartbeat is recent, by id; one whose record cannot be read is left out.

        A warning in the log tells of it.
        """
        with self._connection as store:
            records = store.read_records(RecordKind.ENGINE)
            now = store.facts().now if records else 0
        found = []
        for record in records:
            try:
                if is_alive(record):
                    found.append(engine_from(record, now))
            except CorruptRecordError as error:
                _log.warning("%s; it is left out of the list", error)
        return found

    def quiet(self, engine_id: str) -> None:
        """Let an engine claim nothing more and finish what it has; it stays. Within two seconds.

        `EngineNotFoundError` when no live engine has this id.
        """
        self._order(engine_id, "quiet")

    def work(self, engine_id: str) -> None:
        """Let a quiet engine claim again; `EngineNotFoundError` when no live engine has this id."""
        self._order(engine_id, "work")

    def stop(self, engine_id: str) -> None:
        """Stop an engine as SIGTERM would: it drains and ends. `EngineNotFoundError` when there is none of this id."""
        self._order(engine_id, "stop")

    def _order(self, engine_id: str, order: str) -> None:
        if all(engine.id != engine_id for engine in self.list()):
            raise EngineNotFoundError(engine_id)
        with self._connection as store:
            store.write_record(RecordKind.ORDER, engine_id, json.dumps({"order": order}))


def engine_from(record: Record, now: int) -> Engine:
    """What an engine told of itself, alive or not; `CorruptRecordError` when it cannot be read.

    now: the store's. `engine/record.py` says what it tells.
    """
    try:
        document = json.loads(record.value)
        return Engine(
            id=record.key,
            pid=document["pid"],
            keeper_pid=document["keeper_pid"],
            host=document["host"],
            version=document["version"],
            started_at=clock.to_datetime(document["started_at"]),
            heartbeat_at=clock.to_datetime(now - record.age),
            queues=tuple(document["queues"]),
            workers=tuple(document["workers"]),
            # Engines of an older version do not write these.
            quiet=bool(document.get("quiet", False)),
            app=document.get("app"),
            jobs=tuple(map(_job, document.get("jobs", ()))),
        )
    except UNREADABLE as error:
        raise corrupt(record) from error


def _job(told: Sequence[Any]) -> EngineJob:
    # A newer engine may tell more.
    pid, job_id, name, since, *_more = told
    return EngineJob(pid=pid, job_id=UUID(job_id), name=name, since=clock.to_datetime(since))
