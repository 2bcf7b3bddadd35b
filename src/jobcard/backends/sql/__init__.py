"""The base of stores in SQL databases: MySQL and MariaDB stand on it, and so may any other."""

from jobcard.backends.sql.backend import About, SQLBackend
from jobcard.backends.sql.connection import Connection, DriverConnection
from jobcard.backends.sql.dialect import Dialect
from jobcard.backends.sql.errors import AlreadySoError, ConflictError, StatementError, UniqueKeyError, by_sqlstate
from jobcard.backends.sql.options import Options
from jobcard.backends.sql.within import JoinedConnection

__all__ = [
    "About",
    "AlreadySoError",
    "ConflictError",
    "Connection",
    "Dialect",
    "DriverConnection",
    "JoinedConnection",
    "Options",
    "SQLBackend",
    "StatementError",
    "UniqueKeyError",
    "by_sqlstate",
]
