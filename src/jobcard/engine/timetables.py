"""The timetables of schedules as the store keeps them: how they are written, by code that declares and by operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from jobcard.backends.base import Backend, Record, RecordKind
from jobcard.core.schedule import Timetable, declaration, from_text, renewed, to_text
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
    return replace(renewed(stored, timetable, now), declared=said)


def write_timetable(backend: Backend, name: str, change: Callable[[Timetable | None, int], Timetable]) -> Timetable:
    """Make of a stored timetable (None: there is none that can be read) what `change` does, given the store's time."""
    while True:
        record = find_record(backend, name)
        wanted = change(None if record is None else _understood(record), backend.facts().now)
        text = to_text(wanted)
        if record is not None and record.value == text:
            return wanted
        # Only over what was read: somebody else may be changing something else of it.
        version = 0 if record is None else record.version
        if backend.write_record(RecordKind.SCHEDULE, name, text, expect=version) is not None:
            return wanted


def find_record(backend: Backend, name: str) -> Record | None:
    """The record of a schedule's timetable, or None."""
    return next((record for record in backend.read_records(RecordKind.SCHEDULE) if record.key == name), None)


def _understood(record: Record) -> Timetable | None:
    try:
        return from_text(record.key, record.value)
    except CorruptRecordError:
        return None
