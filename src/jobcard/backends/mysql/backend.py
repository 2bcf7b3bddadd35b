"""Jobs in MySQL 8.0.1 or newer, or MariaDB 10.6 or newer: any number of hosts, engines and clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobcard.backends import base
from jobcard.backends.mysql import checkup, grants, within
from jobcard.backends.mysql.connection import Connection
from jobcard.backends.mysql.dialect import MYSQL
from jobcard.backends.mysql.options import Options, read_options
from jobcard.backends.roles import Role
from jobcard.backends.sql.backend import About, SQLBackend
from jobcard.backends.sql.connection import Connection as AnyConnection
from jobcard.backends.sql.within import JoinedConnection
from jobcard.core.findings import Finding


class MySQLBackend(SQLBackend):
    """Jobs in the tables of one prefix in a MySQL or MariaDB database."""

    dialect = MYSQL
    store = "mysql"
    capabilities = SQLBackend.capabilities._replace(joins=True)

    @classmethod
    def open_connection(cls, options: Options) -> Connection:
        """A connection that sends many statements in one trip."""
        return Connection(options)

    @classmethod
    def read_options(cls, url: str, given: Mapping[str, Any], *, patience: float | None) -> Options:
        """The checked options of a URL and of code."""
        return read_options(url, given, patience=patience)

    def join(self, given: object) -> JoinedConnection:
        """The PyMySQL or mysqlclient connection behind what was given, in its transaction."""
        return within.join(given, self._sql, self._options)

    def about(self, connection: AnyConnection, version: str) -> About:
        """Which of the servers it is."""
        [(_, threads)] = connection.execute(self._sql["threads"])
        name = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        return About(f"{name} {version}", int(threads))

    def examine_way(self) -> Sequence[Finding]:
        """The driver."""
        return [checkup.driver(self._options)]

    def examine_server(self, connection: AnyConnection) -> Sequence[Finding]:
        """The server, what makes it forget what it confirmed, and who can read along."""
        assert isinstance(connection, Connection)  # ours, by open_connection
        variables = connection.execute(self._sql["variables"], {"names": list(checkup.VARIABLES)})
        return [
            checkup.server(connection),
            *checkup.durability(dict(variables)),
            *checkup.way(connection, self._options),
        ]

    def grants(self, role: Role, user: str) -> Sequence[str]:
        """The statements that give this account what the role needs in this database; opens nothing."""
        return grants.grants(role, user, prefix=self._prefix, database=self._options.database)


_CONTRACT: type[base.Backend] = MySQLBackend
