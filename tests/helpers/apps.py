"""Running a small application of its own directory, as a user would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

RUN_SECONDS = 60.0


@dataclass(frozen=True)
class Ran:
    """What came of one command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class App:
    """A directory that an application lives in; its SQLite file is made there too."""

    directory: Path

    def write(self, name: str, source: str) -> Path:
        """A file of the application; the source may be indented."""
        path = self.directory / name
        path.write_text(dedent(source).lstrip("\n"), "utf-8")
        return path

    def begin(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Begin a command there that runs until it is stopped; what it says goes to a file."""
        with log.open("wb") as file:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def python(
        self, *arguments: str, timeout: float = RUN_SECONDS, env: Mapping[str, str] | None = None, text: str = ""
    ) -> Ran:
        """Run `python …` there; it is ended, and the test fails, when the time is up."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**self.environment(), **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        try:
            out, err = process.communicate(text, timeout)
        except subprocess.TimeoutExpired:
            # An engine it started has a session of its own, and ends when its parent does.
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"{arguments} took more than {timeout:g} s\n{out}\n{err}") from None
        return Ran(process.returncode, out, err)

    def jobcard(self, *arguments: str, timeout: float = RUN_SECONDS, env: Mapping[str, str] | None = None) -> Ran:
        """Run the `jobcard` command there."""
        return self.python("-m", "jobcard", *arguments, timeout=timeout, env=env)

    def environment(self) -> dict[str, str]:
        """The environment of the tests without what would lead elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBCARD_", "PYTEST_"))}
        return {**kept, "PYTHONUTF8": "1", "NO_COLOR": "1", "HOME": str(self.directory)}
