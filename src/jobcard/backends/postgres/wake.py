"""Wake-ups by LISTEN and NOTIFY. They are hints: nothing is lost when one is, engines look for themselves as well."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable

from jobcard.backends.base import Waker
from jobcard.backends.postgres.connection import Connection
from jobcard.backends.postgres.statements import Tables
from jobcard.errors import JobcardError

_log = logging.getLogger("jobcard.store")

GAP = 0.005
"""Seconds between two rings of one process: the whole server does one at a time."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 15.0  # between tries to listen again


def channel_of(tables: Tables) -> str:
    """The channel of a store; names of channels are one for the whole database, and short."""
    return f"jobcard_{hashlib.sha256(tables.qualified.encode()).hexdigest()[:16]}"


class Bell:
    """Says when a process may ring: at once, or a little later if it has just done so. No change goes unrung."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._rung_at = float("-inf")
        self._later: threading.Timer | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()

    def may_ring(self) -> bool:
        """True: whoever asks rings. False: it is too soon, and `ring_later` is to be called when all is stored."""
        with self._here():
            if self._later is not None or time.monotonic() < self._rung_at + GAP:
                return False
            self._rung_at = time.monotonic()
            return True

    def ring_later(self) -> None:
        """Ring once the gap is over. Not to be called before a commit: the engines would look too early."""
        with self._here():
            if self._later is None:
                self._later = threading.Timer(max(0.0, self._rung_at + GAP - time.monotonic()), self._ring_later)
                self._later.name = "jobcard-bell"
                self._later.start()

    def _here(self) -> threading.Lock:
        if self._process != os.getpid():
            # A forked child: the parent's lock may be held and its timer is not here.
            self._lock, self._later, self._process = threading.Lock(), None, os.getpid()
        return self._lock

    def _ring_later(self) -> None:
        with self._lock:
            self._later = None
            self._rung_at = time.monotonic()
        with contextlib.suppress(JobcardError):
            self._ring()

    def close(self) -> None:
        """Ring what is still to be rung."""
        if self._process == os.getpid() and (later := self._later) is not None:
            later.join()


class Listener:
    """A connection that hears the bell, behind one descriptor that stays the same when it has to be made anew."""

    def __init__(self, open_one: Callable[[], Connection], channel: str) -> None:
        self._open_one = open_one
        self._channel = channel
        self._closed = threading.Event()
        self._lock = threading.Lock()
        # A selector's own descriptor is readable whenever one of those in it is.
        self._selector = selectors.DefaultSelector()
        self._awake, self._waken = socket.socketpair()
        self._awake.setblocking(False)
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._connection: Connection | None = None
        try:
            self._listen()
        except JobcardError as error:
            self._lost(error)

    def fileno(self) -> int:
        """Readable at a hint."""
        return self._selector.fileno()

    def drain(self) -> None:
        """Empty it; however many hints came, one look is enough."""
        with contextlib.suppress(BlockingIOError):
            while self._awake.recv(64):
                pass
        with self._lock:
            if self._connection is None or self._closed.is_set():
                return
            raw = self._connection.raw.pgconn
            try:
                raw.consume_input()
                while raw.notifies() is not None:
                    pass
                if self._connection.is_usable():
                    return
                reason: Exception | None = None
            except Exception as error:
                reason = error
            self._drop()
        self._lost(reason)

    def _listen(self) -> None:
        connection = self._open_one()
        try:
            connection.execute(f"listen {self._channel}", prepare=False)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if self._closed.is_set():
                connection.close()
                return
            self._connection = connection
            self._selector.register(connection.fileno, selectors.EVENT_READ)

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(self._registered())
            self._connection.close()
            self._connection = None

    def _registered(self) -> int:
        [descriptor] = [key.fd for key in self._selector.get_map().values() if key.fileobj is not self._awake]
        return descriptor

    def _lost(self, why: Exception | None) -> None:
        _log.info("wake-ups are lost until PostgreSQL can be listened to again: %s", why or "the connection ended")
        # Beside whoever waits here: a server that is away may keep a new connection waiting for seconds.
        threading.Thread(target=self._listen_again, name="jobcard-listen", daemon=True).start()

    def _listen_again(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.wait(pause * random.uniform(0.5, 1.0)):
            try:
                self._listen()
            except JobcardError:
                pause = min(_LONGEST_PAUSE, 2 * pause)
            else:
                # What was rung meanwhile was heard by nobody.
                with contextlib.suppress(OSError):
                    self._waken.send(b"!")
                return

    def close(self) -> None:
        """Hear nothing more."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            self._drop()
            self._selector.close()
            self._awake.close()
            self._waken.close()


def listen(open_one: Callable[[], Connection], channel: str) -> Waker:
    """A waker on this channel, with a connection of its own."""
    listener = Listener(open_one, channel)
    return Waker(fd=listener.fileno(), drain=listener.drain, close=listener.close)
