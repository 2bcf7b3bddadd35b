"""The network between engines and server breaks, in each way it knows: engines live through it."""

from __future__ import annotations

import random
from collections.abc import Callable

from checker.faults.base import Fault, Steps, needs_network
from checker.lab import Tree
from checker.scene import Scene
from helpers.proxy import Proxy

TOXICS: dict[str, Callable[[Proxy], None]] = {
    "refuse": Proxy.refuse,
    "reset": Proxy.reset,
    "blackhole": Proxy.blackhole,
    "half_close": Proxy.half_close,
    "cut_replies": Proxy.cut_replies,
    "delay": lambda proxy: proxy.delay(0.3),
    "trickle": lambda proxy: proxy.trickle(10_000),
}


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """One trouble for some seconds, each kind in turn; recovered when every engine runs jobs again."""
    proxy = scene.proxy
    assert proxy is not None
    toxic = scene.in_turn("toxics", TOXICS)
    engines = [tree.find_engine() for tree in scene.trees()]
    TOXICS[toxic](proxy)
    try:
        yield from scene.after(scene.trouble_seconds(chance))
    finally:
        proxy.heal()
    yield from scene.back("network_back", scene.now())
    if [tree.find_engine() for tree in scene.trees()] != engines:
        scene.broken("stuck", f"an engine ended while the network was broken by {toxic}")


FAULT = Fault("network-broken", strike, {"network_back": 10.0}, "all", needs_network)
