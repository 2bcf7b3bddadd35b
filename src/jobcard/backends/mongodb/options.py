"""What a MongoDB store can be told, in its URL or by keyword, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from jobcard.backends.checks import Check, flag, matching, seconds, text, whole
from jobcard.backends.url import StoreURL, mask, parse
from jobcard.core import clock
from jobcard.core.settings import check_names
from jobcard.errors import ConfigError

SCHEMES = ("mongodb", "mongodb+srv")
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations in seconds; None: never."""

    prefix: str = "jobcard"
    """What every collection begins with; one store for each prefix."""
    pool_size: int = 8
    """Connections at most, to each server."""
    pool_timeout: float = 30.0
    """How long to wait for another thread to give a connection back."""
    pool_recycle: float | None = None
    """Close a connection that was idle for this long."""
    connect_timeout: float = 5.0
    socket_timeout: float = 15.0
    """How long one call may take."""
    call_timeout: float | None = None
    """The same, as every store calls it: the shorter of both counts."""
    unsafe_url_options: bool = False
    """Let the URL switch the checks of TLS off. Only code may say so."""
    readonly: bool = False
    """To look only: whatever would change something is refused."""
    database: str = "jobcard"
    driver: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """What the driver is told as it is: replica set, login, TLS."""


def _only(allowed: str, why: str) -> Check:
    def check(what: str, value: object) -> str:
        if str(value).lower() != allowed:
            raise ConfigError(f"{what} must be {allowed}: {why}")
        return allowed

    return check


_OURS: Mapping[str, Check] = {
    "prefix": matching(
        r"(?!system$)[A-Za-z_][A-Za-z0-9_-]{0,39}", "1 to 40 letters, digits, _ and -, not a digit first"
    ),
    "pool_size": whole(1, 1_000),
    "pool_timeout": seconds(0.001, 3600),
    "pool_recycle": seconds(1, 10 * clock.DAY / clock.SECOND),
    "connect_timeout": seconds(0.001, 3600),
    "socket_timeout": seconds(0.001, 3600),
    "call_timeout": seconds(1, 3600),
    "unsafe_url_options": flag,
    "readonly": flag,
}

_FOR_DRIVER: Mapping[str, Check] = {
    "replicaSet": text,
    "directConnection": flag,
    "authSource": text,
    "authMechanism": text,
    "tls": flag,
    "tlsCAFile": text,
    "tlsCertificateKeyFile": text,
    "tlsCertificateKeyFilePassword": text,
    "compressors": text,
    "appName": text,
    "retryWrites": flag,
    "loadBalanced": flag,
    "srvServiceName": text,
    "srvMaxHosts": whole(0, 1_000),
}

# Many a URL says so, as its provider wrote it. Nothing else may be said here.
_AS_IT_IS: Mapping[str, Check] = {
    "w": _only("majority", "what was acknowledged must outlive a fail-over"),
    "journal": _only("true", "what was acknowledged must outlive the server's death"),
    "readPreference": _only("primary", "only the primary knows who holds a job"),
}

_UNSAFE: Mapping[str, Check] = {
    "tlsInsecure": flag,
    "tlsAllowInvalidCertificates": flag,
    "tlsAllowInvalidHostnames": flag,
    "authMechanismProperties": text,
}
_CHECKS = {**_OURS, **_FOR_DRIVER, **_AS_IT_IS, **_UNSAFE}
KNOWN = _CHECKS.keys()
"""Every name that the URL, or `config`, may say."""


def read_options(url: object, given: Mapping[str, Any]) -> tuple[StoreURL, Options]:
    """The URL in parts and the checked options; `given` wins over the URL. None: not given."""
    parsed = parse(url, several_hosts=True)
    shown = mask(url)
    if parsed.scheme not in SCHEMES:
        raise ConfigError(f"{shown!r} is not a MongoDB URL; for example mongodb://localhost:27017/jobcard")
    if parsed.host is None:
        raise ConfigError(f"the store URL {shown!r} names no host; for example mongodb://localhost:27017/jobcard")
    if parsed.scheme == "mongodb+srv" and (parsed.others or parsed.port):
        raise ConfigError(f"the store URL {shown!r} names one host without a port: the servers stand in its DNS record")
    if parsed.path and not _DATABASE.fullmatch(parsed.path):
        raise ConfigError(f"the database in the store URL {shown!r} must be 1 to 60 letters, digits, _ and -")
    from_code = {name: value for name, value in given.items() if value is not None}
    unsafe = flag("the MongoDB option unsafe_url_options", from_code.get("unsafe_url_options", False))
    _refuse_unsafe(parsed.options, shown, allowed=unsafe)
    check_names(dict(parsed.options), KNOWN, f"the store URL {shown!r}")
    check_names(from_code, KNOWN, "the MongoDB store")
    merged: dict[str, Any] = {
        name: _CHECKS[name](f"the MongoDB option {name}", value)
        for name, value in {**parsed.options, **from_code}.items()
    }
    ours = {name: value for name, value in merged.items() if name in {each.name for each in fields(Options)}}
    driver = {name: value for name, value in merged.items() if name in _FOR_DRIVER or name in _UNSAFE}
    if parsed.path:
        ours["database"] = parsed.path
    return parsed, _in_time(Options(**ours, driver=MappingProxyType(driver)))


def _refuse_unsafe(options: Mapping[str, str], shown: str, *, allowed: bool) -> None:
    if "unsafe_url_options" in options:
        raise ConfigError(f"unsafe_url_options in the store URL {shown!r}: only code may say so")
    for name in sorted(options.keys() & _UNSAFE.keys()):
        if not allowed:
            raise ConfigError(
                f"the option {name} in the store URL {shown!r} weakens who the server must prove to be; "
                "give unsafe_url_options=True in config if whoever writes the URL may do that"
            )


def _in_time(options: Options) -> Options:
    if options.call_timeout is None:
        return options
    return replace(options, socket_timeout=min(options.socket_timeout, options.call_timeout))
