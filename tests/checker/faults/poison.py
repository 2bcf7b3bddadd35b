"""Many jobs at once that end every worker they meet: each is given up in time, and the others go on."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene

AT_ONCE = 10


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """Ten poison jobs beside the load; recovered when all have failed with reason crash, and others began meanwhile."""
    handles = yield from scene.enqueued(scene.app.poison, AT_ONCE)
    at = scene.now()
    left = {handle.id.hex: handle for handle in handles}

    def given_up() -> bool:
        for job in [job for job in left if job in scene.tail.begun]:
            found = scene.ended(left[job])
            if found is None:
                return False
            if (found.state, found.reason) != ("failed", "crash"):
                scene.broken("stuck", f"poison job {job} ended {found.state} with reason {found.reason}")
            del left[job]
        return not left

    yield from scene.until(given_up, "the end of poison jobs", timeout=120)
    scene.measured("poison_given_up", scene.now() - at)
    meanwhile = sum(begun > at for begun in scene.tail.begun.values())
    if meanwhile <= AT_ONCE and scene.tail.waiting:
        scene.broken("stuck", "nothing ran beside poison jobs")


FAULT = Fault("poison", strike, breaks="nothing")
