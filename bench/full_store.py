"""How fast jobs drain in a store that keeps a million finished and a million delayed jobs, beside an empty one.

    python bench/full_store.py --url URL [--finished 1000000] [--delayed 1000000] [--jobs 30000] [--rounds 3]

Two stores where the URL is, one of them filled, take turns: the same jobs, queue and engine. Both are removed
afterwards. Prints one line of JSON: the rates of both, their ratio, and how long the filling took.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, closing

from jobcard.backends.base import Completions, Want
from jobcard.backends.registry import open_backend
from jobcard.cli.bench_app import VARIABLE, jobs, nothing
from jobcard.cli.own_store import own_store
from jobcard.conformance import factory
from jobcard.core.clock import DAY

CHUNK = 1_000


def fill(url: str, finished: int, delayed: int) -> float:
    """Store that many jobs that ended and that many that are due in some days; seconds it took."""
    began = time.monotonic()
    store = open_backend(url)
    store.migrate()
    most = min(CHUNK, store.capabilities.max_batch)
    for _ in range(finished // CHUNK):
        factory.enqueue_several(store, CHUNK)
        done = Completions()
        for _ in range(-(-CHUNK // most) + 1):
            answer = store.exchange("fill", completions=done, want=Want([("default", most)], most), lease=DAY)
            refs, tokens = [c.ref for c in answer.claimed], [c.token for c in answer.claimed]
            done = Completions(refs, tokens, [None] * len(refs), [100] * len(refs))
        store.exchange("fill", completions=done)
    for number in range(delayed // CHUNK):
        factory.enqueue_several(store, CHUNK, delay=(1 + number % 30) * DAY)
    store.close()
    return time.monotonic() - began


def drain(url: str, count: int) -> float:
    """Jobs a second, from the first start until the store shows all as ended."""
    jobs.configure(url)
    ids = [handle.id.bytes for handle in jobs.enqueue_many([nothing.call() for _ in range(count)])]
    chunks = [ids[at : at + CHUNK] for at in range(0, count, CHUNK)]
    with closing(open_backend(url)) as store:
        with jobs.running():
            for chunk in chunks:
                while len(store.ended(chunk)) < len(chunk):
                    time.sleep(0.01)
            ended = time.time()
        started = min(row.started_at for chunk in chunks for row in store.get(chunk))
    return count / (ended - started / 1e6)


def in_a_process(url: str, count: int) -> float:
    """One drain in a process of its own, as an application would be."""
    command = [sys.executable, __file__, "--url", url, "--jobs", str(count), "--drain-only"]
    ran = subprocess.run(command, env={**os.environ, VARIABLE: url}, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    return float(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--delayed", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--drain-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drain_only:
        print(drain(options.url, options.jobs))
        return
    with ExitStack() as stack:
        full, empty = (stack.enter_context(own_store(options.url)) for _ in range(2))
        seconds = fill(full, options.finished, options.delayed)
        fill(empty, 0, 0)
        rates: dict[str, list[float]] = {"full": [], "empty": []}
        for number in range(options.rounds):
            for name in ("full", "empty") if number % 2 == 0 else ("empty", "full"):
                rates[name].append(round(in_a_process(full if name == "full" else empty, options.jobs), 1))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        print(
            json.dumps(
                {
                    "finished": options.finished,
                    "delayed": options.delayed,
                    "fill_s": round(seconds, 1),
                    "rates": rates,
                    "ratio": round(medians["full"] / medians["empty"], 2),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
