"""One connection to MySQL or MariaDB: what it is told when it opens, and statements that go out together."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from jobcard.backends.mysql import drivers
from jobcard.backends.mysql.errors import cannot_connect, driver_errors, is_of_the_server
from jobcard.backends.mysql.options import Options
from jobcard.backends.mysql.values import bind
from jobcard.backends.sql import connection
from jobcard.backends.sql.connection import Result, Row, Rows, Step
from jobcard.errors import ConfigError, InvalidJobError, StoreUnavailableError

OLDEST_MYSQL, OLDEST_MARIADB = (8, 0, 1), (10, 6, 0)
"""The first ones with `skip locked`."""

_FIRST_EXACT_MYSQL = (8, 0, 17)
_LOCK_SECONDS = 5
_IDLE_SECONDS = 300

# Strict: without it a text that is too long is cut without a word.
_MODES = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


class Connection(connection.Connection):
    """A connection for one thread at a time. Without a transaction around it every statement is one."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._wait = min(options.call_timeout, options.lock_timeout or _LOCK_SECONDS)
        self._largest = 1024  # bytes of a packet, until the server says
        try:
            self._body = drivers.open_body(options, read_timeout=self._limit + 1.0)
        except Exception as error:
            if (ours := cannot_connect(error)) is not None:
                raise ours from error
            raise
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
                # Tables as well as rows: whoever seals the store waits for those who have them open.
                Step(f"set session lock_wait_timeout = {max(1, round(self._wait))}"),
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

    # -- statements

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

    def _say(self, word: str) -> None:
        self._ask(word.encode())

    def _hang_up(self) -> None:
        self._body.close()


def _sifted(result: Result) -> Rows:
    good: list[Row] = []
    bad: list[Row] = []
    for row in result.rows:
        (bad if any(type(value) is drivers.Unreadable for value in row) else good).append(row)
    return Rows(good, [row[0] for row in bad])


def _version_of(said: str) -> tuple[int, ...]:
    # MariaDB once put "5.5.5-" before its own, for old replicas.
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said.removeprefix("5.5.5-"))
    return tuple(map(int, found.groups())) if found else (0, 0, 0)
