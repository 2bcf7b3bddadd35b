"""A stop is gentle, then firm: what runs may end, what has not begun goes back untouched, nobody is left."""

from __future__ import annotations

import os
import signal
import time
from typing import Any
from uuid import UUID

import pytest
from last_words import SHORT_LEASE, freeze_under_load, until_handed_back

from checker.lab import Lab, Tree
from checker.stored import Row, read_store
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns

AT_ONCE_SECONDS = 10.0  # two are promised for the second signal
HAND_BACK_SECONDS = 10.0  # one is promised


def rows(lab: Lab, state: str) -> list[Row]:
    return [row for row in read_store(lab.file).rows if row.state == state]


def busy(lab: Lab, app: Any, count: int = 2) -> list[Any]:
    """Wait until so many jobs run, in hands that nothing but a file opens."""
    handles = lab.enqueue(app, [app.until.call(str(lab.folder / "gate")) for _ in range(count)])
    lab.wait_for(app, lambda n: n["running"] == count, f"{count} running jobs")
    return handles


def wait_code(tree: Tree, timeout: float = 60.0) -> tuple[int, float]:
    """The exit code, and how long it took from now."""
    began = time.monotonic()
    return tree.wait(timeout), time.monotonic() - began


@pytest.mark.slow
def test_a_stop_under_load_hands_back_what_has_not_begun(lab: Lab) -> None:
    """SIGTERM while hundreds of jobs are in the engine's hands: those not begun wait again with no attempt spent."""
    app = lab.app("load")
    tree = lab.start("load")
    lab.enqueue(app, [app.note.call() for _ in range(500)])
    lab.drained(app)
    slow = lab.enqueue(app, [app.nap.call(0.5) for _ in range(4)])
    engine = tree.engine()
    freeze_under_load(lab, app, engine)
    tree.signal(signal.SIGTERM)
    os.kill(engine, signal.SIGCONT)
    code, took = wait_code(tree)
    lab.wait_gone()
    waiting = rows(lab, "waiting")
    print(f"stopped under load after {took:.3f} s; {len(waiting)} jobs wait")
    assert code == 0
    assert waiting, "the load was too small for this test"
    assert not rows(lab, "claimed") + rows(lab, "running")
    assert {(row.attempt, row.crashes, row.interrupts) for row in waiting} == {(0, 0, 0)}
    begun = {event.facts[0] for event in lab.events("run-begin")}
    assert not begun & {row.id for row in waiting}
    # Whoever had begun came to the end.
    assert all(handle.refresh().state in ("completed", "waiting") for handle in slow)
    again = lab.start("load")
    lab.drained(app)
    assert again.stop() == 0
    figures = lab.figures()
    assert figures.faults == {}, figures
    assert figures.extra_runs == 0


def test_a_job_that_ends_in_time_completes(lab: Lab) -> None:
    """After SIGTERM a running job may go on to its end, and its result counts."""
    app = lab.app("load")
    tree = lab.start("load")
    handles = busy(lab, app)
    tree.signal(signal.SIGTERM)
    tree.wait_stopping()
    (lab.folder / "gate").touch()
    assert wait_code(tree)[0] == 0
    assert [handle.refresh().state for handle in handles] == ["completed"] * 2
    assert lab.figures().faults == {}


def test_a_stopping_engine_takes_nothing_more(lab: Lab) -> None:
    """What is enqueued after SIGTERM waits for another engine, and what was handed back does so at once."""
    app = lab.app("load")
    tree = lab.start("load", "--max-concurrent-jobs", "2")
    busy(lab, app)
    behind = lab.enqueue(app, [app.note.call() for _ in range(50)])
    tree.signal(signal.SIGTERM)
    signaled = time.monotonic()
    tree.wait_stopping()
    wait_until(lambda: not rows(lab, "claimed"), "the hand-back of what has not begun")
    took = time.monotonic() - signaled
    late = lab.enqueue(app, [app.note.call() for _ in range(50)])
    (lab.folder / "gate").touch()
    assert wait_code(tree)[0] == 0
    print(f"handed back after {took:.3f} s")
    assert {(handle.refresh().state, handle.refresh().attempt) for handle in behind + late} == {("waiting", 0)}
    assert took < HAND_BACK_SECONDS


@pytest.mark.slow
def test_a_job_that_does_not_end_in_time_gets_its_attempt_back(lab: Lab) -> None:
    """When the time is up a running job is killed and goes back as interrupted; one that may start once has failed."""
    app = lab.app("load")
    tree = lab.start("load", "--stop-timeout", "6")
    handles = busy(lab, app)
    once = lab.enqueue(app, [app.once.call(600.0)])[0]
    lab.wait_for(app, lambda n: n["running"] == 3, "three running jobs")
    tree.signal(signal.SIGTERM)
    code, took = wait_code(tree)
    lab.wait_gone()
    print(f"stopped after {took:.3f} s with a budget of 6 s")
    assert code == 0
    assert took < 30
    for handle in handles:
        job = handle.refresh()
        assert (job.state, job.attempt, job.interrupts, job.crashes) == ("waiting", 0, 1, 0)
        assert [error["kind"] for error in job.errors] == ["lost"]
    ended = once.refresh()
    assert (ended.state, ended.reason, ended.attempt, ended.crashes) == ("failed", "interrupted", 1, 0)
    (lab.folder / "gate").touch()
    again = lab.start("load")
    lab.drained(app)
    assert again.stop() == 0
    assert {handle.refresh().state for handle in handles} == {"completed"}
    figures = lab.figures()
    assert figures.faults == {}, figures


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(lab: Lab, first: int) -> None:
    """The second SIGTERM or Ctrl-C: exit code 130, nobody is left, and the jobs are handed back."""
    app = lab.app("load")

    def end() -> list[UUID]:
        tree = lab.start("load", *SHORT_LEASE)
        handles = busy(lab, app)
        tree.signal(first)
        tree.wait_stopping()
        assert tree.process.poll() is None
        tree.signal(first)
        code, took = wait_code(tree)
        lab.wait_gone()
        print(f"ended {took:.3f} s after the second signal")
        assert code == 130
        assert took < AT_ONCE_SECONDS
        return [handle.id for handle in handles]

    until_handed_back(lab, app, end)


def test_two_signals_in_one_breath_are_two(lab: Lab) -> None:
    """Ctrl-C twice, as fast as it gets, ends it at once too, with the jobs handed back."""
    app = lab.app("load")

    def end() -> list[UUID]:
        tree = lab.start("load", *SHORT_LEASE)
        handles = busy(lab, app)
        tree.signal(signal.SIGINT)
        tree.signal(signal.SIGTERM)
        code, took = wait_code(tree)
        lab.wait_gone()
        assert code == 130
        assert took < AT_ONCE_SECONDS
        return [handle.id for handle in handles]

    until_handed_back(lab, app, end)


def test_ctrl_c_in_a_terminal_reaches_the_keeper_alone(lab: Lab) -> None:
    """A SIGINT to the whole process group is one gentle stop: the running jobs complete."""
    app = lab.app("load")
    tree = lab.start("load")
    handles = busy(lab, app)
    os.killpg(tree.keeper, signal.SIGINT)
    tree.wait_stopping()
    (lab.folder / "gate").touch()
    assert wait_code(tree)[0] == 0
    assert [handle.refresh().state for handle in handles] == ["completed"] * 2


def test_a_stop_before_it_is_ready_is_quick(lab: Lab) -> None:
    """SIGTERM while the application is still being imported: exit 0, nobody left."""
    tree = lab.start("heavy", ready=False)
    tree.engine()
    wait_until(tree.workers, "a worker that imports")
    tree.signal(signal.SIGTERM)
    code, took = wait_code(tree)
    lab.wait_gone()
    assert code == 0
    assert took < AT_ONCE_SECONDS


def test_a_stop_at_the_first_breath_of_an_engine_is_a_stop(lab: Lab) -> None:
    """SIGTERM while the engine's process has only just begun, at the start or after a crash: exit 0, nobody left."""
    app = lab.app("load")
    for _ in range(3):
        tree = lab.start("load", ready=False)
        tree.engine()
        assert tree.stop() == 0, tree.errors
        lab.wait_gone()
        tree = lab.start("load")
        before = tree.engine()
        tree.kill_engine()
        tree.engine(after=before)
        assert tree.stop() == 0, tree.errors
        lab.wait_gone()
    assert app.jobs.count().total == 0


def test_a_stubborn_job_does_not_stop_the_stop(lab: Lab) -> None:
    """A job that blocks every signal is killed when the time is up."""
    app = lab.app("rough")
    tree = lab.start("rough", "--stop-timeout", "2")
    handle = app.is_stubborn.options(timeout=600, max_attempts=2).enqueue()
    lab.wait_for(app, lambda n: n["running"] == 1, "a running job")
    tree.signal(signal.SIGTERM)
    code, took = wait_code(tree)
    lab.wait_gone()
    assert code == 0
    assert took < 30
    assert (handle.refresh().state, handle.refresh().interrupts) == ("waiting", 1)


def test_the_record_of_a_stopped_engine_is_gone(lab: Lab) -> None:
    """An engine that stopped is not listed as alive, and one that runs is, with its processes."""
    app = lab.app("load")
    tree = lab.start("load")
    [engine] = wait_until(app.jobs.engines.list, "the record of the engine")
    assert (engine.pid, engine.keeper_pid) == (tree.engine(), tree.keeper)
    assert set(engine.workers) <= {worker.pid for worker in tree.workers()}
    assert tree.stop() == 0
    assert app.jobs.engines.list() == []
