"""The model store: the whole contract in plain dictionaries, slow and obviously right.

It exists to be compared with: the state machine runs the same moves on it and on the store under test.
Every method holds one lock from its first line to its last, so nothing here can interleave.
A job's `ref` is its id.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

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
    Outcome,
    Record,
    RecordKind,
    Refusal,
    Tally,
    Verdict,
    Waker,
    Want,
)
from jobcard.core.clock import Clock
from jobcard.core.job import LAST_ATTEMPTS, Attempt, Claimed, JobRow, NewJob, Ref
from jobcard.core.states import ALIVE, AT_WORK, ENDED, After, Change, Hold, JobState, Now, complete
from jobcard.errors import DuplicateJobError, InvalidJobError, SchemaVersionError

VERSIONS = (1,)


@dataclass
class ModelStore:
    """What is kept. Every `ModelBackend` on it sees the same jobs."""

    clock: Clock
    rows: dict[bytes, JobRow] = field(default_factory=dict)
    attempts: defaultdict[bytes, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    records: dict[tuple[RecordKind, str], tuple[str, int, int]] = field(default_factory=dict)
    settings: int = 0
    applied: list[int] = field(default_factory=list)
    identity: str = field(default_factory=lambda: str(uuid4()))
    lock: threading.RLock = field(default_factory=threading.RLock)


# ------------------------------------------------------------------ rules as functions of a row


def is_at_work(row: JobRow) -> bool:
    """Somebody holds the job."""
    return row.state in AT_WORK


def is_alive(row: JobRow) -> bool:
    """The job has not ended."""
    return row.state in ALIVE


def is_ended(row: JobRow) -> bool:
    """The job has ended."""
    return row.state in ENDED


def has_lapsed(row: JobRow, now: int) -> bool:
    """The job is at work and its lease has run out; at the last instant it has."""
    return is_at_work(row) and row.lease_until is not None and row.lease_until <= now


def claim_order(row: JobRow) -> tuple[int, int, bytes]:
    """The place in its queue's line."""
    return (row.rank, row.order_at, row.id)


def row_of(job: NewJob, now: int) -> JobRow:
    """A new job as it is stored at `now`."""
    available_at = job.at if job.at is not None else now + job.delay
    given = {name: value for name, value in job._asdict().items() if name in JobRow._fields}
    return JobRow(
        **given,
        result=None,
        order_at=available_at + job.order_offset,
        hold="delay" if available_at > now else None,
        state="waiting",
        attempt=0,
        crashes=0,
        interrupts=0,
        available_at=available_at,
        created_at=now,
        claimed_at=None,
        started_at=None,
        finished_at=None,
        expires_at=None,
        claimed_by=None,
        claim_token=0,
        lease_until=None,
        cancel_requested=None,
        reason=None,
        error_kind=None,
        progress=None,
        checkpoint=None,
        version=1,
    )


def same_content(row: JobRow, job: NewJob) -> bool:
    """The stored job is this one: same name and arguments, those of its constructor too."""
    return (row.name, row.init, row.args, row.kwargs) == (job.name, job.init, job.args, job.kwargs)


def changed(row: JobRow, change: Change, now: int) -> JobRow:
    """The row after a change that may be applied to it."""
    sets: dict[str, Any] = {name: _filled_in(value, now) for name, value in change.sets.items()}
    row = row._replace(**sets)._replace(state=str(change.target))
    if change.takes:
        row = row._replace(claim_token=row.claim_token + 1)
    if is_ended(row) and row.keep is not None:
        row = row._replace(expires_at=now + row.keep)
    return row


def _filled_in(value: object, now: int) -> object:
    match value:
        case Now():
            return now
        case After(delay=delay):
            return now + delay
        case JobState() | Hold():
            return str(value)
    return value


def allows(row: JobRow, change: Change, now: int) -> bool:
    """The job is in a state, under a hold and with a lease that the change may start from."""
    return (
        row.state in change.sources
        and (change.hold is None or row.hold == change.hold)
        and (not change.lapsed or has_lapsed(row, now))
    )


def claimed_of(row: JobRow) -> Claimed:
    """What an engine gets of a job at work."""
    given = {name: value for name, value in row._asdict().items() if name in Claimed._fields}
    return Claimed(**given, ref=row.id, token=row.claim_token)


def matches(row: JobRow, where: Filter) -> bool:
    """Everything given in the filter holds for the row."""
    return (
        (not where.states or row.state in where.states)
        and (not where.queues or row.queue in where.queues)
        and (not where.names or row.name in where.names)
        and set(where.tags) <= set(_tags_of(row))
        and (where.args is None or row.args == where.args)
        and (where.error_kind is None or row.error_kind == where.error_kind)
        and (where.batch_id is None or row.batch_id == where.batch_id)
        and (where.after is None or row.created_at >= where.after)
        and (where.before is None or row.created_at < where.before)
        and (where.search is None or where.search in row.name or where.search in str(UUID(bytes=row.id)))
    )


def _tags_of(row: JobRow) -> Sequence[str]:
    return json.loads(row.tags) if row.tags else []


def may_be_pruned(
    row: JobRow, *, states: Sequence[str], finished_before: int | None, age: int | None, now: int
) -> bool:
    """`prune` may delete this job."""
    if not is_ended(row) or row.state not in states or row.finished_at is None:
        return False
    if finished_before is not None and row.finished_at < finished_before:
        return True
    if age is None:
        return False
    if row.expires_at is not None:
        return row.expires_at <= now
    return row.finished_at < now - age


def latest_stamp(row: JobRow) -> int:
    """When the job came into its present state, as charts show it."""
    return next(
        stamp for stamp in (row.finished_at, row.started_at, row.claimed_at, row.created_at) if stamp is not None
    )


def can_be_stored(values: Iterable[object]) -> bool:
    """Text that no store can take: half of a surrogate pair has no bytes in UTF-8."""
    return not any(isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value) for value in values)


# ------------------------------------------------------------------ the store


class ModelBackend:
    """The contract over a `ModelStore`."""

    capabilities = Capabilities(
        max_batch=1_000, own_thread=False, one_commit_exchange=True, shared_by_hosts=False, survives_process=False
    )

    def __init__(self, store: ModelStore) -> None:
        self.store = store

    @contextmanager
    def _step(self) -> Iterator[int]:
        """One step that nothing interrupts; gives the store's time."""
        with self.store.lock:
            self.check_schema()
            yield self.store.clock.now()

    # -- schema

    def migrate(self) -> list[int]:
        with self.store.lock:
            missing = [version for version in VERSIONS if version not in self.store.applied]
            self.store.applied += missing
            return missing

    def rollback(self) -> int | None:
        with self.store.lock:
            if not self.store.applied:
                return None
            self._forget()
            return self.store.applied.pop()

    def check_schema(self) -> None:
        with self.store.lock:
            found = max(self.store.applied, default=0)
            if found != VERSIONS[-1]:
                raise SchemaVersionError(found, VERSIONS[-1])

    def close(self) -> None:
        pass

    # -- producing

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        with self._step() as now:
            for place, job in enumerate(jobs):
                if not can_be_stored(job):
                    error = InvalidJobError("a text of this job has no bytes in UTF-8")
                    error.index = place
                    raise error
            return [self._store_one(job, now) for job in jobs]

    def _store_one(self, job: NewJob, now: int) -> Enqueued:
        there = self.store.rows.get(job.id)
        if there is not None:
            return Enqueued(Fate.REPEATED if same_content(there, job) else Fate.ID_TAKEN, there.id)
        holder = self._holder_of(job.unique_key)
        if holder is not None:
            return Enqueued(Fate.KEY_TAKEN, holder.id)
        self.store.rows[job.id] = row_of(job, now)
        if (RecordKind.QUEUE, job.queue) not in self.store.records:
            self._write(RecordKind.QUEUE, job.queue, "{}", now)
        return Enqueued(Fate.STORED, job.id)

    def _holder_of(self, key: str | None) -> JobRow | None:
        """The living job that holds this unique key."""
        if key is None:
            return None
        return next((row for row in self.store.rows.values() if row.unique_key == key and is_alive(row)), None)

    # -- holding

    def exchange(
        self,
        owner: str,
        *,
        completions: Completions = NO_COMPLETIONS,
        outcomes: Sequence[Outcome] = (),
        want: Want = NOTHING,
        lease: int = 0,
    ) -> Exchanged:
        with self._step() as now:
            self._release_due(now)
            refusals: list[Refusal] = []
            columns = zip(
                completions.refs, completions.tokens, completions.results, completions.started_ago, strict=True
            )
            for ref, token, result, ago in columns:
                done = complete(result)
                done = Change(
                    verb=done.verb,
                    sources=done.sources,
                    target=done.target,
                    sets={**done.sets, "started_at": After(-ago)},
                )
                refusals += self._settle(ref, token, done, now)
            for outcome in outcomes:
                refusals += self._settle(outcome.ref, outcome.token, outcome.change, now)
            claimed = self._claim(owner, want, lease, now)
            delayed = [row.available_at for row in self._rows() if row.hold == "delay"]
            return Exchanged(
                claimed=claimed,
                refusals=refusals,
                cancels=[
                    (row.id, row.cancel_requested)
                    for row in self._rows()
                    if row.claimed_by == owner and is_at_work(row) and row.cancel_requested is not None
                ],
                settings=self.store.settings,
                next_due=max(0, min(delayed) - now) if delayed else None,
            )

    def _put(self, row: JobRow) -> JobRow:
        """Keep the row as it is now."""
        self.store.rows[row.id] = row = row._replace(version=row.version + 1)
        return row

    def _release_due(self, now: int) -> None:
        for row in self._rows():
            if row.state == "waiting" and row.hold == "delay" and row.available_at <= now:
                self._put(row._replace(hold=None))

    def _settle(self, ref: Ref, token: int, change: Change, now: int) -> list[Refusal]:
        """Apply one holder's change; nothing to report when it applied."""
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        if row is None or row.claim_token != token:
            return [Refusal(ref, token, Verdict.LOST)]
        if row.state not in change.sources:
            return [Refusal(ref, token, Verdict.MINE)]
        if not allows(row, change, now):
            return [Refusal(ref, token, Verdict.LOST)]
        if not can_be_stored([*change.sets.values(), change.error]):
            return [Refusal(ref, token, Verdict.REFUSED, "a text has no bytes in UTF-8")]
        self._apply(row, change, now)
        return []

    def _apply(self, row: JobRow, change: Change, now: int) -> JobRow:
        after = self._put(changed(row, change, now))
        if change.error is not None:
            tries = self.store.attempts[row.id]
            tries.append(Attempt(row.id, change.attempt, now, change.error))
            del tries[:-LAST_ATTEMPTS]
        return after

    def _claim(self, owner: str, want: Want, lease: int, now: int) -> list[Claimed]:
        found: list[JobRow] = []
        for queue, most in want.queues:
            line = [row for row in self._rows() if self._is_claimable(row) and row.queue == queue]
            found += sorted(line, key=claim_order)[: max(0, min(most, want.total - len(found)))]
        return [claimed_of(self._take(row, owner, lease, now)) for row in found]

    def _is_claimable(self, row: JobRow) -> bool:
        return row.state == "waiting" and row.hold is None

    def _take(self, row: JobRow, owner: str, lease: int, now: int) -> JobRow:
        return self._put(
            row._replace(
                state="claimed",
                attempt=row.attempt + 1,
                claim_token=row.claim_token + 1,
                claimed_at=now,
                claimed_by=owner,
                lease_until=now + lease,
            )
        )

    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        with self._step() as now:
            return [ref for ref, token in held if not self._renew_one(owner, ref, token, now, lease)]

    def _renew_one(self, owner: str, ref: Ref, token: int, now: int, lease: int) -> bool:
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        if row is None or row.claim_token != token or row.claimed_by != owner or has_lapsed(row, now):
            return False
        self._put(row._replace(lease_until=now + lease))
        return True

    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int) -> list[Claimed]:
        with self._step() as now:
            found = [
                claimed_of(row)
                for row in self._rows()
                if is_at_work(row) and (row.claimed_by in owners or (lapsed and self._is_lost(row, now)))
            ]
            return found[:limit]

    def _is_lost(self, row: JobRow, now: int) -> bool:
        return has_lapsed(row, now)

    def unpark(self, names: Sequence[str]) -> int:
        with self._step() as now:
            parked = [row for row in self._rows() if row.hold == "parked" and row.name in names]
            for row in parked:
                self._put(row._replace(hold="delay" if row.available_at > now else None))
            return len(parked)

    # -- operators

    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        with self._step() as now:
            row = self.store.rows.get(job_id)
            if row is None or not allows(row, change, now):
                return None
            if is_ended(row) and change.target in ALIVE:
                holder = self._holder_of(row.unique_key)
                if holder is not None:
                    raise DuplicateJobError(UUID(bytes=row.id), UUID(bytes=holder.id), "its unique key is taken")
            return self._apply(row, change, now)

    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        with self._step() as now:
            old = [
                row
                for row in self._rows()
                if may_be_pruned(row, states=states, finished_before=finished_before, age=age, now=now)
            ]
            return self._remove(old[:limit])

    def delete(self, job_ids: Sequence[bytes]) -> int:
        with self._step():
            return self._remove([row for row in self._rows(job_ids) if is_ended(row)])

    def _remove(self, rows: Sequence[JobRow]) -> int:
        for row in rows:
            del self.store.rows[row.id]
            self.store.attempts.pop(row.id, None)
        return len(rows)

    def truncate(self) -> None:
        with self._step():
            self._forget()
            self.store.settings += 1

    def _forget(self) -> None:
        self.store.rows.clear()
        self.store.attempts.clear()
        self.store.records.clear()

    # -- looking up

    def _rows(self, job_ids: Sequence[bytes] | None = None) -> list[JobRow]:
        if job_ids is None:
            return list(self.store.rows.values())
        return [self.store.rows[job_id] for job_id in dict.fromkeys(job_ids) if job_id in self.store.rows]

    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        with self._step():
            return self._rows(job_ids)

    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        with self._step():
            return [attempt for row in self._rows(job_ids) for attempt in self.store.attempts[row.id]]

    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        with self._step():
            return [Ended(row.id, row.state, row.result, row.reason) for row in self._rows(job_ids) if is_ended(row)]

    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Sequence[JobRow]:
        with self._step():
            found = [row for row in self._rows() if matches(row, where) and (before_id is None or row.id < before_id)]
            return sorted(found, key=lambda row: row.id, reverse=True)[:limit]

    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        with self._step():
            counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
            for row in self._rows():
                if matches(row, where) and (limit is None or counts[row.queue][row.state] < limit):
                    counts[row.queue][row.state] += 1
            return {queue: dict(by_state) for queue, by_state in counts.items() if by_state}

    def count_over_time(self, *, first: int, step: int, buckets: int) -> Sequence[Bucket]:
        with self._step():
            counts: dict[int, Counter[str]] = {first + place * step: Counter() for place in range(buckets)}
            for row in self._rows():
                at = first + (latest_stamp(row) - first) // step * step
                if at in counts:
                    counts[at][row.state] += 1
            return [Bucket(at, by_state) for at, by_state in counts.items()]

    def tally(self) -> Tally:
        with self._step() as now:
            due = [row.available_at for row in self._rows() if self._is_claimable(row)]
            return Tally(
                counts=Counter(row.state for row in self._rows()),
                delayed=sum(row.hold == "delay" for row in self._rows()),
                oldest_waiting=max(0, now - min(due)) if due else None,
            )

    # -- small records

    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        with self._step() as now:
            return [
                Record(key, value, version, max(0, now - at))
                for (its_kind, key), (value, version, at) in sorted(self.store.records.items())
                if its_kind == kind
            ]

    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        with self._step() as now:
            _, version, _ = self.store.records.get((kind, key), ("", 0, 0))
            if expect is not None and expect != version:
                return None
            return self._write(kind, key, value, now)

    def _write(self, kind: RecordKind, key: str, value: str, now: int) -> int:
        _, version, _ = self.store.records.get((kind, key), ("", 0, 0))
        self.store.records[kind, key] = (value, version + 1, now)
        self.store.settings += kind in SETTINGS
        return version + 1

    def remove_record(self, kind: RecordKind, key: str) -> bool:
        with self._step():
            gone = self.store.records.pop((kind, key), None)
            self.store.settings += gone is not None and kind in SETTINGS
            return gone is not None

    # -- itself

    def facts(self) -> Facts:
        with self._step() as now:
            return Facts(
                store="model",
                version="1",
                schema_version=VERSIONS[-1],
                identity=self.store.identity,
                size_bytes=None,
                connections=None,
                now=now,
            )

    def waker(self) -> Waker:
        return Waker()


def open_model(store: ModelStore) -> Callable[[], ModelBackend]:
    """Opens backends on one model store."""
    return lambda: ModelBackend(store)
