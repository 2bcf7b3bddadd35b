"""One connection to MySQL or MariaDB: what it is told when it opens, and statements that go out together."""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from jobcard.backends.mysql import drivers
from jobcard.backends.mysql.drivers import Result, Row
from jobcard.backends.mysql.errors import ConflictError, cannot_connect, driver_errors, is_of_the_server
from jobcard.backends.mysql.options import Options
from jobcard.backends.mysql.values import bind
from jobcard.errors import ConfigError, CorruptRecordError, InvalidJobError, StoreUnavailableError

T = TypeVar("T")
Values = Mapping[str, object]

OLDEST_MYSQL, OLDEST_MARIADB = (8, 0, 1), (10, 6, 0)
"""The first ones with `skip locked`."""

_FIRST_EXACT_MYSQL = (8, 0, 17)
_TURNS = 10
_LOCK_SECONDS = 5
_IDLE_SECONDS = 300
_PROVEN_SECONDS = 30.0
"""A connection that cannot be looked at is asked once before it is used again after this long."""

# Strict: without it a text that is too long is cut without a word.
_MODES = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


class Step(NamedTuple):
    """A statement and its values."""

    sql: str
    values: Values = {}  # noqa: RUF012


class Rows(list[Row]):
    """The rows of an answer. unreadable: the first column of those that hold what is no text in UTF-8."""

    def __init__(self, rows: Sequence[Row] = (), unreadable: Sequence[object] = ()) -> None:
        super().__init__(rows)
        self.unreadable = unreadable


class Connection:
    """A connection for one thread at a time. Without a transaction around it every statement is one."""

    def __init__(self, options: Options, *, patient: float | None = None) -> None:
        """patient: seconds a statement may take, for work on the schema; None: as statements do."""
        self._limit = patient or options.call_timeout
        self._wait = patient or min(options.call_timeout, options.lock_timeout or _LOCK_SECONDS)
        self._begun: bool | None = None  # None: no transaction; False: it begins with the next statement
        self._broken = False
        self._largest = 1024  # bytes of a packet, until the server says
        try:
            self._body = drivers.open_body(options, read_timeout=self._limit + 1.0)
        except Exception as error:
            if (ours := cannot_connect(error)) is not None:
                raise ours from error
            raise
        self.opened_at = self._used_at = time.monotonic()
        try:
            if options.ssl_mode not in ("disabled", "preferred"):
                self._prove_secrecy()
            self._settle_in()
        except BaseException:
            self.close()
            raise

    def _prove_secrecy(self) -> None:
        # Some drivers go on without TLS where the server has none, whatever they were told.
        found = self.execute("show session status like 'Ssl_cipher'")
        if not found or not found[0][1]:
            raise ConfigError("no TLS connection to MySQL: the server offers none, or the driver did not take it")

    def _settle_in(self) -> None:
        [(said, packet)] = self.execute("select version(), @@max_allowed_packet")
        self.version: str = said
        self.is_mariadb = "mariadb" in said.lower()
        number = _version_of(said)
        oldest = OLDEST_MARIADB if self.is_mariadb else OLDEST_MYSQL
        if number < oldest:
            name = "MariaDB" if self.is_mariadb else "MySQL"
            raise ConfigError(f"{name} {said} is too old: {'.'.join(map(str, oldest))} is the first that will do")
        # No text equals another that has a space more.
        exact = "utf8mb4_nopad_bin" if self.is_mariadb else "utf8mb4_0900_bin"
        self.collation = exact if self.is_mariadb or number >= _FIRST_EXACT_MYSQL else "utf8mb4_bin"
        self.largest_piece = packet // 4
        """Characters that are sure to fit into one statement: each may have to be written as four bytes."""
        self._largest = packet - 1024
        self.run(
            [
                Step(f"set names utf8mb4 collate {self.collation}"),
                Step(f"set session sql_mode = '{_MODES}'"),
                Step("set session autocommit = 1"),
                Step("set session transaction isolation level read committed"),
                Step(f"set session innodb_lock_wait_timeout = {max(1, round(self._wait))}"),
                # A client that vanished in the middle of something must not keep its locks for hours.
                Step(f"set session wait_timeout = {_IDLE_SECONDS}"),
                *self._limits(),
            ]
        )

    def _limits(self) -> list[Step]:
        if self.is_mariadb:
            return [
                Step(f"set session max_statement_time = {self._limit:.0f}"),
                Step(f"set session idle_transaction_timeout = {2 * self._limit:.0f}"),
            ]
        return [Step(f"set session max_execution_time = {1e3 * self._limit:.0f}")]

    @property
    def fileno(self) -> int | None:
        """Its socket, where the driver says it."""
        return self._body.fileno

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

    # -- statements

    def execute(self, sql: str, values: Values = {}) -> Rows:  # noqa: B006
        """Run one statement; its rows."""
        return self.run([Step(sql, values)])[0]

    def change(self, sql: str, values: Values = {}) -> int:  # noqa: B006
        """Run one statement; how many rows it found to change."""
        return self._send([Step(sql, values)])[0].found

    def run(self, steps: Sequence[Step]) -> list[Rows]:
        """Run statements in one trip; the rows of each. When one fails those behind it are not run."""
        return self._read(self._send(steps))

    def run_and_count(self, steps: Sequence[Step]) -> tuple[list[Rows], list[int]]:
        """The same; the rows of each, and how many rows each found."""
        results = self._send(steps)
        return self._read(results), [result.found for result in results]

    def _send(self, steps: Sequence[Step]) -> list[Result]:
        with driver_errors:
            texts = [bind(step.sql, step.values).encode() for step in steps]
        opening = self._begun is False
        results: list[Result] = []
        for text in self._packed([b"start transaction", *texts] if opening else texts):
            if opening:
                self._begun = True
            results += self._ask(text)
        return results[1:] if opening else results

    def _packed(self, texts: Sequence[bytes]) -> Iterator[bytes]:
        """The statements joined into as few packets as the server takes."""
        held: list[bytes] = []
        size = 0
        for text in texts:
            if len(text) > self._largest:
                raise InvalidJobError(
                    f"a statement of {len(text):,} bytes is more than the server takes: raise its max_allowed_packet"
                )
            if size + len(text) > self._largest and held:
                yield b";".join(held)
                held, size = [], 0
            held.append(text)
            size += len(text) + 1
        if held:
            yield b";".join(held)

    def _ask(self, text: bytes) -> list[Result]:
        if self._broken:
            raise StoreUnavailableError("the connection to MySQL is lost")
        try:
            with driver_errors:
                results = self._body.query(text)
        except BaseException as error:
            # Whatever is not the server's own answer leaves unread answers, or none, on the line.
            if not is_of_the_server(error.__cause__ or error):
                self._broken = True
            raise
        self._used_at = time.monotonic()
        return results

    def _read(self, results: Sequence[Result]) -> list[Rows]:
        if not self._body.found_unreadable():
            return [Rows(result.rows) for result in results]
        return [_sifted(result) for result in results]

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
            # Also after a lock timeout: it undoes one statement only.
            with contextlib.suppress(StoreUnavailableError):
                self._ask(b"rollback")
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

    def again(self, work: Callable[[], T]) -> T:
        """Do something that is one transaction, and do it again when that was in another's way."""
        until = time.monotonic() + self._limit
        for turn in range(1, _TURNS + 1):
            try:
                return work()
            except ConflictError:
                if turn == _TURNS or self._broken or time.monotonic() > until:
                    raise
            time.sleep(random.uniform(0.0, 0.002 * turn))
        raise AssertionError("not reached")

    def abandon(self) -> None:
        """Let go of its socket, where the driver says it, without a word to the server."""
        if self.fileno is not None:
            with contextlib.suppress(OSError):
                os.close(self.fileno)

    def close(self) -> None:
        """Say goodbye to the server."""
        self._broken = True
        with contextlib.suppress(Exception):
            self._body.close()


def _sifted(result: Result) -> Rows:
    good: list[Row] = []
    bad: list[Row] = []
    for row in result.rows:
        (bad if any(type(value) is drivers.Unreadable for value in row) else good).append(row)
    return Rows(good, [row[0] for row in bad])


def only_row(rows: Rows) -> Row:
    """The one row of an answer; `CorruptRecordError` when it cannot be read."""
    if rows.unreadable:
        raise CorruptRecordError("a row of the store holds text that is not UTF-8")
    [row] = rows
    return row


def _version_of(said: str) -> tuple[int, ...]:
    # MariaDB once put "5.5.5-" before its own, for old replicas.
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said.removeprefix("5.5.5-"))
    return tuple(map(int, found.groups())) if found else (0, 0, 0)
