"""Jobs that wait for others in a store that is copied or moved: they wait on in the target, and are released there."""

from __future__ import annotations

import signal
from pathlib import Path
from uuid import UUID

import pytest
from mixed import Two, everything, with_coarse_times

from jobcard import Jobcard
from jobcard.backends.base import Backend
from jobcard.cli.main import run
from jobcard.conformance import factory
from jobcard.core.dependencies import ANY_END, BATCH, COMPLETED, JOB, Dependency, to_text
from jobcard.core.move import Phase
from jobcard.engine.dependents import see_to_all
from jobcard.moving import live
from jobcard.moving.backup import back_up, restore

pytestmark = pytest.mark.turns


def after(*those: tuple[str, bytes, str]) -> str:
    return to_text(Dependency(kind, UUID(bytes=of), until) for kind, of, until in those)


class Graph:
    """Jobs of every kind of waiting, in a store; by the names in their arguments they say in which order they ran."""

    def __init__(self, store: Backend) -> None:
        self.batch = factory.new_id()
        self.first = self.add(store, "first", queue="gate")
        self.second = self.add(store, "second", waits_for=after((JOB, self.first, COMPLETED)))
        for number in range(1_200):
            factory.enqueue(store, queue="bulk", name="run", args=f'["bulk {number}"]', batch_id=self.batch)
        self.last = self.add(store, "last", waits_for=after((BATCH, self.batch, ANY_END), (JOB, self.second, ANY_END)))
        self.late = self.add(store, "late", waits_for=after((JOB, self.second, COMPLETED)), delay=3_600_000_000)

    @staticmethod
    def add(store: Backend, what: str, **given: object) -> bytes:
        return factory.enqueue(store, **{"queue": "default", "name": "run", "args": f'["{what}"]', **given})

    def holds(self, store: Backend) -> list[str | None]:
        return [factory.row_of(store, job_id).hold for job_id in (self.second, self.last, self.late)]


def run_all(url: str) -> list[str]:
    """Run what is due there until nothing is; what ran, without the many, in its order."""
    ran: list[str] = []
    with Jobcard(url) as jobs:

        @jobs.job(name="run")
        def run_it(what: str) -> None:
            ran.append(what)

        assert jobs.run(in_process=True, until_empty=True) == 0
    assert len(ran) == len(set(ran))
    return [what for what in ran if not what.startswith("bulk")]


def same(source: Backend, target: Backend) -> bool:
    return [with_coarse_times(job) for job in everything(source)] == [
        with_coarse_times(job) for job in everything(target)
    ]


@pytest.mark.parametrize("way", ["copy", "merge", "live", "backup"])
def test_they_are_released_in_the_target(two: Two, source: Backend, target: Backend, tmp_path: Path, way: str) -> None:
    """With what they wait for, and under their hold; the source is left alone."""
    graph = Graph(source)
    if way == "backup":
        back_up(source, tmp_path / "shop.jobcard")
        assert restore(target, tmp_path / "shop.jobcard").refused == {}
    else:
        words = {"copy": [], "merge": ["--merge"], "live": ["--live"]}[way]
        assert run([*two.words, *words]) == 0
    assert same(source, target)
    assert graph.holds(target) == ["after"] * 3
    assert see_to_all(target, {}) == []
    assert run_all(two.target.url) == ["first", "second", "last"]
    assert factory.row_of(target, graph.late).hold == "delay"
    assert graph.holds(source) == ["after"] * 3


@pytest.mark.parametrize("step", list(live.STEPS))
def test_what_is_released_meanwhile_is_so_in_the_target(
    two: Two, source: Backend, target: Backend, step: Phase
) -> None:
    """A move that is killed in any step, and goes on: each is held, or in line, as it was at the seal."""
    graph = Graph(source)
    assert two.killed_after(step, 1_000) == -signal.SIGKILL
    moves_on = source.facts().seal is None
    if moves_on:
        claim = factory.claim_one(source, queue="gate")
        factory.complete(source, claim)
        assert see_to_all(source, {}) == [graph.second]
        assert graph.holds(source) == [None, "after", "after"]
    assert run([*two.words, "--live"]) == 0
    assert same(source, target)
    assert graph.holds(target) == [None if moves_on else "after", "after", "after"]
    assert run_all(two.target.url) == (["second", "last"] if moves_on else ["first", "second", "last"])
