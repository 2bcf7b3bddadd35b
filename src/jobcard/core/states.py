"""Every state of a job and every move between them, each once. Core decides, stores obey.

    waiting ──claim──► claimed ──start──► running
       ▲                  │                  │
       │◄── hand back, retry, snooze, interrupt, rescue
       │                  │                  │
       │                  └─ complete · fail · cancel ─► completed │ failed │ canceled
       └────────────────────────── operator's retry ──────────────────┘

Two moves have statements of their own in each store, because they are the hot path: `claim` (waiting →
claimed, attempt + 1, token + 1) and `complete` (claimed or running → completed; `complete()` below says
with which fields). All others are a `Change` that a store applies as it is.

The fence: a holder's `Change` applies only while id, state and claim token are as they were at its claim.
A change with `takes=True` raises the token, so whoever held the job is refused from then on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from jobcard.errors import InvalidJobError

if TYPE_CHECKING:
    from jobcard.core.job import Claimed, Dependent, JobRow


class JobState(StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


WAITING = frozenset({JobState.WAITING})
AT_WORK = frozenset({JobState.CLAIMED, JobState.RUNNING})
ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELED})
ALIVE = WAITING | AT_WORK
RETRYABLE = frozenset({JobState.FAILED, JobState.CANCELED})
"""Where an operator may run a job again from the start."""
ALLOWED: Mapping[str, frozenset[JobState]] = MappingProxyType(
    {"cancel": ALIVE, "retry": RETRYABLE, "run_now": WAITING, "snooze": WAITING, "delete": ENDED}
)
"""What an operator may do to a job, and in which states."""


def in_order(states: Collection[JobState]) -> tuple[JobState, ...]:
    """These states as a job goes through them, for people to read."""
    return tuple(state for state in JobState if state in states)


class Hold(StrEnum):
    """Why a waiting job may not be claimed."""

    DELAY = "delay"
    """Not due yet; `exchange` lifts it when the time has come."""
    LIMIT = "limit"
    """As many jobs with its limit key are at work as may be; `exchange` lifts it when one of them is not any more."""
    AFTER = "after"
    """Waits for other jobs."""
    BATCH = "batch"
    """Its batch is not stored whole yet: for a store that cannot store many jobs in one step. None of ours sets it."""
    PARKED = "parked"
    """No live engine knows its name."""
    BROKEN = "broken"
    """Its record is unreadable."""


@dataclass(frozen=True, slots=True)
class Now:
    """Filled in by the store's own clock when the change is applied."""


class After(NamedTuple):
    """The store's clock plus `delay` microseconds (may be negative: an order before now)."""

    delay: int


NOW = Now()

# What no job keeps once nobody holds it. A request to cancel stays with a job that goes back to waiting: whoever
# claims it next is told with that claim and cancels it unstarted.
_LET_GO: Mapping[str, object] = {"claimed_by": None, "lease_until": None}


class Change(NamedTuple):
    """One move of a job, ready for a store to apply as a compare-and-set.

    `sets` holds exactly the fields that change; absent means untouched, None means cleared, `Now()` and
    `After(delay)` are filled in by the store's clock: core never puts a host's time into a row.
    """

    verb: str
    sources: frozenset[JobState]
    target: JobState
    sets: Mapping[str, object] = MappingProxyType({})
    takes: bool = False
    """Raise the claim token: the job is taken from whoever holds it."""
    lapsed: bool = False
    """Apply only while the lease has run out, by the store's clock at the moment of applying."""
    version: int | None = None
    """Apply only while the job's row is of this version: as it was read; None: whatever became of it since."""
    error: str | None = None
    """JSON of the try that ended here, stored as an `Attempt` record in the same step; None: nothing."""
    attempt: int = 0
    """The number of that try."""
    lines: tuple[tuple[int, str], ...] = ()
    """Log lines of the job, stored in the same step: (microseconds before now, text), oldest first."""


SETTABLE = frozenset(
    {
        "rank", "order_at", "hold", "attempt", "crashes", "interrupts",
        "available_at", "claimed_at", "started_at", "finished_at", "expires_at",
        "claimed_by", "lease_until", "cancel_requested",
        "reason", "error_kind", "progress", "checkpoint", "result",
    }
)  # fmt: skip
"""The fields that a change may set: where a job stands and what came of it, never what was asked for with it.

State, token and version follow from the move; each store sees to them itself.
"""


def check_settable(names: Iterable[str]) -> None:
    """`InvalidJobError` when one of these is a field that no change may set."""
    if unknown := sorted(set(names) - SETTABLE):
        raise InvalidJobError(f"a change may not set {', '.join(unknown)}")


# ------------------------------------------------------------------ a claim, where no engine claims


def claim_by_id(row: JobRow, *, owner: str, lease: int) -> Change:
    """Claim this job, whatever stands before it in line: a test runs it at once. lease: microseconds."""
    return Change(
        verb="claim",
        sources=WAITING,
        target=JobState.CLAIMED,
        sets={"claimed_by": owner, "claimed_at": NOW, "lease_until": After(lease), "attempt": row.attempt + 1},
        takes=True,
    )


# ------------------------------------------------------------------ moves of a holder


def complete(result: str | None) -> Change:
    """The job returned. Stores do the same from columns in their `complete` statement."""
    return Change(
        verb="complete",
        sources=AT_WORK,
        target=JobState.COMPLETED,
        sets={**_LET_GO, "cancel_requested": None, "result": result, "finished_at": NOW},
    )


def _ended(
    claim: Claimed,
    verb: str,
    target: JobState,
    reason: str,
    *,
    error: str | None,
    kind: str | None,
    **counters: int,
) -> Change:
    return Change(
        verb=verb,
        sources=AT_WORK,
        target=target,
        sets={
            **_LET_GO,
            "cancel_requested": None,
            "reason": reason,
            "error_kind": kind,
            "finished_at": NOW,
            **counters,
        },
        error=error,
        attempt=claim.attempt,
    )


def _back(
    claim: Claimed,
    verb: str,
    *,
    delay: int | None,
    error: str | None = None,
    kind: str | None = None,
    **counters: int,
) -> Change:
    """Back to waiting: after `delay`, or where it was in line when that is None."""
    sets: dict[str, object] = {**_LET_GO, "claimed_at": None, "started_at": None, **counters}
    if delay is not None:
        sets |= _due_after(delay, order_offset=claim.order_offset)
    if kind is not None:
        sets["error_kind"] = kind
    return Change(
        verb=verb,
        sources=AT_WORK,
        target=JobState.WAITING,
        sets=sets,
        error=error,
        attempt=claim.attempt,
    )


def _due_after(delay: int, *, order_offset: int) -> dict[str, object]:
    return {
        "available_at": After(delay),
        "order_at": After(delay + order_offset),
        "hold": Hold.DELAY if delay > 0 else None,
    }


def fail(claim: Claimed, *, reason: str, error: str | None, kind: str | None) -> Change:
    """The job ended without a result and is not tried again."""
    return _ended(claim, "fail", JobState.FAILED, reason, error=error, kind=kind)


def fail_refused(claim: Claimed, *, error: str | None) -> Change:
    """The store could not keep how the job ended: it failed, and why is said instead."""
    return fail(claim, reason="serialization", error=error, kind="serialization")


def retry(claim: Claimed, *, reason: str, delay: int, error: str, kind: str | None) -> Change:
    """The try failed; run again after `delay`, or fail with `reason` when no attempt is left."""
    if claim.attempt >= claim.max_attempts:
        return fail(claim, reason=reason, error=error, kind=kind)
    return _back(claim, "retry", delay=delay, error=error, kind=kind)


def crash(claim: Claimed, *, reason: str, delay: int, error: str, kind: str | None) -> Change:
    """The worker died running this job: a spent attempt and a crash; the last allowed one fails it.

    reason: `crash`, or `memory` when the memory limit killed it.
    """
    crashes = claim.crashes + 1
    if claim.attempt >= claim.max_attempts or crashes >= claim.max_crashes:
        return _ended(claim, "crash", JobState.FAILED, reason, error=error, kind=kind, crashes=crashes)
    return _back(claim, "crash", delay=delay, error=error, kind=kind, crashes=crashes)


def snooze(claim: Claimed, *, delay: int) -> Change:
    """Put a job at work back for `delay` without spending the attempt."""
    return _back(claim, "snooze", delay=delay, attempt=claim.attempt - 1)


def cancel_at_work(claim: Claimed, *, reason: str, error: str | None = None) -> Change:
    """End a job at work as canceled: it asked for it, or was told to stop and did."""
    return _ended(claim, "cancel", JobState.CANCELED, reason, error=error, kind=None)


def hand_back(claim: Claimed) -> Change:
    """Give an unstarted job back to where it was in line, its attempt returned."""
    return _back(claim, "hand_back", delay=None, attempt=claim.attempt - 1)


MAX_INTERRUPTS = 10


def interrupt(claim: Claimed, *, error: str) -> Change:
    """The engine stops under a running job: back in line, the attempt returned, at most ten times."""
    if claim.max_attempts == 1:
        # It may start only once, and it has.
        return fail(claim, reason="interrupted", error=error, kind="interrupted")
    interrupts = claim.interrupts + 1
    if interrupts > MAX_INTERRUPTS:
        return retry(claim, reason="interrupted", delay=0, error=error, kind="interrupted")
    return _back(claim, "interrupt", delay=None, error=error, attempt=claim.attempt - 1, interrupts=interrupts)


def park(claim: Claimed) -> Change:
    """No live engine knows this name: out of the line until one does, the attempt returned."""
    change = _back(claim, "park", delay=None, attempt=claim.attempt - 1)
    return change._replace(sets={**change.sets, "hold": Hold.PARKED})


def start(claim: Claimed, *, ago: int) -> Change:
    """The job began `ago` microseconds before now. Written late, and only for jobs that take a while."""
    return Change(verb="start", sources=AT_WORK, target=JobState.RUNNING, sets={"started_at": After(-ago)})


def note(
    claim: Claimed,
    *,
    ago: int | None,
    progress: str | None = None,
    checkpoint: str | None = None,
    lines: tuple[tuple[int, str], ...] = (),
) -> Change:
    """What a running job says of itself; only what is given changes.

    ago: it began so many microseconds before now; None: its start is stamped already.
    """
    sets: dict[str, object] = {} if ago is None else {"started_at": After(-ago)}
    if progress is not None:
        sets["progress"] = progress
    if checkpoint is not None:
        sets["checkpoint"] = checkpoint
    return Change(verb="note", sources=AT_WORK, target=JobState.RUNNING, sets=sets, lines=lines)


def suspect(claim: Claimed, *, error: str) -> Change:
    """A worker died that ran this job beside others: nobody is blamed until the job has run alone.

    Its attempt is returned and the crash counted; `must_run_alone` once it was near too many.
    """
    if claim.max_attempts == 1:
        return fail(claim, reason="interrupted", error=error, kind="interrupted")
    return _back(claim, "suspect", delay=None, error=error, attempt=claim.attempt - 1, crashes=claim.crashes + 1)


# ------------------------------------------------------------------ taking from a dead owner


def rescue(claim: Claimed, *, error: str, lapsed: bool) -> Change:
    """Take a job from an engine that is gone.

    lapsed: all we know is that its lease has run out, so it is taken only if that still holds when the change
    is applied: what was read may be older than a renewal. False: its processes are known to be dead.
    One that ran keeps its attempt spent and gains a crash; after `max_crashes` it has run alone once more
    (see `must_run_alone`) and fails. One that had not started gets its attempt back.
    """
    return _rescued(claim, error)._replace(takes=True, lapsed=lapsed)


def _rescued(claim: Claimed, error: str) -> Change:
    crashes = claim.crashes + 1
    if claim.state == JobState.CLAIMED:
        return _back(claim, "rescue", delay=None, attempt=claim.attempt - 1, crashes=crashes)
    if claim.attempt >= claim.max_attempts or crashes > claim.max_crashes:
        return _ended(claim, "rescue", JobState.FAILED, "crash", error=error, kind="lost", crashes=crashes)
    return _back(claim, "rescue", delay=0, error=error, kind="lost", crashes=crashes)


def must_run_alone(claim: Claimed) -> bool:
    """Whether to stamp the job `running` before a worker gets it, and keep nothing behind it.

    So it can be told afterwards whether it ran: for jobs that may start only once, and for those that
    were often near when something died.
    """
    return claim.max_attempts == 1 or claim.crashes >= claim.max_crashes


# ------------------------------------------------------------------ moves of an operator


def cancel_waiting(*, reason: str) -> Change:
    """A waiting job that is canceled never starts."""
    return Change(
        verb="cancel",
        sources=WAITING,
        target=JobState.CANCELED,
        sets={**_LET_GO, "cancel_requested": None, "hold": None, "reason": reason, "finished_at": NOW},
        takes=True,
    )


def cancel_dependent(one: Dependent, *, error: str) -> Change:
    """A job that waits for others, and for what will never come, does not run; error: which, and why.

    Only as it was read: whoever replaces it decides anew what it waits for.
    """
    return cancel_waiting(reason="dependency")._replace(version=one.version, error=error)


def ask_to_cancel(row: JobRow, *, reason: str) -> Change:
    """A job at work is told to stop by its engine; the holder keeps its claim until it has."""
    # From exactly the state that was read: a job that moved on meanwhile must not be set back.
    state = JobState(row.state)
    return Change(verb="cancel", sources=frozenset({state}), target=state, sets={"cancel_requested": reason})


def retry_ended(row: JobRow) -> Change:
    """Run a failed or canceled job again from the start: due now, attempt 0, id and errors kept."""
    return Change(
        verb="retry",
        sources=RETRYABLE,
        target=JobState.WAITING,
        sets={
            **_LET_GO,
            "cancel_requested": None,
            **_due_after(0, order_offset=row.order_offset),
            "attempt": 0,
            "crashes": 0,
            "interrupts": 0,
            "result": None,
            "reason": None,
            "error_kind": None,
            "progress": None,
            "claimed_at": None,
            "started_at": None,
            "finished_at": None,
            "expires_at": None,
        },
        takes=True,
    )


def run_now(row: JobRow) -> Change:
    """A delayed job becomes due now."""
    return _moved(row, "run_now", delay=0)


def snooze_waiting(row: JobRow, *, delay: int) -> Change:
    """A waiting job becomes due `delay` from now."""
    return _moved(row, "snooze", delay=delay)


def _moved(row: JobRow, verb: str, *, delay: int) -> Change:
    sets = _due_after(delay, order_offset=row.order_offset)
    if row.hold not in (None, Hold.DELAY, Hold.LIMIT):
        del sets["hold"]  # whatever else it waits for, it goes on waiting for that
    return Change(verb=verb, sources=WAITING, target=JobState.WAITING, sets=sets, takes=True)
