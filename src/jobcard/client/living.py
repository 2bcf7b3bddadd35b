"""The `Jobcard`s of this process: what a fork must set right, and whose an unpickled handle is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from weakref import WeakSet

from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts

_living: WeakSet[Parts] = WeakSet()


def add(parts: Parts) -> None:
    """Remember a client as long as somebody holds it."""
    _living.add(parts)


def only() -> Parts:
    """The one open client of this process; `ConfigError` when there is none or a choice."""
    found = [parts for parts in list(_living) if not (parts.closed or parts.is_beside)]
    if len(found) != 1:
        raise ConfigError(
            f"this handle came without its Jobcard, and the process has {len(found) or 'none'}: "
            "bind it with jobs.handle(handle.id)"
        )
    return found[0]


def _after_fork() -> None:
    for parts in list(_living):
        parts.after_fork()


os.register_at_fork(after_in_child=_after_fork)
