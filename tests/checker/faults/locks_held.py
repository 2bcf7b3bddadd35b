"""A hostile client locks what engines want, in an order of its own, again and again: all is slower, nothing breaks."""

from __future__ import annotations

import random
import threading

from checker import hostile
from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """Lock for some seconds; recovered when every engine runs jobs again. Jobs must have run meanwhile, too."""
    began, over = scene.now(), threading.Event()
    rounds: list[int] = []

    def storm() -> None:
        with hostile.client(scene.place) as client:
            while not over.is_set():
                rounds.append(client.lock(chance))

    thread = threading.Thread(target=storm, daemon=True)
    thread.start()
    try:
        yield from scene.after(max(4.0, scene.trouble_seconds(chance)))
    finally:
        over.set()
    yield from scene.until(lambda: not thread.is_alive(), "the end of a storm")
    scene.count("locked", sum(rounds))
    if not sum(rounds):
        scene.broken("stuck", "the hostile client could lock nothing")
    if not any(at > began for at in scene.tail.last_begin.values()):
        scene.broken("stuck", "nothing ran in a storm of locks")
    yield from scene.back("locks_back", scene.now())


FAULT = Fault("locks-held", strike, {"locks_back": 10.0}, "all")
