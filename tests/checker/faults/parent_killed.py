"""A program that started its own engine is killed: engine and workers end with it, its jobs do not."""

from __future__ import annotations

import os
import random
import signal

from checker.faults.base import Fault, Steps
from checker.history import process_name
from checker.lab import Tree, below
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGKILL a process in `with jobs.running()` beside the others, once its workers run jobs."""
    parent = scene.lab.python("-m", "parent")

    def children() -> set[str]:
        return {process_name(pid) for pid in below(parent.pid)}

    yield from scene.until(
        lambda: parent.poll() is not None or any(each in scene.tail.running for each in children()),
        "an engine of its own at work",
    )
    those = children()
    os.kill(parent.pid, signal.SIGKILL)
    at = scene.now()
    parent.wait()
    yield from scene.until(lambda: all(map(scene.is_gone, those)), "the end of all below a killed program")
    scene.measured("parent_gone", scene.now() - at)


FAULT = Fault("parent-killed", strike, {"parent_gone": 2.0}, breaks="nothing")
