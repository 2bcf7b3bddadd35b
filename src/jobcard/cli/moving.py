"""Moving jobs: those named one by one, or all that fit; asked first where it cannot be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from jobcard.cli import output
from jobcard.cli.asking import agreed
from jobcard.core.states import ALLOWED, JobState, in_order

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.core.view import Job

_COLUMNS = ("id", "state", "queue", "name", "attempt", "created_at", "reason")
_SPARE = ("created_at", "attempt", "reason", "queue")
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Verb:
    """What is done to jobs. states: those it may start from. default: of these, if no `--state` says otherwise."""

    name: str
    done: str
    states: tuple[str, ...]
    default: tuple[str, ...]
    asks_for_each: bool = False


RETRY = Verb("retry", "retried", in_order(ALLOWED["retry"]), (JobState.FAILED,))
CANCEL = Verb("cancel", "canceled", in_order(ALLOWED["cancel"]), in_order(ALLOWED["cancel"]))
DELETE = Verb("delete", "deleted", in_order(ALLOWED["delete"]), in_order(ALLOWED["delete"]), asks_for_each=True)


def move_each(store: Jobcard, verb: Verb, ids: Sequence[str], *, yes: bool, as_json: bool) -> int:
    """Move each job named; those that cannot be moved do not keep the others back, and the first one is the error."""
    from jobcard.cli.record import job_to_plain
    from jobcard.errors import DuplicateJobError, JobcardError, JobNotFoundError, TransitionError

    ids = list(dict.fromkeys(ids))
    if verb.asks_for_each and not agreed(f"{verb.name.capitalize()} {output.jobs(len(ids))}?", yes=yes):
        return 1
    moved: list[Job] = []
    refused: list[JobcardError] = []
    for job_id in ids:
        try:
            moved.append(_move(store, verb, job_id))
        except (JobNotFoundError, TransitionError, DuplicateJobError) as error:
            refused.append(error)
    if verb is DELETE:
        _tell(verb, len(moved), as_json)
    elif as_json and (moved or len(ids) > 1):
        plain = [job_to_plain(job) for job in moved]
        output.emit_json(plain if len(ids) > 1 else plain[0])
    elif moved:
        job_table(moved)
    for other in refused[1:]:
        output.complain(str(other))
    if refused:
        raise refused[0]
    return 0


def _move(store: Jobcard, verb: Verb, job_id: str) -> Job:
    if verb is RETRY:
        return store.retry(job_id)
    if verb is CANCEL:
        return store.cancel(job_id)
    from jobcard.errors import TransitionError

    job = store.get(job_id)
    if not _delete(store, [job.id.bytes]):
        raise TransitionError(verb.name, store.get(job_id).state, verb.states, job.id)
    return job


def move_chosen(store: Jobcard, verb: Verb, where: dict[str, Any], *, yes: bool, as_json: bool) -> int:
    """Move all jobs that fit, after a question; says how many there were."""
    from jobcard.client.filters import check_states

    wanted = check_states(where.get("state")) or verb.default
    if not set(wanted) <= set(verb.states):
        raise click.UsageError(f"--state: only {', '.join(verb.states)} jobs can be {verb.done}")
    where = {**where, "state": wanted}
    count = store.count(**where).total
    if count and not agreed(f"{verb.name.capitalize()} {output.jobs(count)}?", yes=yes):
        return 1
    if not count:
        moved = 0
    elif verb is RETRY:
        moved = store.retry_many(**where)
    elif verb is CANCEL:
        moved = store.discard_many(**where)
    else:
        moved = _delete_chosen(store, where)
    _tell(verb, moved, as_json)
    return 0


def _delete_chosen(store: Jobcard, where: dict[str, Any]) -> int:
    from jobcard.cli.progress import progress

    deleted = 0
    with progress(store.count(**where).total, "deleted") as tell:
        cursor: str | None = None
        while True:
            page = store.list(limit=_PAGE, cursor=cursor, **where)
            deleted += _delete(store, [job.id.bytes for job in page])
            tell(deleted)
            cursor = page.next_cursor
            if cursor is None:
                return deleted


def _delete(store: Jobcard, ids: Sequence[bytes]) -> int:
    if not ids:
        return 0
    with store.parts.connection as backend:
        return backend.delete(ids)


def _tell(verb: Verb, count: int, as_json: bool) -> None:
    if as_json:
        output.emit_json({verb.done: count})
    else:
        output.emit(f"{output.jobs(count)} {verb.done}")


def job_table(found: Sequence[Job]) -> None:
    """A line a job."""
    from jobcard.cli.record import short_moment

    rows = []
    for job in found:
        row = {name: getattr(job, name) for name in _COLUMNS}
        row["created_at"] = short_moment(job.created_at)
        row["attempt"] = f"{job.attempt}/{job.max_attempts}"
        if job.cancel_requested:
            row["reason"] = "cancel requested"
        elif job.hold is not None:
            row["reason"] = job.hold
        rows.append(row)
    output.table(_COLUMNS, rows, spare=_SPARE)
