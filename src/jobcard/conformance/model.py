"""The model store: the whole contract in plain dictionaries, slow and obviously right.

It exists to be compared with: the state machine runs the same moves on it and on the store under test.
Every method holds one lock from its first line to its last, so nothing here can interleave.
A job's `ref` is its id.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from jobcard.backends.base import (
    NO_COMPLETIONS,
    NOTHING,
    SETTINGS,
    Backend,
    Capabilities,
    Completions,
    Enqueued,
    Exchanged,
    Fate,
    Held,
    Outcome,
    RecordKind,
    Refusal,
    Verdict,
    Want,
)
from jobcard.backends.pages import end_of
from jobcard.conformance.keys import Counted, OnceKeys, next_of_key
from jobcard.conformance.model_reader import VERSIONS, ModelReader
from jobcard.conformance.rules import (
    allows,
    can_be_stored,
    changed,
    claimed_of,
    has_lapsed,
    is_alive,
    is_at_work,
    is_ended,
    kept_lines,
    may_be_pruned,
    may_be_replaced,
    replaced,
    row_of,
    same_content,
    taken,
)
from jobcard.core import rates
from jobcard.core.clock import Clock
from jobcard.core.job import LAST_ATTEMPTS, Attempt, Claimed, Dependent, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import QueueLimit
from jobcard.core.states import ALIVE, After, Change, check_settable, complete
from jobcard.errors import DuplicateJobError, InvalidJobError

NO_LIMIT = QueueLimit(None, None)


@dataclass
class ModelStore:
    """What is kept. Every `ModelBackend` on it sees the same jobs."""

    clock: Clock
    rows: dict[bytes, JobRow] = field(default_factory=dict)
    attempts: defaultdict[bytes, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    lines: defaultdict[bytes, list[LogLine]] = field(default_factory=lambda: defaultdict(list))
    unreadable: set[bytes] = field(default_factory=set)
    once: OnceKeys = field(default_factory=OnceKeys)
    starts: Counted = field(default_factory=Counted)
    paced: set[bytes] = field(default_factory=set)
    """Jobs that a rate kept out in the last exchange."""
    records: dict[tuple[RecordKind, str], tuple[str, int, int]] = field(default_factory=dict)
    settings: int = 0
    seal: str | None = None
    applied: list[int] = field(default_factory=list)
    identity: str = field(default_factory=lambda: str(uuid4()))
    lock: threading.RLock = field(default_factory=threading.RLock)


# ------------------------------------------------------------------ the store


class ModelBackend(ModelReader):
    """The contract over a `ModelStore`."""

    capabilities = Capabilities(
        max_batch=1_000, own_thread=False, one_commit_exchange=True, shared_by_hosts=False, survives_process=False
    )

    def __init__(self, store: ModelStore) -> None:
        self.store = store

    def _changing(self) -> AbstractContextManager[int]:
        """A step that changes something, which a sealed store allows nobody."""
        return self._step(changes=True)

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
            self.store.seal = None
            return self.store.applied.pop()

    def close(self) -> None:
        pass

    # -- producing

    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        assert within is None, "it says that it joins no transaction"
        with self._changing() as now:
            for place, job in enumerate(jobs):
                if not can_be_stored(job):
                    error = InvalidJobError("a text of this job has no bytes in UTF-8")
                    error.index = place
                    raise error
            return [self._replace_or_store(job, now) for job in jobs]

    def _replace_or_store(self, job: NewJob, now: int) -> Enqueued:
        answer = self._store_one(job, now)
        there = self.store.rows.get(answer.existing)
        if answer.fate is not Fate.KEY_TAKEN or there is None or not may_be_replaced(there, job):
            return answer
        self._put(replaced(there, job, now))
        self._open_queue(job.queue, now)
        self._let_in_behind(there)
        return Enqueued(Fate.REPLACED, there.id)

    def _store_one(self, job: NewJob, now: int) -> Enqueued:
        there = self.store.rows.get(job.id)
        if there is not None:
            return Enqueued(Fate.REPEATED if same_content(there, job) else Fate.ID_TAKEN, there.id)
        holder = self._holder_of(job.unique_key)
        if holder is not None:
            return Enqueued(Fate.KEY_TAKEN, holder.id)
        if job.once_key is not None and job.once_until is not None:
            first = self.store.once.holder_of(job.once_key, now)
            if first is not None:
                return Enqueued(Fate.KEY_TAKEN, first)
            self.store.once.take(job.once_key, job.id, job.once_until)
        self.store.rows[job.id] = row_of(job, now)
        self._open_queue(job.queue, now)
        return Enqueued(Fate.STORED, job.id)

    def _open_queue(self, queue: str, now: int) -> None:
        if (RecordKind.QUEUE, queue) not in self.store.records:
            self._write(RecordKind.QUEUE, queue, "{}", now)

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
        freed: Collection[str] = (),
    ) -> Exchanged:
        with self._changing() as now:
            self.store.paced.clear()
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
                refusals += self._settle(outcome.ref, outcome.token, outcome.change, now, outcome.then)
            self._let_in(freed)
            claimed = self._claim(owner, want, lease, now)
            return Exchanged(
                claimed=claimed,
                refusals=refusals,
                cancels=[
                    (row.id, row.cancel_requested)
                    for row in self._rows()
                    if row.claimed_by == owner and is_at_work(row) and row.cancel_requested is not None
                ],
                settings=self.store.settings,
                next_due=self.next_due(want),
            )

    def _put(self, row: JobRow) -> JobRow:
        """Keep the row as it is now."""
        self.store.rows[row.id] = row = row._replace(version=row.version + 1)
        return row

    def _release_due(self, now: int) -> None:
        for row in self._rows():
            if row.state == "waiting" and row.hold == "delay" and row.available_at <= now:
                self._put(row._replace(hold=None))

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        """Apply one holder's change and store what follows it; nothing to report when it applied."""
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        if row is None or row.claim_token != token:
            return [Refusal(ref, token, Verdict.LOST)]
        if row.state not in change.sources:
            return [Refusal(ref, token, Verdict.MINE)]
        if not allows(row, change, now):
            return [Refusal(ref, token, Verdict.LOST)]
        try:
            check_settable(change.sets)
        except InvalidJobError as error:
            return [Refusal(ref, token, Verdict.REFUSED, str(error))]
        texts = [text for _, text in change.lines]
        if not can_be_stored([*change.sets.values(), change.error, *texts, *(value for job in then for value in job)]):
            return [Refusal(ref, token, Verdict.REFUSED, "a text has no bytes in UTF-8")]
        self._apply(row, change, now)
        self._follow(then, now)
        return []

    def _follow(self, then: Sequence[NewJob], now: int) -> None:
        """Store the jobs that follow a move that has just been applied; one that is there or taken is passed over."""
        for job in then:
            self._store_one(job, now)

    def _apply(self, row: JobRow, change: Change, now: int) -> JobRow:
        after = self._put(changed(row, change, now))
        if change.error is not None:
            tries = self.store.attempts[row.id]
            tries.append(Attempt(row.id, change.attempt, now, change.error))
            del tries[:-LAST_ATTEMPTS]
        self._keep_lines(row.id, [LogLine(row.id, now - ago, text) for ago, text in change.lines])
        return after

    def _keep_lines(self, job_id: bytes, lines: Sequence[LogLine]) -> None:
        if lines:
            self.store.lines[job_id] = kept_lines([*self.store.lines[job_id], *lines])

    def _claim(self, owner: str, want: Want, lease: int, now: int) -> list[Claimed]:
        claimed: list[Claimed] = []
        for queue, most in want.queues:
            limit = want.limits.get(queue)
            room = None if limit is None else limit.room(self._use_of_queue(queue), now)
            number = min(most, want.total - len(claimed))
            taken = self._claim_from(queue, number if room is None else min(number, room), owner, lease, now)
            if limit is not None and limit.rate is not None:
                self.store.starts.count(rates.of_queue(queue), limit.rate, len(taken), now)
            claimed += taken
        return claimed

    def _claim_from(self, queue: str, most: int, owner: str, lease: int, now: int) -> list[Claimed]:
        claimed: list[Claimed] = []
        for row in self._line(queue):
            if len(claimed) >= most:
                break
            if not self._is_readable(row):
                self._quarantine(row)
            elif row.limit_key is None or self._may_start(row, now):
                claimed.append(claimed_of(self._take(row, owner, lease, now)))
        return claimed

    def _may_start(self, row: JobRow, now: int) -> bool:
        """Whether the limits of its key let the job start: then it is counted, else put under a hold."""
        limited = rates.limits_of(row)
        use = self._use_of_key(limited.limit_key)
        [answer] = rates.admit([limited], {limited.limit_key: use}, now)
        if answer.until:
            self.store.paced.add(row.id)
            self._put(row._replace(hold="delay", available_at=answer.until))
        elif not answer.enters:
            self._put(row._replace(hold="limit"))
        elif limited.rate is not None:
            self.store.starts.count(rates.of_key(limited.limit_key), limited.rate, 1, now)
        return answer.enters

    def next_due(self, want: Want, *, whoever_waits: bool = True) -> int | None:
        """`Exchanged.next_due`. whoever_waits: rates count only where jobs stand in line."""
        now = self.store.clock.now()
        moments = [row.available_at for row in self._rows() if row.hold == "delay"]
        for queue, most in want.queues:
            rate = want.limits.get(queue, NO_LIMIT).rate
            if rate is not None and min(most, want.total) > 0 and (self._line(queue) or not whoever_waits):
                starts = self.store.starts.of(rates.of_queue(queue))
                moments += [starts.free_at(rate, now)] if not starts.room(rate, now) else []
        return max(0, min(moments) - now) if moments else None

    def _let_in(self, keys: Collection[str], most: int = 1 << 62) -> int:
        """See to it that of each queue the first jobs with these keys stand in line, as many as there is room for."""
        held = [row for key in sorted(keys) for row in next_of_key(self._rows(), key)][:most]
        for row in held:
            self._put(row._replace(hold=None))
        return len(held)

    def _let_in_behind(self, row: JobRow) -> None:
        """A job that waited, perhaps in line, may stand there no more: the next ones with its key come in."""
        if row.limit_key is not None and row.state == "waiting":
            self._let_in({row.limit_key})

    def _take(self, row: JobRow, owner: str, lease: int, now: int) -> JobRow:
        return self._put(taken(row, owner, lease, now))

    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        with self._changing() as now:
            return [ref for ref, token in held if not self._renew_one(owner, ref, token, now, lease)]

    def _renew_one(self, owner: str, ref: Ref, token: int, now: int, lease: int) -> bool:
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        if row is None or row.claim_token != token or row.claimed_by != owner or has_lapsed(row, now):
            return False
        self._put(row._replace(lease_until=now + lease))
        return True

    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        with self._step() as now:
            found = [
                row
                for row in self._rows()
                if is_at_work(row) and (row.claimed_by in owners or (lapsed and self._is_lost(row, now)))
            ]
            later = [row for row in found if not isinstance(after, bytes) or row.id > after]
            met = sorted(later, key=lambda row: row.id)[:limit]
            for row in met:
                if not self._is_readable(row) and self._is_lost(row, now) and self.store.seal is None:
                    self._quarantine(row)
            claims = [claimed_of(row) for row in met if self._is_readable(row)]
            return Held(claims, end_of([row.id for row in met], limit))

    def _quarantine(self, row: JobRow) -> None:
        free = row._replace(claimed_by=None, lease_until=None, claimed_at=None, started_at=None)
        self._put(
            free._replace(
                state="waiting",
                hold="broken",
                reason="broken",
                attempt=row.attempt - (row.state == "claimed"),
                claim_token=row.claim_token + 1,
            )
        )

    def _is_lost(self, row: JobRow, now: int) -> bool:
        return has_lapsed(row, now)

    def let_in(self, limit: int) -> int:
        with self._changing():
            return self._let_in({row.limit_key for row in self._rows() if row.limit_key is not None}, limit)

    def unpark(self, names: Sequence[str]) -> int:
        with self._changing() as now:
            parked = [row for row in self._rows() if row.hold == "parked" and row.name in names]
            for row in parked:
                self._put(row._replace(hold="delay" if row.available_at > now else None))
            return len(parked)

    def release_dependents(self, those: Sequence[Dependent]) -> int:
        with self._changing() as now:
            seen = {one.id: one.version for one in those}
            held = [row for row in self._rows([*seen]) if row.hold == "after" and row.version == seen[row.id]]
            for row in held:
                self._put(row._replace(hold="delay" if row.available_at > now else None))
            return len(held)

    # -- operators

    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        with self._changing() as now:
            check_settable(change.sets)
            row = self.store.rows.get(job_id)
            if row is None or not allows(row, change, now):
                return None
            if is_ended(row) and change.target in ALIVE:
                holder = self._holder_of(row.unique_key)
                if holder is not None:
                    raise DuplicateJobError(UUID(bytes=row.id), UUID(bytes=holder.id), "its unique key is taken")
            after = self._apply(row, change, now)
            self._let_in_behind(row)
            return after

    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        with self._changing() as now:
            old = [
                row
                for row in self._rows()
                if may_be_pruned(row, states=states, finished_before=finished_before, age=age, now=now)
            ]
            self.store.once.forget(now)
            self.store.starts.forget(now)
            return self._remove(old[:limit])

    def delete(self, job_ids: Sequence[bytes]) -> int:
        with self._changing():
            return self._remove([row for row in self._rows(job_ids) if is_ended(row)])

    def _remove(self, rows: Sequence[JobRow]) -> int:
        for row in rows:
            del self.store.rows[row.id]
            self.store.attempts.pop(row.id, None)
            self.store.lines.pop(row.id, None)
            self.store.unreadable.discard(row.id)
        return len(rows)

    def truncate(self) -> None:
        with self._step():
            self._forget()
            self.store.settings += 1

    def _forget(self) -> None:
        store = self.store
        kept = (store.attempts, store.lines, store.unreadable, store.once.taken, store.starts.slots, store.records)
        for records in (store.rows, *kept):
            records.clear()

    # -- small records

    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        with self._changing() as now:
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
        with self._changing():
            gone = self.store.records.pop((kind, key), None)
            self.store.settings += gone is not None and kind in SETTINGS
            return gone is not None

    # -- moving

    def put(self, jobs: Sequence[WholeJob]) -> Sequence[bytes]:
        with self._changing() as now:
            for job in jobs:
                said = [*job.row, *(one.error for one in job.attempts), *(one.text for one in job.lines)]
                if not can_be_stored(said):
                    raise InvalidJobError(f"a text of job {job.row.id.hex()} has no bytes in UTF-8")
            return [job.row.id for job in jobs if not self._put_whole(job, now)]

    def _put_whole(self, job: WholeJob, now: int) -> bool:
        """Write a job as it is; False: another living job has its key."""
        row = job.row
        holder = self._holder_of(row.unique_key) if is_alive(row) else None
        if holder is not None and holder.id != row.id:
            return False
        self._remove(self._rows([row.id]))
        self.store.rows[row.id] = row
        self.store.attempts[row.id] = list(job.attempts)
        self.store.lines[row.id] = list(job.lines)
        self._open_queue(row.queue, now)
        return True

    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        with self._changing():
            for each in keys:
                self.store.once.take(*each)

    def erase(self, job_ids: Sequence[bytes]) -> int:
        with self._changing():
            return self._remove(self._rows(job_ids))

    def seal(self, word: str | None) -> None:
        with self._step():
            self.store.seal = word


def open_model(store: ModelStore) -> Callable[[], ModelBackend]:
    """Opens backends on one model store."""
    return lambda: ModelBackend(store)


def spoil_in_model(backend: Backend, job_id: bytes) -> None:
    """Makes the record of a job unreadable, as a `Harness` over model stores is asked to."""
    assert isinstance(backend, ModelBackend)
    backend.store.unreadable.add(job_id)
