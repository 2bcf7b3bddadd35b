"""Wake-ups by looking: MySQL has nothing to listen to, so a thread asks it now and then whether anything is new.

They are hints: nothing is lost when one is, engines look for themselves as well. The thread asks and not the engine,
which must not wait for a server that hangs; to the engine this is a descriptor like any other.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

from jobcard.backends.base import Waker
from jobcard.backends.pool import Pool
from jobcard.backends.sql.connection import Connection, only_row
from jobcard.backends.sql.statements import Statements
from jobcard.errors import JobcardError

_log = logging.getLogger("jobcard.store")

BUSY_GAP, IDLE_GAP = 0.005, 0.015
"""Seconds between two looks, soon after something was new and later. Measured: half of all jobs start within 12 ms
on an idle engine, at one part in a hundred of a core; every 5 ms would cost four times as much, for ever."""

_BUSY_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # after a look that failed


class Watch:
    """Looks at a store and makes a descriptor readable when what it sees has changed."""

    def __init__(self, look: Callable[[], object], forget: Callable[[], None]) -> None:
        """look: what changes with the store. forget: lets go of what `look` uses."""
        self._look = look
        self._forget = forget
        self._closed = threading.Event()
        self._awake, self._waken = socket.socketpair()
        self._awake.setblocking(False)
        self._waken.setblocking(False)
        # Seen before anybody waits: what comes from now on is new.
        self._seen = self._try()
        self._thread = threading.Thread(target=self._run, name="jobcard-watch", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable at a hint."""
        return self._awake.fileno()

    def drain(self) -> None:
        """Empty it; however many hints came, one look is enough."""
        with contextlib.suppress(OSError):
            while self._awake.recv(64):
                pass

    def _run(self) -> None:
        busy_until = 0.0
        pause = 0.0
        while not self._closed.wait(pause or (BUSY_GAP if time.monotonic() < busy_until else IDLE_GAP)):
            found = self._try()
            if found is None:
                pause = min(_LONGEST_PAUSE, 2 * pause or _FIRST_PAUSE)
                continue
            pause = 0.0
            if found != self._seen:
                self._seen = found
                busy_until = time.monotonic() + _BUSY_SECONDS
                with contextlib.suppress(OSError):  # full of unread hints, or closed
                    self._waken.send(b"!")
        self._forget()

    def _try(self) -> object | None:
        try:
            return self._look()
        except JobcardError as error:
            _log.debug("a look for something new failed: %s", error)
            return None

    def close(self) -> None:
        """Look no more; the thread ends by itself, at once or when its last look has been answered."""
        if not self._closed.is_set():
            self._closed.set()
            self._awake.close()
            self._waken.close()


def watch(pool: Pool[Connection], sql: Statements) -> Waker:
    """A waker by a thread that looks. pool: what it looks with, closed at its end."""
    statement = sql["last_news"]

    def look() -> object:
        with pool.use() as connection:
            return only_row(connection.execute(statement))

    watcher = Watch(look, pool.close)
    return Waker(fd=watcher.fileno(), drain=watcher.drain, close=watcher.close)
