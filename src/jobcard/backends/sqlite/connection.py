"""One SQLite connection behind a tiny interface, with two bodies: `apsw` and Python's own `sqlite3`."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote

import apsw

from jobcard.backends.sqlite.errors import driver_errors, is_busy
from jobcard.backends.sqlite.options import MEMORY, Options
from jobcard.errors import ConfigError, StoreUnavailableError

Row = tuple[Any, ...]

OLDEST_LIBRARY = (3, 37, 0)
"""The first SQLite with strict tables and RETURNING."""

# Large enough that a busy WAL is not cut and grown again all the time, small enough for any disk.
_JOURNAL_SIZE_LIMIT = 16 << 20


class Body(Protocol):
    """What the two libraries are asked for. Their errors come out as they are."""

    version: str

    def execute(self, sql: str, values: Sequence[object]) -> list[Row]: ...

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None: ...

    def total_changes(self) -> int: ...

    def in_transaction(self) -> bool: ...

    def close(self) -> None: ...


def _patience(timeout: float) -> Callable[[int], bool]:
    """Waits a moment and says whether to try again. count: how often this wait has been asked already.

    Short sleeps of random length: SQLite's own back-off grows to 100 ms, so that one patient writer starves
    among many that come and go.
    """
    until = 0.0

    def wait(count: int) -> bool:
        nonlocal until
        now = time.monotonic()
        if count == 0:
            until = now + timeout
        if now >= until:
            return False
        time.sleep(random.uniform(0.0002, 0.001) if count < 10 else random.uniform(0.0005, 0.004))
        return True

    return wait


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

    def close(self) -> None:
        self._connection.close()


class _StandardBody:
    def __init__(self, path: str, *, create: bool, readonly: bool, patience: Callable[[int], bool]) -> None:
        mode = "ro" if readonly else "rwc" if create else "rw"
        target = path if path == MEMORY else f"file:{quote(path)}?mode={mode}"
        self._connection = sqlite3.connect(
            target, uri=path != MEMORY, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._patience = patience
        self.version = sqlite3.sqlite_version

    def execute(self, sql: str, values: Sequence[object]) -> list[Row]:
        # This library takes no busy handler; a statement that met a lock did nothing and may be tried again.
        count = 0
        while True:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if not is_busy(error) or not self._patience(count):
                    raise
                count += 1

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._connection.executemany(sql, rows)

    def total_changes(self) -> int:
        return self._connection.total_changes

    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        self._connection.close()


_BODIES: Mapping[str, Callable[..., Body]] = {"apsw": _ApswBody, "sqlite3": _StandardBody}


def library_version(library: str) -> str:
    """Which SQLite a body brings; no file is opened."""
    return apsw.sqlite_lib_version() if library == "apsw" else sqlite3.sqlite_version


class Connection:
    """A connection for one thread at a time; every write stands in one explicit transaction."""

    def __init__(self, path: str, options: Options, *, create: bool) -> None:
        patience = _patience(options.busy_timeout)
        with driver_errors:
            self._body: Body = _BODIES[options.library](
                path, create=create, readonly=options.readonly, patience=patience
            )
        try:
            self.version = self._body.version
            if tuple(map(int, self.version.split("."))) < OLDEST_LIBRARY:
                raise ConfigError(
                    f"SQLite {self.version} of the library {options.library} is too old: "
                    f"{'.'.join(map(str, OLDEST_LIBRARY))} is needed; the default library brings a current one"
                )
            self._settle_in(options, patience, in_memory=path == MEMORY)
        except BaseException:
            self._body.close()
            raise

    def _settle_in(self, options: Options, patience: Callable[[int], bool], *, in_memory: bool) -> None:
        self.execute("pragma foreign_keys = on")
        self.execute("pragma mmap_size = 0")  # a field report of damaged files through it
        self.execute(f"pragma synchronous = {options.synchronous}")
        if options.cache_size is not None:
            self.execute(f"pragma cache_size = {options.cache_size}")
        if options.temp_store is not None:
            self.execute(f"pragma temp_store = {options.temp_store}")
        if in_memory or options.readonly:
            self.execute("select count(*) from sqlite_schema")  # proves that it is a database
            return
        self._choose_journal(options.journal_mode, patience)
        self.execute(f"pragma journal_size_limit = {_JOURNAL_SIZE_LIMIT}")
        if options.wal_autocheckpoint is not None:
            self.execute(f"pragma wal_autocheckpoint = {options.wal_autocheckpoint}")

    def _choose_journal(self, mode: str, patience: Callable[[int], bool]) -> None:
        # Two processes that open a new file at once may each hold what the other needs; SQLite then gives
        # up without asking the busy handler.
        count = 0
        while True:
            try:
                if self.execute(f"pragma journal_mode = {mode}") == [(mode,)]:
                    return
            except StoreUnavailableError:
                pass
            if not patience(count):
                raise StoreUnavailableError(f"the SQLite file is busy: it could not be set to journal_mode={mode}")
            count += 1

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement to its end; its rows."""
        with driver_errors:
            return self._body.execute(sql, values)

    def change(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run one statement to its end; how many rows it changed."""
        before = self._body.total_changes()
        with driver_errors:
            self._body.execute(sql, values)
        return self._body.total_changes() - before

    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Run one statement for each row of values; how many rows were changed in all."""
        before = self._body.total_changes()
        with driver_errors:
            self._body.execute_many(sql, rows)
        return self._body.total_changes() - before

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, with the write lock from the start: a read that becomes a write fails at once."""
        self.execute("begin immediate")
        try:
            yield
            self.execute("commit")
        except BaseException:
            self._undo("rollback")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read in here is as of one moment."""
        self.execute("begin")
        try:
            yield
        finally:
            self._undo("rollback")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: what fails in here is undone alone."""
        self.execute("savepoint one")
        try:
            yield
        except BaseException:
            self._undo("rollback to one")
            self._undo("release one")
            raise
        self.execute("release one")

    def _undo(self, sql: str) -> None:
        # SQLite has rolled back by itself after some errors (disk full); the first error is the one to report.
        if self._body.in_transaction():
            self.execute(sql)

    def close(self) -> None:
        """Let go of the file."""
        with driver_errors:
            self._body.close()
