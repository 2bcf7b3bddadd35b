"""Concurrent histories find stores whose steps are not guarded, and explain what a sound store did."""

from collections.abc import Callable
from functools import partial

import pytest
from broken import claiming, fencing

from jobcard.backends.base import Backend, Verdict
from jobcard.conformance import Crowd, Harness, factory, run_concurrent_histories
from jobcard.conformance.linearizable import NEVER, UNKNOWN, Operation, Step, claim, explain, look, settle, without_ref
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.conformance.rules import row_of
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, JobRow

FOUND = [
    pytest.param(claiming.ClaimsJobsAtWork, id="claim without state guard"),
    pytest.param(claiming.SelectsThenClaims, id="claim in two steps"),
    pytest.param(fencing.FinishesWithoutToken, id="token not checked on finish"),
    pytest.param(fencing.CompletesWhatWasCanceled, id="cancel overwritten by complete"),
    pytest.param(fencing.RenewsWithoutToken, id="renew without guard"),
    pytest.param(fencing.RenewsALeaseThatRanOut, id="renew of a lapsed lease"),
    pytest.param(fencing.RescuesWithoutRaisingTheToken, id="rescue keeps the token"),
    pytest.param(fencing.TakesALeaseThatHolds, id="rescue of a living claim"),
]


def harness_of(kind: type[ModelBackend]) -> Harness:
    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        return partial(kind, ModelStore(clock))

    return Harness(new_store)


@pytest.mark.parametrize("seed", (0, 1_000, 2_000))
@pytest.mark.parametrize("fault", FOUND)
def test_a_planted_fault_is_found(fault: type[ModelBackend], seed: int) -> None:
    """Within the histories of every merge, whatever the first seed."""
    with pytest.raises(AssertionError, match="can be explained"):
        run_concurrent_histories(harness_of(fault), Crowd(first_seed=seed))


def test_what_the_model_does_is_explained() -> None:
    """The rules of one job are the model's."""
    run_concurrent_histories(harness_of(ModelBackend), Crowd(histories=5))


# ------------------------------------------------------------------ the search itself

NOW = 1_000_000
ROW = row_of(factory.new_job(), NOW)


def taken(owner: str, token: int = 1) -> Claimed:
    """The job as this owner gets it."""
    row: JobRow = ROW
    answer: object = None
    for _ in range(token):
        answer, row = claim(owner, 60, NOW)(row._replace(state="waiting"))
    assert isinstance(answer, Claimed)
    return answer


def said(began: int, ended: int, step: Step, answer: object) -> Operation:
    return Operation(0, began, ended, "something", step, answer)


CLAIM = claim("one", 60, NOW)
DONE = settle(1, states.complete("1"), NOW)


def test_two_claims_of_one_job_have_no_order() -> None:
    """Whether they met or came one after the other: somebody would have to give it back first."""
    for begins in (1, 5):
        history = [
            said(0, 3, CLAIM, taken("one")),
            said(begins, 9, claim("two", 60, NOW), taken("two")),
        ]
        assert "1 of 2 operations can be explained" in str(explain(history, ROW))


def test_operations_that_met_may_have_come_in_either_order() -> None:
    """The one that was called later may have happened first."""
    history = [said(2, 9, CLAIM, taken("one")), said(0, 5, DONE, None)]
    assert explain(history, ROW) is None


def test_an_answer_before_the_call_of_another_fixes_their_order() -> None:
    """What was over cannot come after what had not begun."""
    history = [said(6, 9, CLAIM, taken("one")), said(0, 5, DONE, None)]
    assert explain(history, ROW) is not None
    assert explain([history[0], said(0, 5, DONE, Verdict.LOST)], ROW) is None


def test_of_an_operation_without_an_answer_both_is_possible() -> None:
    """It was applied at any time after its call, or never."""
    lost = said(0, NEVER, CLAIM, UNKNOWN)
    claimed = CLAIM(ROW)[1]
    assert explain([lost, said(10, 11, look, ROW)], ROW) is None
    assert explain([lost, said(10, 11, look, claimed)], ROW) is None
    assert explain([lost, said(10, 11, look, ROW), said(12, 13, look, claimed)], ROW) is None
    assert explain([lost, said(10, 11, look, claimed), said(12, 13, look, ROW)], ROW) is not None


def test_a_read_of_what_was_overwritten_is_found() -> None:
    """A stale answer has no place once the newer one was given."""
    claimed = CLAIM(ROW)[1]
    history = [said(0, 1, CLAIM, without_ref(taken("one"))), said(2, 3, look, claimed), said(4, 5, look, ROW)]
    assert "by the rules" in str(explain(history, ROW))
