"""Jobs with limits, orders and ends of every kind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from checker.history import History
from jobcard import Backoff, Cancel, Fail, Jobcard, JobContext, Queue, Retry, Snooze

jobs = Jobcard(queues=[Queue("two", concurrency=2), Queue("high", priority=10), Queue("low", priority=-10)])
history = History()


@jobs.job(backoff=Backoff.fixed(0.1))
def work(ctx: JobContext, seconds: float = 0.0) -> int:
    """Be at work for a while."""
    with history.run(ctx):
        time.sleep(seconds)
        return ctx.token


@jobs.job(queue="two")
def pair(ctx: JobContext, seconds: float = 0.0) -> int:
    """Two of these at once, at most."""
    with history.run(ctx):
        time.sleep(seconds)
        return ctx.token


@jobs.job
def until(ctx: JobContext, path: str) -> int:
    """Be at work until a file is there."""
    with history.run(ctx):
        while not Path(path).exists():
            time.sleep(0.005)
        return ctx.token


SIGNALS = {
    "Retry": lambda: Retry("not yet"),
    "Retry with a delay": lambda: Retry("not yet", delay=0.3),
    "Snooze": lambda: Snooze(0.3),
    "Fail": lambda: Fail("hopeless"),
    "Cancel": lambda: Cancel("not wanted"),
}


@jobs.job(backoff=Backoff.fixed(0.1), max_attempts=3)
def steers(ctx: JobContext, how: str, returns: bool) -> Any:
    """Say how to go on, at the first claim; then return the attempt and the token."""
    with history.run(ctx):
        if ctx.token == 1:
            signal = SIGNALS[how]()
            if returns:
                return signal
            try:
                raise signal
            except Exception:  # none of them is one
                return "caught"
        return [ctx.attempt, ctx.token]


@jobs.job(backoff=Backoff.fixed(0.2), max_attempts=3)
def fails(ctx: JobContext, times: int) -> int:
    """Raise so many times."""
    with history.run(ctx):
        if ctx.attempt <= times:
            raise ValueError(f"try {ctx.attempt}")
        return ctx.attempt


def _by_attempt(attempt: int) -> float:
    return 0.1 * attempt


@jobs.job(backoff=Backoff.custom(_by_attempt), max_attempts=3)
def fails_by_its_own_clock(ctx: JobContext) -> int:
    """Raise twice; the delay is computed here."""
    with history.run(ctx):
        if ctx.attempt < 3:
            raise ValueError("again")
        return ctx.attempt


@jobs.job
def takes_text(text: str) -> str:
    """One argument."""
    return text
