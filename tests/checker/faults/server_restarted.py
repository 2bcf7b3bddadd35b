"""The server of the store is restarted as its operator would: clients are told that it goes, and it comes back."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps, needs_server
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """A clean stop and a start; recovered when every engine runs jobs again."""
    server = scene.place.server
    assert server is not None
    yield from scene.in_background(server.stop)
    yield from scene.in_background(server.start)
    yield from scene.back("restart_back", scene.now())


FAULT = Fault("server-restarted", strike, {"restart_back": 10.0}, "all", needs_server)
