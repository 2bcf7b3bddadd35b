"""Faults in limits, once keys and jobs that replace."""

from collections.abc import Collection, Sequence
from typing import Any

from jobcard.backends.base import NOTHING, Exchanged, Want
from jobcard.conformance.keys import next_of_key
from jobcard.conformance.model import ModelBackend
from jobcard.conformance.rules import claim_order, is_at_work
from jobcard.core.job import JobRow, NewJob
from jobcard.core.rates import NO_STARTS, Use


class CountsOnlyWhatRuns(ModelBackend):
    """A job that is claimed and not stamped yet takes no place under a limit."""

    def _use_of_queue(self, queue: str) -> Use:
        return super()._use_of_queue(queue)._replace(at_work=self._running(lambda row: row.queue == queue))

    def _use_of_key(self, key: str) -> Use:
        return super()._use_of_key(key)._replace(at_work=self._running(lambda row: row.limit_key == key))

    def _running(self, mine: Any) -> int:
        return sum(mine(row) and row.state == "running" for row in self._rows())


class CountsNoStarts(ModelBackend):
    """A rate is never used up."""

    def _use_of_queue(self, queue: str) -> Use:
        return super()._use_of_queue(queue)._replace(starts=NO_STARTS)

    def _use_of_key(self, key: str) -> Use:
        return super()._use_of_key(key)._replace(starts=NO_STARTS)


class LetsNobodyIn(ModelBackend):
    """What a key holds back stays there when it has room again."""

    def _let_in(self, keys: Collection[str], most: int = 0) -> int:
        return 0


class LetsEverybodyIn(ModelBackend):
    """When a key has room again, all that it held are put in line, where each claim puts them back."""

    def _let_in(self, keys: Collection[str], most: int = 0) -> int:
        return _put_in_line(self, [row.id for row in self._rows() if row.hold == "limit" and row.limit_key in keys])


class RanksAllQueuesTogether(ModelBackend):
    """A job in a queue that nobody serves keeps those behind it in other queues from coming in."""

    def _let_in(self, keys: Collection[str], most: int = 1 << 62) -> int:
        rows = [row._replace(queue="any") for row in self._rows()]
        return _put_in_line(self, [row.id for key in sorted(keys) for row in next_of_key(rows, key)][:most])


class LetsInByTheFirstOnesLimit(ModelBackend):
    """The limit of the first job that is held counts for all behind it; where it has none, nobody comes in."""

    def _let_in(self, keys: Collection[str], most: int = 1 << 62) -> int:
        ids = []
        for key in sorted(keys):
            held = [row for row in self._rows() if row.limit_key == key and row.hold == "limit"]
            if held and (limit := min(held, key=claim_order).key_limit) is not None:
                rows = [row._replace(key_limit=limit) for row in self._rows()]
                ids += [row.id for row in next_of_key(rows, key)]
        return _put_in_line(self, ids[:most])


class KeepsThePlaceOfWhoLeftTheLine(ModelBackend):
    """Where a job that had come in is canceled, put off or replaced, the next one waits for a sweep."""

    def _let_in_behind(self, row: JobRow) -> None:
        pass


class PutsAllOffToOneMoment(ModelBackend):
    """Every look gives the jobs that a rate keeps out the first turns again."""

    def _use_of_key(self, key: str) -> Use:
        return super()._use_of_key(key)._replace(kept_out=0)


class TakesAPutOffForAnOffset(ModelBackend):
    """How long a rate has put a job off moves its order for good."""

    def _may_start(self, row: JobRow, now: int) -> bool:
        enters = super()._may_start(row, now)
        after = self.store.rows[row.id]
        self.store.rows[row.id] = after._replace(order_offset=after.order_at - after.available_at)
        return enters


class ForgetsPlaceInLine(ModelBackend):
    """A job that its key keeps out loses its place: whoever was kept out last comes first."""

    kept_out = 0

    def _may_start(self, row: JobRow, now: int) -> bool:
        enters = super()._may_start(row, now)
        if not enters:
            self.kept_out += 1
            self._put(self.store.rows[row.id]._replace(order_at=row.order_at - self.kept_out))
        return enters


class StopsAtTheFirstItKeepsOut(ModelBackend):
    """Behind a job whose key is full nobody is claimed."""

    def exchange(self, owner: str, *, want: Want = NOTHING, **given: Any) -> Exchanged:
        self.kept_out = False
        return super().exchange(owner, want=want, **given)

    def _may_start(self, row: JobRow, now: int) -> bool:
        self.kept_out |= not super()._may_start(row, now)
        return not self.kept_out

    def _is_claimable(self, row: JobRow) -> bool:
        return super()._is_claimable(row) and not getattr(self, "kept_out", False)


class FreesOnceKeysWithTheirJobs(ModelBackend):
    """A once key is free as soon as its job is deleted."""

    def _remove(self, rows: Sequence[JobRow]) -> int:
        gone = {row.id for row in rows}
        taken = self.store.once.taken
        for key in [key for key, (job_id, _until) in taken.items() if job_id in gone]:
            del taken[key]
        return super()._remove(rows)


class GivesOnceKeysToTheirOwnJobAgain(ModelBackend):
    """A job that is gone is stored again by a late repeat, though the time of its once key is not over."""

    def _store_one(self, job: NewJob, now: int) -> Any:
        taken = self.store.once.taken
        if (
            job.id not in self.store.rows
            and job.once_key is not None
            and taken.get(job.once_key, (b"", 0))[0] == job.id
        ):
            del taken[job.once_key]
        return super()._store_one(job, now)


_NO_JOB = NewJob(*[None] * len(NewJob._fields))  # type: ignore[arg-type]


class TakesOnceKeysForNobody(ModelBackend):
    """A job that is not stored, for its unique key, takes its once key all the same."""

    storing = _NO_JOB

    def _holder_of(self, key: str | None) -> JobRow | None:
        holder = super()._holder_of(key)
        if holder is not None and self.storing.once_key is not None and self.storing.once_until is not None:
            self.store.once.taken.setdefault(self.storing.once_key, (self.storing.id, self.storing.once_until))
        return holder

    def _store_one(self, job: NewJob, now: int) -> Any:
        self.storing = job
        return super()._store_one(job, now)

    def apply_by_operator(self, *given: Any) -> Any:
        self.storing = _NO_JOB
        return super().apply_by_operator(*given)


class ReplacesJobsAtWork(ModelBackend):
    """A job that has been claimed is replaced under its holder's hands."""

    def _replace_or_store(self, job: NewJob, now: int) -> Any:
        holder = self._holder_of(job.unique_key)
        if job.replaces and holder is not None and is_at_work(holder):
            self._put(holder._replace(args=job.args))
        return super()._replace_or_store(job, now)


class KeepsTheAttemptsOfWhatWasReplaced(ModelBackend):
    """A job that took another's place has its attempts and its checkpoint."""

    def _replace_or_store(self, job: NewJob, now: int) -> Any:
        before = dict(self.store.rows)
        answer = super()._replace_or_store(job, now)
        there = before.get(answer.existing)
        if answer.fate == "replaced" and there is not None:
            self._put(self.store.rows[there.id]._replace(attempt=there.attempt, checkpoint=there.checkpoint))
        return answer


def _put_in_line(backend: ModelBackend, ids: Sequence[bytes]) -> int:
    for job_id in ids:
        backend._put(backend.store.rows[job_id]._replace(hold=None))
    return len(ids)
