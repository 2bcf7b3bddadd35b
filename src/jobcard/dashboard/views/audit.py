"""The audit: what operators did, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobcard.client.audit import KEPT
from jobcard.dashboard.asking import Ask
from jobcard.dashboard.fields import Text

BEFORE = Text("before", most=60)
ON = Text("on", most=300)
_PAGE = 100


def entries(ask: Ask) -> Mapping[str, Any]:
    """A page of it."""
    found = ask.reading.parts.audit.list(limit=_PAGE + 1, before=ask["before"], on=ask["on"])
    return {
        "entries": found[:_PAGE],
        "older": found[_PAGE - 1].id if len(found) > _PAGE else None,
        "before": ask["before"],
        "on": ask["on"],
        "kept": KEPT,
    }
