"""The jobs of a simulated run, and what each of their runs does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from jobcard.conformance.factory import new_job
from jobcard.core import clock
from jobcard.core.job import NewJob
from jobcard.core.queue import Queue
from jobcard.core.retry import Backoff
from simulation.episodes import Episodes

NAMES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {},
    "medium": {},
    "slow": {},
    "mixed": {},
    "careful": {},
    "fresh": {"isolation": "fresh"},
    "fat": {"memory_limit": 1 << 30},
    "gentle": {"on_lost_lease": "tell"},
    "wave": {"isolation": "shared"},
    "swell": {"isolation": "shared", "on_lost_lease": "tell"},
}
BACKOFFS = [Backoff.exponential(base=base, limit=5).to_text() for base in (0.01, 0.5, 2)]
KEYS = ("one", "another")
SHARED = frozenset(name for name, about in NAMES.items() if about.get("isolation") == "shared")


def duration_of(name: str, random: Random) -> float:
    """How long one run of a job takes, in seconds."""
    match name:
        case "tiny":
            return 1e-5 * random.uniform(0.5, 3)
        case "small":
            return 1e-3 * random.uniform(0.5, 5)
        case "medium":
            return random.uniform(0.02, 0.2)
        case "slow":
            return random.uniform(0.5, 4) if random.random() < 0.8 else random.uniform(5, 30)
    return 10 ** random.uniform(-5, 0.7)


@dataclass(slots=True)
class Recipe:
    """A job, and what each of its runs does in turn; the last of `runs` is repeated."""

    job: NewJob
    runs: list[tuple[str, float]]
    """(return, follow, error, fail, cancel, snooze, crash, die_after, forever, block, fat or refused, seconds)."""
    at: float
    then: list[NewJob] = field(default_factory=list)
    """Jobs that follow when it ends with `follow`."""
    follows: bytes | None = None
    """The job it follows."""
    call: int = 0
    """Jobs of one number are enqueued in one call."""

    def behaviour(self, turn: int) -> tuple[str, float]:
        return self.runs[min(turn, len(self.runs) - 1)]


def recipes_of(random: Random, *, queues: Sequence[Queue], episodes: Episodes) -> list[Recipe]:
    """20 to 70 jobs of all kinds, in bursts."""
    recipes: list[Recipe] = []
    count = random.randint(20, 70)
    weights = [random.random() ** 2 for _ in NAMES]
    while len(recipes) < count:
        at = episodes.work(random)
        name = random.choices(list(NAMES), weights)[0]
        bursts = name in ("tiny", "small", "mixed", *SHARED)
        burst = random.choice((1, 1, 2, 5, 30)) if bursts else random.choice((1, 1, 3))
        call = len(recipes)
        in_one_call = random.random() < 0.5
        for _ in range(min(burst, count - len(recipes))):
            recipe = _recipe(random, name, len(recipes), queues, at)
            recipe.call = call if in_one_call else len(recipes)
            if random.random() < 0.04:
                recipe.job = recipe.job._replace(unique_key=random.choice(KEYS))
            recipes.append(recipe)
            if recipe.runs[-1][0] == "follow":
                for _ in range(random.choice((1, 2))):
                    child = _recipe(random, random.choice(list(NAMES)), len(recipes), queues, at)
                    child.runs = [run for run in child.runs if run[0] != "follow"]
                    child.runs.append(("return", duration_of(name, random)))
                    child.follows = recipe.job.id
                    recipe.then.append(child.job)
                    recipes.append(child)
    return sorted(recipes, key=lambda recipe: recipe.at)


_ODD = ("error", "error", "fail", "cancel", "snooze", "crash", "die_after", "forever", "fat", "refused")


def _recipe(random: Random, name: str, number: int, queues: Sequence[Queue], at: float) -> Recipe:
    given: dict[str, Any] = {}
    runs: list[tuple[str, float]] = []
    if random.random() < 0.3:
        for _ in range(random.choice((1, 1, 2, 4))):
            kind = random.choice(_ODD)
            if kind == "fat" and name != "fat":
                kind = "block" if name in SHARED else "crash"
            if kind == "forever":
                given["timeout"] = random.choice((50_000, 1_000_000, 5_000_000))
            runs.append((kind, duration_of(name, random)))
    if not runs or runs[-1][0] in ("snooze", "forever") or random.random() < 0.8:
        runs.append((random.choice(("return",) * 9 + ("follow",)), duration_of(name, random)))
    if name == "careful" or random.random() < 0.05:
        given["max_attempts"] = 1
    elif random.random() < 0.3:
        given["max_attempts"] = random.choice((2, 3, 25))
    if random.random() < 0.2:
        given["max_crashes"] = random.choice((1, 2))
    if random.random() < 0.15:
        given["delay"] = random.randint(1, 15 * clock.SECOND)
    if random.random() < 0.2 and "timeout" not in given:
        given["timeout"] = random.choice((1_000_000, 10_000_000, 60_000_000))
    priority = random.choice((0, 0, 0, 5, -5))
    job = new_job(
        id=_id(random, number),
        queue=random.choice(queues).name,
        name=name,
        args=f"[{number}]",
        priority=priority,
        backoff=random.choice(BACKOFFS),
        **given,
    )
    return Recipe(job, runs, at)


def _id(random: Random, number: int) -> bytes:
    return (0x0190 << 112 | number << 64 | random.getrandbits(62)).to_bytes(16, "big")
