"""How the suite reaches the store under test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobcard.backends.base import Backend
from jobcard.core.clock import SECOND, FrozenClock


class Harness:
    """One store under test and the clock it reads.

    new_store: given a clock, prepares an empty store that takes its time from that clock and from no other,
    and returns a function that opens backends on it. A store with a clock of its own (a server) is told in
    test mode to use this one's time. Each backend opened is closed by `close()`.
    through: what the checks are given in place of each backend opened, with its behaviour.
    spoil: makes the record of one job unreadable behind the store's back, as a damaged disk would; what a holder's
    write needs (state, token, lease) stays. None: the checks of such damage are skipped.
    """

    def __init__(
        self,
        new_store: Callable[[FrozenClock], Callable[[], Backend]],
        *,
        through: Callable[[Backend], Backend] | None = None,
        spoil: Callable[[Backend, bytes], None] | None = None,
    ) -> None:
        self.clock = FrozenClock()
        self.through = through
        self._spoil = spoil
        self._new_store = new_store
        self._open = new_store(self.clock)
        self._opened: list[Backend] = []

    def open(self) -> Backend:
        """Another backend object on the same store, its schema untouched."""
        backend = self._open()
        if self.through is not None:
            backend = self.through(backend)
        self._opened.append(backend)
        return backend

    def ready(self) -> Backend:
        """Another backend object on the same store, with the schema in place."""
        backend = self.open()
        backend.migrate()
        return backend

    def fresh(self) -> Harness:
        """A harness of the same kind over a new, empty store."""
        return Harness(self._new_store, through=self.through, spoil=self._spoil)

    def spoil(self, *job_ids: bytes) -> None:
        """Make the records of these jobs unreadable; skips the check where nobody has said how."""
        if self._spoil is None:
            pytest.skip("the harness does not say how a record of this store is damaged (`spoil=`)")
        backend = self._open()
        for job_id in job_ids:
            self._spoil(backend, job_id)
        backend.close()

    def advance(self, seconds: float) -> int:
        """Move the store's clock; returns its time in microseconds."""
        return self.clock.advance(seconds)

    def close(self) -> None:
        """Close every backend opened here."""
        while self._opened:
            self._opened.pop().close()


def micros(seconds: float) -> int:
    """Seconds as the microseconds of the contract."""
    return round(seconds * SECOND)
