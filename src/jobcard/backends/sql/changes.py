"""A `Change` of core: whether a job, as it stands under its lock, allows it, and the UPDATE that applies it.

What an operator changes is a transaction of its own, and so is what puts parked jobs back in line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from jobcard.backends.base import Verdict
from jobcard.backends.sql import admission, lookup, sealing
from jobcard.backends.sql.connection import Connection, Rows, Step, only_row
from jobcard.backends.sql.errors import UniqueKeyError
from jobcard.backends.sql.rows import to_job
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import or_nothing
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT, Dependent, JobRow, Ref
from jobcard.core.states import ENDED, After, Change, Now, check_settable
from jobcard.errors import DuplicateJobError


@dataclass(slots=True)
class Standing:
    """How a job stands while its row is locked by us: what a change asks of it."""

    state: str
    token: int
    version: int
    lease_until: int | None

    def verdict(self, token: int, change: Change, now: int) -> Verdict | None:
        """Why a change by the holder of this token does not apply; None: it does."""
        if self.token != token:
            return Verdict.LOST
        if self.state not in change.sources:
            return Verdict.MINE
        return None if self.allows(change, now) else Verdict.LOST

    def allows(self, change: Change, now: int) -> bool:
        """The job is in a state, of a version and with a lease that the change may start from."""
        return (
            self.state in change.sources
            and (change.version is None or self.version == change.version)
            and (not change.lapsed or (self.lease_until is not None and self.lease_until <= now))
        )

    def apply(self, change: Change, now: int) -> None:
        """Stand from now on as the change leaves the job."""
        self.state = str(change.target)
        self.token += change.takes
        self.version += 1
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


def apply_by_operator(
    connection: Connection, sql: Statements, job_id: bytes, change: Change, now: int | None
) -> JobRow | None:
    """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
    apply_it = partial(_apply_by_operator, connection, sql, job_id, change, now)
    try:
        row = connection.again(apply_it)
    except UniqueKeyError as error:
        duplicate = _duplicate(connection, sql, job_id)
        if duplicate is not None:
            raise duplicate from error
        # Whoever held the key has ended since.
        row = connection.again(apply_it)
    if row is not None and row.limit_key is not None:
        # It may have stood in line before others of its key.
        admission.let_in_after(connection, sql, [row.limit_key])
    return row


def _apply_by_operator(
    connection: Connection, sql: Statements, job_id: bytes, change: Change, clock: int | None
) -> JobRow | None:
    with connection.transaction():
        asked = [Step(sql["lock_id"], {"id": job_id}), Step(sql["moment"], {"now": clock})]
        found, moment = sealing.begin(connection, sql, *asked)
        now: int = only_row(moment)[0]
        if not found:
            return None
        ref, *how = found[0]
        if not Standing(*how).allows(change, now):
            return None
        ledger = Ledger(sql)
        if asked := ledger.look([(ref, change)]):
            ledger.learn(connection.run(asked))
        *_, rows = connection.commit(
            apply(sql, change, ref, now),
            *ledger.keep(ref, change, now),
            Step(sql["raise_rings"]),
            Step(sql["get"], {"ids": [job_id]}),
        )
    return to_job(only_row(rows))


def _duplicate(connection: Connection, sql: Statements, job_id: bytes) -> DuplicateJobError | None:
    [row] = lookup.get_jobs(connection, sql, [job_id])
    holders = connection.execute(sql["find_unique_keys"], {"keys": [row.unique_key]})
    if not holders:
        return None
    existing = UUID(bytes=holders[0][1])
    return DuplicateJobError(UUID(bytes=job_id), existing, "a living job holds its unique key")


def unpark(connection: Connection, sql: Statements, names: Sequence[str], now: int | None) -> int:
    """Put jobs parked under these names back in line; how many."""
    known = or_nothing([name for name in names if sql.can_look_for(name)])
    with connection.transaction():
        [rows] = sealing.begin(connection, sql, Step(sql["parked"], {"names": known}))
        refs = sorted(n for (n,) in rows)
        if refs:
            connection.commit(Step(sql["unpark"], {"refs": refs, "now": now}), Step(sql["raise_rings"]))
    return len(refs)


def release_dependents(connection: Connection, sql: Statements, those: Sequence[Dependent], now: int | None) -> int:
    """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
    with connection.transaction():
        seen = {one.id: one.version for one in those}
        [rows] = sealing.begin(connection, sql, Step(sql["lock_dependents"], {"ids": or_nothing([*seen])}))
        refs = sorted(n for n, job_id, version in rows if seen[job_id] == version)
        if refs:
            connection.commit(Step(sql["release_dependents"], {"refs": refs, "now": now}), Step(sql["raise_rings"]))
    return len(refs)
