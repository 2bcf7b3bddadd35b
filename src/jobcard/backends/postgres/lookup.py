"""Looking up: filters as SQL, lists that leave unreadable rows out, counts along the indexes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence

from jobcard.backends.base import FEW, Bucket, Ended, Filter, Lines, Listed, Tally
from jobcard.backends.pages import beside_states, end_of, reach
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.rows import to_job
from jobcard.backends.postgres.values import Id, Ids, Texts, encode
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine
from jobcard.core.states import AT_WORK, ENDED, JobState
from jobcard.errors import CorruptRecordError, InvalidJobError

_log = logging.getLogger("jobcard.store")

Sql = Mapping[str, str]

# Each part of the jobs has an index whose condition must stand in the query word for word.
_IN_LINE = "state = 'waiting' and hold is null"
_PARTS: tuple[tuple[str, str], ...] = (
    (JobState.WAITING, _IN_LINE),
    (JobState.WAITING, "state = 'waiting' and hold is not null"),
    (JobState.CLAIMED, "claimed_by is not null and state = 'claimed'"),
    (JobState.RUNNING, "claimed_by is not null and state = 'running'"),
    *((state, f"state = '{state.value}' and finished_at is not null") for state in sorted(ENDED)),
)
_OF_BATCH = tuple((state, f"batch_id = %(batch_id)s and state = '{state.value}'") for state in JobState)
_BY_QUEUE = frozenset({_IN_LINE, *(part for state, part in _PARTS if state in ENDED), *(part for _, part in _OF_BATCH)})
"""Those whose index finds one queue at once; the others are counted as a whole."""

# The strings of a JSON array of strings, each as it is written there.
_TAGS_WRITTEN = r"array(select found[1] from regexp_matches(tags, '(\"(?:[^\"\\]|\\.)*\")', 'g') as found)"


class _NobodyError(Exception):
    """No job can match: the filter asks for a text that no job can have."""


def can_be_stored(text: str) -> bool:
    """Whether PostgreSQL can hold this text: neither NUL nor half a surrogate pair."""
    try:
        encode(text)
    except InvalidJobError:
        return False
    return True


def conditions(sql: Sql, where: Filter, before_id: bytes | None = None) -> tuple[str, dict[str, object]]:
    """A filter as a condition with places for its values."""
    parts: list[str] = []
    values: dict[str, object] = {}

    def add(part: str, **given: object) -> None:
        parts.append(part)
        values.update(given)

    for column, wanted in (("state", where.states), ("queue", where.queues), ("name", where.names)):
        if wanted:
            add(f"{column} = any(%({column}s)s)", **{f"{column}s": Texts(_possible(map(str, wanted)))})
    if where.tags:
        add(f"tags is not null and %(tags)s <@ {_TAGS_WRITTEN}", tags=Texts(map(json.dumps, where.tags)))
    for column, text in (("args", where.args), ("error_kind", where.error_kind), ("limit_key", where.limit_key)):
        if text is not None:
            add(f"{column} = %({column})s", **{column: _possible([text])[0]})
    if where.batch_id is not None:
        add("batch_id = %(batch_id)s", batch_id=Id(where.batch_id))
    if where.after is not None:
        add("created_at >= %(after)s", after=where.after)
    if where.before is not None:
        add("created_at < %(before)s", before=where.before)
    if where.search:
        # position() and not like: nothing in the text means anything but itself.
        add(
            "(position(%(search)s in name) > 0 or position(%(searched_id)s in id::text) > 0)",
            search=_possible([where.search])[0],
            searched_id=where.search.lower(),
        )
    if where.touched_since is not None:
        add(f"n = any(array({_touched(sql, where)}))", touched_since=where.touched_since)
    if before_id is not None:
        add("id < %(before_id)s", before_id=Id(before_id))
    return " and ".join(parts) or "true", values


def _possible(texts: Iterable[str]) -> list[str]:
    found = [text for text in texts if can_be_stored(text)]
    if not found:
        raise _NobodyError
    return found


def _parts(where: Filter) -> Sequence[tuple[str, str]]:
    return _PARTS if where.batch_id is None else _OF_BATCH


def _parts_of_few(connection: Connection, sql: Sql, where: Filter) -> list[str]:
    """The parts of the states wanted if they hold few jobs; [] if many, or if no state was given.

    Few are sorted in no time; among many, a walk down the ids soon meets enough.
    """
    parts = [part for state, part in _parts(where) if state in where.states]
    if not parts or where.touched_since is not None:
        return []
    values = {"most": FEW + 1, "batch_id": None if where.batch_id is None else Id(where.batch_id)}
    steps = [Step(sql["count_up_to"].replace("{where}", part), values, prepare=False) for part in parts]
    few = sum(number for [(number,)] in connection.run(steps)) <= FEW
    return parts if few else []


def list_jobs(connection: Connection, sql: Sql, where: Filter, *, limit: int, before_id: bytes | None) -> Listed:
    """Jobs of a filter, newest id first; unreadable ones are left out and logged."""
    try:
        condition, values = conditions(sql, where, before_id)
    except _NobodyError:
        return Listed([], None)
    if _are_many_touched(connection, sql, where):
        return _list_touched(connection, sql, where, limit=limit, before_id=before_id)
    if parts := _parts_of_few(connection, sql, where):
        refs = " union all ".join(sql["refs_of_part"].replace("{where}", part) for part in parts)
        condition = f"n = any(array({refs})) and {condition}"
    return _page(connection, sql, condition, values, limit)


def _page(connection: Connection, sql: Sql, condition: str, values: dict[str, object], limit: int) -> Listed:
    values["limit"] = limit
    try:
        rows = list(map(to_job, connection.execute(sql["list"].replace("{where}", condition), values, prepare=False)))
        met = [row.id for row in rows]
    except CorruptRecordError:
        found = connection.execute(sql["list_refs"].replace("{where}", condition), values, prepare=False)
        rows = list(map(to_job, readable(connection, sql["get_ref"], [(ref,) for ref, _ in found])))
        met = [job_id for _, job_id in found]
    return Listed(rows, end_of(met, limit))


def _touched(sql: Sql, where: Filter) -> str:
    """A statement for the refs of all jobs touched in time, in the states wanted; every state has a part."""
    wanted = where.states or tuple(JobState)
    parts = [sql["touched_waiting"]] if JobState.WAITING in wanted else []
    if not AT_WORK.isdisjoint(wanted):
        parts.append(sql["touched_at_work"])
    if ended := [f"'{state.value}'" for state in sorted(ENDED) if state in wanted]:
        parts.append(sql["touched_ended"].replace("{ended}", ", ".join(ended)))
    return " union all ".join(parts)


def _are_many_touched(connection: Connection, sql: Sql, where: Filter) -> bool:
    if where.touched_since is None:
        return False
    values = {"touched_since": where.touched_since, "most": FEW + 1}
    statement = sql["touched_up_to"].replace("{touched}", _touched(sql, where))
    [(number,)] = connection.execute(statement, values, prepare=False)
    return bool(number > FEW)


# Of a job that ended only the end counts; whatever waits or is at work has no end.
_TOUCHED = (
    "(finished_at >= %(touched_since)s or finished_at is null and (created_at >= %(touched_since)s"
    " or claimed_at >= %(touched_since)s or started_at >= %(touched_since)s))"
)


def _list_touched(connection: Connection, sql: Sql, where: Filter, *, limit: int, before_id: bytes | None) -> Listed:
    """Of many: too many to sort for every page. Most of them are young, so a short walk down the ids meets enough."""
    condition, values = conditions(sql, where._replace(touched_since=None), before_id)
    below = connection.execute(sql["ids_below"], {"before_id": Id(before_id or _ABOVE_ALL), "reach": reach(limit)})
    bound = f"{_TOUCHED} and {condition}"
    values["touched_since"] = where.touched_since
    if below:
        bound = f"id >= %(lowest)s and {bound}"
        values["lowest"] = Id(below[0][0])
    page = _page(connection, sql, bound, values, limit)
    return page if page.below is not None else Listed(page.rows, below[0][0] if below else None)


_BELOW_ALL, _ABOVE_ALL = bytes(16), b"\xff" * 16


def get_jobs(connection: Connection, sql: Sql, job_ids: Sequence[bytes]) -> list[JobRow]:
    """Those of the jobs that exist; an unreadable one is an error only if it is asked for alone."""
    if not job_ids:
        return []
    values = {"ids": Ids(job_ids)}
    try:
        rows = connection.execute(sql["get"], values)
    except CorruptRecordError:
        if len(job_ids) == 1:
            raise
        rows = readable(connection, sql["get_ref"], connection.execute(sql["find_refs"], values))
    return list(map(to_job, rows))


def attempts(connection: Connection, sql: Sql, job_ids: Sequence[bytes]) -> list[Attempt]:
    """The recorded tries of these jobs, oldest first."""
    return list(map(Attempt._make, connection.execute(sql["attempts"], {"ids": Ids(job_ids)})))


def log_lines(connection: Connection, sql: Sql, job_ids: Sequence[bytes]) -> list[LogLine]:
    """The log lines of these jobs, each job's oldest first."""
    return list(map(LogLine._make, connection.execute(sql["log_lines"], {"ids": Ids(job_ids)})))


def ended(connection: Connection, sql: Sql, job_ids: Sequence[bytes]) -> list[Ended]:
    """Those of the jobs that have ended."""
    return list(map(Ended._make, connection.execute(sql["ended"], {"ids": Ids(job_ids)})))


def dependents(connection: Connection, sql: Sql, after: bytes | None, limit: int) -> list[Dependent]:
    """Jobs that wait for others, by ascending id."""
    values = {"after": Id(after or _BELOW_ALL), "limit": limit}
    try:
        return list(map(Dependent._make, connection.execute(sql["dependents"], values)))
    except CorruptRecordError:
        # One of them says in no text what it waits for: nobody can read that then, but the others shall be seen to.
        text = sql["dependents"].replace("waits_for", "textsend(waits_for)")
        found = connection.execute(text, values, prepare=False)
        return [Dependent(one, None if sent is None else sent.decode(errors="replace"), of) for one, sent, of in found]


def readable(connection: Connection, statement: str, refs: Sequence[Row]) -> list[Row]:
    """What a statement finds for these refs, one by one; what cannot be read is left out and logged."""
    found: list[Row] = []
    for (ref,) in refs:
        try:
            found += connection.execute(statement, {"ref": ref})
        except CorruptRecordError:
            _log.warning("a job cannot be read and was left out: number %s", ref)
    return found


def count_jobs(connection: Connection, sql: Sql, where: Filter, *, limit: int | None) -> dict[str, dict[str, int]]:
    """Jobs by queue and state; with a limit, no (queue, state) is counted much further."""
    try:
        condition, values = conditions(sql, beside_states(where))
    except _NobodyError:
        return {}
    parts = [
        _count_text(sql, state, part, condition, limit)
        for state, part in _parts(where)
        if not where.states or state in where.states
    ]
    # One statement, so that all parts are counted as of one moment.
    counts: dict[str, dict[str, int]] = {}
    for state, queue, number in connection.execute(" union all ".join(parts), {**values, "most": limit}, prepare=False):
        if number:
            by_state = counts.setdefault(queue, {})
            total = by_state.get(state, 0) + number
            by_state[state] = total if limit is None else min(limit, total)
    return counts


def _count_text(sql: Sql, state: str, part: str, condition: str, limit: int | None) -> str:
    both = f"{part} and {condition}"
    name = "count" if limit is None or part not in _BY_QUEUE else "count_each"
    return sql[name].replace("{state}", state).replace("{part}", part).replace("{where}", both)


def chart(
    connection: Connection, sql: Sql, *, first: int, step: int, buckets: int, states: Sequence[str]
) -> Sequence[Bucket]:
    """Jobs by present state in slices of time, each at its latest stamp."""
    slices: list[dict[str, int]] = [{} for _ in range(buckets)]
    wanted = states or tuple(JobState)
    parts = [] if ENDED.issuperset(wanted) else [sql["chart_alive"]]
    if ended := [f"'{state.value}'" for state in sorted(ENDED) if state in wanted]:
        parts.append(sql["chart_ended"].replace("{ended}", ", ".join(ended)))
    statement = sql["chart"].replace("{stamps}", " union all ".join(parts))
    values = {"first": first, "step": step, "end": first + step * buckets, "wanted": Texts(map(str, wanted))}
    for state, place, number in connection.execute(statement, values):
        slices[place][state] = number
    return [Bucket(at=first + place * step, counts=counts) for place, counts in enumerate(slices)]


def tally(connection: Connection, sql: Sql, now: int | None) -> Tally:
    """The whole store's figures."""
    [(waiting, claimed, running, completed, failed, canceled, delayed, oldest)] = connection.execute(
        sql["tally"], {"now": now}
    )
    counts = {
        JobState.WAITING.value: waiting,
        JobState.CLAIMED.value: claimed,
        JobState.RUNNING.value: running,
        JobState.COMPLETED.value: completed,
        JobState.FAILED.value: failed,
        JobState.CANCELED.value: canceled,
    }
    return Tally(counts=counts, delayed=delayed, oldest_waiting=None if oldest is None else max(0, oldest))


def lines(connection: Connection, sql: Sql, now: int | None, limit: int) -> Lines:
    """How jobs wait."""
    delayed, due = connection.run(
        [Step(sql["delayed_up_to"], {"now": now, "limit": limit}), Step(sql["first_due"], {"now": now})]
    )
    return Lines(delayed[0][0], {queue: max(0, age) for queue, age in due})
