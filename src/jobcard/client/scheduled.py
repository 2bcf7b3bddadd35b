"""The jobs that a schedule has made."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jobcard.backends.base import Filter, RecordKind
from jobcard.core import ids
from jobcard.core.schedule import from_text
from jobcard.core.unique import tick_key
from jobcard.core.view import job_from_row
from jobcard.engine.small_records import find_record
from jobcard.errors import CorruptRecordError, ScheduleNotFoundError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.core.view import Job

LOOKED_AT = 200
"""Jobs of its name, newest first, among which those are looked for that no tick of it tells."""

_log = logging.getLogger("jobcard.client")


def jobs_of(parts: Parts, name: str, *, limit: int) -> list[Job]:
    """The newest jobs of a schedule: of its last ticks, and those of `run_now` as far as the newest of its name go.

    A look of bounded cost, whatever is stored: the ids of ticks' jobs are known. `ScheduleNotFoundError`.
    """
    with parts.connection as store:
        record = find_record(store, RecordKind.SCHEDULE, name)
        if record is None:
            raise ScheduleNotFoundError(name)
        timetable = from_text(record.key, record.value)
        now = store.facts().now
        ticks = timetable.ticks.last_until(timetable.since, now, limit)
        try:
            rows = list(store.get([ids.tick_id(tick_key(name, tick), tick) for tick in ticks]))
        except CorruptRecordError:
            rows = []
        named = store.list(Filter(names=(timetable.job.name,)), limit=LOOKED_AT).rows
    of_it = {row.id: row for row in [*rows, *named] if row.schedule_id == name}
    found: list[Job] = []
    for job_id in sorted(of_it, reverse=True)[:limit]:
        try:
            found.append(job_from_row(of_it[job_id], (), parts.codec))
        except CorruptRecordError as error:
            _log.warning("%s; it is left out of the list", error)
    return found
