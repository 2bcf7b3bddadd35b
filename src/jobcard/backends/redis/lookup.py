"""Looking up: by state where few are in it, else a walk down the ids inside the server."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from jobcard.backends.base import FEW, Bucket, Ended, Filter, Lines, Listed, Tally
from jobcard.backends.pages import reach
from jobcard.backends.redis import rows
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.scripts import Run
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine
from jobcard.core.states import ENDED, JobState
from jobcard.errors import CorruptRecordError

_log = logging.getLogger("jobcard.store")

_CHUNK = 200


def fetch(client: Any, keys: Keys, refs: Sequence[str]) -> Iterator[tuple[str, bytes | None, bytes | None]]:
    """Both parts of jobs, in order; a part that is not there is None."""
    for first in range(0, len(refs), _CHUNK):
        chunk = refs[first : first + _CHUNK]
        pipe = client.pipeline(transaction=False)
        pipe.hmget(keys.live, chunk)
        pipe.hmget(keys.card, chunk)
        lives, cards = pipe.execute()
        yield from zip(chunk, lives, cards, strict=True)


def get_jobs(client: Any, keys: Keys, job_ids: Sequence[bytes]) -> list[JobRow]:
    """Those of the jobs that exist; an unreadable one is an error only if it is asked for alone."""
    found = []
    for ref, live, card in fetch(client, keys, [job_id.hex() for job_id in job_ids]):
        if live is None and card is None:
            continue
        try:
            found.append(rows.to_job(ref, live, card))
        except CorruptRecordError:
            if len(job_ids) == 1:
                raise
            _log.warning("a job cannot be read and was left out: %s", ref)
    return found


def attempts(client: Any, keys: Keys, job_ids: Sequence[bytes]) -> list[Attempt]:
    """The recorded tries of these jobs, oldest first."""
    found = _packed(client, keys.attempts, job_ids)
    return [Attempt(job_id, attempt, at, error) for job_id, tries in found for attempt, at, error, *_ in tries]


def log_lines(client: Any, keys: Keys, job_ids: Sequence[bytes]) -> list[LogLine]:
    """The log lines of these jobs, oldest first."""
    found = _packed(client, keys.lines, job_ids)
    return [LogLine(job_id, at, text) for job_id, lines in found for at, text, *_ in lines]


def _packed(client: Any, key: str, job_ids: Sequence[bytes]) -> list[tuple[bytes, Any]]:
    if not job_ids:
        return []
    texts = client.hmget(key, [job_id.hex() for job_id in job_ids])
    return [(job_id, rows.unpack(text)) for job_id, text in zip(job_ids, texts, strict=True) if text is not None]


def ended(client: Any, keys: Keys, job_ids: Sequence[bytes]) -> list[Ended]:
    """Those of the jobs that have ended."""
    if not job_ids:
        return []
    found = []
    texts = client.hmget(keys.live, [job_id.hex() for job_id in job_ids])
    for job_id, text in zip(job_ids, texts, strict=True):
        if text is None:
            continue
        ending = rows.to_ending(job_id.hex(), text)
        if ending[0] in ENDED:
            found.append(Ended(job_id, *ending))
    return found


def dependents(client: Any, keys: Keys, after: bytes | None, limit: int) -> list[Dependent]:
    """Jobs that wait for others, by ascending id. One look into an empty index, where there are none."""
    found: list[Dependent] = []
    behind = "-" if after is None else f"({after.hex()}"
    while (most := limit - len(found)) > 0:
        refs = client.zrangebylex(keys.after, behind, "+", start=0, num=most)
        lives = client.hmget(keys.live, refs) if refs else []
        for ref, live in zip(refs, lives, strict=True):
            # Some are released by now; what an older jobcard moved is in this index still.
            with contextlib.suppress(CorruptRecordError):
                if live is not None and (one := rows.to_dependent(ref.decode(), live)) is not None:
                    found.append(one)
        if len(refs) < most:
            break
        behind = f"({refs[-1].decode()}"
    return found


def _readable(client: Any, keys: Keys, refs: Sequence[str]) -> Iterator[JobRow]:
    for ref, live, card in fetch(client, keys, refs):
        if live is None and card is None:
            continue  # deleted since
        try:
            yield rows.to_job(ref, live, card)
        except CorruptRecordError:
            _log.warning("a job cannot be read and was left out: %s", ref)


def _few(client: Any, keys: Keys, where: Filter) -> list[str] | None:
    """All ids that can fit, when the wanted states or the time leave few; None: many, or nobody knows."""
    states = {str(state) for state in where.states}
    sources: list[tuple[str, Any]] = []
    since = where.touched_since
    low = "-inf" if since is None else since
    if since is None and not states:
        return None
    wanted = states or {state.value for state in JobState}
    for state in sorted(wanted & {state.value for state in ENDED}):
        sources += [(key, low) for key in keys.ended(state)]
    if wanted - {state.value for state in ENDED}:
        sources.append((keys.alive, low))
        if since is not None:
            sources.append((keys.leases, "-inf"))
    pipe = client.pipeline(transaction=False)
    for key, first in sources:
        pipe.zcount(key, first, "+inf")
    if sum(pipe.execute()) > FEW:
        return None
    pipe.reset()
    for key, first in sources:
        pipe.zrangebyscore(key, first, "+inf")
    return sorted({member[-32:].decode() for found in pipe.execute() for member in found}, reverse=True)


def _fits(row: JobRow, where: Filter) -> bool:
    if where.states and row.state not in where.states:
        return False
    if where.queues and row.queue not in where.queues:
        return False
    if where.names and row.name not in where.names:
        return False
    if where.tags and not set(where.tags) <= _tags(row):
        return False
    if where.args is not None and row.args != where.args:
        return False
    if where.error_kind is not None and row.error_kind != where.error_kind:
        return False
    if where.batch_id is not None and row.batch_id != where.batch_id:
        return False
    if where.limit_key is not None and row.limit_key != where.limit_key:
        return False
    if where.after is not None and row.created_at < where.after:
        return False
    if where.before is not None and row.created_at >= where.before:
        return False
    if where.touched_since is not None and not any(
        at is not None and at >= where.touched_since
        for at in (row.created_at, row.claimed_at, row.started_at, row.finished_at)
    ):
        return False
    if where.search:
        return where.search in row.name or where.search.lower() in str(UUID(bytes=row.id))
    return True


def _tags(row: JobRow) -> set[str]:
    try:
        return set(json.loads(row.tags)) if row.tags else set()
    except (ValueError, TypeError):
        return set()


def _needs_card(where: Filter) -> bool:
    return bool(where.tags or where.args is not None)


_LOOKS = 1_000
"""So many ids one call of `find.lua` looks at."""


def _steps(
    client: Any, keys: Keys, run: Run, where: Filter, *, below: str | None = None, most: int = 1_000
) -> Iterator[tuple[Iterator[JobRow], str | None]]:
    """Jobs of a filter, newest id first, some at a time, and the id below which the next are; None: nobody need ask.

    most: how many are probably wanted.
    """
    if where.batch_id is not None:
        yield from _of_batch(client, keys, run, where, where.batch_id.hex(), below)
        return
    few = _few(client, keys, where)
    if few is not None:
        refs = [ref for ref in few if below is None or ref < below]
        for first in range(0, len(refs), _CHUNK):
            rows = _readable(client, keys, refs[first : first + _CHUNK])
            yield (row for row in rows if _fits(row, where)), None
        return
    sets = [({str(value): True for value in values} or False) for values in (where.states, where.queues, where.names)]
    text = where.search or False
    cursor: str | bool = below or False
    at_once = 1_000 if _needs_card(where) else min(1_000, most)
    while True:
        limits = [False if value is None else value for value in (where.error_kind, where.after, where.before)]
        limit_key = False if where.limit_key is None else where.limit_key
        found, go_on = run("find", cursor, at_once, *sets, *limits, text, limit_key)
        rows = _readable(client, keys, [ref.decode() for ref in found])
        yield (row for row in rows if _fits(row, where)), go_on.decode() if go_on else None
        if not go_on:
            return
        cursor = go_on.decode()


def _of_batch(
    client: Any, keys: Keys, run: Run, where: Filter, batch: str, below: str | None
) -> Iterator[tuple[Iterator[JobRow], str | None]]:
    """As `_steps`: the jobs of a batch that may fit, along its index."""
    while True:
        refs = [ref.decode() for ref in run("find_batch", batch, _states(where), below or False, _LOOKS)]
        below = refs[-1] if len(refs) == _LOOKS else None
        yield (row for row in _readable(client, keys, refs) if _fits(row, where)), below
        if below is None:
            return


def _states(where: Filter) -> list[str]:
    return sorted({str(state) for state in where.states or JobState})


def walk(client: Any, keys: Keys, run: Run, where: Filter) -> Iterator[JobRow]:
    """Jobs of a filter, newest id first."""
    for found, _ in _steps(client, keys, run, where):
        yield from found


def list_jobs(client: Any, keys: Keys, run: Run, where: Filter, *, limit: int, before_id: bytes | None) -> Listed:
    """Jobs of a filter, newest id first. It passes over what cannot be read until the page is full."""
    rows: list[JobRow] = []
    looks = 0
    below = None if before_id is None else before_id.hex()
    for found, go_on in _steps(client, keys, run, where, below=below, most=limit):
        for row in found:
            rows.append(row)
            if len(rows) == limit:
                return Listed(rows, row.id)
        looks += _LOOKS
        if where.touched_since is not None and go_on is not None and looks >= reach(limit):
            return Listed(rows, bytes.fromhex(go_on))
    return Listed(rows, None)


def count_jobs(client: Any, keys: Keys, run: Run, where: Filter, *, limit: int | None) -> dict[str, dict[str, int]]:
    """Jobs by queue and state; with a limit, no (queue, state) is counted further."""
    counts: dict[str, dict[str, int]] = {}
    for queue, state, number in _counted(client, keys, run, where, limit):
        if (not where.states or state in where.states) and (not where.queues or queue in where.queues):
            by_state = counts.setdefault(queue, {})
            total = by_state.get(state, 0) + number
            by_state[state] = total if limit is None else min(limit, total)
    return counts


def _counted(client: Any, keys: Keys, run: Run, where: Filter, limit: int | None) -> Iterable[tuple[str, str, int]]:
    """(queue, state, how many), without a look at any job where an index tells; some may be of states not wanted."""
    beside = where._replace(states=(), queues=())
    if beside == Filter():
        return all_counts(client, keys)
    if where.batch_id is not None and beside == Filter(batch_id=where.batch_id):
        found = run("count_batch", where.batch_id.hex(), _states(where), False if limit is None else limit)
        return [(queue.decode(), state.decode(), number) for queue, state, number in found]
    return ((row.queue, row.state, 1) for row in walk(client, keys, run, where))


def all_counts(client: Any, keys: Keys) -> list[tuple[str, str, int]]:
    """(queue, state, how many) for all jobs."""
    found = []
    for field, number in client.hgetall(keys.counts).items():
        queue, _, state = field.decode().partition("\0")
        if int(number) > 0:
            found.append((queue, state, int(number)))
    return found


def chart(client: Any, keys: Keys, *, first: int, step: int, buckets: int, states: Sequence[str]) -> Sequence[Bucket]:
    """Jobs by present state in slices of time, each at its latest stamp."""
    slices: list[dict[str, int]] = [{} for _ in range(buckets)]
    pipe = client.pipeline(transaction=False)
    wanted = frozenset(states or JobState)
    is_alive = bool(wanted - ENDED)
    sources = [("waiting", keys.alive)] if is_alive else []
    sources += [(state.value, key) for state in sorted(ENDED) if state in wanted for key in keys.ended(state)]
    for _, key in sources:
        for place in range(buckets):
            pipe.zcount(key, first + place * step, f"({first + (place + 1) * step}")
    pipe.zrange(keys.leases, *((0, -1) if is_alive else (1, 0)))
    *numbers, at_work = pipe.execute()
    answers = iter(numbers)
    for state, _ in sources:
        for place in range(buckets):
            if number := next(answers):
                slices[place][state] = slices[place].get(state, 0) + number
    for row in _readable(client, keys, [member[-32:].decode() for member in at_work]):
        # Counted among the living at its creation; it belongs where it was claimed or started.
        _move(slices, "waiting", row.created_at, -1, first, step)
        _move(slices, row.state, row.started_at or row.claimed_at or row.created_at, 1, first, step)
    return [
        Bucket(at=first + place * step, counts={state: n for state, n in counts.items() if n and state in wanted})
        for place, counts in enumerate(slices)
    ]


def _move(slices: list[dict[str, int]], state: str, at: int, by: int, first: int, step: int) -> None:
    place = (at - first) // step
    if 0 <= place < len(slices):
        slices[place][state] = slices[place].get(state, 0) + by


def _counts_by_state(client: Any, keys: Keys) -> Mapping[str, int]:
    """How many jobs are in each state."""
    counts = {state.value: 0 for state in JobState}
    for _, state, number in all_counts(client, keys):
        counts[state] = counts.get(state, 0) + number
    return counts


def tally(client: Any, keys: Keys, run: Run, now: Callable[[], int]) -> Tally:
    """The whole store's figures."""
    delayed, oldest, _ = run("tally")
    return Tally(
        counts=_counts_by_state(client, keys),
        delayed=delayed,
        oldest_waiting=None if oldest is None else max(0, now() - oldest),
    )


def lines(run: Run, now: Callable[[], int], limit: int) -> Lines:
    """How jobs wait."""
    delayed, _, since = run("tally")
    moment = now()
    oldest: dict[str, int] = {}
    for queue, at in zip(since[::2], since[1::2], strict=True):
        assert isinstance(queue, bytes) and isinstance(at, int)
        oldest[queue.decode()] = max(0, moment - at)
    return Lines(min(delayed, limit), oldest)
