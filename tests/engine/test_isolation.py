"""A job can harm itself alone: however it ends, the engine stays, neighbours complete, and the record says why."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checker.history import alive, process_name
from checker.lab import Lab, Tree
from helpers.waiting import wait_until
from jobcard import Job

pytestmark = pytest.mark.turns

HEALTHY = 300
SLOT_SECONDS = 10.0  # two are promised


@dataclass(frozen=True)
class Case:
    """A job that misbehaves, and what its record says in the end."""

    job: str
    args: tuple[Any, ...] = ()
    state: str = "failed"
    reason: str | None = "crash"
    kind: str | None = "crash"
    type: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    says: str = ""
    """Stands in the error's message."""
    output: str = ""
    """Stands in what it printed last."""


CASES = {
    "exits with 0": Case("exits", (0,), exit_code=0, says="exit code 0", output="last words"),
    "exits with 7": Case("exits", (7,), exit_code=7, says="exit code 7", output="last words"),
    "segfaults": Case("segfaults", signal="SIGSEGV", says="SIGSEGV", output="before the fault"),
    "aborts": Case("aborts", signal="SIGABRT", says="SIGABRT"),
    "kills itself": Case("is_killed", (int(signal.SIGKILL),), signal="SIGKILL", says="SIGKILL"),
    "terminates itself": Case("is_killed", (int(signal.SIGTERM),), signal="SIGTERM", says="SIGTERM"),
    "loops in Python": Case("loops", reason="timeout", kind="timeout", signal="SIGKILL", says="timeout of 1 s"),
    "loops in C": Case("loops_in_c", reason="timeout", kind="timeout", signal="SIGKILL", says="timeout of 2 s"),
    "blocks all signals": Case("is_stubborn", reason="timeout", kind="timeout", signal="SIGKILL"),
    "hogs memory": Case("hogs_memory", reason="memory", kind="memory", signal="SIGKILL", says="memory limit"),
    "raises SystemExit": Case("raises", ("SystemExit",), reason="error", kind="error", type="SystemExit", says="3"),
    "raises KeyboardInterrupt": Case(
        "raises", ("KeyboardInterrupt",), reason="error", kind="error", type="KeyboardInterrupt"
    ),
    "raises BaseException": Case(
        "raises", ("BaseException",), reason="error", kind="error", type="BaseException", says="odd"
    ),
    "raises what has no text": Case(
        "raises_mute", reason="error", kind="error", type="rough.Mute", says="its __str__ raised RuntimeError"
    ),
    "recurses without end": Case("recurses", reason="error", kind="error", type="RecursionError"),
    "closes all descriptors": Case("closes_descriptors"),
    "writes junk to all descriptors": Case("writes_junk"),
    "prints 10 MiB": Case("prints_much", (False,), state="completed", reason=None, kind=None),
    "prints 10 MiB and dies": Case("prints_much", (True,), exit_code=1, output="the end of it"),
    "forks and returns": Case("forks", (False, False), state="completed", reason=None, kind=None),
    "forks and dies": Case("forks", (False, True), exit_code=1),
    "daemonises and returns": Case("forks", (True, False), state="completed", reason=None, kind=None),
    "daemonises and dies": Case("forks", (True, True), exit_code=1),
    "returns NaN": Case("returns", ("NaN",), reason="serialization", kind="serialization"),
    "returns an object": Case("returns", ("object",), reason="serialization", kind="serialization"),
    "returns 2 MiB": Case("returns", ("huge",), reason="serialization", kind="serialization"),
}


@dataclass
class Outcome:
    """What came of one engine that ran all cases at once among healthy jobs."""

    lab: Lab
    tree: Tree
    engine_before: int
    engine_after: int
    jobs: dict[str, Job]
    poison: Job


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    lab = Lab(tmp_path_factory.mktemp("isolation"))
    try:
        app = lab.app("rough")
        tree = lab.start("rough")
        engine = tree.engine()
        parts = len(CASES) + 1
        handles = {}
        for name, case in CASES.items():
            lab.enqueue(app, [app.healthy.call() for _ in range(HEALTHY // parts)])
            handles[name] = getattr(app, case.job).enqueue(*case.args)
        poison = app.poison.enqueue()
        lab.enqueue(app, [app.healthy.call() for _ in range(HEALTHY - HEALTHY // parts * (parts - 1))])
        lab.drained(app)
        jobs = {name: handle.refresh() for name, handle in handles.items()}
        yield Outcome(lab, tree, engine, tree.engine(), jobs, poison.refresh())
    finally:
        lab.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_rough_job_ends_alone_and_its_record_says_how(outcome: Outcome, name: str) -> None:
    """State, reason, kind, exit code or signal, and the last of its output are recorded for each way to go wrong."""
    case, job = CASES[name], outcome.jobs[name]
    assert (job.state, job.reason, job.attempt) == (case.state, case.reason, 1)
    if case.kind is None:
        assert job.errors == []
        return
    error = job.error
    assert error is not None and len(job.errors) == 1
    assert error["kind"] == case.kind
    assert error["attempt"] == 1
    assert case.says in error["message"]
    if case.type is not None:
        assert error["type"] == case.type
    if case.exit_code is not None or case.signal is not None:
        assert (error["exit_code"], error["signal"]) == (case.exit_code, case.signal)
    if case.output:
        assert case.output in error["output"]
    assert len(error["output"] or "") <= 16 << 10


@pytest.mark.slow
def test_the_last_16_kib_of_the_output_are_kept(outcome: Outcome) -> None:
    """Of 10 MiB the end is kept, and nothing of what other jobs printed."""
    job = outcome.jobs["prints 10 MiB and dies"]
    assert job.error is not None
    output = job.error["output"]
    assert output.endswith(f"{10 * (1 << 20) // 64 - 1:>63}\nthe end of it")
    assert len(output) == 16 << 10
    assert set(output) <= set("0123456789 \nthe end of it")


@pytest.mark.slow
def test_a_job_that_crashes_every_time_is_given_up(outcome: Outcome) -> None:
    """After `max_crashes` a job fails with the reason crash, however many attempts are left."""
    job = outcome.poison
    assert (job.state, job.reason, job.attempt, job.crashes) == ("failed", "crash", 3, 3)
    assert [error["exit_code"] for error in job.errors] == [9, 9, 9]


@pytest.mark.slow
def test_the_engine_stays_and_nobody_is_left_behind(outcome: Outcome) -> None:
    """300 healthy jobs beside 27 rough ones complete at their first try, in the same engine; nothing outlives it."""
    assert outcome.engine_before == outcome.engine_after
    assert outcome.tree.stop() == 0
    outcome.lab.wait_gone()
    figures = outcome.lab.figures(only="rough.healthy")  # the rough ones write no history
    assert figures.faults == {}, figures
    assert (figures.jobs, figures.runs) == (HEALTHY, HEALTHY)


@pytest.mark.slow
@pytest.mark.parametrize("own_session", [False, True], ids=["in its group", "daemonised"])
def test_what_a_crashed_job_started_is_gone_soon(lab: Lab, own_session: bool) -> None:
    """Processes that a job left behind do not outlive its worker, even if they left its process group."""
    app = lab.app("rough")
    tree = lab.start("rough")
    before = app.pid.enqueue().result(timeout=30)
    assert before in [process.pid for process in tree.workers()]
    handle = app.forks.enqueue(own_session, True)
    wait_until(lambda: handle.refresh().state == "failed", "its end")

    def sleepers() -> list[int]:
        return [pid for pid in lab.processes() if b"sleep" in _command(pid)]

    wait_until(lambda: not sleepers(), "the end of its children", timeout=10)
    assert tree.stop() == 0


@pytest.mark.parametrize("ends", [False, True], ids=["the job goes on", "the job has ended"])
def test_what_a_job_left_behind_ends_without_its_worker(lab: Lab, ends: bool) -> None:
    """A process that lost its parent while its worker lives is ended alone: the worker leads its group, and goes on."""
    app = lab.app("rough")
    tree = lab.start("rough", "--max-concurrent-jobs", "1")
    left, gate = lab.folder / "left", lab.folder / "gate"
    handle = app.leaves_behind.enqueue(str(left), None if ends else str(gate))
    wait_until(left.exists, "a process in the background")
    orphan = process_name(int(left.read_text()))
    wait_until(lambda: not alive([orphan]), "the end of it")
    gate.touch()
    worker = handle.result(timeout=30)
    assert (handle.refresh().attempt, handle.refresh().crashes, handle.refresh().errors) == (1, 0, [])
    assert app.pid.enqueue().result(timeout=30)
    assert worker in [process.pid for process in tree.workers()]
    assert tree.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("warm", [True, False], ids=["after some time at work", "at its first breath"])
def test_a_slot_is_back_soon_after_a_kill(lab: Lab, warm: bool) -> None:
    """The next job starts within two seconds of a worker's death, with one slot and an app of two seconds to import."""
    app = lab.app("heavy")
    tree = lab.start("heavy", "--max-concurrent-jobs", "1")
    took = []
    for number in range(2):
        gate = lab.folder / f"gate-{number}"
        victim = app.dies.enqueue(str(gate) if warm else None)
        follower = app.begins.enqueue()
        if warm:
            # A job at work has a spare beside it that has imported the application.
            wait_until(lambda: len(_with_the_application(lab, tree)) >= 2, "a spare")
            gate.touch()
        began = follower.result(timeout=60)
        died = next(event.at for event in lab.events("dies") if event.facts[0] == victim.id.hex)
        took.append((began - died) / 1e9)
    print(f"slot back after {', '.join(f'{seconds:.3f}' for seconds in took)} s")
    assert max(took) < SLOT_SECONDS
    assert tree.stop() == 0


def test_a_fresh_job_has_a_process_of_its_own(lab: Lab) -> None:
    """isolation="fresh": a new process every time, and what it changes there is seen by nobody."""
    app = lab.app("rough")
    tree = lab.start("rough")
    pids = [app.fresh_pid.enqueue().result(timeout=30) for _ in range(4)]
    pids.append(app.leaves_a_mess.enqueue().result(timeout=30))
    assert len(set(pids)) == len(pids)
    assert app.sees_a_mess.enqueue().result(timeout=30) == [None, str(lab.folder), True]
    shared = {app.pid.enqueue().result(timeout=30) for _ in range(4)}
    assert len(shared) < 4 and not shared & set(pids)
    assert tree.stop() == 0


@pytest.mark.slow
def test_a_timeout_of_a_fast_job_behind_a_slow_one_counts_from_its_own_start(lab: Lab) -> None:
    """Waiting in a worker's pipe does not use up a job's timeout."""
    app = lab.app("load")
    tree = lab.start("load", "--max-concurrent-jobs", "1")
    began = time.monotonic()
    handles = [app.nap.options(timeout=4.0, max_attempts=1).enqueue(0.4) for _ in range(12)]
    assert [handle.result(timeout=60) for handle in handles] == [1] * 12
    assert time.monotonic() - began > 4.0
    assert tree.stop() == 0


def _with_the_application(lab: Lab, tree: Tree) -> list[int]:
    """The workers that have imported the application, or were forked from a process that has."""
    imported, template = {event.process for event in lab.events("imported")}, tree.template()
    return [
        worker.pid
        for worker in tree.workers()
        if process_name(worker.pid) in imported or (template is not None and worker.ppid() == template)
    ]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
