"""`python -m racing GATE THREADS KEYS SEED`: so many producers of the same unique jobs, each in an order of its own.

They begin when the gate is there; then a line of JSON tells what each heard: {key: id}.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobcard import Jobcard, Unique

CHUNK = 50


def meet(key: str) -> None:
    """Nobody runs it."""


def produce(gate: Path, order: Sequence[str]) -> dict[str, str]:
    """Enqueue a job for each key; whose job each is."""
    told: dict[str, str] = {}
    with Jobcard() as jobs:
        unique = jobs.job(name="racing.meet", unique=Unique(by=("key",)))(meet)
        jobs.count()
        os.write(1, b"ready\n")  # in one piece: several do so
        while not gate.exists():
            time.sleep(0.001)
        for at in range(0, len(order), CHUNK):
            part = order[at : at + CHUNK]
            handles = jobs.enqueue_many([unique.call(key) for key in part])
            told |= {key: handle.id.hex for key, handle in zip(part, handles, strict=True)}
    return told


def main() -> None:
    gate = Path(sys.argv[1])
    threads, keys, seed = map(int, sys.argv[2:])
    chance = random.Random(seed)
    orders = [chance.sample([f"k{number}" for number in range(keys)], keys) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for told in pool.map(lambda order: produce(gate, order), orders):
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
