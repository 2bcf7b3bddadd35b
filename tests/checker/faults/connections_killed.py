"""The server ends the connections of its clients, whatever they are doing: their pools heal."""

from __future__ import annotations

import random

from checker import hostile
from checker.faults.base import Fault, Steps, needs_server
from checker.lab import Tree
from checker.scene import Scene

ROUNDS = 10


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """End all connections but one's own, ten times in a second or two; recovered when every engine runs jobs again."""
    killed = 0
    with hostile.client(scene.place) as client:
        for _ in range(ROUNDS):
            killed += client.kill_connections()
            yield from scene.after(0.05 + 0.2 * chance.random())
    scene.count("connections_killed", killed)
    if not killed:
        scene.broken("stuck", "no connection was there to be killed")
    yield from scene.back("connections_back", scene.now())


FAULT = Fault("connections-killed", strike, {"connections_back": 10.0}, "all", needs_server)
