"""Whether what several threads saw of one job can have happened one step after the other.

A history is linearizable when each operation can be given one instant between its call and its answer so that, in the
order of these instants, each answer is what the rules say. The search is that of Wing and Gong with the memory of
Lowe: (operations done, job as it is then) is looked at once. Of an operation whose answer was lost nothing is known:
it may have happened at any time after its call, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jobcard.backends.base import Verdict
from jobcard.conformance.rules import allows, changed, claimed_of, has_lapsed, is_at_work, taken
from jobcard.core.job import Claimed, JobRow
from jobcard.core.states import Change

UNKNOWN = "unknown"
"""The answer of an operation that failed: it was applied or not."""
NEVER = 1 << 62

Step = Callable[[JobRow], tuple[object, JobRow]]
"""What the rules say of an operation on a job: the answer, and the job afterwards."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one job. began, ended: of the call, by one clock for all threads."""

    thread: int
    began: int
    ended: int
    text: str
    step: Step
    answer: object

    def __str__(self) -> str:
        return f"thread {self.thread} {self.began}–{self.ended}: {self.text} -> {self.answer}"


# ------------------------------------------------------------------ one job by the rules


def settle(token: int, change: Change, now: int) -> Step:
    """A holder's change; the answer is its verdict, None when it applied."""

    def step(row: JobRow) -> tuple[object, JobRow]:
        if row.claim_token != token:
            return Verdict.LOST, row
        if row.state not in change.sources:
            return Verdict.MINE, row
        if not allows(row, change, now):
            return Verdict.LOST, row
        return None, changed(row, change, now)

    return step


def operate(change: Change, now: int) -> Step:
    """An operator's change; the answer is the job after it, None when its state did not allow it."""

    def step(row: JobRow) -> tuple[object, JobRow]:
        if not allows(row, change, now):
            return None, row
        after = changed(row, change, now)
        return after, after

    return step


def claim(owner: str, lease: int, now: int) -> Step:
    """A claim that gave this job; the answer is what the engine got."""

    def step(row: JobRow) -> tuple[object, JobRow]:
        if row.state != "waiting" or row.hold is not None:
            return None, row
        after = taken(row, owner, lease, now)
        return without_ref(claimed_of(after)), after

    return step


def renew(owner: str, token: int, lease: int, now: int) -> Step:
    """A renewal; the answer is whether the claim is held."""

    def step(row: JobRow) -> tuple[object, JobRow]:
        if row.claim_token != token or row.claimed_by != owner or not is_at_work(row) or has_lapsed(row, now):
            return False, row
        return True, row._replace(lease_until=now + lease)

    return step


def look(row: JobRow) -> tuple[object, JobRow]:
    """The job is read."""
    return row, row


def find_held(owners: Sequence[str], now: int, *, lapsed: bool) -> Step:
    """Claims of these owners and lapsed ones are looked for; the answer is this job's, None: not found.

    lapsed: it was found as lapsed. That may be old by the time it is read, which whoever takes it has to check.
    """

    def step(row: JobRow) -> tuple[object, JobRow]:
        found = is_at_work(row) and (row.claimed_by in owners or lapsed or has_lapsed(row, now))
        return without_ref(claimed_of(row)) if found else None, row

    return step


def without_ref(claimed: Claimed) -> Claimed:
    """A claim but for the store's own name of the job."""
    return claimed._replace(ref=b"")


# ------------------------------------------------------------------ the search


class _Seen(NamedTuple):
    """Which operations are done, as bits, and the job as it is then."""

    done: int
    row: JobRow


def explain(operations: Sequence[Operation], first: JobRow) -> str | None:
    """Why no order of these operations on the job explains their answers; None: there is one."""
    history = sorted(operations, key=lambda operation: operation.began)
    answered = sum(1 << place for place, operation in enumerate(history) if operation.answer is not UNKNOWN)
    start = _Seen(0, first)
    came_from: dict[_Seen, tuple[_Seen, int] | None] = {start: None}
    open_ends = [start]
    furthest = start
    while open_ends:
        seen = open_ends.pop()
        if seen.done & answered == answered:
            return None
        if seen.done.bit_count() > furthest.done.bit_count():
            furthest = seen
        for place in _next_ones(history, seen.done):
            operation = history[place]
            answer, row = operation.step(seen.row)
            if operation.answer is UNKNOWN or answer == operation.answer:
                then = _Seen(seen.done | 1 << place, row)
                if then not in came_from:
                    came_from[then] = (seen, place)
                    open_ends.append(then)
    return _story(history, furthest, came_from)


def _next_ones(history: Sequence[Operation], done: int) -> list[int]:
    """The operations that may come next: those that were called before any other that is left was answered."""
    first_left = (~done & done + 1).bit_length() - 1
    until, found = NEVER + 1, []
    for place in range(first_left, len(history)):
        if history[place].began > until:
            break
        if not done >> place & 1:
            found.append(place)
            until = min(until, history[place].ended)
    return [place for place in found if history[place].began <= until]


def _story(history: Sequence[Operation], furthest: _Seen, came_from: dict[_Seen, tuple[_Seen, int] | None]) -> str:
    """What can be explained, up to where nothing can."""
    path: list[Operation] = []
    seen = furthest
    while (before := came_from[seen]) is not None:
        seen, place = before
        path.append(history[place])
    lines = [f"{len(path)} of {len(history)} operations can be explained, the last of them:"]
    lines += [f"  {operation}" for operation in path[:6][::-1]]
    lines += [f"then the job is {shown(furthest.row)}, and none of these can come next:"]
    for place in _next_ones(history, furthest.done):
        answer, _row = history[place].step(furthest.row)
        lines.append(f"  {history[place]}\n    by the rules: {answer}")
    return "\n".join(lines)


def shown(row: JobRow) -> str:
    """What matters of a job here."""
    return f"{row.state}, token {row.claim_token}, held by {row.claimed_by} until {row.lease_until}"
