"""A store, and asking `jobcard doctor` about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from helpers.apps import App, Ran
from jobcard.backends.base import Backend
from jobcard.backends.registry import open_backend


@dataclass(frozen=True)
class Patient:
    """A store and whoever asks the doctor about it, as the installed program."""

    app: App
    url: str

    def run(self, *arguments: str) -> Ran:
        """`jobcard doctor` on this store; the URL stays out of the command line."""
        return self.app.jobcard("doctor", *arguments, env={"JOBCARD_URL": self.url})

    def told(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Its findings, as JSON has them; it must exit with this code."""
        ran = self.run("--json", *arguments)
        assert ran.code == code, (ran.code, ran.out, ran.err)
        answer = json.loads(ran.out)
        findings: list[dict[str, Any]] = answer["findings"]
        assert answer["ok"] is not any(finding["severity"] == "error" for finding in findings)
        return findings

    def named(self, point: str, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """What is told under a code; the exit code as `told`."""
        return [finding for finding in self.told(*arguments, code=code) if finding["code"] == point]

    def store(self) -> Backend:
        """A backend on the store, to be closed by who asks."""
        return open_backend(self.url)
