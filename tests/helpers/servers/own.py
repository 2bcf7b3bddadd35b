"""A server of one test's own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

import psutil

from helpers.servers.common import Server, end, free_port, give, new_folder, start_on


class OwnServer:
    """A server of one test's own: it may be killed, and started again on what it left, where it was."""

    def __init__(self, server: Server, disk: Path | None = None) -> None:
        """disk: where its folder is to be."""
        self._server = server
        self.folder = new_folder(f"jobcard-own-{server.name}-", disk)
        give(self.folder, server.user())
        server.prepare(self.folder)
        self.port = free_port()
        self.url = server.url(self.folder, self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it can be used. Not when its port was taken meanwhile: that is an error."""
        self._process = start_on(self._server, self.folder, self.port, lasting=True)

    def kill(self) -> None:
        """SIGKILL, and not a word before."""
        assert self._process is not None
        # All of it at once: some servers are many processes, each in a session of its own.
        main = psutil.Process(self._process.pid)
        for process in (main, *main.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._process = None

    @property
    def log(self) -> Path:
        """What it said, over all its lives."""
        return self.folder / f"log-{self.port}"

    @property
    def runs(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it as its operator would; it tells its clients, and writes down what it has."""
        assert self._process is not None
        end(self._process, self._server.stop_signal)
        self._process = None

    def close(self) -> None:
        """End it and delete what it kept."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
