"""Jobs that wait for others, run by real engines that are killed in between: nothing too early, twice, or never."""

from __future__ import annotations

import os
import random
import signal
from collections import defaultdict
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from checker.lab import APPS, TESTS, Lab, Tree
from helpers.waiting import wait_until
from jobcard import Ended, Jobcard

pytestmark = pytest.mark.turns

KILLED = """
import os, signal

def _plant():
    from jobcard.backends.sqlite import SQLiteBackend

    release = SQLiteBackend.release_dependents

    def killed(self, those):
        mark = "{mark}"
        if os.path.getsize(mark) < {times}:
            with open(mark, "a") as file:
                file.write("x")
            if {after}:
                release(self, those)
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()  # whoever is only frozen is so a moment later
        return release(self, those)

    SQLiteBackend.release_dependents = killed

_plant()
"""
"""An engine dies just before, or just after, it puts dependents in line, so many times."""


def plant(lab: Lab, source: str) -> dict[str, str]:
    """The environment in which every process begins with this."""
    folder = lab.folder / "planted"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": os.pathsep.join(map(str, (folder, *APPS, TESTS)))}


def enqueue(lab: Lab, app: Any, *calls: Any) -> list[Any]:
    return lab.enqueue(app, list(calls))


def run_times(lab: Lab) -> tuple[dict[UUID, int], dict[UUID, int]]:
    """When each job began first, and when it ended last."""
    begins: dict[UUID, int] = {}
    ends: dict[UUID, int] = defaultdict(int)
    for event in lab.events("run-begin"):
        job_id = UUID(event.facts[0])
        begins[job_id] = min(event.at, begins.get(job_id, event.at))
    for event in lab.events("run-end"):
        job_id = UUID(event.facts[0])
        ends[job_id] = max(event.at, ends[job_id])
    return begins, ends


def too_early(lab: Lab, jobs: Jobcard) -> list[str]:
    """The jobs that began before something that they waited for had ended, or though it was no success."""
    begins, ends = run_times(lab)
    stored = {job.id: job for job in jobs.iterate()}
    found = []
    for job in stored.values():
        for one in job.after if job.id in begins else ():
            awaited = [stored[one.id]] if one.kind == "job" else [x for x in stored.values() if x.batch_id == one.id]
            for other in awaited:
                if begins[job.id] < ends[other.id] or (one.until == "completed" and other.state != "completed"):
                    found.append(f"{job.name} {job.id} before {other.name} {other.id}, which is {other.state}")
    return found


def judge(lab: Lab, app: Any, *, most_runs: int | None = 1) -> None:
    """All ended, in order, none more than once."""
    counts = app.jobs.count()
    assert counts.waiting + counts.claimed + counts.running == 0
    assert too_early(lab, app.jobs) == []
    lab.stop()
    figures = lab.figures()
    assert figures.faults == {}, figures
    if most_runs is not None:
        assert figures.extra_runs == 0, figures


def graph(lab: Lab, app: Any, *, wide: int, long: int) -> list[Any]:
    """One that many wait for, one that waits for many, a chain behind that, and a diamond behind the chain."""
    (top,) = enqueue(lab, app, app.hardy.call())
    sides = enqueue(lab, app, *(app.hardy.options(after=top).call() for _ in range(wide)))
    (bottom,) = enqueue(lab, app, app.hardy.options(after=sides).call())
    chain = [bottom]
    for _ in range(long):
        chain += enqueue(lab, app, app.hardy.options(after=chain[-1]).call())
    two = enqueue(lab, app, *(app.hardy.options(after=[chain[-1], side]).call() for side in sides[:2]))
    last = enqueue(lab, app, app.hardy.options(after=[*two, Ended(top)]).call())
    return [top, *sides, *chain, *two, *last]


# ------------------------------------------------------------------ one engine


@pytest.mark.slow
def test_wide_and_long_graphs_run_in_their_order(lab: Lab) -> None:
    """One before 200, 200 before one, chains and diamonds, enqueued while the engine works them off."""
    app = lab.app("load")
    lab.start("load")
    handles = graph(lab, app, wide=200, long=20)
    handles[-1].result(timeout=60)
    lab.drained(app)
    judge(lab, app)
    assert app.jobs.count().completed == len(handles)


@pytest.mark.slow
def test_a_failure_takes_down_what_wanted_success(lab: Lab) -> None:
    """The whole chain behind it, with the reason; whoever waits for an end only goes on."""
    app = lab.app("load")
    lab.start("load")
    (failing,) = enqueue(lab, app, app.poison.options(max_attempts=1).call())
    chain = [failing]
    for _ in range(10):
        chain += enqueue(lab, app, app.note.options(after=chain[-1]).call())
    takes = enqueue(lab, app, *(app.note.options(after=Ended(one)).call() for one in (chain[0], chain[5], chain[-1])))
    for handle in takes:
        handle.result(timeout=60)
    lab.drained(app)
    for before, handle in pairwise(chain):
        job = handle.refresh()
        assert (job.state, job.reason, job.attempt) == ("canceled", "dependency", 0)
        how = "failed" if before is failing else "was canceled"
        assert job.error["message"] == f"it waited for the success of job {before.id}, which {how}"
    assert too_early(lab, app.jobs) == []


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_an_engine_killed_over_a_release_leaves_nobody_behind(lab: Lab, after: bool) -> None:
    """Killed when a job had ended and who waited for it was not in line yet, or just was: the next one goes on."""
    mark = lab.folder / "mark"
    mark.touch()
    app = lab.app("load")
    (first,) = enqueue(lab, app, app.hardy.call())
    chain = [first]
    for _ in range(5):
        chain += enqueue(lab, app, app.hardy.options(after=chain[-1]).call())
    with app.jobs.batch(on_success=app.hardy.call(), on_end=app.hardy.options(after=chain[-1]).call()) as b:
        b.enqueue(app.hardy.options(after=chain[2]).call())
    for job in app.jobs.iterate():
        lab.history.write("enq-ok", job.id.hex)
    lab.start("load", env=plant(lab, KILLED.format(mark=mark, times=4, after=after)))
    lab.drained(app)
    assert mark.read_text() == "xxxx"
    assert app.jobs.count().completed == 9
    judge(lab, app, most_runs=None)  # what else was at work runs again


@pytest.mark.slow
def test_another_engine_takes_over_whom_a_dead_host_left(lab: Lab) -> None:
    """Everything of the first is gone when its job has ended: whoever is started releases what waited for that."""
    mark = lab.folder / "mark"
    mark.touch()
    app = lab.app("load")
    (first,) = enqueue(lab, app, app.once.call())
    held = enqueue(lab, app, *(app.once.options(after=first).call() for _ in range(3)))
    # Frozen, and not killed, so that its keeper does not start another one.
    source = KILLED.format(mark=mark, times=9, after=False).replace("SIGKILL", "SIGSTOP")
    tree = lab.start("load", env=plant(lab, source))
    wait_until(mark.read_text, "the end of the first")
    assert first.refresh().state == "completed" and {one.refresh().hold for one in held} == {"after"}
    tree.kill_all()
    lab.start("load")
    for one in held:
        one.result(timeout=60)
    judge(lab, app)


# ------------------------------------------------------------------ several engines


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engines_killed_at_any_moment_lose_no_dependent(lab: Lab) -> None:
    """Two of them, and graphs and batches in every stage."""
    app = lab.app("load")
    trees = lab.start_several(2, "load")
    chance = random.Random(7)
    number = 0
    for _ in range(6):
        number += len(graph(lab, app, wide=20, long=4))
        with app.jobs.batch(on_success=app.hardy.call(), on_end=app.hardy.call()) as b:
            handles = b.enqueue_many(app.hardy.call(0.005) for _ in range(20))
            b.enqueue(app.hardy.options(after=handles).call())
        number += 23
        at = app.jobs.count().completed + chance.randrange(1, 30)
        at = min(at, number)
        wait_until(lambda at=at: app.jobs.count().completed >= at, "some of them")  # type: ignore[misc]
        _kill(chance.choice(trees))
    for job in app.jobs.iterate():
        lab.history.write("enq-ok", job.id.hex)
    lab.drained(app, timeout=120)
    assert app.jobs.count().completed == app.jobs.count().total == number
    judge(lab, app, most_runs=None)


def _kill(tree: Tree) -> None:
    engine = tree.engine()
    os.kill(engine, signal.SIGKILL)
    tree.engine(after=engine)


@pytest.mark.slow
def test_two_engines_run_what_follows_many_batches_once(lab: Lab) -> None:
    """However close their ends come to each other."""
    app = lab.app("load")
    lab.start_several(2, "load")
    for _ in range(60):
        with app.jobs.batch(on_success=app.note.call(), on_end=app.note.call()) as b:
            b.enqueue_many(app.note.call() for _ in range(4))
    lab.drained(app)
    for job in app.jobs.iterate():
        lab.history.write("enq-ok", job.id.hex)
    assert app.jobs.count().completed == 360
    judge(lab, app)


# ------------------------------------------------------------------ very many


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fails", [False, True])
def test_five_thousand_wait_for_one(lab: Lab, fails: bool) -> None:
    """All run, or all are canceled; and others are served meanwhile."""
    app = lab.app("load")
    lab.start("load")
    gate = lab.folder / "gate"
    first = app.until.enqueue(str(gate)) if not fails else app.poison.options(max_attempts=1, delay=3600).enqueue()
    held = app.jobs.enqueue_many([app.note.options(after=first).call() for _ in range(5_000)])
    with app.jobs.batch(on_end=app.note.options(after=Ended(held[-1])).call()) as b:
        b.enqueue(app.note.options(after=Ended(held[0])).call())
    if fails:
        app.jobs.run_now(first.id)
    gate.touch()
    quick = app.note.options(after=app.note.enqueue()).enqueue()
    quick.result(timeout=60)
    lab.drained(app, timeout=240)
    counts = app.jobs.count()
    assert (counts.canceled, counts.completed) == ((5_000, 4) if fails else (0, 5_005))
    assert too_early(lab, app.jobs) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_batch_of_five_thousand(lab: Lab) -> None:
    """What follows it runs once, after all of them; engines are at work while it is stored."""
    app = lab.app("load")
    lab.start_several(2, "load")
    with app.jobs.batch("many", on_success=app.note.call(), on_end=app.note.call()) as b:
        b.enqueue_many(app.note.call() for _ in range(5_000))
    lab.drained(app, timeout=240)
    assert (b.counts().completed, app.jobs.count().completed) == (5_000, 5_002)
    assert too_early(lab, app.jobs) == []
    lab.stop()
    runs = [event.facts[0] for event in lab.events("run-begin")]
    assert len(runs) == len(set(runs)) == 5_002


def test_a_plain_case_in_processes(lab: Lab) -> None:
    """One before the other, with a batch, in a process of its own each."""
    app = lab.app("load")
    lab.start("load")
    first, *_ = enqueue(lab, app, app.note.call())
    second, *_ = enqueue(lab, app, app.note.options(after=first).call())
    with app.jobs.batch(on_success=app.note.call()) as b:
        b.enqueue(app.note.options(after=second).call())
    lab.wait_for(app, lambda counts: counts.completed == 4, "the end of all")
    assert too_early(lab, app.jobs) == []
