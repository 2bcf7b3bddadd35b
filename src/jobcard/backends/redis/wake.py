"""Wake-ups: scripts publish on the store's channel, engines listen with a connection of their own. Hints only."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from jobcard.backends.base import Waker

_log = logging.getLogger("jobcard.store")

_SILENCE = 15.0  # seconds without a word after which the server is asked whether it is there
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 15.0  # between tries to listen again


class Listener:
    """A thread that hears the channel, behind a pipe that stays the same when the connection has to be made anew."""

    def __init__(self, open_one: Callable[[], Any], channel: str) -> None:
        """open_one: makes a client of its own."""
        self._open_one = open_one
        self._channel = channel
        self._closed = threading.Event()
        self._client: Any = None
        self._subscription: Any = None
        self.fd, self._rung = os.pipe()
        for end in (self.fd, self._rung):
            os.set_blocking(end, False)
        try:
            self._listen()
        except (RedisError, OSError) as error:
            self._lost(type(error).__name__)
        self._thread = threading.Thread(target=self._hear, name="jobcard-listen", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Empty it; however many hints came, one look is enough."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 1 << 12):
                pass

    def close(self) -> None:
        """Hear nothing more."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._drop()  # what the thread waits for ends
        self._thread.join(1.0)
        if not self._thread.is_alive():  # it may be in the middle of a new connection; then they end with it
            self._close_pipe()

    # -------------------------------------------------------------- the thread

    def _hear(self) -> None:
        pause = _FIRST_PAUSE
        asked = False
        while not self._closed.is_set():
            try:
                if self._subscription is None:
                    if self._closed.wait(pause * random.uniform(0.5, 1.0)):
                        return
                    pause = min(_LONGEST_PAUSE, 2 * pause)
                    self._listen()
                    self._ring()  # what was published meanwhile was heard by nobody
                    asked, pause = False, _FIRST_PAUSE
                elif (said := self._subscription.get_message(timeout=_SILENCE)) is not None:
                    asked = False
                    if said["type"] == "message":
                        self._ring()
                elif asked:
                    self._lost("it says nothing any more")
                elif not self._closed.is_set():
                    self._subscription.ping()
                    asked = True
            except Exception as error:  # the driver's, or of a connection that was closed beside it
                self._lost(type(error).__name__)

    def _listen(self) -> None:
        self._client = self._open_one()
        subscription = self._client.pubsub()
        subscription.subscribe(self._channel)
        subscription.get_message(timeout=1.0)
        self._subscription = subscription
        if self._closed.is_set():
            self._drop()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: then it is readable
            os.write(self._rung, b"!")

    def _lost(self, why: object) -> None:
        if not self._closed.is_set():
            _log.info("wake-ups are lost until the server can be listened to again: %s", why)
        self._drop()

    def _drop(self) -> None:
        subscription, self._subscription = self._subscription, None
        client, self._client = self._client, None
        with contextlib.suppress(Exception):
            if subscription is not None and subscription.connection is not None:
                subscription.connection.disconnect()
        with contextlib.suppress(Exception):
            if client is not None:
                client.close()

    def _close_pipe(self) -> None:
        for end in (self.fd, self._rung):
            os.close(end)


def listen(open_one: Callable[[], Any], channel: str) -> Waker:
    """A waker on this channel, with a connection of its own."""
    listener = Listener(open_one, channel)
    return Waker(fd=listener.fd, drain=listener.drain, close=listener.close)
