"""How often somebody may try to sign in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MOST_KEYS = 10_000


class Throttle:
    """At most `most` failures of one key in `per` seconds; any thread may ask."""

    def __init__(self, most: int, per: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._per = per
        self._clock = clock
        self._failures: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Seconds until this key may be tried again; 0: now."""
        with self._lock:
            recent = self._recent(key)
            return 0.0 if len(recent) < self._most else max(0.0, recent[0] + self._per - self._clock())

    def failed(self, key: str) -> None:
        """Take note of a failure."""
        with self._lock:
            recent = self._recent(key)
            self._failures.pop(key, None)
            self._failures[key] = [*recent, self._clock()][-self._most :]
            while len(self._failures) > _MOST_KEYS:
                # The one that failed longest ago: memory stays bounded whoever knocks.
                del self._failures[next(iter(self._failures))]

    def succeeded(self, key: str) -> None:
        """Forget what failed."""
        with self._lock:
            self._failures.pop(key, None)

    def _recent(self, key: str) -> list[float]:
        since = self._clock() - self._per
        return [at for at in self._failures.get(key, ()) if at > since]
