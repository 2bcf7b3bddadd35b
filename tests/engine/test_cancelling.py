"""Cancelling at any moment: a waiting job never starts, a running one is told, and in the end is ended."""

from __future__ import annotations

import random
import threading
import time
from typing import Any
from uuid import UUID

import pytest

from checker.lab import Lab
from checker.stored import read_store
from helpers.waiting import wait_until
from jobcard import TransitionError

# At least five times what is promised; the figures are printed.
TOLD_SECONDS = 10.0  # two are promised
ENDED_SECONDS = 20.0  # the grace of one second and three more are promised
MOMENTS = 300
CANCELLERS = 6


def boottime() -> float:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e9


def draw_call(app: Any, chance: random.Random) -> Any:
    """A job of a kind, mostly ones that end by themselves soon."""
    kind = chance.random()
    if kind < 0.3:
        return app.short.call()
    if kind < 0.55:
        return app.looks.call(chance.choice([0.01, 0.05, 30.0]))
    if kind < 0.8:
        return app.sleeps.call(chance.choice([0.01, 0.05, 30.0]))
    if kind < 0.98:
        return app.waits.call(chance.choice([0.01, 0.05, 30.0]))
    return app.deaf.call()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_cancelling_at_300_moments_ends_each_job_once(lab: Lab) -> None:
    """Whenever it is said: no start after the word on a waiting job, one end each, and none later than the grace."""
    app = lab.app("told")
    tree = lab.start("told")
    acknowledged: dict[str, tuple[str, float]] = {}
    lock = threading.Lock()

    def cancel_some(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(MOMENTS // CANCELLERS):
            [handle] = lab.enqueue(app, [draw_call(app, chance)])
            until = time.monotonic() + chance.choice([0, 0, 0.002, 0.01, 0.05, 0.3]) * chance.random()
            wait_until(lambda until=until: time.monotonic() >= until, "a moment", interval=0.0005)  # type: ignore[misc]
            try:
                job = handle.cancel()
            except TransitionError:
                continue
            with lock:
                acknowledged[handle.id.hex] = (str(job.state), boottime())

    threads = [threading.Thread(target=cancel_some, args=(seed,)) for seed in range(CANCELLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lab.drained(app, timeout=120)
    assert tree.stop() == 0
    lab.wait_gone()

    rows = {row.id: row for row in read_store(lab.file).rows}
    begun: dict[str, list[float]] = {}
    for event in lab.events("run-begin"):
        begun.setdefault(event.facts[0], []).append(event.at / 1e9)
    told = {event.facts[0]: event.at / 1e9 for event in lab.events("told")}
    waiting = [job for job, (state, _) in acknowledged.items() if state == "canceled"]
    started_after = [job for job in waiting if job in begun]
    told_after = sorted(told[job] - acknowledged[job][1] for job in told if job in acknowledged)
    ended_after = sorted(
        app.jobs.get(UUID(job)).finished_at.timestamp() - time.time() + boottime() - at
        for job, (state, at) in acknowledged.items()
        if state != "canceled"
    )
    figures = lab.figures(workers_killed=True)
    print(
        f"{len(acknowledged)} acknowledged, {len(waiting)} of them waiting, started after all: {len(started_after)}; "
        f"told: {len(told_after)}, p99 {told_after[int(0.99 * len(told_after))]:.3f} s; "
        f"ended: {len(ended_after)}, last {ended_after[-1]:.3f} s"
    )
    assert started_after == []
    assert figures.faults == {}, figures
    assert all(row.state in ("completed", "canceled") for row in rows.values())
    assert told_after[-1] < TOLD_SECONDS
    assert ended_after[-1] < ENDED_SECONDS
    long_ones = [job for job in told if job in acknowledged]
    assert long_ones
    assert {rows[job].state for job in long_ones} == {"canceled"}


@pytest.mark.parametrize("name", ["swallows", "sleeps", "waits", "looks"])
def test_a_job_that_can_hear_ends_long_before_the_grace_does(lab: Lab, name: str) -> None:
    """Told, a job ends as canceled with the reason it was given, whatever it does with an `Exception`."""
    app = lab.app("told", cancel_grace=60)
    tree = lab.start("told")
    [handle] = lab.enqueue(app, [getattr(app, name).call(600.0)])
    lab.wait_for(app, lambda n: n["running"] == 1, "a running job")
    assert handle.cancel().cancel_requested
    lab.drained(app)
    job = handle.refresh()
    assert (job.state, job.attempt) == ("canceled", 1)
    assert tree.stop() == 0


def test_a_job_in_c_code_is_killed_after_the_grace(lab: Lab) -> None:
    """What cannot hear is killed when the grace is over, and canceled all the same."""
    app = lab.app("told")
    tree = lab.start("told")
    [handle] = lab.enqueue(app, [app.deaf.call()])
    lab.wait_for(app, lambda n: n["running"] == 1, "a running job")
    said = time.monotonic()
    handle.cancel()
    lab.drained(app)
    took = time.monotonic() - said
    print(f"killed after {took:.3f} s with a grace of {app.GRACE:g} s")
    assert app.GRACE <= took < ENDED_SECONDS
    assert handle.refresh().state == "canceled"
    assert tree.stop() == 0
