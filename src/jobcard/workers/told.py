"""How a job in a process of its own hears that it shall end: a `Told` raised in the middle of what it does.

The engine writes on the board and sends a signal. Python runs our handler in the main thread, between two steps of
whatever is going on there, and only there it can be seen whether that is the job's own code:

    serve ─ around_run hooks ─► Ear.inside ─► the job's code ─► a library, time.sleep, …      here it is raised
                                                            └─► jobcard itself                here never: asked again

So no lock of ours stays locked, no frame is half sent, no hook is cut short, and a job that has returned stays so.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from jobcard.core.signals import Told
from jobcard.workers.board import TELL_SIGNAL, Board, Notice

if TYPE_CHECKING:
    import asyncio

ASK_AGAIN_SECONDS = 0.002

T = TypeVar("T")
_PACKAGE = Path(__file__).resolve().parents[1]
_OURS = str(_PACKAGE) + os.sep
_JOBS_OF_OURS = str(_PACKAGE / "cli") + os.sep
_WAITS = (str(_PACKAGE / "client" / "watcher.py"), str(_PACKAGE / "client" / "handles.py"))
_MAY_WAIT = ("wait", "result")
_CALLBACKS = str(Path("asyncio") / "events.py")
"""Where a loop that a job runs calls back; what is raised there is logged and goes no further."""


class Ear:
    """Hears, for the job that runs, that it shall end. One for a worker process, made in its main thread."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._seq: int | None = None
        self._inside = False
        self._is_async = False
        self._task: asyncio.Task[Any] | None = None
        self._raised = False
        self._asking_for: int | None = None
        self._main = threading.main_thread().ident
        self.heard = False
        """Whether the job knows: it was interrupted, or it asked."""
        self.handler = self._on_signal

    def listen(self) -> None:
        """Be called when a notice is on the board."""
        signal.signal(TELL_SIGNAL, self.handler)

    def deafen(self) -> None:
        """Jobs that share a worker are told by message."""
        signal.signal(TELL_SIGNAL, signal.SIG_IGN)

    # -- the job

    def begin(self, seq: int, *, is_async: bool) -> None:
        """From now on job `seq` is the one that may be told."""
        self.heard = self._raised = False
        self._is_async = is_async
        self._seq = seq

    def end(self) -> None:
        """It has ended; whatever comes now is too late for it."""
        self._seq = self._task = None

    def told(self) -> str | None:
        """Why the running job shall end; None: it may go on."""
        notice = self._notice()
        if notice is None:
            return None
        self.heard = True
        return notice.reason

    def _notice(self) -> Notice | None:
        notice = self._board.read()
        return notice if notice is not None and notice.seq == self._seq else None

    def inside(self, call: Callable[[], T]) -> T:
        """Run the job's own code: only what is called from here is ever interrupted."""
        self._inside = True
        try:
            return call()
        finally:
            self._inside = False

    def run_coroutine(self, call: Callable[[], Any]) -> Any:
        """Run an `async def` job on an event loop of its own; told to end, its task is cancelled."""
        import asyncio  # 70 ms to import, and most jobs never need it

        async def job() -> Any:
            self._task = asyncio.current_task()
            try:
                return await call()
            finally:
                self._task = None

        return asyncio.run(job())

    # -- being told

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        seq = self._seq
        notice = self._notice()
        if seq is None or notice is None or self._raised:
            return
        task = self._task
        if task is not None:
            self._raised = self.heard = True
            task.get_loop().call_soon_threadsafe(task.cancel, notice.reason)
        elif not self._is_async and may_interrupt(frame):
            self._raise(notice)
        else:
            self._ask_again(seq)

    def _raise(self, notice: Notice) -> None:
        self._raised = self.heard = True
        raise Told(notice.reason)

    def after_waiting(self) -> None:
        """The job's code has waited for an answer in our code, where it was not to be interrupted: now it may be."""
        if self._asking_for is None or self._asking_for != self._seq:
            return  # it is not told to end, or it was another job that was
        if self._inside and not self._raised and not self._is_async and threading.get_ident() == self._main:
            notice = self._notice()
            if notice is not None:
                self._raise(notice)

    def _ask_again(self, seq: int) -> None:
        if self._asking_for == seq:
            return
        self._asking_for = seq
        # Not `threading`: its locks may be held by what we have interrupted. Without room for a thread the job can
        # still look for itself.
        with contextlib.suppress(RuntimeError):
            _thread.start_new_thread(self._keep_asking, (seq,))

    def _keep_asking(self, seq: int) -> None:
        assert self._main is not None
        leave_signals_to_others()
        while self._seq == seq and not self._raised:
            time.sleep(ASK_AGAIN_SECONDS)
            signal.pthread_kill(self._main, TELL_SIGNAL)


def leave_signals_to_others() -> None:
    """In a thread of ours: a signal that went to it would not wake the thread of the job."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


_BORDER = Ear.inside.__code__


def may_interrupt(frame: FrameType | None) -> bool:
    """Whether an exception may be raised here: it is a job's own code, or what that has called, but not ours."""
    if frame is None or frame.f_code is _BORDER:
        return False  # before its first step, or after its last: what it returned stands
    if frame.f_code.co_filename.startswith("<frozen importlib"):
        return False  # it holds the lock of a module
    while frame is not None and frame.f_code is not _BORDER:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename.endswith(_CALLBACKS):
            return False  # it would be printed and forgotten
        if code.co_filename.startswith(_OURS) and not _is_harmless(code):
            return False
        frame = frame.f_back
    return frame is not None


def _is_harmless(code: CodeType) -> bool:
    # The demo's and the benchmark's jobs live in `cli`; whoever waits for another job holds nothing.
    return code.co_filename.startswith(_JOBS_OF_OURS) or (code.co_filename in _WAITS and code.co_name in _MAY_WAIT)
