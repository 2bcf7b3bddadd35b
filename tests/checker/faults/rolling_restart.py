"""Every engine is replaced under load, the new one first: jobs go on meanwhile."""

from __future__ import annotations

import random
import signal

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """Start another for each engine, then SIGTERM the old one; no two runs begin far apart meanwhile."""
    began = scene.now()
    for old in scene.trees():
        yield from scene.start_tree()
        old.signal(signal.SIGTERM)
        yield from scene.until(lambda old=old: old.process.poll() is not None, "the end of an engine", timeout=60)
        if old.process.returncode != 0:
            scene.broken("stuck", f"an engine that was replaced ended with {old.process.returncode}")
    begins = sorted(at for at in scene.tail.begun.values() if at > began)
    scene.measured("claim_gap", max((b - a for a, b in zip([began, *begins], begins, strict=False)), default=0.0))


FAULT = Fault("rolling-restart", strike, {"claim_gap": 2.0}, breaks="all")
