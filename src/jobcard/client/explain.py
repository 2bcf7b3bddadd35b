"""Why a job has not ended: what keeps it from running, each cause by a code and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from jobcard.backends.base import Ended, Filter, RecordKind
from jobcard.core import clock
from jobcard.core.job import JobRow
from jobcard.core.queue import Queue, queue_from_text
from jobcard.core.states import AT_WORK, ENDED, Hold, JobState
from jobcard.errors import JobNotFoundError, ResultTimeoutError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One cause why a job does not run, or that it runs or has ended.

    code: paused, not_due, held, queue_limit, dependency, no_engine, unknown_name, running or ended; more may come.
    until: when it will be over, where that is known.
    """

    code: str
    text: str
    until: datetime | None = None


_HELD = {
    Hold.AFTER: ("dependency", "it waits for other jobs"),
    Hold.BATCH: ("held", "its batch is not stored whole yet"),
    Hold.PARKED: ("unknown_name", "no live engine knows a job of its name"),
    Hold.BROKEN: ("held", "its record cannot be read"),
}


def last_look(parts: Parts, job_id: bytes, waited: float) -> Ended:
    """How the job ended, if it has by now; else `ResultTimeoutError`, saying what it waits for."""
    with parts.connection as store:
        rows = store.get([job_id])
    if not rows:
        raise JobNotFoundError(UUID(bytes=job_id))
    row = rows[0]
    if row.state in ENDED:
        return Ended(row.id, row.state, row.result, row.reason)
    causes = " and ".join(reason.text for reason in reasons(parts, row))
    text = causes or f"it waits for its turn in the queue {row.queue!r}"
    raise ResultTimeoutError(UUID(bytes=job_id), waited, row.state, text)


def reasons(parts: Parts, row: JobRow) -> list[Reason]:
    """Every cause that holds at this moment; none: it waits for its turn."""
    if row.state == JobState.WAITING:
        return [*_of_the_job(row), *_of_its_queue(parts, row)]
    if row.state in ENDED:
        why = f": {row.reason}" if row.reason else ""
        return [Reason(code="ended", text=f"it is {row.state}{_since(row.finished_at)}{why}")]
    if row.state == JobState.RUNNING:
        text = f"it runs{_since(row.started_at or row.claimed_at)}"
    else:
        text = f"engine {row.claimed_by} has claimed it"
    if row.cancel_requested is not None:
        text += "; somebody asked to cancel it"
    return [Reason(code="running", text=text)]


def _since(instant: int | None) -> str:
    return "" if instant is None else f" since {clock.to_datetime(instant):%H:%M:%S} UTC"


def _of_the_job(row: JobRow) -> Iterator[Reason]:
    if row.hold == Hold.DELAY:
        due = clock.to_datetime(row.available_at)
        yield Reason(code="not_due", text=f"it is due at {due.isoformat()}", until=due)
    elif row.hold is not None:
        code, text = _HELD[Hold(row.hold)]
        yield Reason(code=code, text=text)


def _of_its_queue(parts: Parts, row: JobRow) -> Iterator[Reason]:
    queue = _queue(parts, row.queue)
    if queue.paused:
        yield Reason(code="paused", text=f"its queue {queue.name!r} is paused")
    alive = parts.engines.list()
    serving = [engine for engine in alive if queue.name in engine.queues]
    if not alive:
        text = "no engine is alive for this store; start one with jobs.start() or jobs.run()"
        yield Reason(code="no_engine", text=text)
    elif not serving:
        yield Reason(code="no_engine", text=f"no live engine serves its queue {queue.name!r}")
    elif all(engine.quiet for engine in serving):
        yield Reason(code="no_engine", text=f"every engine that serves its queue {queue.name!r} is told to be quiet")
    elif row.hold is None and not queue.paused:
        most = queue.concurrency * sum(not engine.quiet for engine in serving)
        if _at_work(parts, queue.name) >= most:
            yield Reason(code="queue_limit", text=f"its queue {queue.name!r} has {most} jobs at work, all it may have")


def _at_work(parts: Parts, queue: str) -> int:
    where = Filter(states=sorted(AT_WORK), queues=(queue,))
    with parts.connection as store:
        return sum(store.count(where).get(queue, {}).values())


def _queue(parts: Parts, name: str) -> Queue:
    with parts.connection as store:
        records = store.read_records(RecordKind.QUEUE)
    found = [queue_from_text(record.key, record.value)[0] for record in records if record.key == name]
    return found[0] if found else Queue(name)
