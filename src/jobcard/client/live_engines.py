"""Which engines work on this store."""

from __future__ import annotations

import builtins
import json
from dataclasses import dataclass
from datetime import datetime

from jobcard.backends.base import Record, RecordKind
from jobcard.client.store import Connection
from jobcard.core import clock
from jobcard.errors import CorruptRecordError

_BEATS = 3
"""An engine that missed this many heartbeats is not listed any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A live engine. queues: those it serves. workers: the pids of its worker processes. quiet: it claims nothing."""

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


class Engines:
    """`jobs.engines`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> builtins.list[Engine]:
        """The engines whose last heartbeat is recent, by id."""
        with self._connection as store:
            records = store.read_records(RecordKind.ENGINE)
            now = store.facts().now if records else 0
        return [engine for record in records if (engine := _alive(record, now))]

    def quiet(self, engine_id: str) -> None:
        """Tell an engine to finish what it has and to take nothing more."""
        self._order(engine_id, "quiet")

    def work(self, engine_id: str) -> None:
        """Tell a quiet engine to take jobs again."""
        self._order(engine_id, "work")

    def stop(self, engine_id: str) -> None:
        """Tell an engine to stop, as SIGTERM does."""
        self._order(engine_id, "stop")

    def _order(self, engine_id: str, order: str) -> None:
        with self._connection as store:
            store.write_record(RecordKind.ORDER, engine_id, json.dumps({"order": order}))


def _alive(record: Record, now: int) -> Engine | None:
    # stored: {"pid", "keeper_pid", "host", "version", "started_at": microseconds, "heartbeat": seconds between
    #          two writings of this, "queues": [names], "workers": [pids]}
    try:
        document = json.loads(record.value)
        if record.age >= _BEATS * clock.to_duration(document["heartbeat"]):
            return None
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
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise CorruptRecordError(f"the record of engine {record.key} cannot be read") from error
