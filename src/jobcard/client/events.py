"""What happens to jobs, as a stream: each change of state once, told by looking at the store again and again.

Nothing is written for it. A job's row says when it was created, claimed, started and finished, and its recorded tries
when it went back to waiting; whatever of that is new since the last look is an event. So a stream costs nothing while
nobody listens, and shows what a row still shows: of a job that went through several states between two looks, those
that left a stamp or a record.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self
from uuid import UUID

from jobcard.backends.base import Filter
from jobcard.backends.pages import readable
from jobcard.client.pages import pages
from jobcard.core import clock, limits
from jobcard.core.states import AT_WORK, ENDED, JobState
from jobcard.errors import ConfigError, InvalidJobError, StoreUnavailableError

if TYPE_CHECKING:
    import asyncio

    from jobcard.backends.base import Backend
    from jobcard.client.parts import Parts
    from jobcard.core.job import Attempt, JobRow

SHORTEST_PAUSE = 0.25
LONGEST_PAUSE = 1.0
_SLOWING = 1.5
_PAGE = 1_000
_ROWS = 200
"""So many at once where whole jobs are read: each may bring its megabytes along."""
_OVERLAP = 2 * clock.SECOND
"""What a store commits later than it stamped it is found by looking so far back each time."""
_PATIENCE = 30.0
"""Seconds that a store may be out of reach before the listener is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A job came into a state. at: when, by the store's clock. attempt: the try it belongs to, 0 before the first.

    reason: why it ended, or why it waits again. cursor: `jobs.events(since=event.cursor)` goes on behind this event.
    """

    at: datetime
    job_id: UUID
    name: str
    queue: str
    state: JobState
    attempt: int
    reason: str | None = None

    @property
    def cursor(self) -> str:
        """This event's place in the stream, as text."""
        place = _place(self)
        return f"{place.at:x}-{place.job_id.hex()}-{place.attempt}-{place.order}"


class _Place(NamedTuple):
    """Where an event stands in the stream. Stores that round time give one job several events at one instant."""

    at: int
    job_id: bytes
    attempt: int
    order: int


def _place(event: Event) -> _Place:
    return _Place(clock.to_instant(event.at), event.job_id.bytes, event.attempt, _order(event.state, event.attempt))


def _order(state: JobState, attempt: int) -> int:
    """The order of what happens in one try."""
    if state == JobState.WAITING:
        return 3 if attempt else 0  # back in line, or new
    return {JobState.CLAIMED: 1, JobState.RUNNING: 2}.get(state, 4)


_CURSOR = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{32})-([0-9]{1,9})-([0-4])")


class _Known(NamedTuple):
    """What was told of a job: its stamps, and the last of its tries."""

    created: int
    claimed: int | None
    started: int | None
    finished: int | None
    tried: int
    attempt: int

    def latest(self) -> int:
        return max(self.created, self.claimed or 0, self.started or 0, self.finished or 0)


class _Try(NamedTuple):
    """A recorded try, as far as events tell of it. kind: why it ended."""

    at: int
    attempt: int
    kind: str | None


class Events(Iterator[Event], AsyncIterator[Event]):
    """An iterator and an async iterator of events; it waits for the next one until it is closed.

    Usable as a context manager, and from several threads: each event is given to one of them.
    """

    def __init__(self, parts: Parts, since: datetime | str | None) -> None:
        self._parts = parts
        self._began = time.monotonic()
        self._after = _parse(since)
        self._ready: deque[Event] = deque()
        self._last: str | None = since if isinstance(since, str) else None
        self._looking = threading.Lock()
        self._closed = threading.Event()
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._known: dict[bytes, _Known] = {}
        self._low: int | None = None
        """Everything before this instant has been told; None before the first look."""
        self._pause = SHORTEST_PAUSE
        self._reached = self._began

    @property
    def cursor(self) -> str | None:
        """The place behind the last event that was given out, for `jobs.events(since=…)`; None: none was."""
        return self._last

    def close(self) -> None:
        """End the stream: whoever waits for its next event hears at once that there is none."""
        self._closed.set()
        for loop, bell in list(self._sleepers):
            try:
                loop.call_soon_threadsafe(bell.set)
            except RuntimeError:  # that loop is closed: nobody waits there any more
                continue

    # -- iterating

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while True:
            event = self._next()
            if event is not None:
                return event
            if self._closed.is_set():
                raise StopIteration
            if not self._look():
                self._closed.wait(self._pause)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = self._next()
            if event is not None:
                return event
            if self._closed.is_set():
                raise StopAsyncIteration
            if not await self._parts.threads.run(self._look):
                await self._sleep()

    async def _sleep(self) -> None:
        import asyncio  # it takes long to import, and whoever gets here has done so

        sleeper = asyncio.get_running_loop(), asyncio.Event()
        self._sleepers.append(sleeper)
        try:
            if not self._closed.is_set():
                await asyncio.wait_for(sleeper[1].wait(), self._pause)
        except TimeoutError:
            return
        finally:
            self._sleepers.remove(sleeper)

    def _next(self) -> Event | None:
        if self._closed.is_set():
            return None
        try:
            event = self._ready.popleft()
        except IndexError:
            return None
        self._last = event.cursor
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # -- looking

    def _look(self) -> bool:
        """Look once and keep what is new; whether there is something to give out."""
        with self._looking:
            if self._ready:  # another thread looked meanwhile
                return True
            began = time.monotonic()
            try:
                with self._parts.connection as store:
                    found = self._new_events(store)
            except StoreUnavailableError:
                if began - self._reached > _PATIENCE:
                    raise
                found = []
            else:
                self._reached = began
            self._ready.extend(found)
            self._pause = SHORTEST_PAUSE if found else min(LONGEST_PAUSE, self._pause * _SLOWING)
            return bool(found)

    def _new_events(self, store: Backend) -> list[Event]:
        now = store.facts().now
        first = self._low is None
        if self._after is None:
            # From the call of `jobs.events` on, by the store's clock.
            began = now - round((time.monotonic() - self._began) * clock.SECOND)
            self._after = _Place(began // 1000 * 1000, b"", -1, 0)  # a store may round its stamps to milliseconds
        low = self._after.at if self._low is None else self._low
        # Compared again: what ended before that was forgotten, and would be told twice.
        touched = itertools.chain.from_iterable(pages(store, Filter(touched_since=low), size=_ROWS))
        rows = {row.id: _slim(row) for row in touched if _known_of(row).latest() >= low}
        if first:
            # Those that are at work already: nothing is told of that, but of how they go on.
            at_work = pages(store, Filter(states=sorted(AT_WORK)), size=_ROWS)
            rows |= {row.id: _slim(row) for row in itertools.chain.from_iterable(at_work)}
        rows |= self._left_work(store, rows)
        tries = _tries(store, rows.values())
        found: list[Event] = []
        for row in rows.values():
            found += self._of_job(row, tries.get(row.id, ()), low, now)
        self._low = max(self._after.at, now - _OVERLAP)
        self._forget(self._low)
        return sorted(found, key=_place)

    def _left_work(self, store: Backend, rows: dict[bytes, JobRow]) -> dict[bytes, JobRow]:
        """Jobs that were at work at the last look and have no new stamp: they may wait again."""
        ids = [job_id for job_id, known in self._known.items() if _is_at_work(known) and job_id not in rows]
        found: dict[bytes, JobRow] = {}
        for start in range(0, len(ids), _ROWS):
            found |= {row.id: _slim(row) for row in readable(store.get, ids[start : start + _ROWS])}
        for job_id in ids:
            if job_id not in found:
                del self._known[job_id]  # it was deleted
        return found

    def _of_job(self, row: JobRow, tries: Sequence[_Try], low: int, now: int) -> Iterator[Event]:
        """What is new of one job."""
        assert self._after is not None
        before = self._known.get(row.id)
        tried = max([each.at for each in tries], default=0 if before is None else before.tried)
        for each in _missed(row, tries) if before is None else [each for each in tries if each.at > before.tried]:
            # The try that ended the job is told by its end.
            if not _ended_by(row, each):
                yield from self._event(row, JobState.WAITING, each.at, attempt=each.attempt, reason=each.kind)
        if before is None:
            # Never seen: what it has from before the last look was told, or is older than the stream.
            if row.created_at >= low:
                yield from self._event(row, JobState.WAITING, row.created_at, attempt=0)
            before = _Known(row.created_at, None, None, None, tried, row.attempt)
        elif _is_at_work(before) and row.state == JobState.WAITING and tried == before.tried:
            # Put off or handed back: nobody stamped when, and no try was recorded.
            yield from self._event(row, JobState.WAITING, now, attempt=before.attempt)
        if row.claimed_at is not None:
            same = row.claimed_at == before.claimed
            if not same:
                yield from self._event(row, JobState.CLAIMED, row.claimed_at, attempt=row.attempt)
            # Once for each claim: the end of a job stamps its start anew, by a slightly different clock.
            if row.started_at is not None and not (same and before.started is not None):
                yield from self._event(row, JobState.RUNNING, row.started_at, attempt=row.attempt)
        if row.finished_at is not None and row.finished_at != before.finished:
            state = JobState(row.state)
            reason = None if state == JobState.COMPLETED else row.reason
            yield from self._event(row, state, row.finished_at, attempt=row.attempt, reason=reason)
        self._known[row.id] = _known_of(row, tried)

    def _event(
        self, row: JobRow, state: JobState, at: int, *, attempt: int, reason: str | None = None
    ) -> Iterator[Event]:
        assert self._after is not None
        if _Place(at, row.id, attempt, _order(state, attempt)) > self._after:
            yield Event(
                at=clock.to_datetime(at),
                job_id=UUID(bytes=row.id),
                name=row.name,
                queue=row.queue,
                state=state,
                attempt=attempt,
                reason=reason,
            )

    def _forget(self, low: int) -> None:
        # What has no new stamp is not looked at again; but a job at work may go back without one, and of a job that
        # was tried it must be known which tries were told.
        self._known = {
            job_id: known
            for job_id, known in self._known.items()
            if known.latest() >= low or (known.finished is None and (known.claimed is not None or known.tried))
        }


def _known_of(row: JobRow, tried: int = 0) -> _Known:
    return _Known(row.created_at, row.claimed_at, row.started_at, row.finished_at, tried, row.attempt)


def _slim(row: JobRow) -> JobRow:
    # Of very many jobs there is room for their stamps only.
    return row._replace(args="", kwargs="", init=None, result=None, progress=None, checkpoint=None, meta=None)


def _is_at_work(known: _Known) -> bool:
    return known.claimed is not None and known.finished is None


def _tries(store: Backend, rows: Iterable[JobRow]) -> dict[bytes, list[_Try]]:
    """The recorded tries of those jobs that may have some: a first try still under way, or a success, leaves none."""
    ids = [row.id for row in rows if row.claim_token > 1 or (row.claim_token and row.state not in AT_WORK)]
    found: dict[bytes, list[_Try]] = {}
    for start in range(0, len(ids), _PAGE):
        for attempt in store.attempts(ids[start : start + _PAGE]):
            found.setdefault(attempt.job_id, []).append(_Try(attempt.at, attempt.attempt, _kind(attempt)))
    return found


def _missed(row: JobRow, tries: Sequence[_Try]) -> list[_Try]:
    """The tries of a job we never saw at work, oldest first: they began and ended between two looks."""
    # Down from the present one: a try with a higher number is from before an operator's retry, and was told.
    found: list[_Try] = []
    below = row.attempt + (row.state not in AT_WORK)
    for each in reversed(tries):
        if each.attempt >= below:
            break
        found.insert(0, each)
        below = each.attempt
    return found


def _ended_by(row: JobRow, attempt: _Try) -> bool:
    return (
        row.state in ENDED
        and attempt.attempt == row.attempt
        and row.claimed_at is not None  # else it ended waiting: somebody canceled it
        and attempt.at >= row.claimed_at
    )


def _kind(attempt: Attempt) -> str | None:
    try:
        kind = json.loads(attempt.error)["kind"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return kind if isinstance(kind, str) else None


def _parse(since: object) -> _Place | None:
    if since is None:
        return None
    if isinstance(since, str):
        match = _CURSOR.fullmatch(since)
        if match is None:
            raise ConfigError("since must be an aware datetime, or the cursor of an event")
        return _Place(int(match[1], 16), bytes.fromhex(match[2]), int(match[3]), int(match[4]))
    try:
        return _Place(limits.check_instant(since, "since"), b"", -1, 0)
    except InvalidJobError as error:
        raise ConfigError(str(error)) from None
