"""Where an answer that comes in pages stopped, and how far a look goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from jobcard.backends.base import FEW, Filter

K = TypeVar("K")


def end_of(met: Sequence[K], limit: int) -> K | None:
    """Where the next page begins; None: that was the end.

    met: the keys of this page in its order, those of unreadable records among them.
    """
    return met[-1] if met and len(met) >= limit else None


def reach(limit: int) -> int:
    """How many ids a list of the jobs touched looks at in one go, where these are many."""
    return FEW + 10 * limit


def beside_states(where: Filter) -> Filter:
    """What is counted by beside the states, where each is counted by itself: said again, no index answers alone."""
    return where if where.touched_since is not None else where._replace(states=())
