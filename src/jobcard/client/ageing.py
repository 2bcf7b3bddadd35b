"""Queues whose jobs age: there the priority is part of the place in line, so that waiting makes up for it.

Which queues those are is read from the store now and then; what this application declares counts at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from jobcard.backends.base import RecordKind
from jobcard.core.queue import in_line
from jobcard.engine.small_records import ageing_of
from jobcard.errors import StoreError

if TYPE_CHECKING:
    from jobcard.backends.base import Backend
    from jobcard.client.store import Connection
    from jobcard.core.job import NewJob

KNOWN_SECONDS = 2.0
"""How old the knowledge may be while some queue has ageing."""
NONE_KNOWN_SECONDS = 10.0
"""And while none has: most stores never have one, and shall not be asked at every turn."""


class Ageing:
    """What one client knows of the queues' ageing; any thread may use it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._of: Mapping[str, int] = {}
        self._look_at = 0.0

    def forget(self) -> None:
        """A queue was changed: look again before the next enqueue."""
        self._look_at = 0.0

    def place(self, jobs: Sequence[NewJob], store: Backend) -> Sequence[NewJob]:
        """The jobs as they are to be stored."""
        if time.monotonic() >= self._look_at:
            self._look(store)
        if not self._of:
            return jobs
        return [in_line(job, self._of) for job in jobs]

    def _look(self, store: Backend) -> None:
        declared = self._connection.settings.queues
        # If the store fails, the enqueue itself will say so.
        with suppress(StoreError):
            self._of = ageing_of(store.read_records(RecordKind.QUEUE), declared)
        self._look_at = time.monotonic() + (KNOWN_SECONDS if self._of else NONE_KNOWN_SECONDS)
