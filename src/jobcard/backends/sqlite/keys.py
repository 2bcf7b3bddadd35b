"""Keys of encrypted files: where they come from. No message and no `repr` ever shows one."""

from __future__ import annotations

import os

from jobcard.errors import ConfigError

_LONGEST = 1_000


def check(what: str, value: object) -> str:
    """A key, or what a function gives as one; it is asked at once."""
    if callable(value):
        try:
            value = value()
        except Exception as error:
            raise ConfigError(f"{what}: the function that gives it failed ({type(error).__name__})") from error
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be text or a function that gives it, not {type(value).__name__}")
    if not 1 <= len(value) <= _LONGEST or "\x00" in value:
        raise ConfigError(f"{what} must have 1 to {_LONGEST:,} characters, and no NUL among them")
    return value


def from_environment(what: str, name: str) -> str:
    """The key in an environment variable; `ConfigError` where there is none."""
    if name not in os.environ:
        raise ConfigError(f"{what}: the environment variable {name!r} is not set")
    return check(f"the key in the environment variable {name!r}", os.environ[name])
