"""Looking up: filters as SQL, lists that leave unreadable rows out, counts along the indexes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast
from uuid import UUID

from jobcard.backends.base import FEW, Bucket, Ended, Filter, Lines, Listed, Tally
from jobcard.backends.pages import beside_states, end_of, reach
from jobcard.backends.sql import batches
from jobcard.backends.sql.connection import Connection, Row, Rows, Step, only_row
from jobcard.backends.sql.rows import to_job
from jobcard.backends.sql.statements import Statements
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine
from jobcard.core.states import AT_WORK, ENDED, JobState
from jobcard.errors import CorruptRecordError

_log = logging.getLogger("jobcard.store")


class Part(NamedTuple):
    """Jobs in one state that an index finds without a look at others."""

    state: JobState
    along: str
    """The index."""
    condition: str

    def source(self, sql: Statements) -> str:
        return sql.part(f"{{prefix}}jobs as job{{along {self.along}}}")


_IN_LINE = Part(JobState.WAITING, "by_line", "job.line is not null")
_PARTS = (
    _IN_LINE,
    Part(JobState.WAITING, "by_hold", "job.held is not null"),
    Part(JobState.CLAIMED, "by_holder", "job.claimed_by is not null and job.state = 'claimed'"),
    Part(JobState.RUNNING, "by_holder", "job.claimed_by is not null and job.state = 'running'"),
    *(Part(state, "by_end", f"job.ended = '{state.value}'") for state in sorted(ENDED)),
)


class _NobodyError(Exception):
    """No job can match: the filter asks for a text that no job can have."""


def conditions(sql: Statements, where: Filter, before_id: bytes | None = None) -> tuple[str, dict[str, object]]:
    """A filter as a condition with places for its values; without `touched_since`, which is where to look."""
    parts: list[str] = []
    values: dict[str, object] = {}

    def add(part: str, **given: object) -> None:
        parts.append(part)
        values.update(given)

    for column, wanted in (("state", where.states), ("queue", where.queues), ("name", where.names)):
        if wanted:
            add(f"job.{column} in (%({column}s)s)", **{f"{column}s": _possible(sql, wanted)})
    for place, tag in enumerate(where.tags):
        # A tag is compared as it is written: JSON of our own writer, ASCII only.
        tagged = sql.part("{tagged}").replace("{tag}", f"%(tag_{place})s")
        add(tagged, **{f"tag_{place}": json.dumps(tag)})
    for column, text in (("args", where.args), ("error_kind", where.error_kind), ("limit_key", where.limit_key)):
        if text is not None:
            add(f"job.{column} = %({column})s", **{column: _possible(sql, [text])[0]})
    if where.batch_id is not None:
        add("job.batch_id = %(batch_id)s", batch_id=where.batch_id)
    if where.after is not None:
        add("job.created_at >= %(after)s", after=where.after)
    if where.before is not None:
        add("job.created_at < %(before)s", before=where.before)
    if where.search:
        # position() and not like: nothing in the text means anything but itself.
        [search] = _possible(sql, [where.search])
        add(
            sql.part("(position(%(search)s in job.name) > 0 or position(%(searched_id)s in {id_text}) > 0)"),
            search=search,
            searched_id=search.lower(),
        )
    if before_id is not None:
        add("job.id < %(before_id)s", before_id=before_id)
    return " and ".join(parts) or "true", values


def _possible(sql: Statements, texts: Sequence[str]) -> list[str]:
    found = [str(text) for text in texts if sql.can_look_for(text)]
    if not found:
        raise _NobodyError
    return found


def _found_in(sql: Statements, refs: Sequence[str]) -> str:
    """A source of the jobs with these refs, looked up one by one."""
    return f"({' union all '.join(refs)})" + sql.part(" as found {join} {prefix}jobs as job on job.n = found.n")


def _touched(connection: Connection, sql: Statements, where: Filter) -> tuple[list[str], dict[str, object]]:
    """The refs of the jobs touched since an instant in the states wanted; no look at jobs that ended before."""
    values: dict[str, object] = {"touched_since": where.touched_since}
    wanted = where.states or tuple(JobState)
    refs = [sql["touched_waiting"]] if JobState.WAITING in wanted else []
    if not AT_WORK.isdisjoint(wanted):
        refs.append(sql["touched_at_work"])
    ended = [state for state in sorted(ENDED) if state in wanted]
    for place, (state, queue) in enumerate(ends(connection, sql, ended)):
        values |= {f"state_{place}": state, f"queue_{place}": queue}
        refs.append(sql["touched_ended"].replace("{state}", f"state_{place}").replace("{queue}", f"queue_{place}"))
    return refs, values


def _are_many(connection: Connection, sql: Statements, refs: Sequence[str], values: Mapping[str, object]) -> bool:
    left = FEW
    for part in refs:
        if part == sql["touched_waiting"]:
            part = sql["created_since"]  # of any state: among many that wait no more it would find a few slowly
        statement = sql["count_refs"].replace("{refs}", part)
        [(number,)] = connection.execute(statement, {**values, "most": left + 1})
        left -= number
        if left < 0:
            return True
    return False


# Of a job that ended only the end counts; whatever waits or is at work has no end.
_TOUCHED = (
    "(job.finished_at >= %(touched_since)s or job.finished_at is null and (job.created_at >= %(touched_since)s"
    " or job.claimed_at >= %(touched_since)s or job.started_at >= %(touched_since)s))"
)
_ABOVE_ALL = b"\xff" * 16


def _list_touched(
    connection: Connection,
    sql: Statements,
    where: Filter,
    condition: str,
    values: Mapping[str, object],
    *,
    limit: int,
    before_id: bytes | None,
) -> Listed:
    refs, more = _touched(connection, sql, where)
    if not refs:
        return Listed([], None)
    if not _are_many(connection, sql, refs, more):
        return _page(connection, sql, _found_in(sql, refs), condition, {**values, **more}, limit)
    # Too many to sort for every page. Most of them are young, so a short walk down the ids meets enough.
    below = connection.execute(sql["ids_below"], {"before_id": before_id or _ABOVE_ALL, "reach": reach(limit)})
    bound, given = f"{_TOUCHED} and {condition}", {**values, "touched_since": where.touched_since}
    if below:
        bound, given = f"job.id >= %(lowest)s and {bound}", {**given, "lowest": below[0][0]}
    page = _page(connection, sql, sql.part("{prefix}jobs as job{along by_id}"), bound, given, limit)
    return page if page.below is not None else Listed(page.rows, below[0][0] if below else None)


def ends(connection: Connection, sql: Statements, wanted: Sequence[str]) -> list[tuple[str, str]]:
    """Every one of these states with each queue in which jobs have ended so."""
    found: list[tuple[str, str]] = []
    at = {str(state): "" for state in wanted}
    while at:
        steps = [Step(sql["next_ended"], {"state": state, "queue": queue}) for state, queue in at.items()]
        answers = connection.run(steps)
        at = {state: rows[0][0] for state, rows in zip(at, answers, strict=True) if rows}
        found += at.items()
    return sorted(found)


def list_jobs(connection: Connection, sql: Statements, where: Filter, *, limit: int, before_id: bytes | None) -> Listed:
    """Jobs of a filter, newest id first; unreadable ones are left out and logged."""
    try:
        condition, values = conditions(sql, where, before_id)
    except _NobodyError:
        return Listed([], None)
    if where.touched_since is not None:
        return _list_touched(connection, sql, where, condition, values, limit=limit, before_id=before_id)
    if where.batch_id is not None:
        return _list_batch(connection, sql, where, limit=limit, before_id=before_id)
    return _page(connection, sql, _source(connection, sql, where), condition, values, limit)


def _list_batch(
    connection: Connection, sql: Statements, where: Filter, *, limit: int, before_id: bytes | None
) -> Listed:
    batch = batches.Batch(connection, sql, where)
    condition, values = conditions(sql, beside_states(where), before_id)
    refs = batch.refs(condition)
    if not refs:
        return Listed([], None)
    return _page(connection, sql, _found_in(sql, [refs]), "true", {**values, **batch.values}, limit)


def _page(
    connection: Connection, sql: Statements, source: str, condition: str, values: Mapping[str, object], limit: int
) -> Listed:
    text = sql["list"].replace("{source}", source).replace("{where}", condition)
    rows = noted(connection.execute(text, {**values, "limit": limit}))
    return Listed(list(map(to_job, rows)), end_of(sorted(met(rows), reverse=True), limit))


def _source(connection: Connection, sql: Statements, where: Filter) -> str:
    # Few jobs are sorted in no time; among many, a walk down the ids soon meets enough.
    parts = [part for part in _PARTS if part.state in where.states]
    if parts:
        steps = [Step(_count_text(sql, part.source(sql), part.condition), {"most": FEW + 1}) for part in parts]
        if sum(number for [(number,)] in connection.run(steps)) <= FEW:
            return _found_in(sql, [_fill(sql["refs_of_part"], part.source(sql), part.condition) for part in parts])
    return sql.part("{prefix}jobs as job{along by_id}")


def _count_text(sql: Statements, source: str, condition: str) -> str:
    return _fill(sql["count_queue"], source, condition)


def _fill(text: str, source: str, condition: str) -> str:
    return text.replace("{source}", source).replace("{where}", condition)


def get_jobs(connection: Connection, sql: Statements, job_ids: Sequence[bytes]) -> list[JobRow]:
    """Those of the jobs that exist; an unreadable one is an error only if it is asked for alone."""
    if not job_ids:
        return []
    rows = connection.execute(sql["get"], {"ids": job_ids})
    if len(job_ids) == 1 and rows.unreadable:
        raise CorruptRecordError("a row of the store holds text that is not UTF-8")
    return list(map(to_job, noted(rows)))


def attempts(connection: Connection, sql: Statements, job_ids: Sequence[bytes]) -> list[Attempt]:
    """The recorded tries of these jobs, oldest first."""
    return list(map(Attempt._make, connection.execute(sql["attempts"], {"ids": job_ids})))


def log_lines(connection: Connection, sql: Statements, job_ids: Sequence[bytes]) -> list[LogLine]:
    """The log lines of these jobs, each job's oldest first."""
    return list(map(LogLine._make, connection.execute(sql["log_lines"], {"ids": job_ids})))


def ended(connection: Connection, sql: Statements, job_ids: Sequence[bytes]) -> list[Ended]:
    """Those of the jobs that have ended."""
    return list(map(Ended._make, connection.execute(sql["ended"], {"ids": job_ids})))


def dependents(connection: Connection, sql: Statements, after: bytes | None, limit: int) -> list[Dependent]:
    """Jobs that wait for others, by ascending id."""
    rows = connection.execute(sql["dependents"], {"after": after or b"", "limit": limit})
    # One that cannot be read waits for what nobody knows; left out, it would make the page the last one.
    unreadable = [Dependent(cast(bytes, job_id), "", -1) for job_id in rows.unreadable]
    return sorted([*map(Dependent._make, rows), *unreadable])


def met(rows: Rows) -> list[Any]:
    """The first columns of all rows, the unreadable ones among them."""
    return [*(row[0] for row in rows), *rows.unreadable]


def noted(rows: Rows) -> Rows:
    """The rows of an answer; those that cannot be read are logged."""
    for key in rows.unreadable:
        shown = str(UUID(bytes=key)) if isinstance(key, bytes) and len(key) == 16 else f"number {key!r}"
        _log.warning("a job cannot be read and was left out: %s", shown)
    return rows


def count_jobs(
    connection: Connection, sql: Statements, where: Filter, *, limit: int | None
) -> dict[str, dict[str, int]]:
    """Jobs by queue and state; with a limit, no (queue, state) is counted much further."""
    try:
        condition, values = conditions(sql, beside_states(where))
    except _NobodyError:
        return {}
    touched = None
    if where.touched_since is not None:
        refs, more = _touched(connection, sql, where)
        if not refs:
            return {}
        touched, values = _found_in(sql, refs), {**values, **more}
    elif where.batch_id is not None:
        return _by_queue(batches.Batch(connection, sql, where).count(condition, values, limit), limit)
    parts = [
        (part, touched or part.source(sql), f"{part.condition} and {condition}")
        for part in _PARTS
        if not where.states or part.state in where.states
    ]
    found: Iterable[Row]
    if limit is None:
        # One statement, so that all parts are counted as of one moment.
        found = connection.execute(" union all ".join(_count_of(sql, *part) for part in parts), values)
    else:
        found = chain.from_iterable(_count_part(connection, sql, *part, values, limit) for part in parts)
    return _by_queue(found, limit)


def _by_queue(found: Iterable[Row], limit: int | None) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for state, queue, number in found:
        by_state = counts.setdefault(queue, {})
        total = by_state.get(state, 0) + number
        by_state[state] = total if limit is None else min(limit, total)
    return counts


def _count_of(sql: Statements, part: Part, source: str, both: str) -> str:
    return _fill(sql["count"].replace("{state}", part.state.value), source, both)


def _count_part(
    connection: Connection,
    sql: Statements,
    part: Part,
    source: str,
    both: str,
    values: Mapping[str, object],
    limit: int,
) -> Sequence[Row]:
    """Jobs of a part by state and queue, none counted much further than the limit."""
    queues = _queues_of(connection, sql, part) if "found" not in source else None
    if queues is None:
        return connection.execute(_count_of(sql, part, source, both), values)
    column = "line" if part is _IN_LINE else "queue"
    text = _count_text(sql, source, f"{both} and job.{column} = %(one_queue)s")
    steps = [Step(text, {**values, "one_queue": queue, "most": limit}) for queue in queues]
    answers = connection.run(steps) if steps else []
    return [(part.state.value, queue, number) for queue, [(number,)] in zip(queues, answers, strict=True) if number]


def _queues_of(connection: Connection, sql: Statements, part: Part) -> list[str] | None:
    """The queues of a part whose index finds one queue at once; None: it is counted as a whole."""
    if part is _IN_LINE:
        found: list[str] = []
        while rows := connection.execute(sql["next_in_line"], {"queue": found[-1] if found else ""}):
            found.append(rows[0][0])
        return found
    if part.state in ENDED:
        return [queue for _, queue in ends(connection, sql, [part.state])]
    return None


def chart(
    connection: Connection, sql: Statements, *, first: int, step: int, buckets: int, states: Sequence[str]
) -> Sequence[Bucket]:
    """Jobs by present state in slices of time, each at its latest stamp."""
    slices: list[dict[str, int]] = [{} for _ in range(buckets)]
    values: dict[str, object] = {"first": first, "step": step, "end": first + step * buckets}
    wanted = frozenset(states or JobState)
    steps = [Step(sql["chart_alive"], values)] if wanted - ENDED else []
    for state, queue in ends(connection, sql, [state for state in sorted(ENDED) if state in wanted]):
        steps.append(Step(sql["chart_ended"], {**values, "state": state, "queue": queue}))
    for rows in connection.run(steps) if steps else ():
        for state, place, number in rows:
            if state not in wanted:
                continue
            slices[place][state] = slices[place].get(state, 0) + number
    return [Bucket(at=first + place * step, counts=counts) for place, counts in enumerate(slices)]


def tally(connection: Connection, sql: Statements, now: int | None) -> Tally:
    """The whole store's figures."""
    in_line, held, claimed, running, completed, failed, canceled, delayed, *due, moment = only_row(
        connection.execute(sql["tally"], {"now": now})
    )
    counts = {
        JobState.WAITING.value: in_line + held,
        JobState.CLAIMED.value: claimed,
        JobState.RUNNING.value: running,
        JobState.COMPLETED.value: completed,
        JobState.FAILED.value: failed,
        JobState.CANCELED.value: canceled,
    }
    since = [at for at in due if at is not None]
    return Tally(counts=counts, delayed=delayed, oldest_waiting=max(0, moment - min(since)) if since else None)


def lines(connection: Connection, sql: Statements, now: int | None, limit: int) -> Lines:
    """How jobs wait."""
    [(delayed,)] = connection.execute(sql["delayed_up_to"], {"now": now, "most": limit})
    due = list(connection.execute(sql["first_due"], {"now": now}))
    queue = ""
    while found := connection.execute(sql["next_in_line"], {"queue": queue}):
        [(queue,)] = found
        rank = -(1 << 31)
        # The first of each priority.
        while first := connection.execute(sql["first_of_rank"], {"queue": queue, "above": rank, "now": now}):
            [(rank, age)] = first
            due.append((queue, age))
    oldest: dict[str, int] = {}
    for name, age in due:
        oldest[name] = max(oldest.get(name, 0), int(age))
    return Lines(delayed, oldest)
