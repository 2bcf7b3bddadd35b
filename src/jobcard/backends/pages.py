"""Where an answer that comes in pages stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

K = TypeVar("K")


def end_of(met: Sequence[K], limit: int) -> K | None:
    """Where the next page begins; None: that was the end.

    met: the keys of this page in its order, those of unreadable records among them.
    """
    return met[-1] if met and len(met) >= limit else None
