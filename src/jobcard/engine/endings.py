"""The end of a try, put into words for the store: what the job had still to say comes first, then how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jobcard.core import states
from jobcard.core.job import Claimed, NewJob
from jobcard.engine.held import Told
from jobcard.engine.notes import Notes
from jobcard.engine.outcomes import Ended, change_for, change_for_death
from jobcard.engine.words import Move, Words
from jobcard.workers.messages import Exit


class Endings:
    """How the jobs of one engine end, whichever worker ran them."""

    def __init__(self, words: Words, notes: Notes, *, random: Callable[[], float]) -> None:
        self._words = words
        self._notes = notes
        self._random = random

    def returned(self, claim: Claimed, result: str, started: float, ended: float) -> None:
        """It returned."""
        if self._say_last_note(claim, ended):
            # The store settles completions first: this one has to come after the job's own words.
            self._words.say(Move(claim, states.complete(result), started=started), ended)
        else:
            self._words.completed(claim, result, started, ended)

    def followed(self, claim: Claimed, result: str, jobs: Sequence[NewJob], started: float, ended: float) -> None:
        """It returned, and these jobs follow."""
        self._say_last_note(claim, ended)
        self._words.say(Move(claim, states.complete(result), jobs, started), ended)

    def ended(self, claim: Claimed, what: Ended, told: Told | None, at: float) -> None:
        """It ended in any other way. told: what it had been told by then."""
        self._say_last_note(claim, at)
        self._words.move(claim, change_for(claim, what, random=self._random, told=told), at)

    def died(self, claim: Claimed, why: str, exit: Exit, told: Told | None, now: float) -> None:
        """Its worker died; why: as `change_for_death` knows them."""
        self._say_last_note(claim, now)
        self._words.move(claim, change_for_death(claim, why, exit, random=self._random, told=told), now)

    def give_back(self, claim: Claimed, now: float) -> None:
        """It has not started here and will not."""
        self._words.move(claim, states.hand_back(claim), now)

    def _say_last_note(self, claim: Claimed, now: float) -> bool:
        """Whether words of the job itself are on their way, which its end must not overtake."""
        last, under_way = self._notes.close(claim)
        if last is not None:
            self._words.say(Move(claim, last), now)
        return last is not None or under_way
