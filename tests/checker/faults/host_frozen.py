"""A whole host stands still for three leases, keeper and workers too: only then may runs overlap, for a second."""

from __future__ import annotations

import random
import signal

from checker.faults.base import Fault, Steps
from checker.history import process_name
from checker.lab import Tree, below
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGSTOP everything of one tree, SIGCONT three leases later; recovered when its workers run jobs again."""
    yield from scene.until(lambda: tree.find_engine() is not None and scene.runs(tree), "an engine at work")
    names: dict[int, str] = {}
    # Whoever was started while others were stopped comes last.
    while fresh := [pid for pid in (tree.keeper, *below(tree.keeper)) if pid not in names]:
        for pid in fresh:
            names[pid] = process_name(pid)
            scene.signal(names[pid], signal.SIGSTOP)
    for name in names.values():
        scene.lab.history.write("frozen", name)
    old = scene.workers(tree)
    try:
        yield from scene.after(3 * scene.lease)
    finally:
        for name in names.values():
            scene.lab.history.write("thawed", name)
        for name in names.values():
            scene.signal(name, signal.SIGCONT)
    thawed = scene.now()
    waiting = set(old)
    while waiting and scene.now() - thawed < 2.0:
        for worker in [each for each in waiting if scene.is_gone(each)]:
            scene.lab.history.write("dead", worker)
            waiting.discard(worker)
            scene.measured("thawed_workers_gone", scene.now() - thawed)
        yield
    yield from scene.runs_again(tree, thawed)
    scene.measured("thawed_back", scene.now() - thawed)


FAULT = Fault("host-frozen", strike, {"thawed_back": 10.0})
