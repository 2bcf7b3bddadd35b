"""Asking an ASGI application without a network, and without a thread and an event loop for each request."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import unquote

from httpx2 import BaseTransport, ByteStream, Request, Response

_PORTS = {"http": 80, "https": 443}


class Inside(BaseTransport):
    """A way of `httpx2` to an application in this process; what the application raises is raised where it was asked."""

    def __init__(self, app: Any, client: tuple[str, int]) -> None:
        """client: where the application sees the visitor come from."""
        self._app = app
        self._client = client

    def handle_request(self, request: Request) -> Response:
        with _loop() as loop:
            return loop.run_until_complete(self._ask(request))

    async def _ask(self, request: Request) -> Response:
        url = request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": unquote(url.path),
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "client": self._client,
            "server": (url.host, url.port or _PORTS[url.scheme]),
        }
        heard = [{"type": "http.request", "body": request.read(), "more_body": False}]
        said: list[dict[str, Any]] = []
        whole = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if heard:
                return heard.pop()
            await whole.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            said.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                whole.set()

        await self._app(scope, receive, send)
        start, *rest = said
        assert start["type"] == "http.response.start" and whole.is_set(), "no whole answer"
        body = b"".join(message.get("body", b"") for message in rest)
        stream = ByteStream(b"" if request.method == "HEAD" else body)
        return Response(start["status"], headers=start["headers"], stream=stream, request=request)


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    if threading.current_thread() is threading.main_thread():
        yield _main_loop()
        return
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


@cache
def _main_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop
