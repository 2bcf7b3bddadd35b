"""What several visitors may share: an answer of the store, for a moment, so that ten open tabs cost little more than
one.

Only refreshes share, and what never changes again; whoever opens a page is told what is so now.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

T = TypeVar("T")

SECONDS = 1.0
SHARE = 40.0
"""Answers are kept so many times as long as all of them took: together they cost a fortieth of the time at most."""
LONGEST = 30.0
"""Seconds. When the store has stood still for a while, figures of before are no more worth keeping."""
_MOST = 200


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    value: Any = None
    seconds: float = SECONDS
    took: float = 0.0
    until: float = 0.0


class _Within(threading.local):
    """What this thread has spent on answers, for those that are made of others."""

    spent = 0.0


class Shared:
    """Answers by key; any thread may ask. Of many who ask for one at once, one goes and the others wait for it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._within = _Within()

    def get(self, key: Hashable, make: Callable[[], T], *, seconds: float = SECONDS) -> T:
        """The answer that is kept, or a new one; what `make` raises is kept for nobody."""
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        with kept.lock:
            began = self._now()
            if began >= kept.until:
                inside = self._within.spent
                kept.value = make()
                ended = self._now()
                kept.seconds, kept.took = seconds, ended - began - (self._within.spent - inside)
                self._within.spent = inside + ended - began
                kept.until = ended + max(seconds, min(SHARE * self._cost(kept, ended), LONGEST))
            return cast(T, kept.value)

    def _cost(self, kept: _Kept, now: float) -> float:
        """How long this answer took, and those beside it that are to be as new and that somebody still asks for."""
        with self._lock:
            others = [each for each in self._kept.values() if each is not kept and each.until > now]
        return kept.took + sum(each.took for each in others if each.seconds <= kept.seconds)

    def forget(self) -> None:
        """Keep nothing: something was written here, and whoever wrote it wants to see that."""
        with self._lock:
            self._kept.clear()
