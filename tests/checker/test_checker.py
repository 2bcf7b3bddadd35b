"""The queue checker sees what it is there for: each broken history makes its figure rise, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from checker import Ending, Event, Figures, History, Row, Stored, check, read_history, read_store, watch_endings
from checker.figures import FAULTS
from checker.history import is_alive, process_name
from jobcard import Jobcard

JOB = "0a" * 16
OTHER = "0b" * 16


class Story:
    """A history and a store, told step by step; every step is a nanosecond later than the one before."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._rows: list[Row] = []
        self._endings: list[Ending] = []

    def said(self, kind: str, *facts: object, process: str = "1-1") -> Story:
        self._events.append(Event(len(self._events), process, kind, tuple(map(str, facts))))
        return self

    def enqueued(self, job: str = JOB) -> Story:
        return self.said("enq-invoke", job).said("enq-ok", job)

    def begun(self, token: int = 1, *others: str, process: str = "2-2", job: str = JOB) -> Story:
        looked = (",".join(others) or "nobody",) if token > 1 else ()
        return self.said("run-begin", job, token, 1, *looked, process=process)

    def ended(self, token: int = 1, *, process: str = "2-2", job: str = JOB) -> Story:
        return self.said("run-end", job, token, process=process)

    def stored(
        self, state: str = "completed", token: int = 1, *, job: str = JOB, result: str | None = None, **more: object
    ) -> Story:
        if result is None and state == "completed":
            result = str(token)
        self._rows.append(Row(job, state, token, result, **more))  # type: ignore[arg-type]
        return self

    def moved(self, state: str, token: int = 1) -> Story:
        self._endings.append(Ending(JOB, state in ("completed", "failed", "canceled"), state, token))
        return self

    def judged(self, *processes: str) -> Figures:
        return check(self._events, Stored(self._rows, self._endings), processes=processes, sound=("sound",))


def healthy() -> Story:
    """One job that was enqueued, ran and completed, and another one beside it."""
    return (
        Story()
        .enqueued(OTHER)
        .begun(job=OTHER, process="3-3")
        .ended(job=OTHER, process="3-3")
        .stored(job=OTHER)
        .enqueued()
    )


def test_a_healthy_history_has_no_fault() -> None:
    """Every figure is 0 when each job was stored, ran once and ended."""
    figures = healthy().begun().ended().stored().moved("completed").judged()
    assert figures.faults == {}
    assert (figures.jobs, figures.runs, figures.extra_runs) == (2, 2, 0)


BROKEN = {
    "lost: not stored": ("lost", healthy().begun().ended()),
    "lost: ended without a run": ("lost", healthy().stored("failed", reason="error", attempt=0)),
    "unexpected: run": ("unexpected", healthy().begun().ended().stored().begun(job="0c" * 16).ended(job="0c" * 16)),
    "unexpected: stored": ("unexpected", healthy().begun().ended().stored().stored("canceled", job="0c" * 16)),
    "unexpected: said not to be stored": (
        "unexpected",
        healthy().begun().ended().stored().said("enq-fail", "0c" * 16).stored("canceled", job="0c" * 16),
    ),
    "double_stored: id": ("double_stored", healthy().begun().ended().stored("failed").stored("failed")),
    "overlap: both ended": (
        "overlap",
        healthy().begun(1).begun(2, "2-2", process="4-4").ended(1).ended(2, process="4-4").stored(token=2, attempt=2),
    ),
    "overlap: the first was killed later": (
        "overlap",
        healthy()
        .begun(1)
        .begun(2, "2-2", process="4-4")
        .ended(2, process="4-4")
        .said("dead", "2-2")
        .stored(token=2, attempt=2),
    ),
    "overlap: nobody saw the first one die": (
        "overlap",
        healthy().begun(1).begun(2, "2-2", process="4-4").ended(2, process="4-4").stored(token=2, attempt=2),
    ),
    "zombie_accepted: an older result": (
        "zombie_accepted",
        healthy().begun(1).ended(1).begun(2, process="4-4").ended(2, process="4-4").stored(token=2, result="1"),
    ),
    "zombie_accepted: the token fell": (
        "zombie_accepted",
        healthy().begun(1).ended(1).stored().moved("failed", 2).moved("waiting", 2).moved("completed", 1),
    ),
    "multi_terminal": ("multi_terminal", healthy().begun().ended().stored().moved("failed").moved("completed")),
    "needless_rerun": (
        "needless_rerun",
        healthy().begun(1).ended(1).begun(2, process="4-4").ended(2, process="4-4").stored(token=1),
    ),
    "stuck: claimed": ("stuck", healthy().begun().ended().stored("claimed", attempt=1)),
    "stuck: waiting": ("stuck", healthy().stored("waiting", token=0, attempt=0)),
    "unearned: no end of the run": ("unearned", healthy().begun().stored()),
    "unearned: the end of another claim": (
        "unearned",
        healthy().begun(1).ended(1).begun(2, process="4-4").stored(token=2),
    ),
    "half_stored": (
        "half_stored",
        healthy().begun().ended().stored().said("enq-invoke", JOB, 7).said("enq-invoke", "0c" * 16, 7),
    ),
    "double_stored: two winners": (
        "double_stored",
        healthy().begun().ended().stored().said("key", "k", JOB).said("key", "k", OTHER),
    ),
    "canceled_run": ("canceled_run", healthy().said("cancel", JOB, "canceled").begun().ended().stored("canceled")),
    "hurt": ("hurt", healthy().begun().ended().stored("failed", reason="crash", name="sound")),
    "overspent": ("overspent", healthy().begun().ended().stored(attempt=2)),
}


@pytest.mark.parametrize(("fault", "story"), BROKEN.values(), ids=BROKEN)
def test_a_broken_history_makes_its_figure_rise(fault: str, story: Story) -> None:
    """Each fault shows as its own figure alone, with an example that names the job."""
    figures = story.judged()
    assert figures.faults == {fault: 1}
    assert f"\n  {fault}: " in str(figures)


def test_two_living_rows_of_one_unique_key_are_one_too_many() -> None:
    """A unique key belongs to one living job; ended ones do not count."""
    story = healthy().begun().ended().stored(unique_key="k")
    assert "double_stored" not in story.judged().faults
    story = healthy().stored("waiting", 0, unique_key="k", attempt=0)
    story.enqueued("0c" * 16).stored("waiting", 0, job="0c" * 16, unique_key="k", attempt=0)
    assert story.judged().double_stored == 1


def test_a_process_that_still_lives_is_an_orphan() -> None:
    """Whoever ran jobs must be gone, and whoever else is named."""
    myself = process_name(os.getpid())
    assert healthy().begun(process=myself).ended(process=myself).stored().judged().faults == {"orphans": 1}
    assert healthy().begun().ended().stored().judged(myself).faults == {"orphans": 1}


SECOND = 1_000_000_000


def thawed(dead_after: int) -> list[Event]:
    """A run whose host is frozen while another host runs the job, and that is killed so long after the thaw."""
    story = healthy().begun(1).said("frozen", "2-2").begun(2, "2-2", process="4-4")
    events = [*story._events, Event(10 * SECOND, "1-1", "thawed", ("2-2",))]
    events.append(Event(10 * SECOND + dead_after, "1-1", "dead", ("2-2",)))
    return [*events, Event(60 * SECOND, "4-4", "run-end", (JOB, "2"))]


def test_a_run_of_a_frozen_host_may_overlap_for_a_second_after_its_thaw() -> None:
    """While it stands still it does nothing; then it has to be killed at once."""
    store = healthy().stored(token=2, attempt=2)
    assert check(thawed(SECOND // 2), Stored(store._rows)).faults == {}
    assert check(thawed(2 * SECOND), Stored(store._rows)).faults == {"overlap": 1}


NO_FAULT = {
    "the first run died before the second began": healthy()
    .begun(1)
    .said("dead", "2-2")
    .begun(2, "2-2", process="4-4")
    .ended(2, process="4-4")
    .stored(token=2),
    "the second run saw that the first one's process was gone": healthy()
    .begun(1)
    .begun(2, "9-9", process="4-4")
    .ended(2, process="4-4")
    .stored(token=2),
    "the same process ran something else in between": healthy()
    .begun(1)
    .begun(job=OTHER, token=1)
    .begun(2, "2-2", process="4-4")
    .ended(2, process="4-4")
    .stored(token=2),
    "an operator retried it": healthy()
    .begun(1)
    .ended(1)
    .begun(3, process="4-4")
    .ended(3, process="4-4")
    .stored(token=3)
    .moved("failed", 1)
    .moved("waiting", 2)
    .moved("completed", 3),
    "one try at most, and it died before its first line": healthy().stored(
        "failed", reason="crash", attempt=1, max_attempts=1, crashes=1
    ),
    "one try at most, and its engine had to end before its first line": healthy().stored(
        "failed", reason="interrupted", attempt=1, max_attempts=1
    ),
    "canceled before it ran": healthy().stored("canceled", attempt=0),
}


@pytest.mark.parametrize("story", NO_FAULT.values(), ids=NO_FAULT)
def test_what_is_allowed_is_no_fault(story: Story) -> None:
    """The checker blames nobody for a killed run, a retry or a cancel."""
    figures = story.judged()
    assert figures.faults == {}, figures


def test_an_enqueue_of_unknown_end_may_be_there_or_not() -> None:
    """A lost answer is no fault either way; that it is there is counted."""
    here = healthy().begun().ended().stored().said("enq-unknown", "0c" * 16)
    assert here.judged().faults == {}
    there = here.begun(job="0c" * 16).ended(job="0c" * 16).stored(job="0c" * 16)
    assert there.judged().faults == {}
    assert there.judged().recovered == 1


def test_a_worker_killed_before_the_first_line_of_its_job_may_have_spent_an_attempt() -> None:
    """Where workers are killed at any moment, a crash explains an attempt without a run; else it does not."""
    crashed = Stored([Row(JOB, "completed", 2, "2", attempt=2, crashes=1)])
    events = [
        Event(at, "2-2", kind, tuple(facts))
        for at, (kind, *facts) in enumerate(
            [("enq-ok", JOB), ("run-begin", JOB, "2", "2", "nobody"), ("run-end", JOB, "2")]
        )
    ]
    assert check(events, crashed, workers_killed=True).faults == {}
    assert check(events, crashed).faults == {"overspent": 1}


def test_every_fault_has_a_history_that_shows_it() -> None:
    """No figure of the checker goes untested."""
    assert {fault for fault, _ in BROKEN.values()} | {"orphans"} == set(FAULTS)


# ------------------------------------------------------------------ files


CHILD = """
import os, signal, sys
from checker.history import History
history = History()
history.write("run-begin", "0a", 1, 1)
if os.fork() == 0:
    history.write("run-end", "0a", 1)
    os._exit(0)
os.wait()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_line_outlives_the_kill_of_its_writer(tmp_path: Path) -> None:
    """What was written is there after a SIGKILL, and a forked child writes to a file of its own."""
    tests = str(Path(__file__).resolve().parents[1])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], env={**os.environ, "CHECKER_HISTORY": str(tmp_path), "PYTHONPATH": tests}
    )
    name = process_name(child.pid)
    assert is_alive(name)
    assert child.wait(30) == -9
    assert not is_alive(name)
    events = read_history(tmp_path)
    assert [event.kind for event in events] == ["run-begin", "run-end"]
    assert events[0].process == name
    assert events[1].process != name


def test_a_second_claim_writes_down_who_is_alive(tmp_path: Path) -> None:
    """From the second claim on, a run says which other processes of the history live at its beginning."""

    def context(token: int) -> SimpleNamespace:
        return SimpleNamespace(_claim=SimpleNamespace(id=bytes(16)), token=token, attempt=1)

    (tmp_path / "999999999-1.log").touch()
    parent = process_name(os.getppid())
    (tmp_path / f"{parent}.log").touch()
    history = History(tmp_path)
    with history.run(context(1)), history.run(context(2)):
        pass
    begins = [event.facts for event in read_history(tmp_path) if event.kind == "run-begin"]
    assert begins == [("00" * 16, "1", "1"), ("00" * 16, "2", "1", parent)]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobcard]:
    with Jobcard(f"sqlite:///{tmp_path}/jobs.db") as jobs:
        jobs.migrate()
        yield jobs


def test_the_store_is_read_as_it_is(jobs: Jobcard, tmp_path: Path) -> None:
    """Rows come without the library under test, and a watched file remembers every move into and out of an end."""
    watch_endings(tmp_path / "jobs.db")
    handle = jobs.enqueue("shop.add", [1, 2])
    handle.cancel()
    jobs.retry(handle.id)
    stored = read_store(tmp_path / "jobs.db")
    assert [(row.id, row.state, row.name) for row in stored.rows] == [(handle.id.hex, "waiting", "shop.add")]
    assert [(ending.ended, ending.state) for ending in stored.endings] == [(True, "canceled"), (False, "waiting")]
