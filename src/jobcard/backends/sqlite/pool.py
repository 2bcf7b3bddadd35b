"""Connections that are opened when first needed, lent to one thread at a time, and never carried over a fork."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobcard.backends.sqlite import files
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.files import FileConnection
from jobcard.errors import StoreError, StoreUnavailableError

_FORK_PATIENCE = 5.0
"""Seconds that a fork waits for other threads to give their connections back."""

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_left_behind: list[object] = []  # the parent's connections in a forked child: never touched, never closed


class Places:
    """A number of places, given to who waits longest: nobody passes, but for those who are to be first.

    With a semaphore a thread that writes one thing after another may take its own place again and again, and the
    engine's loop would stand behind it for as long as that goes on.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def take(self, timeout: float, *, first: bool = False) -> bool:
        """Take a place; False: none came free in time."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            (self._waiting.appendleft if first else self._waiting.append)(turn)
        if turn.acquire(timeout=timeout):
            return True
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return False
        return True  # at the last moment

    def give(self, number: int = 1) -> None:
        """Give places back."""
        with self._lock:
            for _ in range(number):
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._free += 1


class Pool:
    """At most `size` connections to one file, or the only one to a store in memory."""

    def __init__(
        self, open_file: Callable[[bool], FileConnection], *, size: int, timeout: float, recycle: float | None
    ) -> None:
        self._open_file = open_file
        self._size = size
        self._timeout = timeout
        self._recycle = recycle
        self._in_memory = False
        self._closed = False
        self._lost = False
        self._places = Places(size)
        self._idle: list[tuple[FileConnection, float]] = []
        _pools.add(self)

    @contextmanager
    def use(self, *, create: bool = False, first: bool = False) -> Iterator[Connection]:
        """Borrow a connection. create: make the file if there is none. first: before all who wait for one already."""
        if self._closed:
            raise StoreError("this store is closed")
        if self._lost:
            raise StoreError("a store in memory belongs to the process that made it; this is a forked child")
        if not self._places.take(self._timeout, first=first):
            raise StoreUnavailableError(f"no connection came free within {self._timeout:g} s (pool_timeout)")
        try:
            opened, since = self._take_idle() or (self._open(create), time.monotonic())
            try:
                yield opened.connection
            finally:
                if self._closed:
                    opened.close()
                else:
                    self._idle.append((opened, since))
        finally:
            self._places.give()

    def _open(self, create: bool) -> FileConnection:
        opened = self._open_file(create)
        self._in_memory = opened.key is None
        return opened

    def _take_idle(self) -> tuple[FileConnection, float] | None:
        while self._idle:
            opened, since = self._idle.pop()
            too_old = self._recycle is not None and not self._in_memory and time.monotonic() - since > self._recycle
            if not too_old and opened.is_current():
                return opened, since
            opened.close()
        return None

    def close(self) -> None:
        """Close what is idle now; what is lent out follows when its call has ended."""
        self._closed = True
        if self._take_all(self._timeout):
            self._close_idle()
            self._give_all()

    def _take_all(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        for taken in range(self._size):
            if not self._places.take(max(0.0, until - time.monotonic())):
                self._places.give(taken)
                return False
        return True

    def _give_all(self) -> None:
        self._places.give(self._size)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop()[0].close()

    def before_fork(self, patience: float) -> bool:
        """Close every connection and keep them closed until the fork is over; False: one was in use too long."""
        if not self._take_all(patience):
            return False
        if not self._in_memory:
            self._close_idle()
        return True

    def in_child(self) -> None:
        _left_behind.append(self._idle)
        self._idle = []
        self._lost = self._in_memory
        self._places = Places(self._size)


_held_for_fork: list[Pool] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    _fork_lock.acquire()
    until = time.monotonic() + _FORK_PATIENCE
    _held_for_fork.extend(pool for pool in list(_pools) if pool.before_fork(max(0.0, until - time.monotonic())))


def _after_in_parent() -> None:
    for pool in _held_for_fork:
        pool._give_all()
    _held_for_fork.clear()
    _fork_lock.release()


def _after_in_child() -> None:
    global _fork_lock
    _fork_lock = threading.Lock()
    _held_for_fork.clear()
    files.forget_after_fork()
    for pool in list(_pools):
        pool.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
