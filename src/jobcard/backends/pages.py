"""Where an answer that comes in pages stopped, how far a look goes, and what can be read of those asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from jobcard.backends.base import FEW, Filter
from jobcard.errors import CorruptRecordError

K = TypeVar("K")
T = TypeVar("T")


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


def readable(ask: Callable[[Sequence[bytes]], Sequence[T]], job_ids: Sequence[bytes]) -> Sequence[T]:
    """What a store says of these jobs; what cannot be read is left out, where the store would raise for it, too."""
    try:
        return ask(job_ids)
    except CorruptRecordError:
        return ()  # so it does when a job is asked for alone
