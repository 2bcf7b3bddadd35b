"""The applications of a simulated run: each enqueues its jobs in one call after the other, and may die on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobcard.backends.base import Enqueued, Fate
from simulation.faults import Violation
from simulation.jobs import Recipe

if TYPE_CHECKING:
    from simulation.world import World


class Producer:
    """One application: a call that fails is repeated with the same ids until its answer is known."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self._waiting: deque[Sequence[Recipe]] = deque()
        self._calling = False

    @property
    def idle(self) -> bool:
        """Whether every call so far has come to an end."""
        return not self._calling

    def enqueue(self, recipes: Sequence[Recipe]) -> None:
        """Store these in one call, after those that are under way."""
        self.world.stir()
        self._waiting.append(recipes)
        if not self._calling:
            self._calling = True
            self._call()

    def _call(self) -> None:
        world, recipes = self.world, self._waiting[0]
        fate = world.fate(None)
        answers: list[Enqueued] = []

        def apply() -> None:
            for _ in range(fate.times):
                answers[:] = world.backend.enqueue([recipe.job for recipe in recipes])

        if fate.share < 1:
            pass  # all or nothing
        elif fate.applied_at == 0:
            apply()
        elif fate.applied_at is not None:
            world.after(fate.applied_at, apply)
        world.after(fate.wait, self._hears, fate.fails, answers)

    def _hears(self, failed: bool, answers: Sequence[Enqueued]) -> None:
        world, random = self.world, self.world.random
        world.stir()
        if failed and (world.calm or random.random() >= world.faults.producer_deaths):
            # None, stored, or unknown: the same call with the same ids again.
            world.after(random.uniform(0.1, 2), self._call)
            return
        recipes = self._waiting.popleft()
        if failed:
            world.note("%s dies and never knows what became of %d jobs", self.name, len(recipes))
            world.unknown.update(recipe.job.id for recipe in recipes)
        else:
            self._learns(recipes, answers)
        if self._waiting:
            self._call()
        else:
            self._calling = False

    def _learns(self, recipes: Sequence[Recipe], answers: Sequence[Enqueued]) -> None:
        world = self.world
        for recipe, answer in zip(recipes, answers, strict=True):
            world.note("%s enqueued %s: %s, %s", self.name, world.name(recipe.job.id), answer.fate, recipe)
            if answer.fate is Fate.KEY_TAKEN:
                world.passed_over.add(recipe.job.id)
                if recipe.job.unique_key is None or recipe.job.id in world.rows:
                    raise Violation(f"job {world.name(recipe.job.id)} was not stored for a key that is not taken")
            elif answer.fate is Fate.ID_TAKEN:
                raise Violation(f"the id of job {world.name(recipe.job.id)} is another's")
            elif recipe.job.id not in world.rows:
                raise Violation(f"job {world.name(recipe.job.id)} was called {answer.fate} and is not there")
        if world.random.random() < 0.8:
            for host in world.hosts:
                if host.engine is not None:
                    host.engine.tell(0.005, "wake")
