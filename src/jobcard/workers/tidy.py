"""What is put back between two jobs of one process, so that none finds what another has left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

from jobcard.workers.board import TELL_SIGNAL

_SIGNALS = (TELL_SIGNAL, signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class Room:
    """The process as it is now, to be put back after each job. It takes about 4 µs where nothing was changed."""

    def __init__(self) -> None:
        self._directory = os.getcwd()  # noqa: PTH109 - measured, as all of this is
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._handlers = [(number, signal.getsignal(number)) for number in _SIGNALS]
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._blocked.discard(TELL_SIGNAL)
        # The mapping behind `os.environ`: reading it through there would decode every name.
        self._environment: dict[Any, Any] = getattr(os.environ, "_data", {})
        self._known = dict(self._environment)
        self._modules = len(sys.modules)

    def tidy(self) -> None:
        """Put back the directory, the umask, signal handlers, the signal mask, alarms and the environment."""
        for number, handler in self._handlers:
            if signal.getsignal(number) is not handler:
                self._put_back(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.umask(self._umask)
        self._go_back()
        if self._environment != self._known:
            self._clear_environment()
        self._modules = len(sys.modules)

    @staticmethod
    def _put_back(number: int, handler: Any) -> None:
        # None: not set from Python, and cannot be set again from there.
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)

    def _go_back(self) -> None:
        try:
            if os.getcwd() == self._directory:  # noqa: PTH109
                return
        except OSError:
            pass  # what the job had changed to is gone
        with contextlib.suppress(OSError):
            os.chdir(self._directory)

    def _clear_environment(self) -> None:
        if len(sys.modules) != self._modules:
            # What a module sets when it is first imported stays: it will not be imported again.
            for name, value in self._environment.items():
                self._known.setdefault(name, value)
        for name in self._environment.keys() - self._known.keys():
            del os.environ[os.fsdecode(name)]
        for name, value in self._known.items():
            if self._environment.get(name) != value:
                os.environ[os.fsdecode(name)] = os.fsdecode(value)
