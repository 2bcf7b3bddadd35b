"""Plant each fault and see who catches it: `python -m planted`, in the folder of the tests.

Prints a row for each fault and seed, and at last a table. Exit code 1: some fault was not caught.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date

from planted.layers import run
from planted.plan import FAULTS, of_today


def main() -> int:
    """Plant them and print who caught them, and after how long."""
    parser = argparse.ArgumentParser(prog="python -m planted", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--fault", action="append", choices=[fault.name for fault in FAULTS])
    parser.add_argument("--layer", action="append", help="only these; else the first that catches it")
    parser.add_argument("--seed", type=int, action="append", help="1, 2 and 3 unless given")
    parser.add_argument("--today", action="store_true", help="the five of today, with one seed")
    given = parser.parse_args()
    day = date.today().timetuple().tm_yday
    faults = of_today(day) if given.today else [f for f in FAULTS if not given.fault or f.name in given.fault]
    seeds = given.seed or ([day] if given.today else [1, 2, 3])
    rows, missed = [], 0
    for fault in faults:
        caught: dict[str, list[float]] = {}
        words = ""
        for seed in seeds:
            for layer in given.layer or fault.layers:
                began = time.monotonic()
                found = run(layer, fault.name, seed)
                took = time.monotonic() - began
                print(f"{fault.number:2} {fault.name} seed {seed} {layer}: {found} ({took:.1f} s)", flush=True)
                if found is not None:
                    caught.setdefault(layer, []).append(took)
                    words = found
                    if not given.layer:
                        break
        times = sum(map(len, caught.values()))
        missed += times < len(seeds)
        by = ", ".join(f"{layer} ({max(took):.0f} s)" for layer, took in caught.items())
        rows.append(f"| {fault.number} | {fault.name} | {by or 'nobody'} | {times} of {len(seeds)} | {words} |")
    print("\n| | fault | caught by (at the latest after) | seeds | for example |\n|---|---|---|---|---|")
    print("\n".join(rows))
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
