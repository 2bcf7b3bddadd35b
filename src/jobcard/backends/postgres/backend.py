"""Jobs in PostgreSQL 14 or newer: any number of hosts, engines and clients."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

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
    Fate,
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
from jobcard.backends.postgres import (
    admission,
    changes,
    checkup,
    deleting,
    enqueue,
    grants,
    leases,
    lookup,
    moving,
    records,
    wake,
)
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.exchange import Exchange
from jobcard.backends.postgres.options import STATEMENT_SECONDS, read_options
from jobcard.backends.postgres.rows import to_job
from jobcard.backends.postgres.schema import Schema
from jobcard.backends.postgres.sealing import Barrier
from jobcard.backends.postgres.statements import Tables, statements
from jobcard.backends.postgres.values import Texts
from jobcard.backends.postgres.within import join
from jobcard.backends.roles import Role
from jobcard.backends.url import mask
from jobcard.backends.verbs import Verb
from jobcard.backends.within import Identity
from jobcard.core.clock import Clock
from jobcard.core.findings import MOST_HELD, Finding, answered, set_aside, weaknesses
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import Use
from jobcard.core.states import Change

_log = logging.getLogger("jobcard.store")

_R = TypeVar("_R")

_SCHEMA_PATIENCE = 60.0
"""Seconds: another process may be in the middle of the same migration."""

_verb = Verb()


class PostgresBackend:
    """Jobs in the tables of one prefix in a PostgreSQL database."""

    capabilities = Capabilities(
        max_batch=500, own_thread=True, one_commit_exchange=True, shared_by_hosts=True, joins=True
    )

    def __init__(self, url: str, *, clock: Clock | None = None, patience: float | None = None, **options: Any) -> None:
        """clock: only tests give one; the store then tells its time instead of the server's."""
        self._options = read_options(url, options, patience=patience)
        self.capabilities = self.capabilities._replace(readonly=self._options.readonly)
        self._shown = mask(url)
        self._clock = clock
        self._tables = Tables(self._options.schema, self._options.prefix)
        self._schema = Schema(self._tables)
        self._sql: Mapping[str, str] = statements(self._tables)
        self._channel = wake.channel_of(self._tables)
        self._pool = self._new_pool(self._options.pool_size)
        self._bell = wake.Bell(self._ring_now)
        self._identity = Identity(lambda: str(self._execute("identity", {})[0][0]))
        self._full: set[str] = set()
        """Queues that had no place when an exchange last looked: the next one takes no lock for them in vain."""

    def __repr__(self) -> str:
        return f"PostgresBackend({self._shown!r})"

    # -- schema

    @_verb
    def migrate(self) -> list[int]:
        """Make the tables, or bring them to this code's version; safe from several processes."""
        applied = self._rebuild(self._schema.migrate)
        if applied and (word := self._execute("seal", {})[0][0]) is not None:
            # Tables that are new have no barrier yet.
            self.seal(word)
        return applied

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
        self._bell.close()
        self._pool.close()

    # -- producing

    @_verb
    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """Store up to 1,000 jobs in one commit; one answer each, in order. within: a psycopg connection."""
        if not jobs:
            return []
        if within is not None:
            with join(within, self._sql, self._identity) as joined:
                answers = enqueue.store(joined, self._sql, jobs, self._now(), ring=None)
                if self._options.listen:  # whatever was rung a moment ago: this is heard at the commit
                    joined.ask(Step(self._sql["notify"], {"channel": self._channel}))
            return answers
        ring = self._ring_step()
        with self._pool.use() as connection:
            answers = enqueue.store(connection, self._sql, jobs, self._now(), ring=ring)
        if ring is None and self._options.listen:
            self._bell.ring_later()
        elif any(answer.fate is Fate.REPLACED for answer in answers):
            # After the ring of the first trip.
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
        """Release due jobs, settle what ended, claim what is wanted, in one round trip and one commit.

        Some more trips where limits count.
        """
        with self._pool.use() as connection:
            exchange = Exchange(
                connection,
                self._sql,
                owner=owner,
                now=self._now(),
                completions=completions,
                outcomes=tuple(outcomes),
                want=want,
                lease=lease,
                full=self._full,
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
        with self._pool.use() as connection:
            return leases.renew(connection, self._sql, owner, held, lease, self._now())

    @_verb
    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """Claims held by these owners, and with `lapsed` also those of anybody whose lease has run out; by number."""
        with self._pool.use() as connection:
            return leases.find_held(
                connection, self._sql, owners, lapsed=lapsed, limit=limit, after=after, now=self._now()
            )

    @_verb
    def let_in(self, limit: int) -> int:
        """Put at most so many jobs back in line whose limit key has room again; how many."""
        with self._pool.use() as connection:
            number = admission.let_in_all(connection, self._sql, limit)
        if number:
            self._ring()
        return number

    @_verb
    def unpark(self, names: Sequence[str]) -> int:
        """Put jobs parked under these names back in line; how many."""
        with self._pool.use() as connection:
            number = changes.unpark(connection, self._sql, names, self._now())
        if number:
            self._ring()
        return number

    @_verb
    def dependents(self, *, after: bytes | None, limit: int) -> Sequence[Dependent]:
        """Jobs that wait for others, by ascending id, above `after`. Fewer than `limit`: the end."""
        with self._pool.use() as connection:
            return lookup.dependents(connection, self._sql, after, limit)

    @_verb
    def release_dependents(self, those: Sequence[Dependent]) -> int:
        """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
        with self._pool.use() as connection:
            number = changes.release_dependents(connection, self._sql, those, self._now())
        if number:
            self._ring()
        return number

    # -- operators

    @_verb
    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
        with self._pool.use() as connection:
            row = changes.apply_by_operator(connection, self._sql, job_id, change, self._now())
        if row is None:
            return None
        self._ring()
        return to_job(row)

    @_verb
    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        """Delete at most `limit` ended jobs in these states; how many."""
        with self._pool.use() as connection:
            return deleting.prune(connection, self._sql, states, finished_before, age, limit, self._now())

    @_verb
    def delete(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs if they have ended; how many."""
        if not job_ids:
            return 0
        with self._pool.use() as connection:
            return deleting.delete(connection, self._sql, job_ids)

    @_verb
    def truncate(self) -> None:
        """Delete every job and record; the schema and the store's identity stay."""
        with self._pool.use() as connection:
            deleting.truncate(connection, self._sql)
        self._ring()

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
        """The log lines of these jobs, oldest first; deleted with their job."""
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
        with self._pool.use() as connection:
            version = records.write(connection, self._sql, kind, key, value, expect=expect, now=self._now())
        if version is not None and kind in SETTINGS:
            self._ring()
        return version

    @_verb
    def remove_record(self, kind: RecordKind, key: str) -> bool:
        """Remove one; False: it was not there."""
        with self._pool.use() as connection:
            gone = records.remove(connection, self._sql, kind, key)
        if gone and kind in SETTINGS:
            self._ring()
        return gone

    # -- moving

    @_verb
    def put(self, jobs: Sequence[WholeJob]) -> Sequence[bytes]:
        """Write up to 1,000 jobs as they are, in one commit; the ids of those not written."""
        with self._pool.use() as connection:
            return moving.put(connection, self._sql, jobs, self._now())

    @_verb
    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        """(id, version) of jobs by ascending id, above `after`; the version of one that cannot be read is -1."""
        with self._pool.use() as connection:
            return moving.versions(connection, self._sql, after, limit)

    @_verb
    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        """Once keys in force, by ascending key, above `after`."""
        with self._pool.use() as connection:
            return moving.once_keys(connection, self._sql, after, limit, self._now())

    @_verb
    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        """Write up to 1,000 once keys as they are, in place of those that are there."""
        if keys:
            with self._pool.use() as connection:
                moving.put_once_keys(connection, self._sql, keys)

    @_verb
    def erase(self, job_ids: Sequence[bytes]) -> int:
        """Delete jobs in whatever state they are, and all that belongs to them; how many were there."""
        if not job_ids:
            return 0
        with self._pool.use() as connection:
            return deleting.erase(connection, self._sql, job_ids)

    @_verb
    def seal(self, word: str | None) -> None:
        """Close this store to every writer, or with None open it again; it takes the rights of a migration."""
        patience = min(self._options.lock_timeout or STATEMENT_SECONDS, STATEMENT_SECONDS)
        with (
            contextlib.closing(self._new_pool(2)) as pool,
            pool.use() as guard,
            pool.use() as connection,
            self._schema.alone(guard, patience=patience),
        ):
            Barrier(connection, self._sql, self._tables.qualified, patience=patience).seal(word)

    # -- itself

    @_verb
    def facts(self) -> Facts:
        """Versions, identity, size, the store's time; proves that it answers."""
        values = {"tables": Texts(self._schema.tables), "now": self._now()}
        with self._pool.use() as connection:
            [[(version, schema, identity, seal, size, connections, now)], [settings]] = connection.run(
                [Step(self._sql["facts"], values), Step(self._sql["settings"])]
            )
        return Facts(
            store="postgresql",
            version=f"PostgreSQL {version}",
            schema_version=schema,
            identity=identity,
            size_bytes=size,
            connections=connections,
            now=now,
            seal=seal,
            problems=weaknesses(checkup.durability(checkup.Settings(*settings))),
        )

    def examine(self) -> Sequence[Finding]:
        """Driver and server, what weakens them, who stands in between, jobs set aside."""
        return answered(lambda: [checkup.driver()], self._examine_server, self._examine_jobs)

    @_verb
    def _examine_server(self) -> Sequence[Finding]:
        with self._pool.use() as connection:
            [row] = connection.execute(self._sql["settings"])
            settings = checkup.Settings(*row)
            way = list(checkup.way(connection, settings, pooled=self._options.pooled))
        return [checkup.server(settings), *checkup.durability(settings), *way]

    @_verb
    def _examine_jobs(self) -> Sequence[Finding]:
        return set_aside(self._execute("set_aside", {"most": MOST_HELD}))

    def waker(self) -> Waker:
        """Hints by NOTIFY, on a connection of its own; none behind a pooler, or with listen=0."""
        if self._options.listen and self._options.pooled:
            _log.warning(
                "behind a pooler nobody can listen: this engine looks for new jobs once in poll_interval; "
                "give engines a URL that leads to the server itself, or say listen=off"
            )
        if not self._options.listen or self._options.pooled:
            return Waker()
        return wake.listen(lambda: Connection(self._options), self._channel)

    def grants(self, role: Role, user: str) -> Sequence[str]:
        """The statements that give this user what the role needs in this schema; opens nothing."""
        database = self._options.connection.get("dbname")
        return grants.grants(
            role,
            user,
            schema=self._options.schema,
            prefix=self._options.prefix,
            database=None if database is None else str(database),
        )

    # -- inside

    def _now(self) -> int | None:
        return None if self._clock is None else self._clock.now()

    def _execute(self, name: str, values: Mapping[str, object]) -> Sequence[Row]:
        with self._pool.use() as connection:
            return connection.execute(self._sql[name], values)

    def _new_pool(self, size: int, *, patient: float | None = None) -> Pool[Connection]:
        # Not a method of this object: a store that was forgotten shall be collected, its connections closed.
        return Pool(
            functools.partial(Connection, self._options, patient=patient),
            size=size,
            timeout=self._options.pool_timeout,
            recycle=self._options.pool_recycle,
        )

    def _rebuild(self, work: Callable[[Connection], _R]) -> _R:
        """Work on the schema, on a connection that is patient even where an engine wants quick answers."""
        pool = self._new_pool(1, patient=_SCHEMA_PATIENCE)
        try:
            with pool.use() as connection:
                return work(connection)
        finally:
            pool.close()

    def _ring_step(self) -> Step | None:
        if not self._options.listen or not self._bell.may_ring():
            return None
        return Step(self._sql["notify"], {"channel": self._channel})

    def _ring(self) -> None:
        if not self._options.listen:
            return
        if self._bell.may_ring():
            self._ring_now()
        else:
            self._bell.ring_later()

    def _ring_now(self) -> None:
        with self._pool.use() as connection:
            connection.run([Step(self._sql["notify"], {"channel": self._channel})])


_CONTRACT: type[base.Backend] = PostgresBackend
