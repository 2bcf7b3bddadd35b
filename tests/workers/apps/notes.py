"""Jobs that say something before they end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

from jobcard import Jobcard, JobContext, Snooze
from jobcard.core.job import NewJob
from jobcard.errors import InvalidJobError

jobs = Jobcard()


def new_follow_up(call: Any, job_id: bytes, parent_id: bytes) -> NewJob:
    """As the client makes it: the call checked, the id given."""
    if call == "bad":
        raise InvalidJobError("these arguments do not fit")
    plain: dict[str, Any] = dict.fromkeys(NewJob._fields)
    return NewJob(**{**plain, "id": job_id, "parent_id": parent_id, "name": call, "args": "[]", "kwargs": "{}"})


jobs.parts.producer.new_follow_up = new_follow_up  # type: ignore[attr-defined, unused-ignore]


@jobs.job
def says(ctx: JobContext) -> None:
    """One of each."""
    ctx.log("first")
    ctx.progress(0.25, "a quarter")
    ctx.log("second")


@jobs.job
def says_and_waits(ctx: JobContext) -> None:
    """The last of what it says must not wait for its end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    for number in range(100):
        ctx.progress(number / 100, f"{number} of 100")
        ctx.log(f"line {number}")
    signal.sigwait([signal.SIGUSR1])


@jobs.job
def floods(ctx: JobContext, lines: int, size: int) -> None:
    """More than anybody can read."""
    for number in range(lines):
        ctx.log(f"{number} " + "x" * size)


@jobs.job
def odd_texts(ctx: JobContext) -> None:
    """What is no text, and too much of it."""
    ctx.log("nul \0, half \ud800, e\u0301")
    ctx.log("y" * 5_000)
    ctx.progress(1, "z" * 500)


@jobs.job
def bad_progress(ctx: JobContext) -> int:
    """What is no progress."""
    refused = 0
    for value in (-0.1, 1.1, float("nan"), float("inf"), "half", None, True):
        try:
            ctx.progress(value)  # type: ignore[arg-type]
        except InvalidJobError:
            refused += 1
    return refused


@jobs.job
def counts(ctx: JobContext, size: int) -> Any:
    """Goes on from its checkpoint."""
    before = ctx.checkpoint
    ctx.progress(0.5, "half")
    ctx.save_checkpoint({"done": 10, "text": "x" * size})
    assert ctx.checkpoint["done"] == 10
    return before


@jobs.job
def counts_in_a_thread(ctx: JobContext) -> list[int]:
    """Threads save too."""
    saved: list[int] = []

    def save(number: int) -> None:
        ctx.save_checkpoint(number)
        saved.append(number)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(saved)


@jobs.job
def saves_what_cannot_be(ctx: JobContext) -> None:
    """No JSON."""
    ctx.save_checkpoint(object())


@jobs.job
async def counts_async(ctx: JobContext) -> Any:
    """A coroutine saves and goes on."""
    before = ctx.checkpoint
    await asyncio.gather(ctx.save_checkpoint_async(1), ctx.save_checkpoint_async(2))
    return [before, ctx.checkpoint]


@jobs.job
async def blocks_the_loop(ctx: JobContext) -> None:
    """The one that would wait with all others."""
    ctx.save_checkpoint(1)


@jobs.job
async def ticks(ctx: JobContext) -> None:
    """Something that goes on meanwhile."""
    await asyncio.sleep(0.001)


@jobs.job(isolation="shared")
def counts_in_a_shared_thread(ctx: JobContext) -> Any:
    """A function beside others may wait; so may a loop of its own."""
    ctx.save_checkpoint(1)
    asyncio.run(ctx.save_checkpoint_async(2))
    return ctx.checkpoint


@jobs.job
def chains(ctx: JobContext, *calls: str) -> str:
    """Follow-ups."""
    for call in calls:
        ctx.then(call)
    return "chained"


@jobs.job
def chains_in_vain(ctx: JobContext) -> None:
    """It does not succeed."""
    ctx.then("never")
    raise Snooze(1)


@jobs.job
def chains_too_many(ctx: JobContext) -> None:
    """More than fit."""
    for _ in range(1_001):
        ctx.then("one more")


@jobs.job
def speaks_in_a_handler(ctx: JobContext) -> int:
    """A signal handler of the job writes in the middle of whatever its code does."""
    times = 0

    def speak(*_: object) -> None:
        nonlocal times
        times += 1
        ctx.progress(0.9)
        ctx.log("from a handler")

    signal.signal(signal.SIGALRM, speak)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    for number in range(20_000):
        ctx.log(f"{number}")
        ctx.progress(number / 20_000)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return times


@jobs.job
def forks(ctx: JobContext) -> str:
    """A child that a job forks has no voice."""
    out, told = os.pipe()
    if os.fork() == 0:
        said = "nothing"
        try:
            ctx.progress(0.5)
        except Exception as error:
            said = type(error).__name__
        os.write(told, said.encode())
        os._exit(0)
    os.close(told)
    os.wait()
    with os.fdopen(out) as answer:
        return answer.read()
