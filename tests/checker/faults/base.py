"""What a kind of fault is: one shape for all of them, one module for each."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from checker.lab import Tree
    from checker.scene import Scene

Steps = Generator[None, None, None]
"""A fault under way: it yields while it waits, and ends when what it broke works again."""


def _always(_scene: Scene) -> str:
    return ""


@dataclass(frozen=True)
class Fault:
    """One kind of trouble.

    strike: makes it, sees that it took effect, waits for the recovery and notes how long that took. It is given the
    engine it breaks, if it breaks one, and its own source of chance.
    promised: the figures it notes, and how many seconds each may take at most.
    breaks: "tree": one keeper with its engine, so that something else may happen to another one meanwhile;
    "all": the store or everything at once; nothing else is broken then. "nothing": it troubles nobody for long.
    why_not: why it cannot be made here, in words; "": it can.
    """

    name: str
    strike: Callable[[Scene, Tree, random.Random], Steps]
    promised: Mapping[str, float] = field(default_factory=dict)
    breaks: str = "tree"
    why_not: Callable[[Scene], str] = _always


def needs_server(scene: Scene) -> str:
    """For faults of a server."""
    return "" if scene.place.server is not None else "this store has no server"


def needs_network(scene: Scene) -> str:
    """For faults of the way to a server."""
    return "" if scene.proxy is not None else "this store is not reached by a network"
