"""A worker process of its own and an engine's ends of its pipes, for tests that speak to it as an engine does."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.waiting import wait_until
from jobcard.core.job import Claimed
from jobcard.workers import link, messages
from jobcard.workers.board import Board, ring
from jobcard.workers.messages import Why

APPS = Path(__file__).parent / "apps"
_LIMITS = ("limit_key", "key_limit", "rate_count", "rate_per")

PATIENCE = 30.0
"""Seconds; far beyond what anything takes."""

RING_AGAIN = 0.1

_MAIN = "from jobcard.workers.process import main; main()"


class Worker:
    """One worker process that has imported an application; the test is its engine."""

    def __init__(self, app: str, *, share: bool = False, boot: dict[str, Any] | None = None, store: Any = None) -> None:
        """app: a file in `apps`. store: what answers its calls; None: they are kept in `calls`."""
        self.sock, far = socket.socketpair()
        self.permits, self._permits_in = os.pipe()
        os.set_blocking(self.permits, False)
        self.board = Board.create()
        self._store = store
        self.calls: deque[list[Any]] = deque()
        """Store verbs that were asked for and not answered."""
        self._inbox = messages.Inbox()
        self._heard: deque[list[Any]] = deque()
        self._told, self._rings = False, 0
        self.sock.settimeout(PATIENCE)
        fds = (far.fileno(), self.permits, self.board.fd)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *map(str, (*fds, os.getpid()))],
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
            start_new_session=True,
        )
        far.close()
        told = {"sys_path": [str(APPS), *sys.path], "argv": [""], "path": None, "module": app, "attribute": "jobs"}
        self.say(messages.BOOT, {**told, "imports": [], **(boot or {})})
        self.hello = self.hear(messages.HELLO)[1]
        self._name = app
        self._seq = 0
        if share:
            self.say(messages.SHARE)

    # -- saying

    def say(self, *message: Any) -> None:
        self.sock.sendall(messages.encode(message))

    def record(self, name: str, *args: Any, **fields: Any) -> Claimed:
        """A claimed job of this application."""
        plain: dict[str, Any] = dict.fromkeys(Claimed._fields, 0)
        nothing = ("init", "timeout", "checkpoint", *_LIMITS, "batch_id", "parent_id", "schedule_id", "tags", "meta")
        plain |= dict.fromkeys(nothing)
        plain |= {"ref": 1, "token": 1, "state": "claimed", "id": bytes(15) + b"\1", "queue": "default"}
        plain |= {"name": f"{self._name}.{name}", "args": json.dumps(args), "kwargs": "{}", "backoff": ""}
        plain |= {"attempt": 1, "max_attempts": 5, "max_crashes": 3, "claimed_by": "test"}
        return Claimed(**{**plain, **fields})

    def give(self, name: str, *args: Any, permit: bool = True, **fields: Any) -> int:
        """Hand over one job; its number."""
        self._seq += 1
        self.say(messages.JOBS, [(self._seq, self.record(name, *args, **fields), 0.0)])
        if permit:
            self.permit(self._seq)
        return self._seq

    def give_many(self, count: int, name: str, *args: Any) -> list[int]:
        """Hand over many of a kind."""
        numbers = list(range(self._seq + 1, self._seq + 1 + count))
        self._seq += count
        record = self.record(name, *args)
        self.say(messages.JOBS, [(number, record, 0.0) for number in numbers])
        os.write(self._permits_in, b"".join(map(messages.PERMIT.pack, numbers)))
        return numbers

    def permit(self, seq: int) -> None:
        os.write(self._permits_in, messages.PERMIT.pack(seq))

    def recall(self) -> list[int]:
        """Take back the permits that were not read."""
        try:
            data = os.read(self.permits, 1 << 12)
        except BlockingIOError:
            return []
        return [number for (number,) in messages.PERMIT.iter_unpack(data)]

    def until_permits_are_taken(self) -> None:
        """Wait until the worker has read every permit."""
        wait_until(lambda: not select.select((self.permits,), (), (), 0)[0], "a worker that takes its permits")

    def tell(self, seq: int, reason: str = "because", why: Why = Why.CANCEL) -> None:
        """Tell a job of a worker that does not share."""
        self.board.post(seq, why, reason)
        self._told, self._rings = True, 0
        self.signal()

    def signal(self) -> None:
        ring(self.process.pid)

    def cancel(self, seq: int, reason: str = "because", why: Why = Why.CANCEL) -> None:
        """Tell a job of a worker that shares."""
        self.say(messages.CANCEL, seq, why, reason)

    def answer(self, call: int, error: Exception | None = None) -> None:
        """Answer a note, or a call with `False`."""
        plain = link.error_to_plain(error) if error is not None else None  # type: ignore[arg-type]
        self.say(messages.REPLY, call, plain, messages._pack(False))

    # -- hearing

    def hear_where(self, fits: Callable[[list[Any]], bool]) -> list[Any]:
        """The next message that fits; those before it are kept for whoever asks later."""
        for place, message in enumerate(self._heard):
            if fits(message):
                del self._heard[place]
                return message
        while True:
            data = self._receive()
            assert data, "the worker has closed its end"
            self._heard.extend(message for message in self._inbox.feed(data) if not self._served(message))
            for place, message in enumerate(self._heard):
                if fits(message):
                    del self._heard[place]
                    return message

    def _receive(self) -> bytes:
        # As an engine does: a signal that came in the moment before a system call is seen after it only.
        while self._told and not select.select((self.sock,), (), (), RING_AGAIN)[0]:
            self._rings += 1
            assert self._rings < PATIENCE / RING_AGAIN, "the job goes on though it was told to end"
            self.signal()
        return self.sock.recv(1 << 18)

    def hear(self, *kinds: int) -> list[Any]:
        """The next message of one of these kinds."""
        return self.hear_where(lambda message: message[0] in kinds)

    def end_of(self, seq: int) -> list[Any]:
        """The last word on a job."""
        ends = (messages.DONE, messages.FOLLOWED, messages.ENDED)
        return self.hear_where(lambda message: message[0] in ends and message[1] == seq)

    def result_of(self, seq: int) -> Any:
        """What a job returned."""
        end = self.end_of(seq)
        assert end[0] == messages.DONE, end
        return json.loads(end[4])

    def word_of(self, seq: int) -> dict[str, Any]:
        """What is said of a job that did not return."""
        end = self.end_of(seq)
        assert end[0] == messages.ENDED, end
        word: dict[str, Any] = end[4]
        return word

    def note_of(self, seq: int) -> list[Any]:
        """The next note of a job."""
        return self.hear_where(lambda message: message[0] == messages.NOTE and message[1] == seq)

    def all_heard(self) -> list[list[Any]]:
        """What was heard and nobody has asked for."""
        return list(self._heard)

    def _served(self, message: list[Any]) -> bool:
        if message[0] != messages.CALL:
            return False
        if self._store is None:
            self.calls.append(message)
            return False
        _kind, call, verb, packed = message
        self.say(messages.REPLY, call, *link.perform(self._store, verb, packed))
        return True

    # -- its end

    def stop(self) -> int:
        """Tell it that there is no more, and hear all it still has to say; its exit code."""
        self.say(messages.STOP)
        while data := self.sock.recv(1 << 18):
            self._heard.extend(self._inbox.feed(data))
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        self.sock.close()
        os.close(self.permits)
        os.close(self._permits_in)
        self.board.close()
