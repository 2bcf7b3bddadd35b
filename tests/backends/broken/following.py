"""Faults in what a change brings with it: jobs that follow, log lines, notes."""

from collections.abc import Sequence
from typing import Any

from jobcard.backends.base import Filter, Held, Listed, RecordKind, Refusal, Verdict
from jobcard.conformance.model import ModelBackend
from jobcard.conformance.rules import can_be_stored, row_of
from jobcard.core.job import JobRow, LogLine, NewJob, Ref
from jobcard.core.states import Change, JobState


class FollowsWhatWasRefused(ModelBackend):
    """Follow-ups are stored beside the change, whatever became of it."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        refusals = super()._settle(ref, token, change, now, then)
        if refusals and refusals[0].verdict is not Verdict.MINE:
            self._follow([job for job in then if can_be_stored(job)], now)
        return refusals


class FollowsItsOwnRepeatsAgain(ModelBackend):
    """A repeat that is told `MINE` stores its follow-ups once more."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        refusals = super()._settle(ref, token, change, now, then)
        if refusals and refusals[0].verdict is Verdict.MINE:
            self._follow([job for job in then if can_be_stored(job)], now)
        return refusals


class FollowsInASecondStep(ModelBackend):
    """The change is kept although a follow-up could not be stored."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        refusals = super()._settle(ref, token, change, now)
        if refusals:
            return refusals
        for job in then:
            if not can_be_stored(job):
                return [Refusal(ref, token, Verdict.REFUSED, "a follow-up has no bytes in UTF-8")]
            self._store_one(job, now)
        return []


class FollowsNobody(ModelBackend):
    """Follow-ups are forgotten."""

    def _follow(self, then: Sequence[NewJob], now: int) -> None:
        pass


class FollowsOverWhatIsThere(ModelBackend):
    """A follow-up replaces the job that has its id."""

    def _follow(self, then: Sequence[NewJob], now: int) -> None:
        for job in then:
            if job.id in self.store.rows:
                self.store.rows[job.id] = row_of(job, now)
            else:
                self._store_one(job, now)


class FollowsBeforeTheChange(ModelBackend):
    """Follow-ups come first, so the key that the change frees is still taken."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        row = self.store.rows.get(ref) if isinstance(ref, bytes) else None
        held = {row.unique_key} if row else set()
        return super()._settle(
            ref, token, change, now, [job for job in then if job.unique_key is None or job.unique_key not in held]
        )


class FollowsIntoATakenKey(ModelBackend):
    """Follow-ups do not look at unique keys."""

    def _follow(self, then: Sequence[NewJob], now: int) -> None:
        for job in then:
            if job.id not in self.store.rows:
                self.store.rows[job.id] = row_of(job, now)


class FollowsIntoQueuesWithoutRecord(ModelBackend):
    """A queue that only a follow-up named has no record, so no engine serves it."""

    def _follow(self, then: Sequence[NewJob], now: int) -> None:
        before = {key for kind, key in self.store.records if kind is RecordKind.QUEUE}
        super()._follow(then, now)
        for job in then:
            if job.queue not in before:
                self.store.records.pop((RecordKind.QUEUE, job.queue), None)


class LosesLines(ModelBackend):
    """Log lines are not stored."""

    def _keep_lines(self, job_id: bytes, lines: Sequence[LogLine]) -> None:
        pass


class KeepsTheLatestLinesOnly(ModelBackend):
    """The lines of a change replace those of the one before."""

    def _keep_lines(self, job_id: bytes, lines: Sequence[LogLine]) -> None:
        if lines:
            self.store.lines[job_id].clear()
        super()._keep_lines(job_id, lines)


class KeepsEveryLine(ModelBackend):
    """A job may fill the store with its log."""

    def _keep_lines(self, job_id: bytes, lines: Sequence[LogLine]) -> None:
        self.store.lines[job_id] += lines


class KeepsTheFirstLines(ModelBackend):
    """A log that is full takes no more, so what a job said last is not there."""

    def _keep_lines(self, job_id: bytes, lines: Sequence[LogLine]) -> None:
        kept = self.store.lines[job_id]
        for line in lines:
            if len(kept) < 1_000 and sum(len(one.text) for one in kept) + len(line.text) <= 65_536:
                kept.append(line)


class LinesOutliveTheirJob(ModelBackend):
    """A job that is stored under the id of a deleted one has its log."""

    def _remove(self, rows: Sequence[JobRow]) -> int:
        kept = {row.id: self.store.lines[row.id] for row in rows}
        removed = super()._remove(rows)
        self.store.lines.update(kept)
        return removed


class LinesOfWhatWasRefused(ModelBackend):
    """Lines are written first, and stay when their change does not apply."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        refusals = super()._settle(ref, token, change, now, then)
        if refusals and isinstance(ref, bytes) and ref in self.store.rows:
            self._keep_lines(
                ref, [LogLine(ref, now - ago, text) for ago, text in change.lines if can_be_stored([text])]
            )
        return refusals


class NotesWakeTheDead(ModelBackend):
    """A note asks for the token only, so it brings back a job that ended."""

    def _settle(self, ref: Ref, token: int, change: Change, now: int, then: Sequence[NewJob] = ()) -> list[Refusal]:
        if change.verb == "note":
            change = change._replace(sources=frozenset(JobState))
        return super()._settle(ref, token, change, now, then)


class NotesClearWhatTheyDoNotSay(ModelBackend):
    """A note without a checkpoint takes the one that was there."""

    def _apply(self, row: JobRow, change: Change, now: int) -> JobRow:
        if change.verb == "note":
            change = change._replace(sets={"progress": None, "checkpoint": None, **change.sets})
        return super()._apply(row, change, now)


class TouchesByCreation(ModelBackend):
    """Only the creation of a job counts as a touch."""

    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        if where.touched_since is not None:
            since = max(where.touched_since, where.after or where.touched_since)
            where = where._replace(touched_since=None, after=since)
        return super().list(where, limit=limit, before_id=before_id)


class FindsTheFirstClaimsAgain(ModelBackend):
    """Whatever it should come behind, a look begins at the front."""

    def find_held(self, owners: Sequence[str], *, limit: int, after: Ref | None = None, **given: Any) -> Held:
        found = super().find_held(owners, limit=limit, **given)
        return found if after is None or found.after != after else Held([], None)


class EndsWithAShortPage(ModelBackend):
    """A page that is not full counts as the last one, though it is short for what cannot be read."""

    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        page = super().list(where, limit=limit, before_id=before_id)
        return page if len(page.rows) == limit else Listed(page.rows, None)


class RescuesUpToTheFirstGap(ModelBackend):
    """A look for claims that is not full counts as the last one, though it is short for what cannot be read."""

    def find_held(self, owners: Sequence[str], *, limit: int, **given: Any) -> Held:
        found = super().find_held(owners, limit=limit, **given)
        return found if len(found.claims) == limit else Held(found.claims, None)


class TakesWhatItCannotRead(ModelBackend):
    """An unreadable claim is set aside though its lease still runs."""

    def find_held(self, owners: Sequence[str], **given: Any) -> Held:
        found = super().find_held(owners, **given)
        for row in self._rows():
            if not self._is_readable(row) and row.claimed_by in owners:
                self._quarantine(row)
        return found


class SetsAsideWithTheOldToken(ModelBackend):
    """An unreadable claim is set aside, and its holder still passes for one."""

    def _quarantine(self, row: JobRow) -> None:
        super()._quarantine(row._replace(claim_token=row.claim_token - 1))


class TellsNobodyOfOrders(ModelBackend):
    """An order is a record like any other."""

    def _write(self, kind: RecordKind, key: str, value: str, now: int) -> int:
        version = super()._write(kind, key, value, now)
        self.store.settings -= kind is RecordKind.ORDER
        return version
