"""A connection to a SQL database: transactions, and statements one by one or, where the driver can, in one trip."""

from __future__ import annotations

import contextlib
import os
import random
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from jobcard.backends.door import Door
from jobcard.backends.sql.dialect import Dialect
from jobcard.backends.sql.errors import ConflictError
from jobcard.backends.sql.options import Options
from jobcard.backends.sql.values import placed
from jobcard.errors import CorruptRecordError, InvalidJobError, JobcardError, StoreUnavailableError

T = TypeVar("T")
Row = tuple[Any, ...]
Values = Mapping[str, object]

_TURNS = 10
_PROVEN_SECONDS = 30.0
"""A connection that cannot be looked at is asked once before it is used again after this long."""


class Step(NamedTuple):
    """A statement and its values."""

    sql: str
    values: Values = {}  # noqa: RUF012


class Result(NamedTuple):
    """What one statement answered. found: how many rows it gave back, or met and would change."""

    rows: Sequence[Row]
    found: int


class Rows(list[Row]):
    """The rows of an answer. unreadable: the first column of those that hold what is no text."""

    def __init__(self, rows: Sequence[Row] = (), unreadable: Sequence[object] = ()) -> None:
        super().__init__(rows)
        self.unreadable = unreadable


class Connection:
    """A connection for one thread at a time. Without a transaction around it every statement is one."""

    largest_piece = 4_000_000
    """Characters that are sure to fit into one statement."""
    most_values = 1_000_000
    """Values that are."""
    is_joined = False
    """It is somebody else's, whose transaction may end much later, or never well; see within.py."""
    collation = ""
    """What a migration calls `{collation}`, where that differs from server to server."""

    def __init__(self, options: Options) -> None:
        self._limit = options.call_timeout
        self._begun: bool | None = None  # None: no transaction; False: it begins with the next statement
        self._broken = False
        self.opened_at = self._used_at = time.monotonic()

    # -- what a body gives

    @property
    def fileno(self) -> int | None:
        """Its socket, where the driver says it."""
        return None

    def _send(self, steps: Sequence[Step]) -> list[Result]:
        """Run statements, in as few trips as can be; behind `self._begun is False` a transaction begins before them."""
        raise NotImplementedError

    def _say(self, word: str) -> None:
        """Run a word that has no answer: `rollback`."""
        raise NotImplementedError

    def _hang_up(self) -> None:
        """Close what the driver has; whatever it raises is of no interest."""
        raise NotImplementedError

    def _read(self, results: Sequence[Result]) -> list[Rows]:
        return [Rows(result.rows) for result in results]

    # -- its life

    def is_usable(self) -> bool:
        """False: it was left in the middle of something, or the server has said goodbye."""
        if self._broken or self._begun:
            return False
        if self.fileno is None:
            return time.monotonic() - self._used_at < _PROVEN_SECONDS or self._answers()
        poller = select.poll()
        poller.register(self.fileno, select.POLLIN)
        # Nobody asked anything, so whatever is there to read is the end.
        return not poller.poll(0)

    def _answers(self) -> bool:
        try:
            self.execute("select 1")
        except StoreUnavailableError:
            return False
        return True

    def abandon(self) -> None:
        """Let go of its socket, where the driver says it, without a word to the server."""
        if self.fileno is not None:
            with contextlib.suppress(OSError):
                os.close(self.fileno)

    def close(self) -> None:
        """Say goodbye to the server."""
        self._broken = True
        with contextlib.suppress(Exception):
            self._hang_up()

    # -- statements

    def execute(self, sql: str, values: Values = {}) -> Rows:  # noqa: B006
        """Run one statement; its rows."""
        return self.run([Step(sql, values)])[0]

    def change(self, sql: str, values: Values = {}) -> int:  # noqa: B006
        """Run one statement; how many rows it found to change."""
        return self._send([Step(sql, values)])[0].found

    def run(self, steps: Sequence[Step]) -> list[Rows]:
        """Run statements; the rows of each. When one fails those behind it are not run."""
        return self._read(self._send(steps))

    def run_and_count(self, steps: Sequence[Step]) -> tuple[list[Rows], list[int]]:
        """The same; the rows of each, and how many rows each found."""
        results = self._send(steps)
        return self._read(results), [result.found for result in results]

    def latest(self, text: str) -> str:
        """A select as it has to be written to see what others have committed by now; as it is, unless a store says."""
        return text

    # -- transactions

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; it begins on the trip of its first statement."""
        self._begun = False
        try:
            yield
            self.commit()
        except BaseException:
            self._roll_back()
            raise

    def commit(self, *last: Step) -> list[Rows]:
        """End the transaction well, on the trip of these last statements; their rows."""
        if self._begun is False and not last:
            self._begun = None
        if self._begun is None:
            return []
        results = self._send([*last, Step("commit")])
        self._begun = None
        return self._read(results[:-1])

    def _roll_back(self) -> None:
        if self._begun and not self._broken:
            # Also after a lock timeout: in some databases it undoes one statement only.
            with contextlib.suppress(StoreUnavailableError):
                self._say("rollback")
        self._begun = None

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: what fails in here is undone alone."""
        self.execute("savepoint one")
        try:
            yield
        except InvalidJobError:
            self.execute("rollback to savepoint one")
            raise

    def again(self, work: Callable[[], T], patience: float | None = None) -> T:
        """Do something that is one transaction, and do it again when that was in another's way.

        patience: seconds after which it is not tried again; None: as long as a call may take.
        """
        until = time.monotonic() + (self._limit if patience is None else patience)
        for turn in range(1, _TURNS + 1):
            try:
                return work()
            except ConflictError:
                if turn == _TURNS or self._broken or time.monotonic() > until:
                    raise
            time.sleep(random.uniform(0.0, 0.002 * turn))
        raise AssertionError("not reached")


class DriverConnection(Connection):
    """A connection by any driver with the cursors of PEP 249: one statement a trip, values beside it."""

    def __init__(self, connect: Callable[[], Any], dialect: Dialect, options: Options) -> None:
        """connect: opens the driver's connection, in autocommit mode and at isolation `read committed`."""
        super().__init__(options)
        self._paramstyle = dialect.paramstyle
        self.most_values = dialect.most_values
        self._door = Door(dialect.translate)
        with self._door:
            self._raw = connect()

    @property
    def fileno(self) -> int | None:
        """Its socket, where the driver says it."""
        fileno = getattr(self._raw, "fileno", None)
        return fileno() if callable(fileno) else None

    def _send(self, steps: Sequence[Step]) -> list[Result]:
        if self._begun is False:
            self._say("start transaction")
            self._begun = True
        return [self._ask(step) for step in steps]

    def _say(self, word: str) -> None:
        self._ask(Step(word))

    def _ask(self, step: Step) -> Result:
        if self._broken:
            raise StoreUnavailableError("the connection to the server is lost")
        text, given = placed(step.sql, step.values, self._paramstyle)
        try:
            with self._door:
                cursor = self._raw.cursor()
                try:
                    cursor.execute(text, given) if given else cursor.execute(text)
                    rows = list(map(tuple, cursor.fetchall())) if cursor.description else []
                    found = Result(rows, cursor.rowcount)
                finally:
                    cursor.close()
        except BaseException as error:
            # Whatever is not the server's own answer leaves unread answers, or none, on the line.
            answered = isinstance(error, JobcardError) and not isinstance(error, StoreUnavailableError)
            self._broken = not (answered or isinstance(error, ConflictError))
            raise
        self._used_at = time.monotonic()
        return found

    def _hang_up(self) -> None:
        self._raw.close()


def only_row(rows: Rows) -> Row:
    """The one row of an answer; `CorruptRecordError` when it cannot be read."""
    if rows.unreadable:
        raise CorruptRecordError("a row of the store holds text that is not UTF-8")
    [row] = rows
    return row
