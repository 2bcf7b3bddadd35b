"""Many at once: coroutines by the thousand, one that blocks, a long job among short ones, queues beside each other."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import Any
from uuid import UUID

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns


@pytest.mark.slow
def test_a_blocked_loop_harms_no_job_of_another_worker(lab: Lab) -> None:
    """While one coroutine blocks its loop, hundreds of others come to their end in another worker."""
    app = lab.app("told")
    tree = lab.start("told", env={"TOLD_SLOTS": "200"})
    gate = lab.folder / "gate"
    [blocker] = lab.enqueue(app, [app.blocks.call(str(gate))])
    lab.wait_for(app, lambda n: n["running"] == 1, "a blocked loop")
    others = lab.enqueue(app, [app.waits.call(0.01) for _ in range(1000)])
    lab.wait_for(app, lambda n: n["completed"] == len(others), "the end of all others")
    assert blocker.refresh().state == "running"
    gate.touch()
    lab.drained(app)
    assert blocker.refresh().attempt == 1
    assert tree.stop() == 0


@pytest.mark.slow
def test_2000_coroutines_are_at_work_at_once(lab: Lab) -> None:
    """One engine runs 2,000 `async def` jobs at the same moment in a handful of processes."""
    app = lab.app("told")
    tree = lab.start("told", env={"TOLD_SLOTS": "2000"})
    lab.enqueue(app, [app.waits.call(600.0) for _ in range(2000)])
    wait_until(lambda: len(lab.events("run-begin")) == 2000, "2,000 at once", timeout=60, interval=0.2)
    assert len(tree.workers()) <= 8
    assert app.jobs.discard_many(name="told.waits") == 2000
    lab.drained(app)
    assert app.jobs.count()["canceled"] == 2000
    assert tree.stop() == 0
    lab.wait_gone()


@pytest.mark.slow
def test_no_short_job_waits_behind_a_long_one(lab: Lab) -> None:
    """A 5 s job among 1,000 short ones on two workers: the short ones flow past it."""
    app = lab.app("told")
    tree = lab.start("told", "--processes", "2")
    lab.enqueue(app, [app.short.call() for _ in range(200)])
    lab.drained(app)
    [long] = lab.enqueue(app, [app.sleeps.call(600.0)])
    began = time.monotonic()
    lab.enqueue(app, [app.short.call() for _ in range(1000)])
    lab.wait_for(app, lambda n: n["completed"] == 1200, "all short ones")
    print(f"1,000 short jobs beside a long one: {time.monotonic() - began:.3f} s")
    assert long.refresh().state in ("claimed", "running")
    long.cancel()
    lab.drained(app)
    assert tree.stop() == 0


def places_in_the_line(app: Any) -> dict[UUID, int]:
    """How many jobs were claimed before each; those of one claim are equal."""
    line = sorted((job.claimed_at, job.id) for job in app.jobs.iterate())
    times = [at for at, _ in line]
    return {job_id: bisect_left(times, at) for at, job_id in line}


@pytest.mark.slow
@pytest.mark.parametrize("share", ["weight", "ageing"])
def test_a_full_queue_leaves_the_one_beside_it_its_share(lab: Lab, share: str) -> None:
    """Beside a queue that is always full and of higher priority, one with weights or ageing goes on."""
    app = lab.app("told")
    app.jobs.queues.create("high", priority=10, weight=4 if share == "weight" else 1)
    app.jobs.queues.create("low", ageing=0.01 if share == "ageing" else None)
    high = lab.enqueue(app, [app.high.call() for _ in range(5_000)])
    low = lab.enqueue(app, [app.low.call() for _ in range(200)])
    tree = lab.start("told")
    lab.drained(app)
    assert tree.stop() == 0
    place = places_in_the_line(app)
    least = low if share == "weight" else low[:1]
    first, last = min(place[handle.id] for handle in least), max(place[handle.id] for handle in least)
    print(f"low from {first} to {last} of {len(place)}")
    assert len([handle for handle in high if place[handle.id] > last]) > 1_000


@pytest.mark.slow
def test_priority_between_queues_is_strict_unless_said_otherwise(lab: Lab) -> None:
    """By default nothing of a queue is taken while one of higher priority has anything."""
    app = lab.app("told")
    app.jobs.queues.create("high", priority=10)
    app.jobs.queues.create("low")
    low = lab.enqueue(app, [app.low.call() for _ in range(200)])
    high = lab.enqueue(app, [app.high.call() for _ in range(5_000)])
    tree = lab.start("told")
    lab.drained(app)
    assert tree.stop() == 0
    place = places_in_the_line(app)
    assert max(place[handle.id] for handle in high) <= min(place[handle.id] for handle in low)
