"""What the newest jobs that ended tell: how long jobs wait and run, and what they fail of.

A sample of bounded size, so that a look at it costs the same however many jobs are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING
from uuid import UUID

from jobcard.backends.base import Filter
from jobcard.core import clock
from jobcard.core.states import JobState

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.core.job import JobRow

SAMPLE = 200
_MOST_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long the jobs of a queue waited from being due until their start, and ran; of `jobs` that completed."""

    jobs: int
    wait_p50: timedelta
    wait_p95: timedelta
    run_p50: timedelta
    run_p95: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Jobs that failed alike. last_at, last_id: when the last one did, and which it is."""

    error_kind: str
    jobs: int
    last_at: datetime
    last_id: UUID
    names: tuple[str, ...]


def times_by_queue(parts: Parts, within: timedelta) -> dict[str, Times]:
    """Of the newest jobs that completed in this time, by queue."""
    by_queue: dict[str, list[tuple[int, int]]] = {}
    for row in _ended(parts, JobState.COMPLETED, within):
        if row.started_at is not None and row.finished_at is not None:
            waited, ran = row.started_at - row.available_at, row.finished_at - row.started_at
            by_queue.setdefault(row.queue, []).append((max(0, waited), max(0, ran)))
    return {queue: _times(pairs) for queue, pairs in by_queue.items()}


def failures_by_kind(parts: Parts, within: timedelta, told: Callable[[JobRow], str | None]) -> list[Failures]:
    """Of the newest jobs that failed in this time, alike ones together; the latest first.

    told: the reason of a job that left no error, as it may be shown.
    """
    by_kind: dict[str, list[JobRow]] = {}
    for row in _ended(parts, JobState.FAILED, within):
        by_kind.setdefault(row.error_kind or told(row) or "unknown", []).append(row)
    found = []
    for kind, rows in by_kind.items():
        last = max(rows, key=lambda row: row.finished_at or 0)
        found.append(
            Failures(
                error_kind=kind,
                jobs=len(rows),
                last_at=clock.to_datetime(last.finished_at or 0),
                last_id=UUID(bytes=last.id),
                names=tuple(sorted({row.name for row in rows})),
            )
        )
    return sorted(found, key=lambda failures: failures.last_at, reverse=True)


def _ended(parts: Parts, state: JobState, within: timedelta) -> Sequence[JobRow]:
    found: list[JobRow] = []
    below: bytes | None = None
    with parts.connection as store:
        since = store.facts().now - clock.to_duration(within)
        # Where many jobs ended, a store looks at some of them at a time.
        for _ in range(_MOST_LOOKS):
            page = store.list(Filter(states=(state,), touched_since=since), limit=SAMPLE, before_id=below)
            found += [row for row in page.rows if row.finished_at is not None and row.finished_at >= since]
            below = page.below
            if below is None or len(found) >= SAMPLE:
                break
    return found[:SAMPLE]


def _times(pairs: Sequence[tuple[int, int]]) -> Times:
    waits, runs = sorted(wait for wait, _ in pairs), sorted(run for _, run in pairs)
    return Times(
        jobs=len(pairs),
        wait_p50=_quantile(waits, 0.5),
        wait_p95=_quantile(waits, 0.95),
        run_p50=_quantile(runs, 0.5),
        run_p95=_quantile(runs, 0.95),
    )


def _quantile(ordered: Sequence[int], share: float) -> timedelta:
    return clock.to_timedelta(ordered[ceil(share * len(ordered)) - 1])
