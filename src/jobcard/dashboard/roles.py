"""Who visits, and what each role may."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobcard.errors import ConfigError

MAX_NAME = 100


class Role(StrEnum):
    """What a visitor may do; each may what those before it may."""

    VIEWER = "viewer"
    """Looks, at everything but arguments and results."""
    OPERATOR = "operator"
    """Sees those too, moves jobs, queues and schedules, and stores jobs again with other arguments."""
    ADMIN = "admin"
    """Also stops engines, and deletes."""

    def may(self, least: Role) -> bool:
        """Whether this role is that one, or stands above it."""
        return _ORDER.index(self) >= _ORDER.index(least)


_ORDER = tuple(Role)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, by a name for the audit."""

    name: str
    role: Role


def visitor(name: object, role: object) -> Visitor:
    """A checked visitor; `ConfigError` when it cannot be one."""
    if not (isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable()):
        raise ConfigError(f"a visitor's name must be text of 1 to {MAX_NAME} printable characters")
    if role not in _ORDER:
        raise ConfigError(f"a visitor's role must be one of {', '.join(Role)}")
    return Visitor(name, Role(str(role)))
