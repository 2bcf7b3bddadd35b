"""One load with faults in it, on one store: `python -m checker.load --store redis --seed 7`.

    python -m checker.load                                       # SQLite, the schedule of scripts/test, seed 1
    python -m checker.load --store postgres --faults worker-killed:10,engine-killed:2 --jobs 2000
    python -m checker.load --env SOME_SWITCH=1                   # for engines, workers and producers
    python -m checker.load --list                                # the kinds of faults

Prints one line of JSON. Exit code 0: every figure that must be 0 is 0, and everything came back; 1: not so, and the
line says where the histories, the rows and the logs are kept; 2: wrong arguments. The same seed strikes the same kinds
of faults in the same order; what they meet is up to the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from checker.faults import CI, FAULTS, Fault
from checker.faults.base import Steps
from checker.figures import FAULTS as FIGURES
from checker.figures import Figures
from checker.lab import Lab, Tree
from checker.leaks import Leaks
from checker.place import place_for_faults
from checker.red import keep
from checker.scene import Scene, Shape
from helpers.places import ANY_KIND

JOBS = 5_000
STUCK_SECONDS = 120.0
STEP = 0.02
LOW = 40
"""Fewer waiting jobs than this are too few: faults are to meet engines at work."""
HIGH = 400
"""More than this, and nothing would be killed but a backlog."""
SOUND = ("load.hardy", "load.obey")
UNDER_WAY = 3
"""Faults at once at most."""


class Load:
    """So many jobs through a schedule of faults."""

    def __init__(
        self,
        scene: Scene,
        schedule: Mapping[str, int],
        *,
        jobs: int,
        seed: int,
        until: float,
        each_turn: Callable[[], None],
    ) -> None:
        """until: monotonic seconds after which no other fault begins."""
        self._each_turn = each_turn
        self._scene = scene
        self._jobs = jobs
        self._chance = random.Random(seed)
        self._until = until
        self._left = [name for name, count in schedule.items() for _ in range(count)]
        self._chance.shuffle(self._left)
        self._planned = len(self._left)
        self._is_warm = False
        self._under_way: list[tuple[Fault, Tree | None, Steps]] = []
        self.struck: dict[str, int] = dict.fromkeys(schedule, 0)

    @property
    def not_reached(self) -> dict[str, int]:
        """The faults that time did not allow."""
        return {name: count for name in dict.fromkeys(self._left) if (count := self._left.count(name))}

    def run(self) -> None:
        """Until every fault was made, has healed, and so many jobs are stored."""
        while True:
            self._scene.tail.look()
            self._each_turn()
            self._step()
            in_time = time.monotonic() < self._until
            if in_time and self._warm():
                self._begin()
            if not in_time and not self._under_way:
                return
            self._feed()
            if not self._left and not self._under_way and self._scene.tail.stored.total() >= self._jobs:
                return
            time.sleep(STEP)

    def _warm(self) -> bool:
        """Whether every engine has run some job: faults are to meet engines at work, and a crowd takes time to come."""
        if not self._is_warm:
            began = self._scene.tail.first_begin
            self._is_warm = all(
                any(each in began for each in self._scene.workers(tree)) for tree in self._scene.trees()
            )
        return self._is_warm

    def _step(self) -> None:
        for each in self._under_way[:]:
            try:
                next(each[2])
            except StopIteration:
                self._under_way.remove(each)
                self.struck[each[0].name] += 1

    def _begin(self) -> None:
        """Begin the first of the faults that are left that may happen beside those that are under way."""
        for name in dict.fromkeys(self._left):
            fault = FAULTS[name]
            if self._may_begin(fault):
                self._left.remove(name)
                tree = self._a_tree() if fault.breaks == "tree" else None
                chance = random.Random(self._chance.getrandbits(64))
                self._under_way.append((fault, tree, fault.strike(self._scene, tree or self._scene.trees()[0], chance)))
                return

    def _may_begin(self, fault: Fault) -> bool:
        if len(self._under_way) >= UNDER_WAY or any(other.breaks == "all" for other, _, _ in self._under_way):
            return False
        if fault.breaks == "all":
            return not self._under_way
        if any(other is fault for other, _, _ in self._under_way):
            return False
        return fault.breaks != "tree" or bool(self._free_trees())

    def _free_trees(self) -> list[Tree]:
        taken = [tree for _, tree, _ in self._under_way if tree is not None]
        return [tree for tree in self._scene.trees() if tree not in taken]

    def _a_tree(self) -> Tree:
        return self._chance.choice(self._free_trees())

    def _feed(self) -> None:
        """Keep some jobs waiting, and let the faults and the jobs come to their ends at about the same time."""
        scene = self._scene
        scene.crowd.check()
        stored, backlog = scene.tail.stored.total(), len(scene.tail.waiting)
        done = 1 - (len(self._left) + len(self._under_way)) / max(1, self._planned)
        behind = stored < self._jobs * (done if self._left else 1)
        if backlog < LOW or (behind and backlog < HIGH):
            scene.crowd.feed()


def run(
    kind: str,
    folder: Path,
    *,
    schedule: Mapping[str, int],
    jobs: int = JOBS,
    seed: int = 1,
    shape: Shape | None = None,
    seconds: float = 900.0,
    leaks: bool = False,
) -> dict[str, Any]:
    """Make the load on a store of its own in a folder; what came of it, as it is printed. Never raises for a fault.

    seconds: after so many no other fault begins. leaks: tell what engines and keepers held on to.
    """
    began = time.monotonic()
    shape = replace(shape or Shape(), clocks="clock-stepped" in schedule)
    with place_for_faults(kind, folder, small="disk-full" in schedule) as (place, proxy):
        lab = Lab(folder, place.url)
        if proxy is not None:
            lab.engine_url = place.behind(proxy.port)
        why, figures, scene, load = "", Figures(), None, None
        try:
            scene = Scene(lab, place, proxy, shape, seed)
            impossible = {name: reason for name in schedule if (reason := FAULTS[name].why_not(scene))}
            possible = {name: count for name, count in schedule.items() if name not in impossible}
            held = Leaks(scene)
            load = Load(scene, possible, jobs=jobs, seed=seed, until=began + seconds, each_turn=held.look)
            load.run()
            figures = _end(scene)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
            if scene is None or load is None:
                keep(lab, place, seed)
                raise
            with contextlib.suppress(Exception):
                lab.stop()
                figures = lab.figures(workers_killed=True, sound=SOUND)
        finally:
            zeros = {name: getattr(figures, name) for name in FIGURES}
            ok = not why and not any(zeros.values())
            kept = None if ok else keep(lab, place, seed)
            lab.close()
    late = _late(scene)
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    return {
        "store": kind,
        "ok": ok,
        **zeros,
        "jobs": figures.jobs,
        "runs": figures.runs,
        "extra_runs": figures.extra_runs,
        "recovered": figures.recovered,
        "faults": load.struck,
        "not_reached": load.not_reached,
        "not_possible_here": impossible,
        **dict(scene.counts),
        **({"leaks": held.figures()} if leaks else {}),
        "recovery": scene.recovery(),
        "late": late,
        "seed": seed,
        "lease": shape.lease,
        "load_per_core": round(busy, 1),
        "seconds": round(time.monotonic() - began, 1),
        **({} if ok else {"why": why, "cases": figures.cases, "kept": str(kept)}),
    }


def _end(scene: Scene) -> Figures:
    """Drain, stop, and judge."""
    scene.crowd.stop()
    began = time.monotonic()
    stuck = ""
    try:
        scene.lab.drained(scene.app, timeout=STUCK_SECONDS)
    except AssertionError as error:
        stuck = str(error)  # which ones the checker says
    scene.measured("drain", time.monotonic() - began)
    for tree in scene.trees():
        tree.signal(15)
    for tree in scene.trees():
        if code := tree.wait():
            scene.broken("stuck", f"an engine that was stopped in the end exited with {code}")
    with contextlib.suppress(AssertionError):
        scene.lab.wait_gone()
    figures = scene.lab.figures(workers_killed=True, sound=SOUND)
    for pid in scene.lab.processes():
        figures.add("orphans", str(pid))
    for figure, case in scene.cases:
        figures.add(figure, case)
    if stuck and not figures.stuck:
        figures.add("stuck", stuck)
    return figures


def _late(scene: Scene) -> dict[str, float]:
    """What took longer than it should, and how long."""
    promised = {figure: most for fault in FAULTS.values() for figure, most in fault.promised.items()}
    return {
        figure: round(max(seconds), 3)
        for figure, seconds in scene.seconds.items()
        if max(seconds) > promised.get(figure, float("inf"))
    }


# ------------------------------------------------------------------ the command


def _schedule(text: str) -> dict[str, int]:
    """`worker-killed:10,engine-killed` as a schedule."""
    found = {}
    for part in filter(None, text.split(",")):
        name, _, count = part.partition(":")
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(FAULTS)}")
        found[name] = int(count or 1)
    return found


def _variable(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def main() -> int:
    """Run one load, print its line, say by the exit code how it went."""
    parser = argparse.ArgumentParser(prog="python -m checker.load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--store", default="sqlite", choices=ANY_KIND)
    parser.add_argument("--faults", type=_schedule, default=CI, metavar="NAME:COUNT,…")
    parser.add_argument("--jobs", type=int, default=JOBS, help="at least so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=900.0, help="no fault begins after these")
    parser.add_argument("--lease", type=float, default=3.0, help="the heartbeat is a sixth of it")
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--env", type=_variable, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--list", action="store_true", help="say which faults there are")
    asked = parser.parse_args()
    if asked.list:
        for name, fault in FAULTS.items():
            print(f"{name:18} {(sys.modules[fault.strike.__module__].__doc__ or '').strip()}")
        return 0
    shape = Shape(
        lease=asked.lease,
        heartbeat=asked.lease / 6,
        engines=asked.engines,
        workers=asked.workers,
        environment=dict(asked.env),
    )
    with tempfile.TemporaryDirectory(prefix="jobcard-load-") as folder:
        line = run(
            asked.store,
            Path(folder),
            schedule=asked.faults,
            jobs=asked.jobs,
            seed=asked.seed,
            shape=shape,
            seconds=asked.seconds,
        )
    print(json.dumps(line), flush=True)
    return 0 if line["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
