"""One SQLite connection behind a tiny interface, whichever library opens the file."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from jobcard.backends.sqlite.bodies import Body, CipherBody, Row, open_body
from jobcard.backends.sqlite.errors import driver_errors
from jobcard.backends.sqlite.options import MEMORY, Options
from jobcard.errors import ConfigError, StoreUnavailableError

OLDEST_LIBRARY = (3, 37, 0)
"""The first SQLite with strict tables and RETURNING."""

# Large enough that a busy WAL is not cut and grown again all the time, small enough for any disk.
_JOURNAL_SIZE_LIMIT = 16 << 20


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


class Connection:
    """A connection for one thread at a time; every write stands in one explicit transaction."""

    def __init__(self, path: str, options: Options, *, create: bool) -> None:
        patience = _patience(options.busy_timeout)
        self._limit, self._until = options.call_timeout or 0.0, 0.0
        with driver_errors:
            self._body: Body = open_body(path, options, create=create, patience=patience)
        try:
            self.version = self._body.version
            if tuple(map(int, self.version.split("."))) < OLDEST_LIBRARY:
                raise ConfigError(
                    f"SQLite {self.version} of the library {options.library} is too old: "
                    f"{'.'.join(map(str, OLDEST_LIBRARY))} is needed; the default library brings a current one"
                )
            self._settle_in(options, patience, in_memory=path == MEMORY)
            if self._limit:
                self._body.interrupt_when(self._is_late)
        except BaseException:
            self._body.close()
            raise

    def _settle_in(self, options: Options, patience: Callable[[int], bool], *, in_memory: bool) -> None:
        if options.encryption_key is not None:
            self._prove_key()
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

    def _prove_key(self) -> None:
        try:
            self.execute("select count(*) from sqlite_schema")
        except ConfigError as error:
            raise ConfigError(
                "the encryption key does not open the SQLite file: it is not this file's, or the file is not encrypted"
            ) from error.__cause__

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

    def _is_late(self) -> bool:
        return time.monotonic() > self._until

    def execute(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement to its end; its rows."""
        self._until = time.monotonic() + self._limit
        with driver_errors:
            return self._body.execute(sql, values)

    def change(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run one statement to its end; how many rows it changed."""
        before = self._body.total_changes()
        self._until = time.monotonic() + self._limit
        with driver_errors:
            self._body.execute(sql, values)
        return self._body.total_changes() - before

    def change_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Run one statement for each row of values; how many rows were changed in all."""
        before = self._body.total_changes()
        self._until = time.monotonic() + self._limit
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

    def change_key(self, key: str) -> None:
        """Encrypt the whole file with another key, in one transaction."""
        assert isinstance(self._body, CipherBody)
        with driver_errors:
            self._body.change_key(key)

    def close(self) -> None:
        """Let go of the file."""
        with driver_errors:
            self._body.close()
