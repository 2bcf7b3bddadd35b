"""Deleting jobs: those kept long enough, those named, all; never in a sealed store, but for all."""

from __future__ import annotations

from collections.abc import Sequence

from jobcard.backends.redis.scripts import MOST_JOBS, Run


def prune(run: Run, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
    """Delete at most `limit` ended jobs in these states, in pieces; then once keys and starts whose time is over."""
    total = 0
    before, older = (False if value is None else value for value in (finished_before, age))
    while total < limit:
        most = min(MOST_JOBS, limit - total)
        number: int = run("prune", [str(state) for state in states], before, older, most)
        total += number
        if number < most:
            break
    return total


def delete(run: Run, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs if they have ended; how many."""
    return int(run("delete_jobs", [job_id.hex() for job_id in job_ids])) if job_ids else 0


def erase(run: Run, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs in whatever state they are; how many were there."""
    refs = [job_id.hex() for job_id in dict.fromkeys(job_ids)]
    return sum(run("erase", refs[first : first + MOST_JOBS]) for first in range(0, len(refs), MOST_JOBS))


def truncate(run: Run) -> None:
    """Delete every job and record; the schema and the store's identity stay."""
    run("truncate")
