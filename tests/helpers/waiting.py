"""Waiting for events in tests; nothing sleeps for a time that is hoped to be enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Far beyond what anything takes: a test that waits so long has failed, however slow the machine is."""


def wait_until(event: Callable[[], T], what: str = "", *, timeout: float = PATIENCE, interval: float = 0.01) -> T:
    """Ask `event` again and again until it says something true, and return that.

    what: how the failure calls it. Use it for what can only be looked at; wait on a pipe, a process or a handle
    where there is one.
    """
    until = time.monotonic() + timeout
    while True:
        if found := event():
            return found
        if time.monotonic() > until:
            raise AssertionError(f"waited {timeout:g} s for {what or event!r} in vain")
        time.sleep(interval)
