"""What an exchange answers: completions, verdicts, cancels, settings, the next due time."""

from __future__ import annotations

from functools import partial

from jobcard.backends.base import Backend, Completions, Outcome, Refusal, Verdict, Want
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed
from jobcard.core.states import Change


def _verdicts(refusals: list[Refusal]) -> list[tuple[object, int, Verdict]]:
    return sorted(((refusal.ref, refusal.token, refusal.verdict) for refusal in refusals), key=str)


def check_a_completion_ends_the_job(backend: Backend, clock: FrozenClock) -> None:
    """A completed job has its result and its stamps, and nobody holds it."""
    claim = factory.claimed_job(backend)
    before = factory.row_of(backend, claim.id)
    clock.advance(3)
    assert factory.complete(backend, claim, result='{"a": 1}', started_ago=micros(2)) == []
    expected = before._replace(
        state="completed", result='{"a": 1}', finished_at=clock.now(), started_at=clock.now() - micros(2),
        claimed_by=None, lease_until=None, cancel_requested=None,
    )  # fmt: skip
    after = factory.row_of(backend, claim.id)
    assert factory.without_version(after) == factory.without_version(expected)
    assert backend.attempts([claim.id]) == []


def check_a_running_job_completes_too(backend: Backend, clock: FrozenClock) -> None:
    """A job stamped running completes like one that is only claimed."""
    claim = factory.running_job(backend)
    clock.advance(3)
    assert factory.complete(backend, claim, result="1", started_ago=micros(3)) == []
    row = factory.row_of(backend, claim.id)
    assert (row.state, row.result, row.started_at) == ("completed", "1", clock.now() - micros(3))


def check_results_come_back_as_the_same_bytes(backend: Backend) -> None:
    """A result is opaque text, and None is no result."""
    for result in (None, "null", '""', '["é 😀 \\u0000 % \' \\\\"]', " [1 ,2] ", '"' + "x" * 500_000 + '"'):
        claim = factory.claimed_job(backend)
        assert factory.complete(backend, claim, result=result) == []
        assert factory.row_of(backend, claim.id).result == result


def check_each_completion_gets_its_own_result(backend: Backend) -> None:
    """Columns belong together by place: every job gets its own result and start."""
    factory.enqueue_several(backend, 20)
    claims = factory.claim_some(backend, 20)[::-1]
    done = Completions(
        refs=[claim.ref for claim in claims],
        tokens=[claim.token for claim in claims],
        results=[f'"{claim.id.hex()}"' for claim in claims],
        started_ago=[1_000 * place for place in range(20)],
    )
    assert backend.exchange("engine", completions=done).refusals == []
    for place, claim in enumerate(claims):
        row = factory.row_of(backend, claim.id)
        assert (row.result, row.finished_at) == (f'"{claim.id.hex()}"', (row.started_at or 0) + 1_000 * place)


def check_completing_leaves_other_jobs_alone(backend: Backend) -> None:
    """Only the job that was named ends."""
    claim = factory.claimed_job(backend)
    states_of_others = ("waiting", "claimed", "running", "completed", "failed", "canceled")
    others = [factory.job_in_state(backend, state) for state in states_of_others]
    before = factory.rows_of(backend, others)
    factory.complete(backend, claim)
    assert factory.rows_of(backend, others) == before


def check_a_wrong_token_is_refused(backend: Backend) -> None:
    """A completion or outcome whose token is not the job's changes nothing and is `LOST`."""
    claim = factory.running_job(backend)
    before = factory.row_of(backend, claim.id)
    for token in (claim.token - 1, claim.token + 1, 0, -1, claim.token + 1000):
        wrong = claim._replace(token=token)
        expected = [(claim.ref, token, Verdict.LOST)]
        assert _verdicts(factory.complete(backend, wrong)) == expected
        assert _verdicts(factory.settle(backend, wrong, states.hand_back(claim))) == expected
        failed = states.fail(claim, reason="error", error=factory.ERROR, kind="X")
        assert _verdicts(factory.settle(backend, wrong, failed)) == expected
    assert factory.row_of(backend, claim.id) == before
    assert backend.attempts([claim.id]) == []


def check_a_job_that_is_gone_is_lost(backend: Backend) -> None:
    """The late outcome of a job that was deleted is `LOST`, and brings nothing back."""
    claim = factory.claimed_job(backend)
    factory.complete(backend, claim)
    assert backend.delete([claim.id]) == 1
    assert _verdicts(factory.complete(backend, claim)) == [(claim.ref, claim.token, Verdict.LOST)]
    failed = states.fail(claim, reason="error", error=factory.ERROR, kind="X")
    assert _verdicts(factory.settle(backend, claim, failed)) == [(claim.ref, claim.token, Verdict.LOST)]
    assert (backend.get([claim.id]), backend.attempts([claim.id])) == ([], [])


def check_a_ref_of_a_deleted_job_is_not_given_to_another(backend: Backend) -> None:
    """An old proof never fits a job stored after its own was deleted."""
    old = factory.claimed_job(backend)
    factory.complete(backend, old)
    backend.delete([old.id])
    new = factory.claimed_job(backend)
    assert _verdicts(factory.complete(backend, old)) == [(old.ref, old.token, Verdict.LOST)]
    assert factory.row_of(backend, new.id).state == "claimed"


def check_an_answer_lost_after_the_commit_is_found_to_be_ours(backend: Backend, clock: FrozenClock) -> None:
    """Repeating an exchange whose answer was lost: every write is `MINE` and no job changes again."""
    factory.enqueue_several(backend, 9)
    claims = factory.claim_some(backend, 9)
    done = factory.completions_of(claims[:3], result="1", started_ago=5_000)
    moves = [
        states.fail(claims[3], reason="error", error=factory.ERROR, kind="X"),
        states.retry(claims[4], reason="error", delay=micros(9), error=factory.ERROR, kind="X"),
        states.snooze(claims[5], delay=micros(9)),
        states.cancel_at_work(claims[6], reason="canceled"),
        states.hand_back(claims[7]),
        states.interrupt(claims[8], error=factory.ERROR),
    ]
    outcomes = [Outcome(claim.ref, claim.token, move) for claim, move in zip(claims[3:], moves, strict=True)]
    assert backend.exchange("engine", completions=done, outcomes=outcomes).refusals == []
    ids = [claim.id for claim in claims]
    before, tries = factory.rows_of(backend, ids), backend.attempts(ids)
    clock.advance(1)
    again = backend.exchange("engine", completions=done, outcomes=outcomes)
    assert _verdicts(again.refusals) == sorted(((c.ref, c.token, Verdict.MINE) for c in claims), key=str)
    assert factory.rows_of(backend, ids) == before
    assert backend.attempts(ids) == tries


def check_strays_of_a_lost_answer_are_found_by_their_owner(backend: Backend) -> None:
    """Jobs claimed in an exchange whose answer was lost are the owner's, and can be handed back."""
    ids = factory.enqueue_several(backend, 4)
    known = factory.claim_some(backend, 1)
    done = factory.completions_of(known)
    want = Want([("default", 2)], 2)
    backend.exchange("engine", completions=done, want=want, lease=factory.LEASE)  # the answer is lost
    again = backend.exchange("engine", completions=done)
    assert ([refusal.verdict for refusal in again.refusals], again.claimed) == ([Verdict.MINE], [])
    strays = backend.find_held(["engine"], lapsed=False, limit=100).claims
    assert sorted(claim.id for claim in strays) == ids[1:3]
    back = [Outcome(claim.ref, claim.token, states.hand_back(claim)) for claim in strays]
    assert backend.exchange("engine", outcomes=back).refusals == []
    rows = factory.rows_of(backend, ids)
    assert [(rows[job_id].state, rows[job_id].attempt) for job_id in ids] == [("completed", 1)] + [("waiting", 0)] * 3


def check_a_retried_and_reclaimed_job_is_lost_to_its_first_claim(backend: Backend) -> None:
    """When the job was claimed again, a repeat of the earlier outcome is `LOST`: it belongs to the new claim."""
    first = factory.claimed_job(backend, queue="default")
    back = states.retry(first, reason="error", delay=0, error=factory.ERROR, kind="X")
    factory.settle(backend, first, back)
    second = factory.claim_one(backend, owner="other")
    before = factory.row_of(backend, first.id)
    assert _verdicts(factory.settle(backend, first, back)) == [(first.ref, first.token, Verdict.LOST)]
    assert _verdicts(factory.complete(backend, first)) == [(first.ref, first.token, Verdict.LOST)]
    assert factory.row_of(backend, first.id) == before
    assert factory.complete(backend, second, owner="other") == []


def check_one_bad_outcome_takes_no_other_with_it(backend: Backend) -> None:
    """Whatever does not apply is refused on its own; everything else of the exchange applies."""
    factory.enqueue_several(backend, 8)
    claims = factory.claim_some(backend, 7)
    factory.complete(backend, claims[0])
    stale = claims[1]._replace(token=claims[1].token - 1)
    done = factory.completions_of([claims[0], claims[2], stale, claims[3]])
    outcomes = [
        Outcome(stale.ref, stale.token, states.hand_back(stale)),
        Outcome(claims[4].ref, claims[4].token, states.hand_back(claims[4])),
        Outcome(claims[0].ref, claims[0].token, states.hand_back(claims[0])),
        Outcome(claims[5].ref, claims[5].token, states.snooze(claims[5], delay=5_000)),
    ]
    answer = backend.exchange(
        "engine", completions=done, outcomes=outcomes, want=Want([("default", 1)], 1), lease=factory.LEASE
    )
    expected = [(claims[0].ref, claims[0].token, Verdict.MINE), (stale.ref, stale.token, Verdict.LOST)] * 2
    assert _verdicts(answer.refusals) == sorted(expected, key=str)
    assert len(answer.claimed) == 1
    found = [factory.row_of(backend, claim.id).state for claim in claims]
    assert found == ["completed", "claimed", "completed", "completed", "claimed", "waiting", "claimed"]


def check_a_value_the_store_cannot_take_is_refused_alone(backend: Backend) -> None:
    """A text without bytes leaves its job as it was and is `REFUSED` with a reason; the others are settled."""
    factory.enqueue_several(backend, 5)
    claims = factory.claim_some(backend, 5)
    before = factory.rows_of(backend, [claim.id for claim in claims])
    bad = '"\ud800"'
    done = Completions(
        refs=[claim.ref for claim in claims[:3]],
        tokens=[claim.token for claim in claims[:3]],
        results=["1", bad, "3"],
        started_ago=[0, 0, 0],
    )
    outcomes = [
        Outcome(claims[3].ref, claims[3].token, states.fail(claims[3], reason="error", error=bad, kind="X")),
        Outcome(claims[4].ref, claims[4].token, states.fail(claims[4], reason="error", error="{}", kind="X")),
    ]
    answer = backend.exchange("engine", completions=done, outcomes=outcomes)
    expected = [(claims[place].ref, claims[place].token, Verdict.REFUSED) for place in (1, 3)]
    assert _verdicts(answer.refusals) == sorted(expected, key=str)
    assert all(refusal.why for refusal in answer.refusals)
    rows = factory.rows_of(backend, [claim.id for claim in claims])
    assert [rows[claim.id].state for claim in claims] == ["completed", "claimed", "completed", "claimed", "failed"]
    assert [rows[claims[place].id] for place in (1, 3)] == [before[claims[place].id] for place in (1, 3)]
    assert backend.attempts([claims[3].id]) == []


def check_a_completion_before_an_outcome_of_the_same_claim_wins(backend: Backend) -> None:
    """Of two endings of one claim in one exchange the completion stands."""
    claim = factory.claimed_job(backend)
    failed = Outcome(claim.ref, claim.token, states.fail(claim, reason="error", error=factory.ERROR, kind="X"))
    answer = backend.exchange("engine", completions=factory.completions_of([claim]), outcomes=[failed])
    assert _verdicts(answer.refusals) == [(claim.ref, claim.token, Verdict.MINE)]
    assert factory.row_of(backend, claim.id).state == "completed"
    assert backend.attempts([claim.id]) == []


def check_outcomes_of_one_claim_apply_in_their_order(backend: Backend) -> None:
    """A late start followed by the end of the same claim both apply."""
    claim = factory.claimed_job(backend)
    outcomes = [
        Outcome(claim.ref, claim.token, states.start(claim, ago=7_000)),
        Outcome(claim.ref, claim.token, states.fail(claim, reason="error", error=factory.ERROR, kind="X")),
    ]
    assert backend.exchange("engine", outcomes=outcomes).refusals == []
    row = factory.row_of(backend, claim.id)
    assert (row.state, row.started_at) == ("failed", (row.finished_at or 0) - 7_000)


def check_a_job_that_ends_keeps_its_own_time(backend: Backend, clock: FrozenClock) -> None:
    """Every end stamps `expires_at` with now plus the job's `keep`; without one it stays empty."""

    def ends(claim: Claimed) -> dict[str, Change | None]:
        return {
            "completed": None,
            "failed": states.fail(claim, reason="error", error=factory.ERROR, kind="X"),
            "canceled": states.cancel_at_work(claim, reason="canceled"),
        }

    for keep, expires_after in ((None, None), (0, 0), (micros(60), micros(60))):
        for state in ("completed", "failed", "canceled"):
            claim = factory.claimed_job(backend, keep=keep)
            clock.advance(1)
            change = ends(claim)[state]
            refusals = factory.settle(backend, claim, change) if change else factory.complete(backend, claim)
            assert refusals == []
            row = factory.row_of(backend, claim.id)
            expected = None if expires_after is None else clock.now() + expires_after
            assert (row.state, row.expires_at) == (state, expected)


def check_an_exchange_of_nothing_changes_nothing(backend: Backend) -> None:
    """An engine may ask without bringing or wanting anything."""
    ids = [factory.job_in_state(backend, state) for state in ("waiting", "claimed", "running", "completed")]
    before = factory.rows_of(backend, ids)
    answer = backend.exchange("engine")
    assert (answer.claimed, answer.refusals, answer.cancels) == ([], [], [])
    assert factory.rows_of(backend, ids) == before


def check_cancels_reach_the_holder_and_nobody_else(backend: Backend) -> None:
    """An engine learns with every exchange which of its own jobs shall stop and why, until they have ended."""
    mine, other = factory.claimed_job(backend, owner="mine"), factory.running_job(backend, owner="other")
    untouched = factory.claimed_job(backend, owner="mine")
    for claim, reason in ((mine, "too late"), (other, "wrong")):
        ask = states.ask_to_cancel(factory.row_of(backend, claim.id), reason=reason)
        assert backend.apply_by_operator(claim.id, ask) is not None
    for _ in range(2):
        assert backend.exchange("mine").cancels == [(mine.ref, "too late")]
    assert backend.exchange("other").cancels == [(other.ref, "wrong")]
    assert backend.exchange("third").cancels == []
    done = Outcome(mine.ref, mine.token, states.cancel_at_work(mine, reason="canceled"))
    assert backend.exchange("mine", outcomes=[done]).cancels == []
    assert factory.row_of(backend, untouched.id).cancel_requested is None


def check_next_due_says_how_long_until_a_delayed_job(backend: Backend, clock: FrozenClock) -> None:
    """`next_due` is the time to the nearest delayed job of any queue, None without one."""
    want = Want([("default", 1)], 1)
    factory.enqueue(backend, queue="default")
    assert backend.exchange("e", want=want, lease=1).next_due is None
    factory.enqueue(backend, queue="far", delay=micros(90))
    factory.enqueue(backend, queue="near", delay=micros(30))
    assert backend.exchange("e", want=want, lease=1).next_due == micros(30)
    clock.advance(10)
    assert backend.exchange("e", want=want, lease=1).next_due == micros(20)
    assert backend.exchange("e").next_due == micros(20)
    clock.advance(25)
    assert backend.exchange("e", want=want, lease=1).next_due == micros(55)


def check_two_finishers_of_one_claim_settle_it_once(harness: Harness) -> None:
    """When the same outcome is sent twice at once, it applies once and the other is told it was ours."""
    backend = harness.ready()
    here, there = harness.open(), harness.open()
    for _ in range(8):
        claim = factory.claimed_job(backend, max_attempts=9)
        failed = states.retry(claim, reason="error", delay=0, error=factory.ERROR, kind="X")
        send = [partial(factory.settle, at, claim, failed) for at in (here, there)]
        verdicts = sorted(_verdicts(refusals) for refusals in at_once(send))
        assert verdicts == [[], [(claim.ref, claim.token, Verdict.MINE)]]
        assert len(backend.attempts([claim.id])) == 1
    harness.close()


def check_two_endings_of_one_claim_leave_one(harness: Harness) -> None:
    """When a completion races a failure of the same claim, one of them stands whole."""
    backend = harness.ready()
    here, there = harness.open(), harness.open()
    for _ in range(8):
        claim = factory.claimed_job(backend)
        failed = states.fail(claim, reason="error", error=factory.ERROR, kind="X")
        refusals = at_once(
            [
                partial(factory.complete, here, claim, result="1"),
                partial(factory.settle, there, claim, failed),
            ]
        )
        assert sorted(map(len, refusals)) == [0, 1]
        row, tries = factory.row_of(backend, claim.id), backend.attempts([claim.id])
        completed_won = refusals[0] == []
        expected = ("completed", "1", None, 0) if completed_won else ("failed", None, "error", 1)
        assert (row.state, row.result, row.reason, len(tries)) == expected
    harness.close()


def check_a_late_result_races_a_rescue(harness: Harness, clock: FrozenClock) -> None:
    """When a result arrives while its job is rescued, either it stands or it is refused, never both."""
    backend = harness.ready()
    here, there = harness.open(), harness.open()
    for _ in range(8):
        claim = factory.running_job(backend, owner="slow", lease=micros(10))
        clock.advance(11)
        [held] = backend.find_held([], lapsed=True, limit=10).claims
        rescue = states.rescue(held, error=factory.ERROR, lapsed=True)
        late, rescued = at_once(
            [
                partial(factory.complete, here, claim, owner="slow"),
                partial(factory.settle, there, held, rescue, owner="other"),
            ]
        )
        assert sorted([len(late), len(rescued)]) == [0, 1]
        state = factory.row_of(backend, claim.id).state
        assert state == ("completed" if late == [] else "waiting")
        if state == "waiting":
            backend.apply_by_operator(claim.id, states.cancel_waiting(reason="done here"))
    harness.close()
