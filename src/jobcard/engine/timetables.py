"""The timetables of schedules as the store keeps them: how they are written, by code that declares and by operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from jobcard.backends.base import Backend, Record, RecordKind
from jobcard.core.schedule import Progress, Timetable, declaration, from_text, progress_from_text, renewed, to_text
from jobcard.engine.small_records import rewrite
from jobcard.errors import CorruptRecordError


def declare_schedules(backend: Backend, declared: Sequence[Timetable]) -> None:
    """Write what code says about its schedules, where it says something new; an operator's pause stays.

    What code says no more stays too: another application, or an older engine, may live by it.
    """
    if not declared:
        return
    stored = {record.key: record for record in backend.read_records(RecordKind.SCHEDULE)}
    for timetable in declared:
        said = declaration(timetable)
        record = stored.get(timetable.name)
        known = None if record is None else _understood(record)
        if known is None or known.declared != said:
            write_timetable(backend, timetable.name, partial(_declared, timetable, said))


def _declared(timetable: Timetable, said: str, stored: Timetable | None, now: int) -> Timetable:
    if stored is not None and stored.declared == said:
        return stored
    return renewed(stored, timetable, now)._replace(declared=said)


def write_timetable(backend: Backend, name: str, change: Callable[[Timetable | None, int], Timetable]) -> Timetable:
    """Make of a stored timetable (None: there is none that can be read) what `change` does, given the store's time."""

    def changed(record: Record | None) -> str:
        return to_text(change(None if record is None else _understood(record), backend.facts().now))

    return from_text(name, rewrite(backend, RecordKind.SCHEDULE, name, changed))


def progress_of(backend: Backend) -> dict[str, Progress]:
    """How far each schedule is, by its name."""
    records = backend.read_records(RecordKind.TICK)
    return {record.key: progress_from_text(record.value, record.version) for record in records}


def _understood(record: Record) -> Timetable | None:
    try:
        return from_text(record.key, record.value)
    except CorruptRecordError:
        return None
