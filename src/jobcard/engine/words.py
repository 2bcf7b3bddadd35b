"""What the store has still to be told: how jobs ended, kept until an exchange has carried it for sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobcard.backends.base import NO_COMPLETIONS, Completions, Outcome, Want
from jobcard.core import clock
from jobcard.core.job import Claimed, NewJob
from jobcard.core.states import AT_WORK, After, Change
from jobcard.engine.notes import Note


class Move(NamedTuple):
    """One move of a job, or a note about it.

    started: when it began, for a move that ends a job whose start the store is told with it.
    """

    claim: Claimed
    said: Change | Note
    then: Sequence[NewJob] = ()
    started: float | None = None

    @property
    def leaves(self) -> bool:
        """Whether nobody works on the job after it."""
        return not isinstance(self.said, Note) and self.said.target not in AT_WORK

    def outcome(self, sent_at: float) -> Outcome:
        """As the store hears it, times counted back from this moment."""
        change = self.said.change(sent_at) if isinstance(self.said, Note) else self.said
        if self.started is not None:
            ago = max(0, round((sent_at - self.started) * clock.SECOND))
            change = change._replace(sets={**change.sets, "started_at": After(-ago)})
        return Outcome(self.claim.ref, self.claim.token, change, self.then)


class Batch(NamedTuple):
    """What one exchange carries."""

    done: list[Claimed]
    results: list[str]
    starts: list[float]
    moves: list[Move]
    want: Want
    sent_at: float

    def completions(self) -> Completions:
        """The completions as columns, starts as time before now."""
        if not self.done:
            return NO_COMPLETIONS
        return Completions(
            [claim.ref for claim in self.done],
            [claim.token for claim in self.done],
            self.results,
            [max(0, int((self.sent_at - start) * 1e6)) for start in self.starts],
        )

    def outcomes(self) -> list[Outcome]:
        """All other moves, each with the proof of holding its job."""
        return [move.outcome(self.sent_at) for move in self.moves]

    def freed(self) -> frozenset[str]:
        """The limit keys of the jobs that leave work."""
        leaving = {claim.limit_key for claim in self.done}
        leaving.update(move.claim.limit_key for move in self.moves if move.leaves)
        return frozenset(key for key in leaving if key is not None)

    def notes(self) -> Iterator[Note]:
        """The notes among the moves."""
        for move in self.moves:
            if isinstance(move.said, Note):
                yield move.said


class Words:
    """Completions in columns and other moves in order."""

    def __init__(self) -> None:
        self._done: list[Claimed] = []
        self._results: list[str] = []
        self._starts: list[float] = []
        self._moves: list[Move] = []
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
        self.say(Move(claim, change), now)

    def say(self, move: Move, now: float) -> None:
        """This move, after those said before."""
        self._moves.append(move)
        if self.since is None:
            self.since = now

    def say_first(self, moves: Sequence[Move], now: float) -> None:
        """These moves, before all others."""
        self._moves[:0] = moves
        if moves and self.since is None:
            self.since = now

    def take(self, most: int, want: Want, now: float) -> Batch:
        """The oldest words for one exchange, `most` in all."""
        if self.since is None:
            return Batch([], [], [], [], want, now)  # nothing to say, only to ask
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
        for move in self._moves:
            yield move.claim

    def __len__(self) -> int:
        return len(self._done) + len(self._moves)
