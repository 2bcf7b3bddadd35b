"""When to renew what we hold, and when it is no longer safe to run it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from jobcard.core.job import Ref
from jobcard.core.settings import Settings
from jobcard.engine.ahead import Waiting
from jobcard.engine.shares import LAST_SHARE, RENEW_SHARE, SAFE_SHARE

SOON = 0.5  # seconds until a beat is tried again that the store did not answer


class Leases:
    """The heartbeat of one engine, by its own monotonic clock."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._lease = settings.lease
        self._heartbeat = settings.heartbeat
        self._renewed_at: dict[Ref, float] = {}  # where that is later than the claim
        self._beat_at = now
        self._safe_since = now
        self._beating = False

    def is_unsafe(self, now: float) -> bool:
        """Whether somebody else may soon have our jobs: measured from when the last good renewal was sent."""
        return now - self._safe_since >= SAFE_SHARE * self._lease

    def last_moment(self) -> float:
        """Until when a job that was told may still run, if nothing is renewed meanwhile."""
        return self._safe_since + LAST_SHARE * self._lease

    def is_late(self, since: float, now: float) -> bool:
        """Whether a claim asked for at `since` comes so late that a renewal may have left it out."""
        return now - since >= (1 - RENEW_SHARE) * self._lease

    def next_beat(self) -> float:
        """When to beat next; never while one is under way."""
        return float("inf") if self._beating else self._beat_at

    def beat(self, held: Iterable[Waiting], now: float) -> list[tuple[Ref, int]]:
        """Begin a beat: the claims to renew, none when all have most of their lease left."""
        self._beating = True
        self._beat_at = now + self._heartbeat
        oldest = now - (1 - RENEW_SHARE) * self._lease
        old = []
        still: dict[Ref, float] = {}
        for claim, since in held:
            at = self._renewed_at.get(claim.ref)
            if at is not None:
                still[claim.ref] = at
            if max(since, at or since) <= oldest:
                old.append((claim.ref, claim.token))
        self._renewed_at = still
        return old

    def renewed(self, held: Sequence[tuple[Ref, int]], gone: Collection[Ref], sent_at: float) -> None:
        """The store renewed these, but for those that are gone."""
        self._beating = False
        self._safe_since = sent_at
        self._renewed_at.update((ref, sent_at) for ref, _token in held if ref not in gone)

    def failed(self, now: float) -> None:
        """The store did not answer: beat again soon."""
        self._beating = False
        self._beat_at = now + min(self._heartbeat, SOON)
