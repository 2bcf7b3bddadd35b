"""Which rows there are, and which there are not: every rule has a row that breaks it and no other."""

from __future__ import annotations

import pytest

from jobcard.core import soundness
from jobcard.core.job import JobRow
from jobcard.core.soundness import faults
from jobcard.core.states import JobState

HELD = {"claimed_by": "engine", "lease_until": 60, "claimed_at": 5, "attempt": 1, "claim_token": 1}
LET_GO = {**HELD, "claimed_by": None, "lease_until": None, "finished_at": 9}

SOUND = {
    JobState.WAITING: {"attempt": 2, "claim_token": 4, "crashes": 1, "error_kind": "X", "cancel_requested": "canceled"},
    JobState.CLAIMED: HELD,
    JobState.RUNNING: {**HELD, "started_at": 6, "cancel_requested": "canceled"},
    JobState.COMPLETED: {**LET_GO, "started_at": 6, "result": "3", "expires_at": 99},
    JobState.FAILED: {**LET_GO, "started_at": 6, "reason": "error", "error_kind": "X"},
    JobState.CANCELED: {"finished_at": 9, "reason": "canceled", "claim_token": 1},
}


def row(state: str, **fields: object) -> JobRow:
    """A sound job in a state, but for these fields."""
    plain: dict[str, object] = dict.fromkeys(JobRow._fields)
    plain |= {"attempt": 0, "max_attempts": 5, "crashes": 0, "max_crashes": 3, "interrupts": 0, "claim_token": 0}
    return JobRow(**{**plain, **SOUND.get(JobState(state), {}), "state": state, **fields})  # type: ignore[arg-type]


SPOILED = [
    ("claimed", {"claimed_by": None}, "is at work and nobody holds it"),
    ("running", {"lease_until": None}, "is at work without a lease, so nobody ever rescues it"),
    ("completed", {"claimed_by": "engine"}, "is held by an engine and not at work"),
    ("waiting", {"lease_until": 60}, "has a lease and is not at work"),
    ("waiting", {"hold": "coffee"}, "is under a hold there is not"),
    ("running", {"hold": "parked"}, "is under a hold and not waiting"),
    ("waiting", {"hold": "limit", "limit_key": "k"}, "waits for the limit of a key and has none"),
    ("waiting", {"limit_key": "k", "rate_count": 3}, "has half a rate"),
    ("claimed", {"claimed_at": None}, "is at work and was never claimed"),
    ("waiting", {"started_at": 6}, "is waiting and claimed or started"),
    ("claimed", {"started_at": 6}, "is claimed and started already"),
    ("failed", {"finished_at": None}, "has ended at no time"),
    ("waiting", {"finished_at": 9}, "has the time of its end and goes on"),
    ("running", {"expires_at": 9}, "is to be deleted and goes on"),
    ("failed", {"reason": None}, "has failed or was canceled for no reason"),
    ("completed", {"reason": "error"}, "has a reason to have failed and has not"),
    ("failed", {"result": "3"}, "has a result and is not completed"),
    ("completed", {"cancel_requested": "x"}, "has ended and is asked to"),
    ("waiting", {"crashes": -1}, "has a count below 0"),
    ("waiting", {"attempt": 6, "claim_token": 9}, "has had more attempts than it may"),
    ("completed", {"attempt": 0}, "was worked on in no attempt"),
    ("waiting", {"attempt": 2, "claim_token": 1}, "was claimed less often than it was tried"),
]


@pytest.mark.parametrize("state", SOUND)
def test_a_sound_row_has_no_fault(state: JobState) -> None:
    """In every state there is a row with all that may be in it."""
    assert list(faults(row(state))) == []


@pytest.mark.parametrize(("state", "fields", "words"), SPOILED, ids=[words for _, _, words in SPOILED])
def test_a_spoiled_row_has_this_fault_alone(state: str, fields: dict[str, object], words: str) -> None:
    """What one wrong field says, and nothing else."""
    assert list(faults(row(state, **fields))) == [words]


def test_every_rule_is_tried_here() -> None:
    """A new rule comes with a row that breaks it."""
    assert {words for _, _, words in SPOILED} == {rule.text for rule in soundness._RULES}


def test_a_state_there_is_not() -> None:
    """Nothing else can be said of such a row."""
    assert list(faults(row("waiting")._replace(state="sleeping"))) == ["is in a state there is not"]


def test_a_broken_job_may_say_so() -> None:
    """What was set aside because it cannot be read has that as its reason, and waits."""
    assert list(faults(row("waiting", hold="broken", reason="broken"))) == []


def test_a_value_of_another_kind_is_a_fault() -> None:
    """Text where a number belongs does not stop the look."""
    assert "has a count below 0" in list(faults(row("waiting", attempt="two")))
