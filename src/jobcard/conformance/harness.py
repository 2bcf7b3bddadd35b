"""How the suite reaches the store under test."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable

import pytest

from jobcard.backends.base import Backend
from jobcard.core.clock import SECOND, FrozenClock


class Shelf:
    """Stores that checks have done with, for other checks: emptying one takes less than making one with its schema.

    open_at: opens a backend on the store of this name that takes its time from this clock; a name never seen before
    is an empty store.
    """

    def __init__(self, open_at: Callable[[str, FrozenClock], Backend]) -> None:
        self._open_at = open_at
        self._names: list[str] = []

    def take(self, clock: FrozenClock) -> tuple[str, Callable[[], Backend]]:
        """The name of an empty store with its schema in place, and what opens backends on it."""
        name = self._names.pop() if self._names else f"kept_{secrets.token_hex(6)}_"
        opened = functools.partial(self._open_at, name, clock)
        store = opened()
        try:
            if not store.migrate():
                store.truncate()
                if store.facts().seal is not None:
                    store.seal(None)
        finally:
            store.close()
        return name, opened

    def put_back(self, name: str) -> None:
        """Nobody uses this store any more, and its schema is as it was or can be migrated."""
        self._names.append(name)


class Harness:
    """One store under test and the clock it reads.

    new_store: given a clock, prepares an empty store that takes its time from that clock and from no other,
    and returns a function that opens backends on it. A store with a clock of its own (a server) is told in
    test mode to use this one's time. Each backend opened is closed by `close()`.
    through: what the checks are given in place of each backend opened, with its behaviour.
    spoil: makes the record of one job unreadable behind the store's back, as a damaged disk would; what a holder's
    write needs (state, token, lease) stays. None: the checks of such damage are skipped.
    shelf: where checks that want the schema in place get their store, and leave it when they close the harness.
    """

    def __init__(
        self,
        new_store: Callable[[FrozenClock], Callable[[], Backend]],
        *,
        through: Callable[[Backend], Backend] | None = None,
        spoil: Callable[[Backend, bytes], None] | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.clock = FrozenClock()
        self.through = through
        self._spoil = spoil
        self._shelf = shelf
        self._new_store = new_store
        self._open: Callable[[], Backend] | None = None
        self._on_loan: str | None = None
        self._opened: list[Backend] = []

    def open(self) -> Backend:
        """Another backend object on the same store, its schema untouched."""
        if self._open is None:
            self._open = self._new_store(self.clock)
        backend = self._open()
        if self.through is not None:
            backend = self.through(backend)
        self._opened.append(backend)
        return backend

    def ready(self) -> Backend:
        """Another backend object on the same store, with the schema in place."""
        if self._open is None and self._shelf is not None:
            self._on_loan, self._open = self._shelf.take(self.clock)
        backend = self.open()
        backend.migrate()
        return backend

    def fresh(self) -> Harness:
        """A harness of the same kind over a new, empty store."""
        return Harness(self._new_store, through=self.through, spoil=self._spoil, shelf=self._shelf)

    def spoil(self, *job_ids: bytes) -> None:
        """Make the records of these jobs unreadable; skips the check where nobody has said how."""
        if self._spoil is None:
            pytest.skip("the harness does not say how a record of this store is damaged (`spoil=`)")
        self._on_loan = None  # the damage may be one of the schema
        assert self._open is not None, "there is no job yet"
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
        if self._shelf is not None and self._on_loan is not None:
            self._shelf.put_back(self._on_loan)
            self._open = self._on_loan = None


def micros(seconds: float) -> int:
    """Seconds as the microseconds of the contract."""
    return round(seconds * SECOND)
