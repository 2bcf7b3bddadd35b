"""A program that enqueues is killed in a burst: its last batch is there as a whole or not at all."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGKILL a producer that has a batch under way; another takes its place."""
    producer = chance.choice(scene.crowd.producers)
    scene.crowd.burst(producer)
    yield from scene.until(lambda: scene.crowd.is_busy(producer), "a producer at work")
    yield from scene.after(chance.random() * 0.2)
    scene.crowd.kill(producer)


FAULT = Fault("producer-killed", strike, breaks="nothing")
