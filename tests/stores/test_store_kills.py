"""Ten thousand jobs of four producers on two engines, on every store, while workers and engines are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import Any

import psutil
import pytest

from checker.lab import Lab, Tree
from helpers.places import Place
from helpers.waiting import wait_until

JOBS = 10_000
PRODUCERS = 4
FAULTS = ["worker"] * 20 + ["engine"] * 4
SHORT_LEASE = ("--lease", "6", "--heartbeat", "1")


def kill_worker(tree: Tree, chance: random.Random) -> bool:
    """SIGKILL one of an engine's workers; False: it has none now."""
    workers = tree.workers()
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        chance.choice(workers).kill()
        return True
    return False


def kill_engine(tree: Tree, _chance: random.Random) -> bool:
    """SIGKILL an engine; its keeper starts another. False: it has just died."""
    engine = tree.find_engine()
    with contextlib.suppress(ProcessLookupError):
        if engine is not None:
            os.kill(engine, signal.SIGKILL)
            return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_jobs_through_24_kills(lab: Lab, place: Place) -> None:
    """20 workers and 4 engines are killed in mid-run: nothing is lost, nothing runs twice at once or needlessly."""
    chance = random.Random(7)
    app = lab.app("load")
    trees = [lab.start("load", *SHORT_LEASE) for _ in range(2)]
    faults = FAULTS[:]
    chance.shuffle(faults)
    began = time.monotonic()
    producers = [lab.python("-m", "producer", str(JOBS // PRODUCERS), "50", "0.01") for _ in range(PRODUCERS)]
    busy = 0
    for number, fault in enumerate(faults, 1):
        counts = _until_done(lab, app, number * JOBS // (len(faults) + 2))
        busy += counts["completed"] < JOBS
        kill = kill_worker if fault == "worker" else kill_engine
        wait_until(lambda kill=kill: kill(chance.choice(trees), chance), f"a {fault} to kill")  # type: ignore[misc]
    for producer in producers:
        assert producer.wait(60) == 0
    lab.drained(app, timeout=120)
    seconds = time.monotonic() - began
    lab.stop()
    lab.wait_gone()
    figures = lab.figures(workers_killed=True)
    print(f"{place.kind}: {busy} of {len(faults)} kills in mid-run, {seconds:.1f} s; {figures}")
    assert figures.faults == {}, figures
    assert figures.jobs == JOBS
    assert busy >= len(faults) - 4


def _until_done(lab: Lab, app: Any, most: int) -> Any:
    lab.wait_for(app, lambda n: n["completed"] >= most, f"{most} jobs to be done", timeout=120)
    return app.jobs.count()
