"""The limits of a simulated run: of queues and of keys, drawn from the seed, and judged whenever somebody claims."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from jobcard.conformance.rules import is_at_work
from jobcard.core import clock, rates
from jobcard.core.job import JobRow
from jobcard.core.queue import Queue
from jobcard.core.rates import RateLimit, Use
from simulation.faults import Violation

if TYPE_CHECKING:
    from simulation.jobs import Recipe
    from simulation.world import World

LET_IN_SECONDS = 5.0


class Limiting:
    """Which queues and jobs have limits: none in most runs."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._queues = 0.5 if random.random() < 0.4 else 0.0
        self._jobs = random.choice((0.1, 0.5, 1.0)) if random.random() < 0.4 else 0.0
        # Of one key all have the same limits, as the code that enqueues them says.
        self._keys = [self._limits(f"key-{number}") for number in range(random.choice((1, 2, 5)))]

    def _limits(self, key: str) -> dict[str, object]:
        random = self._random
        given: dict[str, object] = {"limit_key": key}
        if random.random() < 0.7:
            given["key_limit"] = random.choice((1, 1, 2, 3))
        if "key_limit" not in given or random.random() < 0.2:
            given["rate_count"] = random.choice((1, 3, 10))
            given["rate_per"] = clock.to_duration(random.choice((0.1, 1, 5)))
        return given

    def limited(self, queue: Queue) -> Queue:
        """The queue, with limits or without."""
        random = self._random
        if random.random() >= self._queues:
            return queue
        if random.random() < 0.7:
            queue = replace(queue, global_concurrency=random.choice((1, 2, 3, 5)))
        if queue.global_concurrency is None or random.random() < 0.2:
            queue = replace(queue, rate=RateLimit(random.choice((1, 5, 20)), random.choice((0.1, 1, 5))))
        return queue

    def give_key(self, recipe: Recipe) -> None:
        """Give its job a limit key, or not; those that follow others have none."""
        if recipe.follows is None and self._random.random() < self._jobs:
            recipe.job = recipe.job._replace(**self._random.choice(self._keys))


class LimitsJudge:
    """The part of a world that watches limits."""

    def check_limits(self: World) -> None:  # type: ignore[misc]
        """Of no queue and no key are more jobs at work than may be."""
        at_work = [row for row in self.rows.alive.values() if is_at_work(row)]
        of_queues = Counter(row.queue for row in at_work)
        for queue in self.queues:
            number = of_queues[queue.name]
            if queue.global_concurrency is not None and number > queue.global_concurrency:
                raise Violation(f"{number} jobs of {queue} are at work")
        of_keys = Counter(row.limit_key for row in at_work)
        for row in at_work:
            number = of_keys[row.limit_key]
            if row.key_limit is not None and number > row.key_limit:
                raise Violation(f"{number} jobs of the key {row.limit_key} are at work, {row.key_limit} may be")

    def has_room(self: World, queue: Queue) -> bool:  # type: ignore[misc]
        """Whether the limits of a queue let one more start now."""
        limit = queue.limit
        if limit is None:
            return True
        room = limit.room(self.backend._use_of_queue(queue.name), self.clock.now())
        return room is None or room > 0

    def key_has_room(self: World, row: JobRow, uses: dict[str, Use]) -> bool:  # type: ignore[misc]
        """Whether the limits of its key let the job start now. uses: of the keys looked at so far in this moment."""
        key = row.limit_key
        if key is None:
            return True
        if key not in uses:
            uses[key] = self.backend._use_of_key(key)
        [answer] = rates.admit([rates.limits_of(row)], uses, self.clock.now())
        return answer.enters
