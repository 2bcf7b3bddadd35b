"""What the demo does: enqueue, watch, merge, and compare how each job ended with what was meant."""

from __future__ import annotations

import os
import random
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jobcard.cli import demo_app
from jobcard.cli.figures import percentile, pickup_ms
from jobcard.client.functions import JobFunction
from jobcard.client.handles import JobHandle
from jobcard.core.states import ALIVE, ENDED
from jobcard.core.view import Job
from jobcard.errors import JobFailedError, ResultTimeoutError

_MOST_FILES = 4_000  # what two slow cores still read in a minute
_PINGS = 100
_PATIENCE = 55.0
_LOOK_SECONDS = 0.1


class Misbehaved(NamedTuple):
    """One of the jobs that misbehave, how it ended, and whether that was meant."""

    name: str
    job: Job
    as_meant: bool

    @property
    def said(self) -> str:
        """How it ended, in a few words."""
        error = self.job.error or {}
        if self.job.state == "completed":
            return f"completed at attempt {self.job.attempt}"
        if error.get("signal") and self.job.reason == "crash":
            return f"crash, {error['signal']}"
        if error.get("exit_code") is not None and self.job.reason == "crash":
            return f"crash, exit code {error['exit_code']}"
        return self.job.reason or self.job.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a run. index: None when the merging job did not end well. seconds: from first to last job."""

    files: int
    indexed: int
    index: demo_app.Index | None
    misbehaved: Sequence[Misbehaved]
    done: int
    left: int
    seconds: float
    jobs_per_s: float
    p50_ms: float | None
    p99_ms: float | None

    @property
    def ok(self) -> bool:
        """Whether every job ended as it was meant to."""
        return (
            self.index is not None
            and self.index["files"] == self.indexed == self.files
            and not self.left
            and all(one.as_meant for one in self.misbehaved)
        )


def find_sources(most: int | None) -> list[str]:
    """The source files of this Python: its standard library, then what is installed beside it."""
    found: dict[str, None] = {}
    for scheme in ("stdlib", "purelib"):
        root = sysconfig.get_paths()[scheme]
        for folder, folders, names in os.walk(root):
            # Installed packages may stand below the library; they have a turn of their own.
            folders[:] = sorted(
                name for name in folders if scheme == "purelib" or name not in ("site-packages", "dist-packages")
            )
            paths = (os.path.join(folder, name) for name in sorted(names) if name.endswith(".py"))  # noqa: PTH118
            found.update(dict.fromkeys(path for path in paths if os.access(path, os.R_OK)))
    return list(found)[: most or _MOST_FILES]


def run(sources: Sequence[str], *, engine_log: Path, tell: Callable[[int], None]) -> Report:
    """Run everything with an engine; `tell` hears how many files are indexed."""
    jobs = demo_app.jobs
    until = time.monotonic() + _PATIENCE
    with _engine(engine_log):
        troubles = [job.enqueue() for job in _MEANT]
        jobs.enqueue_many([demo_app.index.call(path) for path in sources])
        while jobs.list(state=ALIVE, limit=1) and time.monotonic() < until:
            tell(jobs.count(name="demo.index", state="completed").total)
            time.sleep(_LOOK_SECONDS)
        indexed = jobs.count(name="demo.index", state="completed").total
        tell(indexed)
        index = _merge(until)
        pings = [_ping(until) for _ in range(_PINGS)]
    files = [job for job in jobs.iterate(name="demo.index") if job.started_at and job.finished_at]
    first = min((job.started_at for job in files if job.started_at), default=None)
    last = max((job.finished_at for job in files if job.finished_at), default=None)
    seconds = (last - first).total_seconds() if first and last else 0.0
    waits = pickup_ms(handle.refresh() for handle in pings)
    counts = jobs.count()
    return Report(
        files=len(sources),
        indexed=indexed,
        index=index,
        misbehaved=[_judge(handle.refresh(), meant) for handle, meant in zip(troubles, _MEANT.values(), strict=True)],
        done=counts["completed"],
        left=counts.total - sum(counts[state] for state in ENDED),
        seconds=seconds,
        jobs_per_s=len(files) / seconds if seconds else 0.0,
        p50_ms=percentile(waits, 0.5),
        p99_ms=percentile(waits, 0.99),
    )


# How each job that misbehaves is meant to end: state, reason, and what of its last error.
_MEANT: Mapping[JobFunction[[], Any, Any, Any], tuple[str, str | None, dict[str, Any]]] = {
    demo_app.segfault: ("failed", "crash", {"signal": "SIGSEGV"}),
    demo_app.endless_loop: ("failed", "timeout", {}),
    demo_app.hard_exit: ("failed", "crash", {"exit_code": demo_app.EXIT_CODE}),
    demo_app.memory_hog: ("failed", "memory", {}),
    demo_app.flaky: ("completed", None, {"kind": "error"}),
}


def _judge(job: Job, meant: tuple[str, str | None, dict[str, Any]]) -> Misbehaved:
    state, reason, facts = meant
    error = job.error or {}
    tries = demo_app.FLAKY_FAILURES + 1 if state == "completed" else 1
    as_meant = (job.state, job.reason, job.attempt) == (state, reason, tries)
    return Misbehaved(job.name, job, as_meant and all(error.get(name) == value for name, value in facts.items()))


def _merge(until: float) -> demo_app.Index | None:
    try:
        return demo_app.merge.enqueue().result(timeout=max(1.0, until - time.monotonic()))
    except (JobFailedError, ResultTimeoutError):
        return None


def _ping(until: float) -> JobHandle[None]:
    # At any point of whatever the engine does while it is idle, not always right behind the last job.
    time.sleep(random.uniform(0.001, 0.01))
    handle = demo_app.ping.enqueue()
    with suppress(ResultTimeoutError, JobFailedError):
        handle.result(timeout=max(0.1, min(5.0, until - time.monotonic())))
    return handle


@contextmanager
def _engine(log: Path) -> Iterator[None]:
    """An engine whose log, and whatever jobs print, goes to a file: crashing on purpose is noisy."""
    ours = os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # Its processes inherit what standard error is at their start; it is ours again before we print anything.
        os.dup2(file, 2)
        demo_app.jobs.start()
    finally:
        os.dup2(ours, 2)
        os.close(ours)
        os.close(file)
    try:
        yield
    finally:
        demo_app.jobs.stop()
