"""What a PostgreSQL store can be told, in its URL or in `config`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from jobcard.backends.checks import Check, choice, flag, matching, seconds, text, whole
from jobcard.backends.url import StoreURL, mask, parse
from jobcard.core import clock
from jobcard.core.settings import check_names
from jobcard.errors import ConfigError

SCHEMES = ("postgresql", "postgres")

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations in seconds; None: the server's own default, or never."""

    schema: str | None = None
    """Where the tables are; None: the first place of the user's `search_path`. Made when it is not there."""
    prefix: str = "jobcard_"
    listen: bool = True
    """Wake engines by NOTIFY; without it they look once in `poll_interval`."""
    pooler: str = "none"
    """`transaction`: a pooler lends a connection for one transaction at a time, so nothing may stay with it."""
    pool_size: int = 5
    pool_timeout: float = 30.0
    """How long to wait for another thread to give a connection back."""
    pool_recycle: float | None = None
    """Open a connection afresh after this long."""
    unsafe_url_options: bool = False
    """Let the URL name files and services of this host that libpq then reads. Only code may say so."""
    lock_timeout: float | None = None
    """How long a statement waits for somebody else's lock."""
    connection: Mapping[str, str | int] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """What libpq is told: host, user, password, sslmode and so on."""

    @property
    def pooled(self) -> bool:
        return self.pooler == "transaction"


_lower_name = matching(r"[a-z_][a-z0-9_]{0,39}", "1 to 40 lower-case letters, digits and _, not a digit first")

_CHECKS: Mapping[str, Check] = {
    "schema": _lower_name,
    "prefix": _lower_name,
    "listen": flag,
    "pooler": choice("none", "transaction"),
    "pool_size": whole(1, 64),
    "pool_timeout": seconds(0, 3600),
    "pool_recycle": seconds(1, 10 * clock.DAY / clock.SECOND),
    "unsafe_url_options": flag,
}

# Passed to libpq as they are. It checks the values that have no list here when it connects.
_FOR_LIBPQ: Mapping[str, Check] = {
    "host": text,
    "hostaddr": text,
    "port": whole(1, 65_535),
    "user": text,
    "password": text,
    "dbname": text,
    "sslmode": choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslrootcert": text,
    "sslcert": text,
    "sslkey": text,
    "sslcrl": text,
    "sslpassword": text,
    "sslsni": choice("0", "1"),
    "sslnegotiation": choice("postgres", "direct"),
    "ssl_min_protocol_version": text,
    "ssl_max_protocol_version": text,
    "channel_binding": choice("disable", "prefer", "require"),
    "require_auth": text,
    "gssencmode": choice("disable", "prefer", "require"),
    "target_session_attrs": choice("any", "read-write", "primary", "prefer-standby"),
    "load_balance_hosts": choice("disable", "random"),
    "connect_timeout": whole(1, 60),
    "application_name": text,
    "keepalives": choice("0", "1"),
    "keepalives_idle": whole(1, 7200),
    "keepalives_interval": whole(1, 7200),
    "keepalives_count": whole(1, 100),
    "tcp_user_timeout": whole(0, 3_600_000),
}

# They make libpq read or write files that the URL names, or tell the server anything at all.
_UNSAFE = frozenset({"passfile", "service", "servicefile", "sslkeylogfile", "options", "krbsrvname", "gsslib"})

# So that a server which vanished without a word is noticed.
_KEEP_ALIVE: Mapping[str, str | int] = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "jobcard",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

_OF_OURS = {each.name for each in fields(Options)} - {"connection", "lock_timeout"}
KNOWN = _OF_OURS | _FOR_LIBPQ.keys()
"""Every option of a URL."""


def read_options(url: object, given: Mapping[str, Any], *, patience: float | None = None) -> Options:
    """The checked options of a URL; `given` wins over it. None: not given."""
    parts = parse(url)
    shown = mask(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{shown!r} is not a PostgreSQL URL; for example postgresql://user@host/database")
    from_code = {name: value for name, value in given.items() if value is not None}
    unsafe = flag("the PostgreSQL option unsafe_url_options", from_code.get("unsafe_url_options", False))
    _refuse_unsafe(parts.options, shown, allowed=unsafe)
    known = KNOWN | _UNSAFE if unsafe else KNOWN
    check_names(dict(parts.options), known, f"the store URL {shown!r}")
    check_names(from_code, KNOWN | _UNSAFE, "the PostgreSQL store")
    merged = {**_places(parts, shown), **parts.options, **from_code}
    ours = {name: _checked(_CHECKS, name, value) for name, value in merged.items() if name in _OF_OURS}
    libpq = {name: _checked(_FOR_LIBPQ, name, value) for name, value in merged.items() if name not in _OF_OURS}
    return Options(**ours, lock_timeout=patience, connection=MappingProxyType({**_KEEP_ALIVE, **libpq}))


def _checked(checks: Mapping[str, Check], name: str, value: object) -> Any:
    return checks.get(name, text)(f"the PostgreSQL option {name}", value)


def _refuse_unsafe(options: Mapping[str, str], shown: str, *, allowed: bool) -> None:
    if "unsafe_url_options" in options:
        raise ConfigError(f"unsafe_url_options in the store URL {shown!r}: only code may say so")
    for name in sorted(options.keys() & _UNSAFE):
        if not allowed:
            raise ConfigError(
                f"the option {name} in the store URL {shown!r} makes this host read or write files, or run what the "
                "URL says; give unsafe_url_options=True in config if whoever writes the URL may do that"
            )


def _places(parts: StoreURL, shown: str) -> dict[str, object]:
    named: dict[str, object] = {
        "host": parts.host,
        "port": parts.port,
        "user": parts.user,
        "password": parts.password,
        "dbname": parts.path or None,
    }
    places = {name: value for name, value in named.items() if value is not None and value != ""}
    for name in sorted(places.keys() & parts.options.keys()):
        raise ConfigError(f"the store URL {shown!r} says {name} twice, in its front and among its options")
    return places
