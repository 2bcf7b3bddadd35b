"""Engines come and go under load: claims go on, attempts are kept, and no process stays behind."""

from __future__ import annotations

import random
import signal
import threading
from itertools import pairwise
from typing import Any

import pytest

from checker.lab import Lab, Tree
from checker.stored import read_store
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns

GAP_SECONDS = 10.0  # two are promised


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_rolling_restart_leaves_no_gap_and_costs_no_attempt(lab: Lab) -> None:
    """Three engines are replaced one after the other while jobs pour in: claims go on and nothing is spent."""
    app = lab.app("load")
    trees = [lab.start("load") for _ in range(3)]
    over = threading.Event()

    def pour() -> None:
        while not over.is_set():
            lab.enqueue(app, [app.nap.call(0.01) for _ in range(100)])
            wait_until(lambda: over.is_set() or app.jobs.count()["waiting"] < 300, "room", timeout=60)

    producer = threading.Thread(target=pour)
    producer.start()
    try:
        for tree in trees:
            seen = len(lab.events("run-begin"))
            wait_until(lambda seen=seen: len(lab.events("run-begin")) > seen + 100, "a hundred more")  # type: ignore[misc]
            assert tree.stop() == 0
            lab.start("load")
    finally:
        over.set()
        producer.join()
    lab.drained(app)
    for tree in lab.trees[3:]:
        assert tree.stop() == 0
    lab.wait_gone()
    begins = [event.at / 1e9 for event in lab.events("run-begin")]
    gap = max(after - before for before, after in pairwise(begins))
    figures = lab.figures()
    print(f"{len(begins)} runs; the longest gap between two claims: {gap:.3f} s\n{figures}")
    assert figures.faults == {}, figures
    assert {(row.state, row.attempt) for row in read_store(lab.file).rows} == {("completed", 1)}
    assert gap < GAP_SECONDS


def end_gently(tree: Tree) -> None:
    assert tree.stop() == 0


def end_at_once(tree: Tree) -> None:
    tree.signal(signal.SIGTERM)
    tree.signal(signal.SIGINT)
    assert tree.wait() in (0, 130)  # 0: all was done before the second word came


def kill_keeper(tree: Tree) -> None:
    tree.process.kill()
    tree.wait()


def kill_engine_then_stop(tree: Tree) -> None:
    before = tree.engine()
    tree.kill_engine()
    tree.engine(after=before)
    assert tree.stop() == 0


def kill_everything(tree: Tree) -> None:
    tree.kill_all()


ENDS = [end_gently, end_at_once, kill_keeper, kill_engine_then_stop, kill_everything]


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.parametrize(("seed", "ends"), [(1, 10), pytest.param(2, 25, marks=pytest.mark.long)])
def test_no_process_stays_behind_after_many_stops_and_kills(lab: Lab, seed: int, ends: int) -> None:
    """However an engine ends, under jobs of every kind: all its processes are gone soon after."""
    chance = random.Random(seed)
    app = lab.app("told")
    for _ in range(ends):
        calls: list[Any] = [app.short.call() for _ in range(20)]
        calls += [app.sleeps.call(0.05), app.waits.call(0.05), app.swallows.call(0.05)]
        lab.enqueue(app, calls)
        seen = len(lab.events("run-begin"))
        tree = lab.start("told", "--stop-timeout", "6")
        wait_until(lambda seen=seen: len(lab.events("run-begin")) > seen, "a job at work")  # type: ignore[misc]
        chance.choice(ENDS)(tree)
        lab.wait_gone()
    lab.start("told", "--lease", "9", "--heartbeat", "1.5")
    lab.drained(app, timeout=120)
    assert lab.trees[-1].stop() == 0
    figures = lab.figures(workers_killed=True)
    print(f"{ends} ends\n{figures}")
    assert figures.faults == {}, figures
