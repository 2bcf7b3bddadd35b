"""All jobs of a store in use, from the oldest to the newest, so that none is read before what it led to.

A job that enqueues others does so before it ends, and their ids are above its own: who reads it ended finds them
later. Follow-ups, stored with its success, have ids of its own moment (`core/ids.py`), on either side of it. So pages
are cut between moments, and one in which something has just ended is looked at again before it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobcard.backends.base import Backend
from jobcard.core.job import JobRow, WholeJob
from jobcard.moving.pages import UNREADABLE
from jobcard.moving.whole import PAGE, first_size, next_size, read

_MOMENT = 6  # bytes of an id
_LAST_LOOKS = 100
"""So often the newest jobs are looked at, while they end as fast as they come."""

Version = tuple[bytes, int]


class OldestFirst:
    """Pages of whole jobs by ascending id, each job as it was at one moment since `began`.

    Every job that was stored before `began` is there, once, unless it was deleted meanwhile; of those stored since,
    some. unreadable: the ids of those that cannot be read, as far as the walk has come.
    """

    def __init__(self, store: Backend, *, began: int) -> None:
        self.unreadable: list[bytes] = []
        self._store = store
        self._began = began

    def __iter__(self) -> Iterator[list[WholeJob]]:
        after: bytes | None = None
        size = first_size()
        looks = 0
        while True:
            found, is_last = self._whole_moments(after, size)
            page, just_ended = self._page(after, found)
            yield page
            if is_last:
                looks += 1
                # What has ended only now may have enqueued others since this page was listed.
                if not just_ended or looks >= _LAST_LOOKS:
                    return
            if found:
                after = _end_of_moment(found[-1][0])
            size = next_size(size, [job.row for job in page])

    def _page(self, after: bytes | None, found: Sequence[Version]) -> tuple[list[WholeJob], bool]:
        """These jobs and the follow-ups that came since they were listed; whether any of them has just ended."""
        met: set[bytes] = set()
        jobs: dict[bytes, WholeJob] = {}
        has_ended = False
        while new := [version for version in found if version[0] not in met]:
            met.update(job_id for job_id, _ in new)
            self.unreadable += [job_id for job_id, version in new if version == UNREADABLE]
            wanted = [job_id for job_id, version in new if version != UNREADABLE]
            latest = [job for some in _chunks(wanted) for job in read(self._store, some)]
            jobs.update((job.row.id, job) for job in latest)
            if not any(self._has_just_ended(job.row) for job in latest):
                break
            has_ended = True
            found = self._through(after, found[-1][0])
        return [jobs[job_id] for job_id in sorted(jobs)], has_ended

    def _has_just_ended(self, row: JobRow) -> bool:
        return row.finished_at is not None and row.finished_at >= self._began

    def _whole_moments(self, after: bytes | None, size: int) -> tuple[list[Version], bool]:
        """About `size` jobs behind `after`, all those of each moment; whether these are the last ones for now."""
        found = [*self._store.versions(after=after, limit=size)]
        if len(found) < size:
            return found, True
        last = found[-1][0]
        before = [version for version in found if version[0][:_MOMENT] < last[:_MOMENT]]
        return before or self._through(after, last), False

    def _through(self, after: bytes | None, last: bytes) -> list[Version]:
        """All behind `after`, up to the moment of `last`."""
        until = _end_of_moment(last)
        found: list[Version] = []
        while True:
            page = self._store.versions(after=after, limit=PAGE)
            found += [version for version in page if version[0] <= until]
            if len(page) < PAGE or page[-1][0] > until:
                return found
            after = page[-1][0]


def _end_of_moment(job_id: bytes) -> bytes:
    return job_id[:_MOMENT] + b"\xff" * (len(job_id) - _MOMENT)


def _chunks(job_ids: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (job_ids[first : first + PAGE] for first in range(0, len(job_ids), PAGE))
