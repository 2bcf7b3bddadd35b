"""Jobs that use the client from inside, and jobs that are classes or coroutines."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from jobcard import Backoff, ConfigError, Jobcard, JobClass, JobContext, JobNotFoundError, current_job

jobs = Jobcard()


@jobs.job
def add(a: int, b: int) -> int:
    """A sum."""
    return a + b


@jobs.job(timeout=30)
def enqueues(count: int) -> list[str]:
    """Enqueue from inside: one, many, by name and later."""
    handles = [add.enqueue(1, 2), *jobs.enqueue_many([add.call(n, n) for n in range(count)])]
    handles.append(jobs.enqueue("inside.add", [3, 4]))
    handles.append(add.options(delay=3600, tags=["later"], priority=7).enqueue(5, 6))
    return [str(handle.id) for handle in handles]


@jobs.job(timeout=30)
def enqueues_async(count: int) -> int:
    """The same from an event loop; how many ids there were."""

    async def all_at_once() -> set[Any]:
        handles = await asyncio.gather(*(add.enqueue_async(n, 1) for n in range(count)))
        return {handle.id for handle in handles}

    return len(asyncio.run(all_at_once()))


@jobs.job(timeout=30)
def enqueues_from_threads(count: int) -> int:
    """Many threads of one job enqueue at once."""
    ids: list[Any] = []
    threads = [threading.Thread(target=lambda: ids.append(add.enqueue(1, 1).id)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(set(ids))


@jobs.job(timeout=30, backoff=Backoff.fixed(0.05))
def enqueues_then_dies_once(ctx: JobContext, job_id: str) -> bool:
    """Enqueue under a given id, end the worker at the first try, and do the same again."""
    handle = add.options(id=job_id).enqueue(8, 1)
    if ctx.attempt == 1:
        os._exit(1)
    return handle.duplicate


@jobs.job(timeout=30, max_attempts=1)
def forks_and_enqueues() -> list[Any]:
    """A forked child uses the client while its parent does, as code with `multiprocessing` would."""
    out, told = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            for number in range(100):
                said = str(add.enqueue(number, 1).id)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(told, said.encode())
            os._exit(0)
    os.close(told)
    own = {add.enqueue(number, 2).id for number in range(100)}
    os.waitpid(child, 0)
    with os.fdopen(out) as answer:
        return [answer.read(), len(own)]


@jobs.job(timeout=30, max_attempts=1)
def forks_and_returns_twice() -> str:
    """A forked child comes back from the job's function as its parent does."""
    child = os.fork()
    if child == 0:
        return "child"
    os.waitpid(child, 0)
    return "parent"


@jobs.job(timeout=30)
def waits_for_another(a: int) -> int:
    """Enqueue a job and wait for its result: another worker runs it."""
    return 10 * add.enqueue(a, 1).result(timeout=25)


@jobs.job(timeout=30)
def looks_up(job_id: str) -> dict[str, Any]:
    """What a job can see of others, and of itself."""
    own = current_job()
    assert own is not None
    found = jobs.get(job_id)
    try:
        jobs.get("01900000-0000-7000-8000-000000000000")
        missing = "found"
    except JobNotFoundError:
        missing = "missing"
    return {
        "state": str(found.state),
        "result": found.result,
        "missing": missing,
        "count": jobs.count(name="inside.add").total,
        "listed": [str(job.id) for job in jobs.list(name="inside.add", limit=3)],
        "queues": jobs.queues.names(),
        "own_state": str(jobs.get(own.job.id).state),
        "engines": len(jobs.engines.list()),
    }


@jobs.job(timeout=3, max_attempts=1)
def counts_for_long(tags: list[str], note: str) -> int:
    """Ask what takes the store long, and leave a note just before and just after."""
    Path(note).write_text("asks")
    count = jobs.count(tags=tags).total
    Path(note).write_text("knows")
    return count


@jobs.job(timeout=1, max_attempts=1)
def outlasts_its_time() -> None:
    """Sleep for longer than it may."""
    time.sleep(60)


@jobs.job(timeout=30)
def cancels(job_id: str) -> str:
    """Cancel another job."""
    return str(jobs.cancel(job_id).state)


ENGINES: dict[str, Callable[[], Any]] = {
    "start": jobs.start,
    "run": jobs.run,
    "stop": jobs.stop,
    "migrate": jobs.migrate,
}


@jobs.job(timeout=30)
def meddles(what: str) -> str:
    """Call what belongs to the outside."""
    try:
        return repr(ENGINES[what]())
    except ConfigError as error:
        return f"ConfigError: {error}"


@jobs.job(timeout=30)
def runs_an_engine() -> int:
    """`with jobs.running()` inside a job starts nothing; a job enqueued there is run by our engine."""
    with jobs.running():
        return add.enqueue(20, 1).result(timeout=25)


@jobs.job
def tells(ctx: JobContext, extra: str = "") -> dict[str, Any]:
    """What its context says."""
    current = current_job()
    assert current is not None
    return {
        "attempt": ctx.attempt,
        "token": ctx.token,
        "id": str(ctx.job.id),
        "name": ctx.job.name,
        "queue": ctx.job.queue,
        "args": ctx.job.args,
        "tags": list(ctx.job.tags),
        "meta": ctx.job.meta,
        "has_deadline": ctx.deadline is not None,
        "same": current is ctx,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "extra": extra,
    }


@jobs.job
class Report(JobClass):
    """A job with a constructor."""

    def __init__(self, region: str, *, pages: int = 1) -> None:
        self.region = region
        self.pages = pages

    def run(self, day: date) -> Path:
        """Where the report would be."""
        assert isinstance(day, date)
        return Path(f"{self.region}-{day.isoformat()}-{self.pages}.txt")


@dataclass
class Order:
    """A value of our own."""

    number: int
    lines: list[str]


@jobs.job
async def ships(order: Order, pause: float) -> Order:
    """A coroutine with a value of our own in and out."""
    assert isinstance(order, Order)
    await asyncio.sleep(pause)
    return Order(order.number + 1, [line.upper() for line in order.lines])


@jobs.job
async def fails_awaiting() -> None:
    """A coroutine that raises."""
    await asyncio.sleep(0)
    raise LookupError("awaited")


@jobs.job(timeout=1, max_attempts=1)
async def hangs_awaiting() -> None:
    """A coroutine that blocks its loop for good."""
    time.sleep(600)
