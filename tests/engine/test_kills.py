"""Whatever is killed or frozen, no job is lost, none runs twice at once, and no late result counts."""

from __future__ import annotations

import os
import signal
import time
from typing import Any
from uuid import UUID

import psutil
import pytest
from last_words import LEASE, SHORT_LEASE, until_handed_back

from checker.history import Event, alive, process_name
from checker.lab import Lab, Tree
from checker.stored import read_store
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns

# Limits are at least five times what is promised; the figures are printed.
WORKERS_GONE_SECONDS = 10.0  # one is promised
RUN_AGAIN_SECONDS = 15.0  # three are promised
TAKEN_OVER_SECONDS = 45.0  # the lease and two more are promised
UNSTARTED, UNSTARTED_AT_LEAST = 200, 1


def boottime() -> float:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e9


def hold_unstarted(lab: Lab, app: Any, tree: Tree) -> tuple[int, set[str]]:
    """Freeze the engine at a moment when it holds at least 200 jobs that no worker has begun: (engine, their ids).

    It holds as much as is done in a moment: where that is less, because others keep the machine busy, less has to do.
    """
    began = time.monotonic()

    def caught() -> tuple[int, set[str]] | None:
        enough = max(UNSTARTED_AT_LEAST, UNSTARTED * 0.5 ** ((time.monotonic() - began) // 2))
        counts = app.jobs.count()
        if counts["waiting"] < 2000:
            lab.enqueue(app, [app.hardy.call() for _ in range(2000)])
        if counts["claimed"] < enough:
            return None  # being frozen makes its jobs look long: not for nothing
        engine = tree.engine()
        os.kill(engine, signal.SIGSTOP)
        workers = tree.workers()
        for worker in workers:
            worker.suspend()
        begun = {(event.facts[0], int(event.facts[1])) for event in lab.events("run-begin")}
        held = [row for row in read_store(lab.file).rows if row.state == "claimed"]
        unstarted = {row.id for row in held if (row.id, row.token) not in begun and row.max_attempts > 1}
        if len(unstarted) >= enough:
            return engine, unstarted
        for worker in workers:
            worker.resume()
        os.kill(engine, signal.SIGCONT)
        return None

    return wait_until(caught, f"{UNSTARTED} unstarted jobs in the engine's hands", timeout=60, interval=0.03)


def first_begins(lab: Lab, after: float, *, token_over: int = 1) -> dict[str, float]:
    """When each job began first after a moment, from its second claim on."""
    found: dict[str, float] = {}
    for event in lab.events("run-begin", token_over=token_over):
        if event.at / 1e9 > after:
            found.setdefault(event.facts[0], event.at / 1e9)
    return found


def begun(lab: Lab, count: int) -> list[Event]:
    """Wait until so many runs have begun."""

    def enough() -> list[Event] | None:
        events = lab.events("run-begin")
        return events if len(events) >= count else None

    return wait_until(enough, f"{count} runs")


def names(processes: list[psutil.Process]) -> list[str]:
    """Processes as histories call them, which no later process is."""
    return [process_name(process.pid) for process in processes]


def wait_dead(processes: list[str]) -> float:
    """Wait until all are dead, reaped or not; when, in seconds of the histories' clock."""
    wait_until(lambda: not alive(processes), f"the end of {alive(processes)}", interval=0.002)
    return boottime()


def warm_up(lab: Lab, app: Any) -> None:
    """Let the engine learn that jobs are short, so that it looks far ahead."""
    lab.enqueue(app, [app.hardy.call() for _ in range(500)])
    lab.drained(app)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_engine_killed_four_times_with_its_hands_full_loses_nothing(lab: Lab) -> None:
    """SIGKILL of an engine that holds 200 unstarted jobs: all run, none that had not begun has spent an attempt."""
    app = lab.app("load")
    tree = lab.start("load")
    warm_up(lab, app)
    lab.enqueue(app, [app.once.call() for _ in range(40)])
    lab.enqueue(app, [app.hardy.call(0.3) for _ in range(4)])
    lab.enqueue(app, [app.hardy.call() for _ in range(4000)])
    gone, again, held = [], [], []
    for _ in range(4):
        engine, unstarted = hold_unstarted(lab, app, tree)
        held.append(len(unstarted))
        workers = names(tree.workers())
        killed_at = boottime()
        os.kill(engine, signal.SIGKILL)
        gone.append(wait_dead(workers) - killed_at)
        assert tree.engine(after=engine) != engine
        began = wait_until(
            lambda at=killed_at, those=unstarted: [  # type: ignore[misc]
                when for job, when in first_begins(lab, at).items() if job in those
            ],
            "a lost job that runs again",
            interval=0.1,
        )
        again.append(min(began) - killed_at)
    print(f"unstarted jobs held: {held}; workers gone after {max(gone):.3f} s, jobs again after {max(again):.3f} s")
    lab.drained(app)
    assert tree.stop() == 0
    figures = lab.figures()
    assert figures.faults == {}, figures
    print(figures)
    runs = [event.facts[0] for event in lab.events("run-begin")]
    for row in read_store(lab.file).rows:
        if row.name == "load.once":
            assert runs.count(row.id) <= 1
            assert row.state == "completed" or (row.state, row.reason) == ("failed", "crash")
        else:
            assert row.state == "completed"
    assert max(gone) < WORKERS_GONE_SECONDS
    assert max(again) < RUN_AGAIN_SECONDS


@pytest.mark.slow
def test_jobs_running_when_the_engine_dies_run_again_and_spend_an_attempt(lab: Lab) -> None:
    """A job that ran when its engine died keeps its attempt spent, gains a crash, and runs again by itself."""
    app = lab.app("load")
    tree = lab.start("load")
    gate = lab.folder / "gate"
    handles = lab.enqueue(app, [app.until.call(str(gate)) for _ in range(4)])
    once = lab.enqueue(app, [app.once.call(60.0)])[0]
    lab.wait_for(app, lambda n: n["running"] == 5, "five running jobs")
    workers = names(tree.workers())
    tree.kill_engine()
    killed_at = boottime()
    gone = wait_dead(workers) - killed_at
    wait_until(lambda: len(first_begins(lab, killed_at)) == 4, "four second runs")
    again = max(first_begins(lab, killed_at).values()) - killed_at
    gate.touch()
    assert [handle.result(timeout=30) for handle in handles] == [handle.refresh().claim_token for handle in handles]
    assert all(handle.refresh().attempt == 2 and handle.refresh().crashes == 1 for handle in handles)
    assert all([error["kind"] for error in handle.refresh().errors] == ["lost"] for handle in handles)
    lab.drained(app)
    ended = once.refresh()
    assert (ended.state, ended.reason, ended.attempt) == ("failed", "crash", 1)
    print(f"workers gone after {gone:.3f} s, running jobs again after {again:.3f} s")
    assert tree.stop() == 0
    assert lab.figures().faults == {}
    assert gone < WORKERS_GONE_SECONDS
    assert again < RUN_AGAIN_SECONDS


@pytest.mark.slow
def test_another_engine_takes_over_from_a_host_that_is_gone(lab: Lab) -> None:
    """Keeper, engine and workers killed at once: a second engine runs their jobs when the lease has run out."""
    app = lab.app("load")
    first = lab.start("load", *SHORT_LEASE)
    gate = lab.folder / "gate"
    lab.enqueue(app, [app.until.call(str(gate)) for _ in range(3)])
    lab.wait_for(app, lambda n: n["running"] == 3, "three running jobs")
    second = lab.start("load", *SHORT_LEASE)
    first.kill_all()
    killed_at = boottime()
    wait_until(lambda: len(first_begins(lab, killed_at)) == 3, "three second runs", timeout=60)
    took = max(first_begins(lab, killed_at).values()) - killed_at
    print(f"taken over after {took:.3f} s with a lease of {LEASE:g} s")
    gate.touch()
    lab.drained(app)
    assert second.stop() == 0
    lab.wait_gone()
    figures = lab.figures()
    assert figures.faults == {}, figures
    assert took < TAKEN_OVER_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside a second engine"])
def test_a_frozen_engine_overlaps_nobody_when_it_thaws(lab: Lab, others: int) -> None:
    """An engine stopped beyond its lease: its jobs end with it and run elsewhere or later; nothing late is accepted."""
    app = lab.app("load")
    frozen = lab.start("load", *SHORT_LEASE)
    gate = lab.folder / "gate"
    lab.enqueue(app, [app.until.call(str(gate)) for _ in range(3)])
    lab.wait_for(app, lambda n: n["running"] == 3, "three running jobs")
    beside = [lab.start("load", *SHORT_LEASE) for _ in range(others)]
    workers = names(frozen.workers())
    engine = frozen.engine()
    os.kill(engine, signal.SIGSTOP)
    stopped_at = boottime()
    # More work while it is frozen, some of it in hands that cannot move.
    lab.enqueue(app, [app.note.call() for _ in range(200)])
    killed = wait_dead(workers) - stopped_at
    if others:
        wait_until(lambda: len(first_begins(lab, stopped_at)) == 3, "three second runs", timeout=60)
        gate.touch()
        lab.drained(app)
    wait_until(lambda: boottime() - stopped_at > 1.5 * LEASE, "the end of the lease", timeout=60)
    os.kill(engine, signal.SIGCONT)
    gate.touch()
    lab.drained(app)
    assert frozen.engine() == engine
    # And it works again.
    for tree in beside:
        assert tree.stop() == 0
    lab.enqueue(app, [app.note.call() for _ in range(50)])
    lab.drained(app)
    print(f"workers of the frozen engine dead after {killed:.3f} s of a lease of {LEASE:g} s")
    assert frozen.stop() == 0
    lab.wait_gone()
    figures = lab.figures()
    assert figures.faults == {}, figures
    assert killed < LEASE


@pytest.mark.slow
def test_engine_and_workers_end_with_their_keeper(lab: Lab) -> None:
    """SIGKILL of the keeper: nobody could restart the engine, so it ends, and its workers with it."""
    app = lab.app("load")

    def end() -> list[UUID]:
        tree = lab.start("load", *SHORT_LEASE)
        handles = lab.enqueue(app, [app.until.call(str(lab.folder / "gate")) for _ in range(3)])
        lab.wait_for(app, lambda n: n["running"] == 3, "three running jobs")
        below = names([psutil.Process(tree.engine()), *tree.workers()])
        os.kill(tree.keeper, signal.SIGKILL)
        killed_at = boottime()
        gone = wait_dead(below) - killed_at
        tree.wait()
        print(f"engine and workers gone after {gone:.3f} s")
        assert not lab.processes()
        assert gone < WORKERS_GONE_SECONDS
        return [handle.id for handle in handles]

    # What it could still say, it said: the jobs wait and spent nothing.
    until_handed_back(lab, app, end)
    assert lab.figures().faults == {}


PARENT = """
import sys
from load import jobs, until

if __name__ == "__main__":
    jobs.configure(lease=float(sys.argv[2]), heartbeat=float(sys.argv[2]) / 6)
    with jobs.running():
        handles = [until.enqueue(sys.argv[1]) for _ in range(3)]
        print(*[handle.id.hex for handle in handles], flush=True)
        [handle.result() for handle in handles]
"""


@pytest.mark.slow
def test_engine_and_workers_end_with_the_app_that_started_them(lab: Lab) -> None:
    """SIGKILL of a process that called `jobs.start()`: its engine and workers are gone, its jobs are not."""
    app = lab.app("load")
    script = lab.folder / "parent.py"
    script.write_text(PARENT)

    def end() -> list[UUID]:
        parent = lab.python(str(script), str(lab.folder / "gate"), f"{LEASE:g}")
        assert parent.stdout is not None
        ids = [job_id.decode() for job_id in parent.stdout.readline().split()]
        for job_id in ids:
            lab.history.write("enq-ok", job_id)
        lab.wait_for(app, lambda n: n["running"] == 3, "three running jobs")
        below = names(psutil.Process(parent.pid).children(recursive=True))
        assert len(below) >= 5
        parent.kill()
        killed_at = boottime()
        gone = wait_dead(below) - killed_at
        parent.wait()
        print(f"keeper, engine and workers gone after {gone:.3f} s")
        assert not lab.processes()
        assert gone < WORKERS_GONE_SECONDS
        return [UUID(job_id) for job_id in ids]

    # The engine had time to hand them back, so that nobody waits for its lease to run out.
    until_handed_back(lab, app, end)
    assert lab.figures().faults == {}


@pytest.mark.slow
def test_a_job_that_comes_after_the_death_of_a_worker_is_not_blamed_for_it(lab: Lab) -> None:
    """Idle workers killed again and again: what is enqueued afterwards runs, even if it may be tried only once."""
    app = lab.app("load")
    tree = lab.start("load", "--max-concurrent-jobs", "2")
    engine = tree.engine()
    for _ in range(8):
        assert app.once.enqueue().result(timeout=30) >= 1
        for worker in tree.workers():
            worker.kill()
        handles = [app.once.enqueue(), app.note.enqueue()]
        for handle in handles:
            assert handle.result(timeout=30) >= 1
            assert (handle.refresh().attempt, handle.refresh().crashes) == (1, 0)
    assert tree.engine() == engine
    assert tree.stop() == 0


@pytest.mark.slow
def test_a_killed_producer_leaves_no_half_batch(lab: Lab) -> None:
    """`enqueue_many` of up to 1,000 jobs stores all or none, whenever its process is killed."""
    app = lab.app("load")
    for number in range(4):
        producer = lab.python("-m", "producer", "1000000", "1000")
        assert producer.stdout is not None
        for _ in range(1 + number):
            producer.stdout.readline()  # one line for each batch
        producer.kill()
        producer.wait()
    stored = app.jobs.count().total
    print(f"{stored} jobs stored by four killed producers")
    assert stored >= 10_000
    assert stored % 1000 == 0
