"""Every store into every other one: what was there is there, field by field, and goes on as before."""

from __future__ import annotations

import os
from itertools import zip_longest

import pytest
from mixed import PAIRS, Two, everything, fill, with_coarse_times

from jobcard import Jobcard
from jobcard.backends.base import Backend, Fate, RecordKind
from jobcard.cli.main import run
from jobcard.conformance import factory
from jobcard.conformance.every_kind import once_keys_in
from jobcard.core.clock import DAY, SECOND
from jobcard.engine.ticker import Ticker

pytestmark = pytest.mark.turns

JOBS = int(os.environ.get("JOBCARD_TEST_COPIED", "2000"))
RECORDS = (RecordKind.QUEUE, RecordKind.SCHEDULE, RecordKind.TICK)
EVERY_SECOND = "every-second"


def settings_of(store: Backend) -> dict[tuple[str, str], str]:
    return {(kind, record.key): record.value for kind in RECORDS for record in store.read_records(kind)}


def ticks_in(store: Backend) -> set[bytes]:
    return {job.row.id for job in everything(store) if job.row.schedule_id == EVERY_SECOND}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("two", PAIRS, indirect=True)
def test_everything_is_the_same_and_goes_on(two: Two, source: Backend, target: Backend) -> None:
    """Rows, tries, lines, once keys, queues and schedules are equal; schedules tick on, and unique keys still hold."""
    fill(source, JOBS)
    now = source.facts().now
    once = factory.new_job(name="shop.once", once_key="for a day", once_until=now + DAY)
    unique = factory.new_job(name="shop.unique", unique_key="one of these")
    assert {answer.fate for answer in source.enqueue([once, unique])} == {Fate.STORED}
    with Jobcard(two.source.url) as jobs:
        jobs.queues.create("mail", concurrency=3, paused=True)
        jobs.schedule(EVERY_SECOND, "* * * * * *", "shop.tick", overlap="allow")
    soon = now + 10 * SECOND
    assert Ticker(source, "an engine").make_earliest(soon)

    assert run(two.words) == 0

    for ours, theirs in zip_longest(everything(source), everything(target)):
        assert with_coarse_times(ours) == with_coarse_times(theirs)
    assert settings_of(source) == settings_of(target)
    both = [[(key.key, key.job_id) for key in once_keys_in(store)] for store in (source, target)]
    assert both[0] == both[1]
    assert target.read_records(RecordKind.MOVE) == []

    again = factory.new_job(name="shop.unique", unique_key="one of these")
    once_again = factory.new_job(name="shop.once", once_key="for a day", once_until=now + DAY)
    for answer, known in zip(target.enqueue([again, once_again]), (unique, once), strict=True):
        assert answer == (Fate.KEY_TAKEN, known.id)

    # The tick that the source made is not made again; the next one is the one after it.
    before = ticks_in(target)
    assert Ticker(source, "an engine").make_earliest(soon)
    assert Ticker(target, "another").make_earliest(soon)
    assert ticks_in(source) == ticks_in(target) and len(ticks_in(target) - before) == 1
