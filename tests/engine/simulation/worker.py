"""A simulated worker process: it runs its jobs in turn, or side by side once it was told to share."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobcard.core.job import Claimed
from jobcard.engine import commands as orders
from jobcard.engine.outcomes import Ended
from jobcard.workers.messages import Exit
from simulation.faults import Violation
from simulation.records import Run

if TYPE_CHECKING:
    from simulation.engine import SimEngine

ENDLESS = ("forever", "fat")
BY_ITSELF = "by itself"


class SimWorker:
    """One worker process: reads permits, runs those jobs, says how they ended."""

    def __init__(self, engine: SimEngine, number: int) -> None:
        self.engine = engine
        self.world = engine.world
        self.number = number
        self.permits: deque[orders.Given] = deque()
        self.runs: dict[int, Run] = {}
        """What it runs, by number; more than one only when it shares."""
        self.alive = True
        self.ready = False
        self.shares = False
        self.used = False
        self.told_to_end = False
        self.blocked_until = 0.0
        """Its loop is held by one of its jobs until then."""
        self.fenced: list[bytes] = []
        """The jobs it ran when the keeper killed it."""
        self._waking = False
        self._calls = itertools.count(1)
        self._waiting: dict[int, tuple[Run, int, float, int]] = {}
        """Checkpoints on their way: (run, its number, the seconds it has left, what was saved)."""

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

    # -- orders

    def give(self, jobs: Sequence[orders.Given]) -> None:
        """Jobs come down the pipe; also a dead worker's permit pipe takes them."""
        self.permits.extend(jobs)
        self._wake()

    def share(self) -> None:
        """From now on side by side."""
        if self.used or self.permits or self.shares:
            raise Violation(f"{self} is told to share though it has run something, or has jobs, or shares already")
        self.shares = True

    def recall(self) -> list[int]:
        """Take back every permit that was not read."""
        seqs = [seq for seq, _claim, _since in self.permits]
        self.permits.clear()
        return seqs

    def end(self) -> None:
        """There will be no more."""
        self.told_to_end = True
        self._wake()

    def told(self, seq: int, why: str) -> None:
        """One of its jobs shall end; whether and how it does is its own business."""
        run = self.runs.get(seq)
        if not self.alive or run is None:
            return
        run.told_why = why
        if run.told_at is not None:
            return
        run.told_at = self.world.now
        if run.when_told != "ignore":
            wait = self.world.random.choice((1e-4, self.world.random.uniform(0, 0.3)))
            self.world.after(max(wait, self.blocked_until - self.world.now), self._heeds, run, seq)

    def _heeds(self, run: Run, seq: int) -> None:
        if not self.alive or self.runs.get(seq) is not run:
            return
        if self._is_blocked():
            self.world.at(self.blocked_until, self._heeds, run, seq)
        else:
            self._ends(run, seq, run.when_told, at_once=True)

    def replied(self, call: int, error: Any) -> None:
        """What became of a checkpoint."""
        if not self.alive or call not in self._waiting:
            return
        run, seq, left, saved = self._waiting.pop(call)
        if error is None:
            self.world.check_saved(run, saved)
        if self.runs.get(seq) is not run:
            return
        if error is not None and error["class"] == "ClaimLostError":
            self._ends(run, seq, "error", at_once=True)
        else:
            self.world.after(left, self._ends, run, seq, run.kind)

    # -- running

    def _is_blocked(self) -> bool:
        return self.world.now < self.blocked_until

    def _wake(self) -> None:
        if self.alive and not self._waking and (self.shares or not self.runs):
            self._waking = True
            self.world.at(max(self.world.now + 5e-5, self.blocked_until), self._next)

    def _next(self) -> None:
        self._waking = False
        if not self.alive or (self.runs and not self.shares):
            return
        if self._is_blocked():
            self._wake()
            return
        if not self.permits:
            if self.told_to_end and not self.runs:
                self.die("told to end")
            return
        started = []
        while self.permits and not self._is_blocked():
            seq, claim, _since = self.permits.popleft()
            self._begin(seq, claim)
            started.append((seq, self.world.now))
            if not self.shares:
                return
        self.engine.tell(5e-5, "started", self, started)
        if self.permits:
            self._wake()

    def _begin(self, seq: int, claim: Claimed) -> None:
        random, world = self.world.random, self.world
        self.used = True
        run = self.runs[seq] = world.begins(self, claim)
        kind, seconds = run.kind, run.seconds
        if kind == "fat":
            world.after(min(seconds, 0.4), self._is_fat, run, seq)
        if self.shares and kind == "block":
            self.blocked_until = world.now + seconds
        if run.talks and kind not in ENDLESS:
            seconds = self._talk(run, seq, seconds)
        if kind not in ENDLESS and seconds >= 0:
            world.after(seconds, self._ends, run, seq, kind)
        if random.random() < world.faults.worker_crashes and not world.calm:
            # Also at the very end: before the outcome is said, and after, while nobody has read it yet.
            world.after(run.seconds * random.choice((random.random(), 1, 1.0001)), self._dies_by_itself, run, seq)

    def _talk(self, run: Run, seq: int, seconds: float) -> float:
        """Say something now and then; the seconds after which it ends, negative when it waits for an answer first."""
        random, world = self.world.random, self.world
        for _ in range(random.choice((1, 2, 5))):
            world.after(seconds * random.random(), self._says, run, seq)
        world.after(seconds, self._says, run, seq)
        if random.random() < 0.5:
            return seconds + 1e-6
        left = seconds * random.random()
        world.after(seconds - left, self._saves, run, seq, left)
        return -1.0

    def _says(self, run: Run, seq: int) -> None:
        if not self.alive or self.runs.get(seq) is not run:
            return
        line = f"line {self.world.next_number()}"
        run.lines.append(line)
        self.engine.tell(5e-5, "note", self, seq, {"progress": line, "lines": [[self.world.now, line]]}, None)

    def _saves(self, run: Run, seq: int, left: float) -> None:
        if not self.alive or self.runs.get(seq) is not run:
            return
        call, number = next(self._calls), self.world.next_number()
        self._waiting[call] = (run, seq, left, number)
        run.unstorable |= self.world.random.random() >= 0.95
        checkpoint = f'"\ud800{number}"' if run.unstorable else str(number)
        self.engine.tell(5e-5, "note", self, seq, {"checkpoint": checkpoint}, call)

    def _ends(self, run: Run, seq: int, kind: str, *, at_once: bool = False) -> None:
        if not self.alive or self.runs.get(seq) is not run:
            return
        if kind == "crash":
            self._dies_by_itself(run, seq)
            return
        if self._is_blocked() and kind != "block" and not at_once:
            self.world.at(self.blocked_until, self._ends, run, seq, kind)
            return
        now = self.world.now
        del self.runs[seq]
        self.world.ends(self, run, kind)
        word = _WORDS.get(kind)
        if word is not None:
            self.engine.tell(5e-5, "ended", self, seq, run.begin, now, word)
        elif kind == "follow":
            jobs = self.world.recipes[run.job].then
            self.engine.tell(5e-5, "followed", self, seq, run.begin, now, "null", jobs)
        else:
            result = '"\ud800"' if kind == "refused" else "null"
            self.engine.tell(5e-5, "done", self, seq, run.begin, now, result)
        if kind == "die_after":
            self._dies_by_itself(run, seq)
        elif self.shares:
            self._wake()
        else:
            self._next()

    def _dies_by_itself(self, run: Run, seq: int) -> None:
        if self.alive:
            for other in self.runs.values():
                self.world.own_deaths[other.job] += 1
            if len(self.runs) > 1:
                self.world.in_company.update((other.job, other.token) for other in self.runs.values())
            self.die(BY_ITSELF)

    def _is_fat(self, run: Run, seq: int) -> None:
        if self.alive and self.runs.get(seq) is run:
            self.engine.tell(1e-4, "fat", self)

    def die(self, how: str) -> None:
        """The process is gone; what it said before is still heard, then its end."""
        if not self.alive:
            return
        self.alive = False
        runs, self.runs = self.runs, {}
        self.world.note("worker %s ends: %s", self, how)
        for run in runs.values():
            self.world.ends(self, run, "died")
        # A job that ends its process with exit code 0 has not completed.
        self.engine.tell(1e-3, "gone", self, Exit(0 if how == BY_ITSELF else -9, ""))

    def __str__(self) -> str:
        return f"{self.engine.owner}/{self.number}"


_ERROR = {"type": "Error", "message": "it broke", "traceback": None}
_WORDS = {
    "error": Ended("error", None, None, _ERROR, "Error"),
    "fail": Ended("fail", "no use", None, _ERROR, "Fail"),
    "cancel": Ended("cancel", "not needed", None, None, None),
    "snooze": Ended("snooze", None, 300_000, None, None),
    "told": Ended("told", "as told", None, None, None),
}
