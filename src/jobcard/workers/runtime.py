"""What runs inside a worker: take a permit, run that job, say how it ended.

One thread, one job at a time, in the order given. The engine may take back at any moment what has not
started: a job runs only after its number was read from the permit pipe.
"""

from __future__ import annotations

import itertools
import os
import random
import select
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from jobcard.core import context, limits
from jobcard.core.context import JobContext
from jobcard.core.definition import JobDefinition
from jobcard.core.job import Claimed
from jobcard.core.signals import Cancel, Fail, JobSignal, Retry, Snooze
from jobcard.errors import ConfigError, InvalidJobError, SerializationError
from jobcard.workers import link, messages
from jobcard.workers.board import Board

MAX_REASON = 1_000  # characters of what a job says about its own end

_OURS = str(Path(__file__).resolve().parents[1]) + os.sep


class EngineGoneError(BaseException):
    """The engine closed its end: nobody wants an answer any more."""


NO_MORE = b""
T = TypeVar("T")


class Pipes:
    """The worker's side of the socket and the permit pipe."""

    def __init__(self, sock: socket.socket, permits: int, board: Board) -> None:
        self.board = board
        self._sock = sock
        self._permits = permits
        self._inbox = messages.Inbox()
        self._given: deque[tuple[int, Claimed]] = deque()
        self._replies: dict[int, tuple[Any, Any]] = {}
        self._calls = itertools.count(1)
        self._told_to_stop = False
        self._sending = threading.Lock()
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
            for message in self._inbox.feed(self._receive()):
                if message[0] == messages.BOOT:
                    return dict(message[1])

    def send(self, *message: Any) -> None:
        """Say something to the engine, whole."""
        if os.getpid() != self._pid:
            raise EngineGoneError  # a child forked by a job must not answer in its name
        frame = messages.encode(message)
        with self._sending:
            try:
                self._sock.sendall(frame)
            except OSError as error:
                raise EngineGoneError from error

    def next_job(self) -> tuple[int, Claimed] | None:
        """The next job we may start; None: there will be no more."""
        permit = self._take_permit()
        if permit is None:
            permit = self._read_until(self._take_permit, self._anything)
        if permit == NO_MORE:
            return None
        number = messages.PERMIT.unpack(permit)[0]
        return self._find_job(number) or self._read_until(lambda: self._find_job(number), self._message)

    def ask(self, verb: str, packed: bytes) -> Any:
        """One store verb, through the engine; waits for the answer. Any thread may ask."""
        if os.getpid() != self._pid:
            raise ConfigError("a process forked inside a job cannot use the job's store: use it in the job itself")
        call = next(self._calls)
        self.send(messages.CALL, call, verb, packed)
        error, answer = self._read_until(lambda: self._replies.pop(call, None), self._message)
        return link.unpack_answer(verb, error, answer)

    def _take_permit(self) -> bytes | None:
        """The next permit; NO_MORE when none will come; None when none is there yet."""
        try:
            permit = os.read(self._permits, messages.PERMIT.size)
        except BlockingIOError:
            # What was given and has no permit when we are told to stop was taken back.
            return NO_MORE if self._told_to_stop else None
        if not permit:
            raise EngineGoneError
        return permit

    def _find_job(self, number: int) -> tuple[int, Claimed] | None:
        while self._given:
            seq, claim = self._given.popleft()
            # Those before it were taken back: their permits are gone.
            if seq == number:
                return seq, claim
        return None

    def _read_until(self, look: Callable[[], T | None], sources: select.poll) -> T:
        """Wait until `look` finds something. One thread reads at a time, for all who wait."""
        while True:
            with self._turn:
                while (found := look()) is None and self._reading:
                    self._turn.wait()
                if found is not None:
                    return found
                self._reading = True
            try:
                if any(fd != self._permits for fd, _event in sources.poll()):
                    self._read()
            finally:
                with self._turn:
                    self._reading = False
                    self._turn.notify_all()

    def _read(self) -> None:
        for message in self._inbox.feed(self._receive()):
            if message[0] == messages.JOBS:
                self._given.extend((seq, Claimed(*claim)) for seq, claim, _since in message[1])
            elif message[0] == messages.REPLY:
                self._replies[message[1]] = (message[2], message[3])
            elif message[0] == messages.STOP:
                self._told_to_stop = True

    def _receive(self) -> bytes:
        try:
            data = self._sock.recv(1 << 18)
        except OSError as error:
            raise EngineGoneError from error
        if not data:
            raise EngineGoneError
        return data


def serve(app: Any, pipes: Pipes) -> None:
    """Run jobs of this application until the engine has no more."""
    find = app.registry.find
    codec = app.codec
    clock = time.monotonic
    flush = _flusher()
    while (job := pipes.next_job()) is not None:
        seq, claim = job
        started = clock()
        definition = find(claim.name)
        if definition is None:
            pipes.send(messages.ENDED, seq, started, clock(), _unknown(claim))
            continue
        ended: dict[str, Any] | None
        try:
            result, ended = _run(definition, codec, claim)
        except EngineGoneError:
            raise
        except BaseException as error:
            result, ended = None, _ended_by(error, definition, claim)
        flush()
        if ended is None:
            pipes.send(messages.DONE, seq, started, clock(), result)
        else:
            pipes.send(messages.ENDED, seq, started, clock(), ended)


def _run(definition: JobDefinition, codec: Any, claim: Claimed) -> tuple[str | None, dict[str, Any] | None]:
    ctx = JobContext(claim, codec, deadline=_deadline(claim))
    try:
        call = definition.prepare(codec, claim.init, claim.args, claim.kwargs, ctx)
    except (SerializationError, InvalidJobError) as error:
        # Retrying cannot help: the stored call does not fit the code.
        return None, _word("bad_call", definition, claim, error=error, reason=str(error))
    token = context.current.set(ctx)
    try:
        value = call()
    finally:
        context.current.reset(token)
    if isinstance(value, JobSignal):
        raise value
    try:
        return definition.dump_result(codec, value), None
    except (SerializationError, InvalidJobError) as error:
        return None, _word("serialization", definition, claim, error=error, reason=str(error))


def _deadline(claim: Claimed) -> int | None:
    return None if claim.timeout is None else time.time_ns() // 1000 + claim.timeout


# ------------------------------------------------------------------ how a job ended, in words


def _unknown(claim: Claimed) -> dict[str, Any]:
    return {"kind": "unknown_name", "reason": claim.name, "delay": None, "error": None, "error_kind": None}


def _ended_by(error: BaseException, definition: JobDefinition, claim: Claimed) -> dict[str, Any]:
    if isinstance(error, Snooze):
        return _word("snooze", definition, claim, delay=error.delay)
    if isinstance(error, Cancel):
        return _word("cancel", definition, claim, reason=error.reason)
    if isinstance(error, Fail):
        return _word("fail", definition, claim, error=error, reason=error.reason)
    if isinstance(error, Retry) and error.delay is not None:
        return _word("retry", definition, claim, error=error, reason=error.reason, delay=error.delay)
    word = _word("retry" if isinstance(error, Retry) else "error", definition, claim, error=error)
    backoff = definition.options.backoff
    if backoff.is_custom:  # any other policy is stored with the job, and the engine reads it there
        word["delay"], problem = backoff.custom_delay(claim.attempt, random.random)
        if problem is not None:
            word["error"]["message"] += f" ({problem})"
    return word


def _word(
    kind: str,
    definition: JobDefinition,
    claim: Claimed,
    *,
    error: BaseException | None = None,
    reason: str | None = None,
    delay: int | None = None,
) -> dict[str, Any]:
    reason = None if reason is None else _cut(reason, MAX_REASON)
    word: dict[str, Any] = {"kind": kind, "reason": reason, "delay": delay, "error": None, "error_kind": None}
    if error is not None:
        word["error"] = describe(error)
        word["error_kind"] = f"{type(error).__name__} in {definition.name}"
    if kind == "cancel":
        word["error"] = {"type": "Cancel", "message": reason, "traceback": None}
    return word


def describe(error: BaseException) -> dict[str, Any]:
    """An error as text of bounded size; calls nothing of the error's own without a guard."""
    cls = type(error)
    name = cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except BaseException as worse:
        message = f"<its __str__ raised {type(worse).__name__}>"
    try:
        trace = "".join(traceback.format_exception(cls, error, _own_frames(error.__traceback__), limit=50))
    except BaseException as worse:
        trace = f"<no traceback: {type(worse).__name__} while formatting it>"
    return {
        "type": name[:200],
        "message": _cut(message, 8 << 10),
        "traceback": _cut(trace, limits.MAX_ERROR_TEXT - (9 << 10)),
    }


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from where the job's own code begins; all of it when the job's code is not in it."""
    frame = trace
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_OURS):
        frame = frame.tb_next
    return frame or trace


def _cut(text: str, most: int) -> str:
    """At most so many characters: head and tail, the gap marked; what is no text is spelled out."""
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


def _flusher() -> Any:
    streams = (sys.stdout, sys.stderr)

    def flush() -> None:
        for stream in streams:
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                # The job closed or replaced it; its loss.
                continue

    return flush
