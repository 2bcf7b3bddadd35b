"""A live move under load, its command killed in every step: nothing is lost, nothing is twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mixed import APPS, Two, ids_in

from checker.lab import Lab
from checker.load import SOUND
from checker.scene import Scene, Shape
from helpers.waiting import wait_until
from jobcard.backends.base import Backend, RecordKind
from jobcard.backends.registry import open_backend
from jobcard.core import move
from jobcard.core.states import ALIVE
from jobcard.errors import StoreUnavailableError
from jobcard.moving import live

STEPS = [str(step) for step in live.STEPS]
KILLED_IN = [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "redis"), ("mariadb", "mongodb")]
JOBS = int(os.environ.get("JOBCARD_TEST_MOVED", "2500"))
BETWEEN = 150
"""Jobs that are stored between two deaths of the command."""
WAITING = 60
"""… of which so many wait at any time, for engines to be at work on."""


class MovingLab(Lab):
    """Whose processes know where they shall follow to."""

    moving_to = ""

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**{"JOBCARD_MOVING_TO": self.moving_to, **more})


@pytest.fixture
def lab(two: Two, tmp_path: Path) -> Iterator[MovingLab]:
    lab = MovingLab(tmp_path, two.source.url)
    lab.moving_to = two.target.url
    yield lab
    lab.close()


class Moving:
    """The load, and the command that moves what it works on."""

    def __init__(self, two: Two, lab: MovingLab, seed: int) -> None:
        self.two = two
        self.lab = lab
        shape = Shape(lease=9.0, heartbeat=1.5)
        self.scene = Scene(lab, two.source, None, shape, seed)

    def feed(self, jobs: int) -> None:
        """Let producers store so many more."""
        until = self.stored + jobs

        def there() -> bool:
            self.look()
            return self.stored >= until

        wait_until(there, "jobs that producers have stored", timeout=120)

    def look(self) -> None:
        """See what has happened, and keep the engines busy."""
        self.scene.tail.look()
        self.scene.crowd.check()
        if len(self.scene.tail.waiting) < WAITING:
            self.scene.crowd.feed()

    @property
    def stored(self) -> int:
        return self.scene.tail.stored.total()

    def run(self, step: str, calls: int) -> tuple[int, dict[str, Any]]:
        """The command, while the load goes on; its exit code and what it printed."""
        environment = {**os.environ, "PYTHONPATH": str(APPS)}
        process = subprocess.Popen(
            self.two.mover(step, calls), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

        def ended() -> bool:
            self.look()
            return process.poll() is not None

        wait_until(ended, f"a move that ends in {step}", timeout=120)
        out, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        return process.returncode, json.loads(out) if out else {}

    def end(self, target: Backend) -> dict[str, Any]:
        """Drain, stop, judge; the figures."""
        self.scene.crowd.stop()

        def drained() -> bool:
            self.scene.tail.look()
            try:
                counts = target.tally().counts
            except StoreUnavailableError:
                return False
            return not any(counts.get(state) for state in ALIVE)

        wait_until(drained, "the end of every job in the target", timeout=180)
        self.lab.stop()
        self.lab.wait_gone()
        self.lab.url = self.two.target.url
        figures = self.lab.figures(workers_killed=True, sound=SOUND)
        assert not figures.faults, str(figures)
        return {"jobs": figures.jobs, "runs": figures.runs, "extra_runs": figures.extra_runs}


def tell(line: dict[str, Any]) -> None:
    """For the summary of `scripts/test`."""
    text = json.dumps(line)
    print(text)
    if report := os.environ.get("JOBCARD_TEST_REPORT"):
        with Path(f"{report}.figures").open("a") as file:
            file.write(text + "\n")


@pytest.fixture
def seed() -> int:
    """Another one in every run, or $JOBCARD_TEST_SEED."""
    return int(os.environ.get("JOBCARD_TEST_SEED") or random.SystemRandom().randrange(1, 1_000_000))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("two", KILLED_IN, indirect=True, ids="-".join)
def test_killed_in_each_step(two: Two, lab: MovingLab, seed: int) -> None:
    """Four producers and two engines follow; every job is in the target, ran once at a time, and ended once."""
    chance = random.Random(seed)
    moving = Moving(two, lab, seed)
    moving.feed(JOBS - len(STEPS) * BETWEEN)
    deaths = []
    for step in STEPS:
        calls = chance.choice([1, 3, 10, 30, 1_000])
        code, _ = moving.run(step, calls)
        assert code == -signal.SIGKILL, f"{step} was over before it was killed"
        deaths.append((step, calls))
        if step in ("mark", "settings", "passes"):
            moving.feed(BETWEEN)
    code, _ = moving.run("none", 0)
    assert code == 0
    moving.feed(BETWEEN)
    with closing(open_backend(two.target.url)) as target, closing(open_backend(two.source.url)) as source:
        figures = moving.end(target)
        assert source.facts().seal is not None
        assert ids_in(source) <= ids_in(target)
        [record] = [each for each in target.read_records(RecordKind.MOVE) if each.key == move.KEY]
        assert not move.closes(record.value)
    tell({"moved": "-".join((two.source.kind, two.target.kind)), "seed": seed, "deaths": deaths, **figures})


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("two", KILLED_IN, indirect=True, ids="-".join)
def test_without_a_death(two: Two, lab: MovingLab, seed: int) -> None:
    """The same in one go; how long the pause was is told."""
    moving = Moving(two, lab, seed)
    moving.feed(JOBS)
    began = time.monotonic()
    code, said = moving.run("none", 0)
    assert code == 0
    seconds = round(time.monotonic() - began, 1)
    moving.feed(BETWEEN)
    with closing(open_backend(two.target.url)) as target:
        figures = moving.end(target)
    tell({"moved": "-".join((two.source.kind, two.target.kind)), "seed": seed, "seconds": seconds, **said, **figures})
