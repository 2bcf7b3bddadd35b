"""The clock of one engine's host is set an hour or a day wrong, and right again: the store's clock is what counts."""

from __future__ import annotations

import random

from checker.faults.base import Fault, Steps
from checker.lab import Tree
from checker.scene import Scene

STEPS = {"an hour ahead": 3_600.0, "an hour behind": -3_600.0, "a day ahead": 86_400.0}


def _why_not(scene: Scene) -> str:
    return "" if scene.place.kind != "sqlite" else "all processes of a SQLite file share the clock of their one host"


def strike(scene: Scene, tree: Tree, chance: random.Random) -> Steps:
    """Step the wall clock of keeper, engine and workers, let a lease pass, and step it back."""
    clock = scene.clock_of(tree)
    clock.write_text(str(STEPS[scene.in_turn("steps", STEPS)]))
    try:
        yield from scene.after(1.2 * scene.lease)
        yield from scene.runs_again(tree, scene.now())
    finally:
        clock.write_text("0")
    yield from scene.after(0.4 * scene.lease)
    at = scene.now()
    yield from scene.runs_again(tree, at)
    scene.measured("clock_back", scene.now() - at)


FAULT = Fault("clock-stepped", strike, {"clock_back": 5.0}, why_not=_why_not)
