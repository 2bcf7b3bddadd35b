"""The blocking client, awaitable: its calls run on threads and finish even if whoever awaits them is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from jobcard.backends.base import Enqueued
from jobcard.core import limits
from jobcard.core.job import NewJob
from jobcard.errors import ConfigError, EnqueueUnknownError, StoreError

if TYPE_CHECKING:
    from jobcard.client.watcher import Told, Watcher

P = ParamSpec("P")
T = TypeVar("T")

Send = Callable[[Sequence[NewJob]], list[Enqueued]]
Answer = Enqueued | BaseException

_THREADS = 8


class Threads:
    """Runs one client's blocking calls for any number of event loops."""

    def __init__(self, send: Send) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobcard-async")
        self._send = send
        self._bundles: WeakKeyDictionary[asyncio.AbstractEventLoop, Bundle] = WeakKeyDictionary()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await a blocking call."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            try:
                settle = partial(_set_result, done, call(*args, **kwargs))
            except BaseException as error:
                settle = partial(_set_error, done, error)
            _tell_loop(loop, settle)

        _submit(self._pool, work)
        return await done

    async def enqueue(self, job: NewJob) -> Enqueued:
        """Store one job, together with what gathers while an earlier call runs."""
        loop = asyncio.get_running_loop()
        bundle = self._bundles.get(loop)
        if bundle is None:
            bundle = self._bundles[loop] = Bundle(self._pool, self._send)
        return await bundle.add(job)

    async def wait(self, watcher: Watcher, job_id: bytes, timeout: float | None) -> Told | None:
        """What the watcher tells of this job; None: nothing within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[Told] = loop.create_future()

        def tell(told: Told) -> None:
            _tell_loop(loop, partial(_set_result, heard, told))

        watcher.watch(job_id, tell)
        try:
            await asyncio.wait([heard], timeout=timeout)
            return heard.result() if heard.done() else None
        finally:
            watcher.unwatch(job_id, tell)

    def close(self) -> None:
        """Let the calls under way finish and end the threads; what has only gathered is refused."""
        self._pool.shutdown()


class Bundle:
    """The enqueues of one event loop: while one call runs, what comes gathers and goes out as the next."""

    # It must not hold its loop: it is kept as long as the loop is.

    def __init__(self, pool: ThreadPoolExecutor, send: Send) -> None:
        self._pool = pool
        self._send = send
        self._gathered: list[tuple[NewJob, asyncio.Future[Enqueued]]] = []
        self._sending = False

    async def add(self, job: NewJob) -> Enqueued:
        """Store one job. Cancelled before it was sent, it is not stored; afterwards it may be, once."""
        answer: asyncio.Future[Enqueued] = asyncio.get_running_loop().create_future()
        self._gathered.append((job, answer))
        if not self._sending:
            self._send_next(answer.get_loop())
        return await answer

    def _send_next(self, loop: asyncio.AbstractEventLoop) -> None:
        wanted = [item for item in self._gathered if not item[1].cancelled()]
        now, self._gathered = wanted[: limits.BULK], wanted[limits.BULK :]
        self._sending = bool(now)
        if not now:
            return
        try:
            _submit(self._pool, partial(self._work, loop, now))
        except ConfigError as error:
            self._sending = False
            refused, self._gathered = now + self._gathered, []
            for _, answer in refused:
                _set_error(answer, error)

    def _work(self, loop: asyncio.AbstractEventLoop, batch: Sequence[tuple[NewJob, asyncio.Future[Enqueued]]]) -> None:
        answers = _send_each(self._send, [job for job, _ in batch])
        if not _tell_loop(loop, partial(self._settle, loop, [future for _, future in batch], answers)):
            self._gathered.clear()  # their futures hold the loop

    def _settle(
        self,
        loop: asyncio.AbstractEventLoop,
        futures: Sequence[asyncio.Future[Enqueued]],
        answers: Sequence[Answer],
    ) -> None:
        for future, answer in zip(futures, answers, strict=True):
            if isinstance(answer, BaseException):
                _set_error(future, answer)
            else:
                _set_result(future, answer)
        self._send_next(loop)


def _send_each(send: Send, jobs: Sequence[NewJob]) -> Sequence[Answer]:
    try:
        return send(jobs)
    except EnqueueUnknownError as error:
        # Each caller hears of its own job only.
        return [_unknown(job, error) for job in jobs]
    except StoreError as error:
        return [error] * len(jobs)
    except BaseException as error:
        if len(jobs) == 1:
            return [error]
        # One of them cannot be stored; the others have nothing to do with it.
        return [answer for job in jobs for answer in _send_each(send, [job])]


def _unknown(job: NewJob, error: EnqueueUnknownError) -> EnqueueUnknownError:
    own = EnqueueUnknownError([UUID(bytes=job.id)])
    own.__cause__ = error.__cause__
    return own


def _set_result(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _set_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _tell_loop(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> bool:
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return False
    return True


def _submit(pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    try:
        pool.submit(work)
    except RuntimeError:
        raise ConfigError("this Jobcard is closed") from None
