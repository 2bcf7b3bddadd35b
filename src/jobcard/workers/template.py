"""The life of a template: it imports the application once, and workers are forked from it, ready at once.

Started by `forker.py` as `python -P -c "…; main()" SOCKET ENGINE_PID`. It never runs a job and never has a second
thread: what a thread holds at the moment of a fork, the child would wait for in vain. Its children die with it, and
it dies with its engine.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import signal
import socket
import stat
import sys
import traceback
from typing import Any, NamedTuple, NoReturn

from jobcard.core import context
from jobcard.errors import ConfigError
from jobcard.workers import link, process
from jobcard.workers import template_messages as words
from jobcard.workers.death import die_with_parent

_SQLITE = b"SQLite format 3\0"
_UNSHARABLE = ("anon_inode:[eventpoll]", "anon_inode:[io_uring]")
_THREAD_ENDS = 100  # looks, 10 ms apart: a thread that was joined may still be on its way out


class Child(NamedTuple):
    """A worker forked from here. pidfd: readable when it has ended."""

    pid: int
    pidfd: int


class Template:
    """One process with the application in it, and the workers forked from it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pid = os.getpid()
        self._app: Any = None
        self._children: dict[int, Child] = {}
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._closed = False
        self._on_child_end: Any = signal.SIG_DFL

    def run(self) -> None:
        """Import, then fork workers until the engine is gone, or no more can be forked and the last has ended."""
        message, _none = words.receive(self._sock)
        why = self._import(message[1])
        if why is not None:
            words.send(self._sock, [words.CANNOT, why])
            return
        words.send(self._sock, [words.READY])
        while self._children or not self._closed:
            ready = {fd for fd, _event in self._poll.poll()}
            for number, child in list(self._children.items()):
                if child.pidfd in ready:
                    self._say_it_ended(number, child)
            if self._sock.fileno() in ready:
                self._heed(*words.receive(self._sock))

    def _import(self, boot: dict[str, Any]) -> str | None:
        """Become what a worker is after its imports; why no worker can be forked from it, or None."""
        context.enter_worker(link.engine_store(_refuse))
        before = _open_files()
        try:
            self._app = process.import_app(boot)
        except BaseException as error:
            return f"the application cannot be imported: {type(error).__name__}: {error}"
        # An application that ignores the end of its children would take their exit codes from us.
        self._on_child_end = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _flush()
        # What is there now stays: no collection in a child writes into the pages it shares with the others.
        gc.collect()
        gc.freeze()
        for fd in _open_files() - before:
            if what := _why_unsharable(fd):
                return f"the application opens {what} while it is imported"
        return self._why_alone_no_more()

    def _why_alone_no_more(self) -> str | None:
        for _ in range(_THREAD_ENDS):
            threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - before every fork
            if threads == 1:
                return None
            select.select((), (), (), 0.01)
        return f"the application has started threads: {threads} run"

    # -------------------------------------------------------------- forking

    def _heed(self, message: list[Any], fds: list[int]) -> None:
        kind, number = message
        if kind == words.REAP:
            child = self._children.pop(number)
            os.waitpid(child.pid, 0)
            os.close(child.pidfd)
            return
        try:
            self._fork(number, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _fork(self, number: int, fds: list[int]) -> None:
        if self._closed:
            return  # the engine is told already and starts this one itself
        if len(fds) < words.MOST_DESCRIPTORS:
            words.send(self._sock, [words.REFUSED, number, "no descriptors left"])
            return
        why = self._why_alone_no_more()
        if why is not None:
            self._closed = True
            words.send(self._sock, [words.CANNOT, why])
            return
        _flush()
        try:
            pid = os.fork()
        except OSError as error:
            words.send(self._sock, [words.REFUSED, number, str(error)])
            return
        if pid == 0:
            self._be_worker(*fds)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            words.send(self._sock, [words.REFUSED, number, str(error)])
            return
        self._children[number] = Child(pid, pidfd)
        self._poll.register(pidfd, select.POLLIN)
        words.send(self._sock, [words.FORKED, number, pid], [pidfd])

    def _be_worker(self, sock: int, permits: int, board: int, output: int) -> NoReturn:
        try:
            os.setsid()
            if not die_with_parent(self._pid):
                os._exit(0)
            # A job may write on every descriptor it finds: none may lead to the engine's or to a neighbour's.
            self._sock.close()
            for child in self._children.values():
                os.close(child.pidfd)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.close(output)
            signal.signal(signal.SIGCHLD, self._on_child_end or signal.SIG_DFL)
            _reseed()
            process.work(sock, permits, board, app=self._app)
        except BaseException:
            traceback.print_exc()
            _flush()
        finally:
            os._exit(1)

    def _say_it_ended(self, number: int, child: Child) -> None:
        # Not reaped: until the engine has dealt with it, nobody else may get its process id.
        self._poll.unregister(child.pidfd)
        code: int | None = None
        with contextlib.suppress(ChildProcessError):
            if ended := os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT):
                code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        words.send(self._sock, [words.EXITED, number, code])


def _refuse(_verb: str, _packed: bytes) -> NoReturn:
    raise ConfigError(link.NOT_WHILE_IMPORTING)


def _reseed() -> None:
    """Workers of one template must not draw the same numbers."""
    random.seed()
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()


def _flush() -> None:
    """What is printed but not written would be written once more by every child."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


# ------------------------------------------------------------------ what must not be shared


def _open_files() -> set[int]:
    found = set()
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - as above
        with contextlib.suppress(OSError):  # the one that the list was read from is closed by now
            os.fstat(fd)
            found.add(fd)
    return found


def _why_unsharable(fd: int) -> str | None:
    """What a descriptor is, if two processes that both have it would harm each other; None: they would not."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            sock = socket.socket(fileno=fd)
            try:
                return "a connection" if sock.type == socket.SOCK_STREAM else None
            finally:
                sock.detach()
        if stat.S_ISREG(mode) and os.pread(fd, len(_SQLITE), 0) == _SQLITE:
            return "a SQLite file"
        if os.readlink(f"/proc/self/fd/{fd}") in _UNSHARABLE:  # noqa: PTH115
            return "an event loop"
    except OSError:
        pass  # a file that can only be written
    return None


def main() -> None:
    """Be a template until the engine is gone."""
    sock_fd, engine = (int(argument) for argument in sys.argv[1:3])
    if not die_with_parent(engine):
        os._exit(0)
    os.set_inheritable(sock_fd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    with contextlib.suppress(words.GoneError, OSError):
        Template(socket.socket(fileno=sock_fd)).run()
    os._exit(0)
