"""The server of the store is killed and comes back: nothing confirmed is gone, and engines go on by themselves."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps, needs_server
from checker.lab import Tree
from checker.scene import Scene

AWAY_SECONDS = 2.0


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """SIGKILL the server, start it two seconds later; recovered when every engine runs jobs again."""
    server = scene.place.server
    assert server is not None
    yield from scene.until(lambda: all(map(scene.runs, scene.trees())), "engines at work")
    server.kill()
    yield from scene.after(AWAY_SECONDS)
    yield from scene.in_background(server.start)
    yield from scene.back("server_back", scene.now())


FAULT = Fault("server-killed", strike, {"server_back": 10.0}, "all", needs_server)
