"""An engine is killed under its keeper: its workers go with it, and its jobs run again at once."""

from __future__ import annotations

import os
import random
import signal

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGKILL the engine; recovered when its successor's workers run jobs."""
    yield from scene.until(lambda: tree.find_engine() is not None and scene.runs(tree), "an engine at work")
    engine = tree.engine()
    workers = scene.workers(tree)
    lost = {scene.tail.running[worker] for worker in workers if worker in scene.tail.running}
    os.kill(engine, signal.SIGKILL)
    at = scene.now()
    yield from scene.until(lambda: all(map(scene.is_gone, workers)), "the end of a killed engine's workers")
    scene.measured("workers_gone", scene.now() - at)
    yield from scene.until(lambda: tree.find_engine() not in (None, engine), "another engine")
    yield from scene.runs_again(tree, at)
    again = [begun for job in lost if (begun := scene.tail.begun[job]) > at]
    if again:
        scene.measured("engine_rerun", min(again) - at)
    scene.measured("engine_back", scene.now() - at)


FAULT = Fault("engine-killed", strike, {"workers_gone": 1.0, "engine_rerun": 3.0, "engine_back": 3.0})
