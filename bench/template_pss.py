"""What a template saves: the memory of eight workers, and the time until one is ready.

    python bench/template_pss.py [--megabytes 150] [--workers 8] [--jobs 20] [--import-seconds 2]

Memory is the proportional set size of /proc/PID/smaps_rollup, which counts a page shared by n processes as 1/n in each:
summed up, it is what the processes really take. Each worker has run its jobs by then; the template is counted too.
"""

from __future__ import annotations

import argparse
import json
import selectors
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobcard.core.job import Claimed
from jobcard.workers import messages
from jobcard.workers.messages import Exit
from jobcard.workers.pool import Pool

APP = """
import time
from jobcard import Jobcard

time.sleep({seconds})
jobs = Jobcard("sqlite:///never-opened.db")
# About 1 MB for each turn: what a machine-learning or web application makes while it is imported.
BALLAST = [{{f"key {{turn}} {{key}}": [turn, key, str(key)] for key in range(3_300)}} for turn in range({megabytes})]

@jobs.job
def work(turn: int) -> int:
    # Looks at one part of what was imported, and makes something of its own.
    part = BALLAST[turn % len(BALLAST)]
    return sum(len(name) + len(values) for name, values in part.items()) + len([str(n) for n in range(10_000)])
"""
BLANK = Claimed(
    *(b"ref", 1, "claimed", bytes(16), "default", "app.work", None, "[]", "{}", 0, 0, 0, 1, 5, 0, 3, 0, "", None),
    *(0, 0, 0, "engine", None, None, None, None, None, None),
)


class Hands:
    """A pool of workers of the application above, and what they said."""

    def __init__(self, folder: Path) -> None:
        self.ready: set[int] = set()
        self.done = 0
        self._selector = selectors.DefaultSelector()
        boot = {"argv": ["app"], "path": None, "module": "app", "attribute": "jobs", "imports": []}
        self.pool = Pool(self._selector, self, {**boot, "sys_path": [str(folder), *sys.path]})

    def message(self, number: int, message: list[Any]) -> None:
        if message[0] == messages.HELLO:
            self.ready.add(number)
        elif message[0] == messages.DONE:
            self.done += 1
        else:
            raise SystemExit(f"worker {number} said {message}")

    def gone(self, number: int, unstarted: Sequence[int], exit: Exit) -> None:
        self.ready.discard(number)

    def until(self, event: Callable[[], Any]) -> float:
        began = time.monotonic()
        while not event():
            for key, _events in self._selector.select(1.0):
                key.data()
        return time.monotonic() - began

    def spawn(self, *numbers: int) -> float:
        for number in numbers:
            self.pool.spawn(number)
        return self.until(lambda: self.ready >= set(numbers))

    def work(self, workers: range, jobs: int) -> None:
        for number in workers:
            given = [(number * jobs + turn, BLANK._replace(args=json.dumps([turn])), 0.0) for turn in range(jobs)]
            self.pool.send(number, given)
        self.until(lambda: self.done == len(workers) * jobs)

    def end(self) -> None:
        self.pool.kill_all()
        self.until(lambda: not self.pool.pids() and self.pool.template is None)


def pss(pid: int) -> float:
    """MB of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def measure(folder: Path, workers: int, jobs: int, *, template: bool) -> tuple[float, float]:
    """(MB of all processes together, seconds until one more worker is ready)."""
    hands = Hands(folder)
    hands.spawn(0)
    if template:
        hands.pool.use_template(True)
        hands.until(lambda: hands.pool.has_template)
    # The first worker is always spawned; in an engine it ends when it is idle or worn, and a forked one follows.
    hands.pool.kill(0)
    hands.until(lambda: not hands.ready)
    every = range(1, workers + 1)
    hands.spawn(*every)
    hands.work(every, jobs)
    pids = [pid for pid in map(hands.pool.pid_of, (*every,)) if pid is not None]
    pids += [hands.pool.template] if hands.pool.template is not None else []
    total = sum(map(pss, pids))
    one_more = hands.spawn(workers + 1)
    hands.end()
    return total, one_more


def main() -> None:
    """Print both figures for both ways to start a worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=150)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--import-seconds", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.py").write_text(APP.format(seconds=given.import_seconds, megabytes=given.megabytes))
        spawned, spawn_seconds = measure(Path(folder), given.workers, given.jobs, template=False)
        forked, fork_seconds = measure(Path(folder), given.workers, given.jobs, template=True)
    print(f"{given.workers} workers, spawned   {spawned:8.0f} MB   one more ready after {spawn_seconds * 1000:8.1f} ms")
    print(f"{given.workers} workers, template  {forked:8.0f} MB   one more ready after {fork_seconds * 1000:8.1f} ms")
    print(f"ratio                {forked / spawned:8.2f}")


if __name__ == "__main__":
    main()
