"""Processes that die while they talk to a MongoDB server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from pymongo import monitoring

from jobcard.backends.mongodb import MongoBackend


class _Dies(monitoring.CommandListener):
    """Kills its process at the n-th moment of talking to the server: before a command.

    After the answer to one is before the next: the server knows of nothing between.
    """

    _QUIET = frozenset({"hello", "ping", "endSessions", "isMaster"})

    def __init__(self, moment: int) -> None:
        self._left = moment

    def started(self, event: Any) -> None:
        if event.command_name not in self._QUIET:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event: Any) -> None:
        """No moment of its own."""

    failed = succeeded


def dies_at(moment: int, open_store: Callable[[], MongoBackend], action: Callable[[MongoBackend], object]) -> bool:
    """Do something in a process that is killed at its n-th moment; False: it was through before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            monitoring.register(_Dies(moment))
            action(open_store())
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0
