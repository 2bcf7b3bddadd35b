"""The engine's side of its template: ask it for workers, hear how they end, start another when it dies.

    forker ── FORK + the worker's ends ──► template ── fork ──► worker
           ◄─ FORKED + pidfd · EXITED ───

What the template does not answer in time, a spawned worker does instead: nothing waits for a template that is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from jobcard.workers import template_messages as words
from jobcard.workers.worker_process import Channels, Forked, open_pidfd, pass_on, send_by_pidfd

log = logging.getLogger("jobcard.workers")

_ROOT = str(Path(__file__).resolve().parents[2])
_MAIN = f"import sys; sys.path.append({_ROOT!r}); from jobcard.workers.template import main; main()"

ANSWER_SECONDS = 10.0  # a template that takes longer to answer is killed, and its workers end with it
IMPORT_SECONDS = 120.0  # … but importing the application may take its time, as in any worker
PATIENCE_SECONDS = 10.0  # for so long a worker waits for a template rather than importing beside it
AGAIN_SECONDS = 30.0  # from the start of a template to that of the next one, when they keep ending


class Parent(Protocol):
    """Who wanted the workers."""

    def forked(self, number: int, process: Forked) -> None:
        """A worker lives."""
        ...

    def not_forked(self, number: int) -> None:
        """This one has to be started in another way."""
        ...

    def exited(self, number: int, code: int | None) -> None:
        """A worker is dead."""
        ...

    def orphaned(self) -> None:
        """The template is dead, and its workers are dying."""
        ...


class State(Enum):
    """What a template can do for us now."""

    IMPORTING = "importing"
    READY = "ready"
    CLOSED = "closed"
    """It forks no more; its workers may still live."""
    GONE = "gone"


class Forker:
    """At most one template at a time, and the workers it was asked for."""

    def __init__(self, selector: selectors.BaseSelector, parent: Parent, boot: Any, *, insist: bool) -> None:
        """boot: what every worker is told first. insist: somebody asked for it, so a failure is worth a warning."""
        self._selector = selector
        self._parent = parent
        self._boot = boot
        self._level = logging.WARNING if insist else logging.INFO
        self._template: _TemplateProcess | None = None
        self._may_start = True
        self._start_at = 0.0
        self._replaced_at = -AGAIN_SECONDS
        self._patient = True
        self._was_ready = False
        """Whether the template came so far as to fork."""
        self._waiting: dict[int, tuple[Channels, float]] = {}
        """Workers to be asked for when the template is ready."""
        self._asked: dict[int, float] = {}
        self._died: dict[int, float] = {}
        """Workers that are dead, as we see; the template has not said so yet."""

    @property
    def pid(self) -> int | None:
        """The template's process id."""
        return self._template.pid if self._template is not None else None

    @property
    def state(self) -> State:
        return State.GONE if self._template is None else self._template.state

    # -------------------------------------------------------------- orders

    def start(self) -> None:
        """Start a template, if one can be had."""
        now = time.monotonic()
        self._start_at = now + AGAIN_SECONDS
        try:
            self._template = _TemplateProcess(self._selector, self._boot, self._heed, self._gone)
        except OSError as error:
            self._patient = False
            log.log(self._level, "template: cannot be started: %s; workers are spawned", error)

    def order(self, number: int, channels: Channels) -> bool:
        """Ask for a worker; answered by `forked` or `not_forked`. False: it has to be started in another way."""
        if self.state is State.READY:
            return self._ask(number, channels)
        if self.state is State.IMPORTING and self._patient:
            # It began before this worker could, so waiting costs nothing and spares an import.
            self._waiting[number] = channels, time.monotonic()
            return True
        return False

    def hurry(self) -> None:
        """Let nothing wait for a template that is still importing."""
        self._patient = False

    def saw_end(self, number: int) -> None:
        """A worker is dead: the template is to say how it ended."""
        self._died[number] = time.monotonic()

    def reap(self, number: int) -> None:
        """A worker's end is dealt with."""
        if self._template is not None:
            self._template.say([words.REAP, number])

    def kill(self) -> None:
        """SIGKILL the template; its workers die with it. There will be no other."""
        self._may_start = False
        if self._template is not None:
            self._template.kill()

    def tend(self) -> None:
        """Look after it, every second or so: a hung one is ended, a dead one replaced, and nobody waits too long."""
        if self._template is not None:
            self._template.hear()  # first what came while nobody looked
        now = time.monotonic()
        if self._template is None:
            if self._may_start and now >= self._start_at:
                self.start()
            return
        late = [at for at in (*self._asked.values(), *self._died.values()) if now - at >= ANSWER_SECONDS]
        if late or (self.state is State.IMPORTING and now - self._template.since >= IMPORT_SECONDS):
            log.error("template: no answer; killed, and its workers with it")
            self._template.kill()
        for number, (_channels, since) in list(self._waiting.items()):
            if now - since >= PATIENCE_SECONDS:
                del self._waiting[number]
                self._parent.not_forked(number)

    def _ask(self, number: int, channels: Channels) -> bool:
        assert self._template is not None
        fds = (*channels.far, channels.far_output)
        if not self._template.say([words.FORK, number], fds):
            return False
        self._asked[number] = time.monotonic()
        return True

    # -------------------------------------------------------------- what it says

    def _heed(self, message: list[Any], fds: list[int]) -> None:
        assert self._template is not None
        match message:
            case [words.READY]:
                self._template.state = State.READY
                self._was_ready = True
                log.info(
                    "template.ready pid=%d after=%.3f", self._template.pid, time.monotonic() - self._template.since
                )
                waiting, self._waiting = self._waiting, {}
                for number, (channels, _since) in waiting.items():
                    if not self._ask(number, channels):
                        self._parent.not_forked(number)
            case [words.CANNOT, why]:
                self._template.state = State.CLOSED
                self._may_start = False
                log.log(self._level, "template: %s; workers are spawned", why)
                self._give_up()
            case [words.FORKED, int(number), int(pid)] if len(fds) == 1 and number in self._asked:
                del self._asked[number]
                self._parent.forked(number, Forked(pid, fds.pop(), lambda: self.reap(number)))
            case [words.REFUSED, int(number), why] if number in self._asked:
                del self._asked[number]
                log.warning("template: a worker could not be forked: %s", why)
                self._parent.not_forked(number)
            case [words.EXITED, int(number), int() | None as code]:
                self._died.pop(number, None)
                self._parent.exited(number, code)
            case _:
                self._template.kill()  # the application wrote on our descriptor
        for fd in fds:
            os.close(fd)

    def _gone(self, code: int) -> None:
        if self._may_start:
            log.log(self._level, "template: ended with code %d", code)
        self._template = None
        self._replace()
        self._died.clear()
        self._parent.orphaned()
        self._give_up()

    def _replace(self) -> None:
        """Start the next one at once if this one could fork; but not when they keep ending."""
        was_ready, self._was_ready = self._was_ready, False
        now = time.monotonic()
        self._patient = self._may_start and was_ready and now >= self._replaced_at + AGAIN_SECONDS
        if self._patient:
            self._replaced_at = now
            self.start()

    def _give_up(self) -> None:
        numbers = [*self._asked, *self._waiting]
        self._asked.clear()
        self._waiting.clear()
        for number in numbers:
            self._parent.not_forked(number)


class _TemplateProcess:
    """One template and the socket to it."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        boot: Any,
        heed: Callable[[list[Any], list[int]], None],
        gone: Callable[[int], None],
    ) -> None:
        self._selector = selector
        self._heed = heed
        self._gone = gone
        self.state = State.IMPORTING
        self.since = time.monotonic()
        with contextlib.ExitStack() as undo:
            self._sock, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self._sock.close)
            # A pipe, as in workers: what is printed behaves in another way on a file, and the children inherit that.
            self._output, far_output = os.pipe()
            undo.callback(os.close, self._output)
            os.set_blocking(self._output, False)
            with far, os.fdopen(far_output) as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _MAIN, str(far.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(far.fileno(),),
                    start_new_session=True,
                )
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self.pid = self._process.pid
            self._pidfd = open_pidfd(self.pid)
            undo.callback(os.close, self._pidfd)
            self._sock.setblocking(False)
            words.send(self._sock, [words.BOOT, boot])
            undo.pop_all()
        selector.register(self._sock, selectors.EVENT_READ, self.hear)
        selector.register(self._output, selectors.EVENT_READ, self._printed)
        selector.register(self._pidfd, selectors.EVENT_READ, self._ended)

    def say(self, message: list[Any], fds: tuple[int, ...] = ()) -> bool:
        """Tell it something; False when it does not listen any more, and then it is ended."""
        try:
            words.send(self._sock, message, fds)
        except OSError:
            self.kill()
            return False
        return True

    def hear(self) -> None:
        """Heed everything it has said."""
        while self._sock.fileno() >= 0:
            try:
                message, fds = words.receive(self._sock)
            except BlockingIOError:
                return
            except words.GoneError:
                self._stop_hearing()
                self.kill()
                return
            self._heed(message, fds)

    def kill(self) -> None:
        send_by_pidfd(self._pidfd, signal.SIGKILL)

    def _ended(self) -> None:
        if self.state is State.GONE:
            return
        self.hear()  # what it said before
        self._stop_hearing()
        self._printed()
        self.state = State.GONE
        for fd in (self._pidfd, self._output):
            self._unregister(fd)
            os.close(fd)
        self._gone(self._process.wait())

    def _printed(self) -> None:
        if self.state is State.GONE:
            return
        with contextlib.suppress(BlockingIOError):
            if data := os.read(self._output, 1 << 16):
                pass_on(data)
            else:
                self._unregister(self._output)  # the application closed it

    def _stop_hearing(self) -> None:
        self._unregister(self._sock)
        self._sock.close()

    def _unregister(self, source: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)


def works_here() -> bool:
    """Whether this system has what a template needs: Linux 5.4 or newer."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
