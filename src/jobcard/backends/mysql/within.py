"""Somebody else's connection to MySQL or MariaDB, by either driver: what must be so before jobs are stored by it."""

from __future__ import annotations

from typing import Any

from jobcard.backends import within
from jobcard.backends.mysql.dialect import MYSQL
from jobcard.backends.mysql.drivers import mysqldb, pymysql
from jobcard.backends.mysql.errors import driver_errors, number_of
from jobcard.backends.mysql.options import Options
from jobcard.backends.mysql.values import bind
from jobcard.backends.sql.connection import Result, Step
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.within import JoinedConnection as SQLConnection
from jobcard.errors import ConfigError, StoreError

_WANTED = "a connection of PyMySQL or mysqlclient to the database of the jobs"
_BEGIN = "conn.begin(), or transaction.atomic() of Django,"
_NO_SAVEPOINT = 1305


def join(given: object, sql: Statements, options: Options) -> JoinedConnection:
    """The connection behind what was given, in its transaction.

    Outside of autocommit mode the server begins one before the first statement, and this is the first statement.
    """
    kinds = tuple(driver.connections.Connection for driver in (pymysql, mysqldb) if driver is not None)
    raw = within.connection_in(given, kinds, _WANTED)
    if not raw.open:
        raise ConfigError("within: the connection is closed")
    connection = JoinedConnection(raw, MYSQL, options)
    with driver_errors:
        commits_at_once = raw.get_autocommit()
    if commits_at_once and not _is_in_transaction(connection):
        raise within.not_begun(_BEGIN)
    connection.settle_in(sql)
    return connection


def _is_in_transaction(connection: JoinedConnection) -> bool:
    # Only one of the drivers passes on what the server says. Outside of a transaction a savepoint is gone at once.
    connection.execute(f"savepoint {within.MARK}")
    try:
        connection.execute(f"release savepoint {within.MARK}")
    except StoreError as error:
        if number_of(error.__cause__ or error) != _NO_SAVEPOINT:
            raise
        return False
    return True


class JoinedConnection(SQLConnection):
    """A connection that belongs to somebody else. Values are written into the statements as by our own."""

    def settle_in(self, sql: Statements) -> None:
        """See that texts are stored as they are; nothing is set, for the connection is not ours."""
        [(modes, *characters, packet)] = self.execute(sql["session"])
        if set(characters) != {"utf8mb4"}:
            raise ConfigError("within: the connection does not speak utf8mb4: connect with charset=utf8mb4")
        found = set(modes.split(","))
        if not found & {"STRICT_ALL_TABLES", "STRICT_TRANS_TABLES"} or "NO_BACKSLASH_ESCAPES" in found:
            raise ConfigError(
                "within: the sql_mode of the connection must have STRICT_ALL_TABLES or STRICT_TRANS_TABLES, and not "
                "NO_BACKSLASH_ESCAPES: texts would be cut, or read otherwise"
            )
        self.largest_piece = packet // 4

    def latest(self, text: str) -> str:
        """A select that sees what others have committed since the transaction took its snapshot."""
        return f"{text} {MYSQL.for_share}"

    def _ask(self, step: Step) -> Result:
        return self._fetch(bind(step.sql, step.values).encode(), None)

    def _cursor(self) -> Any:
        # Not of the class that the connection was told: its rows may be dictionaries.
        module = mysqldb if mysqldb is not None and isinstance(self._raw, mysqldb.connections.Connection) else pymysql
        assert module is not None
        return self._raw.cursor(module.cursors.Cursor)
