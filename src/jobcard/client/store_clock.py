"""What time the store has, as one client last measured it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobcard.core import clock

if TYPE_CHECKING:
    from jobcard.client.store import Connection

KNOWN_SECONDS = 60.0
"""How old a measurement may be: clocks that are kept by NTP drift apart by far less than a millisecond in it."""


class StoreClock:
    """The store's clock between two looks at it, by this host's clock that never steps; any thread may use it."""

    def __init__(self, connection: Connection, *, stands_still: bool = False) -> None:
        """stands_still: the store's time moves only when a test moves it, so we look each time."""
        self._connection = connection
        self._stands_still = stands_still
        self._measured: tuple[int, float] | None = None

    @property
    def is_known(self) -> bool:
        """Whether `now` answers without asking the store."""
        return self._known() is not None

    def now(self) -> int:
        """The store's time."""
        then, at = self._known() or self.measure()
        return then if self._stands_still else then + round((time.monotonic() - at) * clock.SECOND)

    def _known(self) -> tuple[int, float] | None:
        measured = self._measured
        if measured is None or self._stands_still or time.monotonic() - measured[1] >= KNOWN_SECONDS:
            return None
        return measured

    def measure(self) -> tuple[int, float]:
        """Ask the store: its time, and ours at that moment."""
        with self._connection as store:
            asked = time.monotonic()
            then = store.facts().now
            # In the middle of the question: half of the way there and back is over.
            measured = self._measured = then, (asked + time.monotonic()) / 2
        return measured
