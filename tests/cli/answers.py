"""What a command answered, checked and taken apart."""

from __future__ import annotations

import json
from typing import Any

from helpers.apps import App, Ran


def listed(app: App, *arguments: str) -> list[dict[str, Any]]:
    """What `jobcard jobs list --json` says."""
    found: list[dict[str, Any]] = json.loads(succeeded(app.jobcard("jobs", "list", "--json", *arguments)).out)
    return found


def succeeded(ran: Ran) -> Ran:
    """The same, if it exited with 0."""
    assert ran.code == 0, (ran.code, ran.err)
    return ran


def complaint(ran: Ran, code: int) -> str:
    """The one line that a command failed with; nothing else on standard output or error."""
    assert ran.code == code, (ran.code, ran.out, ran.err)
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("jobcard")
    assert "Traceback" not in ran.err
    return lines[0]
