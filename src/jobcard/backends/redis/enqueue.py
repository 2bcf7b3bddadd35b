"""New jobs on their way into the line: one script for all of a call."""

from __future__ import annotations

from collections.abc import Sequence

from jobcard.backends.base import Enqueued, Fate
from jobcard.backends.redis import rows
from jobcard.backends.redis.scripts import Run
from jobcard.core.job import NewJob


def store(run: Run, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Store jobs, all or nothing; one answer each, in order."""
    parts = [rows.new_job(job) for job in jobs]
    fates = run("enqueue", [moving for moving, _ in parts], cards=[card for _, card in parts])
    return [Enqueued(Fate(fate.decode()), bytes.fromhex(existing.decode())) for fate, existing in fates]
