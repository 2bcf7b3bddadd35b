"""A worker is killed in the middle of a job: that job alone is hurt, and its place is taken at once."""

from __future__ import annotations

import random
import signal

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGKILL a worker that is at work; recovered when one that never ran anything runs in its stead."""
    found: list[str] = []

    def at_work() -> bool:
        found[:] = [worker for worker in scene.workers(tree) if worker in scene.tail.running]
        return bool(found)

    while True:
        yield from scene.until(at_work, "a worker at work")
        victim = chance.choice(sorted(found))
        engine = tree.find_engine()
        at = scene.now()
        # It may have ended in this very moment: for a job that was canceled, or of old age.
        if scene.signal(victim, signal.SIGKILL):
            break
        yield
    yield from scene.until(lambda: scene.is_gone(victim), "the end of a killed worker")
    # Somebody else of that engine begins a run: the place is taken. An engine that was killed as well is another story.
    yield from scene.until(
        lambda: (
            any(scene.tail.last_begin.get(each, 0) > at for each in scene.workers(tree)) or tree.find_engine() != engine
        ),
        "a run after the death of a worker",
    )
    yield from scene.until(
        lambda: (
            len([each for each in scene.workers(tree) if each in scene.tail.first_begin]) >= len(found)
            or not scene.tail.waiting
        ),
        "as many workers as before",
    )
    scene.measured("worker_slot", scene.now() - at)


FAULT = Fault("worker-killed", strike, {"worker_slot": 2.0})
