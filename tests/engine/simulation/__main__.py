"""Play simulated runs from the command line.

    cd tests/engine
    python -m simulation --seed 12345                     one run, every event printed
    python -m simulation --random --count 200000          many from a seed that nobody chose, on every core
    python -m simulation --seed 7 --fault lost=0.3        faults of our choice instead of the seed's

The last line is one JSON object: seeds played, simulated hours, seconds, and the seeds with a violation. Exit code 1
if there is any.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys

from simulation.faults import Faults
from simulation.many import play_many
from simulation.play import simulate


def main() -> int:
    """Replay one seed, or play many."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Play simulated runs.")
    first = parser.add_mutually_exclusive_group(required=True)
    first.add_argument("--seed", type=int, help="the seed, or the first of several")
    first.add_argument("--random", action="store_true", help="begin at a random seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, from the first on")
    parser.add_argument("--seconds", type=float, help="begin no further seed after so long")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fault", action="append", default=[], help="name=rate, instead of those drawn from the seed")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    seed = random.SystemRandom().randrange(10**9, 10**12) if given.random else given.seed
    rates = (fault.split("=") for fault in given.fault)
    faults = Faults(**{name: float(rate) for name, rate in rates}) if given.fault else None
    if given.count == 1:
        report = simulate(seed, faults=faults, trace=print)
        print(report)
        return report.violation is not None
    return play_many(seed, given.count, faults, given.processes, given.seconds)


if __name__ == "__main__":
    sys.exit(main())
