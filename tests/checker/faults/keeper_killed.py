"""A keeper is killed: nobody could restart its engine, so that ends, with its workers, within a second."""

from __future__ import annotations

import os
import random
import signal

from checker.faults.base import Fault, Steps
from checker.history import process_name
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGKILL the keeper; when all below it is gone another one is started."""
    yield from scene.until(lambda: scene.runs(tree), "an engine at work")
    below = [process_name(tree.engine()), *scene.workers(tree)]
    os.kill(tree.keeper, signal.SIGKILL)
    at = scene.now()
    yield from scene.until(lambda: all(map(scene.is_gone, below)), "the end of all below a killed keeper")
    scene.measured("keeper_gone", scene.now() - at)
    tree.process.wait()
    yield from scene.start_tree()


FAULT = Fault("keeper-killed", strike, {"keeper_gone": 1.0})
