"""Between a row of the database and the records of `core/job.py`."""

from __future__ import annotations

from operator import attrgetter
from typing import get_args, get_type_hints

from jobcard.core.job import Claimed, JobRow, NewJob
from jobcard.core.states import Hold


def _quoted(name: str) -> str:
    return f'"{name}"'


JOB_COLUMNS = ", ".join(f"job.{_quoted(name)}" for name in JobRow._fields)
STORED_COLUMNS = ", ".join(map(_quoted, JobRow._fields))
TEXTS = ", ".join(name for name, kind in get_type_hints(JobRow).items() if str in (kind, *get_args(kind)))

_STORED_AS = {"ref": "n", "token": "claim_token"}
HELD_COLUMNS = ", ".join(_quoted(_STORED_AS.get(name, name)) for name in Claimed._fields)

# An UPDATE need not give rows back, so a claim reads them before, as they will be after it.
_CLAIMED_AS = {
    "ref": "n",
    "token": "claim_token + 1",
    "state": "'claimed'",
    "attempt": "attempt + 1",
    "claimed_at": "{now}",
    "claimed_by": "%(owner)s",
}
CLAIMED_COLUMNS = ", ".join(_CLAIMED_AS.get(name, _quoted(name)) for name in Claimed._fields)

to_job = JobRow._make
to_claimed = Claimed._make

place_in_line = attrgetter("rank", "order_at", "id")
"""The sort key of one queue's jobs."""

_NOT_STORED = ("delay", "at", "once_until", "replaces")
_GIVEN = tuple(name for name in NewJob._fields if name not in _NOT_STORED)
_NEW = (*_GIVEN, "available_at", "order_at", "hold", "created_at")
NEW_COLUMNS = ", ".join(map(_quoted, _NEW))
_given = attrgetter(*_GIVEN)

# A job that is replaced stays what it is to others: its id, when it came, the keys it holds.
_KEPT = ("id", "created_at", "unique_key", "once_key")
# What it has tried and said of itself is not held against what it is to do now.
_TRIED = ("attempt", "crashes", "interrupts")
_SAID = ("cancel_requested", "error_kind", "progress", "checkpoint")
REPLACING = ", ".join(
    [
        *(f"{_quoted(name)} = %({name})s" for name in _NEW if name not in _KEPT),
        *(f"{name} = 0" for name in _TRIED),
        *(f"{name} = null" for name in _SAID),
    ]
)


def new_row(job: NewJob, now: int) -> tuple[object, ...]:
    """A new job as it is stored at `now`, in the order of `NEW_COLUMNS`."""
    due = now + job.delay if job.at is None else job.at
    hold = Hold.AFTER if job.waits_for is not None else Hold.DELAY if due > now else None
    return (*_given(job), due, due + job.order_offset, hold, now)


def replacing(job: NewJob, now: int) -> dict[str, object]:
    """The values of `REPLACING`: what a new job says of itself, for the job whose content it takes over."""
    return {name: value for name, value in zip(_NEW, new_row(job, now), strict=True) if name not in _KEPT}
