"""A load that is moved into another store while it goes on, its command killed in every step on the way.

    python -m checker.moved --from sqlite --to postgres --seed 7

Prints one line of JSON, as `checker.load` does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from checker.figures import FAULTS, Figures
from checker.lab import Lab
from checker.load import SOUND
from checker.red import keep
from checker.scene import Scene, Shape
from helpers.places import ANY_KIND, Place, new_place
from helpers.waiting import wait_until
from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.backends.registry import open_backend
from jobcard.core import move
from jobcard.core.move import BEFORE_THE_SEAL
from jobcard.core.states import ALIVE
from jobcard.errors import StoreUnavailableError
from jobcard.moving import live

JOBS = 2_500
STEPS = [str(step) for step in live.STEPS]
BETWEEN = 150
"""Jobs that are stored between two deaths of the command, as long as the source takes any."""
WAITING = 60
"""So many wait at any time, for engines to be at work on."""
CALLS = (1, 3, 10, 30, 1_000)
"""The command is killed after one of these numbers of calls to its stores in a step, or at its end."""
PATIENCE = 180.0
SHAPE = Shape(lease=9.0, heartbeat=1.5)


class MovingLab(Lab):
    """Whose processes are told where they shall follow to."""

    moving_to = ""

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**{"JOBCARD_MOVING_TO": self.moving_to, **more})


class Moving:
    """The load, and the command that moves the store under it."""

    def __init__(self, source: Place, target: Place, lab: MovingLab, seed: int) -> None:
        self._urls = source.url, target.url
        self._lab = lab
        self._scene = Scene(lab, source, None, SHAPE, seed)

    def feed(self, jobs: int) -> None:
        """Let producers store so many more."""
        until = self._stored + jobs

        def there() -> bool:
            self._look()
            return self._stored >= until

        wait_until(there, "jobs that producers store", timeout=PATIENCE)

    def run(self, step: str, calls: int) -> tuple[int, dict[str, Any]]:
        """The command, while the load goes on, killed in this step; its exit code and what it printed."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mover", *self._urls, step, str(calls)],
            env=self._lab.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def ended() -> bool:
            self._look()
            return process.poll() is not None

        try:
            wait_until(ended, f"the end of a move in {step}", timeout=PATIENCE)
        finally:
            process.kill()
            out, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        return process.returncode, json.loads(out) if out else {}

    def end(self, target: Backend) -> Figures:
        """Drain, stop, judge what the target has."""
        self._scene.crowd.stop()

        def drained() -> bool:
            self._scene.tail.look()
            with suppress(StoreUnavailableError):
                return not any(target.tally().counts.get(state) for state in ALIVE)
            return False

        stuck = ""
        try:
            wait_until(drained, "the end of every job in the target", timeout=PATIENCE)
        except AssertionError as error:
            stuck = str(error)  # which ones the checker says
        self._lab.stop()
        self._lab.wait_gone()
        self._lab.url = self._urls[1]
        figures = self._lab.figures(workers_killed=True, sound=SOUND)
        if stuck and not figures.stuck:
            figures.add("stuck", stuck)
        return figures

    @property
    def _stored(self) -> int:
        return self._scene.tail.stored.total()

    def _look(self) -> None:
        """See what has happened, and keep the engines busy."""
        self._scene.tail.look()
        self._scene.crowd.check()
        if len(self._scene.tail.waiting) < WAITING:
            self._scene.crowd.feed()


def run(kinds: tuple[str, str], folder: Path, *, seed: int, jobs: int = JOBS, deaths: bool = True) -> dict[str, Any]:
    """Make the load on a store of one kind and move it into one of another; what came of it, as it is printed."""
    began = time.monotonic()
    chance = random.Random(seed)
    died: dict[str, int] = {}
    said: dict[str, Any] = {}
    figures, why = Figures(), ""
    with ExitStack() as undo:
        places = []
        for number, kind in enumerate(kinds):
            (folder / str(number)).mkdir()
            places.append(undo.enter_context(new_place(kind, folder / str(number))))
        lab = MovingLab(folder, places[0].url)
        lab.moving_to = places[1].url
        try:
            moving = Moving(places[0], places[1], lab, seed)
            moving.feed(jobs)
            for step in STEPS if deaths else ():
                died[step] = chance.choice(CALLS)
                code, _ = moving.run(step, died[step])
                assert code == -signal.SIGKILL, f"{step} was over before it was killed"
                if step in BEFORE_THE_SEAL:
                    moving.feed(BETWEEN)
            code, said = moving.run("none", 0)
            assert code == 0, "the move was not brought to its end"
            moving.feed(BETWEEN)
            with closing(open_backend(places[1].url)) as target, closing(open_backend(places[0].url)) as source:
                figures = moving.end(target)
                why = _left_behind(source, target)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            with suppress(Exception):
                lab.stop()
        finally:
            ok = not why and not figures.faults
            kept = None if ok else keep(lab, places[1], seed)
            lab.close()
    return {
        "store": kinds[0],
        "to": kinds[1],
        "ok": ok,
        **{name: getattr(figures, name) for name in FAULTS},
        "jobs": figures.jobs,
        "runs": figures.runs,
        "extra_runs": figures.extra_runs,
        "deaths": died,
        **said,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        **({} if ok else {"why": why, "cases": figures.cases, "kept": str(kept)}),
    }


def _left_behind(source: Backend, target: Backend) -> str:
    """What is wrong with the two stores, in words; "": nothing."""
    if source.facts().seal is None:
        return "the source is not sealed"
    if any(move.closes(record.value) for record in target.read_records(RecordKind.MOVE)):
        return "the target is not open"
    left = _ids(source) - _ids(target)
    return f"{len(left)} jobs are in the source alone" if left else ""


def _ids(store: Backend) -> set[bytes]:
    found: set[bytes] = set()
    below: bytes | None = None
    while True:
        page = store.list(Filter(), limit=1_000, before_id=below)
        found |= {row.id for row in page.rows}
        if (below := page.below) is None:
            return found


def main() -> int:
    """Move one load, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m checker.moved", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--from", dest="source", choices=ANY_KIND, default="sqlite")
    parser.add_argument("--to", choices=ANY_KIND, default="postgres")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1_000_000))
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--alive", action="store_true", help="kill nobody, and tell how long the pause was")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobcard-moved-") as folder:
        kinds = asked.source, asked.to
        line = run(kinds, Path(folder), seed=asked.seed, jobs=asked.jobs, deaths=not asked.alive)
    print(json.dumps(line), flush=True)
    return 0 if line["ok"] else 1


if __name__ == "__main__":
    os.environ.pop("JOBCARD_MOVING_TO", None)
    sys.exit(main())
