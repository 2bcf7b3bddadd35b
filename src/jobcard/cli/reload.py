"""An engine that is started anew whenever a source file changes. This process never imports the application."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jobcard.cli import output
from jobcard.engine import exits
from jobcard.engine.control import KeeperHandle, launch_keeper
from jobcard.errors import JobcardError

_LOOK_SECONDS = 0.3
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})
_ENVIRONMENT = "pyvenv.cfg"  # what a directory holds that is a virtual environment

Sources = Mapping[str, tuple[int, int]]


class Beside(Protocol):
    """What runs as long as one engine does."""

    def close(self) -> None: ...


def look(root: str = ".") -> Sources:
    """Each Python file below a directory with its time and size; environments and hidden directories left out."""
    found: dict[str, tuple[int, int]] = {}
    for folder, folders, names in os.walk(root):
        if _ENVIRONMENT in names and folder != root:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _LEFT_OUT]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)  # noqa: PTH118
                try:
                    about = os.stat(path)  # noqa: PTH116 - many, every third of a second
                except OSError:
                    continue
                found[path] = (about.st_mtime_ns, about.st_size)
    return found


def run_reloading(boot: dict[str, Any], *, beside: Callable[[float], Beside] | None = None) -> int:
    """Keep an engine of the present sources running until told to stop; the exit code.

    beside: makes what runs beside each engine that became ready; hears when that engine was started (`time.time`).
    """
    return _Reloading(boot, beside).run()


class _StoppedAtStart(BaseException):
    """Told to stop while an engine starts: nobody waits for that any more."""


class _Reloading:
    def __init__(self, boot: dict[str, Any], beside: Callable[[float], Beside] | None) -> None:
        self._boot = boot
        self._make_beside = beside
        self._beside: Beside | None = None
        self._engine: KeeperHandle | None = None
        self._starting = False
        self._signals = 0
        self._woken, waker = os.pipe()
        for fd in (self._woken, waker):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)

    def run(self) -> int:
        while True:
            sources = look()
            try:
                self._start()
            except _StoppedAtStart:
                return exits.OK
            changed = self._wait_for_change(sources)
            code = self._stop()
            if not changed:
                return exits.INTERRUPTED if self._signals > 1 else code
            output.note(f"reloading: {', '.join(map(output.one_line, sorted(changed)))}")

    def _told(self, number: int, _frame: object) -> None:
        self._signals += 1
        if self._starting:
            self._starting = False
            raise _StoppedAtStart
        if self._signals > 1 and self._engine is not None and self._engine.running:
            os.kill(self._engine.pid, number)

    def _start(self) -> None:
        began = time.time()
        self._starting = True
        try:
            self._engine = launch_keeper(self._boot)
        except JobcardError as error:
            # It may be half a sentence: the next change may complete it.
            output.complain(str(error))
            output.note("waiting for a change")
            return
        finally:
            self._starting = False
        output.note(f"ready: process {self._engine.pid}")
        if self._make_beside is not None:
            self._beside = self._make_beside(began)

    def _wait_for_change(self, sources: Sources) -> set[str]:
        """The files that changed, when they have stopped changing; none when we are to end."""
        while not self._is_over():
            self._pause()
            now = look()
            if now == sources:
                continue
            while not self._is_over():
                # An editor that saves several files, or one in steps, is one change.
                self._pause()
                later = look()
                if later == now:
                    return {path for path in now.keys() | sources.keys() if now.get(path) != sources.get(path)}
                now = later
        return set()

    def _is_over(self) -> bool:
        """Told to stop, or the engine was, by somebody else."""
        return bool(self._signals) or (self._engine is not None and not self._engine.running)

    def _pause(self) -> None:
        if select.select((self._woken,), (), (), _LOOK_SECONDS)[0]:
            os.read(self._woken, 512)

    def _stop(self) -> int:
        """End the engine as SIGTERM does, and what runs beside it; the engine's exit code."""
        code = 0
        if self._engine is not None:
            if self._engine.running:
                os.kill(self._engine.pid, signal.SIGTERM)
            code = self._engine.wait()
            self._engine = None
        if self._beside is not None:
            self._beside.close()
            self._beside = None
        return code
