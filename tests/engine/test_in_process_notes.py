"""An engine in this process: coroutines side by side, jobs that are told, and what jobs say while they run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from helpers.waiting import wait_until
from jobcard import Jobcard, JobContext, JobFailedError, Queue

TIMEOUT = 30


@pytest.fixture
def jobs() -> Iterator[Jobcard]:
    queues = [Queue("default", concurrency=50)]
    with Jobcard("sqlite:///:memory:", queues=queues, max_concurrent_jobs=50, processes=2) as client:
        yield client


def test_coroutines_share_a_thread(jobs: Jobcard) -> None:
    """Many at once, more than there are slots for blocking jobs, on few loops."""
    met = 0
    threads: set[int] = set()
    everybody = threading.Event()

    @jobs.job
    async def meet() -> None:
        nonlocal met
        met += 1
        threads.add(threading.get_ident())
        if met == 20:
            everybody.set()
        while not everybody.is_set():
            await asyncio.sleep(0.01)

    with jobs.running(in_process=True):
        for handle in jobs.enqueue_many([meet.call() for _ in range(20)]):
            handle.result(timeout=TIMEOUT)
    assert len(threads) < 20


def test_a_running_job_can_be_looked_at(jobs: Jobcard) -> None:
    """Progress and checkpoints are stored while it runs."""
    gate = threading.Event()

    @jobs.job
    def index(ctx: JobContext) -> None:
        ctx.progress(0.5, "half")
        ctx.save_checkpoint({"row": 7})
        gate.wait(TIMEOUT)

    @jobs.job
    async def crawl(ctx: JobContext) -> None:
        await ctx.save_checkpoint_async({"page": 1})
        while not gate.is_set():
            await asyncio.sleep(0.01)

    with jobs.running(in_process=True):
        handles = [index.enqueue(), crawl.enqueue()]
        wait_until(lambda: handles[0].refresh().checkpoint == {"row": 7}, "the checkpoint of a function")
        wait_until(lambda: handles[1].refresh().checkpoint == {"page": 1}, "the checkpoint of a coroutine")
        progress = wait_until(lambda: handles[0].refresh().progress, "its progress")
        assert (progress.value, progress.text) == (0.5, "half")
        gate.set()
        for handle in handles:
            handle.result(timeout=TIMEOUT)


def test_a_canceled_job_is_told(jobs: Jobcard) -> None:
    """A coroutine is cancelled where it waits, a function sees it and may end as it likes."""
    started = threading.Semaphore(0)

    @jobs.job
    async def sleeper() -> None:
        started.release()
        await asyncio.sleep(600)

    @jobs.job
    def looks(ctx: JobContext) -> str:
        started.release()
        while not ctx.cancelled:
            threading.Event().wait(0.01)
        return "tidied up"

    with jobs.running(in_process=True):
        handles = [sleeper.enqueue(), looks.enqueue()]
        for _ in handles:
            assert started.acquire(timeout=TIMEOUT)
        for handle in handles:
            handle.cancel()
        with pytest.raises(JobFailedError) as caught:
            handles[0].result(timeout=TIMEOUT)
        assert caught.value.state == "canceled"
        assert handles[1].result(timeout=TIMEOUT) == "tidied up"


def test_a_stop_tells_what_still_runs(jobs: Jobcard) -> None:
    """Before the time is up, so that it can go back in good order."""
    jobs.configure(stop_timeout=6)
    started = threading.Event()

    @jobs.job
    async def sleeper() -> None:
        started.set()
        await asyncio.sleep(600)

    with jobs.running(in_process=True):
        handle = sleeper.enqueue()
        assert started.wait(TIMEOUT)
    job = handle.refresh()
    assert (job.state, job.attempt, job.interrupts) == ("waiting", 0, 1)
