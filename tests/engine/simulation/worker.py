"""A simulated worker process."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobcard.engine import commands as orders
from jobcard.engine.outcomes import Ended
from simulation.records import Run

if TYPE_CHECKING:
    from simulation.engine import SimEngine


class SimWorker:
    """One worker process: reads a permit, runs that job, says how it ended."""

    def __init__(self, engine: SimEngine, number: int) -> None:
        self.engine = engine
        self.world = engine.world
        self.number = number
        self.permits: deque[orders.Given] = deque()
        self.run: Run | None = None
        self.alive = True
        self.ready = False
        self.told_to_end = False
        self.fenced: bytes | None = None
        """The job it ran when the keeper killed it."""
        self._waking = False

    def boot(self) -> None:
        random = self.world.random
        wait = random.uniform(0.03, 0.4)
        if random.random() < self.world.faults.bad_spawns and not self.world.calm:
            self.world.after(wait, self.die, "before its hello")
        else:
            self.world.after(wait, self._hello)

    def _hello(self) -> None:
        if self.alive:
            self.ready = True
            self.engine.tell(1e-4, "hello", self)

    def give(self, jobs: Sequence[orders.Given]) -> None:
        """Jobs come down the pipe; also a dead worker's permit pipe takes them."""
        self.permits.extend(jobs)
        self._wake()

    def recall(self) -> list[int]:
        """Take back every permit that was not read."""
        seqs = [seq for seq, _claim, _since in self.permits]
        self.permits.clear()
        return seqs

    def end(self) -> None:
        """There will be no more."""
        self.told_to_end = True
        self._wake()

    def _wake(self) -> None:
        if self.alive and self.run is None and not self._waking:
            self._waking = True
            self.world.after(5e-5, self._next)

    def _next(self) -> None:
        self._waking = False
        if not self.alive or self.run is not None:
            return
        if not self.permits:
            if self.told_to_end:
                self.die("told to end")
            return
        seq, claim, _since = self.permits.popleft()
        kind, seconds = self.world.begins(self, claim)
        run = self.run
        assert run is not None
        random = self.world.random
        if kind == "fat":
            self.world.after(min(seconds, 0.4), self._is_fat, run)
        if kind not in ("forever", "fat"):
            self.world.after(seconds, self._ends, run, seq, kind, seconds)
        if random.random() < self.world.faults.worker_crashes and not self.world.calm:
            # Also at the very end: before the outcome is said, and after, while nobody has read it yet.
            self.world.after(seconds * random.choice((random.random(), 1, 1.0001)), self._dies_by_itself, run)

    def _ends(self, run: Run, seq: int, kind: str, seconds: float) -> None:
        if not self.alive or self.run is not run:
            return
        if kind == "crash":
            self._dies_by_itself(run)
            return
        now = self.world.now
        self.run = None
        self.world.ends(self, run, kind)
        word = _WORDS.get(kind)
        if word is None:
            result = '"\ud800"' if kind == "refused" else "null"
            self.engine.tell(5e-5, "done", self, seq, run.begin, now, result)
        else:
            self.engine.tell(5e-5, "ended", self, seq, run.begin, now, word)
        if kind == "die_after":
            self.die("after its outcome")
        else:
            self._next()

    def _dies_by_itself(self, run: Run) -> None:
        if self.alive:
            if self.run is not None:
                self.world.own_deaths[self.run.job] += 1
            self.die("by itself")

    def _is_fat(self, run: Run) -> None:
        if self.alive and self.run is run:
            self.engine.tell(1e-4, "fat", self)

    def die(self, how: str) -> None:
        """The process is gone; what it said before is still heard, then its end."""
        if not self.alive:
            return
        self.alive = False
        run, self.run = self.run, None
        self.world.note("worker %s ends: %s", self, how)
        if run is not None:
            self.world.ends(self, run, "died")
        self.engine.tell(1e-3, "gone", self)

    def __str__(self) -> str:
        return f"{self.engine.owner}/{self.number}"


_ERROR = {"type": "Error", "message": "it broke", "traceback": None}
_WORDS = {
    "error": Ended("error", None, None, _ERROR, "Error"),
    "fail": Ended("fail", "no use", None, _ERROR, "Fail"),
    "cancel": Ended("cancel", "not needed", None, None, None),
    "snooze": Ended("snooze", None, 300_000, None, None),
}
