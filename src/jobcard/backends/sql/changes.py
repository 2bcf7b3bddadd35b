"""A `Change` of core: whether a job, as it stands under its lock, allows it, and the UPDATE that applies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobcard.backends.base import Verdict
from jobcard.backends.sql.connection import Rows, Step
from jobcard.backends.sql.statements import Statements
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT, Ref
from jobcard.core.states import ENDED, After, Change, Now, check_settable


@dataclass(slots=True)
class Standing:
    """How a job stands while its row is locked by us: what a change asks of it."""

    state: str
    token: int
    hold: str | None
    lease_until: int | None

    def verdict(self, token: int, change: Change, now: int) -> Verdict | None:
        """Why a change by the holder of this token does not apply; None: it does."""
        if self.token != token:
            return Verdict.LOST
        if self.state not in change.sources:
            return Verdict.MINE
        return None if self.allows(change, now) else Verdict.LOST

    def allows(self, change: Change, now: int) -> bool:
        """The job is in a state, under a hold and with a lease that the change may start from."""
        return (
            self.state in change.sources
            and (change.hold is None or self.hold == change.hold)
            and (not change.lapsed or (self.lease_until is not None and self.lease_until <= now))
        )

    def apply(self, change: Change, now: int) -> None:
        """Stand from now on as the change leaves the job."""
        self.state = str(change.target)
        self.token += change.takes
        if "hold" in change.sets:
            self.hold = change.sets["hold"]  # type: ignore[assignment]
        if "lease_until" in change.sets:
            self.lease_until = _filled_in(change.sets["lease_until"], now)  # type: ignore[assignment]


def apply(sql: Statements, change: Change, ref: Ref, now: int) -> Step:
    """The step that applies a change to a job that was found to allow it."""
    check_settable(change.sets)
    quote = sql.dialect.quote
    assignments = ["state = %(target)s", *(f"{quote}{name}{quote} = %(new_{name})s" for name in change.sets)]
    values: dict[str, object] = {"ref": ref, "target": change.target, "now": now}
    values |= {f"new_{name}": _filled_in(value, now) for name, value in change.sets.items()}
    if change.target in ENDED and "expires_at" not in change.sets:
        assignments.append("expires_at = %(now)s + keep")
    if change.takes:
        assignments.append("claim_token = claim_token + 1")
    assignments.append("version = version + 1")
    return Step(sql["apply"].replace("{assignments}", ", ".join(assignments)), values)


def _filled_in(value: object, now: int) -> object:
    if isinstance(value, Now):
        return now
    return now + value.delay if isinstance(value, After) else value


class Ledger:
    """Where the records of some jobs, tries and log lines, go on; read once their rows are locked."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._tries: dict[Ref, int] = {}
        self._lines: dict[Ref, tuple[int, int]] = {}

    def look(self, changes: list[tuple[Ref, Change]]) -> list[Step]:
        """What to ask before `keep`; the answers go to `learn`."""
        steps = []
        if tried := sorted({ref for ref, change in changes if change.error is not None}):
            steps.append(Step(self._sql["last_tries"], {"refs": tried}))
        if logged := sorted({ref for ref, change in changes if change.lines}):
            steps.append(Step(self._sql["last_lines"], {"refs": logged}))
        return steps

    def learn(self, answers: Sequence[Rows]) -> None:
        """Take in the answers of `look`."""
        for row in (row for rows in answers for row in rows):
            if len(row) == 2:
                self._tries[row[0]] = row[1]
            else:
                self._lines[row[0]] = (row[1], row[2])

    def keep(self, ref: Ref, change: Change, now: int) -> list[Step]:
        """The steps that store what a change brings beside the job; only the newest are kept."""
        steps = []
        if change.error is not None:
            place = self._tries[ref] = self._tries.get(ref, 0) + 1
            row = (ref, place, now, change.attempt, change.error)
            steps.append(Step(self._sql["add_attempts"], {"rows": [row]}))
            if place > LAST_ATTEMPTS:
                steps.append(Step(self._sql["trim_attempts"], {"ref": ref, "last": place - LAST_ATTEMPTS}))
        if change.lines:
            place, behind = self._lines.get(ref, (0, 0))
            rows = []
            for ago, text in change.lines:
                place += 1
                rows.append((ref, place, behind, now - ago, text))
                behind += len(text)
            self._lines[ref] = (place, behind)
            steps.append(Step(self._sql["add_lines"], {"rows": rows}))
            if place > LAST_LINES or behind > LINES_TEXT:
                oldest = {"ref": ref, "last": place - LAST_LINES, "text": behind - LINES_TEXT}
                steps.append(Step(self._sql["trim_lines"], oldest))
        return steps
