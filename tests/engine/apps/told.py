"""Jobs that are told to end, and what each makes of it; steps, follow-ups and crowds."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from pathlib import Path

from checker.history import History
from jobcard import Backoff, Jobcard, JobContext, Queue

GRACE = 1.0

jobs = Jobcard(
    cancel_grace=GRACE,
    max_concurrent_jobs=int(os.environ.get("TOLD_SLOTS", "8")),
    queues=[Queue("default", concurrency=2000)],
)
history = History()
AGAIN = Backoff.fixed(0.05)


@jobs.job
def short(ctx: JobContext) -> int:
    """Over before anybody can say a word, mostly."""
    with history.run(ctx):
        return ctx.token


@jobs.job
def looks(ctx: JobContext, seconds: float) -> int:
    """Looks whether it shall end, every millisecond, without any wait the engine could cut short."""
    with history.run(ctx):
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                for _ in range(1000):
                    pass
                if ctx.cancelled:
                    break
        except BaseException:
            history.write("told", ctx._claim.id.hex())
            raise
        if ctx.cancelled:
            history.write("told", ctx._claim.id.hex())
            ctx.raise_if_cancelled()
        return ctx.token


@jobs.job
def sleeps(ctx: JobContext, seconds: float) -> int:
    """Sleeps and looks at nothing."""
    with history.run(ctx):
        try:
            time.sleep(seconds)
        except BaseException:
            history.write("told", ctx._claim.id.hex())
            raise
        return ctx.token


@jobs.job
def swallows(ctx: JobContext, seconds: float) -> int:
    """Takes every `Exception` for a hiccup."""
    with history.run(ctx):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(Exception):
                time.sleep(0.01)
        return ctx.token


@jobs.job
def deaf(ctx: JobContext) -> int:
    """Hours in C code, where no signal is heard."""
    with history.run(ctx):
        hashlib.pbkdf2_hmac("sha256", b"deaf", b"as a post", 2**31 - 1)
        return ctx.token


@jobs.job
async def waits(ctx: JobContext, seconds: float) -> int:
    """A coroutine among others."""
    with history.run(ctx):
        try:
            await asyncio.sleep(seconds)
        except BaseException:
            history.write("told", ctx._claim.id.hex())
            raise
        return ctx.token


@jobs.job
async def blocks(ctx: JobContext, path: str) -> int:
    """A coroutine that blocks its loop until a file is there."""
    with history.run(ctx):
        while not Path(path).exists():
            time.sleep(0.01)
        return ctx.token


@jobs.job(backoff=AGAIN, max_attempts=100, max_crashes=100)
def steps(ctx: JobContext, count: int, path: str, enough: str) -> int:
    """Goes on where its checkpoint says, a line in a file for each step it begins; until a file says that it may end.

    count: how many steps at least; the result is how many there were.
    """
    with history.run(ctx):
        step: int = ctx.checkpoint or 0
        while step < count or not Path(enough).exists():
            with Path(path).open("a") as file:
                file.write(f"{step}\n")
            time.sleep(0.01)
            step += 1
            ctx.save_checkpoint(step)
        return step


@jobs.job(backoff=AGAIN, max_attempts=100, max_crashes=100)
def follow_up(ctx: JobContext) -> int:
    """What a parent asks for; whatever dies, as often as a test likes, is not its fault."""
    with history.run(ctx):
        return ctx.token


@jobs.job(backoff=AGAIN, max_attempts=100, max_crashes=100)
def parent(ctx: JobContext, children: int) -> int:
    """Asks for follow-ups, and often dies at its end."""
    with history.run(ctx):
        for _ in range(children):
            ctx.then(follow_up.call())
        if ctx.attempt < 3 and int(ctx._claim.id.hex()[-1], 16) < 4:
            os._exit(1)
        return ctx.token


@jobs.job(queue="high")
def high() -> None:
    """A job of the queue that is always full."""


@jobs.job(queue="low")
def low() -> None:
    """A job of the queue beside it."""
