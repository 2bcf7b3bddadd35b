"""Jobs whose comings and goings an observer outside the store can add up, killed as often as a test likes."""

from __future__ import annotations

import time
from pathlib import Path

from checker.history import History
from jobcard import Jobcard, JobContext, Queue
from jobcard.core.rates import RateLimit

jobs = Jobcard(queues=[Queue("narrow", global_concurrency=3), Queue("slow", rate=RateLimit(50, per=1))])
history = History()


@jobs.job(max_attempts=100, max_crashes=100)
def enter(ctx: JobContext, seconds: float, what: str = "") -> int:
    """Be inside for a while; whoever comes in says who else is alive."""
    with history.run(ctx):
        history.write("enter", ctx._claim.id.hex(), ctx.token, what or "-", ",".join(history.others()) or "nobody")
        time.sleep(seconds)
        history.write("leave", ctx._claim.id.hex(), ctx.token)
        return ctx.token


@jobs.job(max_attempts=100, max_crashes=100)
def meet(ctx: JobContext, what: str, folder: str, several: int) -> int:
    """Wait inside until so many are."""
    with history.run(ctx):
        history.write("enter", ctx._claim.id.hex(), ctx.token, what, ",".join(history.others()) or "nobody")
        (Path(folder) / what).touch()
        while len(list(Path(folder).iterdir())) < several:
            time.sleep(0.005)
        history.write("leave", ctx._claim.id.hex(), ctx.token)
        return ctx.token
