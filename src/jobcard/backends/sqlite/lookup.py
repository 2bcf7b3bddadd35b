"""Looking up: filters as SQL, lists that leave unreadable rows out, counts along the indexes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from jobcard.backends.base import FEW, Bucket, Ended, Filter, Lines, Listed, Tally
from jobcard.backends.pages import beside_states, end_of, reach
from jobcard.backends.sqlite.bodies import Row
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.rows import JOB_COLUMNS, to_job
from jobcard.backends.sqlite.statements import marks
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine
from jobcard.core.states import AT_WORK, ENDED, JobState
from jobcard.errors import CorruptRecordError

_log = logging.getLogger("jobcard.store")

CHUNK = 500
"""Values of one `in (…)`: below the limit of every SQLite, which may be as low as 999."""

_ID_TEXT = "lower(hex(id))"
_ID_WITH_DASHES = " || '-' || ".join(
    f"substr({_ID_TEXT}, {first}, {length})" for first, length in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
)

# Each part of the jobs has an index whose condition must stand in the query word for word.
_IN_LINE = "state = 'waiting' and hold is null"
_PARTS: tuple[tuple[str, str], ...] = (
    (JobState.WAITING, _IN_LINE),
    (JobState.WAITING, "state = 'waiting' and hold is not null"),
    (JobState.CLAIMED, "claimed_by is not null and state = 'claimed'"),
    (JobState.RUNNING, "claimed_by is not null and state = 'running'"),
    *((state, f"state = '{state.value}' and finished_at is not null") for state in sorted(ENDED)),
)
_BY_QUEUE = frozenset({_IN_LINE, *(part for state, part in _PARTS if state in ENDED)})
"""Those whose index finds one queue at once; the others are counted as a whole."""


# Of a job that ended only the end counts; whatever waits or is at work has no end.
_TOUCHED = "(finished_at >= ? or finished_at is null and (created_at >= ? or claimed_at >= ? or started_at >= ?))"


def conditions(where: Filter, before_id: bytes | None = None) -> tuple[str, list[object]]:
    """A filter as a condition with places for its values."""
    parts: list[str] = []
    values: list[object] = []

    def add(part: str, *given: object) -> None:
        parts.append(part)
        values.extend(given)

    for column, wanted in (("state", where.states), ("queue", where.queues), ("name", where.names)):
        if wanted:
            add(f"{column} in ({marks(len(wanted))})", *map(str, wanted))
    for tag in where.tags:
        add("case when json_valid(tags) then exists (select 1 from json_each(tags) where value = ?) end", tag)
    if where.args is not None:
        add("args = ?", where.args)
    if where.error_kind is not None:
        add("error_kind = ?", where.error_kind)
    if where.batch_id is not None:
        add("batch_id is not null and batch_id = ?", where.batch_id)
    if where.limit_key is not None:
        add("limit_key = ?", where.limit_key)
    if where.after is not None:
        add("created_at >= ?", where.after)
    if where.before is not None:
        add("created_at < ?", where.before)
    if where.touched_since is not None:
        add(_TOUCHED, *[where.touched_since] * 4)
    if where.search:
        # instr and not like: nothing in the text means anything but itself.
        add(f"(instr(name, ?) > 0 or instr({_ID_WITH_DASHES}, ?) > 0)", where.search, where.search.lower())
    if before_id is not None:
        add("id < ?", before_id)
    return " and ".join(parts) or "true", values


_ABOVE_ALL = b"\xff" * 17


def _parts_of_few(connection: Connection, sql: Mapping[str, str], where: Filter) -> list[str]:
    """The parts of the states wanted if they hold few jobs; [] if many, or if no state was given.

    Few are sorted in no time; among many, a walk down the ids soon meets enough.
    """
    parts = [part for state, part in _PARTS if state in where.states]
    left = FEW
    for part in parts:
        [(number,)] = connection.execute(sql["count_up_to"].replace("{where}", part), (left + 1,))
        left -= number
        if left < 0:
            return []
    return parts


def list_jobs(
    connection: Connection, sql: Mapping[str, str], where: Filter, *, limit: int, before_id: bytes | None
) -> Listed:
    """Jobs of a filter, newest id first; unreadable ones are left out and logged."""
    if where.touched_since is not None:
        return _list_touched(connection, sql, where, limit=limit, before_id=before_id)
    condition, values = conditions(where, before_id)
    if parts := _parts_of_few(connection, sql, where):
        refs = " union all ".join(sql["refs_of_part"].replace("{where}", part) for part in parts)
        condition = f"n in ({refs}) and {condition}"
    return _page(connection, sql, sql["list"].replace("{where}", condition), values, limit)


def _page(
    connection: Connection, sql: Mapping[str, str], statement: str, values: Sequence[object], limit: int
) -> Listed:
    values = [*values, limit]
    try:
        rows = list(map(to_job, connection.execute(statement.replace("{what}", JOB_COLUMNS), values)))
        met = [row.id for row in rows]
    except CorruptRecordError:
        found = connection.execute(statement.replace("{what}", "n, id"), values)
        rows = list(map(to_job, readable(connection, sql["get_ref"], [ref for ref, _ in found])))
        met = [job_id for _, job_id in found]
    return Listed(rows, end_of(met, limit))


def touched(sql: Mapping[str, str], where: Filter) -> tuple[str, list[object]]:
    """A statement for the refs of all jobs touched in time, in the states wanted, and its values."""
    since, wanted = where.touched_since, where.states or tuple(JobState)
    parts: list[tuple[str, list[object]]] = []
    if JobState.WAITING in wanted:
        parts.append((sql["touched_waiting"], [since]))
    if not AT_WORK.isdisjoint(wanted):
        parts.append((sql["touched_at_work"], [since] * 3))
    parts += [(sql["touched_ended"], [state.value, since]) for state in sorted(ENDED) if state in wanted]
    return " union all ".join(part for part, _ in parts), [value for _, values in parts for value in values]


def _list_touched(
    connection: Connection, sql: Mapping[str, str], where: Filter, *, limit: int, before_id: bytes | None
) -> Listed:
    condition, values = conditions(where, before_id)
    refs, since = touched(sql, where)
    if not refs:
        return Listed([], None)
    [(number,)] = connection.execute(sql["touched_up_to"].replace("{touched}", refs), [*since, FEW + 1])
    if number > FEW:
        # Too many to sort for every page. Most of them are young, so a short walk down the ids meets enough.
        below = connection.execute(sql["ids_below"], (before_id or _ABOVE_ALL, reach(limit)))
        bound, lowest = ("id >= ? and ", below[0]) if below else ("", ())
        page = _page(connection, sql, sql["list"].replace("{where}", bound + condition), [*lowest, *values], limit)
        return page if page.below is not None else Listed(page.rows, below[0][0] if below else None)
    statement = sql["list_touched"].replace("{touched}", refs).replace("{where}", condition)
    return _page(connection, sql, statement, [*since, *values], limit)


def get_jobs(connection: Connection, sql: Mapping[str, str], job_ids: Sequence[bytes]) -> list[JobRow]:
    """Those of the jobs that exist; an unreadable one is an error only if it is asked for alone."""
    return list(map(to_job, by_ids(connection, sql["get_many"], job_ids)))


def attempts(connection: Connection, sql: Mapping[str, str], job_ids: Sequence[bytes]) -> list[Attempt]:
    """The recorded tries of these jobs, oldest first."""
    return [Attempt._make(row) for row in by_ids(connection, sql["attempts"], job_ids)]


def log_lines(connection: Connection, sql: Mapping[str, str], job_ids: Sequence[bytes]) -> list[LogLine]:
    """The log lines of these jobs, each job's oldest first."""
    return [LogLine._make(row) for row in by_ids(connection, sql["log_lines"], job_ids)]


def ended(connection: Connection, sql: Mapping[str, str], job_ids: Sequence[bytes]) -> list[Ended]:
    """Those of the jobs that have ended."""
    return [Ended._make(row) for row in by_ids(connection, sql["ended"], job_ids)]


def dependents(connection: Connection, sql: Mapping[str, str], after: bytes | None, limit: int) -> list[Dependent]:
    """Jobs that wait for others, by ascending id."""
    values = (after or b"", limit)
    try:
        return [Dependent(*row) for row in connection.execute(sql["dependents"], values)]
    except CorruptRecordError:
        # One of them says in no text what it waits for: nobody can read that then, but the others shall be seen to.
        rows = connection.execute(sql["dependents"].replace("waits_for", "hex(waits_for)"), values)
        return [Dependent(one, bytes.fromhex(text).decode(errors="replace"), version) for one, text, version in rows]


def by_ids(connection: Connection, statement: str, job_ids: Sequence[bytes]) -> list[Row]:
    """What a statement finds of these jobs; an unreadable record is an error only if its job is asked for alone."""
    if len(job_ids) == 1:
        return connection.execute(statement.replace("{marks}", "?"), job_ids)
    found: list[Row] = []
    for chunk in chunks(job_ids):
        try:
            found += connection.execute(statement.replace("{marks}", marks(len(chunk))), chunk)
        except CorruptRecordError:
            found += readable(connection, statement.replace("{marks}", "?"), chunk)
    return found


def readable(connection: Connection, statement: str, keys: Sequence[object]) -> list[Row]:
    """What a statement finds for these keys, one by one; what cannot be read is left out and logged."""
    found: list[Row] = []
    for key in keys:
        try:
            found += connection.execute(statement, (key,))
        except CorruptRecordError:
            _log.warning("a job cannot be read and was left out: %s", key.hex() if isinstance(key, bytes) else key)
    return found


def chunks(job_ids: Sequence[bytes]) -> list[Sequence[bytes]]:
    """The ids in pieces that one statement can take."""
    return [job_ids[first : first + CHUNK] for first in range(0, len(job_ids), CHUNK)]


def count_jobs(
    connection: Connection, sql: Mapping[str, str], where: Filter, *, limit: int | None
) -> dict[str, dict[str, int]]:
    """Jobs by queue and state; with a limit, no (queue, state) is counted much further."""
    counts: dict[str, dict[str, int]] = {}
    condition, values = conditions(beside_states(where))
    if where.touched_since is not None:
        refs, since = touched(sql, where)
        statement = sql["count_touched"].replace("{touched}", refs).replace("{where}", condition)
        for queue, state, number in connection.execute(statement, [*since, *values]) if refs else ():
            counts.setdefault(queue, {})[state] = number if limit is None else min(limit, number)
        return counts
    if where.batch_id is not None:
        return _count_batch(connection, sql, where, condition, values, limit)
    for state, part in _PARTS:
        if where.states and state not in where.states:
            continue
        both = f"{part} and {condition}"
        for queue, number in _count_part(connection, sql, part, both, values, limit):
            by_state = counts.setdefault(queue, {})
            total = by_state.get(state, 0) + number
            by_state[state] = total if limit is None else min(limit, total)
    return counts


def _count_batch(
    connection: Connection,
    sql: Mapping[str, str],
    where: Filter,
    condition: str,
    values: list[object],
    limit: int | None,
) -> dict[str, dict[str, int]]:
    # Along the index of batches: from one queue with jobs in a state to the next, and in each no further than asked.
    most = -1 if limit is None else limit
    counts: dict[str, dict[str, int]] = {}
    statement = sql["count_batch"].replace("{where}", condition)
    for state in where.states or tuple(JobState):
        for queue, number in connection.execute(statement, (where.batch_id, str(state), *values, most)):
            if number:
                counts.setdefault(queue, {})[str(state)] = number
    return counts


def _count_part(
    connection: Connection, sql: Mapping[str, str], part: str, both: str, values: list[object], limit: int | None
) -> list[tuple[str, int]]:
    if limit is None or part not in _BY_QUEUE:
        rows = connection.execute(sql["count"].replace("{where}", both), values)
        return [(queue, number) for queue, _, number in rows]
    found = []
    for (queue,) in connection.execute(sql["queues_in"].replace("{where}", part)):
        statement = sql["count_queue"].replace("{where}", both)
        [(number,)] = connection.execute(statement, (*values, queue, limit))
        if number:
            found.append((queue, number))
    return found


def chart(
    connection: Connection, sql: Mapping[str, str], *, first: int, step: int, buckets: int, states: Sequence[str]
) -> Sequence[Bucket]:
    """Jobs by present state in slices of time, each at its latest stamp."""
    end = first + step * buckets
    slices: list[dict[str, int]] = [{} for _ in range(buckets)]
    wanted = frozenset(states or JobState)
    rows = connection.execute(sql["chart_alive"], (first, step, end)) if wanted - ENDED else []
    for state in sorted(ENDED):
        if state in wanted:
            rows += connection.execute(sql["chart_finished"], (state.value, first, step, end))
    for state_name, place, number in rows:
        if state_name in wanted:
            slices[place][state_name] = number
    return [Bucket(at=first + place * step, counts=counts) for place, counts in enumerate(slices)]


def tally(connection: Connection, sql: Mapping[str, str], now: int) -> Tally:
    """The whole store's figures."""
    counts = {state.value: 0 for state in JobState} | dict(connection.execute(sql["tally"]))
    [(delayed, *due)] = connection.execute(sql["tally_waiting"], (now,))
    since = [at for at in due if at is not None]
    return Tally(counts=counts, delayed=delayed, oldest_waiting=max(0, now - min(since)) if since else None)


def lines(connection: Connection, sql: Mapping[str, str], now: int, limit: int) -> Lines:
    """How jobs wait."""
    [(delayed,)] = connection.execute(sql["delayed_up_to"], (now, limit))
    due = connection.execute(sql["first_in_line"]) + connection.execute(sql["first_due"], (now,))
    oldest: dict[str, int] = {}
    for queue, since in due:
        oldest[queue] = max(oldest.get(queue, 0), now - since)
    return Lines(delayed, oldest)
