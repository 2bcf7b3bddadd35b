"""How many at once, in which order, how often and when: what was asked for is what happens."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until
from jobcard import JobFailedError

pytestmark = pytest.mark.turns

SEEN_SECONDS = 10.0  # two are promised


def peak(lab: Lab, ids: set[str] | None = None) -> int:
    """How many runs were at work at the same time, at most."""
    steps = [(event.at, 1, event) for event in lab.events("run-begin")]
    steps += [(event.at, -1, event) for event in lab.events("run-end")]
    steps = [step for step in steps if ids is None or step[2].facts[0] in ids]
    return max(itertools.accumulate(step for _, step, _ in sorted(steps, key=lambda step: step[:2])))


def order(lab: Lab) -> list[str]:
    """The jobs as they began."""
    return [event.facts[0] for event in lab.events("run-begin")]


def ids_of(handles: list[Any]) -> list[str]:
    return [handle.id.hex for handle in handles]


def gate(lab: Lab) -> Path:
    return lab.folder / "gate"


# ------------------------------------------------------------------ how many


@pytest.mark.slow
def test_a_queue_runs_as_many_at_once_as_it_says(lab: Lab) -> None:
    """A queue with concurrency 2 has two jobs at work at most, short or long, while others pass it by."""
    app = lab.app("limits")
    tree = lab.start("limits")
    long = app.until.options(queue="two")
    pairs = lab.enqueue(app, [long.call(str(gate(lab))) for _ in range(20)] + [app.pair.call() for _ in range(200)])
    others = lab.enqueue(app, [app.until.call(str(gate(lab))) for _ in range(20)])
    lab.wait_for(app, lambda n: n["running"] == 10, "every slot to be taken")
    gate(lab).touch()
    lab.drained(app)
    assert tree.stop() == 0
    assert peak(lab, set(ids_of(pairs))) == 2
    assert peak(lab, set(ids_of(others))) >= 8
    assert lab.figures().faults == {}


def test_an_engine_runs_as_many_at_once_as_it_says(lab: Lab) -> None:
    """`max_concurrent_jobs=3`: three jobs at work at most, and three when there are enough."""
    app = lab.app("limits")
    tree = lab.start("limits", "--max-concurrent-jobs", "3")
    lab.enqueue(app, [app.until.call(str(gate(lab))) for _ in range(12)] + [app.work.call() for _ in range(100)])
    lab.wait_for(app, lambda n: n["running"] == 3, "every slot to be taken")
    gate(lab).touch()
    lab.drained(app)
    assert tree.stop() == 0
    assert peak(lab) == 3
    assert lab.figures().faults == {}


def test_ten_blocking_jobs_run_at_once(lab: Lab) -> None:
    """By default ten jobs run at once, however long each blocks, and the eleventh waits."""
    app = lab.app("limits")
    tree = lab.start("limits")
    handles = lab.enqueue(app, [app.until.call(str(gate(lab))) for _ in range(11)])
    lab.wait_for(app, lambda n: n["running"] == 10, "ten running jobs")
    assert len(lab.events("run-begin")) == 10
    gate(lab).touch()
    lab.drained(app)
    assert {handle.refresh().state for handle in handles} == {"completed"}
    assert tree.stop() == 0


def test_a_short_job_does_not_wait_behind_a_long_one(lab: Lab) -> None:
    """What a worker was given ahead is taken back when its first job turns out to be long."""
    app = lab.app("limits")
    tree = lab.start("limits", "--max-concurrent-jobs", "2")
    lab.enqueue(app, [app.work.call() for _ in range(300)])  # short, so that the engine looks far ahead
    lab.drained(app)
    lab.enqueue(app, [app.until.call(str(gate(lab)))])
    behind = lab.enqueue(app, [app.work.call() for _ in range(300)])
    for handle in behind:
        assert handle.result(timeout=30) >= 1
    assert app.jobs.count()["running"] == 1
    gate(lab).touch()
    lab.drained(app)
    assert tree.stop() == 0
    assert lab.figures().faults == {}


# ------------------------------------------------------------------ in which order


def test_jobs_begin_by_priority_and_then_by_age(lab: Lab) -> None:
    """With one slot: queues by priority, in a queue the higher priority first, and among equals the older."""
    app = lab.app("limits")
    tree = lab.start("limits", "--max-concurrent-jobs", "1")
    first = lab.enqueue(app, [app.until.call(str(gate(lab)))])
    lab.wait_for(app, lambda n: n["running"] == 1, "the slot to be taken")
    places = [
        ("low", 5),
        ("default", 0),
        ("default", 7),
        ("high", -3),
        ("default", 0),
        ("default", -1),
        ("high", 0),
        ("low", 5),
        ("default", 7),
    ]
    handles = lab.enqueue(app, [app.work.options(queue=queue, priority=priority).call() for queue, priority in places])
    gate(lab).touch()
    lab.drained(app)
    assert tree.stop() == 0
    rank = {"high": 0, "default": 1, "low": 2}
    expected = sorted(range(len(places)), key=lambda n: (rank[places[n][0]], -places[n][1], n))
    assert order(lab) == ids_of(first) + [ids_of(handles)[n] for n in expected]


def test_equal_jobs_begin_in_the_order_they_came(lab: Lab) -> None:
    """With one slot and one queue the line is a line, also across many claims."""
    app = lab.app("limits")
    handles = lab.enqueue(app, [app.work.call() for _ in range(1500)])
    tree = lab.start("limits", "--max-concurrent-jobs", "1")
    lab.drained(app)
    assert tree.stop() == 0
    assert order(lab) == ids_of(handles)


# ------------------------------------------------------------------ when


def test_a_delayed_job_begins_when_it_is_due(lab: Lab) -> None:
    """`delay` and `at`: not a moment earlier, and soon after; what is due goes first."""
    app = lab.app("limits")
    tree = lab.start("limits")
    began = time.time()
    late = [
        app.work.options(delay=0.8).enqueue(),
        app.work.options(delay=timedelta(seconds=0.8)).enqueue(),
        app.work.options(at=datetime.now(UTC) + timedelta(seconds=0.8)).enqueue(),
    ]
    now = app.work.enqueue()
    far = app.work.options(delay=3600).enqueue()
    assert now.result(timeout=30) == 1
    assert [handle.result(timeout=30) for handle in late] == [1, 1, 1]
    took = time.time() - began
    print(f"jobs due after 0.800 s have ended after {took:.3f} s")
    for handle in late:
        job = handle.refresh()
        assert job.claimed_at is not None and job.claimed_at >= job.available_at
    assert 0.8 <= took < 8
    assert (far.refresh().state, far.refresh().hold) == ("waiting", "delay")
    assert app.jobs.run_now(far.id).hold is None
    assert far.result(timeout=30) > 0
    assert tree.stop() == 0


def test_a_pause_is_seen_by_a_running_engine(lab: Lab) -> None:
    """A paused queue gives no more jobs within two seconds, others go on; a resume is seen as soon."""
    app = lab.app("limits")
    tree = lab.start("limits")
    assert app.work.enqueue().result(timeout=30) == 1
    app.jobs.queues.pause("default")
    paused = time.monotonic()
    probe = app.work.enqueue()

    def still_waits() -> bool:
        # A job that was stored after the pause may slip through before the engine looks; then another one must not.
        nonlocal probe
        other = app.work.options(queue="high").enqueue()
        other.result(timeout=30)
        if probe.refresh().state == "waiting":
            return True
        probe = app.work.enqueue()
        return False

    wait_until(still_waits, "the pause to be seen", timeout=SEEN_SECONDS)
    seen = time.monotonic() - paused
    # Everybody else is served meanwhile, again and again, and it still waits.
    for _ in range(20):
        assert app.work.options(queue="high").enqueue().result(timeout=30) > 0
    assert probe.refresh().state == "waiting"
    app.jobs.queues.resume("default")
    resumed = time.monotonic()
    assert probe.result(timeout=30) > 0
    took = time.monotonic() - resumed
    print(f"pause seen after {seen:.3f} s at most, resume after {took:.3f} s")
    assert took < SEEN_SECONDS
    assert tree.stop() == 0


# ------------------------------------------------------------------ how often


def test_a_failed_try_is_repeated_after_its_backoff(lab: Lab) -> None:
    """Two failures, then success: three attempts, two records, and never sooner than the back-off says."""
    app = lab.app("limits")
    tree = lab.start("limits")
    handle = lab.enqueue(app, [app.fails.call(2)])[0]
    assert handle.result(timeout=30) == 3
    job = handle.refresh()
    assert (job.attempt, job.reason, job.crashes) == (3, None, 0)
    assert [(error["attempt"], error["kind"], error["type"], error["message"]) for error in job.errors] == [
        (1, "error", "ValueError", "try 1"),
        (2, "error", "ValueError", "try 2"),
    ]
    assert "raise ValueError" in job.errors[0]["traceback"]
    assert "workers/runtime.py" not in job.errors[0]["traceback"]
    begins = [event.at / 1e9 for event in lab.events("run-begin")]
    assert all(later - earlier >= 0.2 for earlier, later in itertools.pairwise(begins))
    assert tree.stop() == 0
    assert lab.figures(only="limits.fails").overlap == 0


def test_a_job_that_fails_to_the_end_says_why(lab: Lab) -> None:
    """After `max_attempts` a job is failed, with a record of every try, and its waiter is told."""
    app = lab.app("limits")
    tree = lab.start("limits")
    handle = app.fails.enqueue(99)
    with pytest.raises(JobFailedError, match="try 3") as raised:
        handle.result(timeout=30)
    assert (raised.value.state, raised.value.job_id, len(raised.value.errors)) == ("failed", handle.id, 3)
    job = handle.refresh()
    assert (job.state, job.reason, job.attempt, job.error_kind) == ("failed", "error", 3, "ValueError in limits.fails")
    once = app.fails.options(max_attempts=1).enqueue(99)
    with pytest.raises(JobFailedError):
        once.result(timeout=30)
    assert once.refresh().attempt == 1
    assert tree.stop() == 0


def test_a_custom_backoff_is_computed_where_the_job_ran(lab: Lab) -> None:
    """The application's own function says how long to wait; its delay travels with the outcome."""
    app = lab.app("limits")
    tree = lab.start("limits")
    assert app.fails_by_its_own_clock.enqueue().result(timeout=30) == 3
    first, second, third = (event.at / 1e9 for event in lab.events("run-begin"))
    assert second - first >= 0.1
    assert third - second >= 0.2
    assert tree.stop() == 0


STEERED = {
    # how: (state, reason, attempt, result, kinds of the recorded tries, seconds until the next run at least)
    "Retry": ("completed", None, 2, [2, 2], ["retry"], 0.1),
    "Retry with a delay": ("completed", None, 2, [2, 2], ["retry"], 0.3),
    "Snooze": ("completed", None, 1, [1, 2], [], 0.3),
    "Fail": ("failed", "fail", 1, None, ["fail"], None),
    "Cancel": ("canceled", "not wanted", 1, None, ["cancel"], None),
}


def test_a_job_steers_itself(lab: Lab) -> None:
    """Retry, Snooze, Fail and Cancel do the same raised, past `except Exception`, and returned."""
    app = lab.app("limits")
    tree = lab.start("limits")
    handles = {(how, returns): app.steers.enqueue(how, returns) for how in STEERED for returns in (False, True)}
    lab.drained(app)
    assert tree.stop() == 0
    for (how, returns), handle in handles.items():
        state, reason, attempt, result, kinds, pause = STEERED[how]
        job = handle.refresh()
        told = (job.state, job.reason, job.attempt, job.result, [error["kind"] for error in job.errors])
        assert told == (state, reason, attempt, result, kinds), (how, returns)
        begins = [event.at / 1e9 for event in lab.events("run-begin") if event.facts[0] == job.id.hex]
        assert len(begins) == (1 if pause is None else 2), (how, returns)
        if pause is not None:
            assert begins[1] - begins[0] >= pause, (how, returns)


def test_a_running_job_that_is_canceled_is_killed(lab: Lab) -> None:
    """A cancel reaches a job at work within two seconds; a waiting one never starts."""
    app = lab.app("limits")
    tree = lab.start("limits", "--max-concurrent-jobs", "1")
    engine = tree.engine()
    running, waiting = lab.enqueue(app, [app.until.call(str(gate(lab))), app.work.call()])
    lab.wait_for(app, lambda n: n["running"] == 1, "a running job")
    assert waiting.cancel().state == "canceled"
    asked = time.monotonic()
    assert running.cancel().cancel_requested
    with pytest.raises(JobFailedError):
        running.result(timeout=30)
    print(f"canceled after {time.monotonic() - asked:.3f} s")
    assert (running.refresh().state, running.refresh().reason) == ("canceled", "canceled")
    assert app.work.enqueue().result(timeout=30) == 1
    assert tree.engine() == engine
    assert waiting.id.hex not in order(lab)
    assert tree.stop() == 0


# ------------------------------------------------------------------ what cannot run


def test_a_job_nobody_knows_is_parked_and_harms_nobody(lab: Lab) -> None:
    """A name that the application lacks waits, off the line, with no attempt spent; the jobs behind it run."""
    app = lab.app("limits")
    tree = lab.start("limits")
    unknown = app.jobs.enqueue("limits.of_the_future", [1], strict=False)
    handles = lab.enqueue(app, [app.work.call() for _ in range(20)])
    assert [handle.result(timeout=30) for handle in handles] == [1] * 20
    wait_until(lambda: unknown.refresh().hold == "parked", "the unknown job to be parked")
    assert (unknown.refresh().state, unknown.refresh().attempt) == ("waiting", 0)
    assert tree.stop() == 0


def test_a_stored_call_that_does_not_fit_the_code_fails_at_once(lab: Lab) -> None:
    """Arguments that the function does not take any more: failed, not retried, and the reason is said."""
    app = lab.app("limits")
    sender = type(app.jobs)(lab.url)
    wrong = sender.enqueue("limits.takes_text", [1, 2, 3])
    tree = lab.start("limits")
    with pytest.raises(JobFailedError):
        wrong.result(timeout=30)
    job = wrong.refresh()
    sender.close()
    assert (job.state, job.reason, job.attempt) == ("failed", "bad_call", 1)
    assert app.takes_text.enqueue("fits").result(timeout=30) == "fits"
    assert tree.stop() == 0
