"""SIGTERM under load: no new job, what had not started goes back, the exit code is 0."""

from __future__ import annotations

import random
import signal

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGTERM to the keeper; when it has ended another one is started."""
    yield from scene.until(lambda: scene.runs(tree), "an engine at work")
    tree.signal(signal.SIGTERM)
    at = scene.now()
    yield from scene.until(lambda: tree.process.poll() is not None, "the end of a stopped engine", timeout=60)
    scene.measured("stop", scene.now() - at)
    if tree.process.returncode != 0:
        scene.broken("stuck", f"an engine that was stopped ended with {tree.process.returncode}")
    yield from scene.start_tree()


FAULT = Fault("engine-stopped", strike, {"stop": 25.0})
