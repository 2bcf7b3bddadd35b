"""`jobcard start` in a directory of a user: ready, at work, and to its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from answers import listed, succeeded
from terminal import PROGRAM

from helpers.apps import App
from helpers.waiting import PATIENCE, wait_until

WORKS = """
    import time
    from pathlib import Path
    from jobcard import Jobcard

    jobs = Jobcard()

    @jobs.job
    def double(number: int) -> int:
        return 2 * number

    @jobs.job(queue="mail")
    def letter() -> str:
        return "sent"

    @jobs.job
    def until_told() -> str:
        Path("begun").touch()
        while not Path("told").exists():
            time.sleep(0.01)
        return "told"
"""

HANDED_BACK_OR_HELD = (("waiting", 0), ("running", 1), ("claimed", 1))
"""A job whose engine was ended at once: it has a second for its last words, and uses it, as tests/engine shows."""


class Started:
    """A running `jobcard start`; what it says goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def said(self) -> str:
        """Everything so far."""
        return self.log.read_text("utf-8")

    def wait_until_ready(self) -> None:
        """Returns after the line that says so."""
        wait_until(lambda: self._is_ready() or self.process.poll() is not None, "the ready line", timeout=4 * PATIENCE)
        assert self._is_ready(), self.said()

    def _is_ready(self) -> bool:
        return any(line.startswith("ready") for line in self.said().splitlines())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to stop and wait for its end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(2 * PATIENCE)


Start = Callable[..., Started]


@pytest.fixture
def works(tmp_path: Path) -> App:
    """A directory with an application that works."""
    app = App(tmp_path)
    app.write("works.py", WORKS)
    return app


@pytest.fixture
def start(works: App) -> Iterator[Start]:
    """Starts `jobcard start …` there; whatever still runs at the end is killed."""
    with ExitStack() as stack:
        yield lambda *arguments, command=(sys.executable, "-m", "jobcard"), verb="start": stack.enter_context(
            _started(works, (*command, verb, *arguments))
        )


@contextmanager
def _started(app: App, command: tuple[str, ...]) -> Iterator[Started]:
    log = app.directory / "start.log"
    process = app.begin(command, log)
    try:
        yield Started(process, log)
    finally:
        # The engine and its workers end when their keeper does.
        process.kill()
        process.wait()


def enqueue(app: App, name: str, *arguments: str) -> str:
    """Enqueue a job of the application; its id."""
    return succeeded(app.jobcard("enqueue", "works", name, *arguments)).out.strip()


def wait_until_ended(app: App, job_id: str) -> dict[str, object]:
    """The job when it has ended."""

    def ended() -> dict[str, object] | None:
        job: dict[str, object] = json.loads(succeeded(app.jobcard("jobs", "show", job_id, "--json")).out)
        return job if job["state"] in ("completed", "failed", "canceled") else None

    job = wait_until(ended, f"the end of job {job_id}", interval=0.1)
    assert job is not None
    return job


class TestStart:
    @pytest.mark.parametrize("app", ["works.py", "works:jobs"])
    def test_it_runs_what_was_enqueued_and_stops_when_told(self, app: str, works: App, start: Start) -> None:
        """A script or a module: ready, the job done, and exit code 0 at SIGTERM."""
        job_id = enqueue(works, "works.double", "--args", "[21]")
        engine = start(app)
        engine.wait_until_ready()
        assert wait_until_ended(works, job_id)["result"] == 42
        assert engine.stop() == 0
        assert engine.said().count("\n") == 1

    def test_what_runs_may_end(self, works: App, start: Start) -> None:
        """SIGTERM drains: a job at work is finished first, and nothing new is begun."""
        running = enqueue(works, "works.until_told")
        engine = start("works", "--max-concurrent-jobs", "1", "--log-level", "info")
        wait_until((works.directory / "begun").exists)
        engine.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "engine.stop" in engine.said())
        waiting = enqueue(works, "works.double", "--args", "[1]")
        assert engine.process.poll() is None
        (works.directory / "told").touch()
        assert engine.process.wait(2 * PATIENCE) == 0
        states = {job["id"]: job["state"] for job in listed(works)}
        assert states == {running: "completed", waiting: "waiting"}

    def test_a_second_signal_ends_it_at_once(self, works: App, start: Start) -> None:
        """Exit code 130, and the job goes back with its attempt returned, or is held as before where time was short."""
        enqueue(works, "works.until_told")
        engine = start("works", "--log-level", "info")
        wait_until((works.directory / "begun").exists)
        engine.process.send_signal(signal.SIGINT)
        wait_until(lambda: "engine.stop" in engine.said())
        assert engine.stop(signal.SIGINT) == 130
        (job,) = listed(works)
        assert (job["state"], job["attempt"]) in HANDED_BACK_OR_HELD

    def test_only_the_queues_asked_for(self, works: App, start: Start) -> None:
        """With --queues, jobs of others stay where they are."""
        other = enqueue(works, "works.double", "--args", "[1]")
        wanted = enqueue(works, "works.letter")
        engine = start("works", "--queues", "mail,parcels")
        assert wait_until_ended(works, wanted)["result"] == "sent"
        assert engine.stop() == 0
        assert {job["id"]: job["state"] for job in listed(works)}[other] == "waiting"

    def test_the_url_overrules_the_application(self, works: App, start: Start) -> None:
        """The engine works on the store of --url; the application's own is not even made."""
        job_id = enqueue(works, "works.letter", "--url", "sqlite:///other.db")
        engine = start("works", "--url", "sqlite:///other.db")
        engine.wait_until_ready()
        wait_until(lambda: listed(works, "--url", "sqlite:///other.db", "--state", "completed"), interval=0.1)
        assert engine.stop() == 0
        assert [job["id"] for job in listed(works, "--url", "sqlite:///other.db")] == [job_id]
        assert not (works.directory / "jobcard.db").exists()

    def test_a_script_finds_its_neighbours_and_this_directory(self, works: App, start: Start) -> None:
        """As `python shop/run.py` would: and the current directory before all else."""
        (works.directory / "shop").mkdir()
        works.write("shop/run.py", "import beside, here\nfrom works import jobs\n")
        works.write("shop/beside.py", "")
        works.write("shop/here.py", "raise RuntimeError('the wrong one')")
        works.write("here.py", "")
        engine = start("shop/run.py:jobs")
        engine.wait_until_ready()
        assert engine.stop() == 0

    def test_the_installed_command_does_the_same(self, works: App, start: Start) -> None:
        """`jobcard start works` of the environment's own scripts imports from the current directory too."""
        engine = start("works", command=(PROGRAM,))
        engine.wait_until_ready()
        assert engine.stop() == 0


class TestReload:
    def test_a_changed_file_starts_the_engine_anew(self, works: App, start: Start) -> None:
        """The same job, enqueued again, runs the new code; the engine before it was drained."""
        engine = start("works", "--reload")
        engine.wait_until_ready()
        assert wait_until_ended(works, enqueue(works, "works.letter"))["result"] == "sent"
        works.write("works.py", WORKS.replace('return "sent"', 'return "sent better"'))
        wait_until(lambda: engine.said().count("ready") == 2, "the engine of the new code", timeout=4 * PATIENCE)
        assert "reloading: ./works.py" in engine.said()
        assert wait_until_ended(works, enqueue(works, "works.letter"))["result"] == "sent better"
        assert engine.stop() == 0

    def test_code_that_cannot_be_imported_is_waited_for(self, works: App, start: Start) -> None:
        """It says why, and tries again at the next change."""
        works.write("works.py", "def broken(:\n")
        engine = start("works", "--reload")
        wait_until(lambda: "waiting for a change" in engine.said(), timeout=4 * PATIENCE)
        assert "works.py, line 1)" in engine.said()
        works.write("works.py", WORKS)
        engine.wait_until_ready()
        assert engine.stop(signal.SIGINT) == 0

    def test_a_second_signal_ends_it_at_once(self, works: App, start: Start) -> None:
        """As without --reload: exit code 130, and the job is not lost."""
        enqueue(works, "works.until_told")
        engine = start("works", "--reload", "--log-level", "info")
        engine.wait_until_ready()  # until then a first signal ends it at once
        wait_until((works.directory / "begun").exists, timeout=4 * PATIENCE)
        engine.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "engine.stop" in engine.said())
        assert engine.stop() == 130
        (job,) = listed(works)
        assert (job["state"], job["attempt"]) in HANDED_BACK_OR_HELD

    def test_its_processes_end_with_it(self, works: App, start: Start) -> None:
        """Killed, it leaves no engine behind."""
        engine = start("works", "--reload")
        engine.wait_until_ready()
        (keeper,) = children(engine.process.pid)
        engine.process.kill()
        wait_until(lambda: not Path(f"/proc/{keeper}").exists(), "the end of the keeper")


class TestDev:
    def test_each_job_that_ends_is_a_line(self, works: App, start: Start) -> None:
        """Also one that waited before: how it ended, after how long, which one, and why it failed."""
        before = enqueue(works, "works.letter")
        works.write(
            "fails.py", "from works import jobs\n@jobs.job(max_attempts=1)\ndef fails(): raise ValueError('no')\n"
        )
        engine = start("fails:jobs", command=(PROGRAM,), verb="dev")
        wait_until(lambda: before in engine.said(), "the job that waited", timeout=4 * PATIENCE)
        failed = succeeded(works.jobcard("enqueue", "fails:jobs", "fails.fails")).out.strip()
        wait_until(lambda: failed in engine.said(), "the job that fails", timeout=4 * PATIENCE)
        assert engine.stop() == 0
        told = [line.split()[1:] for line in engine.said().splitlines() if before in line or failed in line]
        assert [(state, unit, name) for state, _, unit, name, *_ in told] == [
            ("completed", "s", "works.letter"),
            ("failed", "s", "fails.fails"),
        ]
        assert told[1][4:] == [failed, "ValueError:", "no"]
        assert "engine.start" in engine.said()


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()]


class TestTheKeeper:
    def test_it_stays_small(self, works: App, start: Start) -> None:
        """The process itself is the keeper: it never loads a store's driver, and no rich, asyncio or user code."""
        engine = start("works", "--log-level", "info", "--log-format", "json")
        engine.wait_until_ready()
        loaded = Path(f"/proc/{engine.process.pid}/maps").read_text("utf-8")
        assert "apsw" not in loaded
        assert "msgspec" not in loaded
        assert "_asyncio" not in loaded
        assert engine.stop() == 0
        lines = [line for line in engine.said().splitlines() if not line.startswith("ready")]
        assert {json.loads(line)["level"] for line in lines} == {"info"}

    def test_the_command_imports_little_before_that(self) -> None:
        """Finding and reading the command needs click and nothing else that is heavy."""
        heavy = ["rich", "msgspec", "apsw", "asyncio", "sqlite3", "jobcard.client"]
        code = f"import sys, jobcard.cli.main, jobcard.cli.start; print(*[m for m in {heavy} if m in sys.modules])"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout.split() == []
