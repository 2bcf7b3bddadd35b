"""What MySQL and MariaDB say when they fail, in jobcard's words; by number, never by message."""

from __future__ import annotations

import ssl

from jobcard.backends.door import Door
from jobcard.backends.mysql.drivers import mysqldb, pymysql
from jobcard.backends.sql.errors import SEALED, AlreadySoError, ConflictError, StatementError, UniqueKeyError
from jobcard.backends.verbs import NotAllowedError
from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    InvalidJobError,
    JobcardError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

_DRIVER_ERRORS: tuple[type[BaseException], ...] = tuple(
    driver.MySQLError for driver in (pymysql, mysqldb) if driver is not None
)

_SEALED = 30745  # by our own triggers
_DUPLICATE = 1062
_NO_TLS = 2026
# Undone and to be tried again: deadlock, lock timeout, a snapshot that is too old (MariaDB 11.6), a group's conflict.
_CONFLICTS = frozenset({1213, 1205, 1020, 3101, 3572})
_MISSING_TABLES = frozenset({1146, 1054, 1051, 1109, 1176, 1072, 1136, 1364})
_ALREADY_SO = frozenset({1060, 1061, 1091})
_FULL = frozenset({1021, 1114, 1041, 1037})
_NO_VALUES = frozenset(
    {1048, 1118, 1153, 1264, 1265, 1292, 1300, 1366, 1367, 1406, 1441, 1690, 3140, 3819, 4025, 3854, 3988}
)
# Users, databases and ways to sign in; what a user may not do.
_NOT_LET_IN = frozenset({1045, 1049, 1130, 1251, 1698, 1820, 1862, 2054, 2058, 2059, 2061, 3118, 3159, 4151})
_NOT_ALLOWED = frozenset({1044, 1142, 1143, 1227, 1370})
_NO_TRIGGERS = 1419
# Collations that are not there, a binary log by statements.
_CONFIG = frozenset({1115, 1273, 1598, 1665})
# Too many connections, shutting down, killed, timed out, read-only, a cluster that is not ready, a table changed under
# a statement, and all that a client says of a connection.
_AWAY = frozenset(
    {1040, 1053, 1077, 1079, 1129, 1152, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1290, 1317, 1412, 1615,
     1792, 1836, 1047, 1927, 1969, 3024, 3032, 3100, 3169, 3170, 4031, 1028}
)  # fmt: skip
_DAMAGED = frozenset({1034, 1035, 1194, 1195, 1712, 1713, 1816, 1877, 1932})


def number_of(error: BaseException) -> int:
    """The number of a driver's error, 0 without one."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def is_of_the_server(error: BaseException) -> bool:
    """The server said so itself, so the connection is in order; a client's own numbers stand at 2000."""
    number = number_of(error)
    return isinstance(error, _DRIVER_ERRORS) and number >= 1000 and not 2000 <= number < 3000


def translate(error: BaseException) -> JobcardError | None:
    """The jobcard error for a driver's; None: it is none of the driver's."""
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        return InvalidJobError(f"MySQL cannot store a value: {error}")
    if isinstance(error, (OSError, EOFError)):
        return StoreUnavailableError(f"the connection to MySQL failed: {error}")
    if isinstance(error, _DRIVER_ERRORS):
        return _by_number(number_of(error), _said(error))
    return None


def _by_number(number: int, said: str) -> JobcardError:
    if number == _SEALED:
        return StoreMovedError(SEALED)
    if number == _DUPLICATE:
        return UniqueKeyError("another job holds the same id or unique key")
    if number in _CONFLICTS:
        return ConflictError(f"MySQL undid a transaction that was in another's way: {said}")
    if number in _ALREADY_SO:
        return AlreadySoError(f"MySQL has it so already: {said}")
    if number in _MISSING_TABLES:
        return StatementError(f"MySQL refused a statement: {said}")
    if number in _FULL:
        return StoreFullError("the disk or a table of the MySQL server is full; nothing was stored")
    if number in _NO_VALUES:
        return InvalidJobError(f"MySQL refused a value: {said}")
    if number == _NO_TLS:
        return ConfigError(f"no TLS connection to MySQL: {said}")
    if number in _NOT_LET_IN:
        return AccessDeniedError(f"MySQL refused the connection: {said}")
    if number in _NOT_ALLOWED:
        return NotAllowedError(f"this MySQL user may not do that: {said}")
    if number == _NO_TRIGGERS:
        return AccessDeniedError(
            "this MySQL server keeps a binary log, and so only a user with the right SUPER may make and drop triggers, "
            "by which a store is sealed and opened: do it as such a user, or have an administrator say `set global "
            "log_bin_trust_function_creators = 1` before, which may be taken back afterwards"
        )
    if number in _CONFIG:
        return ConfigError(f"MySQL refused how it is set up: {said}")
    if number in _AWAY or 2000 <= number < 3000:
        return StoreUnavailableError(f"MySQL is not available: {said}")
    if number in _DAMAGED:
        return StoreError(f"a table is damaged: keep it, and restore a backup: {said}")
    return StoreError(f"MySQL failed with {number}: {said}")


def cannot_connect(error: BaseException) -> JobcardError | None:
    """The jobcard error for a connection that could not be made; None: something else went wrong."""
    inner = getattr(error, "original_exception", error)
    if isinstance(inner, ssl.SSLError):
        return ConfigError(f"no TLS connection to MySQL: {inner.reason or inner}")
    if isinstance(error, RuntimeError):
        # PyMySQL's way to say that a package for signing in is missing.
        return ConfigError(f"MySQL asks for a way to sign in that needs more: {error}")
    return translate(error)


def _said(error: BaseException) -> str:
    said = error.args[1] if len(error.args) > 1 else str(error)
    # Never more: what follows may quote values.
    return str(said).split("\n", 1)[0][:300]


driver_errors = Door(translate)
