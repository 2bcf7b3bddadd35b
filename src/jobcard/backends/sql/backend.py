"""The verbs of a store in a SQL database: every one by statements of `sql/`, in the words of a dialect."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, TypeVar

from jobcard.backends import base
from jobcard.backends.base import (
    NO_COMPLETIONS,
    NOTHING,
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
from jobcard.backends.pool import Pool
from jobcard.backends.sql import admission, changes, deleting, enqueue, leases, lookup, moving, records, sealing, wake
from jobcard.backends.sql.connection import Connection, DriverConnection, Rows, only_row
from jobcard.backends.sql.dialect import Dialect
from jobcard.backends.sql.exchange import Exchange
from jobcard.backends.sql.options import Options, read_options
from jobcard.backends.sql.schema import Schema
from jobcard.backends.sql.statements import statements
from jobcard.backends.sql.values import or_nothing
from jobcard.backends.sql.within import JoinedConnection, join
from jobcard.backends.url import mask
from jobcard.backends.verbs import Verb
from jobcard.backends.within import Identity, cannot_join
from jobcard.core.clock import Clock
from jobcard.core.findings import MOST_HELD, Finding, answered, set_aside, weaknesses
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import Use
from jobcard.core.states import Change

_R = TypeVar("_R")

_SCHEMA_PATIENCE = 120.0
"""Seconds: another process may be in the middle of the same migration."""


_verb = Verb()


class About(NamedTuple):
    """What a server says about itself beside `facts.sql`. connections: None where it cannot tell."""

    version: str
    connections: int | None = None


class SQLBackend:
    """Jobs in the tables of one prefix in a SQL database: a store gives a dialect, a connection and what differs."""

    dialect: ClassVar[Dialect]
    """How the database and its driver differ."""
    store: ClassVar[str] = "sql"
    """What `facts()` calls the store."""
    capabilities = Capabilities(max_batch=500, own_thread=True, one_commit_exchange=True, shared_by_hosts=True)

    def __init__(self, url: str, *, clock: Clock | None = None, patience: float | None = None, **options: Any) -> None:
        """clock: only tests give one; the store then tells its time instead of the server's."""
        self._options: Any = self.read_options(url, options, patience=patience)
        self.capabilities = self.capabilities._replace(readonly=self._options.readonly)
        self._shown = mask(url)
        self._clock = clock
        self._prefix: str = self._options.prefix
        self._sql = statements(self.dialect, self._prefix)
        self._schema = Schema(self._sql, self._options.database)
        self._pool = self._new_pool(self._options.pool_size)
        self._identity = Identity(lambda: str(self._execute("identity", {})[0][0]))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"

    # -- what a store gives

    @staticmethod
    def connect(options: Any) -> Any:
        """The driver's own connection, new, in autocommit mode and at isolation `read committed`.

        No statement may take longer than `options.call_timeout`, or wait longer than `options.lock_timeout` for locks.
        """
        raise NotImplementedError("a store gives connect(options), or open_connection(options)")

    @classmethod
    def open_connection(cls, options: Any) -> Connection:
        """A new connection; a store whose driver does more than PEP 249 asks may give one of its own class."""
        return DriverConnection(functools.partial(cls.connect, options), cls.dialect, options)

    @classmethod
    def read_options(cls, url: str, given: Mapping[str, Any], *, patience: float | None) -> Options:
        """The checked options of a URL and of code; a store with more options than the usual ones has its own."""
        return read_options(url, given, name=cls.dialect.name, patience=patience)

    def join(self, given: object) -> JoinedConnection:
        """The caller's connection behind what `enqueue` was given as `within`, its transaction begun.

        A store that has this says `joins` in its capabilities. `ConfigError` unless it is a connection of the store's
        driver, in a transaction, and one that stores texts as they are.
        """
        raise cannot_join(self)

    def about(self, connection: Connection, version: str) -> About:
        """What `facts()` says about the server. version: its own words."""
        return About(version)

    def examine_way(self) -> Sequence[Finding]:
        """What `examine()` finds without an answer of the server: the driver, for one."""
        return ()

    def examine_server(self, connection: Connection) -> Sequence[Finding]:
        """What `examine()` finds out about the server; those that weaken durability are problems of `facts()` too."""
        return ()

    # -- schema

    @_verb
    def migrate(self) -> list[int]:
        """Make the tables, or bring them to this code's version; safe from several processes."""
        return self._rebuild(self._schema.migrate)

    @_verb
    def rollback(self) -> int | None:
        """Take the newest migration back; its version, None when nothing is left."""
        return self._rebuild(self._schema.rollback)

    @_verb
    def check_schema(self) -> None:
        """`SchemaVersionError` unless the schema has exactly this code's version."""
        with self._pool.use() as connection:
            self._schema.check(connection)

    def close(self) -> None:
        """Let go of every connection."""
        self._pool.close()

    # -- producing

    @_verb
    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """Store up to 1,000 jobs in one commit; one answer each, in order. within: a connection that `join` takes."""
        if not jobs:
            return []
        if within is not None:
            with join(self.join(within), self._sql, self._identity) as joined:
                return enqueue.store(joined, self._sql, jobs, self._now())
        with self._pool.use() as connection:
            return enqueue.store(connection, self._sql, jobs, self._now())

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
        with self._pool.use() as connection:
            return Exchange(
                connection,
                self._sql,
                owner=owner,
                now=self._now(),
                completions=completions,
                outcomes=tuple(outcomes),
                want=want,
                lease=lease,
                freed=freed,
            ).run()

    @_verb
    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        """Hold these claims for another `lease` from now; returns the refs of those that are gone."""
        if not held:
            return []
        return self._again(lambda connection: leases.renew(connection, self._sql, owner, held, lease, self._now()))

    @_verb
    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """Claims held by these owners, and with `lapsed` also those of anybody whose lease has run out, by ref."""
        with self._pool.use() as connection:
            return leases.find_held(
                connection, self._sql, owners, lapsed=lapsed, limit=limit, after=after, now=self._now()
            )

    @_verb
    def let_in(self, limit: int) -> int:
        """Put at most so many jobs back in line whose limit key has room again; how many."""
        with self._pool.use() as connection:
            return admission.let_in_all(connection, self._sql, limit)

    @_verb
    def unpark(self, names: Sequence[str]) -> int:
        """Put jobs parked under these names back in line; how many."""
        return self._again(lambda connection: changes.unpark(connection, self._sql, names, self._now()))

    @_verb
    def dependents(self, *, after: bytes | None, limit: int) -> Sequence[Dependent]:
        """Jobs that wait for others, by ascending id, above `after`. Fewer than `limit`: the end."""
        with self._pool.use() as connection:
            return lookup.dependents(connection, self._sql, after, limit)

    @_verb
    def release_dependents(self, those: Sequence[Dependent]) -> int:
        """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
        return self._again(lambda connection: changes.release_dependents(connection, self._sql, those, self._now()))

    # -- operators

    @_verb
    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
        with self._pool.use() as connection:
            return changes.apply_by_operator(connection, self._sql, job_id, change, self._now())

    @_verb
    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        """Delete at most `limit` ended jobs in these states; how many."""
        return self._again(
            lambda connection: deleting.prune(connection, self._sql, states, finished_before, age, limit, self._now())
        )

    @_verb
    def delete(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs if they have ended; how many."""
        return self._again(lambda connection: deleting.delete(connection, self._sql, job_ids)) if job_ids else 0

    @_verb
    def truncate(self) -> None:
        """Delete every job and record, some thousand at a time; the schema and the store's identity stay."""
        self._apart(lambda connection: deleting.truncate(connection, self._sql))

    # -- looking up

    @_verb
    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        """Those of the jobs that exist; `CorruptRecordError` when the only one asked for is unreadable."""
        with self._pool.use() as connection:
            return lookup.get_jobs(connection, self._sql, job_ids)

    @_verb
    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        """The recorded tries of these jobs, oldest first."""
        if not job_ids:
            return []
        with self._pool.use() as connection:
            return lookup.attempts(connection, self._sql, job_ids)

    @_verb
    def log_lines(self, job_ids: Sequence[bytes]) -> list[LogLine]:
        """The log lines of these jobs, each job's oldest first."""
        if not job_ids:
            return []
        with self._pool.use() as connection:
            return lookup.log_lines(connection, self._sql, job_ids)

    @_verb
    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        """Those of the jobs that have ended."""
        if not job_ids:
            return []
        with self._pool.use() as connection:
            return lookup.ended(connection, self._sql, job_ids)

    @_verb
    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        """Jobs, newest id first, below `before_id`; unreadable ones are left out and logged."""
        with self._pool.use() as connection:
            return lookup.list_jobs(connection, self._sql, where, limit=limit, before_id=before_id)

    @_verb
    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        """Jobs by queue and state; limit: stop counting a (queue, state) there."""
        with self._pool.use() as connection:
            return lookup.count_jobs(connection, self._sql, where, limit=limit)

    @_verb
    def count_over_time(self, *, first: int, step: int, buckets: int, states: Sequence[str] = ()) -> Sequence[Bucket]:
        """Jobs by present state, each at its latest stamp, oldest first; states: these alone."""
        with self._pool.use() as connection:
            return lookup.chart(connection, self._sql, first=first, step=step, buckets=buckets, states=states)

    @_verb
    def tally(self) -> Tally:
        """The whole store's figures."""
        with self._pool.use() as connection:
            return lookup.tally(connection, self._sql, self._now())

    @_verb
    def lines(self, *, limit: int) -> Lines:
        """How jobs wait; delayed ones are counted no further than a limit."""
        with self._pool.use() as connection:
            return lookup.lines(connection, self._sql, self._now(), limit)

    @_verb
    def usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
        """How far the limits of these queues and limit keys are used now."""
        with self._pool.use() as connection:
            return admission.usage(connection, self._sql, queues, keys, self._now())

    # -- small records

    @_verb
    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        """All records of a kind, by key."""
        with self._pool.use() as connection:
            return records.read(connection, self._sql, kind, self._now())

    @_verb
    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        """Write one; its new version. expect: only over this version (0: only if absent), else None."""
        return self._again(
            lambda connection: records.write(connection, self._sql, kind, key, value, expect=expect, now=self._now())
        )

    @_verb
    def remove_record(self, kind: RecordKind, key: str) -> bool:
        """Remove one; False: it was not there."""
        return self._again(lambda connection: records.remove(connection, self._sql, kind, key))

    # -- moving

    @_verb
    def put(self, jobs: Sequence[WholeJob]) -> Sequence[bytes]:
        """Write up to 1,000 jobs as they are, in one commit; the ids of those whose unique key another one has."""
        with self._pool.use() as connection:
            return moving.put(connection, self._sql, jobs, self._now()) if jobs else []

    @_verb
    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        """(id, version) of jobs by ascending id; -1 for one that cannot be read."""
        with self._pool.use() as connection:
            return moving.versions(connection, self._sql, after, limit)

    @_verb
    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        """Once keys in force, by ascending key."""
        with self._pool.use() as connection:
            return moving.once_keys(connection, self._sql, after, limit, self._now())

    @_verb
    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        """Write up to 1,000 once keys as they are, in one commit."""
        if keys:
            with self._pool.use() as connection:
                moving.put_once_keys(connection, self._sql, keys)

    @_verb
    def erase(self, job_ids: Sequence[bytes]) -> int:
        """Delete up to 1,000 jobs in whatever state they are; how many were there."""
        return self._again(lambda connection: deleting.erase(connection, self._sql, job_ids)) if job_ids else 0

    @_verb
    def seal(self, word: str | None) -> None:
        """Close the store to every writer, or with None open it again; waits for those that are open."""
        call: float = self._options.call_timeout
        patience: float = self._options.lock_timeout or call

        def work(connection: Connection) -> None:
            with self._schema.locked(connection):
                if word is None:
                    sealing.open_again(connection, self._sql)
                else:
                    sealing.seal(connection, self._sql, word, patience=patience)

        self._apart(work, lock_timeout=patience, call_timeout=patience + call)

    # -- itself

    @_verb
    def facts(self) -> Facts:
        """Versions, identity, size, the store's time; proves that it answers."""
        asked = {"tables": or_nothing(self._schema.tables), "now": self._now()}
        with self._pool.use() as connection:
            self._schema.check(connection)
            schema_version, identity, seal, size, now, version = only_row(connection.execute(self._sql["facts"], asked))
            about = self.about(connection, version)
            problems = weaknesses(self.examine_server(connection))
        return Facts(
            store=self.store,
            version=about.version,
            schema_version=schema_version,
            identity=identity,
            size_bytes=size,
            connections=about.connections,
            now=now,
            problems=problems,
            seal=seal,
        )

    def examine(self) -> Sequence[Finding]:
        """Driver and server, what weakens them, the way to them, jobs set aside."""
        return answered(self.examine_way, self._examine_server, self._examine_jobs)

    @_verb
    def _examine_server(self) -> Sequence[Finding]:
        with self._pool.use() as connection:
            return self.examine_server(connection)

    @_verb
    def _examine_jobs(self) -> Sequence[Finding]:
        return set_aside(self._execute("set_aside", {"most": MOST_HELD}))

    def waker(self) -> Waker:
        """Hints by a thread that looks now and then, on a connection of its own."""
        return wake.watch(self._new_pool(1), self._sql)

    # -- inside

    def _now(self) -> int | None:
        return None if self._clock is None else self._clock.now()

    def _execute(self, name: str, values: Mapping[str, object]) -> Rows:
        with self._pool.use() as connection:
            return connection.execute(self._sql[name], values)

    def _again(self, work: Callable[[Connection], _R]) -> _R:
        with self._pool.use() as connection:
            return connection.again(lambda: work(connection))

    def _new_pool(self, size: int, **patience: float) -> Pool[Connection]:
        options = replace(self._options, **patience)
        # Not a method of this object: a store that was forgotten shall be collected, its connections closed.
        return Pool(
            functools.partial(type(self).open_connection, options),
            size=size,
            timeout=options.pool_timeout,
            recycle=options.pool_recycle,
        )

    def _rebuild(self, work: Callable[[Connection], _R]) -> _R:
        """Work on the schema, on a connection that is patient even where an engine wants quick answers."""
        return self._apart(work, call_timeout=_SCHEMA_PATIENCE, lock_timeout=_SCHEMA_PATIENCE)

    def _apart(self, work: Callable[[Connection], _R], **patience: float) -> _R:
        """Work on a connection of its own, which no seal stops. patience: options that are others there."""
        pool = self._new_pool(1, **patience)
        try:
            with pool.use() as connection:
                connection.execute(self._sql["pass_seal"])
                return work(connection)
        finally:
            pool.close()


_CONTRACT: type[base.Backend] = SQLBackend
