"""Between a row of SQLite and the records of `core/job.py`."""

from __future__ import annotations

from operator import attrgetter

from jobcard.core.job import Claimed, JobRow

JOB_COLUMNS = ", ".join(JobRow._fields)
JOB_VALUES = ", ".join("?" * len(JobRow._fields))
JOB_OVERWRITTEN = ", ".join(f"{name} = excluded.{name}" for name in JobRow._fields if name != "id")

_STORED_AS = {"ref": "n", "token": "claim_token"}
CLAIMED_COLUMNS = ", ".join(_STORED_AS.get(name, name) for name in Claimed._fields)

to_job = JobRow._make
to_claimed = Claimed._make

place_in_line = attrgetter("rank", "order_at", "id")
"""The sort key of one queue's jobs."""
