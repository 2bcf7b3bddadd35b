"""Many runs of the `jobcard` command for the price of one start of Python.

A process that has imported the command forks for each run; the child is the command from `main()` on, in a
directory and an environment of its own and with nothing but its arguments, standard streams and exit code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from helpers.apps import RUN_SECONDS, App, Ran

_OF_COMMANDS = (
    "jobcard.backends.sqlite", "jobcard.cli.check", "jobcard.cli.engines", "jobcard.cli.enqueue", "jobcard.cli.init",
    "jobcard.cli.jobs", "jobcard.cli.project", "jobcard.cli.queues", "jobcard.cli.record", "jobcard.cli.replaying",
    "jobcard.cli.schedules", "jobcard.cli.schema", "jobcard.cli.stats", "jobcard.client", "jobcard.client.compat",
    "jobcard.client.health", "jobcard.client.lookup", "jobcard.client.moves", "jobcard.client.queues",
    "jobcard.workers.process",
)  # fmt: skip
# Python has read these before there is a child.
_TOO_LATE = ("PYTHON", "LC_", "LANG", "TZ")

# stdin: {"arguments", "directory", "environment", "out", "err"} a line; stdout: the exit code, a line.
_SERVER = """
import atexit, gc, importlib, json, os, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
from jobcard.cli.main import main
gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(asked["directory"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        for number, path in enumerate((os.devnull, asked["out"], asked["err"])):
            os.dup2(os.open(path, os.O_RDWR), number)
        sys.stdin = open(os.devnull)
        sys.argv[:] = ["jobcard", *asked["arguments"]]
        try:
            main()
        except SystemExit as end:
            # As Python ends, but for taking apart what it has of its parent, which takes longer than most commands.
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """The forking process."""

    def __init__(self, directory: Path, *modules: str) -> None:
        """modules: what it imports besides what most commands do."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *_OF_COMMANDS, *modules],
            env=App(directory).environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, directory: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> Ran:
        """One run of the command."""
        with TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            out.touch()
            err.touch()
            asked = {
                "arguments": arguments,
                "directory": str(directory),
                "environment": {**environment},
                "out": str(out),
                "err": str(err),
            }
            _pipe(self._process.stdin).write(json.dumps(asked) + "\n")
            _pipe(self._process.stdin).flush()
            code = int(_pipe(self._process.stdout).readline())
            return Ran(code, out.read_text("utf-8"), err.read_text("utf-8"))

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@dataclass(frozen=True)
class QuickApp(App):
    """An application whose commands are forked, unless they want an environment that Python reads, or much time."""

    commands: Commands

    def jobcard(self, *arguments: str, timeout: float = RUN_SECONDS, env: Mapping[str, str] | None = None) -> Ran:
        if arguments[:1] in (("bench",), ("demo",)) or any(name.startswith(_TOO_LATE) for name in env or ()):
            return super().jobcard(*arguments, timeout=timeout, env=env)
        return self.commands.run(self.directory, arguments, {**self.environment(), **(env or {})})
