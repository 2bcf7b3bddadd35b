"""Faults in the claim: who gets which job, and what is kept of it."""

import threading
from typing import Any

from broken.meeting import Meeting
from jobcard.backends.base import NOTHING, Exchanged, Want
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.conformance.rules import claim_order, is_ended
from jobcard.core.job import Claimed, JobRow

_meeting = Meeting()


class ClaimsJobsAtWork(ModelBackend):
    """Fault 4: the claim does not look at the state of a job that has not ended."""

    def _is_claimable(self, row: JobRow) -> bool:
        return row.hold is None and not is_ended(row)


class SelectsThenClaims(ModelBackend):
    """Fault 4 as a race: jobs are selected in one step and taken in the next without another look."""

    def __init__(self, store: ModelStore) -> None:
        super().__init__(store)
        self._selected = threading.local()

    def exchange(self, owner: str, *, want: Want = NOTHING, **given: Any) -> Exchanged:
        with self.store.lock:
            ready = [row for row in self._rows() if super(SelectsThenClaims, self)._is_claimable(row)]
            self._selected.ids = {row.id for row in sorted(ready, key=claim_order)[: want.total]}
        if self._selected.ids:
            _meeting.wait()
        return super().exchange(owner, want=want, **given)

    def _is_claimable(self, row: JobRow) -> bool:
        return row.id in self._selected.ids if hasattr(self._selected, "ids") else super()._is_claimable(row)


class ForgetsTheLastExchange(ModelBackend):
    """Fault 5: an exchange is answered before it is stored, and what was not stored is gone when opened again."""

    def __init__(self, store: ModelStore) -> None:
        super().__init__(store)
        self._before: dict[bytes, JobRow] = {}

    def exchange(self, owner: str, **given: Any) -> Exchanged:
        with self.store.lock:
            before = dict(self.store.rows)
            answer = super().exchange(owner, **given)
            after = self.store.rows
            self._before = {job_id: row for job_id, row in before.items() if after[job_id] != row}
            return answer

    def close(self) -> None:
        with self.store.lock:
            kept = {job_id: row for job_id, row in self._before.items() if job_id in self.store.rows}
            self.store.rows.update(kept)
            self._before = {}


class ClaimsBeforeItIsDue(ModelBackend):
    """A delayed job is claimed like any other."""

    def _is_claimable(self, row: JobRow) -> bool:
        return row.state == "waiting" and row.hold in (None, "delay")


class NeverReleases(ModelBackend):
    """A delayed job stays on hold."""

    def _release_due(self, now: int) -> None:
        pass


class ClaimsAQueuesFirstInFirstOut(ModelBackend):
    """Ranks are not looked at."""

    def _claim(self, owner: str, want: Want, lease: int, now: int) -> list[Claimed]:
        ranks = {row.id: row.rank for row in self._rows()}
        for row in self._rows():
            self.store.rows[row.id] = row._replace(rank=0)
        claimed = super()._claim(owner, want, lease, now)
        for row in self._rows():
            self.store.rows[row.id] = row._replace(rank=ranks[row.id])
        return [claim._replace(rank=ranks[claim.id]) for claim in claimed]


class AnswersOutOfOrder(ModelBackend):
    """The right jobs are claimed and come back last first."""

    def _claim(self, owner: str, want: Want, lease: int, now: int) -> list[Claimed]:
        return super()._claim(owner, want, lease, now)[::-1]


class ClaimsMoreThanTheTotal(ModelBackend):
    """Each queue gives its number, whatever the total."""

    def _claim(self, owner: str, want: Want, lease: int, now: int) -> list[Claimed]:
        total = sum(most for _, most in want.queues) if want.total else 0
        return super()._claim(owner, want._replace(total=total), lease, now)


class TellsEveryoneOfCancels(ModelBackend):
    """An engine is told of requests to cancel that are another's."""

    def exchange(self, owner: str, **given: Any) -> Exchanged:
        answer = super().exchange(owner, **given)
        asked = [row for row in self._rows() if row.cancel_requested is not None and row.claimed_by is not None]
        return answer._replace(cancels=[(row.id, str(row.cancel_requested)) for row in asked])
