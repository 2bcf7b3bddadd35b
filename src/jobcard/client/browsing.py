"""Looking through jobs page by page: what the dashboard's list is made of.

A store finds jobs by state, by time and by batch at once. By anything else it walks through all of them; so among many
that is looked for here, newest first, no further at a time than somebody waits for. Counting goes the same way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.backends.base import FEW, Filter
from jobcard.backends.pages import readable
from jobcard.client.filters import make_filter
from jobcard.client.lookup import MAX_COUNTED, Counts
from jobcard.core import clock, ids
from jobcard.core.states import JobState
from jobcard.errors import JobcardError

if TYPE_CHECKING:
    from jobcard.backends.base import Backend
    from jobcard.client.parts import Parts
    from jobcard.core.codec import Codec
    from jobcard.core.job import JobRow

MOST_LOOKED_AT = 20_000
LOOKS_FOR = 0.1
"""Seconds."""
CROWDED_FOR = 5.0
"""Seconds. Where many jobs were, many still are; and if not, a look walks through the few that are left."""
_FIRST_STEP, _MOST_STEP = 50, 1_000
_SMALL = 20_000
"""Characters that a small job brings along and returns, on average."""
_MANY = FEW // 10
"""So many jobs of one queue and state are many: who only asks whether they are few need not count on."""
SKEW = 5 * clock.MINUTE
"""So far ahead of the store's clock that of a client may be which makes an id."""
MOST_FOLLOW_UPS = 50
_FIRST, _LAST = 0, clock.to_instant(datetime(9999, 12, 30, tzinfo=UTC))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Some jobs, newest first. next_cursor: where to go on; None: that was the end.

    is_cut: the look stopped before the page was full, for it had taken long enough; looked: at so many jobs, as far
    back as the one made at `back_to`.
    """

    rows: Sequence[JobRow]
    next_cursor: str | None
    is_cut: bool
    looked: int
    back_to: datetime | None


def browse(
    parts: Parts,
    given: Mapping[str, Any],
    *,
    limit: int,
    cursor: str | None = None,
    also: Callable[[JobRow], bool] | None = None,
    least: int = 0,
) -> Found:
    """Jobs that fit `given`, and `also`, if there is such a thing; `ConfigError` for a filter that cannot be meant.

    least: so many small ones are looked at, though that takes a bit longer.

    Among many, those stored before an instant are looked for from its ids on: a job whose id is of a later time than
    the job itself, for somebody gave it, may then be left out.
    """
    where, before = make_filter(parts.codec, given), None if cursor is None else ids.parse_id(cursor)
    until = time.monotonic() + LOOKS_FOR
    with parts.connection as store:
        look = _look(parts, store, where, also, limit, before)
        look.go(until, least=least)
    return Found(
        rows=look.rows,
        next_cursor=None if look.below is None else look.below.hex(),
        is_cut=look.is_cut,
        looked=look.looked,
        back_to=look.back_to,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many jobs fit, by state. is_cut: there may be more than these, for a look of bounded length found them.

    It looked at so many jobs, as far back as the one made at `back_to`.
    """

    counts: Counts
    is_cut: bool
    looked: int
    back_to: datetime | None


def count(parts: Parts, given: Mapping[str, Any], *, limit: int) -> Counted:
    """How many jobs fit `given`, each queue and state counted up to `limit`; `ConfigError` as in `browse`.

    What a store cannot choose by is counted among as many as a look goes through.
    """
    where, until = make_filter(parts.codec, given), time.monotonic() + LOOKS_FOR
    with parts.connection as store:
        if _is_counted_at_once(where) or _are_few(parts, store, where):
            counts = _count_to(store, where, limit)
            return Counted(counts=counts, is_cut=False, looked=counts.total, back_to=None)
        look = _look(parts, store, where, None, MAX_COUNTED, None)
        look.go(until)
    return Counted(
        counts=Counts.of(Counter(row.state for row in look.rows)),
        is_cut=look.below is not None,
        looked=look.looked,
        back_to=look.back_to,
    )


def _is_counted_at_once(where: Filter) -> bool:
    return where == Filter(states=where.states, queues=where.queues, batch_id=where.batch_id)


def _count_to(store: Backend, where: Filter, limit: int) -> Counts:
    """Jobs by state: exactly below the limit; what has more is counted no further than shows that."""
    # Many queues with some jobs each soon make more than the limit; states of which that is not so are counted on.
    total: dict[str, int] = {}
    wanted = where.states or tuple(JobState)
    for most in (limit // 20 or limit, limit):
        by_queue = store.count(where._replace(states=wanted), limit=most)
        cut = []
        for state in wanted:
            counts = [by_state.get(state, 0) for by_state in by_queue.values()]
            total[state] = sum(counts)
            if most in counts and total[state] < limit:
                cut.append(state)
        if not (wanted := tuple(cut)):
            break
    return Counts.of(total)


def _look(
    parts: Parts,
    store: Backend,
    where: Filter,
    also: Callable[[JobRow], bool] | None,
    limit: int,
    below: bytes | None,
) -> _Look:
    """How to look for these: let the store choose among few; among many no longer than somebody waits for."""
    if where == Filter(states=where.states) or not _are_few(parts, store, where):
        if where.before is not None:
            below = min(below or _ABOVE_ALL, _lowest_id(where.before + SKEW))
        where, also = _split(where, also, parts.codec)
    elif where.after is not None:
        # Who was made since was touched since: the store need not look at what ended before.
        where = where._replace(touched_since=where.after)
    return _Look(store, where, also, limit, below)


_ABOVE_ALL = b"\xff" * 16


def _lowest_id(instant: int) -> bytes:
    return min(max(instant // 1_000, 0), 2**48 - 1).to_bytes(6, "big") + bytes(10)


def _are_few(parts: Parts, store: Backend, where: Filter) -> bool:
    """Whether so few jobs are in the states wanted, or in the batch, that a store may look at all of them."""
    crowd = tuple(sorted(set(map(str, where.states)))), where.batch_id
    if time.monotonic() < parts.crowded.get(crowd, 0.0):
        return False
    # Most jobs of a batch are in one queue and state, and to count them all takes little.
    most = _MANY if where.batch_id is None else FEW
    by_queue = store.count(Filter(states=where.states, batch_id=where.batch_id), limit=most)
    counts = [number for by_state in by_queue.values() for number in by_state.values()]
    few = sum(counts) <= FEW and most not in counts
    if not few:
        parts.crowded[crowd] = time.monotonic() + CROWDED_FOR
    return few


def _split(
    where: Filter, also: Callable[[JobRow], bool] | None, codec: Codec
) -> tuple[Filter, Callable[[JobRow], bool] | None]:
    """What the store is to choose by among many, and what is left to be looked for."""
    if where.batch_id is not None:
        quick, rest = Filter(batch_id=where.batch_id), where._replace(batch_id=None)
    else:
        quick = Filter(states=where.states, after=where.after, before=where.before)
        rest = where._replace(states=(), after=None, before=None)
        if quick != Filter():
            # Who was made since was touched since.
            # Where many were, a store looks no further at a time than `reach` says.
            quick = quick._replace(touched_since=where.after or 0)
    if rest == Filter():
        return quick, also
    tags, search = set(where.tags), where.search

    def fits(row: JobRow) -> bool:
        return (
            (not where.states or row.state in where.states)
            and (not where.queues or row.queue in where.queues)
            and (not where.names or row.name in where.names)
            and (where.error_kind is None or row.error_kind == where.error_kind)
            and (where.after is None or row.created_at >= where.after)
            and (where.before is None or row.created_at < where.before)
            and (not tags or tags <= set(tags_of(row, codec)))
            and (not search or search in row.name or search.lower() in str(UUID(bytes=row.id)))
            and (also is None or also(row))
        )

    return quick, fits


class _Look:
    """One look down the ids, to the end of a page or of patience."""

    def __init__(
        self,
        store: Backend,
        where: Filter,
        also: Callable[[JobRow], bool] | None,
        limit: int,
        below: bytes | None,
    ) -> None:
        self._store = store
        self._where = where
        self._also = also
        self._limit = limit
        self.below = below
        self.rows: list[JobRow] = []
        self.looked = 0
        self.last: JobRow | None = None
        self.is_cut = False

    @property
    def back_to(self) -> datetime | None:
        """When the last job was made that was looked at; where the store met none that fits, what its ids tell."""
        if self.last is not None:
            return moment(self.last.created_at)
        return None if self.below is None else moment(ids.moment_of(self.below))

    def go(self, until: float, *, least: int = 0) -> None:
        """Look, and stop at this time of the clock that only goes on; `least` as in `browse`."""
        # One more than asked for tells whether there is a next page.
        wanted = self._limit + 1
        # Small steps first: nobody knows yet how large the jobs are that are read only to be left out.
        step = min(wanted, _MOST_STEP) if self._also is None else _FIRST_STEP
        has_leapt = False
        while True:
            began = time.monotonic()
            page = self._store.list(self._where, limit=step, before_id=self.below)
            if self._also is not None:
                took, left = time.monotonic() - began, max(0.0, until - time.monotonic())
                step = max(_FIRST_STEP, min(2 * step, _MOST_STEP, round(step * left / (took or left or 1.0))))
            for row in page.rows:
                self.looked += 1
                self.last = row
                if self._also is not None and not self._also(row):
                    continue
                self.rows.append(row)
                if len(self.rows) == wanted:
                    self.rows.pop()
                    self.below = self.rows[-1].id
                    return
            self.below = page.below
            if self.below is None:
                return
            if self.looked < least and not has_leapt and _are_small(page.rows):
                # However late it is.
                step, has_leapt = min(least - self.looked, _MOST_STEP), True
            elif self.looked >= MOST_LOOKED_AT or time.monotonic() >= until:
                self.is_cut = True
                return


def _are_small(rows: Sequence[JobRow]) -> bool:
    return sum(len(row.args) + len(row.kwargs) + len(row.result or "") for row in rows) <= _SMALL * len(rows)


def moment(instant: int) -> datetime:
    """A stored instant; one of a damaged record that no calendar has as the nearest that it has."""
    return clock.to_datetime(min(max(instant, _FIRST), _LAST))


def tags_of(row: JobRow, codec: Codec) -> tuple[str, ...]:
    """Its tags; none, if they cannot be read."""
    try:
        return tuple(map(str, codec.loads(row.tags))) if row.tags else ()
    except (ValueError, TypeError, JobcardError):
        return ()


def named(parts: Parts, job_ids: Collection[UUID]) -> list[JobRow]:
    """Those of these jobs that are there, in the order they were named."""
    with parts.connection as store:
        found = {row.id: row for row in readable(store.get, [job_id.bytes for job_id in job_ids])}
    return [found[job_id.bytes] for job_id in job_ids if job_id.bytes in found]


def follow_ups(parts: Parts, job_id: UUID) -> list[JobRow]:
    """The first of the jobs that this one stored with its success."""
    # They are found by their ids, which follow from the parent's.
    return named(parts, [UUID(bytes=ids.follow_up_id(job_id.bytes, place)) for place in range(MOST_FOLLOW_UPS)])
