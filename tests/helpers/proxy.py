"""A network that a test can break: a TCP proxy on this machine in front of a server.

    engine ──► Proxy ──► server      proxy.refuse() · reset() · blackhole() · half_close() · cut_replies()
                                     delay(seconds) · trickle(bytes) · lose_replies() · heal()

Each connection is two threads, one for each direction, that take what comes and pass it on when the network allows.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from typing import Any

_CHUNK = 1 << 16
_QUIET = 0.02  # seconds without a byte after which an answer was whole
_RST = struct.pack("ii", 1, 0)  # closing it sends a reset, and nothing that is still on its way


class Proxy:
    """Passes on what comes in at `port`; what it shall do instead holds from the next bytes on, until `heal()`."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._passes = threading.Event()
        self._passes.set()
        self._refuses = False
        self._delay = 0.0
        self._per_second = 0
        self._cut = False
        self._marks: tuple[bytes, ...] = ()
        self._share = 0.0
        self._chance = random.Random(11)
        self.lost = 0
        """How many replies were lost so far."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._closed = False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._passes.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    # -------------------------------------------------------------- the troubles

    def refuse(self) -> None:
        """End every connection, and each new one as it comes."""
        self._refuses = True
        self.reset()

    def reset(self) -> None:
        """End every connection there is, with a reset on both sides."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.reset()

    def blackhole(self) -> None:
        """Nothing comes through and nobody is told; what was sent meanwhile arrives when it heals."""
        self._passes.clear()

    def half_close(self) -> None:
        """Tell every client that its server says nothing more, and go on listening to it."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            with contextlib.suppress(OSError):
                pair.client.shutdown(socket.SHUT_WR)

    def cut_replies(self) -> None:
        """End each connection in the middle of an answer: some bytes of it arrive, then a reset."""
        self._cut = True

    def trickle(self, per_second: int) -> None:
        """So many bytes a second on each connection, each way."""
        self._per_second = per_second

    def delay(self, seconds: float) -> None:
        """Everything takes this much longer, each way."""
        self._delay = seconds

    def lose_replies(self, *marks: bytes, share: float) -> None:
        """Let the server do what it was asked, and reset the connection instead of passing its answer on.

        marks: only answers to what has one of these in it. share: of them, by chance:
        what is counted would sooner or later keep step with what a client does.
        """
        self._marks, self._share = marks, share

    def heal(self) -> None:
        """All is well again."""
        self._refuses, self._cut = False, False
        self._delay, self._share, self._per_second = 0.0, 0.0, 0
        self._passes.set()

    # -------------------------------------------------------------- at work

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._open, args=(client,), name="proxy-pair", daemon=True).start()

    def _open(self, client: socket.socket) -> None:
        self._passes.wait()
        server = None
        with contextlib.suppress(OSError):
            if not self._refuses:
                server = socket.create_connection(("127.0.0.1", self._server), 5)
        if server is None:
            _reset(client)
            return
        pair = _Pair(client, server)
        with self._lock:
            self._pairs.add(pair)
        back = threading.Thread(target=self._pass_on, args=(pair, server, client), name="proxy-back", daemon=True)
        back.start()
        self._pass_on(pair, client, server)
        back.join()
        with self._lock:
            self._pairs.discard(pair)
        client.close()
        server.close()

    def _pass_on(self, pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        asks = source is pair.client
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self._delay:
                    time.sleep(self._delay)
                if self._per_second:
                    time.sleep(min(1.0, len(data) / self._per_second))
                self._passes.wait()
                if self._cut and not asks:
                    target.sendall(data[: len(data) // 2])
                    time.sleep(_QUIET)  # a reset overtakes what is still on its way
                    pair.reset()
                    return
                if asks and self._loses(data):
                    pair.loses = True
                if not asks and pair.loses:
                    # An answer may begin before all is done that was asked: it has to come to its end.
                    source.settimeout(_QUIET)
                    with contextlib.suppress(TimeoutError):
                        while source.recv(_CHUNK):
                            pass
                    self.lost += 1
                    pair.reset()
                    return
                target.sendall(data)
        # One side has ended, or was reset: so does the other.
        pair.shut()

    def _loses(self, asked: bytes) -> bool:
        return bool(self._share) and any(m in asked for m in self._marks) and self._chance.random() < self._share


class _Pair:
    """The two sides of a connection. loses: the next answer is lost."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.loses = False
        for side in (client, server):
            side.settimeout(None)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def shut(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self.shut()


def _reset(side: Any) -> None:
    with contextlib.suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        side.close()
