"""The rules of the contract as functions of one row: what a change leaves, what a filter finds, what may be deleted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from jobcard.backends.base import Filter
from jobcard.core.job import LAST_LINES, LINES_TEXT, Claimed, JobRow, LogLine, NewJob
from jobcard.core.rates import Use, limits_of
from jobcard.core.states import ALIVE, AT_WORK, ENDED, After, Change, Hold, JobState, Now


def is_at_work(row: JobRow) -> bool:
    """Somebody holds the job."""
    return row.state in AT_WORK


def is_alive(row: JobRow) -> bool:
    """The job has not ended."""
    return row.state in ALIVE


def is_ended(row: JobRow) -> bool:
    """The job has ended."""
    return row.state in ENDED


def has_lapsed(row: JobRow, now: int) -> bool:
    """The job is at work and its lease has run out; at the last instant it has."""
    return is_at_work(row) and row.lease_until is not None and row.lease_until <= now


def claim_order(row: JobRow) -> tuple[int, int, bytes]:
    """The place in its queue's line."""
    return (row.rank, row.order_at, row.id)


_GIVEN = [name for name in NewJob._fields if name in JobRow._fields]


def row_of(job: NewJob, now: int) -> JobRow:
    """A new job as it is stored at `now`."""
    available_at = job.at if job.at is not None else now + job.delay
    given = {name: getattr(job, name) for name in _GIVEN}
    return JobRow(
        **given,
        result=None,
        order_at=available_at + job.order_offset,
        hold="after" if job.waits_for is not None else "delay" if available_at > now else None,
        state="waiting",
        attempt=0,
        crashes=0,
        interrupts=0,
        available_at=available_at,
        created_at=now,
        claimed_at=None,
        started_at=None,
        finished_at=None,
        expires_at=None,
        claimed_by=None,
        claim_token=0,
        lease_until=None,
        cancel_requested=None,
        reason=None,
        error_kind=None,
        progress=None,
        checkpoint=None,
        version=1,
    )


def may_be_replaced(row: JobRow, job: NewJob) -> bool:
    """The job that has the key of another, which would replace it, still waits."""
    return job.replaces and row.state == "waiting" and row.hold != "broken"


def replaced(row: JobRow, job: NewJob, now: int) -> JobRow:
    """A waiting job after another one that has its key took its place."""
    kept = ("id", "created_at", "claim_token", "unique_key", "once_key", "version")
    return row_of(job, now)._replace(**{name: getattr(row, name) for name in kept})


def may_be_set_aside(row: JobRow, use: Use, now: int) -> bool:
    """Whether the limits of its key explain the hold that the job is under, as far as they are used now."""
    limited = limits_of(row)
    if row.hold == "limit":
        return limited.key_limit is not None and use.at_work >= limited.key_limit
    rate = limited.rate
    if row.hold != "delay" or rate is None or use.starts.room(rate, now):
        return False
    # Those who come too soon are set aside again; those who come too late would wait for nothing.
    return now < row.available_at <= use.starts.free_at(rate, now) + 100 * rate.per


def same_content(row: JobRow, job: NewJob) -> bool:
    """The stored job is this one: same name and arguments, those of its constructor too."""
    return (row.name, row.init, row.args, row.kwargs) == (job.name, job.init, job.args, job.kwargs)


def changed(row: JobRow, change: Change, now: int) -> JobRow:
    """The row after a change that may be applied to it."""
    sets: dict[str, Any] = {name: _filled_in(value, now) for name, value in change.sets.items()}
    sets["state"] = str(change.target)
    if change.takes:
        sets["claim_token"] = row.claim_token + 1
    row = row._replace(**sets)
    if is_ended(row) and row.keep is not None:
        row = row._replace(expires_at=now + row.keep)
    return row


def _filled_in(value: object, now: int) -> object:
    match value:
        case Now():
            return now
        case After(delay=delay):
            return now + delay
        case JobState() | Hold():
            return str(value)
    return value


def allows(row: JobRow, change: Change, now: int) -> bool:
    """The job is in a state, of a version and with a lease that the change may start from."""
    return (
        row.state in change.sources
        and (change.version is None or row.version == change.version)
        and (not change.lapsed or has_lapsed(row, now))
    )


def is_touched(row: JobRow, since: int) -> bool:
    """Something happened to the job at this instant or later; of one that ended only the end counts."""
    stamps = (row.finished_at,) if is_ended(row) else (row.created_at, row.claimed_at, row.started_at)
    return any(stamp is not None and stamp >= since for stamp in stamps)


def kept_lines(lines: Sequence[LogLine]) -> list[LogLine]:
    """Of a job's log lines those that are kept: the last, as many as both bounds allow."""
    first, size = len(lines), 0
    for line in reversed(lines[-LAST_LINES:]):
        size += len(line.text)
        if size > LINES_TEXT:
            break
        first -= 1
    return list(lines[first:])


def taken(row: JobRow, owner: str, lease: int, now: int) -> JobRow:
    """A job in line, claimed for `lease` microseconds."""
    return row._replace(
        state="claimed",
        attempt=row.attempt + 1,
        claim_token=row.claim_token + 1,
        claimed_at=now,
        claimed_by=owner,
        lease_until=now + lease,
    )


_CLAIMED = [name for name in Claimed._fields if name in JobRow._fields]
_values_of_claim = attrgetter(*_CLAIMED)


def claimed_of(row: JobRow) -> Claimed:
    """What an engine gets of a job at work."""
    given = dict(zip(_CLAIMED, _values_of_claim(row), strict=True))
    return Claimed(**given, ref=row.id, token=row.claim_token)


def matches(row: JobRow, where: Filter) -> bool:
    """Everything given in the filter holds for the row."""
    return (
        (not where.states or row.state in where.states)
        and (not where.queues or row.queue in where.queues)
        and (not where.names or row.name in where.names)
        and set(where.tags) <= set(_tags_of(row))
        and (where.args is None or row.args == where.args)
        and (where.error_kind is None or row.error_kind == where.error_kind)
        and (where.batch_id is None or row.batch_id == where.batch_id)
        and (where.limit_key is None or row.limit_key == where.limit_key)
        and (where.after is None or row.created_at >= where.after)
        and (where.before is None or row.created_at < where.before)
        and (where.touched_since is None or is_touched(row, where.touched_since))
        and (where.search is None or where.search in row.name or where.search in str(UUID(bytes=row.id)))
    )


def _tags_of(row: JobRow) -> Sequence[str]:
    return json.loads(row.tags) if row.tags else []


def may_be_pruned(
    row: JobRow, *, states: Sequence[str], finished_before: int | None, age: int | None, now: int
) -> bool:
    """`prune` may delete this job."""
    if not is_ended(row) or row.state not in states or row.finished_at is None:
        return False
    if finished_before is not None and row.finished_at < finished_before:
        return True
    if age is None:
        return False
    if row.expires_at is not None:
        return row.expires_at <= now
    return row.finished_at < now - age


def latest_stamp(row: JobRow) -> int:
    """When the job came into its present state, as charts show it."""
    return next(
        stamp for stamp in (row.finished_at, row.started_at, row.claimed_at, row.created_at) if stamp is not None
    )


def can_be_stored(values: Iterable[object]) -> bool:
    """Text that no store can take: half of a surrogate pair has no bytes in UTF-8."""
    try:
        for value in values:
            if isinstance(value, str):
                value.encode()
    except UnicodeEncodeError:
        return False
    return True
