"""A live move under load; its command, engines and stores are killed in every step: nothing is lost, nothing is twice.

In tests, `python -m checker.moved --from A --to B --seed N` does one again; `scripts/soak --part move` all of them.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from checker import moved
from helpers.days import TODAY

PAIRS = [
    pytest.param(pair, marks=[] if place % 3 == TODAY % 3 else [pytest.mark.long])
    for place, pair in enumerate(
        [("postgres", "sqlite"), ("sqlite", "redis"), ("mariadb", "mongodb"), ("sqlite", "postgres")]
    )
]
"""In turn, one or two a day. `python -m checker.soak --part move` does all twenty."""


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
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_killed_in_each_step(kinds: tuple[str, str], seed: int, tmp_path: Path) -> None:
    """Four producers and two engines follow; every job is in the target, ran once at a time, and ended once."""
    line = moved.run(kinds, tmp_path, seed=seed)
    tell(line)
    assert line["ok"], line
    assert [step for step, died in line["deaths"].items() if "command" in died] == moved.STEPS
    # Every step loses one of them, and a file cannot be killed.
    assert {store for died in line["deaths"].values() for store in died if store != "command"} == {
        store for store, kind in zip(moved.STORES, kinds, strict=True) if kind != "sqlite"
    }
