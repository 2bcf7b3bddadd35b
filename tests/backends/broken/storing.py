"""Faults in what is stored, kept, deleted and shown."""

from collections.abc import Sequence
from typing import Any

from broken.meeting import Meeting
from jobcard.backends.base import Enqueued, Fate, Filter, Listed, RecordKind
from jobcard.conformance.model import ModelBackend
from jobcard.conformance.rules import is_ended, row_of
from jobcard.core.findings import Finding, set_aside
from jobcard.core.job import Attempt, JobRow, NewJob
from jobcard.core.states import Change
from jobcard.errors import InvalidJobError

_meeting = Meeting()


class InsertsWithoutIdGuard(ModelBackend):
    """Fault 8: a repeated enqueue stores the job anew."""

    def _store_one(self, job: NewJob, now: int) -> Enqueued:
        there = self.store.rows.get(job.id)
        if there is None:
            return super()._store_one(job, now)
        self.store.rows[job.id] = row_of(job, now)
        return Enqueued(Fate.REPEATED, job.id)


class ChecksKeysThenInserts(ModelBackend):
    """Fault 11: a unique key is looked up in one step, and the job inserted in the next."""

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if len(jobs) != 1:
            return super().enqueue(jobs)
        [job] = jobs
        with self.store.lock:
            holder = self._holder_of(job.unique_key)
        if holder is not None or job.id in self.store.rows:
            return super().enqueue(jobs)
        _meeting.wait()
        with self._step() as now:
            self.store.rows[job.id] = row_of(job, now)
        return [Enqueued(Fate.STORED, job.id)]


class StoresHalfACall(ModelBackend):
    """Jobs in front of one that cannot be stored stay."""

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        try:
            return super().enqueue(jobs)
        except InvalidJobError as error:
            super().enqueue(jobs[: error.index])
            raise


class HoldsKeysForEver(ModelBackend):
    """The key of a job that ended is still taken."""

    def _holder_of(self, key: str | None) -> JobRow | None:
        return next((row for row in self.store.rows.values() if key is not None and row.unique_key == key), None)


class RetriesIntoATakenKey(ModelBackend):
    """An operator's retry does not look at unique keys."""

    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        row = self.store.rows.get(job_id)
        if row is None or not is_ended(row):
            return super().apply_by_operator(job_id, change)
        self.store.rows[job_id] = row._replace(unique_key=None)
        after = super().apply_by_operator(job_id, change)
        self.store.rows[job_id] = self.store.rows[job_id]._replace(unique_key=row.unique_key)
        return after


class KeepsNoErrors(ModelBackend):
    """The record of a failed try is not written."""

    def _apply(self, row: JobRow, change: Change, now: int) -> JobRow:
        return super()._apply(row, change._replace(error=None), now)


class SharesItsErrors(ModelBackend):
    """Tries of every job come to whoever asks for those of one."""

    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        return super().attempts(list(self.store.rows)) if job_ids else []


class LetsJobsKeepForEver(ModelBackend):
    """A job's own `keep` is forgotten when it ends."""

    def _apply(self, row: JobRow, change: Change, now: int) -> JobRow:
        after = super()._apply(row._replace(keep=None), change, now)
        self.store.rows[row.id] = after = after._replace(keep=row.keep)
        return after


class PrunesTheLiving(ModelBackend):
    """Age alone decides what is deleted."""

    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        deleted = super().prune(states=states, finished_before=finished_before, age=age, limit=limit)
        waiting = [row for row in self._rows() if row.state == "waiting" and finished_before is not None]
        return deleted + self._remove(waiting[: limit - deleted])


class PrunesWithoutLimit(ModelBackend):
    """A prune takes all there is."""

    def prune(self, **given: Any) -> int:
        return super().prune(**{**given, "limit": 1_000_000})


class UnparksEveryone(ModelBackend):
    """Jobs of other names come back too."""

    def unpark(self, names: Sequence[str]) -> int:
        return super().unpark([row.name for row in self._rows()])


class LosesUpdatesOfRecords(ModelBackend):
    """A record is written whatever version was expected."""

    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        return super().write_record(kind, key, value)


class ShowsThePageBeforeAgain(ModelBackend):
    """A page includes the id it should stand below."""

    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        above = None if before_id is None else (int.from_bytes(before_id, "big") + 1).to_bytes(16, "big")
        return super().list(where, limit=limit, before_id=above)


class CountsEndedJobsTwice(ModelBackend):
    """Counts are kept beside the jobs and drift."""

    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        counts = super().count(where, limit=limit)
        return {
            queue: {state: n + (state == "completed") for state, n in by_state.items()}
            for queue, by_state in counts.items()
        }


class SetsJobsAsideInSilence(ModelBackend):
    """Whoever looks the store over hears nothing of parked and broken jobs."""

    def examine(self) -> Sequence[Finding]:
        return set_aside([])
