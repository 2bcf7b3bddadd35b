"""An engine stands still for three leases: its keeper ends its workers in time, and it wakes up knowing nothing new."""

from __future__ import annotations

import contextlib
import os
import random
import signal

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import PATIENCE, Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGSTOP the engine, SIGCONT it three leases later; recovered when its workers run jobs again."""
    yield from scene.until(lambda: tree.find_engine() is not None and scene.runs(tree), "an engine at work")
    engine = tree.engine()
    workers = scene.workers(tree)
    os.kill(engine, signal.SIGSTOP)
    at = seen = scene.now()

    def gone() -> bool:
        nonlocal seen
        if all(map(scene.is_gone, workers)):
            return True
        seen = scene.now()
        return False

    try:
        yield from scene.until(gone, "the end of a frozen engine's workers", timeout=max(PATIENCE, 3 * scene.lease))
        scene.measured("frozen_workers_gone", scene.now() - at)
        # Not when they were found gone: the engine may have the lock of a SQLite file, and this load wait for it too.
        if seen - at >= scene.lease:
            scene.broken("overlap", f"the workers of a frozen engine lived for {seen - at:.2f} s of {scene.lease:g} s")
        yield from scene.after(3 * scene.lease - (scene.now() - at))
    finally:
        with contextlib.suppress(ProcessLookupError):  # that it did not live on is told below
            os.kill(engine, signal.SIGCONT)
    thawed = scene.now()
    yield from scene.runs_again(tree, thawed)
    scene.measured("frozen_back", scene.now() - thawed)
    if tree.find_engine() != engine:
        scene.broken("stuck", f"engine {engine} did not live on after it was frozen")


FAULT = Fault("engine-frozen", strike, {"frozen_back": 5.0})
