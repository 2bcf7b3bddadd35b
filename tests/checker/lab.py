"""A small application with its store, its histories and its engines, as a test drives and breaks them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from checker.figures import Figures, check
from checker.history import VARIABLE, Event, History, read_history
from checker.stored import Stored, Watch, file_of, read_store, watch_endings
from helpers.waiting import wait_until
from jobcard.errors import StoreUnavailableError

TESTS = Path(__file__).resolve().parents[1]
APPS = (TESTS / "engine" / "apps", TESTS / "stores" / "apps", TESTS / "checker" / "apps")
MARK = "CHECKER_LAB"
GONE_SECONDS = 10.0  # a second is expected
READY_SECONDS = 30.0  # half a second is expected


class Tree:
    """One `jobcard start`: the keeper, and below it the engine and its workers."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def keeper(self) -> int:
        """The keeper's process id."""
        return self.process.pid

    @property
    def errors(self) -> str:
        """What was written to standard error so far."""
        return self._errors.read_text(errors="replace")

    @property
    def owner(self) -> str:
        """The name in which its newest engine holds jobs."""
        return (
            [line for line in self.errors.splitlines() if line.startswith("ready: engine ")][-1].split()[2].strip(",")
        )

    def find_engine(self) -> int | None:
        """The engine's process id; None while there is none."""
        return next((pid for pid in below(self.keeper) if "jobcard.engine.engine" in _command(pid)), None)

    def engine(self, *, after: int | None = None) -> int:
        """The engine's process id, once it has another one than `after`."""

        def found() -> int | None:
            pid = self.find_engine()
            return None if pid == after else pid

        return wait_until(found, "an engine", timeout=READY_SECONDS)

    def workers(self) -> list[psutil.Process]:
        """The worker processes of the engine and whatever they started."""
        engine = self.find_engine()
        if engine is None:
            return []
        template = self.template()
        return [process for process in _children(engine, recursive=True) if process.pid != template]

    def template(self) -> int | None:
        """The process that workers are forked from; None while there is none."""
        engine = self.find_engine()
        for child in [] if engine is None else _children(engine):
            # Workers forked from it have its command line too, but another parent.
            if "jobcard.workers.template" in _command(child.pid):
                return child.pid
        return None

    def wait_ready(self) -> Tree:
        """Wait for the line that says so."""

        def said() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before it was ready\n{self.errors}")
            return any(line.startswith("ready") for line in self.errors.splitlines())

        wait_until(said, "an engine that is ready", timeout=READY_SECONDS)
        return self

    def wait_stopping(self) -> None:
        """Wait until the engine has heard that it shall stop: two signals that wait together may be one."""
        wait_until(lambda: "engine.stop" in self.errors, "an engine that stops")

    def signal(self, number: int) -> None:
        """Send a signal to the keeper."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait until the keeper ends; its exit code."""
        return self.process.wait(timeout)

    def stop(self, timeout: float = 60.0) -> int:
        """Drain and end it; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill_engine(self) -> float:
        """SIGKILL the engine; when, in monotonic seconds."""
        os.kill(self.engine(), signal.SIGKILL)
        return time.monotonic()

    def kill_all(self) -> float:
        """SIGKILL keeper, engine and workers together, as when a host dies; when, in monotonic seconds."""
        processes = [psutil.Process(self.keeper), *_children(self.keeper, recursive=True)]
        for process in processes:  # nobody may react to the death of another
            _send(process.pid, signal.SIGSTOP)
        for process in processes:
            _send(process.pid, signal.SIGKILL)
        at = time.monotonic()
        self.process.wait()
        return at


class Lab:
    """A directory with histories, and a store; everything started here is found and ended."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        """url: the store; None: a SQLite file in the directory."""
        self.folder = folder
        self.file = folder / "jobs.db"
        self.url = f"sqlite:///{self.file}" if url is None else url
        self.engine_url = self.url
        """How processes started here reach the store; this one does not go that way."""
        self._watch: Watch | None = None
        self.histories = folder / "history"
        self.histories.mkdir()
        self.trees: list[Tree] = []
        self._apps: list[ModuleType] = []
        self._others: list[subprocess.Popen[bytes]] = []
        self.history = History(self.histories)

    # -- the application, in this process

    def app(self, name: str, **settings: Any) -> Any:
        """A fresh copy of one of the applications of the tests, on this store; enqueue with its jobs."""
        path = next(path for folder in APPS if (path := folder / f"{name}.py").exists())
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        module.jobs.configure(self.url, **settings)
        module.jobs.migrate()
        if (file := file_of(self.url)) is not None:
            watch_endings(file)
        elif self._watch is None:
            self._watch = Watch(self.url)
        self._apps.append(module)
        return module

    def enqueue(self, app: Any, calls: Sequence[Any]) -> list[Any]:
        """Enqueue calls for the checker: said before, and said again when they are stored."""
        # Ids are known only afterwards, so a call that was never answered would show as unexpected.
        handles: list[Any] = app.jobs.enqueue_many(calls)
        for handle in handles:
            self.history.write("enq-ok", handle.id.hex)
        return handles

    # -- processes

    def environment(self, **more: str) -> dict[str, str]:
        """What a process of ours gets: the store, the histories, the mark it is found by, the applications."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBCARD_", "PYTEST_"))}
        ours = {
            "PYTHONPATH": os.pathsep.join(
                [*map(str, APPS), str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            ),
            "JOBCARD_URL": self.engine_url,
            VARIABLE: str(self.histories),
            MARK: str(self.folder),
            "NO_COLOR": "1",
        }
        return {**kept, **ours, **more}

    def start(
        self,
        app: str,
        *options: str,
        ready: bool = True,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Tree:
        """`jobcard start APP:jobs …` in a process group of its own. prefix: a command that runs it."""
        errors = self.folder / f"errors-{len(self.trees)}.txt"
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [
                    *prefix,
                    sys.executable,
                    "-m",
                    "jobcard",
                    "start",
                    app if ":" in app else f"{app}:jobs",
                    "--log-level",
                    "info",
                    *options,
                ],
                cwd=self.folder,
                env=self.environment(**(env or {})),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        tree = Tree(process, errors)
        self.trees.append(tree)
        return tree.wait_ready() if ready else tree

    def start_several(self, number: int, app: str, *options: str) -> list[Tree]:
        """So many of `start` side by side, all ready."""
        return [tree.wait_ready() for tree in [self.start(app, *options, ready=False) for _ in range(number)]]

    def python(
        self, *arguments: str, env: dict[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """A Python process of this lab, its output readable as `.stdout`."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment(**(env or {})),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._others.append(process)
        return process

    def processes(self) -> list[int]:
        """Every live process that descends from one we started, wherever it hangs in the tree now."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for pid in psutil.pids():
            if mark in _environment(pid).split(b"\0") and _lives(pid):
                found.append(pid)
        return found

    def wait_gone(self, timeout: float = GONE_SECONDS) -> None:
        """Wait until no process of ours is left."""
        wait_until(
            lambda: not self.processes(),
            f"the end of {[(pid, _command(pid)[-80:]) for pid in self.processes()]}",
            timeout=timeout,
        )

    def stop(self) -> None:
        """Stop all engines, gently."""
        for tree in self.trees:
            if tree.process.poll() is None:
                tree.signal(signal.SIGTERM)
        for tree in self.trees:
            tree.wait()

    # -- looking

    def events(self, kind: str, *, token_over: int = 0) -> list[Event]:
        """The events of one kind so far; of runs only those with a higher claim token."""
        found = [event for event in read_history(self.histories) if event.kind == kind]
        return [event for event in found if not token_over or int(event.facts[1]) > token_over]

    def wait_for(self, app: Any, arrived: Callable[[Any], bool], what: str, *, timeout: float = 60.0) -> None:
        """Wait until the counts by state are so; a store that is away says so later."""

        def there() -> bool:
            with contextlib.suppress(StoreUnavailableError):
                return arrived(app.jobs.count())
            return False

        wait_until(there, what, timeout=timeout, interval=0.02)

    def drained(self, app: Any, *, timeout: float = 60.0) -> None:
        """Wait until every job has ended."""
        self.wait_for(
            app, lambda n: not n["waiting"] + n["claimed"] + n["running"], "the end of every job", timeout=timeout
        )

    def stored(self) -> Stored:
        """What the store holds, and how jobs came to their ends."""
        stored = read_store(self.url)
        if self._watch is None:
            return stored
        self._watch.close()
        return Stored(stored.rows, self._watch.endings)

    def figures(self, *, only: str = "", workers_killed: bool = False, sound: Collection[str] = ()) -> Figures:
        """What the checker says; stop the engines first. only: look at the rows of jobs of this name."""
        stored = self.stored()
        rows = [row for row in stored.rows if not only or row.name == only]
        ids = {row.id for row in rows}
        endings = [ending for ending in stored.endings if ending.id in ids]
        return check(self.histories, Stored(rows, endings), workers_killed=workers_killed, sound=sound)

    def close(self) -> None:
        """End everything; nothing may be left for other tests."""
        if self._watch is not None:
            self._watch.close()
        for app in self._apps:
            app.jobs.close()
        for process in (*(tree.process for tree in self.trees), *self._others):
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        # Below a killed keeper everything ends by itself; this is for what a failing test left behind.
        wait_until(self._kill_rest, "the end of every process of this test", timeout=GONE_SECONDS)

    def _kill_rest(self) -> bool:
        left = self.processes()
        for pid in left:
            _send(pid, signal.SIGKILL)
        return not left


def _children(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def below(pid: int) -> list[int]:
    """Every process below one, children first: asked of the kernel, which is far cheaper than looking at all."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return [*found, *(each for child in found for each in below(child))]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
