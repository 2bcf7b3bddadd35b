"""Every move of a job: where it starts and ends, what it costs, and whom it takes the job from."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from jobcard.core import states
from jobcard.core.job import Claimed, Dependent, JobRow
from jobcard.core.states import AT_WORK, ENDED, NOW, WAITING, After, Change, Hold, JobState

ERROR = '{"kind":"error"}'
FAILED, CANCELED = JobState.FAILED, JobState.CANCELED


def claim(**changes: object) -> Claimed:
    """A job claimed for its second try of five, due since 100, ordered 7 before that."""
    plain: dict[str, object] = dict.fromkeys(Claimed._fields)
    plain |= {"ref": 1, "token": 3, "state": "claimed", "id": bytes(16), "queue": "default", "name": "job"}
    plain |= {
        "args": "[]",
        "kwargs": "{}",
        "priority": 0,
        "rank": 0,
        "order_at": 93,
        "order_offset": -7,
        "available_at": 100,
    }
    plain |= {"attempt": 2, "max_attempts": 5, "crashes": 0, "max_crashes": 3, "interrupts": 0, "backoff": ""}
    return Claimed(**{**plain, **changes})  # type: ignore[arg-type]


def row(**changes: object) -> JobRow:
    """A job as an operator finds it."""
    plain: dict[str, object] = dict.fromkeys(JobRow._fields)
    plain |= {
        "id": bytes(16),
        "state": "waiting",
        "order_at": 93,
        "order_offset": -7,
        "available_at": 100,
        "attempt": 2,
    }
    return JobRow(**{**plain, **changes})  # type: ignore[arg-type]


def rescue(held: Claimed, *, lapsed: bool = True) -> Change:
    return states.rescue(held, error=ERROR, lapsed=lapsed)


HOLDERS: dict[str, Callable[[Claimed], Change]] = {
    "complete": lambda held: states.complete("1"),
    "fail": lambda held: states.fail(held, reason="fail", error=ERROR, kind="fail"),
    "fail_refused": lambda held: states.fail_refused(held, error=ERROR),
    "retry": lambda held: states.retry(held, reason="error", delay=5, error=ERROR, kind="error"),
    "crash": lambda held: states.crash(held, reason="crash", delay=5, error=ERROR, kind="crash"),
    "snooze": lambda held: states.snooze(held, delay=5),
    "cancel": lambda held: states.cancel_at_work(held, reason="cancel"),
    "hand_back": states.hand_back,
    "interrupt": lambda held: states.interrupt(held, error=ERROR),
    "park": states.park,
    "start": lambda held: states.start(held, ago=5),
    "note": lambda held: states.note(held, ago=5, progress="{}", checkpoint="1", lines=((3, "text"),)),
    "suspect": lambda held: states.suspect(held, error=ERROR),
    "rescue": lambda held: rescue(held),
}
OPERATORS: dict[str, Callable[[], Change]] = {
    "cancel_waiting": lambda: states.cancel_waiting(reason="operator"),
    "cancel_dependent": lambda: states.cancel_dependent(Dependent(b"1" * 16, None, 1), error="{}"),
    "ask_to_cancel": lambda: states.ask_to_cancel(row(state="running"), reason="operator"),
    "retry_ended": lambda: states.retry_ended(row(state="failed")),
    "run_now": lambda: states.run_now(row(hold=Hold.DELAY)),
    "snooze_waiting": lambda: states.snooze_waiting(row(), delay=5),
    "claim_by_id": lambda: states.claim_by_id(row(), owner="test", lease=5),
}
CLAIMS = [
    claim(**given)
    for given in (
        {},
        {"state": "running"},
        {"attempt": 1},
        {"attempt": 5},
        {"attempt": 5, "state": "running"},
        {"max_attempts": 1, "attempt": 1, "state": "running"},
        {"crashes": 2},
        {"crashes": 3, "state": "running"},
        {"crashes": 9},
        {"interrupts": 10},
        {"interrupts": 10, "attempt": 5},
    )
]


def every_change() -> list[tuple[str, Claimed | None, Change]]:
    held = [(name, job, move(job)) for name, move in HOLDERS.items() for job in CLAIMS]
    return [*held, *((name, None, move()) for name, move in OPERATORS.items())]


EVERY = [pytest.param(name, job, change, id=name) for name, job, change in every_change()]


def test_every_move_is_listed_here() -> None:
    """A new function that gives a Change is not forgotten by the rules below."""
    tree = ast.parse(Path(states.__file__).read_text())
    moves = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and ast.unparse(node.returns or node) == "Change"
    }
    assert {name.replace("cancel_at_work", "cancel") for name in moves} == HOLDERS.keys() | OPERATORS.keys()


# ------------------------------------------------------------------ rules that hold for all


@pytest.mark.parametrize(("name", "job", "change"), EVERY)
def test_a_move_goes_between_states_that_are_drawn(name: str, job: Claimed | None, change: Change) -> None:
    """Holders move jobs at work; only an operator's retry leaves an end state, and only a claim claims."""
    if job is not None:
        assert change.sources == AT_WORK
        assert change.target in WAITING | ENDED | {JobState.RUNNING}
    elif name == "retry_ended":
        assert (change.sources, change.target) == ({FAILED, CANCELED}, JobState.WAITING)
    elif name == "claim_by_id":
        assert (change.sources, change.target) == (WAITING, JobState.CLAIMED)
    else:
        assert change.sources in (WAITING, {JobState.RUNNING})
        assert change.target in change.sources | {CANCELED}
    assert (change.target is JobState.RUNNING) == (name in ("start", "note", "ask_to_cancel"))
    assert (change.target is JobState.CLAIMED) == (name == "claim_by_id")


@pytest.mark.parametrize(("name", "job", "change"), EVERY)
def test_a_move_that_takes_the_job_raises_the_token(name: str, job: Claimed | None, change: Change) -> None:
    """Rescues, operators and claims take; a holder's own outcome and a request to stop do not."""
    taking = {"rescue", "cancel_waiting", "cancel_dependent", "retry_ended", "run_now", "snooze_waiting", "claim_by_id"}
    assert change.takes == (name in taking)
    assert change.lapsed == (name == "rescue")


@pytest.mark.parametrize(("name", "job", "change"), EVERY)
def test_a_job_nobody_holds_has_no_holder(name: str, job: Claimed | None, change: Change) -> None:
    """Whoever lets go of a job clears owner and lease; an end has its time and answers a request to cancel."""
    if change.sources <= AT_WORK and change.target not in AT_WORK:
        for field in ("claimed_by", "lease_until"):
            assert change.sets[field] is None
    if change.target in ENDED:
        assert change.sets["cancel_requested"] is None
        assert change.sets["finished_at"] == NOW
        assert "available_at" not in change.sets
    if change.sources <= AT_WORK and change.target is JobState.WAITING:
        # A new wait has no start, but keeps a request to cancel: whoever claims it next hears of it.
        assert "cancel_requested" not in change.sets
        assert change.sets["claimed_at"] is None
        assert change.sets["started_at"] is None


@pytest.mark.parametrize(("name", "job", "change"), EVERY)
def test_a_move_sets_fields_that_exist_to_values_a_store_knows(name: str, job: Claimed | None, change: Change) -> None:
    """No host's clock gets into a row: times are now, after a delay, or cleared."""
    assert change.sets.keys() <= set(JobRow._fields) - {"state", "claim_token", "id", "queue", "name", "version"}
    for field, value in change.sets.items():
        if field.endswith("_at") or field == "lease_until":
            assert value is None or isinstance(value, (After, type(NOW)))
        elif field in ("attempt", "crashes", "interrupts"):
            assert type(value) is int
            assert value >= 0
        else:
            assert value is None or isinstance(value, str)


@pytest.mark.parametrize(("name", "job", "change"), EVERY)
def test_an_attempt_is_returned_or_spent(name: str, job: Claimed | None, change: Change) -> None:
    """The claim counted the attempt: a move gives it back by one or leaves it; a recorded try says its number."""
    if job is None:
        return
    spent = change.sets.get("attempt", job.attempt)
    returned = name in ("snooze", "hand_back", "park")
    # One that may start only once has started; and nobody is interrupted for ever.
    returned |= name == "interrupt" and job.interrupts < states.MAX_INTERRUPTS and job.max_attempts > 1
    returned |= name == "suspect" and job.max_attempts > 1
    returned |= name == "rescue" and job.state == "claimed"
    assert spent == job.attempt - returned
    if change.error is not None:
        assert change.attempt == job.attempt


# ------------------------------------------------------------------ each move


def test_a_claim_by_id_counts_the_attempt() -> None:
    """As the claim of a store does: it has an owner and a lease, and is the next try."""
    change = states.claim_by_id(row(), owner="test", lease=5)
    assert change.sets == {"claimed_by": "test", "claimed_at": NOW, "lease_until": After(5), "attempt": 3}


def test_complete_keeps_the_result() -> None:
    """A job that returned keeps its result and its attempt."""
    change = states.complete('"x"')
    assert (change.verb, change.target, change.sets["result"]) == ("complete", JobState.COMPLETED, '"x"')
    assert change.error is None


def test_fail_says_why() -> None:
    """A job that failed keeps reason and kind, and the try is recorded."""
    change = states.fail(claim(), reason="timeout", error=ERROR, kind="timeout")
    assert (change.target, change.sets["reason"], change.sets["error_kind"]) == (FAILED, "timeout", "timeout")
    assert (change.error, change.attempt) == (ERROR, 2)


def test_a_retry_waits_behind_its_delay() -> None:
    """It is due after the delay, held until then, and keeps its place relative to when it is due."""
    change = states.retry(claim(), reason="error", delay=50, error=ERROR, kind="error")
    assert change.target is JobState.WAITING
    assert change.sets["available_at"] == After(50)
    assert change.sets["order_at"] == After(43)
    assert change.sets["hold"] is Hold.DELAY
    assert change.sets["error_kind"] == "error"
    assert "reason" not in change.sets
    at_once = states.retry(claim(), reason="error", delay=0, error=ERROR, kind="error")
    assert at_once.sets["hold"] is None


@pytest.mark.parametrize("move", ["retry", "crash"])
def test_the_last_attempt_fails_the_job(move: str) -> None:
    """After `max_attempts` tries there is no other."""
    assert HOLDERS[move](claim(attempt=4)).target is JobState.WAITING
    for attempt in (5, 6):
        change = HOLDERS[move](claim(attempt=attempt))
        assert change.target is FAILED
        assert change.error == ERROR
    assert HOLDERS[move](claim(attempt=1, max_attempts=1)).target is FAILED


def test_a_crash_counts_both_ways() -> None:
    """A worker's death spends the attempt and adds a crash; the last allowed crash fails the job."""
    change = states.crash(claim(crashes=1), reason="memory", delay=5, error=ERROR, kind="memory")
    assert (change.target, change.sets["crashes"]) == (JobState.WAITING, 2)
    assert "attempt" not in change.sets
    last = states.crash(claim(crashes=2), reason="memory", delay=5, error=ERROR, kind="memory")
    assert (last.target, last.sets["crashes"], last.sets["reason"]) == (FAILED, 3, "memory")


def test_a_hand_back_changes_no_place_in_line() -> None:
    """A job that never started goes back to where it was, and nothing of the try is recorded."""
    change = states.hand_back(claim())
    assert change.sets.keys().isdisjoint({"available_at", "order_at", "hold", "crashes", "error_kind"})
    assert change.sets["attempt"] == 1
    assert change.error is None


def test_ten_interrupts_are_free_then_they_cost() -> None:
    """An engine that stops gives the attempt back ten times; then the try counts, and may be the last."""
    for before in range(states.MAX_INTERRUPTS):
        change = states.interrupt(claim(interrupts=before), error=ERROR)
        assert (change.sets["interrupts"], change.sets["attempt"]) == (before + 1, 1)
        assert "available_at" not in change.sets
    spent = states.interrupt(claim(interrupts=10), error=ERROR)
    assert (spent.verb, spent.target, spent.sets["error_kind"]) == ("retry", JobState.WAITING, "interrupted")
    assert states.interrupt(claim(interrupts=10, attempt=5), error=ERROR).target is FAILED


def test_a_parked_job_is_held() -> None:
    """It waits under a hold, so nobody claims it until the hold is lifted."""
    change = states.park(claim())
    assert (change.target, change.sets["hold"]) == (JobState.WAITING, Hold.PARKED)


def test_a_late_start_is_dated_back() -> None:
    """The start is written when the job has run a while, with the time it began."""
    change = states.start(claim(), ago=300_000)
    assert (change.target, change.sets) == (JobState.RUNNING, {"started_at": After(-300_000)})


def test_a_note_changes_only_what_it_says() -> None:
    """Progress, checkpoint and lines, each alone; and the start, when nobody has stamped it."""
    assert states.note(claim(), ago=None, progress="{}").sets == {"progress": "{}"}
    assert states.note(claim(), ago=None, checkpoint="[1]").sets == {"checkpoint": "[1]"}
    change = states.note(claim(), ago=300_000, lines=((7, "earlier"), (0, "now")))
    assert change.sets == {"started_at": After(-300_000)}
    assert (change.target, change.lines, change.error) == (JobState.RUNNING, ((7, "earlier"), (0, "now")), None)


def test_a_suspect_is_not_blamed_but_runs_alone_in_the_end() -> None:
    """Near one crash after the other it keeps its attempt and its place, and never fails by that alone."""
    job = claim(attempt=5, crashes=0)
    for crashes in range(1, 6):
        assert states.must_run_alone(job) == (crashes > 3)
        change = states.suspect(job, error=ERROR)
        assert (change.target, change.sets["attempt"], change.sets["crashes"]) == (JobState.WAITING, 4, crashes)
        assert change.sets.keys().isdisjoint({"available_at", "order_at", "hold"})
        assert (change.error, change.attempt) == (ERROR, 5)
        job = job._replace(crashes=crashes)


def test_a_suspect_that_may_start_only_once_has_failed() -> None:
    """It may have run."""
    change = states.suspect(claim(max_attempts=1, attempt=1), error=ERROR)
    assert (change.target, change.sets["reason"]) == (FAILED, "interrupted")


# ------------------------------------------------------------------ rescue


def test_a_rescued_job_that_had_not_started_gets_its_attempt_back() -> None:
    """It adds a crash, is recorded as no try, and never fails by it, however often its engines die."""
    for crashes in (0, 2, 3, 50):
        change = rescue(claim(crashes=crashes))
        assert change.target is JobState.WAITING
        assert (change.sets["attempt"], change.sets["crashes"]) == (1, crashes + 1)
        assert change.error is None
        assert change.sets.keys().isdisjoint({"available_at", "order_at", "hold"})
    last = rescue(claim(attempt=5))
    assert (last.target, last.sets["attempt"]) == (JobState.WAITING, 4)


def test_a_rescued_job_that_ran_has_spent_its_attempt() -> None:
    """It adds a crash and is recorded as lost."""
    change = rescue(claim(state="running"))
    assert (change.target, change.sets["crashes"], change.sets["error_kind"]) == (JobState.WAITING, 1, "lost")
    assert "attempt" not in change.sets
    assert (change.error, change.attempt) == (ERROR, 2)


def test_a_rescue_by_lease_holds_only_while_the_lease_is_over() -> None:
    """Whoever only saw a lease run out may have read it before a renewal; who knows the engine dead has not."""
    for state in ("claimed", "running"):
        assert rescue(claim(state=state), lapsed=True).lapsed
        assert not rescue(claim(state=state), lapsed=False).lapsed


def test_a_rescued_job_out_of_attempts_fails() -> None:
    """A job that may have run its last try is not run again."""
    for given in ({"attempt": 5}, {"attempt": 1, "max_attempts": 1}):
        change = rescue(claim(state="running", **given))
        assert (change.target, change.sets["reason"], change.sets["error_kind"]) == (FAILED, "crash", "lost")
        assert change.takes


def test_a_job_that_kills_engines_runs_alone_once_more_then_fails() -> None:
    """With `max_crashes` 3: three rescues, then alone, and the fourth crash ends it."""
    job = claim(state="running", attempt=1, max_attempts=100)
    alone = []
    for attempt in range(1, 10):
        job = job._replace(attempt=attempt)
        alone.append(states.must_run_alone(job))
        change = rescue(job)
        if change.target is FAILED:
            break
        job = job._replace(crashes=change.sets["crashes"])  # type: ignore[arg-type]
    assert alone == [False, False, False, True]
    assert change.sets["crashes"] == 4


def test_who_must_run_alone() -> None:
    """Jobs that may start only once, and those that have used up their crashes."""
    assert not states.must_run_alone(claim())
    assert not states.must_run_alone(claim(crashes=2))
    assert states.must_run_alone(claim(crashes=3))
    assert states.must_run_alone(claim(crashes=4))
    assert states.must_run_alone(claim(max_attempts=1))
    assert states.must_run_alone(claim(crashes=1, max_crashes=1))


# ------------------------------------------------------------------ operators


def test_a_waiting_job_that_is_canceled_never_starts() -> None:
    """It ends at once, its hold lifted, whatever that was."""
    change = states.cancel_waiting(reason="why")
    assert (change.sources, change.target) == (WAITING, CANCELED)
    assert (change.sets["reason"], change.sets["hold"]) == ("why", None)


def test_a_job_at_work_is_asked_to_stop() -> None:
    """Its holder keeps the claim until it has stopped, and its state is not set back if it moved on."""
    for state in AT_WORK:
        change = states.ask_to_cancel(row(state=state.value), reason="why")
        assert change.sets == {"cancel_requested": "why"}
        assert change.sources == {change.target} == {state}
        assert not change.takes


def test_an_operators_retry_starts_over() -> None:
    """Attempt, crashes and interrupts begin anew; result, reason and stamps are cleared; the errors stay."""
    change = states.retry_ended(row(state="failed", order_at=200, available_at=300))
    assert {change.sets[field] for field in ("attempt", "crashes", "interrupts")} == {0}
    cleared = ("result", "reason", "error_kind", "progress", "claimed_at", "started_at", "finished_at", "expires_at")
    assert all(change.sets[field] is None for field in cleared)
    assert (change.sets["available_at"], change.sets["order_at"], change.sets["hold"]) == (After(0), After(-7), None)


@pytest.mark.parametrize("hold", [Hold.AFTER, Hold.BATCH, Hold.PARKED, Hold.BROKEN])
def test_running_now_or_later_lifts_no_other_hold(hold: Hold) -> None:
    """A job that waits for others, or is parked, keeps waiting for that; its place in line moves with its time."""
    for change, delay in ((states.run_now(row(hold=hold)), 0), (states.snooze_waiting(row(hold=hold), delay=5), 5)):
        assert change.sets == {"available_at": After(delay), "order_at": After(delay - 7)}


def test_a_job_held_by_its_key_waits_for_its_time_instead() -> None:
    """Put off by an operator it is delayed: its key, having room, must not let it in before."""
    later = states.snooze_waiting(row(hold=Hold.LIMIT), delay=60)
    assert (later.sets["available_at"], later.sets["hold"]) == (After(60), Hold.DELAY)
    assert states.run_now(row(hold=Hold.LIMIT)).sets["hold"] is None


def test_running_now_and_later() -> None:
    """A delayed job becomes due now, a due one later."""
    now = states.run_now(row(hold=Hold.DELAY))
    assert (now.sets["available_at"], now.sets["order_at"], now.sets["hold"]) == (After(0), After(-7), None)
    later = states.snooze_waiting(row(), delay=60)
    assert (later.sets["available_at"], later.sets["order_at"], later.sets["hold"]) == (
        After(60),
        After(53),
        Hold.DELAY,
    )
