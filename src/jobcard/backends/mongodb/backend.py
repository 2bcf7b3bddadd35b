"""Jobs in MongoDB 5.0 or newer: every move is one guarded update of one document, without transactions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

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
from jobcard.backends.mongodb import (
    admission,
    changes,
    checkup,
    deleting,
    enqueue,
    grants,
    leases,
    loads,
    lookup,
    moving,
    records,
    schema,
    sealing,
    wake,
)
from jobcard.backends.mongodb.connection import Connections, Store
from jobcard.backends.mongodb.errors import driver_errors, unless_sealed
from jobcard.backends.mongodb.exchange import exchange
from jobcard.backends.mongodb.options import read_options
from jobcard.backends.mongodb.within import store as store_within
from jobcard.backends.roles import Role
from jobcard.backends.url import mask
from jobcard.backends.verbs import Verb
from jobcard.backends.within import Identity
from jobcard.core.clock import Clock
from jobcard.core.findings import Finding, answered, weaknesses
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import Use
from jobcard.core.states import Change
from jobcard.errors import ConfigError, StoreUnavailableError

_log = logging.getLogger("jobcard.store")


_verb = Verb(driver_errors)


class MongoBackend:
    """Jobs in one MongoDB database: of a replica set, a cluster or a standalone server."""

    capabilities = Capabilities(
        max_batch=400, own_thread=True, one_commit_exchange=False, shared_by_hosts=True, joins=True
    )

    def __init__(self, url: str, *, clock: Clock | None = None, patience: float | None = None, **options: Any) -> None:
        # Only who seals waits for what others hold; how long the server may hang, `socket_timeout` says.
        parsed, self._options = read_options(url, options)
        self.capabilities = self.capabilities._replace(readonly=self._options.readonly)
        self._patience = self._options.socket_timeout if patience is None else patience
        self._shown = mask(url)
        self._connections = Connections(parsed, self._options, clock)
        self._sweeper = loads.Sweeper()
        self._identity = Identity(lambda: records.identity(self._store))

    def __repr__(self) -> str:
        return f"MongoBackend({self._shown!r})"

    @property
    def _store(self) -> Store:
        return self._connections.store()

    @property
    def _unsealed(self) -> Store:
        """The store for a write that may find nothing to write, and then would not meet the rule of a sealed store."""
        store = self._store
        records.refuse_sealed(store)
        return store

    # -- schema

    @_verb
    def migrate(self) -> list[int]:
        """Make what is missing; each step may run twice, and several processes may do it at once."""
        return schema.migrate(self._store)

    @_verb
    def rollback(self) -> int | None:
        """Take the newest migration back; its version, None when nothing is left."""
        return schema.rollback(self._store)

    @_verb
    def check_schema(self) -> None:
        """`SchemaVersionError` unless the schema has exactly this code's version."""
        schema.check(self._store)

    def close(self) -> None:
        """Let go of every connection."""
        self._connections.close()

    # -- producing

    @_verb
    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """Store up to 1,000 jobs, all or none of them; one answer each, in order. within: a pymongo session."""
        if within is not None and jobs:
            return store_within(self._store, within, jobs, self._identity)
        return enqueue.store(self._store, jobs) if jobs else []

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
        """Settle what ended, release due jobs, claim what is wanted, in few round trips."""
        return exchange(self._store, owner, completions, tuple(outcomes), want, lease, freed)

    @_verb
    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        """Hold these claims for another `lease` from now; returns the refs of those that are gone."""
        return leases.renew(self._store, owner, held, lease)

    @_verb
    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """Claims held by these owners, and with `lapsed` also those of anybody whose lease has run out."""
        if lapsed:
            # Whoever rescues jobs also finishes what dead producers and engines have begun.
            with unless_sealed():
                self._sweeper.sweep(self._store)
        held, broken = leases.find_held(self._store, owners, lapsed=lapsed, limit=limit, after=after)
        if broken:
            with unless_sealed():
                leases.quarantine(self._store, broken, lapsed=True)
        return held

    @_verb
    def let_in(self, limit: int) -> int:
        """Put at most so many jobs back in line whose limit key has room again; how many."""
        store = self._unsealed
        return admission.let_in_all(store, records.now(store), limit)

    @_verb
    def unpark(self, names: Sequence[str]) -> int:
        """Put jobs parked under these names back in line; how many."""
        return changes.unpark(self._unsealed, names)

    @_verb
    def dependents(self, *, after: bytes | None, limit: int) -> Sequence[Dependent]:
        """Jobs that wait for others, by ascending id, above `after`. Fewer than `limit`: the end."""
        return lookup.dependents(self._store, after, limit)

    @_verb
    def release_dependents(self, those: Sequence[Dependent]) -> int:
        """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
        return changes.release_dependents(self._unsealed, those)

    # -- operators

    @_verb
    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
        return changes.apply_by_operator(self._unsealed, job_id, change)

    @_verb
    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        """Delete at most `limit` ended jobs in these states; how many."""
        return deleting.prune(self._unsealed, states, finished_before, age, limit)

    @_verb
    def delete(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs if they have ended; how many."""
        return deleting.delete(self._unsealed, list(dict.fromkeys(job_ids)))

    @_verb
    def truncate(self) -> None:
        """Delete every job and record; the schema and the store's identity stay."""
        deleting.truncate(self._store)

    # -- looking up

    @_verb
    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        """Those of the jobs that exist; `CorruptRecordError` when the only one asked for is unreadable."""
        return lookup.get_jobs(self._store, job_ids) if job_ids else []

    @_verb
    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        """The recorded tries of these jobs, oldest first."""
        return lookup.attempts(self._store, job_ids)

    @_verb
    def log_lines(self, job_ids: Sequence[bytes]) -> list[LogLine]:
        """The log lines of these jobs, oldest first."""
        return lookup.log_lines(self._store, job_ids)

    @_verb
    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        """Those of the jobs that have ended."""
        return lookup.ended(self._store, job_ids)

    @_verb
    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        """Jobs, newest id first, below `before_id`; unreadable ones are left out and logged."""
        return lookup.list_jobs(self._store, where, limit=limit, before_id=before_id)

    @_verb
    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        """Jobs by queue and state; limit: stop counting a (queue, state) there."""
        return lookup.count_jobs(self._store, where, limit=limit)

    @_verb
    def count_over_time(self, *, first: int, step: int, buckets: int, states: Sequence[str] = ()) -> Sequence[Bucket]:
        """Jobs by present state, each at its latest stamp, oldest first; states: these alone."""
        return lookup.chart(self._store, first=first, step=step, buckets=buckets, states=states)

    @_verb
    def tally(self) -> Tally:
        """The whole store's figures."""
        return lookup.tally(self._store)

    @_verb
    def lines(self, *, limit: int) -> Lines:
        """How jobs wait; delayed ones are counted no further than a limit."""
        return lookup.lines(self._store, limit)

    @_verb
    def usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
        """How far the limits of these queues, and of these limit keys, are used now, by their names."""
        return admission.usage(self._store, queues, keys, records.now(self._store))

    # -- small records

    @_verb
    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        """All records of a kind, by key."""
        return records.read(self._store, kind)

    @_verb
    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        """Write one; its new version. expect: only over this version (0: only if absent), else None."""
        return records.write(self._unsealed, kind, key, value, expect=expect)

    @_verb
    def remove_record(self, kind: RecordKind, key: str) -> bool:
        """Remove one; False: it was not there."""
        return records.remove(self._unsealed, kind, key)

    # -- moving

    @_verb
    def put(self, jobs: Sequence[WholeJob]) -> Sequence[bytes]:
        """Write jobs as they are, each in place of the one with its id; the ids of those whose unique key is taken."""
        return moving.put(self._unsealed, jobs) if jobs else []

    @_verb
    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        """(id, version) of jobs by ascending id, above `after`; -1 for one that cannot be read."""
        return moving.versions(self._store, after, limit)

    @_verb
    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        """Once keys in force, by ascending key, above `after`."""
        return moving.once_keys(self._store, after, limit, records.now(self._store))

    @_verb
    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        """Write once keys as they are, in place of those that are there."""
        if keys:
            moving.put_once_keys(self._unsealed, keys)

    @_verb
    def erase(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs in whatever state they are; how many were there."""
        return deleting.erase(self._unsealed, list(dict.fromkeys(job_ids)))

    @_verb
    def seal(self, word: str | None) -> None:
        """Close this store to every writer by rules of the server's own, or with None open it again."""
        schema.check(self._store)
        if word is None:
            sealing.unseal(self._store, self._patience)
        else:
            sealing.seal(self._store, word, self._patience)

    # -- itself

    @_verb
    def facts(self) -> Facts:
        """Versions, identity, size, the store's time; proves that it answers."""
        store = self._store
        meta = next(
            iter(store.records.aggregate([{"$match": {"_id": records.STORE}}, {"$set": {"now": store.now}}])), {}
        )
        answers = checkup.ask(store)
        try:
            size = store.jobs.database.command("dbStats").get("totalSize")
        except OperationFailure:  # this user may not ask
            size = None
        return Facts(
            store="mongodb",
            version=f"MongoDB {store.client.server_info()['version']}",
            schema_version=int(meta.get("schema", 0)),
            identity=str(meta.get("identity", "")),
            size_bytes=None if size is None else int(size),
            connections=(answers.status or {}).get("connections", {}).get("current"),
            now=int(meta["now"]) if meta else 0,
            problems=weaknesses(checkup.durability(answers)),
            seal=meta.get("seal"),
        )

    def examine(self) -> Sequence[Finding]:
        """Driver and server, what weakens them, the way to them, jobs set aside."""
        return answered(self._examine_way, self._examine_server, self._examine_jobs)

    def _examine_way(self) -> Sequence[Finding]:
        return [checkup.driver(), *checkup.way(self._connections.url, self._options)]

    @_verb
    def _examine_server(self) -> Sequence[Finding]:
        return [checkup.server(self._store), *checkup.durability(checkup.ask(self._store))]

    @_verb
    def _examine_jobs(self) -> Sequence[Finding]:
        return checkup.set_aside(self._store)

    @_verb
    def waker(self) -> Waker:
        """Hints by a change stream on a connection of its own; on a standalone server by asking."""
        try:
            with driver_errors:
                if wake.has_change_streams(self._store):
                    return wake.listen(self._connections.listener)
        except StoreUnavailableError:
            return wake.listen(self._connections.listener, away=True)
        except ConfigError as error:
            _log.warning("no wake-ups by a change stream: %s; asking instead", error)
        return wake.watch(self._connections.store)

    def grants(self, role: Role, user: str) -> Sequence[str]:
        """The statements that give this user what the role needs in this database; opens nothing."""
        options = self._options
        home = str(options.driver.get("authSource", options.database))
        return grants.grants(role, user, prefix=options.prefix, database=options.database, home=home)


_CONTRACT: type[base.Backend] = MongoBackend
