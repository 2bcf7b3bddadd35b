"""Many producers and engines on one SQLite file: each job exactly once, and nobody sees a lock."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from checker.lab import Lab, Tree

pytestmark = pytest.mark.turns

PRODUCERS = 4
ENGINES = 2
JOBS = 20_000

EXIT_TAKEN_AS_SUCCESS = """
import sys

if any("jobcard.engine.engine" in argument for argument in sys.orig_argv):
    from jobcard.engine import plan

    honest = plan.Plan.worker_gone

    def worker_gone(self, number, unstarted, exit, now):
        worker = self.workers.get(number)
        if exit.code == 0 and worker is not None and worker.sent:
            self.done(number, worker.sent[0][0], now, now, "null")
        return honest(self, number, unstarted, exit, now)

    plan.Plan.worker_gone = worker_gone
"""


@pytest.mark.slow
def test_four_producers_and_two_engines_run_each_job_once(lab: Lab) -> None:
    """20,000 jobs from four processes, run by two engines with own keepers: each exactly once, no lock seen.

    An engine may say that the store was kept busy by others for a second: it asks again, and that is all.
    """
    app = lab.app("load")
    trees = [lab.start("load") for _ in range(ENGINES)]
    began = time.monotonic()
    producers = [lab.python("-m", "producer", str(JOBS // PRODUCERS), str(100)) for _ in range(PRODUCERS)]
    said = [producer.communicate(timeout=100)[0].decode() for producer in producers]
    assert [producer.returncode for producer in producers] == [0] * PRODUCERS, said
    lab.drained(app, timeout=100)
    took = time.monotonic() - began
    assert [tree.stop() for tree in trees] == [0] * ENGINES
    lab.wait_gone()
    figures = lab.figures()
    print(f"{figures}\n{JOBS} jobs in {took:.1f} s")
    assert figures.faults == {}, figures
    assert (figures.jobs, figures.runs) == (JOBS, JOBS)
    for by_a_producer in said:
        assert not [word for word in ("lock", "busy", "error", "warning") if word in by_a_producer.lower()], said
    for tree in trees:
        assert [line for line in complaints(tree) if " WARNING store." not in line] == []


def complaints(tree: Tree) -> list[str]:
    """What an engine and its keeper wrote that is more than news of its day."""
    return [line for line in tree.errors.splitlines() if not line.startswith("ready") and " INFO " not in line]


@pytest.mark.slow
def test_single_enqueues_from_many_processes_lose_nothing(lab: Lab) -> None:
    """One job a call from four processes at once, while an engine runs them: every call is stored and run once."""
    app = lab.app("load")
    tree = lab.start("load")
    producers = [lab.python("-m", "producer", "150", "1") for _ in range(PRODUCERS)]
    for producer in producers:
        said, _ = producer.communicate(timeout=100)
        assert producer.returncode == 0, said
    lab.drained(app)
    assert tree.stop() == 0
    figures = lab.figures()
    assert figures.faults == {}, figures
    assert figures.runs == 150 * PRODUCERS


@pytest.mark.slow
def test_a_worker_exit_taken_as_success_is_caught(lab: Lab) -> None:
    """The checker sees an engine that believes `os._exit(0)`: planted into the engine process, it must show."""
    _plant(lab.folder / "planted", EXIT_TAKEN_AS_SUCCESS)
    app = lab.app("load")
    tree = lab.start("load", env={"PYTHONPATH": f"{lab.folder / 'planted'}:{lab.environment()['PYTHONPATH']}"})
    lab.enqueue(app, [app.note.call() for _ in range(20)] + [app.crash_first.call() for _ in range(3)])
    lab.drained(app)
    assert tree.stop() == 0
    figures = lab.figures()
    assert figures.faults == {"unearned": 3}, figures


def test_the_same_load_without_the_planted_fault_is_clean(lab: Lab) -> None:
    """What the planted fault breaks is whole without it."""
    app = lab.app("load")
    tree = lab.start("load")
    handles = lab.enqueue(app, [app.note.call() for _ in range(20)] + [app.crash_first.call() for _ in range(3)])
    lab.drained(app)
    assert tree.stop() == 0
    figures = lab.figures()
    assert figures.faults == {}, figures
    assert figures.extra_runs == 3
    assert all(handle.refresh().state == "completed" for handle in handles)


def _plant(folder: Path, source: str) -> None:
    # Python imports this module by itself in every process that has the folder on its path.
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(source)
