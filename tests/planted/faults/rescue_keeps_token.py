"""3. A change that takes a job from its holder leaves the token as it was."""

from collections.abc import Callable
from typing import Any

from planted import method


def _quietly(true: Callable[..., str]) -> Callable[..., str]:
    def text(template: str, names: Any, sources: Any, takes: bool, lapsed: bool, hold: Any, ends: bool) -> str:
        return true(template, names, sources, False, lapsed, hold, ends)

    return text


BREAKS = method("jobcard.backends.sqlite.changes:_text", _quietly)
