"""A backup of a store at work: four producers that never rest, an engine, and a file that is whole all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from checker.lab import Lab
from helpers.places import BY_DAY
from helpers.stock import everything
from helpers.waiting import wait_until
from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.core import ids, soundness
from jobcard.core.job import WholeJob
from jobcard.core.states import ALIVE, JobState
from jobcard.moving.backup import back_up, restore
from jobcard.moving.whole import newest_first

pytestmark = pytest.mark.turns

PRODUCERS = 4
BEFORE = 150  # jobs that each producer has stored when the backup begins


@pytest.fixture
def store(lab: Lab) -> Iterator[Backend]:
    store = open_backend(lab.url)
    store.migrate()
    yield store
    store.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("place", BY_DAY, indirect=True)
def test_a_backup_under_load(lab: Lab, store: Backend, tmp_path: Path) -> None:
    """Every job stored before it began is in it, once and whole, with all that it led to; and so it is restored."""
    app = lab.start("busy")
    said = [tmp_path / f"said-{number}" for number in range(PRODUCERS)]
    producers = [lab.python("-m", "busy", str(file)) for file in said]
    wait_until(lambda: all(len(acknowledged(file)) >= BEFORE for file in said), "producers at work", timeout=120)

    before = {job_id for file in said for job_id in acknowledged(file)}
    made = back_up(store, tmp_path / "shop.jobcard")
    assert all(process.poll() is None for process in producers), "they stopped before the backup had ended"
    for process in producers:
        process.kill()
    app.kill_all()

    target = SQLiteBackend(tmp_path / "target.db")
    target.migrate()
    done = restore(target, made.path)
    jobs = {job.row.id: job for page in newest_first(target) for job in page}
    assert (made.unreadable, done.refused) == ((), {})
    assert made.jobs == done.jobs == len(jobs)
    assert before <= jobs.keys()
    for job in jobs.values():
        assert [*soundness.faults(job.row)] == []
        check_whole(job)
        check_family(job, jobs)
    living = [job.row.unique_key for job in jobs.values() if job.row.unique_key and job.row.state in ALIVE]
    assert len(living) == len(set(living))

    again = SQLiteBackend(tmp_path / "again.db")
    again.migrate()
    restore(again, back_up(target, tmp_path / "again.jobcard").path)
    assert everything(again) == everything(target)
    for other in (target, again):
        other.close()
    lab.wait_gone()


def acknowledged(file: Path) -> set[bytes]:
    """The jobs that a producer knows to be stored."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return {bytes.fromhex(line.decode()) for line in lines}


def check_whole(job: WholeJob) -> None:
    """The row, its tries and its lines are of one moment."""
    row = job.row
    if row.name == "second_try":
        assert len(job.attempts) == row.attempt - (row.state != JobState.WAITING)
        if row.state == JobState.COMPLETED:
            assert [attempt.attempt for attempt in job.attempts] == [1]
            assert [line.text for line in job.lines] == ["try 1", "try 2"]
            assert (row.attempt, row.result) == (2, "2")
    elif row.state == JobState.COMPLETED:
        assert (row.attempt, len(job.attempts), len(job.lines)) == (1, 0, 0)


def check_family(job: WholeJob, jobs: dict[bytes, WholeJob]) -> None:
    """What a job that has completed had stored is there."""
    if job.row.state != JobState.COMPLETED:
        return
    if job.row.name == "parent":
        for place in range(3):
            assert jobs[ids.follow_up_id(job.row.id, place)].row.parent_id == job.row.id
    elif job.row.name == "spawner":
        assert UUID(json.loads(job.row.result or "")).bytes in jobs
