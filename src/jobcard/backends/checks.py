"""Checks of store options, for every store that takes them from a URL as text or from code as values."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from jobcard.errors import ConfigError

Check = Callable[[str, object], object]
"""Takes what messages call the option, and its value; gives the checked value or raises `ConfigError`."""

_DURATION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_WHOLE = re.compile(r"-?[0-9]{1,10}")


def choice(*allowed: str) -> Check:
    """One of these words, whatever its case."""

    def check(what: str, value: object) -> str:
        text = value.lower() if isinstance(value, str) else None
        if text not in allowed:
            raise ConfigError(f"{what} must be one of {', '.join(allowed)}")
        return text

    return check


def whole(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def check(what: str, value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{what} must be a whole number from {low:,} to {high:,}")
        return value

    return check


def seconds(low: float, high: float) -> Check:
    """A duration as seconds."""

    def check(what: str, value: object) -> float:
        if isinstance(value, str) and _DURATION.fullmatch(value):
            value = float(value)
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ConfigError(f"{what} must be {low:g} to {high:g} seconds")
        return float(value)

    return check


def flag(what: str, value: object) -> bool:
    """On or off."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("0", "1", "true", "false", "on", "off"):
        return value.lower() in ("1", "true", "on")
    raise ConfigError(f"{what} must be 0 or 1, or on or off")


def matching(pattern: str, description: str) -> Check:
    """A text of this form."""
    form = re.compile(pattern)

    def check(what: str, value: object) -> str:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise ConfigError(f"{what} must be {description}")
        return value

    return check


def text(what: str, value: object) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str) or not value or "\x00" in value:
        raise ConfigError(f"{what} must be text and not empty")
    return value
