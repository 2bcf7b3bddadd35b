"""An engine stands still for three leases: its keeper ends its workers in time, and it wakes up knowing nothing new."""

from __future__ import annotations

import os
import random
import signal

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGSTOP the engine, SIGCONT it three leases later; recovered when its workers run jobs again."""
    yield from scene.until(lambda: tree.find_engine() is not None and scene.runs(tree), "an engine at work")
    engine = tree.engine()
    workers = scene.workers(tree)
    os.kill(engine, signal.SIGSTOP)
    at = scene.now()
    try:
        yield from scene.until(
            lambda: all(map(scene.is_gone, workers)), "the end of a frozen engine's workers", timeout=3 * scene.lease
        )
        died = scene.now() - at
        scene.measured("frozen_workers_gone", died)
        if died >= scene.lease:
            scene.broken("overlap", f"the workers of a frozen engine lived for {died:.2f} s of {scene.lease:g} s")
        yield from scene.after(3 * scene.lease - (scene.now() - at))
    finally:
        os.kill(engine, signal.SIGCONT)
    thawed = scene.now()
    yield from scene.runs_again(tree, thawed)
    scene.measured("frozen_back", scene.now() - thawed)
    if tree.find_engine() != engine:
        scene.broken("stuck", f"engine {engine} did not live on after it was frozen")


FAULT = Fault("engine-frozen", strike, {"frozen_back": 5.0})
