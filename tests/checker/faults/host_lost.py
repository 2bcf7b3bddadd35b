"""A host is gone, keeper, engine and workers at once: others take its jobs over when their leases have run out."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGKILL everything of one tree; recovered when each job it ran has begun again, or was canceled meanwhile."""
    yield from scene.until(lambda: scene.runs(tree), "an engine at work")
    lost = {scene.tail.running[worker] for worker in scene.workers(tree) if worker in scene.tail.running}
    tree.kill_all()
    at = scene.now()
    yield from scene.start_tree()
    within = scene.lease + 10
    yield from scene.until(
        lambda: any(scene.tail.begun[job] > at for job in lost) or scene.now() - at > 5 * within or not lost,
        "a lost host's job that runs again",
        timeout=6 * within,
    )
    again = [begun for job in lost if (begun := scene.tail.begun[job]) > at]
    if again:
        scene.measured("host_rerun", max(again) - at)


FAULT = Fault("host-lost", strike, {"host_rerun": 70.0})
