"""One load, every fault at once: workers and engines killed, frozen and stopped under jobs that fail and crash."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import pytest

from checker.lab import Lab, Tree
from checker.stored import read_store
from helpers.waiting import wait_until

LEASE = 3.0
SHORT_LEASE = ("--lease", "3", "--heartbeat", "0.5")
BATCHES = 12


def kill_worker(lab: Lab, tree: Tree, chance: random.Random) -> None:
    """SIGKILL one of the workers."""
    workers = wait_until(tree.workers, "a worker")
    chance.choice(workers).kill()


def kill_engine(lab: Lab, tree: Tree, chance: random.Random) -> None:
    """SIGKILL the engine; its keeper starts another."""
    before = tree.engine()
    tree.kill_engine()
    tree.engine(after=before)


def freeze_engine(lab: Lab, tree: Tree, chance: random.Random) -> None:
    """SIGSTOP the engine for longer than its lease."""
    engine = tree.engine()
    os.kill(engine, signal.SIGSTOP)
    until = time.monotonic() + 1.3 * LEASE
    wait_until(lambda: time.monotonic() > until, "the end of the lease")
    os.kill(engine, signal.SIGCONT)


def replace_tree(lab: Lab, tree: Tree, chance: random.Random) -> None:
    """A rolling restart: stop one, start another."""
    assert tree.stop() == 0
    lab.start("load", *SHORT_LEASE)


def lose_host(lab: Lab, tree: Tree, chance: random.Random) -> None:
    """Keeper, engine and workers gone at once; a new host takes their place."""
    tree.kill_all()
    lab.start("load", *SHORT_LEASE)


FAULTS = [kill_worker] * 5 + [kill_engine] * 3 + [freeze_engine, replace_tree, lose_host, lose_host]


def a_batch(app: Any) -> list[Any]:
    """Jobs of every kind, most of them short."""
    calls = [app.note.call() for _ in range(120)]
    calls += [app.nap.call(0.05) for _ in range(8)]
    calls += [app.once.call() for _ in range(4)]
    calls += [app.fail_first.call() for _ in range(4)]
    calls += [app.crash_first.call() for _ in range(2)]
    calls += [app.poison.call()]
    return calls


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1])
def test_nothing_is_lost_or_doubled_whatever_happens(lab: Lab, seed: int) -> None:
    """1,668 jobs on two engines through twelve faults: each ends once, none overlaps, no late result counts."""
    chance = random.Random(seed)
    app = lab.app("load")
    for _ in range(2):
        lab.start("load", *SHORT_LEASE)
    faults = FAULTS[:]
    chance.shuffle(faults)
    for fault in faults:
        calls = a_batch(app)
        chance.shuffle(calls)
        lab.enqueue(app, calls)
        live = [tree for tree in lab.trees if tree.process.poll() is None]
        fault(lab, chance.choice(live), chance)
    lab.drained(app, timeout=120)
    for tree in lab.trees:
        if tree.process.poll() is None:
            assert tree.stop() == 0
    lab.wait_gone()
    figures = lab.figures(workers_killed=True)
    print(figures)
    assert figures.faults == {}, figures
    rows = read_store(lab.file).rows
    assert {row.state for row in rows if row.name in ("load.note", "load.nap", "load.fail_first")} == {"completed"}
    assert {(row.state, row.reason) for row in rows if row.name == "load.poison"} == {("failed", "crash")}
    runs = [event.facts[0] for event in lab.events("run-begin")]
    for row in rows:
        if row.name == "load.once":
            assert runs.count(row.id) <= 1
            assert (row.state, row.reason) in (("completed", None), ("failed", "crash"), ("failed", "interrupted"))
