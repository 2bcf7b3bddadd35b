"""Jobs in Redis 6.2 or newer, or Valkey: every move is one script."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from redis.exceptions import ResponseError

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
from jobcard.backends.pages import end_of
from jobcard.backends.redis import admission, changes, checkup, grants, lookup, moving, rights, rows, scripts, wake
from jobcard.backends.redis.connection import Connections
from jobcard.backends.redis.errors import driver_errors, may_be_a_refusal
from jobcard.backends.redis.exchange import exchange
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.options import read_options
from jobcard.backends.roles import Role
from jobcard.backends.url import mask
from jobcard.backends.verbs import NotAllowedError, Verb
from jobcard.core.clock import Clock
from jobcard.core.findings import Finding, answered, weaknesses
from jobcard.core.job import Attempt, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import Use
from jobcard.core.states import AT_WORK, ENDED, Change
from jobcard.errors import ConfigError, CorruptRecordError, DuplicateJobError, SchemaVersionError

_log = logging.getLogger("jobcard.store")


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
        self.capabilities = replace(self.capabilities, readonly=self._options.readonly)
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
        with self._refusals_named(script):
            return scripts.run(client, script, self._keys.all, packed, *cards, replicas=self._replicas)

    @contextlib.contextmanager
    def _refusals_named(self, script: scripts.Script) -> Iterator[None]:
        """A right that is missing inside a script is an error that names it."""
        try:
            yield
        except ResponseError as error:
            if may_be_a_refusal(error) and (names := rights.refused(self._client, script, self._keys)):
                raise NotAllowedError(f"this Redis user may not run {' '.join(names)}") from error
            raise

    def _now(self) -> int:
        if self._clock is not None:
            return self._clock.now()
        seconds, micros = self._client.time()
        return int(seconds) * 1_000_000 + int(micros)

    # -- schema

    @_verb
    def migrate(self) -> list[int]:
        """Write what is missing; each step is one script that looks at the version again."""
        self._refuse_eviction()
        known = scripts.migrations()
        if self._version() > known[-1].number:
            self.check_schema()
        applied = []
        for migration in known:
            if self._step(migration.number - 1, migration.number, migration.up):
                applied.append(migration.number)
        return applied

    @_verb
    def rollback(self) -> int | None:
        """Take the newest migration back; its version, None when nothing is left."""
        known = scripts.migrations()
        while (found := self._version()) > 0:
            if found > known[-1].number:
                raise SchemaVersionError(found, known[-1].number)
            if self._step(found, found - 1, known[found - 1].down):
                return found
        return None

    @_verb
    def check_schema(self) -> None:
        """`SchemaVersionError` unless the schema has exactly this code's version."""
        found, wanted = self._version(), scripts.migrations()[-1].number
        if found != wanted:
            raise SchemaVersionError(found, wanted)
        self._refuse_eviction()

    def _version(self) -> int:
        found = self._client.hget(self._keys.meta, "schema")
        if found is None:
            return 0
        if not found.isdigit():
            raise ConfigError(f"the key {self._keys.meta!r} holds no schema version: it is damaged or not jobcard's")
        return int(found)

    def _step(self, before: int, after: int, step: scripts.Script) -> bool:
        """One step up or down, if the version is still the one before it."""
        now = False if self._clock is None else self._clock.now()
        guard = f"local found=tonumber(redis.call('HGET',K_meta,'schema') or 0)\nif found~={before} then return 0 end\n"
        finish = f"\nredis.call('HSET',K_meta,'schema',{after})\nreturn 1\n" if after else "\nreturn 1\n"
        head, body = step.text.split("local NUL = '\\0'\n", 1)
        text = f"{head}local NUL = '\\0'\n{scripts.spell_out(guard)}{body}{scripts.spell_out(finish)}"
        arguments = (rows.pack([now]), secrets.token_hex(16))
        with self._refusals_named(step):
            return bool(self._client.eval(text, len(self._keys.all), *self._keys.all, *arguments))

    def _refuse_eviction(self) -> None:
        if (policy := checkup.eviction(self._client.info("memory"))) is not None:
            raise ConfigError(
                f"this Redis throws keys away when it is full (maxmemory-policy {policy}), and so would lose jobs: "
                "set maxmemory-policy noeviction"
            )

    def close(self) -> None:
        """Let go of every connection."""
        self._connections.close()

    # -- producing

    @_verb
    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store up to 1,000 jobs in one script; one answer each, in order."""
        if not jobs:
            return []
        parts = [rows.new_job(job) for job in jobs]
        fates = self._run("enqueue", [moving for moving, _ in parts], cards=[card for _, card in parts])
        return [Enqueued(Fate(fate.decode()), bytes.fromhex(existing.decode())) for fate, existing in fates]

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
        return exchange(self._run, self._quarantine, owner, completions, outcomes, want, lease, freed)

    def _quarantine(self, refs: list[str], *, lapsed: bool = False) -> None:
        """Take claims that cannot be read from their holder. lapsed: only those whose lease has run out."""
        if number := self._run("quarantine", refs, lapsed):
            ids = ", ".join(refs)
            _log.error("%d of these jobs cannot be read: taken out of the line, their bytes kept: %s", number, ids)

    @_verb
    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        """Hold these claims for another `lease` from now; returns the refs of those that are gone."""
        gone: list[Ref] = []
        most = self.capabilities.max_batch
        for first in range(0, len(held), most):
            part = held[first : first + most]
            found = self._run("renew", owner, lease, [ref for ref, _ in part], [token for _, token in part])
            gone += [ref.decode() for ref in found]
        return gone

    @_verb
    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """Claims held by these owners, and with `lapsed` also those of anybody whose lease has run out."""
        refs = [ref.decode() for ref in self._run("find_held", list(owners), lapsed, limit, after or False)]
        claims, broken = [], []
        for ref, live, card in lookup.fetch(self._client, self._keys, refs):
            if live is None and card is None:
                continue
            try:
                if live is None:
                    raise CorruptRecordError(f"a part of job {ref} is missing")
                claims.append(rows.to_claimed(ref, live, card))
            except CorruptRecordError:
                _log.warning("a job cannot be read and was left out: %s", ref)
                broken.append(ref)
        if broken:
            self._quarantine(broken, lapsed=True)
        # Read after they were found: some have ended meanwhile, or are another's by now.
        held = set(owners)
        ours = [claim for claim in claims if claim.state in AT_WORK and (lapsed or claim.claimed_by in held)]
        return Held(ours, end_of(refs, limit))

    @_verb
    def let_in(self, limit: int) -> int:
        """Put at most so many jobs back in line whose limit key has room again; how many."""
        return admission.let_in(self._run, limit)

    @_verb
    def unpark(self, names: Sequence[str]) -> int:
        """Put jobs parked under these names back in line; how many."""
        total = 0
        while names and (number := self._run("unpark", list(names))):
            total += number
        return total

    # -- operators

    @_verb
    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
        found = self._run("apply_by_operator", job_id.hex(), changes.to_array(change))
        if not found:
            return None
        if len(found) == 1:
            existing = UUID(found[0].decode())
            raise DuplicateJobError(UUID(bytes=job_id), existing, "a living job holds its unique key")
        return rows.to_job(job_id.hex(), *found)

    @_verb
    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        """Delete at most `limit` ended jobs in these states; how many."""
        total = 0
        before, older = (False if value is None else value for value in (finished_before, age))
        while total < limit:
            most = min(self.capabilities.max_batch, limit - total)
            number: int = self._run("prune", [str(state) for state in states], before, older, most)
            total += number
            if number < most:
                break
        return total

    @_verb
    def delete(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs if they have ended; how many."""
        return int(self._run("delete_jobs", [job_id.hex() for job_id in job_ids])) if job_ids else 0

    @_verb
    def truncate(self) -> None:
        """Delete every job and record; the schema and the store's identity stay."""
        self._run("truncate")

    # -- looking up

    @_verb
    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        """Those of the jobs that exist; `CorruptRecordError` when the only one asked for is unreadable."""
        return lookup.get_jobs(self._client, self._keys, job_ids)

    @_verb
    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        """The recorded tries of these jobs, oldest first."""
        found = self._packed(self._keys.attempts, job_ids)
        return [Attempt(job_id, attempt, at, error) for job_id, tries in found for attempt, at, error, *_ in tries]

    @_verb
    def log_lines(self, job_ids: Sequence[bytes]) -> list[LogLine]:
        """The log lines of these jobs, oldest first."""
        found = self._packed(self._keys.lines, job_ids)
        return [LogLine(job_id, at, text) for job_id, lines in found for at, text, *_ in lines]

    def _packed(self, key: str, job_ids: Sequence[bytes]) -> list[tuple[bytes, Any]]:
        if not job_ids:
            return []
        texts = self._client.hmget(key, [job_id.hex() for job_id in job_ids])
        return [(job_id, rows.unpack(text)) for job_id, text in zip(job_ids, texts, strict=True) if text is not None]

    @_verb
    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        """Those of the jobs that have ended."""
        if not job_ids:
            return []
        found = []
        texts = self._client.hmget(self._keys.live, [job_id.hex() for job_id in job_ids])
        for job_id, text in zip(job_ids, texts, strict=True):
            if text is None:
                continue
            ending = rows.to_ending(job_id.hex(), text)
            if ending[0] in ENDED:
                found.append(Ended(job_id, *ending))
        return found

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
        delayed, oldest, _ = self._run("tally")
        return Tally(
            counts=lookup.counts_by_state(self._client, self._keys),
            delayed=delayed,
            oldest_waiting=None if oldest is None else max(0, self._now() - oldest),
        )

    @_verb
    def lines(self, *, limit: int) -> Lines:
        """How jobs wait; delayed ones are counted no further than a limit."""
        delayed, _, since = self._run("tally")
        return lookup.lines(delayed, since, self._now(), limit)

    @_verb
    def usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
        """How far the limits of these queues and limit keys are used now."""
        return admission.usage(self._run, queues, keys)

    # -- small records

    @_verb
    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        """All records of a kind, by key."""
        now = self._now()
        prefix = f"{kind.value}\0".encode()
        found = [
            (field[len(prefix) :].decode(), rows.unpack(text))
            for field, text in self._client.hscan_iter(self._keys.records, match=f"{kind.value}\0*", count=500)
        ]
        return [Record(key, value, version, now - at) for key, (value, version, at, *_) in sorted(dict(found).items())]

    @_verb
    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        """Write one; its new version. expect: only over this version (0: only if absent), else None."""
        wanted = False if expect is None else expect
        version: int | None = self._run("write_record", kind.value, key, value, wanted, kind in SETTINGS)
        return version

    @_verb
    def remove_record(self, kind: RecordKind, key: str) -> bool:
        """Remove one; False: it was not there."""
        return bool(self._run("remove_record", kind.value, key, kind in SETTINGS))

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
        return moving.erase(self._run, job_ids)

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
        self._run("seal", False if word is None else word)

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
            schema_version=self._version(),
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
