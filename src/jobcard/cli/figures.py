"""Figures from the stamps of jobs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from jobcard.core.view import Job


def pickup_ms(jobs: Iterable[Job]) -> list[float]:
    """Milliseconds from enqueue to start of each job that started, sorted."""
    return sorted(
        (job.started_at - job.created_at).total_seconds() * 1000 for job in jobs if job.started_at is not None
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of these sorted values that at least `share` (0..1) of them do not exceed; None of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
