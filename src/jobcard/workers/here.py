"""Running one job in this very process: for engines without child processes, and for tests.

The one place where these go through what a worker process does with a job (`workers/runtime.py`).
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, cast

from jobcard.core import context
from jobcard.core.definition import JobDefinition
from jobcard.core.job import Claimed
from jobcard.workers import messages, words
from jobcard.workers.notes import SharedLine
from jobcard.workers.pipes import Answer, Pipes
from jobcard.workers.runtime import Workbench

Hear = Callable[[list[Any]], None]
"""Takes a message of `messages`, from any thread."""


class Talk:
    """What stands in for a worker's pipes: what its jobs say is heard in the same process."""

    def __init__(self, hear: Hear) -> None:
        self.hear = hear
        self._inbox = messages.Inbox()
        self._posting = threading.RLock()
        self._calls = itertools.count(1)
        self._tell: dict[int, Callable[[Answer], None]] = {}
        self._queues: dict[int, SimpleQueue[Answer]] = {}

    def bench(self, app: Any) -> Workbench:
        """What jobs of this application are run with, saying what they say here."""
        return Workbench(app, cast(Pipes, self))

    def post(self, frame: bytes) -> None:
        """Hear what a job says."""
        with self._posting:
            for message in self._inbox.feed(frame):
                self.hear(message)

    def push(self) -> None:
        """It has been heard."""

    def check_process(self) -> None:
        """A process that a job has forked finds nobody who listens; it is on its own in any case."""

    def new_call(self, tell: Callable[[Answer], None] | None = None) -> int:
        """A number for a question, as `Pipes.new_call`."""
        call = next(self._calls)
        if tell is None:
            tell = self._queues.setdefault(call, SimpleQueue()).put
        self._tell[call] = tell
        return call

    def wait_for(self, call: int) -> Answer:
        """The answer to a question of this thread."""
        try:
            return self._queues[call].get()
        finally:
            del self._queues[call]

    def answer(self, call: int, error: dict[str, Any] | None, answer: bytes | None) -> None:
        """Whoever asked hears this."""
        tell = self._tell.pop(call, None)
        if tell is not None:
            tell((error, answer))


class HereLine(SharedLine):
    """The line of a job to an engine of the same process."""

    def __init__(self, bench: Workbench, seq: int, job_id: bytes, shared_loop_thread: int | None) -> None:
        super().__init__(bench.book, seq, job_id, cast(Any, None), shared_loop_thread or -1)
        self.is_started = True  # said by whoever runs it, before it runs


class Running:
    """One job that runs in this process, and how it is told to end."""

    def __init__(self, bench: Workbench, seq: int, claim: Claimed, *, shared_loop_thread: int | None = None) -> None:
        """shared_loop_thread: the thread whose event loop it must not block."""
        self.claim = claim
        self.error: BaseException | None = None
        """What the job raised, if that ended it."""
        self.definition: JobDefinition | None = bench.find(claim.name)
        self.started = time.monotonic()
        self.line = HereLine(bench, seq, claim.id, shared_loop_thread)
        self._bench = bench
        self._task: asyncio.Task[Any] | None = None
        self._lock = threading.Lock()

    @property
    def is_async(self) -> bool:
        return self.definition is not None and self.definition.is_async

    def tell(self, reason: str) -> None:
        """Tell it to end: a coroutine is cancelled, a function sees `ctx.cancelled`. Any thread may."""
        with self._lock:
            if self.line.reason is not None:
                return
            self.line.reason = reason
            if self._task is not None:  # then its loop runs: only the loop itself takes it away, under this lock
                self.line.heard = True
                self._task.get_loop().call_soon_threadsafe(self._task.cancel, reason)

    def run(self) -> list[Any]:
        """Run it to its end in this thread, a coroutine on an event loop of its own; its last message."""
        if self.is_async:
            return asyncio.run(self.run_async())
        return contextvars.copy_context().run(self._run)

    def _run(self) -> list[Any]:
        call, said = self._begin()
        if call is None:
            return said
        try:
            value = call()
        except BaseException as error:
            return self._raised(error)
        return self._returned(value)

    async def run_async(self) -> list[Any]:
        """The same on the event loop of this thread; a function blocks it."""
        if not self.is_async:
            return self.run()
        # A task of its own: being told cancels the job and not whoever waits for it here.
        return await asyncio.create_task(self._run_async())

    async def _run_async(self) -> list[Any]:
        call, said = self._begin()
        if call is None:
            return said
        try:
            return self._returned(await self._as_task(call))
        except BaseException as error:
            return self._raised(error)

    async def _as_task(self, call: Callable[[], Any]) -> Any:
        task = asyncio.ensure_future(call())
        with self._lock:
            if self.line.reason is not None:
                task.cancel(self.line.reason)
                self.line.heard = True
            self._task = task
        try:
            return await task
        finally:
            with self._lock:
                self._task = None

    def _begin(self) -> tuple[Callable[[], Any] | None, list[Any]]:
        if self.definition is None:
            return None, self._ended(words.unknown_name(self.claim))
        self._context = self._bench.context(self.claim, self.line)
        context.current.set(self._context)
        call, ended = self._bench.call_of(self.definition, self.claim, self._context)
        return call, [] if ended is None else self._ended(ended)

    def _returned(self, value: Any) -> list[Any]:
        assert self.definition is not None
        try:
            result, ended = self._bench.returned(self.definition, self.claim, value)
        except BaseException as error:
            return self._raised(error)
        if ended is not None:
            return self._ended(ended)
        self._close()
        if self.line.follow_ups:
            jobs = self.line.follow_ups
            return [messages.FOLLOWED, self.line.seq, self.started, time.monotonic(), result, jobs]
        return [messages.DONE, self.line.seq, self.started, time.monotonic(), result]

    def _raised(self, error: BaseException) -> list[Any]:
        assert self.definition is not None
        self.error = error
        return self._ended(words.ended_by(error, self.definition, self.claim, heard=self.line.heard))

    def _ended(self, word: dict[str, Any]) -> list[Any]:
        self._close()
        return [messages.ENDED, self.line.seq, self.started, time.monotonic(), word]

    def _close(self) -> None:
        rest = self.line.close()
        if rest is not None:
            self._bench.book.pipes.post(rest)
        if self.definition is not None:
            self._context.end()
