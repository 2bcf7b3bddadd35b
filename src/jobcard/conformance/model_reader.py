"""What the model store answers to those who look: one look each, under its lock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobcard.backends.base import Bucket, Ended, Facts, Filter, Lines, Listed, Record, RecordKind, Tally, Waker
from jobcard.backends.pages import end_of
from jobcard.conformance.keys import put_off
from jobcard.conformance.rules import claim_order, is_at_work, is_ended, latest_stamp, matches
from jobcard.core import findings, rates
from jobcard.core.findings import Finding
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine, OnceKey
from jobcard.core.rates import Use
from jobcard.core.states import Hold
from jobcard.errors import CorruptRecordError, SchemaVersionError, StoreMovedError

if TYPE_CHECKING:
    from jobcard.conformance.model import ModelStore

VERSIONS = (1,)


class ModelReader:
    """The verbs of the contract that change nothing."""

    store: ModelStore

    @contextmanager
    def _step(self, *, changes: bool = False) -> Iterator[int]:
        """One step that nothing interrupts; gives the store's time. changes: a sealed store allows it nobody."""
        with self.store.lock:
            self.check_schema()
            if changes and self.store.seal is not None:
                raise StoreMovedError("this store was sealed: its jobs live elsewhere now")
            yield self.store.clock.now()

    def check_schema(self) -> None:
        with self.store.lock:
            found = self.store.applied[-1] if self.store.applied else 0
            if found != VERSIONS[-1]:
                raise SchemaVersionError(found, VERSIONS[-1])

    def _is_claimable(self, row: JobRow) -> bool:
        return row.state == "waiting" and row.hold is None

    def _line(self, queue: str) -> list[JobRow]:
        """The jobs of a queue that nothing but its limits keeps from being claimed, in order."""
        return sorted((row for row in self._rows() if row.queue == queue and self._is_claimable(row)), key=claim_order)

    def _is_readable(self, row: JobRow) -> bool:
        return row.id not in self.store.unreadable

    def _use_of_queue(self, queue: str) -> Use:
        at_work = len([row for row in self._rows() if row.queue == queue and is_at_work(row)])
        return Use(at_work, self.store.starts.of(rates.of_queue(queue)))

    def _use_of_key(self, key: str) -> Use:
        at_work = len([row for row in self._rows() if row.limit_key == key and is_at_work(row)])
        kept_out = put_off(self._rows(), key, self.store.clock.now())
        return Use(at_work, self.store.starts.of(rates.of_key(key)), kept_out)

    def dependents(self, *, after: bytes | None, limit: int) -> Sequence[Dependent]:
        with self._step():
            held = sorted(row.id for row in self._rows() if row.hold == "after" and row.id > (after or b""))
            return [Dependent(row.id, row.waits_for, row.version) for row in self._rows(held[:limit])]

    # -- looking up

    def _rows(self, job_ids: Sequence[bytes] | None = None) -> list[JobRow]:
        if job_ids is None:
            return list(self.store.rows.values())
        return [self.store.rows[job_id] for job_id in dict.fromkeys(job_ids) if job_id in self.store.rows]

    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        with self._step():
            rows = self._rows(job_ids)
            readable = [row for row in rows if self._is_readable(row)]
            if len(rows) == 1 and not readable:
                raise CorruptRecordError(f"job {rows[0].id.hex()} cannot be read")
            return readable

    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        with self._step():
            return [attempt for row in self._rows(job_ids) for attempt in self.store.attempts[row.id]]

    def log_lines(self, job_ids: Sequence[bytes]) -> list[LogLine]:
        with self._step():
            return [line for row in self._rows(job_ids) for line in self.store.lines[row.id]]

    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        with self._step():
            return [Ended(row.id, row.state, row.result, row.reason) for row in self._rows(job_ids) if is_ended(row)]

    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        with self._step():
            found = [row for row in self._rows() if matches(row, where) and (before_id is None or row.id < before_id)]
            met = sorted(found, key=lambda row: row.id, reverse=True)[:limit]
            return Listed([row for row in met if self._is_readable(row)], end_of([row.id for row in met], limit))

    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        with self._step():
            counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
            for row in self._rows():
                if matches(row, where) and (limit is None or counts[row.queue][row.state] < limit):
                    counts[row.queue][row.state] += 1
            return {queue: dict(by_state) for queue, by_state in counts.items() if by_state}

    def count_over_time(self, *, first: int, step: int, buckets: int, states: Sequence[str] = ()) -> Sequence[Bucket]:
        with self._step():
            counts: dict[int, Counter[str]] = {first + place * step: Counter() for place in range(buckets)}
            for row in self._rows():
                at = first + (latest_stamp(row) - first) // step * step
                if at in counts and (not states or row.state in states):
                    counts[at][row.state] += 1
            return [Bucket(at, by_state) for at, by_state in counts.items()]

    def tally(self) -> Tally:
        with self._step() as now:
            delayed = [row.available_at for row in self._rows() if row.hold == "delay"]
            due = [row.available_at for row in self._rows() if self._is_claimable(row)]
            due += [at for at in delayed if at <= now]
            return Tally(
                counts=Counter(row.state for row in self._rows()),
                delayed=sum(at > now for at in delayed),
                oldest_waiting=max(0, now - min(due)) if due else None,
            )

    def lines(self, *, limit: int) -> Lines:
        with self._step() as now:
            delayed = [row for row in self._rows() if row.hold == "delay"]
            due = [row for row in self._rows() if self._is_claimable(row)]
            due += [row for row in delayed if row.available_at <= now]
            oldest: dict[str, int] = {}
            for row in due:
                oldest[row.queue] = max(oldest.get(row.queue, 0), now - row.available_at)
            return Lines(min(limit, sum(row.available_at > now for row in delayed)), oldest)

    def usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
        with self._step():
            return (
                {queue: self._use_of_queue(queue) for queue in queues},
                {key: self._use_of_key(key) for key in keys},
            )

    # -- small records

    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        with self._step() as now:
            return [
                Record(key, value, version, max(0, now - at))
                for (its_kind, key), (value, version, at) in sorted(self.store.records.items())
                if its_kind == kind
            ]

    # -- moving

    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        with self._step():
            rows = sorted(row for row in self._rows() if after is None or row.id > after)
            return [(row.id, row.version if self._is_readable(row) else -1) for row in rows[:limit]]

    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        with self._step() as now:
            taken = sorted(self.store.once.taken.items())
            found = [OnceKey(key, job_id, until) for key, (job_id, until) in taken if until > now]
            return [each for each in found if after is None or each.key > after][:limit]

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
                seal=self.store.seal,
            )

    def examine(self) -> Sequence[Finding]:
        with self.store.lock:
            waiting = [row for row in self.store.rows.values() if row.hold is not None]
        parked = Counter(row.name for row in waiting if row.hold == Hold.PARKED)
        broken = sum(row.hold == Hold.BROKEN for row in waiting)
        return findings.set_aside([*parked.items(), (None, broken)])

    def waker(self) -> Waker:
        return Waker()
