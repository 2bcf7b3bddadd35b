"""An application that takes two seconds to import."""

from __future__ import annotations

import os
import time
from pathlib import Path

from checker.history import VARIABLE, History
from jobcard import Backoff, Jobcard, JobContext

IMPORT_SECONDS = 2.0

if VARIABLE in os.environ:  # not in the process of the tests
    time.sleep(IMPORT_SECONDS)
jobs = Jobcard()
history = History()
history.write("imported")


@jobs.job(max_attempts=1, backoff=Backoff.fixed(0.1))
def dies(ctx: JobContext, gate: str | None) -> None:
    """End the worker, at once or as soon as a file is there, and say when."""
    while gate is not None and not Path(gate).exists():
        time.sleep(0.005)
    history.write("dies", ctx.job.id.hex)
    os._exit(1)


@jobs.job
def begins() -> int:
    """When it began, in nanoseconds as histories have it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
