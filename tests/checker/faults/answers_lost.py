"""The store does what it is asked and the answer is lost: nothing is stored twice, nothing runs again for it."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps, needs_network
from checker.lab import Tree
from checker.scene import Scene
from helpers.servers import KINDS

AT_ONCE = 10
SHARE = 0.2
ENQUEUED = b"load.hardy"
"""What stands in every batch of the crowd on its way to the store."""


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """Drop ten answers to exchanges and to enqueues after the commit; recovered when every engine runs jobs again."""
    proxy = scene.proxy
    assert proxy is not None
    lost = proxy.lost
    server = KINDS[scene.place.kind]
    exchanges = [server.mark_of_an_exchange(each.owner) for each in scene.trees()]
    proxy.lose_replies(*exchanges, ENQUEUED, share=SHARE)
    try:
        yield from scene.until(lambda: proxy.lost >= lost + AT_ONCE, f"{AT_ONCE} lost answers", timeout=60)
    finally:
        proxy.heal()
    yield from scene.back("answers_back", scene.now())
    scene.count("answers_lost", proxy.lost - lost)


FAULT = Fault("answers-lost", strike, {"answers_back": 10.0}, "all", needs_network)
