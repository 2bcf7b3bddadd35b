"""Many producers enqueue one unique key at the same time: one of them wins, and all are told who."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene

KEYS = 20


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """All producers enqueue the same keys; the jobs live until all were answered. The checker counts the winners."""
    keys = [f"key-{chance.getrandbits(64):x}" for _ in range(KEYS)]
    gate = scene.lab.folder / f"gate-{chance.getrandbits(64):x}"
    racing = scene.crowd.race(gate, keys)
    # Those that are killed meanwhile say nothing more.
    yield from scene.until(
        lambda: all(
            scene.is_gone(each) or all(each in scene.tail.raced.get(key, ()) for key in keys) for each in racing
        ),
        "an answer to each producer",
    )
    gate.touch()
    scene.count("unique_keys", KEYS)


FAULT = Fault("unique-race", strike, breaks="nothing")
