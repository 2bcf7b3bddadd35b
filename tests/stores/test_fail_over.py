"""Stores of several servers: the one that takes the writes is killed or replaced, and engines go on by themselves."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from checker.lab import Lab, Tree
from helpers.servers import RedisCluster, ReplicaSet, Several
from helpers.waiting import wait_until
from jobcard import EnqueueUnknownError
from jobcard.conformance import factory

CLAIM_AGAIN_SECONDS = 50.0  # ten are promised
JOBS = 3_000
KINDS: dict[str, Callable[[], Several]] = {
    "redis-cluster": lambda: RedisCluster(replicas=1),
    "mongodb-set": ReplicaSet,
}
SHORT_LEASE = ("--lease", "6", "--heartbeat", "1")

pytestmark = [pytest.mark.turns, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def several(kind: str) -> Iterator[Several]:
    servers = KINDS[kind]()
    try:
        servers.start()
        yield servers
    finally:
        servers.close()


@pytest.fixture
def lab(several: Several, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, several.url)
    yield lab
    lab.close()


def kill_worker(tree: Tree, chance: random.Random) -> bool:
    """SIGKILL one of an engine's workers; False: it has none now."""
    workers = tree.workers()
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        chance.choice(workers).kill()
        return True
    return False


def kill_engine(tree: Tree, _chance: random.Random) -> bool:
    """SIGKILL an engine; its keeper starts another. False: it has just died."""
    engine = tree.find_engine()
    with contextlib.suppress(ProcessLookupError):
        if engine is not None:
            os.kill(engine, signal.SIGKILL)
            return True
    return False


def boottime() -> float:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e9


def claims_again(lab: Lab, app: Any) -> float:
    """Seconds from now until a new job runs, whose producer repeats itself until it is told that it is stored."""
    since = boottime()
    job_id = factory.new_id()

    def is_stored() -> bool:
        with contextlib.suppress(EnqueueUnknownError):
            return bool(app.note.options(priority=9, id=UUID(bytes=job_id)).enqueue())
        return False

    wait_until(is_stored, "a store that takes a job", timeout=CLAIM_AGAIN_SECONDS)
    probe = job_id.hex()
    lab.history.write("enq-ok", probe)
    [begin] = wait_until(
        lambda: [event.at / 1e9 for event in lab.events("run-begin") if event.facts[0] == probe],
        "a claim",
        timeout=CLAIM_AGAIN_SECONDS,
    )
    return begin - since


def test_a_fail_over_under_load(kind: str, several: Several, lab: Lab) -> None:
    """SIGKILL of the primary while jobs come and run: its successor is found, and nothing runs twice or is doubled.

    Then the successor hands over in peace, and the dead one comes back as a follower.
    """
    app = lab.app("load")
    trees = [lab.start("load") for _ in range(2)]
    producer = lab.python("-m", "insistent", str(JOBS))
    lab.wait_for(app, lambda n: n["completed"] >= JOBS // 4, "some jobs")
    acknowledged = {event.facts[0] for event in lab.events("enq-ok")}
    dead = several.primary("jobcard")
    dead.kill()
    several.primary("jobcard")
    after_death = claims_again(lab, app)
    dead.start()
    lab.wait_for(app, lambda n: n["completed"] >= JOBS // 2, "half of the jobs", timeout=100)
    several.hand_over("jobcard")
    after_peace = claims_again(lab, app)
    assert producer.wait(100) == 0
    lab.drained(app, timeout=100)
    assert all(tree.stop() == 0 for tree in trees)
    lab.wait_gone()
    figures = lab.figures()
    lost = acknowledged - {row.id for row in lab.stored().rows}
    print(
        f"{kind}: claims again {after_death:.2f} s after the new primary answered, {after_peace:.2f} s after a change "
        f"in peace; {len(lost)} of {len(acknowledged)} acknowledged jobs lost; {figures}"
    )
    assert figures.faults == {}, figures
    assert not lost


def test_kills_of_engines_and_workers(kind: str, several: Several, lab: Lab) -> None:
    """The crash load of single servers on several: nothing is lost, nothing runs twice at once."""
    chance = random.Random(3)
    app = lab.app("load")
    trees = [lab.start("load", *SHORT_LEASE) for _ in range(2)]
    producers = [lab.python("-m", "producer", "750", "50", "0.01") for _ in range(2)]
    faults = ["worker"] * 6 + ["engine"] * 2
    chance.shuffle(faults)
    for number, fault in enumerate(faults, 1):
        lab.wait_for(app, lambda n, number=number: n["completed"] >= number * 150, f"{number * 150} jobs", timeout=120)  # type: ignore[misc]
        kill: Any = kill_worker if fault == "worker" else kill_engine
        wait_until(lambda kill=kill: kill(chance.choice(trees), chance), f"a {fault} to kill")  # type: ignore[misc]
    assert all(producer.wait(60) == 0 for producer in producers)
    lab.drained(app, timeout=120)
    lab.stop()
    lab.wait_gone()
    figures = lab.figures(workers_killed=True)
    print(f"{kind}: {figures}")
    assert figures.faults == {}, figures
    assert figures.jobs == 1_500
