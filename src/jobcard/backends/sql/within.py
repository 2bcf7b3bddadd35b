"""Somebody else's transaction on the database of a store: new jobs become part of it, by the connection in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from jobcard.backends import within
from jobcard.backends.door import Door
from jobcard.backends.sql.connection import Connection, Result, Row, Rows, Step
from jobcard.backends.sql.dialect import Dialect
from jobcard.backends.sql.errors import StatementError
from jobcard.backends.sql.options import Options
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import placed
from jobcard.errors import ConfigError

T = TypeVar("T")


@contextlib.contextmanager
def join(connection: JoinedConnection, sql: Statements, identity: within.Identity) -> Iterator[JoinedConnection]:
    """Somebody's connection to this very store, for statements that are stored all or not at all."""
    with within.savepoint(connection.execute):
        try:
            rows = connection.execute(sql["identity"])
        except StatementError as error:
            raise ConfigError(
                "within: the connection sees no tables of this store: it leads to another server or database"
            ) from error
        identity.check(rows[0][0] if rows else None)
        yield connection


class JoinedConnection(Connection):
    """A connection that belongs to somebody else, as is the transaction that it is in. Nothing is tried again.

    By any driver with the cursors of PEP 249, whose rows are sequences.
    """

    is_joined = True

    def __init__(self, raw: Any, dialect: Dialect, options: Options) -> None:
        """raw: the driver's own, in a transaction. options: the store's."""
        super().__init__(options)
        self.most_values = dialect.most_values
        self._raw = raw
        self._dialect = dialect
        self._door = Door(dialect.translate)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, inside the transaction that is there."""
        with within.savepoint(self.execute, "jobcard_part"):
            yield

    def commit(self, *last: Step) -> list[Rows]:
        """Run these last statements: to commit is not for us."""
        return self.run(last)

    def again(self, work: Callable[[], T], patience: float | None = None) -> T:
        """Do something once: who would try again is the caller, with the whole transaction."""
        return work()

    def _send(self, steps: Sequence[Step]) -> list[Result]:
        with self._door:
            return [self._ask(step) for step in steps]

    def _ask(self, step: Step) -> Result:
        """Run one statement; the driver's errors come out as they are."""
        text, given = placed(step.sql, step.values, self._dialect.paramstyle)
        return self._fetch(text, given or None)

    def _fetch(self, text: str | bytes, given: object) -> Result:
        cursor = self._cursor()
        try:
            cursor.execute(text, given) if given else cursor.execute(text)
            rows: list[Row] = list(map(tuple, cursor.fetchall())) if cursor.description else []
            return Result(rows, cursor.rowcount)
        finally:
            cursor.close()

    def _cursor(self) -> Any:
        return self._raw.cursor()
