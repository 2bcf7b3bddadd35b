"""An engine whose workers are forked from a template: they end with it, and nobody's job is to blame."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from typing import Any

import psutil
import pytest
from last_words import LEASE, SHORT_LEASE

from checker.history import alive, process_name
from checker.lab import Lab, Tree
from helpers.waiting import wait_until
from jobcard.workers.forker import AGAIN_SECONDS, works_here

pytestmark = [
    pytest.mark.turns,
    pytest.mark.skipif(not works_here(), reason="a template needs Linux"),
    pytest.mark.timeout(240),
]

GONE_SECONDS = 5.0  # one is promised
FORKING_SECONDS = 3 * AGAIN_SECONDS  # a template that is ended in the crowd of a start is replaced so late

SMALL = """
import os
from jobcard import Jobcard
jobs = Jobcard(start_method={method!r}, max_concurrent_jobs=4)
{more}

@jobs.job
def parent() -> int:
    return os.getppid()
"""


def forked(lab: Lab, app: Any, tree: Tree, count: int = 3) -> tuple[list[Any], list[psutil.Process]]:
    """Jobs that run, at least one of them in a forked worker: (handles, the forked workers)."""
    template = wait_forking(tree)
    handles = lab.enqueue(app, [app.until.call(str(lab.folder / "gate")) for _ in range(count)])
    lab.wait_for(app, lambda n: n["running"] == count, f"{count} running jobs")

    def found() -> list[psutil.Process]:
        begun = {event.process for event in lab.events("run-begin")}
        workers = children(template)
        return workers if any(process_name(worker.pid) in begun for worker in workers) else []

    return handles, wait_until(found, "a job in a forked worker")


def children(parent: int) -> list[psutil.Process]:
    """The processes that this one started and that live."""
    try:
        return psutil.Process(parent).children()
    except psutil.NoSuchProcess:
        return []


def wait_forking(tree: Tree) -> int:
    """Wait until every worker is the template's: those that were spawned make room for others. Its process id."""

    def found() -> int | None:
        template = tree.template()
        if template is None or not children(template):
            return None  # it imports the application
        spawned = [worker for worker in children(tree.engine()) if worker.pid != template]
        for worker in spawned:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        return None if spawned else template

    return wait_until(found, "forked workers", timeout=FORKING_SECONDS)


def wait_dead(processes: list[str]) -> None:
    wait_until(lambda: not alive(processes), f"the end of {alive(processes)}", interval=0.002, timeout=GONE_SECONDS)


def test_a_template_killed_under_load_costs_nobody_an_attempt(lab: Lab) -> None:
    """SIGKILL of the template: jobs that ran in its workers wait again with the attempt returned, and no crash."""
    app = lab.app("load")
    tree = lab.start("load", "--max-concurrent-jobs", "4")
    engine = tree.engine()
    handles, _workers = forked(lab, app, tree)
    ran = {event.facts[0]: event.process for event in lab.events("run-begin")}
    template = tree.template()
    assert template is not None
    below = [process_name(child.pid) for child in children(template)]
    os.kill(template, signal.SIGKILL)
    wait_dead(below)
    lost = [handle for handle in handles if ran[handle.id.hex] in below]
    assert lost
    wait_until(lambda: all(handle.refresh().interrupts == 1 for handle in lost), "what was lost goes back")
    (lab.folder / "gate").touch()
    lab.drained(app)
    assert tree.engine() == engine
    for handle in handles:
        job = handle.refresh()
        was_lost = handle in lost
        assert (job.state, job.attempt, job.crashes, job.interrupts) == ("completed", 1, 0, int(was_lost))
        assert [error["kind"] for error in job.errors] == ["lost"] * was_lost
        assert all("template" in error["message"] for error in job.errors)
    assert tree.stop() == 0
    figures = lab.figures(workers_killed=True)
    assert figures.faults == {}, figures


def test_template_and_workers_end_with_their_engine(lab: Lab) -> None:
    """SIGKILL of the engine: its template and what that forked are gone before the next engine starts."""
    app = lab.app("load")
    tree = lab.start("load", "--max-concurrent-jobs", "4")
    forked(lab, app, tree)
    template = tree.template()
    assert template is not None
    below = [process_name(template), *(process_name(worker.pid) for worker in tree.workers())]
    before = tree.engine()
    tree.kill_engine()
    wait_dead(below)
    tree.engine(after=before)
    (lab.folder / "gate").touch()
    lab.drained(app)
    assert tree.stop() == 0
    lab.wait_gone()
    assert lab.figures().faults == {}


@pytest.mark.slow
def test_forked_workers_of_a_frozen_engine_end_before_its_lease(lab: Lab) -> None:
    """An engine that renews nothing: the keeper finds the workers behind the template too."""
    app = lab.app("load")
    tree = lab.start("load", "--max-concurrent-jobs", "4", *SHORT_LEASE)
    handles, _workers = forked(lab, app, tree)
    template = tree.template()
    assert template is not None
    # Frozen too, it could not tell its workers anything; they are found all the same.
    os.kill(template, signal.SIGSTOP)
    below = [process_name(template), *(process_name(worker.pid) for worker in tree.workers())]
    engine = tree.engine()
    os.kill(engine, signal.SIGSTOP)
    wait_until(lambda: not alive(below), "the end of all workers", timeout=LEASE)
    os.kill(engine, signal.SIGCONT)
    (lab.folder / "gate").touch()
    lab.drained(app)
    assert tree.engine() == engine
    assert {handle.refresh().crashes for handle in handles} == {0}
    assert tree.stop() == 0
    assert lab.figures(workers_killed=True).faults == {}


def test_a_start_that_takes_most_of_a_lease_costs_no_worker(lab: Lab) -> None:
    """The keeper ends what runs on without renewals; before anything is claimed there is nothing to renew."""
    (lab.folder / "small.py").write_text(SMALL.format(method="template", more="import time; time.sleep(0.75 * 3)"))
    tree = lab.start("small", "--lease", "3", "--heartbeat", "0.5")
    engine, first = tree.engine(), {process_name(worker.pid) for worker in tree.workers()}
    wait_until(lambda: " template" in tree.errors, "news of the template")
    assert "template.ready" in tree.errors, tree.errors
    assert tree.engine() == engine
    assert first <= {process_name(worker.pid) for worker in tree.workers()}
    assert tree.stop() == 0


@pytest.mark.parametrize(("method", "kinds"), [("template", {"template"}), ("spawn", {"engine"})])
def test_the_setting_decides(lab: Lab, monkeypatch: pytest.MonkeyPatch, method: str, kinds: set[str]) -> None:
    """start_method="template": a job's parent is the template, once the first worker has gone; "spawn": the engine."""
    (lab.folder / "small.py").write_text(SMALL.format(method=method, more=""))
    monkeypatch.syspath_prepend(str(lab.folder))
    monkeypatch.setenv("JOBCARD_URL", lab.url)
    tree = lab.start("small")
    engine = tree.engine()
    if method == "spawn":
        wait_until(lambda: len(tree.workers()) >= 2, "the spare worker")
        assert tree.template() is None
    else:
        wait_forking(tree)
    monkeypatch.delitem(sys.modules, "small", raising=False)  # another test's
    small = importlib.import_module("small")
    monkeypatch.delitem(sys.modules, "small")
    parents = {small.parent.enqueue().result(timeout=30) for _ in range(5)}
    assert {"template" if parent == tree.template() else "engine" for parent in parents} == kinds
    assert parents <= {engine, tree.template()}
    small.jobs.close()
    assert tree.stop() == 0


def test_who_asked_for_a_template_that_cannot_be_hears_why(lab: Lab) -> None:
    """start_method="template" with an application that starts threads: a warning, and workers are spawned."""
    more = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    (lab.folder / "small.py").write_text(SMALL.format(method="template", more=more))
    tree = lab.start("small")
    wait_until(lambda: "workers are spawned" in tree.errors, "the warning")
    assert "WARNING template: the application has started threads: 2 run" in tree.errors
    wait_until(
        lambda: len([worker for worker in children(tree.engine()) if worker.pid != tree.template()]) >= 2, "a spare"
    )
    assert tree.stop() == 0
