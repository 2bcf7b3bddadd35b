"""The schema of one store: its version, and the way up and down."""

from __future__ import annotations

from collections.abc import Sequence

from jobcard.backends.sqlite import sealing
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.errors import StatementError
from jobcard.backends.sqlite.statements import marks, migrations, statements
from jobcard.errors import ConfigError, SchemaVersionError

TABLES = {1: ("jobs", "attempts", "records", "meta"), 2: ("lines",)}
"""What each migration makes."""


class Schema:
    """Reads and moves the version of the tables with one prefix."""

    def __init__(self, prefix: str) -> None:
        self._sql = statements(prefix)
        self._migrations = migrations(prefix)
        self._tables = {number: tuple(prefix + name for name in names) for number, names in TABLES.items()}
        self._meta = prefix + "meta"
        self.wanted = self._migrations[-1].number

    def version(self, connection: Connection) -> int:
        """The version found, 0 when there are no tables."""
        if self._meta not in self._tables_found(connection, self._tables[1]):
            return 0
        try:
            rows = connection.execute(self._sql["schema_version"])
        except StatementError as error:
            raise ConfigError(f"the table {self._meta!r} is not jobcard's: choose another prefix") from error
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise ConfigError(f"the table {self._meta!r} holds no schema version: it is damaged or not jobcard's")
        return rows[0][0]

    def check(self, connection: Connection) -> None:
        """`SchemaVersionError` unless this is exactly this code's version."""
        found = self.version(connection)
        if found != self.wanted:
            raise SchemaVersionError(found, self.wanted)

    def migrate(self, connection: Connection) -> list[int]:
        """Bring the schema to this code's version, under the write lock; the versions that this call applied."""
        if self.version(connection) > self.wanted:
            self.check(connection)
        applied = []
        for migration in self._migrations:
            if self.version(connection) >= migration.number:
                continue
            with connection.transaction(), sealing.lifted(connection, self._sql):
                found = self.version(connection)
                if found >= migration.number:
                    continue
                self._refuse_foreign_tables(connection, self._tables.get(migration.number, ()))
                for statement in migration.up:
                    connection.execute(statement)
                connection.execute(self._sql["set_schema_version"], (migration.number,))
                applied.append(migration.number)
        return applied

    def rollback(self, connection: Connection) -> int | None:
        """Take the newest migration back; its version, None when nothing is left."""
        with connection.transaction(), sealing.lifted(connection, self._sql):
            found = self.version(connection)
            if found == 0:
                return None
            if found > self.wanted:
                raise SchemaVersionError(found, self.wanted)
            for statement in self._migrations[found - 1].down:
                connection.execute(statement)
            if found > 1:
                connection.execute(self._sql["set_schema_version"], (found - 1,))
            return found

    def _tables_found(self, connection: Connection, names: Sequence[str]) -> set[str]:
        found = connection.execute(self._sql["tables"].replace("{marks}", marks(len(names))), names)
        return {name for (name,) in found}

    def _refuse_foreign_tables(self, connection: Connection, names: Sequence[str]) -> None:
        if taken := sorted(self._tables_found(connection, names)):
            raise ConfigError(f"the file has a table {taken[0]!r} that is not jobcard's: choose another prefix")
