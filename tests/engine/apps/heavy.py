"""An application that takes two seconds to import."""

from __future__ import annotations

import os
import time

from checker.history import History
from jobcard import Backoff, Jobcard, JobContext

IMPORT_SECONDS = 2.0

time.sleep(IMPORT_SECONDS)
jobs = Jobcard()
history = History()
history.write("imported")


@jobs.job(max_attempts=1, backoff=Backoff.fixed(0.1))
def dies(ctx: JobContext) -> None:
    """End the worker, and say when."""
    history.write("dies", ctx.job.id.hex)
    os._exit(1)


@jobs.job
def begins() -> int:
    """When it began, in nanoseconds as histories have it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
