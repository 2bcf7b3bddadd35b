"""Jobs in a SQLite file: no server, many processes of one host."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobcard.backends import base
from jobcard.backends.base import (
    NO_COMPLETIONS,
    NOTHING,
    SETTINGS,
    Bucket,
    Capabilities,
    Completions,
    Ended,
    Enqueued,
    Exchanged,
    Facts,
    Filter,
    Held,
    Lines,
    Listed,
    Outcome,
    Record,
    RecordKind,
    Tally,
    Waker,
    Want,
)
from jobcard.backends.sqlite import (
    admission,
    changes,
    checkup,
    deleting,
    encryption,
    enqueue,
    files,
    leases,
    lookup,
    moving,
    records,
    sealing,
    wake,
)
from jobcard.backends.sqlite.bodies import library_version
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.exchange import Exchange
from jobcard.backends.sqlite.files import FileConnection, NoFileError
from jobcard.backends.sqlite.options import MEMORY, read_options
from jobcard.backends.sqlite.pool import Pool
from jobcard.backends.sqlite.schema import Schema
from jobcard.backends.sqlite.statements import statements
from jobcard.backends.sqlite.within import join
from jobcard.backends.verbs import Verb
from jobcard.core.clock import Clock, SystemClock
from jobcard.core.findings import MOST_HELD, Finding, answered, set_aside, weaknesses
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import Use
from jobcard.core.states import Change
from jobcard.errors import SchemaVersionError, StoreMovedError

_SCHEMA_PATIENCE = 30.0
"""Seconds: another process may be in the middle of the same migration."""


_verb = Verb()


class SQLiteBackend:
    """Jobs in one SQLite file, or in memory for tests."""

    capabilities: Capabilities

    def __init__(
        self,
        url_or_path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        patience: float | None = None,
        **options: Any,
    ) -> None:
        path, self._options = read_options(url_or_path, options)
        if patience is not None:
            self._options = replace(self._options, busy_timeout=min(patience, self._options.busy_timeout))
        in_memory = path == MEMORY
        # Absolute from now on: the process may change its directory before the first use.
        self._path = path if in_memory else str(Path(path).absolute())
        self._clock = clock or SystemClock()
        self._schema = Schema(self._options.prefix)
        self._sql: Mapping[str, str] = statements(self._options.prefix)
        self._bell = wake.Bell()
        self._memory_name = f"memory-{os.getpid()}-{os.urandom(8).hex()}" if in_memory else None
        self._writer = self._pool(1)
        self._readers = self._writer if in_memory else self._pool(self._options.pool_size)
        self.capabilities = Capabilities(
            max_batch=500,
            own_thread=False,
            one_commit_exchange=True,
            shared_by_hosts=False,
            survives_process=not in_memory,
            readonly=self._options.readonly,
            joins=not in_memory and self._options.library != "sqlcipher",
        )

    def __repr__(self) -> str:
        return f"SQLiteBackend({self._path!r})"

    # -- schema

    @_verb
    def migrate(self) -> list[int]:
        """Make the file and its tables, or bring them to this code's version; safe from several processes."""
        with self._rebuild() as connection:
            return self._schema.migrate(connection)

    @_verb
    def rollback(self) -> int | None:
        """Take the newest migration back; its version, None when nothing is left."""
        with self._rebuild() as connection:
            return self._schema.rollback(connection)

    @_verb
    def rekey(self, new_key: str) -> None:
        """Encrypt the whole file with another key, and close this store; nobody else may have the file open.

        Whatever happens in between, the file has the old key or the new one. `StoreUnavailableError`: it is in use.
        """
        self.close()
        encryption.change_key(self._path, self._options, new_key)

    def check_schema(self) -> None:
        """`SchemaVersionError` unless the schema has exactly this code's version."""
        try:
            with self._read() as connection:
                self._schema.check(connection)
        except NoFileError as error:
            raise SchemaVersionError(0, self._schema.wanted) from error

    def close(self) -> None:
        """Let go of every connection."""
        self._writer.close()
        self._readers.close()
        self._bell.close()

    # -- producing

    @_verb
    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """Store up to 1,000 jobs in one commit; one answer each, in order. within: a connection to the same file."""
        if not jobs:
            return []
        if within is not None:
            # Nobody is told: engines see the commit, whenever it comes, by SQLite's own count.
            return enqueue.store(join(within, self._path, self._options), self._sql, jobs, self._clock)
        with self._write() as connection:
            answers = enqueue.store(connection, self._sql, jobs, self._clock)
        self._ring()
        return answers

    # -- holding

    @_verb
    def exchange(
        self,
        owner: str,
        *,
        completions: Completions = NO_COMPLETIONS,
        outcomes: Sequence[Outcome] = (),
        want: Want = NOTHING,
        lease: int = 0,
        freed: Collection[str] = (),
    ) -> Exchanged:
        """Release due jobs, settle what ended, claim what is wanted, in one commit."""
        with self._write(first=True) as connection:
            exchange = Exchange(
                connection,
                self._sql,
                owner=owner,
                clock=self._clock,
                completions=completions,
                outcomes=tuple(outcomes),
                want=want,
                lease=lease,
                freed=freed,
            )
            answer = exchange.run()
        if exchange.has_news:
            self._ring()
        return answer

    @_verb
    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        """Hold these claims for another `lease` from now; returns the refs of those that are gone."""
        if not held:
            return []
        with self._change(first=True) as connection:
            return leases.renew(connection, self._sql, owner, held, lease, self._clock.now())

    @_verb
    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """Claims held by these owners, and with `lapsed` also those of anybody whose lease has run out; by number."""
        now = self._clock.now()
        # Not on those for reading: an engine asks it in its loop, and somebody's look-up may keep them for long.
        with self._writer.use(first=True) as connection:
            found, broken = leases.find_held(
                connection, self._sql, owners, lapsed=lapsed, limit=limit, after=after, now=now
            )
        if broken:
            # Of a sealed store it can still be looked up, and nothing more.
            with suppress(StoreMovedError), self._change(first=True) as connection:
                leases.quarantine_lapsed(connection, self._sql, broken, self._clock.now())
        return found

    @_verb
    def let_in(self, limit: int) -> int:
        """Put at most so many jobs back in line whose limit key has room again; how many."""
        number = 0
        after: str | None = ""
        while number < limit and after is not None:
            with self._read() as connection:
                keys, after = admission.keys_with_room(connection, self._sql, after)
            if keys:
                with self._change() as connection:
                    number += admission.let_in(connection, self._sql, keys, most=limit - number)
        if number:
            self._ring()
        return number

    @_verb
    def unpark(self, names: Sequence[str]) -> int:
        """Put jobs parked under these names back in line; how many."""
        with self._change() as connection:
            number = changes.unpark(connection, self._sql, names, self._clock.now())
        if number:
            self._ring()
        return number

    @_verb
    def dependents(self, *, after: bytes | None, limit: int) -> Sequence[Dependent]:
        """Jobs that wait for others, by ascending id, above `after`. Fewer than `limit`: the end."""
        with self._read() as connection:
            return lookup.dependents(connection, self._sql, after, limit)

    @_verb
    def release_dependents(self, those: Sequence[Dependent]) -> int:
        """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
        with self._change() as connection:
            number = changes.release_dependents(connection, self._sql, those, self._clock.now())
        if number:
            self._ring()
        return number

    # -- operators

    @_verb
    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
        with self._change() as connection:
            row = changes.apply_by_operator(connection, self._sql, job_id, change, self._clock.now())
        if row is not None:
            self._ring()
        return row

    @_verb
    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        """Delete at most `limit` ended jobs in these states; how many."""
        with self._change() as connection:
            now = self._clock.now()
            return deleting.prune(connection, self._sql, states, finished_before, age, limit, now)

    @_verb
    def delete(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs if they have ended; how many."""
        with self._change() as connection:
            return deleting.delete(connection, self._sql, job_ids)

    @_verb
    def truncate(self) -> None:
        """Delete every job and record; the schema and the store's identity stay."""
        with self._write() as connection, connection.transaction():
            deleting.truncate(connection, self._sql)
        self._ring()

    # -- looking up

    @_verb
    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        """Those of the jobs that exist; `CorruptRecordError` when the only one asked for is unreadable."""
        with self._read() as connection:
            return lookup.get_jobs(connection, self._sql, job_ids)

    @_verb
    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        """The recorded tries of these jobs, oldest first."""
        with self._read() as connection:
            return lookup.attempts(connection, self._sql, job_ids)

    @_verb
    def log_lines(self, job_ids: Sequence[bytes]) -> list[LogLine]:
        """The log lines of these jobs, each job's oldest first."""
        with self._read() as connection:
            return lookup.log_lines(connection, self._sql, job_ids)

    @_verb
    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        """Those of the jobs that have ended."""
        with self._read() as connection:
            return lookup.ended(connection, self._sql, job_ids)

    @_verb
    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        """Jobs, newest id first, below `before_id`; unreadable ones are left out and logged."""
        with self._read() as connection:
            return lookup.list_jobs(connection, self._sql, where, limit=limit, before_id=before_id)

    @_verb
    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        """Jobs by queue and state; limit: stop counting a (queue, state) there."""
        with self._read() as connection, connection.snapshot():
            return lookup.count_jobs(connection, self._sql, where, limit=limit)

    @_verb
    def count_over_time(self, *, first: int, step: int, buckets: int, states: Sequence[str] = ()) -> Sequence[Bucket]:
        """Jobs by present state, each at its latest stamp, oldest first; states: these alone."""
        with self._read() as connection:
            return lookup.chart(connection, self._sql, first=first, step=step, buckets=buckets, states=states)

    @_verb
    def tally(self) -> Tally:
        """The whole store's figures."""
        with self._read() as connection:
            return lookup.tally(connection, self._sql, self._clock.now())

    @_verb
    def lines(self, *, limit: int) -> Lines:
        """How jobs wait; delayed ones are counted no further than a limit."""
        with self._read() as connection:
            return lookup.lines(connection, self._sql, self._clock.now(), limit)

    @_verb
    def usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
        """How far the limits of these queues and limit keys are used now."""
        with self._read() as connection:
            return admission.usage(connection, self._sql, queues, keys)

    # -- small records

    @_verb
    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        """All records of a kind, by key."""
        with self._read() as connection:
            return records.read(connection, self._sql, kind, self._clock.now())

    @_verb
    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        """Write one; its new version. expect: only over this version (0: only if absent), else None."""
        with self._change() as connection:
            version = records.write(connection, self._sql, kind, key, value, expect=expect, now=self._clock.now())
        if version is not None and kind in SETTINGS:
            self._ring()
        return version

    @_verb
    def remove_record(self, kind: RecordKind, key: str) -> bool:
        """Remove one; False: it was not there."""
        with self._change() as connection:
            removed = records.remove(connection, self._sql, kind, key)
        if removed and kind in SETTINGS:
            self._ring()
        return removed

    # -- moving

    @_verb
    def put(self, jobs: Sequence[WholeJob]) -> Sequence[bytes]:
        """Write up to 1,000 jobs as they are, each in place of the one with its id; the ids of those not written."""
        with self._change() as connection:
            return moving.put(connection, self._sql, jobs, self._clock.now())

    @_verb
    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        """(id, version) of jobs by ascending id, above `after`; of one that cannot be read the version is -1."""
        with self._read() as connection:
            return moving.versions(connection, self._sql, after, limit)

    @_verb
    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        """Once keys in force, by ascending key, above `after`."""
        with self._read() as connection:
            return moving.once_keys(connection, self._sql, after, limit, self._clock.now())

    @_verb
    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        """Write up to 1,000 once keys as they are, in place of those that are there."""
        with self._change() as connection:
            moving.put_once_keys(connection, self._sql, keys)

    @_verb
    def erase(self, job_ids: Sequence[bytes]) -> int:
        """Delete jobs in whatever state they are; how many were there."""
        with self._change() as connection:
            return deleting.erase(connection, self._sql, job_ids)

    @_verb
    def seal(self, word: str | None) -> None:
        """Close this file to every writer, or with None open it again."""
        with self._write() as connection, connection.transaction():
            sealing.seal(connection, self._sql, word)
        self._ring()

    # -- itself

    @_verb
    def facts(self) -> Facts:
        """Versions, identity, size, the store's time; proves that it answers."""
        with self._read() as connection:
            version = self._schema.version(connection)
            identity = connection.execute(self._sql["identity"])[0][0] if version else ""
            seal = connection.execute(self._sql["seal"])[0][0] if version else None
            [(pages,)], [(page_size,)] = (connection.execute(f"pragma {name}") for name in ("page_count", "page_size"))
            library = connection.version
            key = files.file_key(self._path)
        return Facts(
            store="sqlite",
            version=f"SQLite {library} ({self._options.library})",
            schema_version=version,
            identity=identity,
            size_bytes=int(pages) * int(page_size) + self._wal_size(),  # SQLCipher says them as text
            connections=files.connections_to(key),
            now=self._clock.now(),
            problems=weaknesses(checkup.durability(self._path, self._options, library)),
            seal=seal,
        )

    def _wal_size(self) -> int:
        try:
            return Path(self._path + "-wal").stat().st_size
        except OSError:
            return 0

    def examine(self) -> Sequence[Finding]:
        """The library, what weakens the store, where its file is and who may read it, jobs set aside."""
        return answered(self._examine_file, self._examine_jobs)

    def _examine_file(self) -> Sequence[Finding]:
        library = library_version(self._options.library)
        wal = 0 if self._memory_name else self._wal_size()
        return [
            *checkup.versions(self._options, library),
            *checkup.durability(self._path, self._options, library),
            *checkup.file(self._path, wal),
        ]

    @_verb
    def _examine_jobs(self) -> Sequence[Finding]:
        with self._read() as connection:
            return set_aside(connection.execute(self._sql["set_aside"], (MOST_HELD,)))

    def waker(self) -> Waker:
        """Hints by a local datagram where the system has them, and by SQLite's own count of foreign commits."""
        return wake.listen(self._wake_name(), None if self._memory_name else self._pool(1))

    # -- connections

    def _pool(self, size: int, **changed: Any) -> Pool:
        options = replace(self._options, **changed)
        return Pool(
            lambda create: FileConnection(self._path, options, create=create),
            size=size,
            timeout=options.pool_timeout,
            recycle=options.pool_recycle,
        )

    @contextmanager
    def _write(self, *, first: bool = False) -> Iterator[Connection]:
        with self._writer.use(first=first) as connection:
            yield connection

    @contextmanager
    def _change(self, *, first: bool = False) -> Iterator[Connection]:
        """A connection in one transaction, of a store that is not sealed."""
        with self._write(first=first) as connection, connection.transaction():
            [(word,)] = connection.execute(self._sql["seal"])
            sealing.refuse(word)
            yield connection

    @contextmanager
    def _rebuild(self) -> Iterator[Connection]:
        """A connection for the schema, patient even where an engine wants quick answers."""
        if self._memory_name:
            with self._writer.use(create=True) as connection:
                yield connection
            return
        pool = self._pool(1, busy_timeout=max(self._options.busy_timeout, _SCHEMA_PATIENCE))
        try:
            with pool.use(create=True) as connection:
                yield connection
        finally:
            pool.close()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._readers.use() as connection:
            yield connection

    def _wake_name(self) -> str | None:
        """What the engines of this store listen under: the file itself, whatever path led to it."""
        if self._memory_name:
            return self._memory_name
        key = files.file_key(self._path)
        return f"{key[0]:x}-{key[1]:x}-{self._options.prefix}" if key else None

    def _ring(self) -> None:
        if name := self._wake_name():
            self._bell.ring(name)


_CONTRACT: type[base.Backend] = SQLiteBackend
