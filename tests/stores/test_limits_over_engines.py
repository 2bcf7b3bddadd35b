"""Limits over all engines, with real engines that die: judged by what the jobs themselves wrote, outside the store."""

from __future__ import annotations

import itertools
import json
import signal
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from checker.history import Event, read_history
from checker.lab import Lab
from helpers.places import ALL, BY_DAY
from helpers.waiting import wait_until
from jobcard.backends.base import Fate
from jobcard.backends.registry import open_backend
from jobcard.conformance import factory
from jobcard.core import clock
from jobcard.core.job import NewJob
from jobcard.core.limits import BULK

pytestmark = [pytest.mark.turns, pytest.mark.timeout(300)]


def store(lab: Lab, jobs: Sequence[NewJob]) -> None:
    """Store jobs as they are, and say so to the checker."""
    backend = open_backend(lab.url)
    assert {answer.fate for answer in backend.enqueue(jobs)} == {Fate.STORED}
    backend.close()
    for job in jobs:
        lab.history.write("enq-ok", job.id.hex())


def job(name: str, *args: object, **given: Any) -> NewJob:
    """A job of the application that may be killed as often as a test likes."""
    plain = {"max_attempts": 100, "max_crashes": 100, "backoff": '{"kind":"fixed","first":0,"limit":0}'}
    return factory.new_job(**{"name": f"narrow.{name}", "args": json.dumps(args), **plain, **given})


def crowds(events: Sequence[Event], of: Callable[[Event], str] = lambda event: "") -> dict[str, list[int]]:
    """How many of each kind were inside whenever one of them came in, itself included.

    A run that nobody saw leave is inside as long as its process lives, by the word of those who came after.
    """
    left = {(event.process, *event.facts): event.at for event in events if event.kind == "leave"}
    entered = [event for event in events if event.kind == "enter"]
    found: dict[str, list[int]] = defaultdict(list)
    for event in entered:
        alive = event.facts[3].split(",")
        inside = 1
        for other in entered:
            if other.at >= event.at or of(other) != of(event):
                continue
            end = left.get((other.process, *other.facts[:2]))
            inside += end > event.at if end is not None else other.process in alive
        found[of(event)].append(inside)
    return found


def what(event: Event) -> str:
    return event.facts[2]


@pytest.mark.slow
@pytest.mark.parametrize("place", BY_DAY, indirect=True)
def test_four_engines_that_die_never_run_more_than_the_queue_allows(lab: Lab) -> None:
    """Of a queue with `global_concurrency=3` three run at once and never four, whoever is killed when."""
    app = lab.app("narrow")
    trees = lab.start_several(4, "narrow")
    store(lab, [job("enter", 0.05, queue="narrow") for _ in range(120)])

    def entered(number: int) -> None:
        wait_until(lambda: len(lab.events("enter")) >= number, f"{number} jobs that came in", timeout=60)

    for turn, tree in enumerate(trees):
        entered(15 * (turn + 1))
        if turn % 2:
            tree.kill_engine()
        else:
            for worker in tree.workers():
                worker.send_signal(signal.SIGKILL)
    lab.drained(app, timeout=120)
    lab.stop()
    lab.wait_gone()
    seen = crowds(read_history(lab.histories))[""]
    print(f"{len(seen)} runs of 120 jobs; inside at once: { {n: seen.count(n) for n in sorted(set(seen))} }")
    assert max(seen) == 3
    figures = lab.figures(workers_killed=True)
    assert figures.faults == {}, figures


@pytest.mark.slow
@pytest.mark.parametrize("place", BY_DAY, indirect=True)
def test_the_places_of_a_dead_host_are_free_when_its_leases_are_over(lab: Lab) -> None:
    """Who dies with its keeper leaves its places to others, of the queue and of its jobs' keys; none waits for ever."""
    app = lab.app("narrow")
    short = ("--lease", "3", "--heartbeat", "0.5")
    folder = lab.folder / "meeting"
    folder.mkdir()
    dead = lab.start("narrow", *short)
    keys = [f"k{number}" for number in range(3)]
    store(lab, [job("meet", key, str(folder), 4, queue="narrow", limit_key=key, key_limit=1) for key in keys])
    wait_until(lambda: len(lab.events("enter")) == 3, "three jobs that came in")
    store(lab, [job("enter", 0, queue="narrow") for _ in range(3)])
    store(lab, [job("enter", 0, key, limit_key=key, key_limit=1) for key in keys])
    dead.kill_all()
    (folder / "nobody").touch()
    lab.start("narrow", *short)
    lab.drained(app, timeout=60)
    lab.stop()
    events = read_history(lab.histories)
    assert {key: max(inside) for key, inside in crowds(events, what).items() if key in keys} == dict.fromkeys(keys, 1)
    figures = lab.figures(workers_killed=True)
    assert figures.faults == {}, figures


@pytest.mark.slow
@pytest.mark.parametrize("place", BY_DAY, indirect=True)
def test_jobs_of_one_key_keep_their_order_and_all_keys_run_at_once(lab: Lab) -> None:
    """With a limit of one, jobs of a key run one after the other as enqueued; different keys fill all places."""
    app = lab.app("narrow")
    lab.start_several(2, "narrow", "--max-concurrent-jobs", "2")
    folder = lab.folder / "meeting"
    folder.mkdir()
    keys = [f"k{number}" for number in range(4)]
    # The first of each key waits until one of every key is inside: four, on two engines with two places each.
    jobs = [job("meet", key, str(folder), len(keys), limit_key=key, key_limit=1) for key in keys]
    jobs += [job("enter", 0.01, key, limit_key=key, key_limit=1) for _ in range(9) for key in keys]
    store(lab, jobs)
    lab.drained(app, timeout=120)
    lab.stop()
    events = read_history(lab.histories)
    assert {key: max(inside) for key, inside in crowds(events, what).items()} == dict.fromkeys(keys, 1)
    ran: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.kind == "enter":
            ran[what(event)].append(event.facts[0])
    enqueued: dict[str, list[str]] = defaultdict(list)
    for each in jobs:
        enqueued[str(each.limit_key)].append(each.id.hex())
    assert ran == enqueued
    figures = lab.figures()
    assert figures.faults == {}, figures


@pytest.mark.long
@pytest.mark.parametrize("place", ALL, indirect=True)
def test_ten_thousand_keys(lab: Lab) -> None:
    """Two jobs of each: in order, one at a time."""
    app = lab.app("narrow")
    keys = [f"k{number}" for number in range(10_000)]
    jobs = [job("enter", 0, key, limit_key=key, key_limit=1) for _ in range(2) for key in keys]
    for chunk in range(0, len(jobs), BULK):
        store(lab, jobs[chunk : chunk + BULK])
    psutil.cpu_percent()
    lab.start_several(2, "narrow", "--max-concurrent-jobs", "4")
    lab.drained(app, timeout=280)
    print(f"processors were busy for {psutil.cpu_percent():.0f} % of the time")
    lab.stop()
    runs: dict[str, list[Event]] = defaultdict(list)
    for event in read_history(lab.histories):
        if event.kind in ("enter", "leave"):
            runs[event.facts[0]].append(event)
    for first, second in zip(jobs[:10_000], jobs[10_000:], strict=True):
        enter, leave, enter_next, leave_next = runs[first.id.hex()] + runs[second.id.hex()]
        assert enter.at <= leave.at <= enter_next.at <= leave_next.at
    figures = lab.figures()
    assert figures.faults == {}, figures


@pytest.mark.slow
@pytest.mark.parametrize("place", BY_DAY, indirect=True)
def test_three_engines_keep_the_rate_of_a_queue(lab: Lab) -> None:
    """At a rate of 50 a second no window of a second has more starts, by the store's clock; they come in a stream."""
    app = lab.app("narrow")
    lab.start_several(3, "narrow")
    store(lab, [job("enter", 0, queue="slow") for _ in range(200)])
    lab.drained(app, timeout=120)
    lab.stop()
    backend = open_backend(lab.url)
    rows = backend.get([bytes.fromhex(event.facts[0]) for event in lab.events("enter")])
    backend.close()
    starts = sorted(row.claimed_at for row in rows if row.claimed_at is not None)
    assert len(starts) == 200
    windows = [sum(1 for _ in itertools.takewhile(lambda at, first=first: at < first + clock.SECOND, starts[place:]))
               for place, first in enumerate(starts)]  # fmt: skip
    print(f"200 starts within {(starts[-1] - starts[0]) / clock.SECOND:.2f} s, at most {max(windows)} in a second")
    assert max(windows) <= 50
    figures = lab.figures()
    assert figures.faults == {}, figures


def test_a_place_set_free_is_taken_by_another_engine(lab: Lab, tmp_path: Path) -> None:
    """An engine that is told to be quiet leaves its place to another, which does not sleep past that."""
    app = lab.app("narrow")
    first = lab.start("narrow")
    store(lab, [job("enter", 1, queue="narrow") for _ in range(3)])
    wait_until(lambda: len(lab.events("enter")) == 3, "three jobs that came in")
    second = lab.start("narrow")
    store(lab, [job("enter", 0, queue="narrow") for _ in range(3)])
    first.signal(signal.SIGTERM)
    lab.drained(app)
    assert (first.wait(), second.stop()) == (0, 0)
    assert max(crowds(read_history(lab.histories))[""]) <= 3
