"""The store is away for a long while: `python -m checker.outage --store postgres --seconds 600`.

An engine with the default lease lives through it and neither spins nor chatters; jobs that end meanwhile are not run
again; what was enqueued by others meanwhile is caught up with. A server hangs (nothing comes through, nobody is told),
refuses, or is killed; of SQLite somebody holds the lock. Prints one line of JSON; exit code 1: a promise did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from checker import hostile
from checker.lab import Lab
from checker.place import place_for_faults
from checker.red import keep
from helpers.places import ANY_KIND, Place
from helpers.proxy import Proxy
from helpers.waiting import wait_until
from jobcard.errors import StoreError

RUNNING = 4
RUN_SECONDS = 3.0
"""How long the jobs take that run when the store goes."""
BACKLOG = 500
CPU_SHARE = 0.05
LINES_A_SECOND = 1.0
CATCH_UP_SECONDS = 60.0
ENQUEUE_SECONDS = 20.0  # 15 for a statement, and a little for the machine
SETTLE_SECONDS = 5.0  # what the engine has to do because the store went is no part of its being away


def run(kind: str, folder: Path, *, seconds: float, way: str = "blackhole") -> dict[str, Any]:
    """Take the store away for so long and give it back; what came of it, as it is printed."""
    with place_for_faults(kind, folder) as (place, proxy):
        lab = Lab(folder, place.url)
        if proxy is not None:
            lab.engine_url = place.behind(proxy.port)
        kept: Path | None = None
        try:
            line = _live_through(lab, place, proxy, seconds, way)
            if not line["ok"]:
                kept = keep(lab, place, 0)
        except BaseException:
            keep(lab, place, 0)
            raise
        finally:
            lab.close()
    how = way if proxy is not None else "locked"
    return {"outage": how, "store": kind, **line, **({"kept": str(kept)} if kept else {})}


def _live_through(lab: Lab, place: Place, proxy: Proxy | None, seconds: float, way: str) -> dict[str, Any]:
    app = lab.app("load")
    tree = lab.start("load", "--processes", str(RUNNING), "--max-concurrent-jobs", str(RUNNING))
    lab.enqueue(app, [app.note.call() for _ in range(50)])
    lab.drained(app)
    running = {handle.id.hex for handle in lab.enqueue(app, [app.nap.call(RUN_SECONDS) for _ in range(RUNNING)])}
    lab.wait_for(app, lambda n: n["running"] == RUNNING, "running jobs")
    engine = tree.engine()
    refused: list[tuple[str, float]] = []
    with _away(place, proxy, way):
        began = time.monotonic()
        asker = threading.Thread(target=_ask, args=(lab, refused), daemon=True)
        asker.start()
        _until(began + min(SETTLE_SECONDS, seconds / 4))
        cpu, lines, at = _cpu(engine), len(tree.errors.splitlines()), time.monotonic()
        if proxy is not None and way != "kill":
            lab.enqueue(app, [app.note.call() for _ in range(BACKLOG)])  # others reach it
        _until(began + seconds)
        lived = tree.find_engine() == engine
        share = (_cpu(engine) - cpu) / (time.monotonic() - at) if lived else 1.0
        chatter = (len(tree.errors.splitlines()) - lines) / (time.monotonic() - at)
    back = time.monotonic()
    ended_in_outage = {event.facts[0] for event in lab.events("run-end")} & running
    if proxy is None or way == "kill":
        lab.enqueue(app, [app.note.call() for _ in range(BACKLOG)])
    lab.wait_for(app, lambda n: n["completed"] > 50 + RUNNING, "a claim", timeout=5 * CATCH_UP_SECONDS)
    claimed = time.monotonic() - back
    lab.drained(app, timeout=5 * CATCH_UP_SECONDS)
    caught_up = time.monotonic() - back
    asker.join(60)
    code = tree.stop()
    figures = lab.figures()
    begins = [event.facts[0] for event in lab.events("run-begin")]
    again = sum(begins.count(job) > 1 for job in ended_in_outage)
    checks = {
        "lived": lived,
        "cpu": share <= CPU_SHARE,
        "log": chatter <= LINES_A_SECOND,
        "outcomes": again == 0,
        "caught_up": caught_up <= CATCH_UP_SECONDS,
        "enqueue": all(took <= ENQUEUE_SECONDS for _, took in refused),
        "stop": code == 0,
        "figures": not figures.faults,
    }
    return {
        "ok": all(checks.values()),
        "seconds": seconds,
        "cpu_share": round(share, 4),
        "log_lines_a_second": round(chatter, 3),
        "outcomes_of_the_outage": len(ended_in_outage),
        "run_again": again,
        "first_claim": round(claimed, 3),
        "caught_up": round(caught_up, 3),
        "enqueue_said": refused[:3],
        **({"broken": [name for name, held in checks.items() if not held]} if not all(checks.values()) else {}),
        **({"faults": figures.faults, "cases": figures.cases} if figures.faults else {}),
    }


@contextlib.contextmanager
def _away(place: Place, proxy: Proxy | None, way: str) -> Iterator[None]:
    """Nothing of the store can be reached, as long as it lasts."""
    if proxy is None:
        with _locked(place):
            yield
    elif way == "kill":
        assert place.server is not None
        place.server.kill()
        try:
            yield
        finally:
            place.server.start()
    else:
        getattr(proxy, way)()
        try:
            yield
        finally:
            proxy.heal()


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    """Somebody holds the one lock that a SQLite file has."""
    over = threading.Event()

    class Holder(hostile.OnSQLite):
        @staticmethod
        def _hold() -> None:
            over.wait()

    holder = Holder(place)
    thread = threading.Thread(target=holder.lock, args=(random.Random(0),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        holder.close()


def _ask(lab: Lab, refused: list[tuple[str, float]]) -> None:
    """Enqueue as an application on the far side does; what it is told, and after how long."""
    from jobcard import Jobcard

    with Jobcard(lab.engine_url, migrate=False) as jobs:
        began = time.monotonic()
        try:
            handle = jobs.enqueue("load.note", [], strict=False)
            lab.history.write("enq-ok", handle.id.hex)
        except StoreError as error:
            refused.append((type(error).__name__, round(time.monotonic() - began, 2)))
            for job in getattr(error, "ids", ()):
                lab.history.write("enq-unknown", job.hex)


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _until(moment: float) -> None:
    """Let time pass: how long a store is away is what this sets."""
    wait_until(lambda: time.monotonic() > moment, "the time", timeout=moment + 60 - time.monotonic(), interval=0.1)


def main() -> int:
    """Run one outage, print its line, say by the exit code how it went."""
    parser = argparse.ArgumentParser(prog="python -m checker.outage", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--store", default="sqlite", choices=ANY_KIND)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--way", default="blackhole", choices=["blackhole", "refuse", "kill"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobcard-outage-") as folder:
        line = run(asked.store, Path(folder), seconds=asked.seconds, way=asked.way)
    print(json.dumps(line), flush=True)
    return 0 if line["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
