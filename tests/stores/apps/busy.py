"""`python -m busy FILE`: a producer that never rests, and says in FILE which jobs were stored, each as soon as it was.

`jobcard start busy:jobs` runs them: jobs that fail once and log, that enqueue others, that have follow-ups.
"""

from __future__ import annotations

import os
import sys
import time

from jobcard import Backoff, Jobcard, JobContext, Unique

PAUSE = 0.02
"""Seconds between batches: a backup ends if the store is read faster than it grows, on however busy a machine."""

jobs = Jobcard(max_concurrent_jobs=4)


@jobs.job(name="plain")
def plain(number: int) -> int:
    return number


@jobs.job(name="second_try", backoff=Backoff.fixed(0.05))
def second_try(ctx: JobContext) -> int:
    ctx.log(f"try {ctx.attempt}")
    if ctx.attempt == 1:
        raise ValueError("once more")
    return ctx.attempt


@jobs.job(name="parent")
def parent(ctx: JobContext) -> None:
    for number in range(3):
        ctx.then(plain.call(number))


@jobs.job(name="spawner")
def spawner() -> str:
    return str(plain.enqueue(7).id)


@jobs.job(name="only_one", unique=Unique(by=("place",)))
def only_one(place: int) -> int:
    return place


def main() -> None:
    with open(sys.argv[1], "ab", buffering=0) as said:  # noqa: PTH123
        number = 0
        while os.getppid() != 1:
            number += 1
            calls = [plain.call(number), second_try.call(), parent.call(), spawner.call(), only_one.call(number % 5)]
            handles = jobs.enqueue_many(calls)
            said.write(b"".join(handle.id.hex.encode() + b"\n" for handle in handles))
            time.sleep(PAUSE)


if __name__ == "__main__":
    main()
