"""The long run: every kind of fault, hundreds of times, on each store. `scripts/soak` runs this.

    scripts/soak                        all of it on the five stores: half a day on two cores
    scripts/soak 60                     as much as an hour allows, shared by the stores; says what it did not reach
    scripts/soak --store redis          one store; its lines replace the ones that the file has of it
    scripts/soak --part outage --store postgres,redis
    scripts/soak --jobs 20000 --seed 7

Parts: `faults` (the load), `disk` (a disk that is full again and again), `outage` (ten minutes without a store),
`leaks` (steady load with kills: does anything grow?), `move` (a load that is moved from the store into each other one;
the command, an engine and both stores are killed in every step). Each prints a line of JSON for each store and writes
it into a file, docs/soak.jsonl unless told otherwise. Exit code 1: some figure that must be 0 is not, or something did
not come back.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checker import load, moved, outage
from checker.faults import DISK, LEAKS, SOAK
from checker.scene import Shape
from helpers.places import ANY_KIND

STORES = ["sqlite", "postgres", "mariadb", "mongodb", "redis"]
PARTS = ["faults", "disk", "outage", "leaks", "move"]
JOBS = 100_000
SHAPE = Shape(lease=6.0, heartbeat=1.0, trouble=(1.0, 12.0))
SHARES = {"faults": 0.55, "disk": 0.05, "outage": 0.15, "leaks": 0.2, "move": 0.05}
"""Of the minutes that are given."""
LONGEST = {"faults": 4 * 3600.0, "disk": 900.0, "outage": 600.0, "leaks": 3600.0, "move": 2400.0}
"""Seconds of each part when no minutes are given."""
OUT = Path(__file__).resolve().parents[2] / "docs" / "soak.jsonl"


def run_part(part: str, store: str, folder: Path, *, seconds: float, seed: int, jobs: int) -> dict[str, Any]:
    """One part on one store; its line. Moves are many: see `run_moves`."""
    if part == "outage":
        return outage.run(store, folder, seconds=seconds)
    schedule = {"faults": SOAK, "disk": DISK, "leaks": LEAKS}[part]
    wanted = {"faults": jobs, "disk": jobs // 50, "leaks": jobs}[part]
    return load.run(
        store, folder, schedule=schedule, jobs=wanted, seed=seed, shape=SHAPE, seconds=seconds, leaks=part != "disk"
    )


def run_moves(store: str, folder: Path, *, seconds: float, seed: int, jobs: int) -> Iterator[dict[str, Any]]:
    """From this store into each other one, as long as there is time to begin; a line each."""
    until = time.monotonic() + seconds
    for other in STORES:
        if other != store and time.monotonic() < until:
            (folder / other).mkdir()
            yield moved.run((store, other), folder / other, seed=seed, jobs=jobs, all_stores=True)


def write(out: Path, line: dict[str, Any]) -> None:
    """Put a line into the file, in the place of the one it has of the same part and store."""
    lines = [json.loads(text) for text in out.read_text().splitlines()] if out.exists() else []
    lines = [each for each in lines if _place_of(each) != _place_of(line)] + [line]
    lines.sort(key=_place_of)
    out.write_text("".join(json.dumps(each) + "\n" for each in lines))


def _place_of(line: dict[str, Any]) -> tuple[int, int, int]:
    to = line.get("to")
    return PARTS.index(line["part"]), ANY_KIND.index(line["store"]), -1 if to is None else ANY_KIND.index(to)


def _several(known: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(known)}")
        return names

    return parse


def main() -> int:
    """Run the parts, print and write their lines, say by the exit code how it went."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("minutes", type=float, nargs="?", help="for all of it; else as long as it takes")
    parser.add_argument("--store", type=_several(ANY_KIND), default=STORES, metavar="A,B")
    parser.add_argument("--part", type=_several(PARTS), default=PARTS, metavar="A,B")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1_000_000))
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    good = True
    for store in asked.store:
        for part in asked.part:
            seconds = LONGEST[part]
            if asked.minutes is not None:
                share = SHARES[part] / sum(SHARES[each] for each in asked.part)
                seconds = min(seconds, 60 * asked.minutes / len(asked.store) * share)
            print(f"── {part} on {store}, seed {asked.seed}, at most {seconds / 60:.1f} minutes", file=sys.stderr)
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="jobcard-soak-") as folder:
                bounds = {"seconds": seconds, "seed": asked.seed}
                if part == "move":
                    lines = run_moves(store, Path(folder), **bounds, jobs=asked.jobs // 40)
                else:
                    lines = iter([run_part(part, store, Path(folder), **bounds, jobs=asked.jobs)])
                for figures in lines:
                    line = {"part": part, **figures, "minutes": round((time.monotonic() - began) / 60, 1)}
                    print(json.dumps(line), flush=True)
                    write(asked.out, line)
                    good &= line["ok"]
                    began = time.monotonic()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
