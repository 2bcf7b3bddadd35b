"""Small records of a store: found, changed by several at once, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from jobcard.backends.base import Backend, Record, RecordKind
from jobcard.core import clock
from jobcard.core.queue import Queue, queue_from_text, reconcile
from jobcard.errors import CorruptRecordError


def find_record(backend: Backend, kind: RecordKind, key: str) -> Record | None:
    """The record of this name, or None."""
    return next((record for record in backend.read_records(kind) if record.key == key), None)


def rewrite(backend: Backend, kind: RecordKind, key: str, change: Callable[[Record | None], str]) -> str:
    """Make of a record (None: there is none) what `change` says; the text it has now.

    Only over what `change` was shown, for somebody else may be changing something else: so it may be called again.
    """
    while True:
        record = find_record(backend, kind, key)
        text = change(record)
        if record is not None and record.value == text:
            return text
        if backend.write_record(kind, key, text, expect=0 if record is None else record.version) is not None:
            return text


def understood_queue(record: Record) -> tuple[Queue | None, Queue | None]:
    """The queue of a record, and what code last declared about it; (None, None) when it cannot be read."""
    try:
        return queue_from_text(record.key, record.value)
    except CorruptRecordError:
        return None, None


def ageing_of(records: Iterable[Record], declared: Iterable[Queue] = ()) -> Mapping[str, int]:
    """The queues whose jobs age, in microseconds for a point of priority; one that cannot be read has none.

    declared: what this code says, and an engine of it is yet to write.
    """
    return {
        queue.name: clock.to_duration(queue.ageing)
        for queue in _as_they_will_be(records, {queue.name: queue for queue in declared})
        if queue.ageing is not None
    }


def _as_they_will_be(records: Iterable[Record], declared: Mapping[str, Queue]) -> Iterator[Queue]:
    found = dict(declared)
    for record in records:
        stored, last = understood_queue(record)
        if stored is not None:
            mine = declared.get(record.key)
            found[record.key] = stored if mine is None else reconcile(stored, last, mine)
    yield from found.values()
