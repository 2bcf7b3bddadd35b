"""How fast one store is copied into another, and how much memory that takes.

    python bench/copy.py --to postgresql://… [--jobs 100000]

The source is a SQLite file of its own with so many jobs (nine of ten ended, with results; some with errors and log
lines), the target a prefix of its own where `--to` is, deleted afterwards. Prints one line of JSON: jobs a second
while copying and with every job compared, and the resident memory at a tenth, at half and at the end of the copy.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend
from jobcard.cli.own_store import own_store
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.ids import IdSource
from jobcard.core.job import WholeJob
from jobcard.core.limits import BULK
from jobcard.moving import whole
from jobcard.moving.copying import copy
from jobcard.moving.stores import open_stores
from jobcard.moving.voice import Voice

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


def kinds(store: Backend) -> list[WholeJob]:
    """Ten jobs as they are in a store that has been in use for a while."""
    given = {"args": '["cat.jpg", 200]', "kwargs": '{"width": 80, "folder": "/var/lib/shop/pictures"}'}
    factory.enqueue(store, **given)
    for _ in range(8):
        claim = factory.running_job(store, **given)
        factory.complete(store, claim, result='"cat.jpg@80"', started_ago=1000)
    claim = factory.running_job(store, **given)
    factory.settle(store, claim, states.note(claim, ago=None, lines=((0, "began"), (0, "gave up"))))
    error = json.dumps({"kind": "error", "type": "ValueError", "message": "no", "traceback": "x" * 1_000})
    factory.settle(store, claim, states.fail(claim, reason="error", error=error, kind="ValueError"))
    return [job for page in whole.newest_first(store) for job in page]


def fill(store: Backend, count: int) -> None:
    """So many jobs."""
    ids = IdSource()
    made = kinds(store)
    for first in range(len(made), count, BULK):
        page = []
        for place, job_id in enumerate(ids.take(min(BULK, count - first))):
            job = made[place % len(made)]
            attempts = [attempt._replace(job_id=job_id) for attempt in job.attempts]
            lines = [line._replace(job_id=job_id) for line in job.lines]
            page.append(WholeJob(job.row._replace(id=job_id, queue="default"), attempts, lines))
        store.put(page)


class Memory:
    """The resident memory of this process as the copy goes on."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    @contextmanager
    def progress(self, total: int | None, done: str) -> Iterator[object]:
        yield self.look if done == "copied" else lambda _: None

    def look(self, so_far: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.seen.append((so_far, pages * PAGE_SIZE / (1 << 20)))

    def at(self, share: float) -> float:
        wanted = share * self.seen[-1][0]
        return round(next(size for so_far, size in self.seen if so_far >= wanted), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True)
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="jobcard-copy-") as folder, own_store(options.to) as target:
        source = f"sqlite:///{folder}/jobs.db"
        with closing(open_backend(source)) as store:
            store.migrate()
            fill(store, options.jobs)
        memory = Memory()
        with open_stores(source, target) as stores:
            began = time.perf_counter()
            copied = copy(stores, voice=Voice(progress=memory.progress))
            seconds = time.perf_counter() - began
        assert copied.is_whole
        figures = {
            "to": target.partition(":")[0],
            "jobs": options.jobs,
            "copied_per_s": round(options.jobs / copied.seconds),
            "with_verifying_per_s": round(options.jobs / seconds),
            "mib": [memory.at(0.1), memory.at(0.5), memory.at(1.0)],
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
