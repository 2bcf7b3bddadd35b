"""Every address of the table of routes, so that a new one is walked by itself."""

from __future__ import annotations

from collections.abc import Mapping

from jobcard.dashboard.routes import ROUTES
from jobcard.dashboard.routing import Route

NO_JOB = "018f0000-0000-7000-8000-000000000000"


def addresses(words: Mapping[str, str] | None = None) -> list[tuple[Route, str]]:
    """Each with something in the place of its words. words: by the first word of the path, what `{id}` or `{name}` is.

    `{"jobs": "018f…"}`; for what is not said there, something that is not there.
    """
    return [(route, _with_words(path, words or {})) for route in ROUTES for path, _ in route.paths]


def _with_words(path: str, words: Mapping[str, str]) -> str:
    kind = next((part for part in path.split("/") if part not in ("", "api", "v1", "parts")), "")
    said = words.get(kind, NO_JOB)
    return path.replace("{name:path}", "jobcard.css").replace("{id}", said).replace("{name}", said)
