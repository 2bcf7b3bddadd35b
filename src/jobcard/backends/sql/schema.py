"""The schema of one store: its version, and the way up and down.

Many servers commit after every statement that makes or drops a table, so no migration is undone by a rollback: each
statement may be run again, and the version is written last. Where a server has no words for "unless it is so already",
it complains the second time, and that is taken for well.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from jobcard.backends.sql import sealing
from jobcard.backends.sql.connection import Connection
from jobcard.backends.sql.errors import AlreadySoError, StatementError
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import or_nothing
from jobcard.errors import ConfigError, SchemaVersionError, StoreUnavailableError

TABLES = ("jobs", "attempts", "log_lines", "once", "starts", "turns", "records", "meta")


class Schema:
    """Reads and moves the version of the tables with one prefix."""

    def __init__(self, sql: Statements, database: str) -> None:
        self._sql = sql
        self._migrations = sql.migrations()
        self.tables = tuple(sql.prefix + name for name in TABLES)
        self._meta = self.tables[-1]
        self.wanted = self._migrations[-1].number
        # Names of locks are one for the whole server, and short.
        self._lock_name = f"jobcard_{hashlib.sha256(f'{database} {sql.prefix}'.encode()).hexdigest()[:32]}"

    def version(self, connection: Connection) -> int:
        """The version found, 0 when there are no tables or not all of them yet."""
        tables = self._tables_found(connection)
        if self._meta not in tables:
            return 0
        try:
            rows = connection.execute(self._sql["schema_version"])
        except StatementError as error:
            raise ConfigError(f"the table {self._meta} is not jobcard's: choose another prefix") from error
        # By the first look: another process may have made the others since.
        if not rows and tables == {self._meta}:
            return 0  # a migration is right at its beginning, or was killed there
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise ConfigError(f"the table {self._meta} holds no schema version: it is damaged or not jobcard's")
        return rows[0][0]

    def check(self, connection: Connection) -> None:
        """`SchemaVersionError` unless this is exactly this code's version."""
        found = self.version(connection)
        if found != self.wanted:
            raise SchemaVersionError(found, self.wanted)

    def migrate(self, connection: Connection) -> list[int]:
        """Bring the schema to this code's version, under a lock; the versions that this call applied."""
        if self.version(connection) == self.wanted:
            return []
        with self.locked(connection):
            found = self.version(connection)
            if found > self.wanted:
                raise SchemaVersionError(found, self.wanted)
            self._refuse_foreign_tables(connection)
            missing = [migration for migration in self._migrations if migration.number > found]
            for migration in missing:
                for statement in migration.up:
                    self._run(connection, statement.replace("{collation}", connection.collation))
                self._say_version(connection, migration.number)
            if missing:
                sealing.stay_sealed(connection, self._sql)
        return [migration.number for migration in missing]

    def rollback(self, connection: Connection) -> int | None:
        """Take the newest migration back, under a lock; its version, None when nothing is left."""
        with self.locked(connection):
            found = self.version(connection)
            if found == 0:
                return None
            if found > self.wanted:
                raise SchemaVersionError(found, self.wanted)
            # Said first: what is half gone is not used any more.
            self._say_version(connection, found - 1)
            for statement in self._migrations[found - 1].down:
                self._run(connection, statement)
            return found

    def _run(self, connection: Connection, statement: str) -> None:
        # Left by a migration that was killed before it could say how far it had come.
        with contextlib.suppress(AlreadySoError):
            connection.execute(statement)

    @contextlib.contextmanager
    def locked(self, connection: Connection) -> Iterator[None]:
        """Nobody else migrates or seals this store meanwhile."""
        name = {"name": self._lock_name}
        [(got,)] = connection.execute(self._sql["schema_lock"], name)
        if got != 1:
            raise StoreUnavailableError("another process has been migrating or sealing this store for a minute")
        try:
            yield
        finally:
            with contextlib.suppress(StoreUnavailableError):
                connection.execute(self._sql["schema_unlock"], name)

    def _say_version(self, connection: Connection, version: int) -> None:
        connection.execute(self._sql["set_schema_version"], {"version": version})

    def _tables_found(self, connection: Connection) -> set[str]:
        rows = connection.execute(self._sql["tables_found"], {"tables": or_nothing(self.tables)})
        return {name for (name,) in rows}

    def _refuse_foreign_tables(self, connection: Connection) -> None:
        found = self._tables_found(connection)
        if found and self._meta not in found:
            raise ConfigError(f"the database has a table {min(found)} that is not jobcard's: choose another prefix")
