"""The SQLite libraries behind one small interface: `apsw`, Python's own `sqlite3`, `sqlcipher3` for encrypted files.

Their errors come out as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import apsw

from jobcard.backends.sqlite.errors import is_busy
from jobcard.backends.sqlite.options import MEMORY, Options
from jobcard.errors import ConfigError

Row = tuple[Any, ...]


class Body(Protocol):
    """What a library is asked for."""

    version: str

    def execute(self, sql: str, values: Sequence[object]) -> list[Row]: ...

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None: ...

    def total_changes(self) -> int: ...

    def in_transaction(self) -> bool: ...

    def interrupt_when(self, is_late: Callable[[], bool]) -> None: ...

    def close(self) -> None: ...


_STEPS = 10_000  # of SQLite's machine between two looks at the clock: some tenths of a millisecond


class _ApswBody:
    def __init__(self, path: str, *, create: bool, readonly: bool, patience: Callable[[int], bool]) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE
        self._connection = apsw.Connection(path, flags=flags | (apsw.SQLITE_OPEN_CREATE if create else 0))
        self._connection.set_busy_handler(patience)
        self._cursor = self._connection.cursor()
        self.version = apsw.sqlite_lib_version()

    def execute(self, sql: str, values: Sequence[object]) -> list[Row]:
        return self._cursor.execute(sql, values).fetchall()

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._cursor.executemany(sql, rows)

    def total_changes(self) -> int:
        return self._connection.total_changes()

    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def interrupt_when(self, is_late: Callable[[], bool]) -> None:
        self._connection.set_progress_handler(is_late, _STEPS)

    def close(self) -> None:
        self._connection.close()


class _StandardBody:
    def __init__(
        self,
        path: str,
        *,
        create: bool,
        readonly: bool,
        patience: Callable[[int], bool],
        driver: Any = None,
    ) -> None:
        if driver is None:
            driver = _standard_driver()
        mode = "ro" if readonly else "rwc" if create else "rw"
        target = path if path == MEMORY else f"file:{quote(path)}?mode={mode}"
        self._driver = driver
        self._connection = driver.connect(
            target, uri=path != MEMORY, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._patience = patience
        self.version: str = driver.sqlite_version

    def execute(self, sql: str, values: Sequence[object]) -> list[Row]:
        # This library takes no busy handler; a statement that met a lock did nothing and may be tried again.
        count = 0
        while True:
            try:
                rows: list[Row] = self._connection.execute(sql, values).fetchall()
                return rows
            except self._driver.OperationalError as error:
                if not is_busy(error) or not self._patience(count):
                    raise
                count += 1

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._connection.executemany(sql, rows)

    def total_changes(self) -> int:
        changes: int = self._connection.total_changes
        return changes

    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def interrupt_when(self, is_late: Callable[[], bool]) -> None:
        self._connection.set_progress_handler(is_late, _STEPS)

    def close(self) -> None:
        self._connection.close()


class CipherBody(_StandardBody):
    """An encrypted file."""

    def __init__(self, path: str, *, create: bool, readonly: bool, patience: Callable[[int], bool], key: str) -> None:
        super().__init__(path, create=create, readonly=readonly, patience=patience, driver=cipher_driver())
        try:
            # Of a wrong key it would write on standard error, in words of its own.
            self.execute("pragma cipher_log_level = none", ())
            self._connection.set_key(key)
        except BaseException:
            self.close()
            raise

    def change_key(self, key: str) -> None:
        """Encrypt the whole file anew, in one transaction."""
        self._connection.reset_key(key)


def _standard_driver() -> Any:
    import sqlite3  # only now: most processes use apsw

    return sqlite3


def cipher_driver() -> Any:
    """The module `sqlcipher3.dbapi2`; `ConfigError` saying how to get it."""
    try:
        from sqlcipher3 import dbapi2
    except ImportError as error:
        raise ConfigError(
            "an encrypted SQLite file needs the package 'sqlcipher3': pip install 'jobcard[encryption]'"
        ) from error
    return dbapi2


def open_body(path: str, options: Options, *, create: bool, patience: Callable[[int], bool]) -> Body:
    """The file, by the library that the options name."""
    if options.encryption_key is not None:
        return CipherBody(path, create=create, readonly=options.readonly, patience=patience, key=options.encryption_key)
    body = _ApswBody if options.library == "apsw" else _StandardBody
    return body(path, create=create, readonly=options.readonly, patience=patience)


def library_version(library: str) -> str:
    """Which SQLite a library brings; no file is opened."""
    if library == "apsw":
        return apsw.sqlite_lib_version()
    driver = _standard_driver() if library == "sqlite3" else cipher_driver()
    version: str = driver.sqlite_version
    return version
