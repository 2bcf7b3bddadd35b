"""Wake-ups between processes of one host: one byte to every engine that listens on this file.

They are hints. Nothing is lost when one is: engines look for themselves as well.
"""

from __future__ import annotations

import socket
import sys
import weakref
from contextlib import suppress
from functools import lru_cache, partial

from jobcard.backends.base import Waker
from jobcard.backends.sqlite.pool import Pool

SLOTS = 16
"""Engines on one file that can be woken at once; one more only looks for itself."""

_GAP = 4
"""Empty places in a row after which nobody else is looked for."""

CAN_LISTEN = sys.platform == "linux"
"""Abstract socket names are Linux's own."""


@lru_cache(maxsize=64)
def addresses(name: str) -> tuple[bytes, ...]:
    """Where the engines of a store listen, by the store's name."""
    return tuple(f"\0jobcard-{name}-{slot}".encode() for slot in range(SLOTS))


def _listener(name: str) -> socket.socket | None:
    """A socket that becomes readable at a wake-up; None: all places are taken."""
    listener = _datagram_socket()
    for address in addresses(name):
        with suppress(OSError):
            listener.bind(address)
            return listener
    listener.close()
    return None


def _drain(listener: socket.socket) -> None:
    """Empty a listener; however many wake-ups came, one look is enough."""
    with suppress(BlockingIOError):
        while True:
            listener.recv(1)


def listen(name: str | None, watch: Pool | None) -> Waker:
    """A waker for those who ring at this name, which also looks at SQLite's own count of foreign commits.

    watch: the pool to look with, closed with the waker; None: there is nobody else to commit.
    """
    listener = _listener(name) if CAN_LISTEN and name else None
    seen: list[int] = []

    def changed() -> bool:
        with watch.use() as connection:  # type: ignore[union-attr]
            [(version,)] = connection.execute("pragma data_version")
        before = seen[:]
        seen[:] = [version]
        return before != seen

    def close() -> None:
        if listener is not None:
            listener.close()
        if watch is not None:
            watch.close()

    return Waker(
        fd=listener.fileno() if listener else None,
        drain=partial(_drain, listener) if listener else lambda: None,
        changed=changed if watch else None,
        interval=0.025 if listener else 0.005,
        close=close,
    )


class Bell:
    """Rings at every engine of a store."""

    def __init__(self) -> None:
        self._sender: socket.socket | None = None

    def ring(self, name: str) -> None:
        if not CAN_LISTEN:
            return
        if self._sender is None:
            self._sender = _datagram_socket()
            weakref.finalize(self, self._sender.close)
        sender = self._sender
        # Never from a remembered list: it would miss the engine that has just started. Engines take the first
        # free place, so a few empty ones in a row are the end; each costs a system call.
        empty = 0
        for address in addresses(name):
            try:
                sender.sendto(b"!", address)
                empty = 0
            except BlockingIOError:
                empty = 0  # so many unread wake-ups that this one adds nothing
            except OSError:
                empty += 1
                if empty == _GAP:
                    return

    def close(self) -> None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made
