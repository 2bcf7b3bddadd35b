"""What a PostgreSQL store can be told, in its URL or in `config`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from jobcard.backends.checks import Check, choice, flag, text, whole
from jobcard.backends.sql import options as usual
from jobcard.backends.url import mask, parse
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
    readonly: bool = False
    """To look only: whatever would change something is refused."""
    call_timeout: float = STATEMENT_SECONDS
    """How long a statement may take."""
    lock_timeout: float | None = None
    """How long a statement waits for somebody else's lock."""
    connection: Mapping[str, str | int] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """What libpq is told: host, user, password, sslmode and so on."""

    @property
    def pooled(self) -> bool:
        return self.pooler == "transaction"


_CHECKS: Mapping[str, Check] = {
    "schema": usual.lower_name,
    "prefix": usual.lower_name,
    "listen": flag,
    "pooler": choice("none", "transaction"),
    "unsafe_url_options": flag,
    "readonly": flag,
    **usual.POOL_CHECKS,
    "call_timeout": usual.CHECKS["call_timeout"],
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
    if parse(url).scheme not in SCHEMES:
        raise ConfigError(f"{mask(url)!r} is not a PostgreSQL URL; for example postgresql://user@host/database")
    merged = usual.gather(
        url,
        given,
        name="PostgreSQL",
        known=KNOWN,
        unsafe=_UNSAFE,
        harm="read or write files, or run what the URL says",
        database="dbname",
    )
    values = usual.checked({**dict.fromkeys(_UNSAFE, text), **_FOR_LIBPQ, **_CHECKS}, "PostgreSQL", merged)
    libpq = {name: values.pop(name) for name in merged if name not in _OF_OURS}
    return Options(**values, lock_timeout=patience, connection=MappingProxyType({**_KEEP_ALIVE, **libpq}))
