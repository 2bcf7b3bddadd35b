"""`jobcard bench`: how fast this machine and this store take, run and start jobs."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import click

from jobcard.cli import output
from jobcard.cli.options import common
from jobcard.core.states import ALIVE

_SINGLES = 1_000  # enqueues of one job each
_PICKUPS, _LEAST_PICKUPS = 300, 20  # fewer for who measures a few jobs only
_PATIENCE = 300.0  # seconds for the drain, then something is wrong
_LOOK_SECONDS = 0.01

_EXAMPLES = """\b
Examples:
  jobcard bench
  jobcard bench --url sqlite:////srv/fast-disk/jobs.db --jobs 100000 --json
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--jobs", "count", type=click.IntRange(1, 1_000_000), default=20_000, metavar="N", show_default=True, help="To run."
)
@common("Measure where this store is; else on a temporary SQLite file.")
def bench(count: int, url: str | None, as_json: bool) -> None:
    """Measure enqueue, drain and pick-up with jobs that do nothing.

    One engine, jobs in processes of their own, on a file or prefix of its own: a temporary SQLite file with
    synchronous=full, or one where --url is. Nothing else in the store is touched.
    """
    from jobcard.cli.bench_app import VARIABLE
    from jobcard.cli.own_store import own_store

    with own_store(url) as own:
        # The workers import the application too, and find their store by this.
        os.environ[VARIABLE] = own
        figures = measure(count, own)
    if as_json:
        output.emit_json(figures)
    else:
        output.sheet(figures)


def measure(count: int, url: str) -> dict[str, float]:
    """The figures of one run of `count` jobs in an empty store."""
    from jobcard.cli.bench_app import jobs, nothing
    from jobcard.cli.figures import percentile, pickup_ms

    jobs.configure(url)
    jobs.migrate()
    _tell(f"enqueuing {count:,} jobs")
    singles = min(count, _SINGLES)
    one_by_one = _rate(singles, lambda: [nothing.enqueue() for _ in range(singles)])
    rest = count - singles
    many = _rate(rest, lambda: jobs.enqueue_many([nothing.call() for _ in range(rest)]))
    _tell("running them")
    with jobs, jobs.running():
        ended = _wait_until_ended()
        first_start = min(job.started_at for job in jobs.iterate() if job.started_at is not None)
        drain = count / (ended - first_start).total_seconds()
        pickups = min(_PICKUPS, max(_LEAST_PICKUPS, count))
        _tell(f"enqueuing {pickups} more, one at a time, to see how soon each starts")
        handles = []
        for _ in range(pickups):
            # At any point of whatever the engine does while it is idle, not always right behind the last job.
            time.sleep(random.uniform(0.001, 0.02))
            handles.append(nothing.enqueue())
            handles[-1].result(timeout=30)
        waits = pickup_ms(handle.refresh() for handle in handles)
    return {
        "jobs": count,
        "drain_per_s": round(drain),
        "enqueue_per_s": round(one_by_one),
        "enqueue_many_per_s": round(many),
        "pickup_p50_ms": round(percentile(waits, 0.5) or 0.0, 2),
        "pickup_p99_ms": round(percentile(waits, 0.99) or 0.0, 2),
    }


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        output.note(text)


def _rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began) if count else 0.0


def _wait_until_ended() -> datetime:
    """When the store first showed that no job is left."""
    from jobcard.cli.bench_app import jobs

    until = time.monotonic() + _PATIENCE
    while jobs.list(state=ALIVE, limit=1):
        if time.monotonic() > until:
            raise click.ClickException(f"the jobs did not end within {_PATIENCE:g} s")
        time.sleep(_LOOK_SECONDS)
    return datetime.now(UTC)
