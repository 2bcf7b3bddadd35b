"""A load that is moved into another store while it goes on; its command, engines and stores are killed in every step.

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
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import psutil

from checker.faults.base import Steps
from checker.faults.server_killed import AWAY_SECONDS
from checker.figures import FAULTS, Figures
from checker.history import process_name
from checker.lab import Lab
from checker.load import SOUND, STEP
from checker.red import keep
from checker.scene import Scene, Shape
from helpers.places import ANY_KIND, Place, new_place, own_place
from helpers.servers import KINDS
from helpers.waiting import wait_until
from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.backends.registry import open_backend
from jobcard.core import move
from jobcard.core.move import BEFORE_THE_SEAL
from jobcard.core.states import ALIVE
from jobcard.errors import StoreUnavailableError
from jobcard.moving import live

JOBS = 800
STEPS = [str(step) for step in live.STEPS]
STORES = ["source", "target"]
BETWEEN = 100
"""Jobs that are stored between two deaths of the command, as long as the source takes any."""
WAITING = 60
"""So many wait at any time, for engines to be at work on."""
CALLS = (1, 3, 10, 30, 1_000)
"""The command, or a store under it, is killed after one of these numbers of calls in a step, or at its end."""
PATIENCE = 180.0
SHAPE = Shape(lease=9.0, heartbeat=1.5)


class MovingLab(Lab):
    """Whose processes are told where they shall follow to."""

    moving_to = ""

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(**{"JOBCARD_MOVING_TO": self.moving_to, **more})


class Command:
    """A live move as a process. code, printed, said: how it ended, and what it wrote to both its outputs."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mover", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.printed, self.said = self._process.communicate()
        self.code = self._process.returncode

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stands_still(self) -> bool:
        assert not self.ended(), "it was to stand still, and ended"
        return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


class Moving:
    """The load, and the command that moves the store under it."""

    def __init__(self, source: Place, target: Place, lab: MovingLab, seed: int) -> None:
        self._urls = source.url, target.url
        self._places = dict(zip(STORES, (source, target), strict=True))
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
        with self._command(step, calls) as command:
            self._wait_for(command.ended, f"the end of a move in {step}")
        assert command.code in (0, -signal.SIGKILL), command.said
        return command.code, json.loads(command.printed) if command.printed else {}

    def lose(self, store: str, step: str, calls: int) -> bool:
        """Kill the server of a store under the command in this step; False: it has none, nothing was done."""
        server = self._places[store].server
        if server is None:
            return False
        with self._command(step, calls, "STOP") as command:
            self._wait_for(command.stands_still, f"a move that stands still in {step}")
            server.kill()
            command.go_on()
            self._let(self._scene.after(AWAY_SECONDS))
            self._let(self._scene.in_background(server.start))
            self._wait_for(command.ended, f"the end of a move in {step} that lost its {store}")
        assert command.code in (1, -signal.SIGKILL), command.said
        return True

    def kill_an_engine(self, chance: random.Random) -> None:
        """SIGKILL one; its keeper starts another, whatever the stores say by then."""
        tree = chance.choice(self._scene.trees())
        engine = tree.find_engine()
        if engine is not None:
            self._scene.signal(process_name(engine), signal.SIGKILL)

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

    def _command(self, *arguments: object) -> Command:
        return Command([*self._urls, *map(str, arguments)], self._lab.environment())

    def _wait_for(self, event: Callable[[], bool], what: str) -> None:
        def come() -> bool:
            self._look()
            return event()

        wait_until(come, what, timeout=PATIENCE)

    def _let(self, steps: Steps) -> None:
        """Go through the steps of a fault, while the load goes on."""
        for _ in steps:
            self._look()
            time.sleep(STEP)

    def _look(self) -> None:
        """See what has happened, and keep the engines busy."""
        self._scene.tail.look()
        self._scene.crowd.check()
        if len(self._scene.tail.waiting) < WAITING:
            self._scene.crowd.feed()


def run(
    kinds: tuple[str, str],
    folder: Path,
    *,
    seed: int,
    jobs: int = JOBS,
    deaths: bool = True,
    all_stores: bool = False,
) -> dict[str, Any]:
    """Make the load on a store of one kind and move it into one of another; what came of it, as it is printed.

    deaths: in every step the command is killed, an engine, and one of the stores in turn; all_stores: both.
    """
    began = time.monotonic()
    chance = random.Random(seed)
    died: dict[str, dict[str, int]] = {}
    said: dict[str, Any] = {}
    figures, why = Figures(), ""
    with ExitStack() as undo:
        places = []
        for number, kind in enumerate(kinds):
            (folder / str(number)).mkdir()
            places.append(undo.enter_context(_place(kind, folder / str(number), mortal=deaths)))
        lab = MovingLab(folder, places[0].url)
        lab.moving_to = places[1].url
        try:
            moving = Moving(places[0], places[1], lab, seed)
            moving.feed(jobs)
            for number, step in enumerate(STEPS if deaths else ()):
                died[step] = {}
                for store in STORES if all_stores else [STORES[(number + seed) % 2]]:
                    calls = chance.choice(CALLS)
                    if moving.lose(store, step, calls):
                        died[step][store] = calls
                died[step]["command"] = calls = chance.choice(CALLS)
                code, _ = moving.run(step, calls)
                assert code == -signal.SIGKILL, f"{step} was over before it was killed"
                moving.kill_an_engine(chance)
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


def _place(kind: str, folder: Path, *, mortal: bool) -> AbstractContextManager[Place]:
    """mortal: its server may be killed, where it has one."""
    return own_place(kind) if mortal and kind in KINDS else new_place(kind, folder)


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
    parser.add_argument("--all", action="store_true", help="kill both stores in every step, not one of them")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobcard-moved-") as folder:
        kinds = asked.source, asked.to
        line = run(kinds, Path(folder), seed=asked.seed, jobs=asked.jobs, deaths=not asked.alive, all_stores=asked.all)
    print(json.dumps(line), flush=True)
    return 0 if line["ok"] else 1


if __name__ == "__main__":
    os.environ.pop("JOBCARD_MOVING_TO", None)
    sys.exit(main())
