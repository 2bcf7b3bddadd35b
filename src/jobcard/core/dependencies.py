"""What a job waits for before it may run: that other jobs have completed, or have just ended; or all jobs of a batch.

Stored with the job as text: [["job" | "batch", id, "completed" | "ended"], …]. The store holds the job back (`after`)
until it is told; whether what it waits for has come is judged here, and engines ask (`engine/dependents.py`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from jobcard.core.states import ALIVE, ENDED, JobState

MOST = 1_000
"""So many others a job may wait for; a batch counts as one."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`after=[Ended(h)]` waits for any end of a job or batch, also by failure; without it for its success."""

    of: object


class Dependency(NamedTuple):
    """One thing a job waits for. kind: job or batch. until: completed, or ended in whatever way."""

    kind: str
    id: UUID
    until: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


JOB, BATCH = "job", "batch"
COMPLETED, ANY_END = "completed", "ended"
_UNREADABLE = "what it waits for cannot be read"


def to_text(dependencies: Iterable[Dependency]) -> str:
    """As it is stored."""
    return json.dumps([[kind, str(of), until] for kind, of, until in dependencies], separators=(",", ":"))


def from_text(text: str | None) -> tuple[Dependency, ...]:
    """What a stored text says; `ValueError` when that cannot be read."""
    if text is None:
        return ()
    try:
        listed = json.loads(text)
        found = tuple(Dependency(kind, UUID(of), until) for kind, of, until in listed)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(_UNREADABLE) from error
    if not (isinstance(listed, list) and all(map(is_sound, found))):
        raise ValueError(_UNREADABLE)
    return found


def is_sound(one: Dependency) -> bool:
    """Whether there is such a thing to wait for."""
    return one.kind in (JOB, BATCH) and isinstance(one.id, UUID) and one.until in (COMPLETED, ANY_END)


def circle(text: str | None, job_id: bytes | None, batch_id: bytes | None) -> str | None:
    """Why a job with this id, of this batch, would wait for ever by what it says; None: it would not."""
    for one in from_text(text):
        if one.id.bytes == (job_id if one.kind == JOB else batch_id):
            return f"a job that waits for {'itself' if one.kind == JOB else 'its own batch'} would do so for ever"
    return None


# ------------------------------------------------------------------ whether it has come


class Outlook(StrEnum):
    """What a job may expect of what it waits for."""

    READY = "ready"
    WAITS = "waits"
    NEVER = "never"


class Known(NamedTuple):
    """What is known of others. ends: how a job ended. batches: its jobs by state. gone: jobs that were deleted."""

    ends: Mapping[UUID, str]
    batches: Mapping[UUID, Mapping[str, int]]
    gone: Collection[UUID] = ()


def outlook(dependencies: Sequence[Dependency], known: Known) -> tuple[Outlook, str]:
    """What a job that waits for these may expect, and why it will never run.

    One that will never come decides at once; else all must have come.
    """
    found = [_of_job(one, known) if one.kind == JOB else _of_batch(one, known) for one in dependencies]
    for what, why in found:
        if what is Outlook.NEVER:
            return what, why
    if any(what is Outlook.WAITS for what, _ in found):
        return Outlook.WAITS, ""
    return Outlook.READY, ""


def _of_job(one: Dependency, known: Known) -> tuple[Outlook, str]:
    state = known.ends.get(one.id)
    if state is None:
        if one.id not in known.gone:
            return Outlook.WAITS, ""
        # How it ended nobody can tell any more.
        return _over(one, "is not there any more")
    if state == JobState.COMPLETED:
        return Outlook.READY, ""
    return _over(one, "failed" if state == JobState.FAILED else "was canceled")


def _of_batch(one: Dependency, known: Known) -> tuple[Outlook, str]:
    counts = known.batches.get(one.id, {})
    if any(counts.get(state) for state in ALIVE):
        return Outlook.WAITS, ""
    if any(counts.get(state) for state in ENDED - {JobState.COMPLETED}):
        return _over(one, "has jobs that failed or were canceled")
    return Outlook.READY, ""


def _over(one: Dependency, why: str) -> tuple[Outlook, str]:
    if one.until == ANY_END:
        return Outlook.READY, ""
    return Outlook.NEVER, f"it waited for the success of {one}, which {why}"
