"""The queues as the store keeps them; a change reaches running engines within two seconds."""

from __future__ import annotations

import builtins
import getpass
import logging
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from jobcard.backends.base import Backend, Record, RecordKind
from jobcard.client.ageing import Ageing
from jobcard.client.store import Connection
from jobcard.core import clock
from jobcard.core.queue import Queue, queue_from_text, queue_to_text
from jobcard.core.rates import RateLimit
from jobcard.core.settings import check_names
from jobcard.engine.small_records import find_record, rewrite, understood_queue
from jobcard.errors import ConfigError, CorruptRecordError, QueueNotFoundError


class QueueOptions(TypedDict, total=False):
    """What can be said about a queue; see `Queue`."""

    concurrency: int
    priority: int
    weight: int
    global_concurrency: int | None
    rate: RateLimit | None
    ageing: float | timedelta | None
    paused: bool


_log = logging.getLogger("jobcard.client")

_OPTIONS = frozenset(QueueOptions.__annotations__)
_FIELDS = tuple(field.name for field in fields(Queue) if field.compare)
_MAX_WHO = 200


class Queues:
    """`jobs.queues`."""

    def __init__(self, connection: Connection, ageing: Ageing) -> None:
        self._connection = connection
        self._ageing = ageing

    def create(self, name: str, **options: Unpack[QueueOptions]) -> Queue:
        """Make a queue, or make an existing one just so: what is not given has its default."""
        wanted = Queue(name, **_checked(options))
        return self._write(name, lambda stored: wanted, None)

    def get(self, name: str) -> Queue:
        """One queue; `QueueNotFoundError` when there is none of this name."""
        with self._connection as store:
            found = find_record(store, RecordKind.QUEUE, name)
        if found is None:
            raise QueueNotFoundError(name)
        return queue_from_text(found.key, found.value)[0]

    def list(self, order_by: str = "name") -> builtins.list[Queue]:
        """All queues, by a field of `Queue`; "-priority": highest first. Equal ones by name.

        One whose record cannot be read is left out, with a warning in the log.
        """
        field = order_by.removeprefix("-") if isinstance(order_by, str) else order_by
        if field not in _FIELDS:
            raise ConfigError(f"order_by must be one of {', '.join(_FIELDS)}, with a - for descending")
        with self._connection as store:
            records = store.read_records(RecordKind.QUEUE)
        found = []
        for record in records:
            try:
                found.append(queue_from_text(record.key, record.value)[0])
            except CorruptRecordError as error:
                _log.warning("%s; it is left out of the list", error)
        found.sort(key=lambda queue: queue.name)
        return sorted(found, key=lambda queue: _to_compare(getattr(queue, field)), reverse=order_by.startswith("-"))

    def names(self) -> builtins.list[str]:
        """The names of all queues, sorted."""
        return [queue.name for queue in self.list()]

    def update(self, name: str, **changes: Unpack[QueueOptions]) -> Queue:
        """Change some of a queue's fields; `QueueNotFoundError` when there is none of this name.

        One whose record cannot be read is made anew: what is not given has its default.
        """
        return self._update(name, changes, None)

    def _update(self, name: str, changes: Mapping[str, Any], by: str | None) -> Queue:
        checked = _checked(changes)

        def changed(stored: Queue | None) -> Queue:
            if stored is None:
                raise QueueNotFoundError(name)
            return replace(stored, **checked)

        return self._write(name, changed, by)

    def pause(self, name: str, *, by: str | None = None) -> Queue:
        """Let engines take nothing more from a queue; what runs goes on.

        by: who wants it so, for `explain` and other operators; without it this user on this host.
        """
        if by is not None and not (isinstance(by, str) and by.isprintable() and 0 < len(by) <= _MAX_WHO):
            raise ConfigError(f"by must be text of 1 to {_MAX_WHO} printable characters")
        return self._update(name, {"paused": True}, by)

    def resume(self, name: str) -> Queue:
        """Let engines take from a paused queue again."""
        return self.update(name, paused=False)

    def _write(self, name: str, change: Callable[[Queue | None], Queue], by: str | None) -> Queue:
        with self._connection as store:

            def changed(record: Record | None) -> str:
                stored, declared = (None, None) if record is None else understood_queue(record)
                if record is not None and stored is None:
                    _log.warning("the record of queue %s cannot be read: it is written anew", name)
                    stored = Queue(name)
                return queue_to_text(_stamped(store, stored, change(stored), by), declared=declared)

            text = rewrite(store, RecordKind.QUEUE, name, changed)
        self._ageing.forget()
        return queue_from_text(name, text)[0]


def _stamped(store: Backend, stored: Queue | None, wanted: Queue, by: str | None) -> Queue:
    """The queue with who paused it and since when: the first who did, until somebody resumes it."""
    if not wanted.paused:
        return replace(wanted, paused_by=None, paused_since=None)
    if stored is not None and stored.paused:
        return replace(wanted, paused_by=stored.paused_by, paused_since=stored.paused_since)
    return replace(wanted, paused_by=by or _who(), paused_since=clock.to_datetime(store.facts().now))


def _to_compare(value: Any) -> Any:
    if isinstance(value, RateLimit):
        return value.count / clock.to_duration(value.per)
    # A queue without ageing ages slowest of all, and one without a limit has the highest.
    return math.inf if value is None else value


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "somebody"  # a container's user often has no name
    return f"{user}@{socket.gethostname()}"[:_MAX_WHO]


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    check_names(dict(options), set(_OPTIONS), "a queue")
    return dict(options)
