"""Why a job has not ended: what keeps it from running, each cause by a code and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from jobcard.backends.base import Ended, Filter, RecordKind
from jobcard.client.explain_dependency import why_it_waits
from jobcard.core import clock
from jobcard.core.job import JobRow
from jobcard.core.queue import Queue
from jobcard.core.rates import Rate, Use, is_put_off, rate_of
from jobcard.core.states import AT_WORK, ENDED, Hold, JobState
from jobcard.engine.small_records import find_record, understood_queue
from jobcard.errors import JobNotFoundError, ResultTimeoutError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause why a job does not run, or that it runs or has ended.

    code: paused, not_due, held, queue_limit, global_limit, key_limit, rate_limit, dependency, no_engine, unknown_name,
    running or ended; more may come. until: when it will be over, where that is known. jobs: up to three of those that
    use a limit up, the newest.
    """

    code: str
    text: str
    until: datetime | None = None
    jobs: tuple[UUID, ...] = ()


HOLDERS = 3
"""So many of the jobs that use a limit up are named."""


_HELD = {
    Hold.BATCH: ("held", "its batch is not stored whole yet"),
    Hold.PARKED: ("unknown_name", "no live engine knows a job of its name"),
    Hold.BROKEN: ("held", "its record cannot be read"),
}


def last_look(parts: Parts, job_id: bytes, waited: float, *, joined: bool = False) -> Ended:
    """How the job ended, if it has by now; else `ResultTimeoutError`, saying what it waits for.

    joined: it became part of a transaction when it was enqueued.
    """
    with parts.connection as store:
        rows = store.get([job_id])
    if not rows and joined:
        text = "the transaction that it was enqueued within has not been committed, or was rolled back"
        raise ResultTimeoutError(UUID(bytes=job_id), waited, "not stored", text)
    if not rows:
        raise JobNotFoundError(UUID(bytes=job_id))
    row = rows[0]
    if row.state in ENDED:
        return Ended(row.id, row.state, row.result, row.reason)
    causes = " and ".join(reason.text for reason in reasons(parts, row))
    text = causes or f"it waits for its turn in the queue {row.queue!r}"
    raise ResultTimeoutError(UUID(bytes=job_id), waited, row.state, text)


def reasons(parts: Parts, row: JobRow, *, tells_keys: bool = True) -> list[Reason]:
    """Every cause that holds at this moment; none: it waits for its turn.

    tells_keys: whether a text may say a key that code made of the job's arguments.
    """
    if row.state == JobState.WAITING:
        return list(_Look(parts, row, tells_keys).reasons())
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


class _Look:
    """One look at what keeps a waiting job: its record, its queue, the engines, and who uses its limits up."""

    def __init__(self, parts: Parts, row: JobRow, tells_keys: bool) -> None:
        self._parts = parts
        self._row = row
        self._those_with_its_key = _those_with_its_key(row, tells_keys)
        self._queue, self._is_readable = _queue(parts, row.queue)
        self._alive = parts.engines.list()
        serving = [engine for engine in self._alive if row.queue in engine.queues]
        self._working = [engine for engine in serving if not engine.quiet]
        self._is_served = bool(serving)

    def reasons(self) -> Iterator[Reason]:
        """Every cause, those of the job itself first."""
        yield from self._of_the_job()
        yield from self._of_the_pause()
        yield from self._of_the_engines()
        if self._row.hold in (None, Hold.LIMIT):
            # Whatever else it waits for, it is not their turn yet to keep it.
            yield from self._of_the_queues_limits()
            yield from self._of_the_keys_limits()

    def _of_the_job(self) -> Iterator[Reason]:
        row = self._row
        if row.hold == Hold.DELAY:
            due = clock.to_datetime(row.available_at)
            if rate_of(row) is not None and is_put_off(row):
                yield _rate_limit(rate_of(row), self._those_with_its_key, due)
            else:
                yield _not_due(due)
        elif row.hold == Hold.AFTER:
            with self._parts.connection as store:
                why, now = why_it_waits(store, row), store.facts().now
            yield Reason(code="dependency", text=why.text, jobs=why.jobs)
            if row.available_at > now:
                yield _not_due(clock.to_datetime(row.available_at))
        elif row.hold not in (None, Hold.LIMIT):
            code, text = _HELD[Hold(row.hold)]
            yield Reason(code=code, text=text)

    def _of_the_pause(self) -> Iterator[Reason]:
        queue = self._queue
        if queue.paused:
            who = "" if queue.paused_by is None else f" by {queue.paused_by}"
            since = "" if queue.paused_since is None else f" since {queue.paused_since.isoformat(timespec='seconds')}"
            yield Reason(code="paused", text=f"its queue {queue.name!r} is paused{who}{since}")

    def _of_the_engines(self) -> Iterator[Reason]:
        name = self._row.queue
        if not self._is_readable:
            text = (
                f"the record of its queue {name!r} cannot be read, so no engine serves it; `jobcard doctor` knows more"
            )
            yield Reason(code="no_engine", text=text)
        elif not self._alive:
            text = "no engine is alive for this store; start one with jobs.start() or jobs.run()"
            yield Reason(code="no_engine", text=text)
        elif not self._is_served:
            yield Reason(code="no_engine", text=f"no live engine serves its queue {name!r}")
        elif not self._working:
            yield Reason(code="no_engine", text=f"every engine that serves its queue {name!r} is told to be quiet")

    def _of_the_queues_limits(self) -> Iterator[Reason]:
        queue = self._queue
        where = Filter(states=sorted(AT_WORK), queues=(queue.name,))
        most = queue.concurrency * len(self._working)
        at_work = self._count(where) if self._working or queue.global_concurrency is not None else 0
        if self._working and at_work >= most:
            text = f"its queue {queue.name!r} has {at_work} jobs at work, and {most} is all its engines may run"
            yield self._held_by(where, at_work, "queue_limit", text)
        if queue.global_concurrency is not None and at_work >= queue.global_concurrency:
            most = queue.global_concurrency
            text = (
                f"its queue {queue.name!r} has {at_work} jobs at work, and {most} is all it may have over all engines"
            )
            yield self._held_by(where, at_work, "global_limit", text)
        if queue.rate is not None:
            use, now = self._usage((queue.name,), ())
            rate = queue.rate.rate
            if use.starts.room(rate, now) <= 0:
                until = clock.to_datetime(use.starts.free_at(rate, now))
                yield _rate_limit(rate, f"the jobs of its queue {queue.name!r}", until)

    def _of_the_keys_limits(self) -> Iterator[Reason]:
        row = self._row
        if row.limit_key is None:
            return
        use, now = self._usage((), (row.limit_key,))
        if row.key_limit is not None and (use.at_work >= row.key_limit or row.hold == Hold.LIMIT):
            where = Filter(states=sorted(AT_WORK), limit_key=row.limit_key)
            text = f"{use.at_work} of {self._those_with_its_key} are at work, and {row.key_limit} is all that may be"
            if use.at_work < row.key_limit:
                text = f"it had to wait for another of {self._those_with_its_key}, and is about to come back in line"
            yield self._held_by(where, use.at_work, "key_limit", text)
        rate = rate_of(row)
        if rate is not None and use.starts.room(rate, now) <= 0:
            yield _rate_limit(rate, self._those_with_its_key, clock.to_datetime(use.starts.free_at(rate, now)))

    def _usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Use, int]:
        with self._parts.connection as store:
            of_queues, of_keys = store.usage(queues, keys)
            now = store.facts().now
        return next(iter({**of_queues, **of_keys}.values()), Use(0)), now

    def _count(self, where: Filter) -> int:
        with self._parts.connection as store:
            return sum(sum(states.values()) for states in store.count(where).values())

    def _held_by(self, where: Filter, number: int, code: str, text: str) -> Reason:
        with self._parts.connection as store:
            holders = tuple(UUID(bytes=row.id) for row in store.list(where, limit=HOLDERS).rows)
        if holders:
            more = f" and {number - len(holders)} more" if number > len(holders) else ""
            text += f": {', '.join(map(str, holders))}{more}"
        return Reason(code=code, text=text, jobs=holders)


def _not_due(due: datetime) -> Reason:
    return Reason(code="not_due", text=f"it is due at {due.isoformat()}", until=due)


def _rate_limit(rate: Rate | None, whose: str, until: datetime) -> Reason:
    assert rate is not None  # only a rate keeps a job out until some moment
    text = f"{rate.most} of {whose} may start in {rate.per / clock.SECOND:g} s, and have; it goes on at"
    return Reason(code="rate_limit", text=f"{text} {until.isoformat()}", until=until)


def _those_with_its_key(row: JobRow, tells_keys: bool) -> str:
    key = str(row.limit_key)
    if key.startswith("#") and tells_keys:
        return f"the jobs with the key {key[1:]!r}"
    return f"the jobs {row.name}" if key == row.name else f"the jobs {row.name} with its key"


def _queue(parts: Parts, name: str) -> tuple[Queue, bool]:
    """The queue, and whether its record can be read if it has one."""
    with parts.connection as store:
        record = find_record(store, RecordKind.QUEUE, name)
    found = None if record is None else understood_queue(record)[0]
    return found or Queue(name), record is None or found is not None
