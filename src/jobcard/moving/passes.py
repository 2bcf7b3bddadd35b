"""One pass over all jobs: what the target lacks, or has in an older version, is written into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from jobcard.backends.base import Backend
from jobcard.core.job import WholeJob
from jobcard.core.limits import BULK
from jobcard.errors import AccessDeniedError, JobcardError, StoreFullError, StoreMovedError, StoreUnavailableError
from jobcard.moving.pages import ALL, NO_DIFFERENCE, Difference, Reader, Selection, ahead, differences

KEY_TAKEN = "its unique key belongs to another job of the target that has not ended"

_OF_THE_STORE = (StoreUnavailableError, StoreFullError, StoreMovedError, AccessDeniedError)
"""What a store says that no single job is to blame for."""


def _nothing(*_: object) -> None:
    return


@dataclass(slots=True)
class Passed:
    """What came of a pass. seen: jobs of the source, those that are not selected too. kept: as the target had them."""

    seen: int = 0
    written: int = 0
    erased: int = 0
    kept: int = 0
    unreadable: list[bytes] = field(default_factory=list)
    refused: dict[bytes, str] = field(default_factory=dict)
    """Jobs that the target did not take, and why."""

    @property
    def left_out(self) -> dict[str, str]:
        """Every job that is not in the target, by its id as people write it, and why."""
        unreadable = {_name(job_id): "it cannot be read" for job_id in self.unreadable}
        return unreadable | {_name(job_id): why for job_id, why in self.refused.items()}


class Passing:
    """How jobs are brought from one store into another.

    merge: what the target has of a job stays. exactly: what the source has not goes. beat: called before each page is
    written. tell: hears how many jobs were seen so far. wrote: hears the ids of jobs that were written or deleted.
    """

    def __init__(
        self,
        source: Backend,
        target: Backend,
        selection: Selection = ALL,
        *,
        merge: bool = False,
        exactly: bool = False,
        beat: Callable[[], None] = _nothing,
        tell: Callable[[int], None] = _nothing,
        wrote: Callable[[Sequence[bytes]], None] = _nothing,
    ) -> None:
        self._source = source
        self._target = target
        self._reader = Reader(source, selection)
        self._merge = merge
        self._exactly = exactly
        self._beat = beat
        self._tell = tell
        self._wrote = wrote

    def run(self) -> Passed:
        """One pass. A job that changes meanwhile may be met as it was, or as it is."""
        passed = Passed()
        late: list[bytes] = []
        with ahead(self._pages()) as pages:
            for difference, job_ids, jobs in pages:
                self._beat()
                self._note(difference, passed)
                late += self.put(jobs, passed)
                passed.seen += len(job_ids)
                self._tell(passed.seen)
        # Their keys may be free now: those that had them have been written, or deleted.
        for _, jobs in self._reader.pages(late):
            self._beat()
            passed.refused |= dict.fromkeys(self.put(jobs, passed), KEY_TAKEN)
        return passed

    def put(self, jobs: Sequence[WholeJob], passed: Passed) -> Sequence[bytes]:
        """Write these jobs; the ids of those whose unique key was taken."""
        if not jobs:
            return []
        try:
            not_written = self._target.put(jobs)
        except _OF_THE_STORE:
            raise
        except JobcardError as error:
            # One of them it cannot hold; the others shall not suffer for that.
            if len(jobs) == 1:
                passed.refused[jobs[0].row.id] = str(error)
                return []
            half = len(jobs) // 2
            return [*self.put(jobs[:half], passed), *self.put(jobs[half:], passed)]
        passed.written += len(jobs) - len(not_written)
        self._wrote([job.row.id for job in jobs])
        return not_written

    def _pages(self) -> Iterator[tuple[Difference, Sequence[bytes], Sequence[WholeJob]]]:
        """What is to be written, read by a thread while what came before is written."""
        for difference in differences(self._source, self._target):
            yield difference, (), ()
            job_ids = difference.missing if self._merge else sorted([*difference.missing, *difference.changed])
            for part, jobs in self._reader.pages(job_ids):
                yield NO_DIFFERENCE, part, jobs

    def _note(self, difference: Difference, passed: Passed) -> None:
        passed.seen += len(difference.same) + len(difference.unreadable)
        passed.unreadable += difference.unreadable
        if self._merge:
            passed.seen += len(difference.changed)
            passed.kept += len(difference.changed)
        if self._exactly:
            for first in range(0, len(difference.gone), BULK):
                job_ids = difference.gone[first : first + BULK]
                passed.erased += self._target.erase(job_ids)
                self._wrote(job_ids)


def _name(job_id: bytes) -> str:
    return str(UUID(bytes=job_id))
