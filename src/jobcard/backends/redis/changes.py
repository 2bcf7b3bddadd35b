"""A `Change` of core as the array that `lua/apply.lua` reads."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobcard.backends.redis import rows
from jobcard.backends.redis.scripts import MOST_JOBS, Run
from jobcard.core.job import Dependent, JobRow
from jobcard.core.states import ENDED, After, Change, Now, check_settable
from jobcard.errors import DuplicateJobError

_AS_IT_IS, _NOW, _AFTER = 0, 1, 2


def to_array(change: Change) -> list[object]:
    """The change; `InvalidJobError` when it sets what no change may."""
    sets: list[list[object]] = []
    check_settable(change.sets)
    for name, value in change.sets.items():
        place = rows.PLACE[name]
        if isinstance(value, Now):
            sets.append([place, _NOW, 0])
        elif isinstance(value, After):
            sets.append([place, _AFTER, value.delay])
        else:
            sets.append([place, _AS_IT_IS, False if value is None else value])
    return [
        {state.value: True for state in change.sources},
        change.target.value,
        change.takes,
        False if change.version is None else change.version,
        change.lapsed,
        sets,
        change.target in ENDED and "expires_at" not in change.sets,
        change.attempt,
        False if change.error is None else change.error,
        [list(line) for line in change.lines] or False,
    ]


def apply_by_operator(run: Run, job_id: bytes, change: Change) -> JobRow | None:
    """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
    found = run("apply_by_operator", job_id.hex(), to_array(change))
    if not found:
        return None
    if len(found) == 1:
        existing = UUID(found[0].decode())
        raise DuplicateJobError(UUID(bytes=job_id), existing, "a living job holds its unique key")
    return rows.to_job(job_id.hex(), *found)


def unpark(run: Run, names: Sequence[str]) -> int:
    """Put jobs parked under these names back in line; how many."""
    total = 0
    while names and (number := run("unpark", list(names))):
        total += number
    return total


def release_dependents(run: Run, those: Sequence[Dependent]) -> int:
    """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many. By parts."""
    seen = [[one.id.hex(), one.version] for one in those]
    return sum(run("release_dependents", seen[first : first + MOST_JOBS]) for first in range(0, len(seen), MOST_JOBS))
