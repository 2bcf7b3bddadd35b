"""Calls left by other threads for the one thread that waits at a selector."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections import deque
from collections.abc import Callable


class Mailbox:
    """What any thread, or a signal handler, wants done in the thread of a selector."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        # Without a lock: a signal handler may come while its own thread is in here.
        self._calls: deque[Callable[[], None]] = deque()
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
        selector.register(self._read, selectors.EVENT_READ, self._empty)

    def post(self, call: Callable[[], None]) -> None:
        """Have this called there, after what was posted before; after `close` it never is."""
        self._calls.append(call)
        with contextlib.suppress(OSError):  # full: it will be looked into anyway; closed: nobody will
            self._write.send(b"!")

    def close(self) -> None:
        """Nobody looks into it any more."""
        self._selector.unregister(self._read)
        self._read.close()
        self._write.close()

    def _empty(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._read.recv(1 << 12)
        for _ in range(len(self._calls)):  # those that come meanwhile have rung again
            self._calls.popleft()()
