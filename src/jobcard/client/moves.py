"""What an operator does to jobs: cancel, retry, run now, put off, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.client.filters import check_states
from jobcard.core import ids, limits, states
from jobcard.core.states import ALLOWED, ENDED, Change, JobState
from jobcard.errors import ConfigError, CorruptRecordError, DuplicateJobError, JobNotFoundError, TransitionError

if TYPE_CHECKING:
    from jobcard.client.lookup import Lookup
    from jobcard.client.store import Connection
    from jobcard.core.job import JobRow
    from jobcard.core.view import Job

_CANCELED = "canceled"
_TRIES = 100
"""So often may a job change its state between our reading and our writing."""
_AT_ONCE = 1_000
_DELETED_AT_ONCE = 50

EACH = ("retry", "cancel", "delete")
"""What may be done to many jobs named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What came of a move of many jobs. changed: they were not in a state for it any more, or were gone; taken: another
    job has their unique key; unreadable: their records are damaged; left: nobody got to them in time."""

    asked: int
    moved: int
    changed: int = 0
    taken: int = 0
    unreadable: int = 0
    left: int = 0


class Moves:
    """Changes jobs of one client's store; any thread may use it."""

    def __init__(self, connection: Connection, lookup: Lookup) -> None:
        self._connection = connection
        self._lookup = lookup

    def cancel(self, job_id: object) -> Job:
        """End a waiting job; tell the engine of one at work to stop it."""
        return self._move(job_id, "cancel", _cancel)

    def retry(self, job_id: object) -> Job:
        """Run a failed or canceled job again from the start."""
        return self._move(job_id, "retry", states.retry_ended)

    def run_now(self, job_id: object) -> Job:
        """Make a waiting job due now."""
        return self._move(job_id, "run_now", states.run_now)

    def snooze(self, job_id: object, delay: float | timedelta) -> Job:
        """Make a waiting job due `delay` from now."""
        wait = limits.check_delay(delay)
        return self._move(job_id, "snooze", lambda row: states.snooze_waiting(row, delay=wait))

    def retry_many(self, given: Mapping[str, Any]) -> int:
        """Retry all failed (or, if asked for, canceled) jobs that fit; how many."""
        return self._move_many(given, "retry", (JobState.FAILED,), self.retry)

    def discard_many(self, given: Mapping[str, Any]) -> int:
        """Cancel all jobs that fit and have not ended; how many."""
        return self._move_many(given, "cancel", ALLOWED["cancel"], self.cancel)

    def each(self, verb: str, job_ids: Sequence[UUID], *, seconds: float) -> Moved:
        """Do this (of `EACH`) to these jobs, each by itself, for so long at most; what came of it."""
        until = time.monotonic() + seconds
        counts = {"moved": 0, "changed": 0, "taken": 0, "unreadable": 0}
        step = _DELETED_AT_ONCE if verb == "delete" else 1
        handled = 0
        for first in range(0, len(job_ids), step):
            if time.monotonic() >= until:
                break
            some = job_ids[first : first + step]
            handled += len(some)
            if verb == "delete":
                deleted = self._delete(some)
                counts["moved"] += deleted
                counts["changed"] += len(some) - deleted
            else:
                counts[self._try(verb, some[0])] += 1
        return Moved(asked=len(job_ids), left=len(job_ids) - handled, **counts)

    def _delete(self, job_ids: Sequence[UUID]) -> int:
        with self._connection as store:
            return store.delete([job_id.bytes for job_id in job_ids])

    def _try(self, verb: str, job_id: UUID) -> str:
        change = states.retry_ended if verb == "retry" else _cancel
        try:
            self._moved(job_id, verb, change)
        except (TransitionError, JobNotFoundError):
            return "changed"
        except DuplicateJobError:
            return "taken"
        except CorruptRecordError:
            return "unreadable"
        return "moved"

    def delete_finished(self, older_than: float | timedelta | datetime) -> int:
        """Delete jobs that ended before then; how many."""
        if isinstance(older_than, datetime):
            before = limits.check_instant(older_than, "older_than")
        else:
            age = limits.check_duration(older_than, "older_than", 0, limits.MAX_DELAY, error=ConfigError)
            with self._connection as store:
                before = store.facts().now - age
        deleted = 0
        while True:
            # A call each time: no lock is held for long, and others come in between.
            with self._connection as store:
                count = store.prune(states=sorted(ENDED), finished_before=before, age=None, limit=_AT_ONCE)
            deleted += count
            if count < _AT_ONCE:
                return deleted

    def _move(self, job_id: object, verb: str, change: Callable[[JobRow], Change]) -> Job:
        return self._lookup.view(self._moved(job_id, verb, change))

    def _moved(self, job_id: object, verb: str, change: Callable[[JobRow], Change]) -> JobRow:
        wanted = ids.parse_id(job_id)
        for _ in range(_TRIES):
            row = self._lookup.row(wanted)
            state = JobState(row.state)
            if state not in ALLOWED[verb]:
                break
            # Only over the state that was read: between the two the job may have been claimed, or ended. One that waits
            # must be just as it was, since why it waits may have changed; what runs notes its progress all the time.
            version = row.version if state is JobState.WAITING else None
            exact = change(row)._replace(sources=frozenset({state}), version=version)
            moved = self._apply(wanted, verb, exact)
            if moved is not None:
                return moved
        raise TransitionError(verb, row.state, ALLOWED[verb], UUID(bytes=wanted))

    def _apply(self, job_id: bytes, verb: str, change: Change) -> JobRow | None:
        try:
            with self._connection as store:
                return store.apply_by_operator(job_id, change)
        except DuplicateJobError as error:
            why = "has a unique key, which another job has taken"
            raise DuplicateJobError(error.job_id, error.existing_id, why, verb) from None

    def _move_many(
        self,
        given: Mapping[str, Any],
        verb: str,
        default: Collection[JobState],
        move: Callable[[UUID], Job],
    ) -> int:
        wanted = check_states(given.get("state")) or tuple(default)
        if not ALLOWED[verb].issuperset(wanted):
            raise ConfigError(f"state must be among {', '.join(sorted(ALLOWED[verb]))}")
        moved = 0
        for job in self._lookup.iterate({**given, "state": wanted}):
            try:
                move(job.id)
            except (TransitionError, JobNotFoundError, DuplicateJobError):
                # It moved on by itself, or another job has taken its unique key: not one of those meant.
                continue
            moved += 1
        return moved


def _cancel(row: JobRow) -> Change:
    if row.state == JobState.WAITING:
        return states.cancel_waiting(reason=_CANCELED)
    return states.ask_to_cancel(row, reason=_CANCELED)
