"""The notice board of a worker: one page of memory in which its engine says that the running job shall end.

    set u8 | seq u32 | why u8 | length u16 | reason, UTF-8        (big endian; one writer, one reader)

A job that computes reads no pipe; a page of memory it can read at any moment, for nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import sys
from typing import NamedTuple, Self

from jobcard.workers.messages import Why

TELL_SIGNAL = signal.SIGRTMAX - 1 if hasattr(signal, "SIGRTMAX") else signal.SIGUSR2
"""Sent with a notice, so that a job that sleeps looks at once; see `ring`."""

_SIZE = mmap.PAGESIZE
_HEADER = struct.Struct(">BIBH")
_MOST = 2_000  # bytes of a reason
_WHYS = tuple(Why)


def ring(pid: int) -> None:
    """Make a worker look at its board; nothing happens when it has ended, and it may be done again.

    In its main thread, where that can be said: a signal to the process may go to another of its threads, and then
    the one that sleeps sleeps on. Even so it may come in the moment before a system call and be seen after it only:
    whoever wants to be sure rings again.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if _tgkill is None or _tgkill(pid, pid, TELL_SIGNAL) != 0:
            os.kill(pid, TELL_SIGNAL)


_tgkill = getattr(ctypes.CDLL(None), "tgkill", None) if sys.platform == "linux" else None


class Notice(NamedTuple):
    """Job number `seq` shall end; reason: in the words of whoever wants it."""

    seq: int
    why: Why
    reason: str


class Board:
    """One page shared by an engine and one worker."""

    def __init__(self, fd: int) -> None:
        """fd: a file of one page, from `create` on the engine's side and inherited on the worker's; we own it now."""
        self.fd = fd
        self._page = mmap.mmap(fd, _SIZE)

    @classmethod
    def create(cls) -> Self:
        """A new, empty one; OSError when there is no room."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("jobcard-board")
        else:
            from tempfile import TemporaryFile  # only there: it is slow to import

            with TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _SIZE)
        return cls(fd)

    def post(self, seq: int, why: Why, reason: str) -> None:
        """Say that this job shall end; what stood there before is gone."""
        words = reason.encode("utf-8", "backslashreplace")[:_MOST]
        self._page[0] = 0  # nothing, until all of it is written
        self._page[_HEADER.size : _HEADER.size + len(words)] = words
        self._page[1 : _HEADER.size] = _HEADER.pack(0, seq, _WHYS.index(why), len(words))[1:]
        self._page[0] = 1

    def read(self) -> Notice | None:
        """What stands there, whole."""
        page = self._page
        while page[0]:
            header = page[: _HEADER.size]
            _is_set, seq, why, length = _HEADER.unpack(header)
            words = page[_HEADER.size : _HEADER.size + length]
            if page[: _HEADER.size] == header:  # else another was posted meanwhile
                return Notice(seq, _WHYS[why], words.decode("utf-8", "backslashreplace"))
        return None

    def close(self) -> None:
        """Let go of it."""
        self._page.close()
        os.close(self.fd)
