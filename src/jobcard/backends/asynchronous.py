"""Any store, awaitable: its calls run on threads, and one that has begun is finished whatever becomes of the caller."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary, WeakSet

from jobcard.backends.base import Backend, Capabilities, Enqueued, Waker
from jobcard.core import limits
from jobcard.core.job import NewJob
from jobcard.errors import ConfigError, EnqueueUnknownError, StoreError

P = ParamSpec("P")
T = TypeVar("T")

Send = Callable[[Sequence[NewJob]], list[Enqueued]]
Answer = list[Enqueued] | BaseException

THREADS = 8
"""How many calls run beside each other; others wait for their turn."""

VERBS = tuple(name for name, verb in vars(Backend).items() if inspect.isfunction(verb) and not name.startswith("_"))
"""The verbs of the contract."""
ONE_BY_ONE = frozenset({"exchange"})
"""Those of which a store is never asked two at once."""


class AsyncBackend:
    """Any store, with every verb of `Backend` as a coroutine, for any number of event loops.

    Calls run beside each other but for exchanges, which go one by one; what is enqueued while an earlier enqueue of
    the same event loop runs goes out with the next one. Cancelled before its call has begun, a coroutine leaves no
    trace; afterwards the call is finished. `close` lets go of the store when all calls have ended. A forked child may
    go on with it. What a `Waker` does never waits, and is called as it is.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._closing: Future[None] | None = None
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        self._calls = Calls(THREADS, what="store")
        self._line = Calls(1, what="store")
        self._bundles = Bundles(self._calls, self._backend.enqueue)

    @property
    def capabilities(self) -> Capabilities:
        """How this store differs from others."""
        return self._backend.capabilities

    async def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """As `Backend.enqueue`; a call that the store refuses takes no other with it.

        within: it is used on a thread of this facade, and by nobody else meanwhile.
        """
        if within is not None:
            return await self._calls.run(self._backend.enqueue, jobs, within=within)
        return await self._bundles.add(jobs)

    async def close(self) -> None:
        """Let go of the store once all calls have ended; calling it twice is fine, and later calls are refused."""
        if self._closing is None:
            self._closing = self._line.submit(self._close)
            self._line.shut()
            self._calls.shut()
        await _end_of(self._closing)

    def _close(self) -> None:
        self._calls.close()
        self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    if TYPE_CHECKING:

        def __getattr__(self, verb: str) -> Callable[..., Coroutine[Any, Any, Any]]: ...


def _awaitable(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(getattr(Backend, name))
    async def call(self: AsyncBackend, *args: Any, **kwargs: Any) -> Any:
        calls = self._line if name in ONE_BY_ONE else self._calls
        return await calls.run(getattr(self._backend, name), *args, **kwargs)

    return call


# From the contract, so that a new verb is awaitable at once.
for _name in VERBS:
    if _name not in vars(AsyncBackend):
        setattr(AsyncBackend, _name, _awaitable(_name))


_living: WeakSet[AsyncBackend] = WeakSet()


def _after_fork() -> None:
    for facade in list(_living):
        if facade._closing is None:
            facade._begin()  # its threads stayed with the parent


os.register_at_fork(after_in_child=_after_fork)


class Calls:
    """Runs blocking calls on threads of its own for any number of event loops."""

    def __init__(self, threads: int, *, what: str) -> None:
        """what: how a refusal calls that which is closed."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="jobcard-async")
        self._what = what

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await a blocking call. Cancelled before it has begun it is not made; afterwards it is finished."""
        work = self.submit(partial(call, *args, **kwargs))
        try:
            await _end_of(work)
        except BaseException:
            if not work.cancel():
                work.add_done_callback(_let_go)
            raise
        return work.result()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Begin a call as soon as a thread is free."""
        try:
            return self._pool.submit(work)
        except RuntimeError:
            raise ConfigError(f"this {self._what} is closed") from None

    def shut(self) -> None:
        """Take no more calls."""
        self._pool.shutdown(wait=False)

    def close(self) -> None:
        """Take no more calls, and wait for the end of those there are."""
        self._pool.shutdown()


async def _end_of(work: Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    work.add_done_callback(lambda _: tell_loop(loop, partial(set_result, ended, None)))
    await ended


def _let_go(work: Future[Any]) -> None:
    # Nobody is left who would close it.
    if not work.cancelled() and work.exception() is None and isinstance(work.result(), Waker):
        work.result().close()


class Bundles:
    """The enqueues of each event loop: while one call runs, what comes gathers and goes out as the next."""

    def __init__(self, calls: Calls, send: Send) -> None:
        self._calls = calls
        self._send = send
        self._of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Bundle] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._of_loops)

    async def add(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store jobs, all or nothing, together with what gathers meanwhile."""
        loop = asyncio.get_running_loop()
        bundle = self._of_loops.get(loop)
        if bundle is None:
            bundle = self._of_loops[loop] = Bundle(self._calls, self._send)
        return await bundle.add(jobs)


class Bundle:
    """The enqueues of one event loop."""

    # It must not hold its loop: it is kept as long as the loop is.

    def __init__(self, calls: Calls, send: Send) -> None:
        self._calls = calls
        self._send = send
        self._gathered: list[tuple[Sequence[NewJob], asyncio.Future[list[Enqueued]]]] = []
        self._sending = False

    async def add(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store jobs. Cancelled before they were sent, none is stored; afterwards all may be, once."""
        answer: asyncio.Future[list[Enqueued]] = asyncio.get_running_loop().create_future()
        self._gathered.append((jobs, answer))
        if not self._sending:
            self._send_next(answer.get_loop())
        return await answer

    def _send_next(self, loop: asyncio.AbstractEventLoop) -> None:
        wanted = [item for item in self._gathered if not item[1].cancelled()]
        fitting = _how_many_fit([len(jobs) for jobs, _ in wanted])
        now, self._gathered = wanted[:fitting], wanted[fitting:]
        self._sending = bool(now)
        if not now:
            return
        try:
            self._calls.submit(partial(self._work, loop, now))
        except ConfigError as error:
            self._sending = False
            refused, self._gathered = now + self._gathered, []
            for _, answer in refused:
                _set_error(answer, error)

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        bundle: Sequence[tuple[Sequence[NewJob], asyncio.Future[list[Enqueued]]]],
    ) -> None:
        answers = _send_all(self._send, [jobs for jobs, _ in bundle])
        if not tell_loop(loop, partial(self._settle, loop, [future for _, future in bundle], answers)):
            self._gathered.clear()  # their futures hold the loop

    def _settle(
        self,
        loop: asyncio.AbstractEventLoop,
        futures: Sequence[asyncio.Future[list[Enqueued]]],
        answers: Sequence[Answer],
    ) -> None:
        for future, answer in zip(futures, answers, strict=True):
            if isinstance(answer, BaseException):
                _set_error(future, answer)
            else:
                set_result(future, answer)
        self._send_next(loop)


def _how_many_fit(sizes: Sequence[int]) -> int:
    """How many calls of these sizes one enqueue takes; a call is never divided."""
    total = 0
    for place, size in enumerate(sizes):
        total += size
        if place and total > limits.BULK:
            return place
    return len(sizes)


def _send_all(send: Send, calls: Sequence[Sequence[NewJob]]) -> list[Answer]:
    """Several calls as one; an answer for each."""
    try:
        answers = send(calls[0] if len(calls) == 1 else [job for jobs in calls for job in jobs])
    except EnqueueUnknownError as error:
        # Each caller hears of its own jobs only.
        return [_unknown(jobs, error) for jobs in calls]
    except StoreError as error:
        return [error] * len(calls)
    except BaseException as error:
        if len(calls) == 1:
            return [error]
        # One of them cannot be stored; the others have nothing to do with it.
        return [answer for jobs in calls for answer in _send_all(send, [jobs])]
    rest = iter(answers)
    return [[next(rest) for _ in jobs] for jobs in calls]


def _unknown(jobs: Sequence[NewJob], error: EnqueueUnknownError) -> EnqueueUnknownError:
    own = EnqueueUnknownError([UUID(bytes=job.id) for job in jobs])
    own.__cause__ = error.__cause__
    return own


def set_result(future: asyncio.Future[T], value: T) -> None:
    """Unless nobody waits any more."""
    if not future.done():
        future.set_result(value)


def _set_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def tell_loop(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> bool:
    """Have the loop call this, from any thread; False: it is closed, so nobody waits there."""
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        return False
    return True
