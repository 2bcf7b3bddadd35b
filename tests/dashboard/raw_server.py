"""The real program, as a user starts it, and connections to it that know nothing of HTTP."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.apps import App
from helpers.waiting import PATIENCE, wait_until
from jobcard.client import Jobcard

_READY = re.compile(r"^ready: dashboard at http://127\.0\.0\.1:(\d+)/$", re.M)
# The real command, in a hurry: what waits forty seconds there waits one here.
_HURRIED = """
import sys
from jobcard.dashboard import app, serve
serve.REQUEST_SECONDS = float(sys.argv[1])
app._BODY_SECONDS = float(sys.argv[2])
sys.argv[1:3] = []
from jobcard.cli.main import main
main()
"""


@dataclass
class Server:
    """A running dashboard, and its log."""

    port: int
    log: Path

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def answers(self, *parts: bytes) -> bytes:
        """What comes back until it ends the connection; what it no longer takes is not sent."""
        with self.connect() as connection:
            try:
                for part in parts:
                    connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it had answered before all was said
            return everything(connection)

    def is_well(self) -> bool:
        """Whether it answers others."""
        return self.answers(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").endswith(b"ok\n")


def everything(connection: socket.socket) -> bytes:
    """What is said until the end, which may be a sudden one."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def status(answer: bytes) -> int:
    """Of the first answer."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found is not None, answer[:200]
    return int(found[1])


@contextmanager
def running(app: App, patience: float, body: float, *more: str) -> Iterator[Server]:
    """The command in a directory of its own."""
    log = app.directory / "serve.log"
    with Jobcard(f"sqlite:///{app.directory}/jobs.db") as jobs:
        jobs.migrate()
    command = ("dashboard", "--url", f"sqlite:///{app.directory}/jobs.db", "--port", "0", *more)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _HURRIED, str(patience), str(body), *command],
            cwd=app.directory,
            env=app.environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:

        def ready() -> re.Match[str] | None:
            assert process.poll() is None, log.read_text("utf-8")
            return _READY.search(log.read_text("utf-8"))

        yield Server(int(wait_until(ready, "the ready line", timeout=4 * PATIENCE)[1]), log)
    finally:
        process.kill()
        process.wait()
