"""Jobs in Redis 6.2 or newer, or Valkey: every move is one script."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

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
from jobcard.backends.redis import (
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
    rights,
    rows,
    schema,
    scripts,
    sealing,
    wake,
)
from jobcard.backends.redis.connection import Connections
from jobcard.backends.redis.errors import driver_errors
from jobcard.backends.redis.exchange import exchange
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.options import read_options
from jobcard.backends.roles import Role
from jobcard.backends.url import mask
from jobcard.backends.verbs import Verb
from jobcard.backends.within import cannot_join
from jobcard.core.clock import Clock
from jobcard.core.findings import Finding, answered, weaknesses
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import Use
from jobcard.core.states import Change

_verb = Verb(driver_errors)


class RedisBackend:
    """Jobs in one Redis or Valkey database, or one slot of a cluster."""

    statement_end = ""
    """What `jobcard grants` ends a line with."""

    capabilities = Capabilities(
        max_batch=scripts.MOST_JOBS, own_thread=True, one_commit_exchange=True, shared_by_hosts=True
    )

    def __init__(self, url: str, *, clock: Clock | None = None, patience: float | None = None, **options: Any) -> None:
        # patience: a server is never busy with somebody else's lock; how long it may hang, `socket_timeout` says.
        parsed, self._options = read_options(url, options)
        self.capabilities = self.capabilities._replace(readonly=self._options.readonly)
        self._shown = mask(url)
        self._clock = clock
        self._connections = Connections(parsed, self._options)
        self._keys = Keys(self._options.prefix)
        self._replicas = scripts.Replicas(self._options.wait_replicas, self._options.socket_timeout / 2)
        self._once_keys = moving.OnceKeys()

    def __repr__(self) -> str:
        return f"RedisBackend({self._shown!r})"

    @property
    def _client(self) -> Any:
        return self._connections.client()

    def _run(self, name: str, *values: object, cards: Sequence[bytes] = ()) -> Any:
        # A test's clock goes along; else the script asks the server.
        now = False if self._clock is None else self._clock.now()
        packed = rows.pack([now, *values])
        script, client = scripts.script(name), self._client
        with rights.refusals_named(client, script, self._keys):
            return scripts.run(client, script, self._keys.all, packed, *cards, replicas=self._replicas)

    def _now(self) -> int:
        if self._clock is not None:
            return self._clock.now()
        seconds, micros = self._client.time()
        return int(seconds) * 1_000_000 + int(micros)

    # -- schema

    @_verb
    def migrate(self) -> list[int]:
        """Write what is missing; each step is one script that looks at the version again."""
        return schema.migrate(self._client, self._keys, self._clock)

    @_verb
    def rollback(self) -> int | None:
        """Take the newest migration back; its version, None when nothing is left."""
        return schema.rollback(self._client, self._keys, self._clock)

    @_verb
    def check_schema(self) -> None:
        """`SchemaVersionError` unless the schema has exactly this code's version."""
        schema.check(self._client, self._keys)

    def close(self) -> None:
        """Let go of every connection."""
        self._connections.close()

    # -- producing

    @_verb
    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """Store up to 1,000 jobs in one script; one answer each, in order. Redis has no transaction to join."""
        if within is not None:
            raise cannot_join(self)
        return enqueue.store(self._run, jobs) if jobs else []

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
        """Release due jobs, settle what ended, claim what is wanted, in one script; in a few behind full limit keys."""
        return exchange(self._run, owner, completions, outcomes, want, lease, freed)

    @_verb
    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        """Hold these claims for another `lease` from now; returns the refs of those that are gone."""
        return leases.renew(self._run, owner, held, lease)

    @_verb
    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """Claims held by these owners, and with `lapsed` also those of anybody whose lease has run out."""
        held, broken = leases.find_held(
            self._client, self._keys, self._run, owners, lapsed=lapsed, limit=limit, after=after
        )
        if broken:
            leases.quarantine(self._run, broken, lapsed=True)
        return held

    @_verb
    def let_in(self, limit: int) -> int:
        """Put at most so many jobs back in line whose limit key has room again; how many."""
        return admission.let_in_all(self._run, limit)

    @_verb
    def unpark(self, names: Sequence[str]) -> int:
        """Put jobs parked under these names back in line; how many."""
        return changes.unpark(self._run, names)

    @_verb
    def dependents(self, *, after: bytes | None, limit: int) -> Sequence[Dependent]:
        """Jobs that wait for others, by ascending id, above `after`. Fewer than `limit`: the end."""
        return lookup.dependents(self._client, self._keys, after, limit)

    @_verb
    def release_dependents(self, those: Sequence[Dependent]) -> int:
        """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
        return changes.release_dependents(self._run, those)

    # -- operators

    @_verb
    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
        return changes.apply_by_operator(self._run, job_id, change)

    @_verb
    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        """Delete at most `limit` ended jobs in these states; how many."""
        return deleting.prune(self._run, states, finished_before, age, limit)

    @_verb
    def delete(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs if they have ended; how many."""
        return deleting.delete(self._run, job_ids)

    @_verb
    def truncate(self) -> None:
        """Delete every job and record; the schema and the store's identity stay."""
        deleting.truncate(self._run)

    # -- looking up

    @_verb
    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        """Those of the jobs that exist; `CorruptRecordError` when the only one asked for is unreadable."""
        return lookup.get_jobs(self._client, self._keys, job_ids)

    @_verb
    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        """The recorded tries of these jobs, oldest first."""
        return lookup.attempts(self._client, self._keys, job_ids)

    @_verb
    def log_lines(self, job_ids: Sequence[bytes]) -> list[LogLine]:
        """The log lines of these jobs, oldest first."""
        return lookup.log_lines(self._client, self._keys, job_ids)

    @_verb
    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        """Those of the jobs that have ended."""
        return lookup.ended(self._client, self._keys, job_ids)

    @_verb
    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        """Jobs, newest id first, below `before_id`; unreadable ones are left out and logged."""
        return lookup.list_jobs(self._client, self._keys, self._run, where, limit=limit, before_id=before_id)

    @_verb
    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        """Jobs by queue and state; limit: stop counting a (queue, state) there."""
        return lookup.count_jobs(self._client, self._keys, self._run, where, limit=limit)

    @_verb
    def count_over_time(self, *, first: int, step: int, buckets: int, states: Sequence[str] = ()) -> Sequence[Bucket]:
        """Jobs by present state, each at its latest stamp, oldest first; states: these alone."""
        return lookup.chart(self._client, self._keys, first=first, step=step, buckets=buckets, states=states)

    @_verb
    def tally(self) -> Tally:
        """The whole store's figures."""
        return lookup.tally(self._client, self._keys, self._run, self._now)

    @_verb
    def lines(self, *, limit: int) -> Lines:
        """How jobs wait; delayed ones are counted no further than a limit."""
        return lookup.lines(self._run, self._now, limit)

    @_verb
    def usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
        """How far the limits of these queues and limit keys are used now."""
        return admission.usage(self._run, queues, keys)

    # -- small records

    @_verb
    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        """All records of a kind, by key."""
        return records.read(self._client, self._keys, kind, self._now())

    @_verb
    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        """Write one; its new version. expect: only over this version (0: only if absent), else None."""
        return records.write(self._run, kind, key, value, expect=expect)

    @_verb
    def remove_record(self, kind: RecordKind, key: str) -> bool:
        """Remove one; False: it was not there."""
        return records.remove(self._run, kind, key)

    # -- moving

    @_verb
    def put(self, jobs: Sequence[WholeJob]) -> Sequence[bytes]:
        """Write jobs as they are, each in place of the one with its id; the ids of those not written.

        Some to a script, each of which is written whole or not at all: after an error put all of them again.
        """
        return moving.put(self._run, jobs)

    @_verb
    def erase(self, job_ids: Sequence[bytes]) -> int:
        """Delete jobs in whatever state they are, and all that belongs to them; how many were there."""
        return deleting.erase(self._run, job_ids)

    @_verb
    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        """(id, version) of jobs by ascending id, above `after`; -1 for one that cannot be read."""
        return moving.versions(self._run, after, limit)

    @_verb
    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        """Once keys in force, by ascending key, above `after`."""
        return self._once_keys.page(self._client, self._keys, after, limit, self._now())

    @_verb
    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        """Write once keys as they are, in place of those that are there."""
        moving.put_once_keys(self._run, keys)

    @_verb
    def seal(self, word: str | None) -> None:
        """Close this store to every writer, or with None open it again: each script that writes asks first."""
        sealing.seal(self._run, word)

    # -- itself

    @_verb
    def facts(self) -> Facts:
        """Versions, identity, size, the store's time; proves that it answers."""
        info = checkup.ask(self._client)
        identity, seal = self._client.hmget(self._keys.meta, "identity", "seal")
        name = "Valkey" if info.get("valkey_version") else "Redis"
        return Facts(
            store="redis",
            version=f"{name} {info.get('valkey_version') or info.get('redis_version')}",
            schema_version=schema.version(self._client, self._keys),
            identity="" if identity is None else identity.decode(),
            size_bytes=info.get("used_memory"),
            connections=info.get("connected_clients"),
            now=self._now(),
            problems=weaknesses(checkup.durability(info)),
            seal=None if seal is None else seal.decode(),
        )

    def examine(self) -> Sequence[Finding]:
        """Driver and server, what weakens them, the way to them, jobs set aside."""
        return answered(self._examine_way, self._examine_server, self._examine_jobs)

    def _examine_way(self) -> Sequence[Finding]:
        return [checkup.driver(), *checkup.way(self._connections.url)]

    @_verb
    def _examine_server(self) -> Sequence[Finding]:
        info = checkup.ask(self._client)
        return [checkup.server(info), *checkup.durability(info)]

    @_verb
    def _examine_jobs(self) -> Sequence[Finding]:
        return checkup.set_aside(self._client, self._keys)

    @_verb
    def waker(self) -> Waker:
        """Hints by publish and subscribe, on a connection of its own."""
        return wake.listen(self._connections.listener, self._keys.bell)

    def grants(self, role: Role, user: str) -> Sequence[str]:
        """The statement that gives this user what the role needs under this prefix; opens nothing."""
        options = self._options
        return grants.grants(
            role, user, prefix=options.prefix, cluster=options.cluster, waits=options.wait_replicas > 0
        )


_: type[base.Backend] = RedisBackend
