"""Jobs that run beside others, with hooks around them."""

from __future__ import annotations

import asyncio
import contextvars
import mmap
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

from jobcard import Cancel, Fail, Jobcard, JobContext, Retry, current_job

jobs = Jobcard()
LONG = 600.0
mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
gate: dict[str, asyncio.Event] = {}


@jobs.job
async def noop() -> None:
    """Nothing."""


@jobs.job
async def naps(n: int) -> int:
    """A little sleep."""
    await asyncio.sleep(0.01)
    return n


@jobs.job
async def knows_itself(ctx: JobContext, text: str) -> list[Any]:
    """Its own context and context variables, whatever runs beside it."""
    seen = [mark.get()]
    mark.set(text)
    for _ in range(5):
        await asyncio.sleep(0.001)
        own = current_job()
        assert own is ctx
    return [*seen, mark.get(), own.job.args]


@jobs.job
async def meets(name: str, others: int) -> int:
    """Ends when so many are here at once."""
    meeting = _meetings.setdefault(name, [])
    event = asyncio.Event()
    meeting.append(event)
    if len(meeting) == others:
        for each in meeting:
            each.set()
    await event.wait()
    return threading.get_ident()


_meetings: dict[str, list[asyncio.Event]] = {}


@jobs.job(isolation="shared")
def meets_in_a_thread(others: int) -> str:
    """Ends when so many threads are here at once."""
    _barriers.setdefault(others, threading.Barrier(others, timeout=60)).wait()
    own = current_job()
    assert own is not None
    return str(own.job.args)


_barriers: dict[int, threading.Barrier] = {}


@jobs.job
async def blocks(seconds: float) -> None:
    """Keeps the loop."""
    time.sleep(seconds)


@jobs.job
async def sleeps(ctx: JobContext) -> str:
    """Until it is told."""
    ctx.progress(0)
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        assert (ctx.cancelled, ctx.cancel_reason) == (True, "because")
        raise
    return "slept"


@jobs.job
async def saves(ctx: JobContext) -> None:
    """Over when it has its answer."""
    await ctx.save_checkpoint_async(1)


@jobs.job
async def goes_on() -> str:
    """Catches it."""
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return "went on"
    return "slept"


@jobs.job
async def asks_whether(ctx: JobContext) -> None:
    """Looks, and ends as it should."""
    task = asyncio.current_task()
    assert task is not None
    while True:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            ctx.raise_if_cancelled()


@jobs.job(isolation="shared")
def looks_in_a_thread(ctx: JobContext, how: str) -> str | None:
    """A function cannot be interrupted; it looks."""
    ctx.progress(0)
    while not ctx.cancelled:
        time.sleep(0.001)
    if how == "raise":
        ctx.raise_if_cancelled()
    if how == "cancel":
        raise Cancel("well then")
    return ctx.cancel_reason


@jobs.job
async def ends_with(how: str) -> Any:
    """All the ways to end."""
    await asyncio.sleep(0)
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "fail":
        raise Fail("no use")
    if how == "return retry":
        return Retry("again", delay=2)
    if how == "object":
        return object()
    if how == "cancelled":
        raise asyncio.CancelledError
    raise LookupError(how)


@jobs.job
async def leaves_a_bomb() -> str:
    """A task nobody awaits takes the loop down with it, in other programs."""

    async def bomb() -> None:
        await asyncio.sleep(0.01)
        raise SystemExit(1)

    _bombs.append(asyncio.create_task(bomb()))
    return "left"


_bombs: list[asyncio.Task[None]] = []


@jobs.job
async def counts_jobs() -> int:
    """Asks the store without blocking the loop, and with."""
    handle = jobs.handle("01900000-0000-7000-8000-000000000000")
    assert handle is not None
    total = jobs.count().total
    return total + len(await asyncio.gather(*(asyncio.to_thread(jobs.count) for _ in range(3))))


@jobs.job
async def enqueues(count: int) -> int:
    """Enqueue from many tasks at once."""
    handles = await asyncio.gather(*(naps.enqueue_async(n) for n in range(count)))
    return len({handle.id for handle in handles})


@jobs.job
async def blocks_until_a_thread_has_asked() -> int:
    """The loop is blocked, and yet a thread gets its answer."""
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(jobs.count().total))
    thread.start()
    thread.join(30)
    return answers[0]


# ------------------------------------------------------------------ hooks


@jobs.job(isolation="process")
async def hooked_alone() -> str:
    """A coroutine of its own."""
    return mark.get()


@jobs.job
async def hooked() -> str:
    """A coroutine beside others."""
    return mark.get()


@jobs.job(isolation="process")
def hooked_function() -> str:
    """A function."""
    return mark.get()


@jobs.job(isolation="shared")
def hooked_thread() -> str:
    """A function beside others."""
    return mark.get()


@jobs.job(isolation="process")
def hooked_sleep(ctx: JobContext) -> None:
    """For being told."""
    ctx.progress(0)
    time.sleep(LONG)


@jobs.job(isolation="process")
def hooked_failure() -> None:
    """A hook sees it pass."""
    raise LookupError("in the job")


@jobs.job(isolation="process")
def hooked_signal() -> Any:
    """Returned, not raised."""
    return Fail("in the job")


@jobs.job
async def hooked_signal_beside() -> Any:
    """The same beside others."""
    return Fail("in the job")


def wraps(name: str) -> Any:
    """A hook that adds its name to what the job sees, and says when it is left."""

    @contextmanager
    def hook(ctx: JobContext) -> Iterator[None]:
        assert current_job() is ctx
        token = mark.set(f"{mark.get()} {name}")
        said = "returned"
        try:
            yield
        except BaseException as error:
            said = type(error).__name__
            raise
        finally:
            mark.reset(token)
            ctx.log(f"{name} {said}")

    return hook


def wraps_async(name: str) -> Any:
    """The same, asynchronous."""

    @asynccontextmanager
    async def hook(ctx: JobContext) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        with wraps(name)(ctx):
            yield
        await asyncio.sleep(0)

    return hook


@contextmanager
def breaks(ctx: JobContext) -> Iterator[None]:
    """A hook that raises before the job."""
    raise LookupError("in the hook")
    yield


@contextmanager
def swallows(ctx: JobContext) -> Iterator[None]:
    """A hook that swallows what the job raises."""
    try:
        yield
    except LookupError:
        ctx.log("swallowed")


HOOKS: dict[str, Any] = {
    "a": wraps("a"),
    "b": wraps("b"),
    "async": wraps_async("async"),
    "breaks": breaks,
    "swallows": swallows,
    "nothing": lambda ctx: None,
}


@jobs.job(isolation="process")
def use_hooks(*names: str) -> None:
    """From now on these hooks are around every job."""
    _hooks[:] = [HOOKS[name] for name in names]


@jobs.job
async def use_hooks_here(*names: str) -> None:
    """The same beside others."""
    _hooks[:] = [HOOKS[name] for name in names]


_hooks: list[Any] = []
if getattr(jobs.parts, "hooks", None) is None:
    jobs.parts.hooks = SimpleNamespace(around_run=_hooks)  # type: ignore[attr-defined, unused-ignore]
else:
    _hooks = jobs.parts.hooks.around_run  # type: ignore[attr-defined, unused-ignore]


@jobs.job
async def forks(how: str) -> int:
    """A forked child comes back from the job, or stays in it; the exit code of the child."""
    child = os.fork()
    if child:
        return await asyncio.to_thread(_exit_code, child)
    if how == "raises":
        raise ValueError(how)
    while how == "awaits":
        await asyncio.sleep(0)
    return -1


@jobs.job(isolation="shared")
def forks_in_a_thread(how: str) -> int:
    """The same, in a thread."""
    child = os.fork()
    if child:
        return _exit_code(child)
    if how == "raises":
        raise ValueError(how)
    return -1


def _exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


_stray = mmap.mmap(-1, 1)  # one for a process and all that it forks
_home = None


@jobs.job
async def beats(n: int) -> int:
    """Many steps; whether any of these jobs took one in another process than the first did."""
    global _home
    _home = _home or os.getpid()
    for _ in range(n):
        await asyncio.sleep(0)
        if os.getpid() != _home:
            _stray[0] = 1
    return _stray[0]


@jobs.job
async def stops_the_loop() -> str:
    """What belongs to its worker."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "went on"
