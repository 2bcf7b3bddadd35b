"""What faults act on: a store, engines on it, a crowd that enqueues, and eyes on the histories while all of it runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from checker.crowd import Crowd
from checker.faults.base import Steps
from checker.history import is_alive, process_name
from checker.lab import Lab, Tree, below
from checker.tail import Tail
from helpers.places import Place
from helpers.proxy import Proxy
from jobcard.core.ids import IdSource
from jobcard.errors import EnqueueUnknownError, JobcardError, StoreError, StoreUnavailableError

# One for good: a server that is started by a thread ends with that thread.
_helper = ThreadPoolExecutor(1, "checker-helper")
_ids = IdSource()

SKEWED = Path(__file__).with_name("skewed")
PATIENCE = 60.0
"""Seconds: whatever has not come after these has not come at all."""


@dataclass(frozen=True)
class Shape:
    """How a load is built. options: of `jobcard start`, beside lease and heartbeat."""

    lease: float = 3.0
    heartbeat: float = 0.5
    engines: int = 2
    workers: int = 4
    producers: int = 4
    trouble: tuple[float, float] = (1.0, 3.0)
    """For how many seconds a network is broken, at least and at most."""
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    clocks: bool = False
    """Whether each engine has a wall clock of its own, that can be stepped."""


class Unrecovered(AssertionError):
    """What was broken did not come back."""


class Scene:
    """A load at work. Its faults are stepped by one thread, and look at the same `tail`."""

    def __init__(self, lab: Lab, place: Place, proxy: Proxy | None, shape: Shape, seed: int) -> None:
        self.lab = lab
        self.place = place
        self.proxy = proxy
        self.shape = shape
        self.lease = shape.lease
        self.tail = Tail(lab.histories)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        """By figure: how long each recovery took."""
        self.counts: Counter[str] = Counter()
        self.cases: list[tuple[str, str]] = []
        """Promises that a fault saw broken: (figure, what happened)."""
        self.app: Any = lab.app("load")
        self._turns: Counter[str] = Counter()
        for _ in range(shape.engines):
            self._start()
        for tree in self.trees():
            tree.wait_ready()
        self.crowd = Crowd(lab, self.tail, random.Random(seed), count=shape.producers)

    # -- what there is

    def trees(self) -> list[Tree]:
        """The engines with their keepers, but for those that have ended."""
        return [tree for tree in self.lab.trees if tree.process.poll() is None]

    def workers(self, tree: Tree) -> set[str]:
        """The processes below an engine, as histories call them."""
        engine = tree.find_engine()
        return set() if engine is None else {process_name(pid) for pid in below(engine)}

    def runs(self, tree: Tree) -> bool:
        """Whether one of its workers is in the middle of a job."""
        return any(worker in self.tail.running for worker in self.workers(tree))

    @staticmethod
    def is_gone(process: str) -> bool:
        """Whether this very process has ended."""
        return not is_alive(process)

    @staticmethod
    def now() -> float:
        """Seconds by the clock of the histories."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e9

    # -- waiting, as faults do

    def until(self, event: Callable[[], object], what: str, *, timeout: float = PATIENCE) -> Steps:
        """Wait for an event."""
        until = self.now() + timeout
        while not event():
            if self.now() > until:
                raise Unrecovered(f"waited {timeout:g} s for {what} in vain")
            yield

    def after(self, seconds: float) -> Steps:
        """Let time pass: how long something stays broken is what a fault sets."""
        until = self.now() + seconds
        while self.now() < until:
            yield

    def in_background(self, call: Callable[[], object]) -> Steps:
        """Wait for a call that takes its time."""
        future = _helper.submit(call)
        while not future.done():
            yield
        future.result()

    def enqueued(self, job: Any, number: int = 1) -> Generator[None, None, list[Any]]:
        """Enqueue so many of a job, however long that takes: a host that stands still may have the lock of a file."""
        ids = [UUID(bytes=each) for each in _ids.take(number)]
        handles: list[Any] = []

        def insist() -> None:
            while not handles:
                with contextlib.suppress(EnqueueUnknownError):
                    handles.extend(self.lab.enqueue(self.app, [job.options(id=each).call() for each in ids]))

        yield from self.in_background(insist)
        return handles

    def runs_again(self, tree: Tree, since: float) -> Steps:
        """Wait until one of its workers begins a job after a moment."""
        yield from self.until(
            lambda: (
                tree.process.poll() is not None
                or any(self.tail.last_begin.get(worker, 0.0) > since for worker in self.workers(tree))
            ),
            "an engine that runs jobs again",
        )

    def back(self, figure: str, since: float) -> Steps:
        """Wait until every engine runs jobs again; noted is the first of them, and the last as `FIGURE_all`."""
        trees = self.trees()
        for tree in trees:
            yield from self.runs_again(tree, since)
        begins = [at for at in self.tail.last_begin.values() if at > since]
        self.measured(figure, min(begins) - since)
        self.measured(f"{figure}_all", self.now() - since)

    # -- doing

    def start_tree(self) -> Steps:
        """Start an engine with its keeper, and wait until it is ready."""
        tree = self._start()
        yield from self.until(
            lambda: (
                tree.process.poll() is not None or any(line.startswith("ready") for line in tree.errors.splitlines())
            ),
            "an engine that is ready",
        )
        tree.wait_ready()

    def clock_of(self, tree: Tree) -> Path:
        """The file that says how many seconds the wall clock of an engine's host is wrong by."""
        return self.lab.folder / f"clock-{self.lab.trees.index(tree)}"

    @staticmethod
    def signal(process: str, number: int) -> bool:
        """Send a signal to a process; whether it was still there."""
        try:
            if is_alive(process):
                os.kill(int(process.partition("-")[0]), number)
                return True
        except ProcessLookupError:
            pass
        return False

    def _start(self) -> Tree:
        shape = self.shape
        environment = dict(shape.environment)
        if shape.clocks:
            clock = self.lab.folder / f"clock-{len(self.lab.trees)}"
            clock.write_text("0")
            path = f"{SKEWED}{os.pathsep}{self.lab.environment()['PYTHONPATH']}"
            environment |= {"CHECKER_CLOCK": str(clock), "PYTHONPATH": path}
        return self.lab.start(
            "load", "--lease", str(shape.lease), "--heartbeat", str(shape.heartbeat),
            "--processes", str(shape.workers), "--max-concurrent-jobs", str(shape.workers), *shape.options,
            ready=False, env=environment,
        )  # fmt: skip

    def cancel(self, job: str) -> None:
        """Cancel a job as an operator would, and write down what the answer was."""
        with contextlib.suppress(StoreError):
            try:
                state = self.app.jobs.cancel(job).state
            except JobcardError as error:
                if isinstance(error, StoreError):
                    raise
                return  # it had ended
            self.counts["canceled"] += 1
            self.lab.history.write("cancel", job, state)

    def ended(self, handle: Any) -> Any:
        """The job, if it has ended as far as the store says just now; else None."""
        with contextlib.suppress(StoreUnavailableError):
            found = handle.refresh()
            return found if found.finished_at is not None else None
        return None

    # -- noting

    def measured(self, figure: str, seconds: float) -> None:
        """Something came back after so long."""
        self.seconds[figure].append(seconds)

    def count(self, figure: str, number: int) -> None:
        """So many of something."""
        self.counts[figure] += number

    def broken(self, figure: str, case: str) -> None:
        """A promise did not hold."""
        self.cases.append((figure, case))

    def in_turn(self, what: str, names: Iterable[str]) -> str:
        """The next of some names, round and round."""
        names = list(names)
        self._turns[what] += 1
        return names[(self._turns[what] - 1) % len(names)]

    def trouble_seconds(self, chance: random.Random) -> float:
        """For how long a network is to be broken now: mostly short."""
        least, most = self.shape.trouble
        return least + (most - least) * chance.random() ** 2

    def recovery(self) -> dict[str, dict[str, float]]:
        """What was measured: how often, the median, the 99th in a hundred, the longest."""
        return {
            figure: {
                "n": len(seconds),
                "p50": round(statistics.median(seconds), 3),
                "p99": round(sorted(seconds)[-max(1, len(seconds) // 100)], 3),
                "max": round(max(seconds), 3),
            }
            for figure, seconds in sorted(self.seconds.items())
        }

    def __str__(self) -> str:
        return json.dumps(self.recovery())
