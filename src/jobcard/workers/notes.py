"""What a running job says before it ends: how far it is, lines of its log, checkpoints, and what shall follow it.

progress, log     kept here and sent at most every 0.1 s, the rest before the job's end is said
save_checkpoint   sent at once, with all that is kept; returns when the engine says that it is stored
then              kept, and sent with the job's success
"""

from __future__ import annotations

import _thread
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobcard.core import ids, limits
from jobcard.core.codec.text import encode
from jobcard.core.job import LAST_LINES, LINES_TEXT, NewJob
from jobcard.errors import ConfigError, InvalidJobError
from jobcard.workers import link, messages
from jobcard.workers.pipes import Answer, EngineGoneError, Pipes
from jobcard.workers.told import leave_signals_to_others

if TYPE_CHECKING:
    import asyncio

    from jobcard.workers.told import Ear

GAP = 0.1  # seconds between two notes of one job
MAX_FOLLOW_UPS = limits.BULK
MAX_FOLLOW_UPS_TEXT = 16 << 20  # characters of arguments of all of them: they cross the pipe in one frame

NewFollowUp = Callable[[Any, bytes, bytes], NewJob]
"""Makes a job of a call: (call, its id, its parent's id); `InvalidJobError` when the arguments do not fit."""


class Book:
    """What is kept for a while of the notes of all running jobs; any thread may write."""

    def __init__(self, pipes: Pipes, new_follow_up: NewFollowUp | None) -> None:
        self.pipes = pipes
        self.new_follow_up = new_follow_up
        self.lock = threading.RLock()  # a signal handler of a job may write while it writes
        self._late: dict[JobLine, None] = {}
        self._is_ticking = False

    def send_soon(self, line: JobLine) -> None:
        """Send what this line keeps when the time has come."""
        self._late[line] = None
        if not self._is_ticking:
            _thread.start_new_thread(self._tick, ())
            self._is_ticking = True

    def _tick(self) -> None:
        leave_signals_to_others()
        with contextlib.suppress(EngineGoneError):
            while True:
                time.sleep(GAP)
                with self.lock:
                    late, self._late = self._late, {}
                    if not late:
                        self._is_ticking = False
                        return
                    for line in late:
                        line.send_rest()


class JobLine:
    """One running job's line to its engine."""

    def __init__(self, book: Book, seq: int, job_id: bytes) -> None:
        self.seq = seq
        self.follow_ups: list[NewJob] = []
        self._book = book
        self._job_id = job_id
        self._is_open = True
        self._progress: str | None = None
        self._lines: deque[tuple[float, str]] | None = None
        self._lines_text = 0
        self._follow_ups_text = 0
        self._sent_at = 0.0

    # -- what a context needs

    def told(self) -> str | None:
        """Why the job shall end; None: it may go on."""
        raise NotImplementedError

    def progress(self, value: float, text: str | None) -> None:
        """Say how far it is; what was said before and not sent yet is forgotten."""
        self._book.pipes.check_process()
        with self._book.lock:
            self._check_open()
            self._progress = encode({"value": value, "text": text, "at": time.time_ns() // 1000})
            self._send_in_time()

    def log(self, text: str) -> None:
        """Say a line; of what is not sent yet the last are kept, as in the store."""
        self._book.pipes.check_process()
        with self._book.lock:
            self._check_open()
            if self._lines is None:
                self._lines = deque()
            self._lines.append((time.monotonic(), text))
            self._lines_text += len(text)
            while len(self._lines) > LAST_LINES or self._lines_text > LINES_TEXT:
                self._lines_text -= len(self._lines.popleft()[1])
            self._send_in_time()

    def save(self, checkpoint: str) -> None:
        """Have this stored, and return when it is. Any thread."""
        pipes = self._book.pipes
        call = pipes.new_call()
        self._send_checkpoint(checkpoint, call)
        raise_error_of(pipes.wait_for(call))

    async def save_async(self, checkpoint: str) -> None:
        """The same, awaitable."""
        raise NotImplementedError

    def follow_up(self, call: Any) -> None:
        """Keep this call until the job has succeeded; refused at once when it does not fit."""
        book = self._book
        if book.new_follow_up is None:
            raise ConfigError("this application cannot make follow-up jobs")
        with book.lock:
            self._check_open()
            place = len(self.follow_ups)
            if place >= MAX_FOLLOW_UPS:
                raise InvalidJobError(f"a job has at most {MAX_FOLLOW_UPS:,} follow-ups")
            new = book.new_follow_up(call, ids.follow_up_id(self._job_id, place), self._job_id)
            size = self._follow_ups_text + len(new.args) + len(new.kwargs) + len(new.init or "")
            if size > MAX_FOLLOW_UPS_TEXT:
                raise InvalidJobError(f"the follow-ups of a job: at most {MAX_FOLLOW_UPS_TEXT:,} bytes of arguments")
            self._follow_ups_text = size
            self.follow_ups.append(new)

    # -- sending

    def close(self) -> bytes | None:
        """The job has ended, nothing more can be said; what is to be sent before its end is."""
        with self._book.lock:
            self._is_open = False
            return self._note(None, None) if self._keeps_something() else None

    def send_rest(self) -> None:
        """Send what is kept; whoever calls has the book's lock."""
        if self._is_open and self._keeps_something():
            self._send(self._note(None, None))

    def say_started(self) -> None:
        """Say that the job has begun, where the engine would not know it otherwise."""

    def _send_in_time(self) -> None:
        if time.monotonic() - self._sent_at >= GAP:
            self._send(self._note(None, None))
        else:
            self._book.send_soon(self)

    def _send_checkpoint(self, checkpoint: str, call: int) -> None:
        self._book.pipes.check_process()
        with self._book.lock:
            self._check_open()
            self._send(self._note(checkpoint, call))

    def _send(self, note: bytes) -> None:
        pipes = self._book.pipes
        self.say_started()
        pipes.post(note)
        pipes.push()
        self._sent_at = time.monotonic()

    def _note(self, checkpoint: str | None, call: int | None) -> bytes:
        progress, self._progress = self._progress, None
        lines, self._lines, self._lines_text = self._lines, None, 0
        said = {"progress": progress, "checkpoint": checkpoint, "lines": list(lines or ())}
        return messages.encode([messages.NOTE, self.seq, said, call])

    def _keeps_something(self) -> bool:
        return self._progress is not None or self._lines is not None

    def _check_open(self) -> None:
        if not self._is_open:
            raise ConfigError("this job has ended: nothing more can be said of it")


class OwnLine(JobLine):
    """The line of a job that has its worker to itself while it runs."""

    def __init__(self, book: Book, seq: int, job_id: bytes, ear: Ear) -> None:
        super().__init__(book, seq, job_id)
        self._ear = ear

    def told(self) -> str | None:
        """Why the job shall end; None: it may go on."""
        return self._ear.told()

    async def save_async(self, checkpoint: str) -> None:
        """Have this stored; other tasks of the job go on meanwhile."""
        import asyncio

        # Answers are read by whoever waits for one, so somebody must wait.
        await asyncio.get_running_loop().run_in_executor(None, self.save, checkpoint)


class SharedLine(JobLine):
    """The line of a job that shares its worker with others."""

    def __init__(self, book: Book, seq: int, job_id: bytes, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        """loop, thread: what all jobs of the worker share, which this one must not block."""
        super().__init__(book, seq, job_id)
        self.reason: str | None = None
        self.heard = False
        self.is_started = False
        self._loop = loop
        self._loop_thread = thread

    def told(self) -> str | None:
        """Why the job shall end; None: it may go on."""
        if self.reason is not None:
            self.heard = True
        return self.reason

    def save(self, checkpoint: str) -> None:
        """Have this stored; `ConfigError` on the event loop, which all its jobs would wait with."""
        if threading.get_ident() == self._loop_thread:
            raise ConfigError(
                "save_checkpoint would block the event loop that this job shares with others: "
                "use `await ctx.save_checkpoint_async(…)`"
            )
        super().save(checkpoint)

    async def save_async(self, checkpoint: str) -> None:
        """Have this stored; all other jobs go on meanwhile."""
        import asyncio

        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def settle(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def tell(answer: Answer) -> None:
            with contextlib.suppress(RuntimeError):  # a thread's own loop, closed meanwhile
                loop.call_soon_threadsafe(settle, answer)

        self._send_checkpoint(checkpoint, self._book.pipes.new_call(tell))
        raise_error_of(await answered)

    def say_started(self) -> None:
        """A note must not reach the engine before it knows that the job has begun."""
        with self._book.lock:
            if not self.is_started:
                self.is_started = True
                self._book.pipes.post(messages.encode([messages.STARTED, [[self.seq, time.monotonic()]]]))


def raise_error_of(answer: Answer) -> None:
    """Raise the error an answer carries, if it does."""
    error, _nothing = answer
    if error is not None:
        raise link.error_from_plain(error)
