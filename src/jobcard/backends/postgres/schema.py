"""The schema of one store: its version, and the way up and down."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

from jobcard.backends.postgres.connection import Connection, Step
from jobcard.backends.postgres.errors import StatementError
from jobcard.backends.postgres.statements import Tables, migrations, statements
from jobcard.backends.postgres.values import Texts
from jobcard.errors import ConfigError, SchemaVersionError, StoreUnavailableError

TABLES = ("jobs", "attempts", "log_lines", "records", "once", "starts", "meta")

_BETWEEN = 0.02
"""Seconds from one try to take the lock to the next."""


class Schema:
    """Reads and moves the version of the tables with one prefix."""

    def __init__(self, tables: Tables) -> None:
        self._sql = statements(tables)
        self._migrations = migrations(tables)
        self._schema = tables.schema
        self._names = tuple(tables.prefix + name for name in TABLES)
        self.tables = tuple(tables.qualified + name for name in TABLES)
        self.wanted = self._migrations[-1].number
        digest = hashlib.sha256(f"jobcard {tables.qualified}".encode()).digest()
        self._lock_key = int.from_bytes(digest[:8], signed=True)

    def version(self, connection: Connection) -> int:
        """The version found, 0 when there are no tables."""
        if self._names[-1] not in self._tables_found(connection):
            return 0
        try:
            rows = connection.ask(Step(self._sql["schema_version"], prepare=False))
        except StatementError as error:
            raise ConfigError(f"the table {self._names[-1]} is not jobcard's: choose another prefix") from error
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise ConfigError(f"the table {self._names[-1]} holds no schema version: it is damaged or not jobcard's")
        return rows[0][0]

    def check(self, connection: Connection) -> None:
        """`SchemaVersionError` unless this is exactly this code's version."""
        with connection.transaction():
            found = self.version(connection)
        if found != self.wanted:
            raise SchemaVersionError(found, self.wanted)

    def migrate(self, connection: Connection) -> list[int]:
        """Bring the schema to this code's version, in one transaction; the versions that this call applied."""
        with connection.transaction():
            found = self.version(connection)
        if found == self.wanted:
            return []
        if found > self.wanted:
            raise SchemaVersionError(found, self.wanted)
        return connection.again(lambda: self._migrate(connection))

    def _migrate(self, connection: Connection) -> list[int]:
        with connection.transaction():
            self._lock(connection)
            self._pass_barrier(connection)
            self._make_schema(connection)
            found = self.version(connection)
            if found > self.wanted:
                raise SchemaVersionError(found, self.wanted)
            if found == 0:
                self._refuse_foreign_tables(connection)
            missing = [migration for migration in self._migrations if migration.number > found]
            for migration in missing:
                self._run(connection, migration.up)
                self._say_version(connection, migration.number)
        return [migration.number for migration in missing]

    def rollback(self, connection: Connection) -> int | None:
        """Take the newest migration back, in one transaction; its version, None when nothing is left."""
        return connection.again(lambda: self._rollback(connection))

    def _rollback(self, connection: Connection) -> int | None:
        with connection.transaction():
            self._lock(connection)
            self._pass_barrier(connection)
            found = self.version(connection)
            if found == 0:
                return None
            if found > self.wanted:
                raise SchemaVersionError(found, self.wanted)
            self._run(connection, self._migrations[found - 1].down)
            if found > 1:
                self._say_version(connection, found - 1)
            return found

    @contextlib.contextmanager
    def alone(self, connection: Connection, *, patience: float) -> Iterator[None]:
        """While nobody else changes the schema, or what of it belongs to a seal; works behind a pooler, too.

        patience: seconds to wait for others. Meanwhile it keeps no connection of a pooler from them.
        """
        until = time.monotonic() + patience
        while True:
            with connection.transaction():
                [(alone,)] = connection.ask(Step(self._sql["try_schema_lock"], {"key": self._lock_key}, prepare=False))
                if alone:
                    yield
                    return
            if time.monotonic() > until:
                raise StoreUnavailableError("somebody else has been changing the schema, or its seal, for too long")
            time.sleep(_BETWEEN)

    # -- steps

    def _lock(self, connection: Connection) -> None:
        connection.ask(Step(self._sql["schema_lock"], {"key": self._lock_key}, prepare=False))

    def _pass_barrier(self, connection: Connection) -> None:
        connection.ask(Step(self._sql["pass_barrier"], prepare=False))

    def _make_schema(self, connection: Connection) -> None:
        if self._schema is None:
            return
        # Asked first: `if not exists` wants the right to make one even where there is one.
        [(there,)] = connection.ask(Step(self._sql["schema_found"], {"schema": self._schema}, prepare=False))
        if not there:
            connection.ask(Step(self._sql["make_schema"], prepare=False))

    def _run(self, connection: Connection, steps: tuple[str, ...]) -> None:
        for statement in steps:
            connection.ask(Step(statement, prepare=False))

    def _say_version(self, connection: Connection, version: int) -> None:
        connection.ask(Step(self._sql["set_schema_version"], {"version": version}, prepare=False))

    def _tables_found(self, connection: Connection) -> set[str]:
        values = {"tables": Texts(self._names), "schema": self._schema}
        rows = connection.ask(Step(self._sql["tables_found"], values, prepare=False))
        return {name for (name,) in rows}

    def _refuse_foreign_tables(self, connection: Connection) -> None:
        if taken := sorted(self._tables_found(connection)):
            raise ConfigError(f"the database has a table {taken[0]} that is not jobcard's: choose another prefix")
