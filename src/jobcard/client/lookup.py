"""Reading jobs and counting them."""

from __future__ import annotations

import builtins
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, overload
from uuid import UUID

from jobcard.backends.base import Filter, RecordKind
from jobcard.client.filters import make_filter
from jobcard.core import clock, ids, limits
from jobcard.core.states import JobState
from jobcard.core.view import error_of, job_from_row
from jobcard.errors import ConfigError, CorruptRecordError, JobNotFoundError

if TYPE_CHECKING:
    from jobcard.backends.base import Backend
    from jobcard.client.store import Connection
    from jobcard.core.codec import Codec
    from jobcard.core.job import Attempt, JobRow
    from jobcard.core.view import Job

_log = logging.getLogger("jobcard.client")

MAX_PAGE = 1_000
MAX_BUCKETS = 1_000
MAX_COUNTED = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Page(Sequence["Job"]):
    """Some jobs, newest first. next_cursor: give it as `cursor=` for the next page; None: this was the last.

    A job that cannot be read is left out, so a page may be shorter than its limit and yet not the last.
    """

    items: Sequence[Job]
    next_cursor: str | None

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Job]: ...
    def __getitem__(self, place: int | slice) -> Job | Sequence[Job]:
        return self.items[place]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts(Mapping[str, int]):
    """How many jobs are in each state: a mapping of all six, and an attribute for each."""

    waiting: int = 0
    claimed: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Counts:
        """From what a store counted; what it left out is 0."""
        # Only the states we know: a damaged record must not hide the others.
        return cls(**{str(state): counts.get(state, 0) for state in JobState})

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(self.values())

    def __getitem__(self, state: str) -> int:
        # Compared as text: `JobState.WAITING` and "waiting" are the same key.
        if state not in JobState._value2member_map_:
            raise KeyError(state)
        return int(getattr(self, state))

    def __iter__(self) -> Iterator[JobState]:
        return iter(JobState)

    def __len__(self) -> int:
        return len(JobState)


_ON_ITS_WAY = clock.MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One slice of a chart: jobs by their present state, from `at` on."""

    at: datetime
    counts: Counts


class Chart(NamedTuple):
    """Slices of time, oldest first, as of an instant."""

    buckets: builtins.list[Bucket]
    as_of: int


class Line(NamedTuple):
    """How many jobs wait and are not due, and how long the one due longest has been; None: none is.

    by_queue: how long that of each queue has, of queues with such a job.
    """

    delayed: int
    oldest_waiting: timedelta | None
    by_queue: Mapping[str, timedelta]


class Lookup:
    """Reads one client's store; any thread may use it."""

    def __init__(self, connection: Connection, codec: Codec) -> None:
        self._connection = connection
        self._codec = codec

    # -- jobs

    def get(self, job_id: object) -> Job:
        """The job of this id; `JobNotFoundError` when there is none."""
        wanted = ids.parse_id(job_id)
        return self.view(self.row(wanted))

    def row(self, job_id: bytes) -> JobRow:
        """The stored job; `JobNotFoundError` when there is none."""
        with self._connection as store:
            rows = store.get([job_id])
        if not rows:
            raise JobNotFoundError(UUID(bytes=job_id))
        return rows[0]

    def errors(self, job_id: bytes) -> builtins.list[dict[str, Any]]:
        """The recorded tries of a job, oldest first."""
        with self._connection as store:
            return [error_of(attempt, self._codec) for attempt in store.attempts([job_id])]

    def view(self, row: JobRow) -> Job:
        """A stored job as users see it, with its log."""
        with self._connection as store:
            tried = _tries(store, [row])
            lines = store.log_lines([row.id]) if row.claim_token else ()
        return job_from_row(row, tried.get(row.id, ()), self._codec, lines=lines)

    def list(self, given: Mapping[str, Any], *, limit: int, cursor: str | None) -> Page:
        """One page of the jobs that fit; one that cannot be read is left out."""
        limits.check_whole(limit, "limit", 1, MAX_PAGE, error=ConfigError)
        where, before = make_filter(self._codec, given), _parse_cursor(cursor)
        with self._connection as store:
            # One more than asked for tells whether there is a next page.
            rows, below = store.list(where, limit=limit + 1, before_id=before)
            shown = rows[:limit]
            tried = _tries(store, shown)
        jobs = []
        for row in shown:
            try:
                jobs.append(job_from_row(row, tried.get(row.id, ()), self._codec))
            except CorruptRecordError as error:
                # One damaged record must not hide the others.
                _log.warning("%s; it is left out of the list", error)
        if len(rows) > limit:
            below = shown[-1].id
        return Page(jobs, None if below is None else below.hex())

    def iterate(self, given: Mapping[str, Any]) -> Iterator[Job]:
        """All jobs that fit, read page by page."""
        cursor: str | None = None
        while True:
            page = self.list(given, limit=MAX_PAGE, cursor=cursor)
            yield from page
            cursor = page.next_cursor
            if cursor is None:
                return

    # -- counting

    def count(self, given: Mapping[str, Any], *, limit: int | None = None) -> Counts:
        """How many jobs fit, by state; counted up to `limit` in each queue and state."""
        where, most = make_filter(self._codec, given), _check_limit(limit)
        with self._connection as store:
            by_queue = store.count(where, limit=most)
        total: dict[str, int] = {}
        for states in by_queue.values():
            for state, count in states.items():
                total[state] = total.get(state, 0) + count
        return Counts.of(total)

    def count_by_queue(self, *, limit: int | None = None) -> dict[str, Counts]:
        """How many jobs each queue has, by state; queues without jobs included, sorted by name.

        limit: each state is counted up to this.
        """
        return self.count_each(dict.fromkeys(JobState, _check_limit(limit)))

    def count_each(self, limits: Mapping[JobState, int | None]) -> dict[str, Counts]:
        """The same of these states alone, each counted up to a limit of its own."""
        counts: dict[str, dict[str, int]] = {}
        with self._connection as store:
            for record in store.read_records(RecordKind.QUEUE):
                counts[record.key] = {}
            for most in dict.fromkeys(limits.values()):
                states = tuple(state.value for state, limit in limits.items() if limit == most)
                for name, found in store.count(Filter(states=states), limit=most).items():
                    counts.setdefault(name, {}).update(found)
        return {name: Counts.of(counts[name]) for name in sorted(counts)}

    def line(self, *, limit: int) -> Line:
        """How the lines of waiting jobs are; those not due are counted up to `limit`."""
        with self._connection as store:
            lines = store.lines(limit=limit)
        by_queue = {queue: clock.to_timedelta(age) for queue, age in lines.oldest.items()}
        return Line(lines.delayed, max(by_queue.values(), default=None), by_queue)

    def count_over_time(self, span: str) -> builtins.list[Bucket]:
        """Jobs per minute, hour or day ("12m", "12h", "12d"), oldest first, the present one last."""
        return self.chart(span).buckets

    def chart(self, span: str, *, states: Sequence[str] = (), known: Chart | None = None) -> Chart:
        """The same of some states alone. known: an earlier answer; its slices that had closed are not counted again."""
        buckets, step = _parse_span(span)
        with self._connection as store:
            now = store.facts().now
            first = now // step * step - (buckets - 1) * step
            # Nothing is on its way any more into a slice that has been closed for a while, also on a replica.
            closed = 0 if known is None else known.as_of - max(_ON_ITS_WAY, step // 6) - step
            kept = [
                bucket for bucket in (known.buckets if known else ()) if first <= clock.to_instant(bucket.at) <= closed
            ]
            found = store.count_over_time(
                first=first + len(kept) * step, step=step, buckets=buckets - len(kept), states=[*map(str, states)]
            )
        new = [Bucket(at=clock.to_datetime(bucket.at), counts=Counts.of(bucket.counts)) for bucket in found]
        return Chart(kept + new, now)


def _tries(store: Backend, rows: Sequence[JobRow]) -> dict[bytes, list[Attempt]]:
    tried: dict[bytes, list[Attempt]] = {}
    # Every claim raises the token, so a job that still has token 0 was never tried.
    if any(row.claim_token for row in rows):
        for attempt in store.attempts([row.id for row in rows]):
            tried.setdefault(attempt.job_id, []).append(attempt)
    return tried


_STEPS = {"m": clock.MINUTE, "h": clock.HOUR, "d": clock.DAY}


def _parse_span(span: object) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,4})([mhd])", span) if isinstance(span, str) else None
    if match is None or not 1 <= int(match[1]) <= MAX_BUCKETS:
        raise ConfigError(f'the span must be text like "12m", "12h" or "12d", 1 to {MAX_BUCKETS:,}')
    return int(match[1]), _STEPS[match[2]]


def _check_limit(limit: object) -> int | None:
    if limit is None:
        return None
    limits.check_whole(limit, "limit", 1, MAX_COUNTED, error=ConfigError)
    assert isinstance(limit, int)
    return limit


def _parse_cursor(cursor: object) -> bytes | None:
    if cursor is None:
        return None
    try:
        return ids.parse_id(cursor)
    except JobNotFoundError:
        raise ConfigError("cursor must be the next_cursor of a page") from None
