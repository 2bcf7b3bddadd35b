"""The barrier of a sealed store: triggers that let nobody write, whatever program it is and whatever it knows.

    jobs, and the word ─► attempts ─► log_lines ─► records ─► once ─► starts

Whoever makes a trigger waits for all that have written to its table and not ended; who comes later waits behind, and
then meets it. Each table has a transaction of its own: while it waits for one table it has no other, so it is in no
ring, whatever order others take them in. The word comes in one commit with the barrier of the jobs, and goes with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial

from jobcard.backends.postgres.connection import Connection, Step
from jobcard.backends.postgres.errors import BusyError
from jobcard.backends.postgres.schema import TABLES
from jobcard.backends.postgres.values import Texts
from jobcard.errors import StoreError, StoreUnavailableError

BARRED = tuple(name for name in TABLES if name != "meta")
"""The tables that a seal closes, in order; `meta` has the seal itself."""

_MOMENT = 0.1
"""Seconds for which whoever reads may be held up by cleaning away."""


class Barrier:
    """The barrier of one store, for whoever has the lock of its schema."""

    def __init__(self, connection: Connection, sql: Mapping[str, str], qualified: str, *, patience: float) -> None:
        """qualified: what stands before the names of tables. patience: seconds it may wait for writers."""
        self._connection = connection
        self._sql = sql
        self._qualified = qualified
        self._patience = patience

    def seal(self, word: str | None) -> None:
        """Close the store with this word, or open it. Where that fails all is as it was before."""
        if word is None:
            self._lower()
            return
        [(before,)] = self._connection.execute(self._sql["seal"])
        try:
            self._raise(word)
        except StoreError:
            with contextlib.suppress(StoreError):
                self._go_back(before)
            raise

    def _raise(self, word: str) -> None:
        until = time.monotonic() + self._patience
        for table in BARRED:
            # Once more with each seal: one that was killed may have left some tables out.
            steps = [self._step("raise_barrier", table)]
            if table == "jobs":
                steps = [self._step("make_barrier", table), *steps, self._say(word)]
            self._commit(table, steps, until)

    def _lower(self) -> None:
        until = time.monotonic() + self._patience
        names = Texts(f"{self._qualified}{table}" for table in BARRED)
        raised: dict[int, bool] = dict(self._connection.execute(self._sql["barred"], {"tables": names}))
        for place, table in reversed([*enumerate(BARRED, 1)]):
            # Only where it is raised nobody can be writing, who would have to be waited for.
            steps = [self._step("lower_barrier", table)] if raised.get(place) else []
            if table == "jobs":
                steps.append(self._say(None))
            if steps:
                self._commit(table, steps, until)
        if raised:
            # It is open by now. What cannot be cleaned away at once costs nobody anything.
            with contextlib.suppress(StoreError):
                self._at_most(_MOMENT, [self._step("clear_barrier", "")])

    def _go_back(self, before: str | None) -> None:
        if before is None:
            self._lower()
        else:
            self._connection.run([self._say(before)])

    def _commit(self, table: str, steps: Sequence[Step], until: float) -> None:
        left = max(0.001, until - time.monotonic())
        try:
            self._connection.again(partial(self._at_most, left, steps))
        except BusyError as error:
            raise StoreUnavailableError(f"the seal had to wait for too long: {self._writers(table)}") from error

    def _at_most(self, seconds: float, steps: Sequence[Step]) -> None:
        with self._connection.transaction():
            self._connection.ask(Step(self._sql["wait_at_most"], {"milliseconds": f"{seconds * 1e3:.0f}"}))
            for step in steps:
                self._connection.ask(step)

    def _writers(self, table: str) -> str:
        """Who has written to a table and not ended, in words."""
        name = f"{self._qualified}{table}"
        found = self._connection.execute(self._sql["writers"], {"table": name})
        who = "; ".join(_in_words(*row) for row in found) or "others"
        return f"{name} is written to in transactions that are still open, by {who}"

    # -- steps

    def _step(self, name: str, table: str) -> Step:
        return Step(self._sql[name].replace("{table}", table), prepare=False)

    def _say(self, word: str | None) -> Step:
        return Step(self._sql["set_seal"], {"word": word}, prepare=False)


def _in_words(process: int | None, user: str | None, application: str | None, seconds: int | None) -> str:
    if process is None:
        return "a prepared transaction"
    named = ", ".join(part for part in (user and f"user {user}", application) if part)
    since = "" if seconds is None else f", for {max(0, seconds)} s"
    return f"process {process}{f' ({named})' if named else ''}{since}"
