"""The dashboard as a server of its own: one process, told to end by a signal or by the end of who started it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobcard.dashboard.app import Dashboard

_log = logging.getLogger("jobcard.dashboard")

_MOST_CONNECTIONS = 200
_MOST_HEADERS = 32 << 10
_IDLE_SECONDS = 15
_DRAIN_SECONDS = 5
REQUEST_SECONDS = 40.0
"""From the first byte, or from the request before, to the last byte of the answer: twice what a slow form may take."""
INTERRUPTED = 130


def bind(host: str, port: int) -> socket.socket:
    """The socket to listen at; `OSError` when the address is taken, or not ours."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen()
    except BaseException:
        opened.close()
        raise
    return opened


def serve(
    app: Dashboard,
    listening: socket.socket,
    *,
    proxies: Sequence[str] = (),
    ready: Callable[[], None] = lambda: None,
    lifeline: int | None = None,
) -> int:
    """Serve until told to stop; the exit code.

    proxies: addresses whose word for who asks, and how, is believed. lifeline: a descriptor that ends when whoever
    started us does.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_MOST_HEADERS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    server = _Server(config, ready, lifeline)
    asyncio.run(server.serve(sockets=[listening]))
    return INTERRUPTED if server.force_exit else 0


class _Connection(H11Protocol):
    """One connection, kept while something is asked by it: who is slower than `REQUEST_SECONDS` holds no place."""

    _slow: asyncio.TimerHandle | None = None
    _begun: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_waiting()

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not self._begun:
            self._begun = self.cycle
            self._start_waiting()

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and self.cycle.response_started:
            self.transport.close()  # it has its answer; what is wrong is the rest of a body that nobody reads
        else:
            super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._slow is not None:
            self._slow.cancel()
        super().connection_lost(exc)

    def _start_waiting(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
        self._slow = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def _give_up(self) -> None:
        # Nothing of an answer has been said to whoever has not asked to the end.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], lifeline: int | None) -> None:
        super().__init__(config)
        self._ready = ready
        self._lifeline = lifeline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the first signal end it gently, with exit code 0, and the second at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told)
        if self._lifeline is not None:
            loop.add_reader(self._lifeline, self._hear)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            if self._lifeline is not None:
                loop.remove_reader(self._lifeline)

    def _told(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    def _hear(self) -> None:
        assert self._lifeline is not None
        if not os.read(self._lifeline, 512):
            asyncio.get_running_loop().remove_reader(self._lifeline)
            self._lifeline = None
            self.should_exit = True
