"""Checkpoints and follow-ups: what is stored is stored, however often the worker or the engine dies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from checker.lab import Lab
from checker.stored import read_store
from helpers.waiting import wait_until

pytestmark = pytest.mark.turns

STEPS = 100
KILLS = 20


def steps_begun(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_job_of_many_steps_killed_20_times_repeats_only_the_step_in_hand(lab: Lab) -> None:
    """After each kill the job goes on behind its last checkpoint; at most the step it was in is done again."""
    app = lab.app("told")
    tree = lab.start("told")
    path = lab.folder / "steps"
    enough = lab.folder / "enough"
    [handle] = lab.enqueue(app, [app.steps.call(STEPS, str(path), str(enough))])

    def go_on() -> None:
        seen = len(steps_begun(path))
        wait_until(lambda: len(steps_begun(path)) >= seen + 3, "three more steps")

    for kill in range(KILLS):
        go_on()
        if kill % 4 == 3:
            before = tree.engine()
            tree.kill_engine()
            tree.engine(after=before)
        else:
            running = [event.process for event in lab.events("run-begin")][-1]
            for worker in tree.workers():
                if running.startswith(f"{worker.pid}-"):
                    worker.kill()
    go_on()
    enough.touch()
    lab.drained(app, timeout=120)
    assert tree.stop() == 0
    begun = steps_begun(path)
    repeated = {step: count - 1 for step, count in Counter(begun).items() if count > 1}
    runs = len(lab.events("run-begin"))
    print(f"{runs} runs, {len(begun)} steps begun, repeated: {sorted(repeated)}")
    assert handle.refresh().state == "completed"
    count = handle.result()
    assert count >= STEPS
    assert sorted(set(begun)) == list(range(count))
    assert sum(repeated.values()) <= runs - 1
    assert begun == sorted(begun)  # never back behind a checkpoint


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_follow_ups_are_stored_exactly_once_whatever_dies(lab: Lab) -> None:
    """A parent's follow-ups are there once when it completed, however often it, its worker or its engine died."""
    app = lab.app("told")
    tree = lab.start("told")
    parents = lab.enqueue(app, [app.parent.call(3) for _ in range(100)])
    for _ in range(4):
        ended = app.jobs.count(name="told.parent")["completed"]
        parents += lab.enqueue(app, [app.parent.call(3) for _ in range(100)])
        wait_until(lambda ended=ended: app.jobs.count(name="told.parent")["completed"] > ended + 10, "more parents")  # type: ignore[misc]
        before = tree.engine()
        tree.kill_engine()
        tree.engine(after=before)
    lab.drained(app, timeout=120)
    assert tree.stop() == 0
    rows = read_store(lab.file).rows
    assert {row.state for row in rows} == {"completed"}
    children = [row for row in rows if row.name == "told.follow_up"]
    of = Counter(job.parent_id for job in app.jobs.iterate(name="told.follow_up"))
    print(f"{len(parents)} parents, {len(children)} follow-ups")
    assert of == {handle.id: 3 for handle in parents}
