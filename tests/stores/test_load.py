"""One load on each store with every fault in it: what `scripts/soak` does for hours, in a minute or two.

The figures stand in the summary of `scripts/test`, with the seed: in tests, `python -m checker.load --store A --seed N`
strikes in the same order again. A red run says where its histories, rows and logs are kept.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from checker import load, outage
from checker.faults import CI, RARE
from checker.scene import Shape
from helpers.places import TODAYS

SERVERS = ["postgres", "mariadb", "mongodb", "redis"]
STORES = ["sqlite", *SERVERS]
RARE_JOBS = 500
"""The rarer faults meet SQLite always, and one server a day where long tests run; all of them in the soak."""
AWAY_SECONDS = 20.0
CPU_OF_A_BUSY_MACHINE = 5 * outage.CPU_SHARE


@pytest.fixture
def seed() -> int:
    """Another one in every run, or $JOBCARD_TEST_SEED."""
    return int(os.environ.get("JOBCARD_TEST_SEED") or random.SystemRandom().randrange(1, 1_000_000))


def tell(line: dict[str, Any]) -> None:
    """For the summary of `scripts/test`."""
    text = json.dumps(line)
    print(text)
    if report := os.environ.get("JOBCARD_TEST_REPORT"):
        with Path(f"{report}.figures").open("a") as file:
            file.write(text + "\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", STORES)
def test_five_thousand_jobs_through_every_fault(kind: str, seed: int, tmp_path: Path) -> None:
    """Workers, engines, keepers, producers, hosts and servers die or freeze: nothing is lost, nothing is twice."""
    line = load.run(kind, tmp_path, schedule=CI, seed=seed, shape=Shape(trouble=(0.5, 2.0)))
    tell(line)
    assert line["ok"], line
    assert line["jobs"] >= load.JOBS


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("server", marks=pytest.mark.long)])
def test_the_rarer_faults(kind: str, seed: int, tmp_path: Path) -> None:
    """Frozen hosts, full disks, stepped clocks, locks, killed connections, poison, killed parents: the same zeros."""
    line = load.run(TODAYS if kind == "server" else kind, tmp_path, schedule=RARE, jobs=RARE_JOBS, seed=seed)
    tell(line)
    assert line["ok"], line


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.long), "server"])
def test_a_store_that_is_away_for_twenty_seconds(kind: str, tmp_path: Path) -> None:
    """Its engine lives, neither spins nor chatters, and afterwards what ended meanwhile is stored."""
    line = outage.run(TODAYS if kind == "server" else kind, tmp_path, seconds=AWAY_SECONDS)
    tell(line)
    # Others keep this machine busy, and start up on it: how little it did is a matter of the soak.
    assert set(line.get("broken", ())) <= {"cpu"}, line
    assert line["cpu_share"] < CPU_OF_A_BUSY_MACHINE, line
