"""Many simulated runs, on several processes."""

from __future__ import annotations

import functools
import json
import logging
import multiprocessing
import time

from simulation.faults import Faults
from simulation.play import Report, simulate

AT_ONCE = 20


def play_many(seed: int, count: int, faults: Faults | None, processes: int, seconds: float | None) -> int:
    """Play these seeds and print each that breaks a promise; 1 if any does."""
    began = time.monotonic()
    played, hours, broken = 0, 0.0, []
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_be_quiet) as pool:
        reports = pool.imap_unordered(
            functools.partial(_play, faults=faults), range(seed, seed + count), chunksize=min(AT_ONCE, count)
        )
        for report in reports:
            played += 1
            hours += report.seconds / 3600
            if report.violation is not None:
                broken.append(report.seed)
                print(report, flush=True)
            if seconds is not None and time.monotonic() - began > seconds:
                pool.terminate()
                break
    took = round(time.monotonic() - began, 1)
    figures = {"seeds": played, "first": seed, "simulated_hours": round(hours, 1), "seconds": took, "broken": broken}
    print(json.dumps(figures))
    return bool(broken)


def _play(seed: int, faults: Faults | None) -> Report:
    return simulate(seed, faults=faults)


def _be_quiet() -> None:
    logging.disable(logging.WARNING)
