"""Between a row of PostgreSQL and the records of `core/job.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from jobcard.backends.postgres.values import Ids, Numbers, Texts
from jobcard.core.job import Claimed, JobRow, NewJob

JOB_COLUMNS = ", ".join(JobRow._fields)
JOB_VALUES = ", ".join(f"%({name})s" for name in JobRow._fields)

_STORED_AS = {"ref": "n", "token": "claim_token"}
CLAIMED_COLUMNS = ", ".join(_STORED_AS.get(name, name) for name in Claimed._fields)

_TEXTS = frozenset(
    {"queue", "name", "init", "args", "kwargs", "result", "hold", "state", "backoff", "claimed_by", "cancel_requested",
     "unique_key", "once_key", "limit_key", "schedule_id", "reason", "error_kind", "progress", "checkpoint", "tags",
     "meta", "waits_for"}
)  # fmt: skip
IDS = frozenset({"id", "batch_id", "parent_id"})
TEXT_COLUMNS = ", ".join(sorted(_TEXTS))
NUMBERS = frozenset((*JobRow._fields, *NewJob._fields)) - _TEXTS - IDS

_GIVEN = [name for name in NewJob._fields if name != "replaces"]
NEW_JOB_COLUMNS = ", ".join(_GIVEN)
NEW_JOB_VALUES = ", ".join(f"%({name})s" for name in _GIVEN)

to_job = JobRow._make
to_claimed = Claimed._make

place_in_line = attrgetter("rank", "order_at", "id")
"""The sort key of one queue's jobs."""


def column(name: str, values: Iterable[object]) -> Numbers | Texts | Ids:
    """The values of one column of the table of jobs, as they travel."""
    if name in NUMBERS:
        return Numbers(values)  # type: ignore[arg-type]
    return Ids(values) if name in IDS else Texts(values)  # type: ignore[arg-type]


def columns_of(jobs: Sequence[NewJob] | Sequence[JobRow]) -> dict[str, object]:
    """Jobs in columns, by the name of the field."""
    columns = zip(jobs[0]._fields, zip(*jobs, strict=True), strict=True)
    # What no job has is sent as an empty column: beside longer ones unnest() fills it up with nulls.
    return {
        name: column(name, () if values.count(None) == len(values) else values)
        for name, values in columns
        if name != "replaces"
    }
