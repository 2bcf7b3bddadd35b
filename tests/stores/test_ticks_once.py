"""Eight engines see to one schedule of a second while they are killed in turn: each tick is one job, none is missed."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import datetime, timedelta

import pytest

from checker.lab import Lab
from helpers.places import BY_DAY
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns

ENGINES = 8
SECOND = timedelta(seconds=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("ticks", "between"), [pytest.param(15, 3), pytest.param(60, 5, marks=pytest.mark.long)], ids=["15", "60"]
)
@pytest.mark.parametrize("place", BY_DAY, indirect=True)
def test_every_tick_is_one_job_whoever_dies(ticks: int, between: int, lab: Lab) -> None:
    """Duplicates 0, missed 0. Keepers start their engines anew meanwhile, so newcomers are among them too."""
    app = lab.app("beating")
    trees = lab.start_several(ENGINES, "beating", "--processes", "1")

    def made() -> Counter[datetime]:
        return Counter(job.scheduled_for for job in app.jobs.iterate(name="beating.beat"))

    first = max(wait_until(made, "a first tick")) + SECOND
    victims = itertools.cycle(trees)
    for number in range(ticks):
        tick = first + number * SECOND
        wait_until(lambda tick=tick: made()[tick], f"the job of tick {number}")  # type: ignore[misc]
        if number % between == 0:
            next(victims).kill_engine()
    last = first + ticks * SECOND
    found = {tick: count for tick, count in made().items() if first <= tick < last}
    assert found == {first + number * SECOND: 1 for number in range(ticks)}
    assert set(made().values()) == {1}
    late = [(job.created_at - job.scheduled_for).total_seconds() for job in app.jobs.iterate(name="beating.beat")]
    print(f"ticks={len(late)} late: median {sorted(late)[len(late) // 2]:.3f} s, at most {max(late):.3f} s")
    lab.stop()
    assert app.jobs.schedules.get("heart").last_at == max(made())
