"""A worker as its pool sees it: the process, however it was started, and the engine's ends of its pipes.

Each worker has a socket (messages), a permit pipe (which job may start), an output pipe (its stdout and stderr) and
a notice board.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from jobcard.core import limits
from jobcard.workers import messages
from jobcard.workers.board import Board

_ROOT = str(Path(__file__).resolve().parents[2])
_MAIN = f"import sys; sys.path.append({_ROOT!r}); from jobcard.workers.process import main; main()"


class Channels:
    """The pipes of one worker; both ends, until the worker has its own."""

    def __init__(self) -> None:
        """OSError when there is no room for them."""
        with contextlib.ExitStack() as undo:
            self.sock, self._far_sock = socket.socketpair()
            undo.callback(self.sock.close)
            undo.callback(self._far_sock.close)
            self.permits_out, self.permits_in = os.pipe()
            undo.callback(os.close, self.permits_out)
            undo.callback(os.close, self.permits_in)
            self.output, self.far_output = os.pipe()
            undo.callback(os.close, self.output)
            undo.callback(os.close, self.far_output)
            self.board = Board.create()
            # Non-blocking on both sides: the worker waits in poll(), the engine takes back without waiting.
            for fd in (self.sock.fileno(), self.permits_out, self.output):
                os.set_blocking(fd, False)
            undo.pop_all()
        self._given_away = self._closed = False

    @property
    def far(self) -> tuple[int, int, int]:
        """What the worker works with: socket, permits, board."""
        return self._far_sock.fileno(), self.permits_out, self.board.fd

    def give_away(self) -> None:
        """The worker has its ends: let go of ours of them."""
        if not self._given_away:
            self._given_away = True
            self._far_sock.close()
            os.close(self.far_output)

    def close(self) -> None:
        """Let go of everything; again is nothing."""
        if self._closed:
            return
        self._closed = True
        self.give_away()
        self.sock.close()
        for fd in (self.permits_out, self.permits_in, self.output):
            os.close(fd)
        self.board.close()


class Process(Protocol):
    """A worker's process."""

    pid: int
    pidfd: int
    """Readable when it has ended; -1 where there is no such thing."""

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        ...

    def kill(self) -> None:
        """SIGKILL it and everything in its process group."""
        ...

    def bury(self) -> int | None:
        """It is dead: let its process id go; its exit code, None if nobody knows."""
        ...


class Spawned:
    """A new Python that imports the application itself."""

    def __init__(self, channels: Channels) -> None:
        """OSError when the system has no room for it. Call it in the engine's main thread: it dies with its thread."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, *map(str, (*channels.far, os.getpid()))],
            stdin=subprocess.DEVNULL,
            stdout=channels.far_output,
            stderr=channels.far_output,
            pass_fds=channels.far,
            start_new_session=True,
        )
        self.pid = self._process.pid
        try:
            self.pidfd = open_pidfd(self.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise

    def send_signal(self, number: int) -> None:
        if self.pidfd < 0:
            self._process.send_signal(number)
        else:
            send_by_pidfd(self.pidfd, number)

    def kill(self) -> None:
        # Before it has made its own session the group does not exist yet.
        kill_group(self.pid)
        self.send_signal(signal.SIGKILL)

    def bury(self) -> int | None:
        return self._process.wait()


class Forked:
    """A fork of the template, which imported the application for all."""

    def __init__(self, pid: int, pidfd: int, reap: Callable[[], None]) -> None:
        """reap: lets the template forget it."""
        self.pid = pid
        self.pidfd = pidfd
        self._reap = reap
        self._code: int | None = None
        self.is_dead = False
        self.is_orphan = False
        """The template is gone: this process ends too, and nobody can say how."""

    def exited(self, code: int | None) -> None:
        """The template says how it ended."""
        self.is_dead = True
        self._code = code

    def send_signal(self, number: int) -> None:
        send_by_pidfd(self.pidfd, number)

    def kill(self) -> None:
        # Without the template the number may be somebody else's; what such a worker started, the keeper ends.
        if not self.is_orphan:
            kill_group(self.pid)
        self.send_signal(signal.SIGKILL)

    def bury(self) -> int | None:
        if not self.is_orphan:
            self._reap()
        return self._code


class WorkerProcess:
    """One worker process and its pipes."""

    def __init__(self, number: int, process: Process, channels: Channels) -> None:
        self.number = number
        self.process = process
        self.pid = process.pid
        self.channels = channels
        self.sock = channels.sock
        self.output = channels.output
        self.ready = False
        """It has said hello; until then it reads nothing but what to import."""
        self.early = bytearray()
        """What it is to hear then."""
        self.shares = False
        self.has_farewell = False
        """It has something to see to after its last job."""
        self.told = False
        """Its running job was told to end."""
        self.inbox = messages.Inbox()
        self.unsent = bytearray()
        self.tail: deque[bytes] = deque()
        self.tail_size = 0
        self.broken = False
        self.kept_back: list[int] = []

    def keep_output(self, data: bytes) -> None:
        """Remember the last of what it printed."""
        self.tail.append(data)
        self.tail_size += len(data)
        while self.tail_size - len(self.tail[0]) >= limits.MAX_OUTPUT:
            self.tail_size -= len(self.tail.popleft())

    def forget_output(self) -> None:
        """A job ended: what comes now belongs to the next."""
        self.tail.clear()
        self.tail_size = 0
        self.told = False

    def last_output(self) -> str:
        """The last of what it printed, as text."""
        return b"".join(self.tail)[-limits.MAX_OUTPUT :].decode("utf-8", "backslashreplace")


class Unborn:
    """A worker that the template was asked for: what it is to hear first, and whether it is to live at all."""

    def __init__(self) -> None:
        """OSError when there is no room for its pipes."""
        self.channels = Channels()
        self.early = bytearray()
        self.shares = False
        self.doomed = False

    def renew(self) -> Self:
        """The same with new pipes: somebody else may have the ends of the old ones. OSError as above."""
        new = Channels()
        self.channels.close()
        self.channels = new
        return self


def open_pidfd(pid: int) -> int:
    """A descriptor that stands for a process; -1 where there are none."""
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1


def send_by_pidfd(pidfd: int, number: int) -> None:
    """Send a signal to the process behind a descriptor, if it still runs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)


def kill_group(pid: int) -> None:
    """SIGKILL the process group that this process leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def pass_on(data: bytes) -> None:
    """What was printed, on to our own output as far as somebody reads it: a full pipe must not stop the engine."""
    with contextlib.suppress(OSError):
        while data and select.select((), (2,), (), 0)[1]:
            data = data[os.write(2, data[: select.PIPE_BUF]) :]
