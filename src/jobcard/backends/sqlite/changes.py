"""A `Change` of core as one guarded UPDATE, and what is kept of it beside the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from uuid import UUID

from jobcard.backends.sqlite import admission
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.errors import UniqueKeyError
from jobcard.backends.sqlite.rows import to_job
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT, Dependent, JobRow, Ref
from jobcard.core.states import ENDED, After, Change, JobState, Now, check_settable
from jobcard.errors import DuplicateJobError


def bind(template: str, change: Change, now: int) -> tuple[str, list[object]]:
    """The statement for a change and its values, up to those that say which job."""
    sets = change.sets
    ends = change.target in ENDED and "expires_at" not in sets
    sql = _text(template, tuple(sets), change.sources, change.takes, change.lapsed, change.version is not None, ends)
    values: list[object] = [change.target.value]
    for value in sets.values():
        if isinstance(value, Now):
            value = now
        elif isinstance(value, After):
            value = now + value.delay
        values.append(value)
    if ends:
        values.append(now)
    if change.lapsed:
        values.append(now)
    if change.version is not None:
        values.append(change.version)
    return sql, values


@lru_cache(maxsize=256)
def _text(
    template: str,
    names: tuple[str, ...],
    sources: frozenset[JobState],
    takes: bool,
    lapsed: bool,
    versioned: bool,
    ends: bool,
) -> str:
    check_settable(names)
    assignments = ["state = ?", *(f"{name} = ?" for name in names)]
    if ends:
        assignments.append("expires_at = ? + keep")
    if takes:
        assignments.append("claim_token = claim_token + 1")
    assignments.append("version = version + 1")
    guard = f"state in ({', '.join(repr(state.value) for state in sorted(sources))})"
    if lapsed:
        guard += " and lease_until <= ?"
    if versioned:
        guard += " and version = ?"
    return template.replace("{assignments}", ", ".join(assignments)).replace("{guard}", guard)


def apply_by_operator(
    connection: Connection, sql: Mapping[str, str], job_id: bytes, change: Change, now: int
) -> JobRow | None:
    """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
    statement, values = bind(sql["apply_by_operator"], change, now)
    try:
        rows = connection.execute(statement, (*values, job_id))
    except UniqueKeyError as error:
        raise _duplicate(connection, sql, job_id) from error
    if not rows:
        return None
    ref, *columns = rows[0]
    row = to_job(columns)
    keep_records(connection, sql, ref, change, now)
    if row.limit_key is not None and JobState.WAITING in change.sources:
        # It may have stood in line, and stands there no more: the next one comes in.
        admission.let_in(connection, sql, {row.limit_key})
    return row


def _duplicate(connection: Connection, sql: Mapping[str, str], job_id: bytes) -> DuplicateJobError:
    [row] = connection.execute(sql["get"], (job_id,))
    [(existing,)] = connection.execute(sql["find_unique_key"], (to_job(row).unique_key,))
    return DuplicateJobError(UUID(bytes=job_id), UUID(bytes=existing), "a living job holds its unique key")


def unpark(connection: Connection, sql: Mapping[str, str], names: Sequence[str], now: int) -> int:
    """Put jobs parked under these names back in line; how many."""
    return connection.change_many(sql["unpark"], [(name, now) for name in names])


def release_dependents(connection: Connection, sql: Mapping[str, str], those: Sequence[Dependent], now: int) -> int:
    """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
    return connection.change_many(sql["release_dependents"], [(one.id, one.version, now) for one in those])


def keep_records(connection: Connection, sql: Mapping[str, str], ref: Ref, change: Change, now: int) -> None:
    """Keep what a change brings beside the job, in its transaction: the error of a try, log lines; only the newest."""
    if change.error is not None:
        connection.execute(sql["add_attempt"], (ref, change.attempt, now, change.error))
        connection.execute(sql["trim_attempts"], (ref, LAST_ATTEMPTS))
    if change.lines:
        _keep_lines(connection, sql, ref, [(now - ago, text) for ago, text in change.lines])


def _keep_lines(connection: Connection, sql: Mapping[str, str], ref: Ref, lines: Sequence[tuple[int, str]]) -> None:
    # Each line says how much text stands before it, so that nobody has to read a thousand lines to drop the first.
    place = size = 0
    for last, before, text in connection.execute(sql["last_line"], (ref,)):
        place, size = last, before + len(text)
    rows = []
    for at, text in lines:
        place += 1
        rows.append((ref, place, size, at, text))
        size += len(text)
    connection.change_many(sql["add_line"], rows)
    connection.execute(sql["trim_lines"], (ref, place - LAST_LINES, size - LINES_TEXT))
