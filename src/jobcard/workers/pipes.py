"""The worker's side of its pipes: which job may start, what the engine says, and whoever waits for an answer.

Any thread may send and ask. One thread reads at a time, for all who wait; in a worker that shares, its event loop
reads, and others only when the loop is blocked.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from jobcard.core.job import Claimed
from jobcard.errors import ConfigError
from jobcard.workers import link, messages
from jobcard.workers.board import Board

NO_MORE = b""
LOOP_IS_BLOCKED = 0.1
"""Seconds after which a thread that waits for an answer reads it itself, since the event loop does not."""

_AT_ONCE = 1 << 18
T = TypeVar("T")
Answer = tuple[dict[str, Any] | None, bytes | None]
"""What a REPLY carries: (error, answer)."""


class EngineGoneError(BaseException):
    """The engine closed its end: nobody wants an answer any more."""


class Listener(Protocol):
    """A sharing worker's loop, as it hears of what was read; any thread may be the one that read it."""

    def jobs_came(self) -> None:
        """There are jobs that were not there before."""
        ...

    def stop_came(self) -> None:
        """There will be no more jobs."""
        ...

    def cancel_came(self, seq: int, reason: str) -> None:
        """This job shall end."""
        ...

    def pipe_is_full(self) -> None:
        """Some of what was to be sent waits for room."""
        ...


class Pipes:
    """The worker's side of the socket and the permit pipe."""

    def __init__(self, sock: socket.socket, permits: int, board: Board) -> None:
        self.board = board
        self.permits = permits
        self.sharing = False
        self.told_to_stop = False
        self.after_waiting: Callable[[], None] = _nothing
        """Called in a thread that has waited for an answer, when it has it."""
        self._sock = sock
        self._inbox = messages.Inbox()
        self._given: deque[tuple[int, Claimed]] = deque()
        self._replies: dict[int, Answer] = {}
        self._callbacks: dict[int, Callable[[Answer], None]] = {}
        self._calls = itertools.count(1)
        self._listener: Listener | None = None
        self._cancels: list[tuple[int, str]] = []  # that came before there was one
        self._loop_thread: int | None = None
        self._outgoing: deque[bytes] = deque()
        self._unsent = bytearray()
        self._send_flags = 0
        self._sending = threading.RLock()
        self._is_sending = False
        self._turn = threading.Condition()
        self._reading = False
        self._pid = os.getpid()
        self._message = select.poll()
        self._message.register(sock, select.POLLIN)
        self._anything = select.poll()
        self._anything.register(sock, select.POLLIN)
        self._anything.register(permits, select.POLLIN)

    def boot(self) -> dict[str, Any]:
        """The first message: what to import."""
        while True:
            self._message.poll()
            for message in self._inbox.feed(self._receive()):
                if message[0] == messages.BOOT:
                    return dict(message[1])

    # -- sending

    def send(self, *message: Any) -> None:
        """Say something to the engine, whole."""
        self.post(messages.encode(message))
        self.push()

    def post(self, frame: bytes) -> None:
        """Say something with the next `push`, after all that was posted before."""
        self._outgoing.append(frame)

    def push(self) -> None:
        """Send what was posted. Returns when the pipe has it; in a sharing worker the loop sends what has no room."""
        if os.getpid() != self._pid:
            raise EngineGoneError  # a child forked by a job must not answer in its name
        with self._sending:
            if self._is_sending:
                return  # a signal handler of the job: what it interrupted takes this along
            self._is_sending = True
            try:
                self._send_all()
            except BlockingIOError:
                if self._listener is not None:
                    self._listener.pipe_is_full()
            except OSError as error:
                raise EngineGoneError from error
            finally:
                self._is_sending = False

    def _send_all(self) -> None:
        outgoing, unsent = self._outgoing, self._unsent
        while outgoing or unsent:
            while outgoing:
                unsent += outgoing.popleft()
            del unsent[: self._sock.send(unsent, self._send_flags)]

    # -- jobs

    def next_job(self) -> tuple[int, Claimed] | None:
        """The next job we may start; None: there will be no more, or we are to share from now on."""
        permit = self.take_permit()
        if permit is None:
            permit = self._read_until(self.take_permit, self._anything)
        if permit == NO_MORE:
            return None
        number = messages.PERMIT.unpack(permit)[0]
        job = self.find_job(number) or self._read_until(lambda: self.find_job(number), self._message)
        if self.sharing:
            # We were told between its permit and its record.
            self._given.appendleft(job)
            self.first_permit = number
            return None
        return job

    first_permit: int | None = None
    """A job that a sharing worker may start, its permit taken before it knew that it shares."""

    def take_permit(self) -> bytes | None:
        """The next permit; NO_MORE when none will come; None when none is there yet."""
        if self.sharing and self._listener is None:
            return NO_MORE
        try:
            permit = os.read(self.permits, messages.PERMIT.size)
        except BlockingIOError:
            # What was given and has no permit when we are told to stop was taken back.
            return NO_MORE if self.told_to_stop else None
        if not permit:
            raise EngineGoneError
        return permit

    def find_job(self, number: int) -> tuple[int, Claimed] | None:
        """The job of this number; None when its record has not come yet."""
        while self._given:
            seq, claim = self._given.popleft()
            # Those before it were taken back: their permits are gone.
            if seq == number:
                return seq, claim
        return None

    # -- asking

    def ask(self, verb: str, packed: bytes) -> Any:
        """One store verb, through the engine; waits for the answer. Any thread may ask."""
        self.check_process()
        call = self.new_call()
        self.send(messages.CALL, call, verb, packed)
        error, answer = self.wait_for(call)
        return link.unpack_answer(verb, error, answer)

    def check_process(self) -> None:
        """`ConfigError` in a process that a job has forked."""
        if os.getpid() != self._pid:
            raise ConfigError("a process forked inside a job cannot use the job's store: use it in the job itself")

    def new_call(self, tell: Callable[[Answer], None] | None = None) -> int:
        """A number for a question. tell: hears the answer, in whichever thread read it; None: somebody waits for it."""
        call = next(self._calls)
        if tell is not None:
            self._callbacks[call] = tell
        return call

    def wait_for(self, call: int) -> Answer:
        """The answer to a question of this thread."""
        answer = self._read_until(lambda: self._replies.pop(call, None), self._message)
        self.after_waiting()
        return answer

    def _read_until(self, look: Callable[[], T | None], sources: select.poll) -> T:
        """Wait until `look` finds something. One thread reads at a time, for all who wait."""
        while True:
            with self._turn:
                if (found := look()) is not None:
                    return found
                beside_loop = self._loop_thread not in (None, threading.get_ident())
                if self._reading or beside_loop:
                    heard = self._turn.wait(LOOP_IS_BLOCKED if beside_loop else None)
                    if heard or self._reading:
                        continue
                self._reading = True
            try:
                if any(fd != self.permits for fd, _event in sources.poll(0 if beside_loop else None)):
                    self._read()
            finally:
                self._have_read()

    # -- reading

    def share(self, listener: Listener) -> int:
        """From now on this thread's event loop reads, when the descriptor returned has something; `read` does it."""
        self._listener = listener
        self._loop_thread = threading.get_ident()
        self._send_flags = socket.MSG_DONTWAIT
        for seq, reason in self._cancels:
            listener.cancel_came(seq, reason)
        return self._sock.fileno()

    def read(self) -> None:
        """Read what is there, unless somebody is at it."""
        with self._turn:
            if self._reading:
                return
            self._reading = True
        try:
            self._read()
        finally:
            self._have_read()

    def _have_read(self) -> None:
        with self._turn:
            self._reading = False
            self._turn.notify_all()

    def _read(self) -> None:
        try:
            data = self._receive()
        except BlockingIOError:
            return
        for message in self._inbox.feed(data):
            kind = message[0]
            if kind == messages.JOBS:
                self._given.extend((seq, Claimed(*claim)) for seq, claim, _since in message[1])
                if self._listener is not None:
                    self._listener.jobs_came()
            elif kind == messages.REPLY:
                self._answered(message[1], (message[2], message[3]))
            elif kind == messages.STOP:
                self.told_to_stop = True
                if self._listener is not None:
                    self._listener.stop_came()
            elif kind == messages.SHARE:
                self.sharing = True
            elif kind == messages.CANCEL:
                if self._listener is None:
                    self._cancels.append((message[1], message[3]))
                else:
                    self._listener.cancel_came(message[1], message[3])

    def _answered(self, call: int, answer: Answer) -> None:
        tell = self._callbacks.pop(call, None)
        if tell is None:
            self._replies[call] = answer
        else:
            tell(answer)

    def _receive(self) -> bytes:
        try:
            data = self._sock.recv(_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError as error:
            raise EngineGoneError from error
        if not data:
            raise EngineGoneError
        return data


def _nothing() -> None:
    pass
