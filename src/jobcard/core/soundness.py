"""Rows that no move of `states.py` can make: which combinations of state, hold, holder, stamps and counts there are.

What is here holds for every job in every store at every moment. The conformance suite demands it after each step, and
`jobcard doctor` looks for rows that break it: somebody wrote into the store by hand, a disk lied, or jobcard has a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from jobcard.core.job import JobRow
from jobcard.core.states import ALIVE, AT_WORK, ENDED, Hold, JobState


class _Rule(NamedTuple):
    """Of a job in one of these states this is never true; `text` says it of the job."""

    states: frozenset[JobState]
    breaks: Callable[[JobRow], bool]
    text: str


_ANY = frozenset(JobState)
_UNSUCCESSFUL = frozenset({JobState.FAILED, JobState.CANCELED})
_RAN = frozenset({JobState.COMPLETED, JobState.FAILED})

_RULES = (
    # who holds it
    _Rule(AT_WORK, lambda row: row.claimed_by is None, "is at work and nobody holds it"),
    _Rule(AT_WORK, lambda row: row.lease_until is None, "is at work without a lease, so nobody ever rescues it"),
    _Rule(_ANY - AT_WORK, lambda row: row.claimed_by is not None, "is held by an engine and not at work"),
    _Rule(_ANY - AT_WORK, lambda row: row.lease_until is not None, "has a lease and is not at work"),
    # why it may not be claimed
    _Rule(_ANY, lambda row: row.hold is not None and row.hold not in frozenset(Hold), "is under a hold there is not"),
    _Rule(_ANY - {JobState.WAITING}, lambda row: row.hold is not None, "is under a hold and not waiting"),
    _Rule(
        _ANY,
        lambda row: row.hold == Hold.LIMIT and (row.limit_key is None or row.key_limit is None),
        "waits for the limit of a key and has none",
    ),
    _Rule(_ANY, lambda row: (row.rate_count is None) != (row.rate_per is None), "has half a rate"),
    # its stamps
    _Rule(AT_WORK, lambda row: row.claimed_at is None, "is at work and was never claimed"),
    _Rule(
        frozenset({JobState.WAITING}),
        lambda row: row.claimed_at is not None or row.started_at is not None,
        "is waiting and claimed or started",
    ),
    _Rule(frozenset({JobState.CLAIMED}), lambda row: row.started_at is not None, "is claimed and started already"),
    _Rule(ENDED, lambda row: row.finished_at is None, "has ended at no time"),
    _Rule(ALIVE, lambda row: row.finished_at is not None, "has the time of its end and goes on"),
    _Rule(ALIVE, lambda row: row.expires_at is not None, "is to be deleted and goes on"),
    # how it ended
    _Rule(_UNSUCCESSFUL, lambda row: row.reason is None, "has failed or was canceled for no reason"),
    _Rule(
        _ANY - _UNSUCCESSFUL,
        lambda row: row.reason is not None and row.hold != Hold.BROKEN,
        "has a reason to have failed and has not",
    ),
    _Rule(_ANY - {JobState.COMPLETED}, lambda row: row.result is not None, "has a result and is not completed"),
    _Rule(ENDED, lambda row: row.cancel_requested is not None, "has ended and is asked to"),
    # its counts
    _Rule(_ANY, lambda row: min(row.attempt, row.crashes, row.interrupts, row.claim_token) < 0, "has a count below 0"),
    _Rule(_ANY, lambda row: row.attempt > row.max_attempts, "has had more attempts than it may"),
    _Rule(AT_WORK | _RAN, lambda row: row.attempt < 1, "was worked on in no attempt"),
    # Every claim adds one to both, and only the attempt is ever given back.
    _Rule(_ANY, lambda row: row.claim_token < row.attempt, "was claimed less often than it was tried"),
)


def faults(row: JobRow) -> Iterator[str]:
    """Everything about a job that no move can have made, as what stands behind "this job"; nothing of a sound one."""
    if row.state not in _ANY:
        yield "is in a state there is not"
        return
    for rule in _RULES:
        if row.state in rule.states and _breaks(rule, row):
            yield rule.text


def _breaks(rule: _Rule, row: JobRow) -> bool:
    try:
        return rule.breaks(row)
    except TypeError:  # something else than a number where one belongs
        return True
