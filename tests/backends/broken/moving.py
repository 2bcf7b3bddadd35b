"""Faults in how jobs are put, compared and taken back, and in how a store is sealed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jobcard.backends.base import Enqueued, Facts, RecordKind, Tally
from jobcard.conformance.model import ModelBackend
from jobcard.conformance.rules import is_at_work, is_ended
from jobcard.core.job import JobRow, NewJob, OnceKey, WholeJob
from jobcard.core.states import Change
from jobcard.errors import StoreMovedError


class PutsWithARaisedVersion(ModelBackend):
    """To put a job counts as a change of it."""

    def _put_whole(self, job: WholeJob, now: int) -> bool:
        return super()._put_whole(job._replace(row=job.row._replace(version=job.row.version + 1)), now)


class KeepsTheTriesOfWhatWasThere(ModelBackend):
    """The tries of a job that is put come behind those that are there."""

    def _put_whole(self, job: WholeJob, now: int) -> bool:
        there = list(self.store.attempts.get(job.row.id, ()))
        written = super()._put_whole(job, now)
        if written:
            self.store.attempts[job.row.id][:0] = there
        return written


class PutsIntoTakenKeys(ModelBackend):
    """A put does not look at unique keys."""

    def _put_whole(self, job: WholeJob, now: int) -> bool:
        super()._put_whole(job._replace(row=job.row._replace(unique_key=None)), now)
        self.store.rows[job.row.id] = job.row
        return True


class PutsUpToTheOneItCannot(ModelBackend):
    """Jobs in front of one that cannot be stored stay."""

    def put(self, jobs: Sequence[WholeJob]) -> list[bytes]:
        return [job_id for job in jobs for job_id in super(PutsUpToTheOneItCannot, self).put([job])]


class PutsIntoQueuesWithoutRecord(ModelBackend):
    """Nobody hears of the queues of jobs that are put."""

    def _put_whole(self, job: WholeJob, now: int) -> bool:
        records, settings = dict(self.store.records), self.store.settings
        written = super()._put_whole(job, now)
        self.store.records, self.store.settings = records, settings
        return written


class PutsOnceKeysAlong(ModelBackend):
    """A job that is put takes its once key."""

    def _put_whole(self, job: WholeJob, now: int) -> bool:
        if job.row.once_key is not None:
            self.store.once.taken[job.row.once_key] = (job.row.id, now + 3_600_000_000)
        return super()._put_whole(job, now)


class PutsClaimsBackInLine(ModelBackend):
    """A job at work is put as one that waits: nobody holds it here."""

    def _put_whole(self, job: WholeJob, now: int) -> bool:
        row = job.row
        if is_at_work(row):
            row = row._replace(state="waiting", claimed_by=None, lease_until=None, claimed_at=None, started_at=None)
        return super()._put_whole(job._replace(row=row), now)


class NotesWithoutANewVersion(ModelBackend):
    """A note does not tell whoever compares."""

    def _apply(self, row: JobRow, change: Change, now: int) -> JobRow:
        after = super()._apply(row, change, now)
        if change.verb == "note":
            self.store.rows[row.id] = after = after._replace(version=row.version)
        return after


class ComparesWhatItCanReadOnly(ModelBackend):
    """A job that cannot be read has no version, as if it were not there."""

    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        return [(job_id, version) for job_id, version in super().versions(after=after, limit=limit) if version != -1]


class TellsOfOnceKeysThatAreOver(ModelBackend):
    """Once keys are told until a prune forgets them."""

    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        taken = [OnceKey(key, *held) for key, held in sorted(self.store.once.taken.items())]
        return [each for each in taken if after is None or each.key > after][:limit]


class KeepsOnceKeysThatAreThere(ModelBackend):
    """A once key that is put leaves the one that is there."""

    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        super().put_once_keys([each for each in keys if each.key not in self.store.once.taken])


class ErasesOnlyWhatHasEnded(ModelBackend):
    """Jobs that live are not taken back."""

    def erase(self, job_ids: Sequence[bytes]) -> int:
        return super().erase([row.id for row in self._rows(job_ids) if is_ended(row)])


class ErasesOnceKeysToo(ModelBackend):
    """With a job goes its once key."""

    def erase(self, job_ids: Sequence[bytes]) -> int:
        keys = [row.once_key for row in self._rows(job_ids) if row.once_key is not None]
        erased = super().erase(job_ids)
        for key in keys:
            self.store.once.taken.pop(key, None)
        return erased


# ------------------------------------------------------------------ seals


class SealsProducersOnly(ModelBackend):
    """Only new jobs are refused."""

    @contextmanager
    def _changing(self) -> Iterator[int]:
        with self._step() as now:
            yield now

    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if self.store.seal is not None:
            raise StoreMovedError("sealed")
        return super().enqueue(jobs)


class SealsAllButRecords(ModelBackend):
    """Small records can still be written."""

    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        word, self.store.seal = self.store.seal, None
        try:
            return super().write_record(kind, key, value, expect=expect)
        finally:
            self.store.seal = word


class SealsForItselfOnly(ModelBackend):
    """A seal is known to the backend that set it, and to no other."""

    word: str | None = None

    def seal(self, word: str | None) -> None:
        self.word = word

    def facts(self) -> Facts:
        self.store.seal = self.word
        try:
            return super().facts()
        finally:
            self.store.seal = None

    @contextmanager
    def _changing(self) -> Iterator[int]:
        if self.word is not None:
            raise StoreMovedError("sealed")
        with super()._changing() as now:
            yield now


class SealsWithAnEmptyWordOnlyBySight(ModelBackend):
    """An empty word is shown, and stops nobody."""

    @contextmanager
    def _changing(self) -> Iterator[int]:
        if self.store.seal:
            raise StoreMovedError("sealed")
        with self._step() as now:
            yield now


class RefusesWhatItHasWritten(ModelBackend):
    """The seal is looked at when all is done."""

    @contextmanager
    def _changing(self) -> Iterator[int]:
        with self._step() as now:
            yield now
            if self.store.seal is not None:
                raise StoreMovedError("sealed")


class SealsReadersOut(ModelBackend):
    """A sealed store tells no figures."""

    def tally(self) -> Tally:
        return super().tally() if self.store.seal is None else Tally({}, 0, None)


class SealsForEver(ModelBackend):
    """What was sealed is not opened again."""

    def seal(self, word: str | None) -> None:
        if word is not None:
            super().seal(word)


class TakesAnEraseForAWriteBehindASeal(ModelBackend):
    """One verb is refused by every store, sealed or not."""

    def erase(self, job_ids: Sequence[bytes]) -> int:
        raise StoreMovedError("sealed")


class EmptiesNoSealedStore(ModelBackend):
    """The jobs of a sealed store stay, whoever empties it."""

    def truncate(self) -> None:
        if self.store.seal is None:
            super().truncate()
