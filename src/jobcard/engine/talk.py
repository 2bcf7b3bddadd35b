"""The conversation with the store: when an exchange is due, what it carries, and what its answer says of that.

At most one exchange is in flight. What it carried is kept until its answer; after a failure all of it is said again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jobcard.backends.base import Exchanged, Refusal, Verdict, Want
from jobcard.core import clock, states
from jobcard.core.job import Ref
from jobcard.engine.commands import Command, Exchange, FindStrays, Reply
from jobcard.engine.notes import Note, Notes, error_of_lost_claim, error_of_refused_note
from jobcard.engine.outcomes import error_of_refused_outcome
from jobcard.engine.words import Batch, Move, Words

# Measured in docs/decisions/0003-look-ahead.md: large batches are what makes the store fast.
FLUSH = 200  # outcomes that make an exchange due at once
FLUSH_SECONDS = 0.010  # … and how long the first may wait
BACK = (
    3  # failures that are remembered of a store that answers again: the next try after another one is soon, not at once
)
PULSE_SECONDS = 1.0  # the store is asked at least so often for cancel requests and changed settings

Key = tuple[Ref, int]


class Heard(NamedTuple):
    """An answer, as far as it is about what was said. lost, refused: jobs and tokens."""

    batch: Batch
    lost: set[Key]
    refused: set[Key]


class Talk:
    """One engine's side of it; it shares the plan's words, notes and commands."""

    def __init__(
        self,
        words: Words,
        notes: Notes,
        commands: list[Command],
        *,
        random: Callable[[], float],
        max_batch: int,
        poll_interval: float,
        now: float,
    ) -> None:
        self.in_flight: Batch | None = None
        self.strays = ""
        """Whether claims are to be looked for that we may not know of: "", "due" or "asked"."""
        self.hungry = False
        """Whether the store may have more than it gave."""
        self.poll_at = now
        self._words = words
        self._notes = notes
        self._commands = commands
        self._random = random
        self._max_batch = max_batch
        self._poll_interval = poll_interval
        self._talked_at = now - PULSE_SECONDS
        self._next_try = now
        self._failures = 0

    # -------------------------------------------------------------- when

    def may_speak(self, now: float) -> bool:
        """Whether an exchange could be sent now; claims that may have been made without our knowing are found first."""
        if self.in_flight is not None or now < self._next_try:
            return False
        if self.strays == "due":
            self.strays = "asked"
            self._commands.append(FindStrays())
        return not self.strays

    def is_due(self, now: float, *, pulse: bool, is_quiet: Callable[[], bool]) -> bool:
        """Whether the store is to be told something now, or to be asked what it is asked now and then.

        pulse: it is asked that at all. is_quiet: whether no other job will end within a moment.
        """
        if (pulse and now >= self._talked_at + PULSE_SECONDS) or now >= self._notes.next_time():
            return True
        since = self._words.since
        if since is None:
            return False
        return now >= since + FLUSH_SECONDS or len(self._words) >= FLUSH or is_quiet()

    def would_claim(self, now: float) -> bool:
        """Whether it is worth asking what could be claimed: the store may have something."""
        return self.hungry or now >= self.poll_at

    def speak(self, want: Want, now: float, *, is_due: bool, room_is_wide: bool) -> None:
        """Send an exchange, if it is due or there is enough to claim. want: what could be claimed."""
        if now >= self.poll_at and not want.total:
            # No room now; ask as soon as there is.
            self.hungry = True
            self.poll_at = now + self._poll_interval
        if is_due or (want.total > 0 and (now >= self.poll_at or (self.hungry and room_is_wide))):
            self._send(want, now)

    def _send(self, want: Want, now: float) -> None:
        self.in_flight = batch = self._words.take(self._max_batch, want, now)
        if self._notes.pages:
            # First in the list: whatever ends a job comes after what the job said.
            notes = self._notes.take(self._max_batch - len(batch.done) - len(batch.moves), now)
            batch.moves[:0] = [Move(note.claim, note) for note in notes]
        self._talked_at = now
        self._commands.append(Exchange(batch.completions(), batch.outcomes(), want, batch.freed()))

    def next_time(self, *, polls: bool, pulse: bool) -> float:
        """When to speak next if nothing happens until then."""
        if self.in_flight is not None or self.strays == "asked":
            return float("inf")
        at = self._notes.next_time()
        if self._words.since is not None:
            at = min(at, self._words.since + FLUSH_SECONDS)
        if polls:
            at = min(at, self.poll_at)
        if pulse:
            at = min(at, self._talked_at + PULSE_SECONDS)
        return max(at, self._next_try)

    # -------------------------------------------------------------- what comes back

    def answered(self, answer: Exchanged, now: float) -> Heard:
        """The store answered the exchange in flight."""
        batch = self.in_flight
        assert batch is not None, "an answer without an exchange"
        self.in_flight = None
        self._failures = 0
        lost: set[Key] = set()
        refused: dict[Key, str] = {}
        for refusal in answer.refusals:
            if refusal.verdict is Verdict.LOST:
                lost.add((refusal.ref, refusal.token))
            elif refusal.verdict is Verdict.REFUSED:
                refused[refusal.ref, refusal.token] = refusal.why
                self._say_it_was_refused(refusal, batch, now)
        for note in batch.notes():
            if (note.claim.ref, note.claim.token) not in refused:
                self._notes.carried(note)
                error = error_of_lost_claim() if (note.claim.ref, note.claim.token) in lost else None
                self._commands += [Reply(note.worker, call, error) for call in note.calls]
        return Heard(batch, lost, set(refused))

    def polled(self, *, hungry: bool, next_due: int | None, now: float) -> None:
        """The store was asked for jobs. next_due: microseconds until the next delayed one is due."""
        self.hungry = hungry
        self.poll_at = now + self._poll_interval
        if next_due is not None:
            self.poll_at = min(self.poll_at, now + next_due / clock.SECOND)

    def failed(self, now: float) -> None:
        """The store did not answer the exchange in flight: everything said is said again later.

        It may have been applied: the same words again are then recognised as ours, and what it claimed
        without our knowing shows as strays.
        """
        batch = self.in_flight
        assert batch is not None, "a failure without an exchange"
        self.in_flight = None
        self.wait(now)
        batch.moves[:] = [
            move for move in batch.moves if not (isinstance(move.said, Note) and self._notes.put_back(move.said))
        ]
        self._words.put_back(batch)
        if batch.want.total:
            self.strays = "due"

    def wait(self, now: float) -> None:
        """The store failed: leave it alone for a moment, a longer one each time."""
        self._failures += 1
        self._next_try = now + min(5.0, 0.02 * 2 ** min(self._failures, 8) * (0.5 + self._random()))

    def heard(self, now: float) -> None:
        """The store answered another question: it is back, so the wait for it is over."""
        if self._failures > BACK:
            self._failures = BACK
            self._next_try = now

    def _say_it_was_refused(self, refusal: Refusal, batch: Batch, now: float) -> None:
        key = (refusal.ref, refusal.token)
        moves = [move for move in batch.moves if (move.claim.ref, move.claim.token) == key]
        if any(isinstance(move.said, Note) for move in moves):
            self._say_without_checkpoint(moves, refusal.why, now)
            return
        for claim, said in [*((claim, None) for claim in batch.done), *((move.claim, move.said) for move in moves)]:
            if (claim.ref, claim.token) != key:
                continue
            # The reason that made it be refused may stand in the error; the second time nothing of it is said.
            first = not isinstance(said, states.Change) or said.sets.get("reason") != "serialization"
            error = error_of_refused_outcome(claim, refusal.why) if first else None
            if first or (isinstance(said, states.Change) and said.error is not None):
                self._words.move(claim, states.fail_refused(claim, error=error), now)
            return

    def _say_without_checkpoint(self, moves: list[Move], why: str, now: float) -> None:
        # Which of a job's words was refused is not said: most likely its checkpoint. That goes, and the rest is said
        # again, before whatever was said of the job since; what had been applied of it is recognised.
        again: list[Move] = []
        for move in moves:
            note = move.said
            if not isinstance(note, Note):
                again.append(move)
                continue
            self._commands += [Reply(note.worker, call, error_of_refused_note(why)) for call in note.calls]
            had_checkpoint, note.checkpoint, note.calls = note.checkpoint is not None, None, []
            if had_checkpoint and (note.lines or note.progress is not None):
                if not self._notes.put_back(note):
                    again.append(move)
                continue
            self._notes.carried(note)
            if note.started is not None:
                ago = round((now - note.started) * clock.SECOND)
                again.append(Move(move.claim, states.start(move.claim, ago=ago)))
        self._words.say_first(again, now)
