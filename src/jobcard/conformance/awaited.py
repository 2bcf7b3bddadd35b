"""The async facade for checks that know no coroutines: each call is awaited on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from jobcard.backends.asynchronous import VERBS, AsyncBackend
from jobcard.backends.base import Backend, Capabilities

T = TypeVar("T")


class _Loop:
    """An event loop that runs until it is stopped."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="conformance-loop", daemon=True)
        self._thread.start()

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def awaited(backend: Backend) -> Backend:
    """The same store behind an `AsyncBackend`: what several threads ask at once are coroutines of one event loop."""
    return cast(Backend, _Awaited(backend))


class _Awaited:
    def __init__(self, backend: Backend) -> None:
        self._facade = AsyncBackend(backend)
        self._lock = threading.Lock()
        self._loop: _Loop | None = None

    @property
    def capabilities(self) -> Capabilities:
        """The store's own."""
        return self._facade.capabilities

    def close(self) -> None:
        """Close the facade, and with it the backend."""
        self._run().wait_for(self._facade.close())
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()

    def _run(self) -> _Loop:
        with self._lock:
            # A forked child has the parent's loop, and no thread that runs it.
            if self._loop is None or self._loop.pid != os.getpid():
                self._loop = _Loop()
            return self._loop


def _blocking(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(Backend, name))
    def call(self: _Awaited, *args: Any, **kwargs: Any) -> Any:
        return self._run().wait_for(getattr(self._facade, name)(*args, **kwargs))

    return call


for _name in VERBS:
    if _name not in vars(_Awaited):
        setattr(_Awaited, _name, _blocking(_name))
