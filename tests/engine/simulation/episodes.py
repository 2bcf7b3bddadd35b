"""When things happen in a simulated run: a few short episodes of work in a long time, most of which is quiet.

A quiet world is cheap: its engines sleep through it but for their last second. So a run may be as long as leases,
outages and delays need to do their worst, and costs what its episodes cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

SIMULATED_SECONDS = 1200.0
AFTERMATH_SECONDS = 5.0
STRAY_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Episodes:
    """The (begin, length) of each, within `begin` to `end`."""

    begin: float
    end: float
    parts: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """How long they are together, with what comes after each."""
        return sum(length + AFTERMATH_SECONDS for _begin, length in self.parts)

    def moment(self, random: Random) -> float:
        """When something goes wrong: mostly while there is work, now and then at any time."""
        if random.random() < STRAY_SHARE:
            return random.uniform(self.begin, self.end)
        begin, length = random.choice(self.parts)
        return min(self.end, max(self.begin, begin + random.uniform(-1, length + AFTERMATH_SECONDS)))

    def work(self, random: Random) -> float:
        """When a job is enqueued."""
        begin, length = random.choice(self.parts)
        return begin + random.uniform(0, length)


def episodes_of(random: Random, begin: float) -> Episodes:
    """One to four of them, from a second to a quarter of a minute long."""
    end = begin + SIMULATED_SECONDS + random.uniform(0, 60)
    parts = [(random.uniform(begin, end - 60), random.choice((1.0, 5.0, 15.0))) for _ in range(random.randint(1, 4))]
    return Episodes(begin, end, tuple(parts))
