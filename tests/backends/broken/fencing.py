"""Faults in the fence: who may write to a job."""

from collections.abc import Sequence

from jobcard.backends.base import Refusal, Verdict
from jobcard.conformance.model import ModelBackend
from jobcard.conformance.rules import has_lapsed, is_at_work
from jobcard.core.job import JobRow, NewJob, Ref
from jobcard.core.states import Change, JobState


class FinishesWithoutToken(ModelBackend):
    """Fault 1: an outcome is applied whatever its token."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        return super()._settle(ref, row.claim_token if row else token, change, now, then)


class RenewsWithoutToken(ModelBackend):
    """Fault 2: a lease is renewed whatever its token."""

    def _renew_one(self, owner: str, ref: Ref, token: int, now: int, lease: int) -> bool:
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        return super()._renew_one(owner, ref, row.claim_token if row else token, now, lease)


class RescuesWithoutRaisingTheToken(ModelBackend):
    """Fault 3: a change that takes the job leaves its token."""

    def _apply(self, row: JobRow, change: Change, now: int) -> JobRow:
        return super()._apply(row, change._replace(takes=False), now)


class CompletesWhatWasCanceled(ModelBackend):
    """Fault 13: a completion asks for the token only, so it overwrites an end."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        if row and row.claim_token == token and change.verb == "complete":
            change = change._replace(sources=frozenset(JobState))
        return super()._settle(ref, token, change, now, then)


class ReportsItsOwnRepeatsAsLost(ModelBackend):
    """A repeated write is refused as if somebody else had the job."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        return [refusal._replace(verdict=Verdict.LOST) for refusal in super()._settle(ref, token, change, now, then)]


class ClaimsWithoutRaisingTheToken(ModelBackend):
    """Two claims of one job have the same token."""

    def _take(self, row: JobRow, owner: str, lease: int, now: int) -> JobRow:
        return super()._take(
            row._replace(claim_token=max(0, row.claim_token - (row.claim_token > 0))), owner, lease, now
        )


class RenewsALeaseThatRanOut(ModelBackend):
    """Whoever comes too late still renews."""

    def _renew_one(self, owner: str, ref: Ref, token: int, now: int, lease: int) -> bool:
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        if row is None or row.claim_token != token or not is_at_work(row):
            return False
        self._put(row._replace(lease_until=now + lease))
        return True


class TakesALeaseThatHolds(ModelBackend):
    """A change for lapsed leases is applied to one that was renewed."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        return super()._settle(ref, token, change._replace(lapsed=False), now, then)


class SweepsByAge(ModelBackend):
    """Fault 9: a claim counts as lost a minute after it was made, renewed or not."""

    def _is_lost(self, row: JobRow, now: int) -> bool:
        return is_at_work(row) and row.claimed_at is not None and row.claimed_at + 60_000_000 <= now


class NeverFindsTheLapsed(ModelBackend):
    """A claim at the last instant of its lease counts as held."""

    def _is_lost(self, row: JobRow, now: int) -> bool:
        return has_lapsed(row, now - 1_000)
