"""Jobs that are told to end: in a worker of their own, and beside others."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import Any

from jobcard import Cancel, Jobcard, JobContext, Snooze

jobs = Jobcard()
LONG = 600.0


@jobs.job
def noop() -> None:
    """Nothing."""


@jobs.job
def sleeps(ctx: JobContext) -> str:
    """Sleep, deaf to every Exception."""
    ctx.progress(0)
    try:
        time.sleep(LONG)
    except Exception:
        return "swallowed"
    return "slept"


@jobs.job
def tidies_up(ctx: JobContext) -> str:
    """End as it was told to, after a last word."""
    try:
        ctx.progress(0)
        time.sleep(LONG)
    except Cancel as told:
        ctx.log(f"told: {told.reason}")
        assert (ctx.cancelled, ctx.cancel_reason) == (True, told.reason)
        raise
    return "slept"


@jobs.job
def goes_on(ctx: JobContext) -> str:
    """Catch it and go on until another signal comes."""
    try:
        ctx.progress(0)
        time.sleep(LONG)
    except Cancel:
        pass
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    ctx.progress(0.6)
    signal.sigwait([signal.SIGUSR1])
    return "went on"


@jobs.job
def raises_another(ctx: JobContext) -> None:
    """Being told makes it fail otherwise."""
    try:
        ctx.progress(0)
        time.sleep(LONG)
    except Cancel:
        raise ValueError("in the middle of it") from None


@jobs.job
def snoozes(ctx: JobContext) -> None:
    """Being told makes it come back later."""
    try:
        ctx.progress(0)
        time.sleep(LONG)
    except Cancel:
        raise Snooze(5) from None


@jobs.job
def cancels_itself() -> None:
    """A cancel of its own."""
    raise Cancel("my own")


@jobs.job
def polls(ctx: JobContext) -> str:
    """Blocks the signal, and looks for itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctx.progress(0)
    while not ctx.cancelled:
        time.sleep(0.001)
    ctx.raise_if_cancelled()
    return "not reached"


@jobs.job
def polls_and_returns(ctx: JobContext) -> str | None:
    """Blocks the signal, and returns why it ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    assert ctx.cancel_reason is None
    ctx.progress(0)
    while not ctx.cancelled:
        time.sleep(0.001)
    return ctx.cancel_reason


@jobs.job
def deaf(ctx: JobContext) -> str:
    """Replaces every handler; ends by a signal of its own."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGUSR1}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    ctx.progress(0)
    signal.sigwait([signal.SIGUSR1])
    return "deaf"


@jobs.job
def asks(ctx: JobContext, forever: bool) -> int:
    """Ask the store, once or for ever."""
    ctx.progress(0)
    times = 1
    jobs.count()
    while forever:
        jobs.count()
        times += 1
    time.sleep(LONG)
    return times


@jobs.job
def waits_for_another(ctx: JobContext, job_id: str) -> Any:
    """Wait for a job that never ends."""
    ctx.progress(0)
    return jobs.handle(job_id).result()


@jobs.job
def swallows_in_a_finalizer(ctx: JobContext) -> str:
    """What is raised in a finalizer is lost."""

    class Slow:
        def __del__(self) -> None:
            ctx.progress(0)
            until = time.monotonic() + 0.3
            while time.monotonic() < until:
                pass

    held = [Slow()]
    held.clear()
    time.sleep(LONG)
    return "slept"


@jobs.job
def runs_a_loop(ctx: JobContext) -> None:
    """A function job with a loop of its own, busy with callbacks."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            sum(range(2_000))
            loop.call_soon(again)

        again()
        ctx.progress(0)
        await asyncio.sleep(LONG)

    asyncio.run(main())


@jobs.job
def in_threads(ctx: JobContext) -> list[bool]:
    """Its threads can look too."""
    seen: list[bool] = []

    def look() -> None:
        while not ctx.cancelled:
            time.sleep(0.001)
        seen.append(True)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        ctx.progress(0)
        for thread in threads:
            thread.join()
    except Cancel:
        # Not by a second `join`: the first, interrupted, takes the thread it waited for as ended (CPython 45274).
        while len(seen) < len(threads):
            time.sleep(0.001)
    return seen


@jobs.job
def short(n: int) -> int:
    """Over in a moment."""
    total = 0
    for number in range(n):
        total += number
    return total


@jobs.job
def sleeps_at_once() -> None:
    """Sleep, without a word."""
    time.sleep(LONG)


@jobs.job(isolation="process")
async def sleeps_alone(ctx: JobContext) -> None:
    """A coroutine in a worker of its own."""
    ctx.progress(0)
    await asyncio.sleep(LONG)


@jobs.job(isolation="process")
async def goes_on_alone(ctx: JobContext) -> str:
    """One that catches it."""
    try:
        ctx.progress(0)
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return "went on"
    return "slept"


@jobs.job(isolation="process")
async def cancels_its_own_task() -> None:
    """Nobody told it."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@jobs.job(isolation="process")
async def group_alone(ctx: JobContext) -> None:
    """One of a group of tasks finds out for itself."""

    async def looks() -> None:
        while not ctx.cancelled:
            await asyncio.sleep(0.001)
        ctx.raise_if_cancelled()

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    async with asyncio.TaskGroup() as group:
        group.create_task(looks())
        group.create_task(asyncio.sleep(LONG))
        ctx.progress(0)


left_behind: list[JobContext] = []


@jobs.job
def leaves_its_context(ctx: JobContext) -> None:
    """For the next one to try."""
    left_behind.append(ctx)


@jobs.job
def uses_what_is_left() -> list[str]:
    """What a context says after its job."""
    ctx = left_behind.pop()
    said = []
    tries = (
        lambda: ctx.cancelled,
        lambda: ctx.cancel_reason,
        ctx.raise_if_cancelled,
        lambda: ctx.progress(0.5),
        lambda: ctx.log("late"),
        lambda: ctx.save_checkpoint(1),
        lambda: ctx.then(None),
    )
    for attempt in tries:
        try:
            attempt()
            said.append("nothing")
        except Exception as error:
            said.append(type(error).__name__)
    assert ctx.job.name == "told.leaves_its_context"
    return said
