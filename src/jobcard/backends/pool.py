"""Connections to a server: opened when first needed, lent to one thread at a time, never used by a forked child."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from jobcard.errors import StoreError, StoreUnavailableError


class Connected(Hashable, Protocol):
    """A connection as a pool sees it. opened_at: monotonic seconds."""

    opened_at: float

    def is_usable(self) -> bool:
        """False: it was closed, left in the middle of something, or the server has said goodbye."""
        ...

    def abandon(self) -> None:
        """Let go of its socket without a word to the server: it is the parent's."""
        ...

    def close(self) -> None:
        """Say goodbye to the server."""
        ...


C = TypeVar("C", bound=Connected)

_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()
_left_behind: list[object] = []  # the parent's connections in a forked child: never touched, never closed


class Pool(Generic[C]):
    """At most `size` connections, each made by `open_one`. Threads need it, no thread runs in it."""

    def __init__(self, open_one: Callable[[], C], *, size: int, timeout: float, recycle: float | None) -> None:
        self._open_one = open_one
        self._size = size
        self._timeout = timeout
        self._recycle = recycle
        self._closed = False
        self._places = threading.Semaphore(size)
        self._idle: list[C] = []
        self._open: set[C] = set()
        self._forget = weakref.finalize(self, _close_all, self._open, os.getpid())
        _pools.add(self)

    @contextlib.contextmanager
    def use(self, *, timeout: float | None = None) -> Iterator[C]:
        """Borrow a connection. timeout: seconds to wait for a free one, if not as long as usual."""
        if self._closed:
            raise StoreError("this store is closed")
        wait = self._timeout if timeout is None else timeout
        if not self._places.acquire(timeout=wait):
            raise StoreUnavailableError(f"no connection came free within {wait:g} s (pool_timeout)")
        try:
            connection = self._take_idle() or self._make()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._places.release()

    def _take_idle(self) -> C | None:
        while (connection := self._pop()) is not None:
            too_old = self._recycle is not None and time.monotonic() - connection.opened_at > self._recycle
            # Also one whose server went away meanwhile, so that nobody meets an error for it.
            if not too_old and connection.is_usable():
                return connection
            self._drop(connection)
        return None

    def _pop(self) -> C | None:
        try:
            return self._idle.pop()
        except IndexError:  # also when another thread, or `close`, took the last one
            return None

    def _make(self) -> C:
        connection = self._open_one()
        self._open.add(connection)
        return connection

    def _give_back(self, connection: C) -> None:
        if self._closed or not connection.is_usable():
            self._drop(connection)
        else:
            self._idle.append(connection)

    def _drop(self, connection: C) -> None:
        self._open.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close what is idle now; what is lent out follows when its call has ended."""
        self._closed = True
        while (connection := self._pop()) is not None:
            self._drop(connection)

    def in_child(self) -> None:
        """In a forked child: let go of the parent's sockets without a word to the server."""
        for connection in self._open:
            connection.abandon()
        # Kept for ever: their destructors would speak to whatever has these descriptors by then.
        _left_behind.append((self._open, self._idle))
        self._forget.detach()
        self._open, self._idle = set(), []
        self._forget = weakref.finalize(self, _close_all, self._open, os.getpid())
        self._places = threading.Semaphore(self._size)


def _close_all(connections: set[C], process: int) -> None:
    # Of a store that was forgotten instead of closed.
    if os.getpid() == process:
        for connection in list(connections):
            connection.close()


def _after_in_child() -> None:
    for pool in list(_pools):
        pool.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
