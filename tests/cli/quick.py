"""Many runs of the `jobcard` command for the price of one start of Python.

A process that has imported the command forks for each run; the child is the command from `main()` on, in a
directory of its own and with nothing but its arguments, standard streams and exit code.
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

# stdin: {"arguments", "directory", "out", "err"} a line; stdout: the exit code, a line.
_SERVER = """
import gc, json, os, sys
import jobcard.backends.sqlite, jobcard.client, jobcard.workers.process
import jobcard.cli.check, jobcard.cli.engines, jobcard.cli.enqueue, jobcard.cli.init, jobcard.cli.jobs
import jobcard.cli.project, jobcard.cli.queues, jobcard.cli.record, jobcard.cli.replaying, jobcard.cli.schedules
import jobcard.cli.schema
import jobcard.cli.stats, jobcard.client.compat
from jobcard.cli.main import main
gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(asked["directory"])
        for number, path in enumerate((os.devnull, asked["out"], asked["err"])):
            os.dup2(os.open(path, os.O_RDWR), number)
        sys.stdin = open(os.devnull)
        sys.argv[1:] = asked["arguments"]
        sys.argv[0] = "jobcard"
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """The forking process."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            env=App(directory).environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, directory: Path, arguments: tuple[str, ...]) -> Ran:
        """One run of the command."""
        with TemporaryDirectory() as place:
            out, err = Path(place, "out"), Path(place, "err")
            out.touch()
            err.touch()
            asked = {"arguments": arguments, "directory": str(directory), "out": str(out), "err": str(err)}
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
    """An application whose commands are forked, unless they want an environment or much time."""

    commands: Commands

    def jobcard(self, *arguments: str, timeout: float = RUN_SECONDS, env: Mapping[str, str] | None = None) -> Ran:
        if env is None and arguments[:1] not in (("bench",), ("demo",)):
            return self.commands.run(self.directory, arguments)
        return super().jobcard(*arguments, timeout=timeout, env=env)
