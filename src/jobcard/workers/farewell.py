"""What an application still has to see to when a worker has run its last job: sending what it has gathered."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

SECONDS = 3.0
"""So long a worker may take over it; the engine waits for that even when it stops."""

log = logging.getLogger("jobcard.workers")


def of(app: Any) -> Sequence[Callable[[], object]]:
    """The farewells of an application."""
    return getattr(getattr(getattr(app, "parts", None), "hooks", None), "farewells", ())


def say(app: Any) -> None:
    """Call them all, in a thread that is not waited for beyond `SECONDS`: what hangs must not keep the process."""
    farewells = of(app)
    if farewells:
        thread = threading.Thread(target=_call, args=(farewells,), name="jobcard-farewell", daemon=True)
        with contextlib.suppress(RuntimeError):  # no room for a thread
            thread.start()
            thread.join(SECONDS)


def _call(farewells: Sequence[Callable[[], object]]) -> None:
    for farewell in farewells:
        try:
            farewell()
        except Exception:
            log.exception("a worker's farewell failed")
