"""What an engine says at its end, as a test can rely on it however busy the machine is.

An engine that ends at once has a second for its last words. Where it does not get them out in time it rightly gives
up: its jobs are held until the lease ends, and run then. So a hand-back is asked for several times, and must come once;
what must hold each time is checked each time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from checker.lab import Lab
from helpers.waiting import wait_until

LEASE = 9.0
SHORT_LEASE = ("--lease", f"{LEASE:g}", "--heartbeat", f"{LEASE / 6:g}")
TRIES = 5
BEGUN, WAITING = 200, 2000


def until_handed_back(lab: Lab, app: Any, end: Callable[[], Sequence[UUID]]) -> None:
    """Repeat until the jobs wait again at once and untouched; after each time an engine runs them to their end.

    end: starts an engine with a short lease, lets jobs run until there is a file "gate", ends it all; the jobs' ids.
    """
    for _ in range(TRIES):
        (lab.folder / "gate").unlink(missing_ok=True)
        ended = [app.jobs.get(job_id) for job_id in end()]
        told = {(job.state, job.attempt) for job in ended}
        assert told <= {("waiting", 0), ("running", 1), ("claimed", 1)}, told
        assert {job.crashes for job in ended} == {0}
        (lab.folder / "gate").touch()
        tree = lab.start("load", *SHORT_LEASE)
        lab.drained(app)
        assert tree.stop() == 0
        assert {app.jobs.get(job.id).state for job in ended} == {"completed"}
        if told == {("waiting", 0)}:
            return
    raise AssertionError(f"{TRIES} times the jobs were not handed back")


def freeze_under_load(lab: Lab, app: Any, engine: int) -> None:
    """Stop the engine's process at a moment when jobs are being run and many more wait; send it SIGCONT afterwards."""

    def caught() -> bool:
        if app.jobs.count()["waiting"] < 2 * WAITING:
            lab.enqueue(app, [app.note.call() for _ in range(2 * WAITING)])
        os.kill(engine, signal.SIGSTOP)
        if len(lab.events("run-begin")) > BEGUN and app.jobs.count()["waiting"] > WAITING:
            return True
        os.kill(engine, signal.SIGCONT)
        return False

    wait_until(caught, "a load at work", timeout=60, interval=0.03)
