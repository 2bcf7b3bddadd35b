"""What a Redis store can be told, in its URL or by keyword, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from jobcard.backends.checks import Check, flag, matching, seconds, text, whole
from jobcard.backends.url import StoreURL, mask, parse
from jobcard.core.settings import check_names
from jobcard.errors import ConfigError

SCHEMES = ("redis", "rediss", "valkey", "valkeys")


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
    call_timeout: float | None = None
    """The same, as every store calls it: the shorter of both counts."""
    db: int = 0
    cluster: bool = False
    """The servers form a Redis Cluster; the store stays on one of them."""
    wait_replicas: int = 0
    """How many replicas must have a write before it is confirmed."""
    ssl_ca_certs: str | None = None
    ssl_check_hostname: bool = True
    readonly: bool = False
    """To look only: whatever would change something is refused."""


_CHECKS: Mapping[str, Check] = {
    "prefix": matching(r"[A-Za-z0-9_.:-]{1,60}", "1 to 60 letters, digits and _.:-"),
    "pool_size": whole(1, 1_000),
    "pool_timeout": seconds(0, 3600),
    "connect_timeout": seconds(0.001, 3600),
    "socket_timeout": seconds(0.001, 3600),
    "call_timeout": seconds(1, 3600),
    "db": whole(0, 9_999),
    "cluster": flag,
    "wait_replicas": whole(0, 9),
    "ssl_ca_certs": text,
    "ssl_check_hostname": flag,
    "readonly": flag,
}
KNOWN = frozenset(field.name for field in fields(Options))
"""Every name that the URL, or `config`, may say."""


def read_options(url: object, given: Mapping[str, Any]) -> tuple[StoreURL, Options]:
    """The URL in parts and the checked options; `given` wins over the URL. None: not given."""
    parsed = parse(url, several_hosts=True)
    shown = mask(url)
    if parsed.scheme not in SCHEMES:
        raise ConfigError(f"{shown!r} is not a Redis URL; for example redis://localhost:6379/0")
    check_names(dict(parsed.options), KNOWN, f"the store URL {shown!r}")
    check_names(dict(given), KNOWN, "the Redis store")
    merged = {**parsed.options, **{name: value for name, value in given.items() if value is not None}}
    if parsed.path:
        if "db" in merged:
            raise ConfigError(f"the database stands twice in {shown!r}; give it once")
        merged["db"] = parsed.path
    checked: dict[str, Any] = {name: _CHECKS[name](f"the Redis option {name}", value) for name, value in merged.items()}
    options = _in_time(Options(**checked))
    if parsed.others and not options.cluster:
        raise ConfigError(f"{shown!r} names several servers: those of a cluster, with cluster=1, or give one")
    if options.cluster and options.db:
        raise ConfigError(f"a cluster has no database {options.db}: leave it out of {shown!r}")
    return parsed, options


def _in_time(options: Options) -> Options:
    if options.call_timeout is None:
        return options
    return replace(options, socket_timeout=min(options.socket_timeout, options.call_timeout))
