"""What a Redis store can be told, in its URL or by keyword, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from jobcard.backends.url import StoreURL, mask, parse
from jobcard.core.settings import check_names
from jobcard.errors import ConfigError

SCHEMES = ("redis", "rediss", "valkey", "valkeys")
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations in seconds."""

    prefix: str = "jobcard"
    """What every key begins with, in braces; one store for each prefix."""
    pool_size: int = 8
    """Connections at most."""
    pool_timeout: float = 30.0
    """How long to wait for another thread to give a connection back."""
    connect_timeout: float = 5.0
    socket_timeout: float = 15.0
    """How long one call may take."""
    db: int = 0
    cluster: bool = False
    """The servers form a Redis Cluster; the store stays on one of them."""
    ssl_ca_certs: str | None = None
    ssl_check_hostname: bool = True


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"the Redis option {name} must be a whole number from {low:,} to {high:,}")
    return value


def _seconds(name: str, value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value):
        value = float(value)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3600:
        raise ConfigError(f"the Redis option {name} must be more than 0 and at most 3600 seconds")
    return float(value)


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("0", "1", "true", "false"):
        return value in ("1", "true")
    raise ConfigError(f"the Redis option {name} must be 0 or 1")


def _prefix(name: str, value: object) -> str:
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise ConfigError(f"the Redis option {name} must be 1 to 60 letters, digits and _.:-")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"the Redis option {name} must be text and not empty")
    return value


_CHECKS: Mapping[str, Any] = {
    "prefix": _prefix,
    "pool_size": lambda name, value: _whole(name, value, 1, 1_000),
    "pool_timeout": _seconds,
    "connect_timeout": _seconds,
    "socket_timeout": _seconds,
    "db": lambda name, value: _whole(name, value, 0, 9_999),
    "cluster": _flag,
    "ssl_ca_certs": _text,
    "ssl_check_hostname": _flag,
}


def read_options(url: object, given: Mapping[str, Any]) -> tuple[StoreURL, Options]:
    """The URL in parts and the checked options; `given` wins over the URL. None: not given."""
    parsed = parse(url)
    shown = mask(url)
    if parsed.scheme not in SCHEMES:
        raise ConfigError(f"{shown!r} is not a Redis URL; for example redis://localhost:6379/0")
    known = {field.name for field in fields(Options)}
    check_names(dict(parsed.options), known, f"the store URL {shown!r}")
    check_names(dict(given), known, "the Redis store")
    merged = {**parsed.options, **{name: value for name, value in given.items() if value is not None}}
    if parsed.path:
        if "db" in merged:
            raise ConfigError(f"the database stands twice in {shown!r}; give it once")
        merged["db"] = parsed.path
    return parsed, Options(**{name: _CHECKS[name](name, value) for name, value in merged.items()})
