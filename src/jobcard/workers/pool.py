"""The engine's side of its workers: start, hand over, take back, kill, and hear what they say.

Each worker has a socket (messages), a permit pipe (which job may start) and an output pipe (its stdout and
stderr). Start workers from the engine's main thread only: they die with the thread that started them.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from jobcard.core import limits
from jobcard.core.job import Claimed
from jobcard.workers import messages
from jobcard.workers.board import TELL_SIGNAL, Board
from jobcard.workers.messages import Exit

_ROOT = str(Path(__file__).resolve().parents[2])
_MAIN = f"import sys; sys.path.append({_ROOT!r}); from jobcard.workers.process import main; main()"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PERMITS_AT_ONCE = 1 << 12
_READS_AT_ONCE = 16


class Listener(Protocol):
    """Who hears what happens to workers."""

    def message(self, number: int, message: list[Any]) -> None:
        """A worker said something."""
        ...

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit) -> None:
        """A worker process has ended; everything it said came before."""
        ...


class WorkerProcess:
    """One worker process and its pipes."""

    def __init__(
        self,
        number: int,
        process: subprocess.Popen[bytes],
        sock: socket.socket,
        permits: tuple[int, int],
        output: int,
        board: Board,
    ) -> None:
        self.number = number
        self.process = process
        self.pid = process.pid
        self.sock = sock
        self.permits_out, self.permits_in = permits
        self.output = output
        self.board = board
        self.inbox = messages.Inbox()
        self.unsent = bytearray()
        self.tail: deque[bytes] = deque()
        self.tail_size = 0
        self.broken = False
        self.shares = False
        self.kept_back: list[int] = []
        self.pidfd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else -1

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

    def last_output(self) -> str:
        """The last of what it printed, as text."""
        return b"".join(self.tail)[-limits.MAX_OUTPUT :].decode("utf-8", "backslashreplace")


class Pool:
    """All workers of one engine, behind one selector."""

    def __init__(self, selector: selectors.BaseSelector, listener: Listener, boot: dict[str, Any]) -> None:
        """boot: what every worker is told first."""
        self._selector = selector
        self.listener = listener
        self._boot = messages.encode([messages.BOOT, boot])
        self._workers: dict[int, WorkerProcess] = {}

    def pids(self) -> list[int]:
        """The processes that are alive, as far as we know."""
        return [worker.pid for worker in self._workers.values()]

    def pid_of(self, number: int) -> int | None:
        """The process of a worker; None when it is gone."""
        worker = self._workers.get(number)
        return None if worker is None else worker.pid

    # -------------------------------------------------------------- orders

    def spawn(self, number: int) -> None:
        """Start a worker; OSError when the system has no room for one."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            sock, far = socket.socketpair()
            undo.callback(sock.close)
            theirs.callback(far.close)
            permits = os.pipe()
            output, far_output = os.pipe()
            theirs.callback(os.close, far_output)
            for fd in (*permits, output):
                undo.callback(os.close, fd)
            board = Board.create()
            undo.callback(board.close)
            # Non-blocking on both sides: the worker waits in poll(), the engine takes back without waiting.
            for fd in (sock.fileno(), permits[0], output):
                os.set_blocking(fd, False)
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, *map(str, (far.fileno(), permits[0], board.fd, os.getpid()))],
                stdin=subprocess.DEVNULL,
                stdout=far_output,
                stderr=far_output,
                pass_fds=(far.fileno(), permits[0], board.fd),
                start_new_session=True,
            )
            undo.callback(process.kill)
            worker = WorkerProcess(number, process, sock, permits, output, board)
            undo.pop_all()
        self._workers[number] = worker
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._socket_ready(worker))
        self._selector.register(output, selectors.EVENT_READ, lambda: self._output_ready(worker))
        if worker.pidfd >= 0:
            self._selector.register(worker.pidfd, selectors.EVENT_READ, lambda: self._ended(worker))
        self._raise_oom_score(worker)
        self._write(worker, self._boot)

    def send(self, number: int, jobs: list[tuple[int, Claimed, float]]) -> None:
        """Hand jobs over, in order: first what they are, then the permits to start them."""
        worker = self._workers.get(number)
        if worker is None:
            return
        if worker.broken:
            worker.kept_back += [job[0] for job in jobs]  # it is as good as dead; they were not started
            return
        self._write(worker, messages.encode([messages.JOBS, jobs]))
        with contextlib.suppress(BrokenPipeError):
            os.write(worker.permits_in, b"".join(messages.PERMIT.pack(job[0]) for job in jobs))

    def recall(self, number: int) -> list[int]:
        """Take back the permits a worker has not read: those jobs were not and will not be started."""
        worker = self._workers.get(number)
        return [] if worker is None else self._unread_permits(worker)

    def reply(self, number: int, call: int, error: dict[str, Any] | None, answer: bytes | None) -> None:
        """Answer a store verb that a job asked for."""
        worker = self._workers.get(number)
        if worker is not None:
            self._write(worker, messages.encode([messages.REPLY, call, error, answer]))

    def share(self, number: int) -> None:
        """Let a worker run its jobs side by side from now on."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.shares = True
            self._write(worker, messages.encode([messages.SHARE]))

    def tell(self, number: int, seq: int, why: str, reason: str) -> None:
        """Tell a running job that it shall end."""
        worker = self._workers.get(number)
        if worker is None:
            return
        if worker.shares:
            self._write(worker, messages.encode([messages.CANCEL, seq, why, reason]))
            return
        worker.board.post(seq, messages.Why(why), reason)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, TELL_SIGNAL)

    def retire(self, number: int) -> None:
        """Tell a worker that there will be no more."""
        worker = self._workers.get(number)
        if worker is not None:
            self._write(worker, messages.encode([messages.STOP]))

    def kill(self, number: int) -> None:
        """SIGKILL a worker and everything in its process group."""
        worker = self._workers.get(number)
        if worker is not None:
            self._kill(worker)

    def kill_all(self) -> None:
        """SIGKILL every worker, without waiting."""
        for worker in list(self._workers.values()):
            self._kill(worker)

    def take_output(self, number: int) -> str:
        """The last of what a worker printed, and forget it: its job has ended, and what comes now is the next one's."""
        worker = self._workers[number]
        self._read_output(worker)
        output = worker.last_output()
        worker.forget_output()
        return output

    def forget_output(self, number: int) -> None:
        """A worker's job has ended well: nobody will ask what it printed."""
        self._workers[number].forget_output()

    def memory_of(self, number: int) -> int:
        """Bytes of memory a worker has resident; 0 when it is gone."""
        worker = self._workers.get(number)
        if worker is None:
            return 0
        try:
            with open(f"/proc/{worker.pid}/statm", "rb") as file:  # noqa: PTH123 - five times a second
                return int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0

    # -------------------------------------------------------------- what happens

    def _socket_ready(self, worker: WorkerProcess) -> None:
        if worker.number not in self._workers or worker.broken:
            return  # it ended earlier in this round of events
        if worker.unsent:
            self._flush(worker)
        if not self._hear(worker):
            # It closed its end but may still run, perhaps in a job that closed every descriptor.
            self._break(worker)

    def _hear(self, worker: WorkerProcess) -> bool:
        """Read what has come; False at its end."""
        try:
            data = worker.sock.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        try:
            for message in worker.inbox.feed(data):
                self.listener.message(worker.number, message)
        except messages.BadFrameError:
            self._break(worker)
        return True

    def _break(self, worker: WorkerProcess) -> None:
        """A worker that cannot be understood is killed; its end is told like any other."""
        worker.broken = True
        self._unregister(worker.sock)
        self._kill(worker)
        if worker.pidfd < 0:
            worker.process.wait()
            self._ended(worker)

    def _output_ready(self, worker: WorkerProcess) -> None:
        if worker.number not in self._workers:
            return
        if self._has_more(worker):
            # First what it said: the end of a job makes us forget what it had printed, not what the next one did.
            self._socket_ready(worker)
        if worker.number in self._workers and not self._read_output(worker):
            self._unregister(worker.output)

    @staticmethod
    def _read_output(worker: WorkerProcess) -> bool:
        """Take in what it has printed, up to a bound, so that no job's flood keeps the engine; False at its end."""
        for _ in range(_READS_AT_ONCE):
            try:
                data = os.read(worker.output, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            worker.keep_output(data)
            _pass_on(data)
        return True

    def _ended(self, worker: WorkerProcess) -> None:
        """The process is dead: hear the rest, take back the permits, and say so."""
        if worker.number not in self._workers:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)  # what it left behind in its group; its pid is ours until wait()
        if not worker.broken:
            while self._has_more(worker) and self._hear(worker) and not worker.broken:
                pass
        self._read_output(worker)
        unstarted = self._unread_permits(worker) + worker.kept_back
        code = worker.process.wait()
        output = worker.last_output()
        del self._workers[worker.number]
        self._unregister(worker.sock)
        self._unregister(worker.output)
        if worker.pidfd >= 0:
            self._unregister(worker.pidfd)
            os.close(worker.pidfd)
        worker.sock.close()
        for fd in (worker.permits_out, worker.permits_in, worker.output):
            os.close(fd)
        worker.board.close()
        self.listener.gone(worker.number, unstarted, Exit(code, output))

    @staticmethod
    def _has_more(worker: WorkerProcess) -> bool:
        return bool(select.select((worker.sock,), (), (), 0)[0])

    @staticmethod
    def _unread_permits(worker: WorkerProcess) -> list[int]:
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while True:
                chunk = os.read(worker.permits_out, _PERMITS_AT_ONCE)
                if not chunk:
                    break
                data += chunk
        return [number for (number,) in messages.PERMIT.iter_unpack(data)]

    def _kill(self, worker: WorkerProcess) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)
        # Before it has made its own session the group does not exist yet.
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()

    def _write(self, worker: WorkerProcess, data: bytes) -> None:
        worker.unsent += data
        self._flush(worker)

    def _flush(self, worker: WorkerProcess) -> None:
        try:
            while worker.unsent:
                del worker.unsent[: worker.sock.send(worker.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            worker.unsent.clear()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.unsent else 0)
        with contextlib.suppress(KeyError):
            key = self._selector.get_key(worker.sock)
            if key.events != events:
                self._selector.modify(worker.sock, events, key.data)

    def _unregister(self, source: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    @staticmethod
    def _raise_oom_score(worker: WorkerProcess) -> None:
        # When memory runs out the kernel shall take a job, not the engine.
        with contextlib.suppress(OSError), open(f"/proc/{worker.pid}/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("500")


def _pass_on(data: bytes) -> None:
    """On to our own output, as far as somebody reads it: a full pipe must not stop the engine."""
    with contextlib.suppress(OSError):
        while data and select.select((), (2,), (), 0)[1]:
            data = data[os.write(2, data[: select.PIPE_BUF]) :]
