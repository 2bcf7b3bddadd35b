"""What the store has still to be told: how jobs ended, kept until an exchange has carried it for sure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jobcard.backends.base import Completions, Outcome, Want
from jobcard.core.job import Claimed
from jobcard.core.states import Change


class Batch(NamedTuple):
    """What one exchange carries."""

    done: list[Claimed]
    results: list[str]
    starts: list[float]
    moves: list[tuple[Claimed, Change]]
    want: Want
    sent_at: float

    def completions(self) -> Completions:
        """The completions as columns, starts as time before now."""
        return Completions(
            [claim.ref for claim in self.done],
            [claim.token for claim in self.done],
            self.results,
            [max(0, int((self.sent_at - start) * 1e6)) for start in self.starts],
        )

    def outcomes(self) -> list[Outcome]:
        """All other moves, each with the proof of holding its job."""
        return [Outcome(claim.ref, claim.token, change) for claim, change in self.moves]


class Words:
    """Completions in columns and other moves in order."""

    def __init__(self) -> None:
        self._done: list[Claimed] = []
        self._results: list[str] = []
        self._starts: list[float] = []
        self._moves: list[tuple[Claimed, Change]] = []
        self.since: float | None = None
        """When the oldest of them was said."""

    def completed(self, claim: Claimed, result: str, started: float, ended: float) -> None:
        """This job returned."""
        self._done.append(claim)
        self._results.append(result)
        self._starts.append(started)
        if self.since is None:
            self.since = ended

    def move(self, claim: Claimed, change: Change, now: float) -> None:
        """This job makes this move."""
        self._moves.append((claim, change))
        if self.since is None:
            self.since = now

    def take(self, most: int, want: Want, now: float) -> Batch:
        """The oldest words for one exchange, `most` in all."""
        moves = self._moves[:most]
        rest = most - len(moves)
        batch = Batch(self._done[:rest], self._results[:rest], self._starts[:rest], moves, want, now)
        del self._moves[:most], self._done[:rest], self._results[:rest], self._starts[:rest]
        self.since = now if len(self) else None
        return batch

    def put_back(self, batch: Batch) -> None:
        """They may not have arrived: they are said again, first."""
        self._done[:0] = batch.done
        self._results[:0] = batch.results
        self._starts[:0] = batch.starts
        self._moves[:0] = batch.moves
        if len(self):
            self.since = batch.sent_at

    def claims(self) -> Iterator[Claimed]:
        """The jobs spoken of."""
        yield from self._done
        for claim, _change in self._moves:
            yield claim

    def __len__(self) -> int:
        return len(self._done) + len(self._moves)
