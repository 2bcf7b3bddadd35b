"""Jobs that write a history of their own and return the token of their claim."""

from __future__ import annotations

import os
import time
from pathlib import Path

from checker.history import History
from jobcard import Backoff, Jobcard, JobContext

jobs = Jobcard()
history = History()
AGAIN = Backoff.fixed(0.1)


@jobs.job(backoff=AGAIN)
def note(ctx: JobContext) -> int:
    """Nothing but its history."""
    with history.run(ctx):
        return ctx.token


@jobs.job(backoff=AGAIN)
def nap(ctx: JobContext, seconds: float) -> int:
    """Be at work for a while."""
    with history.run(ctx):
        time.sleep(seconds)
        return ctx.token


@jobs.job(backoff=AGAIN, max_attempts=100, max_crashes=100)
def hardy(ctx: JobContext, seconds: float = 0.0) -> int:
    """Be at work for a while, killed as often as a test likes."""
    with history.run(ctx):
        time.sleep(seconds)
        return ctx.token


@jobs.job(max_attempts=1)
def once(ctx: JobContext, seconds: float = 0.0) -> int:
    """At most one try."""
    with history.run(ctx):
        time.sleep(seconds)
        return ctx.token


@jobs.job(backoff=AGAIN)
def until(ctx: JobContext, path: str) -> int:
    """Be at work until a file is there."""
    with history.run(ctx):
        while not Path(path).exists():
            time.sleep(0.005)
        return ctx.token


@jobs.job(max_attempts=100, max_crashes=100)
def obey(ctx: JobContext) -> int:
    """Be at work until it is canceled, and note when it hears of that."""
    with history.run(ctx):
        try:
            while not ctx.cancelled:
                time.sleep(0.005)
        finally:  # it may be told in the middle of its sleep
            history.write("told", ctx._claim.id.hex())
        return ctx.token


@jobs.job(backoff=AGAIN)
def crash_first(ctx: JobContext) -> int:
    """End the worker at the first try."""
    with history.run(ctx):
        if ctx.attempt == 1:
            os._exit(0)
        return ctx.token


@jobs.job(backoff=AGAIN, max_crashes=3)
def poison(ctx: JobContext) -> None:
    """End the worker at every try."""
    with history.run(ctx):
        os._exit(1)


@jobs.job(backoff=AGAIN)
def fail_first(ctx: JobContext) -> int:
    """Raise at the first try."""
    with history.run(ctx):
        if ctx.attempt == 1:
            raise RuntimeError("the first try")
        return ctx.token
