"""What limits cost: another queue's jobs beside a limited one, and jobs of ten thousand keys that run one at a time.

    python bench/limits.py [--url URL] [--jobs 20000] [--keys 10000] [--rounds 3]

By turns, each in a store of its own: a plain queue alone; the same beside a queue whose one place is taken and whose
jobs wait; and as many jobs that share keys with a limit of one. Prints one line of JSON: the rates of all three, and
those of the last two as ratios to the first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import closing

from jobcard.backends.base import Want
from jobcard.backends.registry import open_backend
from jobcard.cli.bench_app import VARIABLE, jobs
from jobcard.cli.own_store import own_store
from jobcard.conformance import factory
from jobcard.core.clock import DAY

CHUNK = 1_000
NAME = "bench.nothing"
BESIDE = 5_000
CASES = ("plain", "beside", "keyed")


def drain(url: str, count: int, case: str, keys: int) -> float:
    """Jobs a second, from the first start until the store shows all as ended."""
    jobs.configure(url)
    with closing(open_backend(url)) as store:
        store.migrate()
        if case == "beside":
            jobs.queues.create("narrow", global_concurrency=1)
            for _ in range(BESIDE // CHUNK):
                factory.enqueue_several(store, CHUNK, name=NAME, queue="narrow")
            store.exchange("bench", want=Want([("narrow", 1)], 1), lease=DAY)
        limits = [{"limit_key": f"k{n % keys}", "key_limit": 1} if case == "keyed" else {} for n in range(count)]
        new = [factory.new_job(name=NAME, **limit) for limit in limits]
        chunks = [[job.id for job in new[at : at + CHUNK]] for at in range(0, count, CHUNK)]
        for at in range(0, count, CHUNK):
            store.enqueue(new[at : at + CHUNK])
        with jobs.running():
            for chunk in chunks:
                while len(store.ended(chunk)) < len(chunk):
                    time.sleep(0.01)
            ended = time.time()
        started = min(row.started_at for chunk in chunks for row in store.get(chunk))
    return count / (ended - started / 1e6)


def in_a_process(url: str, options: argparse.Namespace, case: str) -> float:
    """One drain in a process of its own, as an application would be."""
    command = [sys.executable, __file__, "--url", url, "--jobs", str(options.jobs), "--keys", str(options.keys)]
    command += ["--case", case]
    ran = subprocess.run(command, env={**os.environ, VARIABLE: url}, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    return float(ran.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(drain(options.url, options.jobs, options.case, options.keys))
        return
    rates: dict[str, list[float]] = {case: [] for case in CASES}
    for number in range(options.rounds):
        for case in CASES if number % 2 == 0 else CASES[::-1]:
            with own_store(options.url) as url:
                rates[case].append(round(in_a_process(url, options, case), 1))
    medians = {case: statistics.median(values) for case, values in rates.items()}
    ratios = {case: round(medians[case] / medians["plain"], 2) for case in CASES[1:]}
    print(json.dumps({"jobs": options.jobs, "keys": options.keys, "rates": rates, "ratios": ratios}), flush=True)


if __name__ == "__main__":
    main()
