"""The look-ahead: claimed jobs that no worker has yet, in the order of their claim, by queue."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence

from jobcard.core.job import Claimed

Waiting = tuple[Claimed, float]
"""A claim and since when we hold it."""


class Ahead:
    """Lines of claimed jobs, one per queue."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, deque[Waiting]] = defaultdict(deque)
        self._number = 0
        """How many stand in line: whether anybody does is asked several times a turn."""

    def line(self, queue: str) -> Sequence[Waiting]:
        """The line of one queue."""
        return self._lines[queue]

    def add(self, claim: Claimed, since: float) -> None:
        """At the end of its line."""
        self._lines[claim.queue].append((claim, since))
        self._number += 1

    def add_first(self, claim: Claimed, since: float) -> None:
        """At the head of its line: it was taken back from a worker."""
        self._lines[claim.queue].appendleft((claim, since))
        self._number += 1

    def take_first(self, queue: str) -> Waiting:
        """Remove the head of a line in which somebody stands."""
        self._number -= 1
        return self._lines[queue].popleft()

    def lines(self) -> list[tuple[str, Sequence[Waiting]]]:
        """The queues that have somebody in line."""
        return [(queue, line) for queue, line in self._lines.items() if line]

    def oldest(self) -> float:
        """Since when the first in line waits; never when nobody does."""
        return min((line[0][1] for _queue, line in self.lines()), default=float("inf"))

    def take(self, wanted: Callable[[Claimed], bool]) -> list[Claimed]:
        """Remove the claims that are wanted; those that were in line."""
        taken = []
        for line in self._lines.values():
            found = [entry for entry in line if wanted(entry[0])]
            for entry in found:
                line.remove(entry)
            taken += [claim for claim, _since in found]
        self._number -= len(taken)
        return taken

    def take_waiting(self, queue: str, patience: float, now: float) -> list[Claimed]:
        """Remove from the head of a line what has waited for so long."""
        line = self._lines[queue]
        taken = []
        while line and now >= line[0][1] + patience:
            taken.append(self.take_first(queue)[0])
        return taken

    def take_all(self) -> list[Claimed]:
        """Remove everything."""
        taken = [claim for claim, _since in self]
        self._lines.clear()
        self._number = 0
        return taken

    def __iter__(self) -> Iterator[Waiting]:
        for line in self._lines.values():
            yield from line

    def __len__(self) -> int:
        return self._number
