"""What a job that waits for others waits for still, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from jobcard.backends.base import Backend, Filter
from jobcard.backends.pages import readable
from jobcard.core.dependencies import BATCH, JOB, Known, Outlook, from_text, outlook
from jobcard.core.dependencies import Dependency as One
from jobcard.core.job import JobRow
from jobcard.core.states import ALIVE, JobState
from jobcard.errors import CorruptRecordError

NAMED = 3
"""So many of those that it waits for are named."""
_ASKED_AT_ONCE = 1_000


class Waits(NamedTuple):
    """Why, and for which jobs."""

    text: str
    jobs: tuple[UUID, ...] = ()


def why_it_waits(store: Backend, row: JobRow) -> Waits:
    """What has not come of what a job waits for, the first of it by name."""
    try:
        awaited = from_text(row.waits_for)
    except ValueError:
        return Waits("it waits for others, and for which ones cannot be read")
    known = _ask(store, awaited)
    left = [one for one in awaited if outlook([one], known)[0] is not Outlook.READY]
    if not left:
        return Waits("what it waited for has come, and an engine is about to put it in line")
    first = left[:NAMED]
    named = ", ".join(f"{one}{_how_far(store, one, known)}" for one in first)
    more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
    return Waits(f"it waits for {named}{more}", tuple(one.id for one in first if one.kind == JOB))


def _ask(store: Backend, awaited: Sequence[One]) -> Known:
    jobs = [one.id.bytes for one in awaited if one.kind == JOB]
    parts = [jobs[first : first + _ASKED_AT_ONCE] for first in range(0, len(jobs), _ASKED_AT_ONCE)]
    ends = {UUID(bytes=end.id): end.state for part in parts for end in readable(store.ended, part)}
    return Known(ends, {one.id: _counts(store, one.id) for one in awaited if one.kind == BATCH})


def _counts(store: Backend, batch: UUID) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for by_state in store.count(Filter(batch_id=batch.bytes)).values():
        counts = {state: counts.get(state, 0) + by_state.get(state, 0) for state in {*counts, *by_state}}
    return counts


def _how_far(store: Backend, one: One, known: Known) -> str:
    if one.kind == JOB:
        return f" ({known.ends.get(one.id) or _state(store, one.id)})"
    counts = known.batches[one.id]
    total, completed = sum(counts.values()), counts.get(JobState.COMPLETED, 0)
    if alive := sum(counts.get(state, 0) for state in ALIVE):
        return f" ({alive} of {total} jobs {'has' if alive == 1 else 'have'} not ended)"
    return f" ({total - completed} of {total} jobs {'has' if total - completed == 1 else 'have'} not completed)"


def _state(store: Backend, job_id: UUID) -> str:
    try:
        rows = store.get([job_id.bytes])
    except CorruptRecordError:
        return "cannot be read"
    return rows[0].state if rows else "not there"
