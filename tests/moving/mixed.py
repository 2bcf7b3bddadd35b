"""Two stores, and many jobs of every kind to move between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import pytest

from helpers.days import TODAY
from helpers.places import Place
from jobcard.backends.base import Backend
from jobcard.conformance import factory
from jobcard.conformance.every_kind import every_kind
from jobcard.core.clock import FrozenClock
from jobcard.core.ids import IdSource
from jobcard.core.job import WholeJob
from jobcard.core.limits import BULK
from jobcard.moving import whole

KINDS = ["sqlite", "postgres", "mariadb", "mongodb", "redis"]
_TURN = 1 + TODAY % (len(KINDS) - 1)
TODAYS = [("sqlite", "sqlite"), *((kind, KINDS[place - _TURN]) for place, kind in enumerate(KINDS))]
"""Each store is a source once and a target once; every pair in as many days as there are others."""
PAIRS = [
    pytest.param(
        pair,
        id="-".join(pair),
        marks=[
            *([] if pair == ("sqlite", "sqlite") else [pytest.mark.slow]),
            *([] if pair in TODAYS else [pytest.mark.long]),
        ],
    )
    for pair in [("sqlite", "sqlite"), *permutations(KINDS, 2)]
]
APPS = Path(__file__).resolve().parents[1] / "checker" / "apps"

_ids = IdSource()


@dataclass(frozen=True)
class Two:
    """Where jobs come from, and where they go."""

    source: Place
    target: Place

    @property
    def words(self) -> list[str]:
        """How the command is told."""
        return ["copy", "--from", self.source.url, "--to", self.target.url]

    def mover(self, step: str, calls: int, *more: str) -> list[str]:
        """A copy that is killed, as a command line; see `checker/apps/mover.py`."""
        return [sys.executable, "-m", "mover", self.source.url, self.target.url, step, str(calls), *more]

    def killed_after(self, step: str, calls: int) -> int:
        """Let one be killed after so many calls to its stores in a step; its exit code."""
        return subprocess.run(self.mover(step, calls), env=environment(), check=False, timeout=120).returncode


def environment() -> dict[str, str]:
    """For such a process."""
    return {**os.environ, "PYTHONPATH": str(APPS)}


def fill(store: Backend, count: int) -> None:
    """One of every kind, made as any job is, and more of them, until there are so many."""
    every_kind(store, FrozenClock())
    kinds = [job for page in whole.newest_first(store) for job in page]
    left = count - len(kinds)
    while left > 0:
        page = [_another(kinds[number % len(kinds)]) for number in range(min(left, BULK))]
        assert not store.put(page)
        left -= len(page)


def everything(store: Backend) -> Iterator[WholeJob]:
    """Every job whole, by descending id."""
    for page in whole.newest_first(store):
        yield from sorted(page, reverse=True)


def ids_in(store: Backend) -> set[bytes]:
    """The jobs that are there."""
    return {job.row.id for job in everything(store)}


def with_coarse_times(job: WholeJob) -> WholeJob:
    """The job with its instants in milliseconds, as a store may keep them."""
    instants = [name for name in job.row._fields if name.endswith(("_at", "_until"))]
    row = job.row._replace(**{name: _coarse(getattr(job.row, name)) for name in instants})
    attempts = [attempt._replace(at=_millis(attempt.at)) for attempt in job.attempts]
    return WholeJob(row, attempts, [line._replace(at=_millis(line.at)) for line in job.lines])


def new_jobs(store: Backend, count: int, **given: object) -> list[bytes]:
    """Plain jobs; their ids."""
    found: list[bytes] = []
    while len(found) < count:
        found += factory.enqueue_several(store, min(BULK, count - len(found)), **given)
    return found


def _another(job: WholeJob) -> WholeJob:
    job_id = _ids.take(1)[0]
    key = job.row.unique_key
    row = job.row._replace(id=job_id, unique_key=None if key is None else f"{key} {job_id.hex()}")
    attempts = [attempt._replace(job_id=job_id) for attempt in job.attempts]
    return WholeJob(row, attempts, [line._replace(job_id=job_id) for line in job.lines])


def _coarse(instant: int | None) -> int | None:
    return None if instant is None else _millis(instant)


def _millis(instant: int) -> int:
    return (instant + 500) // 1000
