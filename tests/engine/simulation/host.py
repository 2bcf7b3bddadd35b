"""A simulated machine: a keeper, and one engine after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobcard.engine.keeper import HUNG_SECONDS
from jobcard.engine.shares import UNSAFE_SHARE
from simulation.engine import SimEngine

if TYPE_CHECKING:
    from simulation.world import World


class Host:
    """One machine: a keeper, and one engine after the other."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.engine: SimEngine | None = None
        self.dead_owners: list[str] = []
        self.cut_until = 0.0
        self.up = True
        self._starts = 0

    def boot(self, delay: float) -> None:
        """Start an engine: its first worker says hello after a while."""
        self.world.after(delay + self.world.random.uniform(0.05, 0.6), self._boot)

    def _boot(self) -> None:
        if self.engine is None and self.up:
            self._starts += 1
            self.engine = SimEngine(self, f"{self.name}{self._starts}", self.dead_owners)
            self.world.engines[self.engine.owner] = self.engine
            self.world.note("%s starts after %s", self.engine.owner, self.dead_owners)
            self._watch(self.engine)

    def _watch(self, engine: SimEngine) -> None:
        """Kill the workers of an engine whose claims end soon; kill an engine that hangs."""
        if engine is not self.engine:
            return
        now = self.world.now
        engine.look_around()
        at = engine.safe + UNSAFE_SHARE * self.world.settings.lease
        if now >= at:
            for worker in list(engine.workers.values()):
                if worker.alive:
                    worker.fenced = [run.job for run in worker.runs.values()]
                    worker.die("fenced by the keeper")
        if now - engine.turned_at >= HUNG_SECONDS and now >= engine.stopped_until:
            # A stopped process is left alone, one that waits for its store for ever is not.
            engine.die("it hangs and is killed by the keeper")
            return
        self.world.at(max(at, now + 0.2), self._watch, engine)

    def engine_ended(self, engine: SimEngine) -> None:
        """Its workers die with it; then comes the next one."""
        random = self.world.random
        last = 0.0
        for worker in engine.workers.values():
            wait = 0.0 if engine.ended_by_itself or not self.up else random.uniform(0, 0.02)
            last = max(last, wait)
            self.world.after(wait, worker.die, "its engine is gone")
        self.world.ended(engine)
        self.engine = None
        if not engine.ended_by_itself:
            self.dead_owners.append(engine.owner)
        elif self.up and not self.world.closing:
            # Somebody asked for it; a new keeper knows nothing of the old one.
            self.dead_owners = []
            self.boot(random.uniform(0.5, 5))
            return
        if self.up:
            self.boot(last + 0.01)

    def lose(self, back_after: float) -> None:
        """The power is gone: keeper, engine and workers at once; later all begins anew."""
        self.up = False
        if self.engine is not None:
            workers = list(self.engine.workers.values())
            self.engine.die("its host is lost")
            for worker in workers:
                worker.die("its host is lost")
        self.dead_owners = []
        self.world.after(back_after, self._back)

    def _back(self) -> None:
        self.up = True
        self.boot(0)
