"""The layers that catch faults, each as one process on the product as it is there: with a planted fault, or sound.

`python -m planted.layers LAYER SEED` runs one; exit code 0: nothing found, 1: found, and its last line says what.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random

TESTS = Path(__file__).resolve().parents[1]
SWITCH = Path(__file__).with_name("switch")
SEEDS = 300
"""Simulated runs at most."""
LOAD = ("--jobs", "600", "--faults", "worker-killed:6,engine-killed:2,producer-killed:6,engine-frozen:2,unique-race:10")
MOVE = ("--from", "sqlite", "--to", "sqlite", "--jobs", "2000", "--alive")
RUNS = 3
"""Runs of real processes at most: whether a fault meets anything is up to the machine, too."""
PATIENCE = 900
VARIABLE = "PLANTED_FAULT"
LATER = f"""
import os, runpy, sys
os.environ["{VARIABLE}"] = sys.argv.pop(1)
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""A module without the fault: it is named when Python has started, for the processes that come."""
WATCHED = {
    "load": ("checker.load", "--store", "sqlite", *LOAD),
    "move": ("checker.moved", *MOVE),
}
NOT_FOUND, FOUND = 0, 1


def environment(fault: str | None) -> dict[str, str]:
    """What a process gets that has this fault, and those that it starts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBCARD_", "PYTEST_"))}
    paths = [str(TESTS), str(TESTS / "engine")]
    if fault is None:
        return {**kept, "PYTHONPATH": os.pathsep.join(paths)}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(SWITCH), *paths]), VARIABLE: fault}


def run(layer: str, fault: str | None, seed: int) -> str | None:
    """Run one layer on the product with this fault; what it found, None: nothing."""
    if layer in WATCHED:
        return next(filter(None, (_watched(layer, fault, each) for each in range(seed, seed + RUNS))), None)
    done = subprocess.run(
        [sys.executable, "-m", "planted.layers", layer, str(seed)],
        env=environment(fault), cwd=TESTS, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode == NOT_FOUND:
        return None
    if done.returncode != FOUND:
        raise RuntimeError(f"{layer} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def _watched(layer: str, fault: str | None, seed: int) -> str | None:
    """Real processes: engines, workers, producers and commands have the fault, whoever watches them does not."""
    around = environment(fault)
    planted = around.pop(VARIABLE, "")
    done = subprocess.run(
        [sys.executable, "-c", LATER, planted, *WATCHED[layer], "--seed", str(seed)],
        env=around, cwd=TESTS, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    if done.returncode not in (NOT_FOUND, FOUND):
        raise RuntimeError(f"{layer} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    line = json.loads(done.stdout.strip().splitlines()[-1])
    if not line["jobs"]:
        raise RuntimeError(f"{layer} came to grief before anything was judged: {line['why']}")
    found = [f"{name}={len(cases)}+" for name, cases in line.get("cases", {}).items()]
    return None if line["ok"] else " ".join(found) or line["why"]


# ------------------------------------------------------------------ in the process


def suite(seed: int) -> str | None:
    """The checks of the conformance suite on SQLite, in an order of the seed's."""
    from jobcard.conformance import CHECKS, run_check

    checks = sorted(CHECKS)
    Random(seed).shuffle(checks)
    with _sqlite() as harness:
        for check in checks:
            try:
                run_check(check, harness())
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # pytest's own failures are no exceptions
                if type(error).__name__ != "Skipped":
                    return check
    return None


def crowd(seed: int) -> str | None:
    """Histories of several threads on SQLite."""
    from jobcard.conformance import Crowd, run_concurrent_histories

    with _sqlite() as harness:
        try:
            run_concurrent_histories(harness(), Crowd(first_seed=1_000 * seed))
        except Exception as error:  # whatever it is, the store brought it about
            return f"{type(error).__name__}: {error}".partition("\n")[0]
    return None


def simulation(seed: int) -> str | None:
    """Simulated runs of whole engines."""
    from simulation.play import simulate

    for number in range(10_000 * seed, 10_000 * seed + SEEDS):
        report = simulate(number)
        if report.violation is not None:
            return f"seed {number}: {report.violation.splitlines()[0]}"
    return None


def ticks(seed: int) -> str | None:
    """Several engines at the ticks of one schedule."""
    from helpers.tickers import race

    number = 50 + seed % 50
    with tempfile.TemporaryDirectory() as folder:
        made = race(Path(folder) / "jobs.db", number)
    wanted = list(range(1, number + 1))
    return None if made == wanted else f"{len(made)} jobs of {number} ticks"


def power(seed: int) -> str | None:
    """A disk that forgets."""
    from planted.power import lost_with_the_power

    for number in range(10 * seed, 10 * seed + 10):
        with tempfile.TemporaryDirectory() as folder:
            lost = lost_with_the_power(Path(folder), number)
        if lost:
            return f"{lost} jobs that were called stored went with the power"
    return None


LAYERS: dict[str, Callable[[int], str | None]] = {
    "suite": suite,
    "crowd": crowd,
    "simulation": simulation,
    "ticks": ticks,
    "power": power,
}


@contextmanager
def _sqlite() -> Iterator[Callable[[], object]]:
    from jobcard.backends.sqlite import SQLiteBackend
    from jobcard.conformance import Harness

    numbers = count()
    with tempfile.TemporaryDirectory() as folder:

        def new_store(clock: object) -> Callable[[], SQLiteBackend]:
            path = Path(folder) / f"{next(numbers)}.db"
            return lambda: SQLiteBackend(path, clock=clock, synchronous="normal")

        yield lambda: Harness(new_store)


def main(layer: str, seed: int) -> int:
    """Run one layer here."""
    logging.disable(logging.CRITICAL)
    try:
        found = LAYERS[layer](seed)
    except Exception:
        traceback.print_exc()
        return 2
    print(found or "nothing found", flush=True)
    # Threads that a fault left behind are not waited for.
    os._exit(FOUND if found else NOT_FOUND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
