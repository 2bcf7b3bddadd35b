"""Running one job in this very process: for engines without child processes, and for tests.

The one place where these go through what a worker process does with a job (`workers/runtime.py`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from jobcard.core import context
from jobcard.core.context import JobContext
from jobcard.core.definition import JobDefinition
from jobcard.core.job import Claimed
from jobcard.core.signals import Cancel, JobSignal, Told
from jobcard.errors import InvalidJobError, SerializationError
from jobcard.workers import runtime
from jobcard.workers.messages import Why

Said = tuple[str | None, dict[str, Any] | None]
"""How a job ended: (result, None), or (None, the words of `messages.ENDED`)."""


class Running:
    """One job that runs in this process, and how it is told to end."""

    def __init__(self, app: Any, claim: Claimed) -> None:
        """app: a `Jobcard`, or what has its `registry` and `codec`."""
        self.claim = claim
        self.told: tuple[Why, str] | None = None
        self.error: BaseException | None = None
        """What the job raised, if that ended it."""
        self.definition: JobDefinition | None = app.registry.find(claim.name)
        self._codec = app.codec
        self._context = HereContext(self, app.codec)
        self._task: asyncio.Task[Any] | None = None
        self._lock = threading.Lock()

    @property
    def is_async(self) -> bool:
        return self.definition is not None and self.definition.is_async

    def tell(self, why: Why, reason: str) -> None:
        """Tell it to end: a coroutine is cancelled, a function sees `ctx.cancelled`. Any thread may."""
        with self._lock:
            if self.told is not None:
                return
            self.told = (why, reason)
            if self._task is not None:  # then its loop runs: only the loop itself takes it away, under this lock
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def run(self) -> Said:
        """Run it to its end in this thread, a coroutine on an event loop of its own."""
        if self.is_async:
            return asyncio.run(self.run_async())
        call, said = self._begin(in_loop=False)
        if call is None:
            return said
        token = context.current.set(self._context)
        try:
            value = call()
        except BaseException as error:
            return self._raised(error)
        finally:
            context.current.reset(token)
        return self._returned(value)

    async def run_async(self) -> Said:
        """The same on the event loop of this thread; a function blocks it."""
        call, said = self._begin(in_loop=True)
        if call is None:
            return said
        token = context.current.set(self._context)
        try:
            value = await self._as_task(call) if self.is_async else call()
        except BaseException as error:
            return self._raised(error)
        finally:
            context.current.reset(token)
        return self._returned(value)

    async def _as_task(self, call: Callable[[], Any]) -> Any:
        # A task of its own: being told cancels the job, not whoever waits for it here.
        task = asyncio.ensure_future(call())
        with self._lock:
            self._task = task
            if self.told is not None:
                task.cancel()
        try:
            return await task
        finally:
            with self._lock:
                self._task = None

    def _begin(self, *, in_loop: bool) -> tuple[Callable[[], Any] | None, Said]:
        definition, claim = self.definition, self.claim
        if definition is None:
            return None, (None, runtime._unknown(claim))
        try:
            call = definition.prepare(self._codec, claim.init, claim.args, claim.kwargs, self._context, in_loop=in_loop)
        except (SerializationError, InvalidJobError) as error:
            # Retrying cannot help: the stored call does not fit the code.
            return None, (None, runtime._word("bad_call", definition, claim, error=error, reason=str(error)))
        return call, (None, None)

    def _returned(self, value: Any) -> Said:
        assert self.definition is not None
        if isinstance(value, JobSignal):
            return self._raised(value)
        try:
            return self.definition.dump_result(self._codec, value), None
        except (SerializationError, InvalidJobError) as error:
            word = runtime._word("serialization", self.definition, self.claim, error=error, reason=str(error))
            return None, word
        except Exception as error:
            return self._raised(error)

    def _raised(self, error: BaseException) -> Said:
        assert self.definition is not None
        self.error = error
        if self.told is not None and isinstance(error, (Cancel, asyncio.CancelledError)):
            return None, {"kind": "told", "reason": self.told[1], "delay": None, "error": None, "error_kind": None}
        return None, runtime._ended_by(error, self.definition, self.claim)


class HereContext(JobContext):
    """The context of a job that runs in the process of whoever tells it to end."""

    def __init__(self, running: Running, codec: Any) -> None:
        super().__init__(running.claim, codec, deadline=runtime._deadline(running.claim))
        self._running = running

    @property
    def cancelled(self) -> bool:
        """Whether the job was told to end."""
        return self._running.told is not None

    @property
    def cancel_reason(self) -> str | None:
        """Why, in the words of whoever wants it; None: it was not told to."""
        told = self._running.told
        return None if told is None else told[1]

    def raise_if_cancelled(self) -> None:
        """End the job here if it was told to."""
        if self._running.told is not None:
            raise Told(self._running.told[1])
