"""What a MySQL or MariaDB store can be told, in its URL or in `config`, checked."""

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

SCHEMES = ("mysql", "mariadb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations in seconds; None: never."""

    host: str = "localhost"
    port: int = 3306
    user: str = "root"
    password: str = field(default="", repr=False)
    database: str
    unix_socket: str | None = None
    """The file of a server on this host, instead of host and port."""
    driver: str = "auto"
    """`mysqlclient` where it is installed, else `pymysql`; `auto` chooses."""
    prefix: str = "jobcard_"
    pool_size: int = 5
    pool_timeout: float = 30.0
    """How long to wait for another thread to give a connection back."""
    pool_recycle: float | None = None
    """Open a connection afresh after this long."""
    connect_timeout: float = 5.0
    call_timeout: float = 15.0
    """How long a statement may take."""
    ssl_mode: str = "preferred"
    """disabled, preferred, required, verify_ca or verify_identity, as the server's own programs know them."""
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    unsafe_url_options: bool = False
    """Let the URL name files that the driver then reads, or statements that it runs. Only code may say so."""
    lock_timeout: float | None = None
    """How long a statement waits for somebody else's lock."""
    unsafe: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)


_CHECKS: Mapping[str, Check] = {
    "host": text,
    "port": whole(1, 65_535),
    "user": text,
    "password": text,
    "database": text,
    "unix_socket": text,
    "driver": choice("auto", "pymysql", "mysqlclient"),
    "prefix": matching(r"[a-z_][a-z0-9_]{0,39}", "1 to 40 lower-case letters, digits and _, not a digit first"),
    "pool_size": whole(1, 64),
    "pool_timeout": seconds(0, 3600),
    "pool_recycle": seconds(1, 10 * clock.DAY / clock.SECOND),
    "connect_timeout": seconds(0.1, 60),
    "call_timeout": seconds(1, 3600),
    "ssl_mode": choice("disabled", "preferred", "required", "verify_ca", "verify_identity"),
    "ssl_ca": text,
    "ssl_cert": text,
    "ssl_key": text,
    "unsafe_url_options": flag,
}

# They make the driver read files, or run statements, that the URL names.
_UNSAFE = frozenset({"init_command", "read_default_file", "read_default_group"})
_NEVER = frozenset({"local_infile"})
_KNOWN = {each.name for each in fields(Options)} - {"lock_timeout", "unsafe"}


def read_options(url: object, given: Mapping[str, Any], *, patience: float | None = None) -> Options:
    """The checked options of a URL; `given` wins over it. None: not given."""
    parts = parse(url)
    shown = mask(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{shown!r} is not a MySQL URL; for example mysql://user@host/database")
    from_code = {name: value for name, value in given.items() if value is not None}
    unsafe = flag("the MySQL option unsafe_url_options", from_code.get("unsafe_url_options", False))
    for options in (parts.options, from_code):
        _refuse_dangerous(options, shown, allowed=bool(unsafe) or options is from_code)
    if "unsafe_url_options" in parts.options:
        raise ConfigError(f"unsafe_url_options in the store URL {shown!r}: only code may say so")
    check_names(dict(parts.options), _KNOWN | _UNSAFE if unsafe else _KNOWN, f"the store URL {shown!r}")
    check_names(from_code, _KNOWN | _UNSAFE, "the MySQL store")
    merged = {**_places(parts, shown), **parts.options, **from_code}
    if "database" not in merged:
        raise ConfigError(f"the store URL {shown!r} names no database; for example mysql://user@host/database")
    dangerous = {name: text(f"the MySQL option {name}", merged.pop(name)) for name in sorted(merged.keys() & _UNSAFE)}
    checked: dict[str, Any] = {name: _CHECKS[name](f"the MySQL option {name}", value) for name, value in merged.items()}
    return _complete(Options(**checked, lock_timeout=patience, unsafe=MappingProxyType(dangerous)), checked)


def _complete(options: Options, given: Mapping[str, object]) -> Options:
    if (options.ssl_ca or options.ssl_cert) and "ssl_mode" not in given:
        raise ConfigError("ssl_ca or ssl_cert without ssl_mode: say required, verify_ca or verify_identity")
    if options.ssl_mode == "verify_ca" and not options.ssl_ca:
        raise ConfigError("ssl_mode=verify_ca needs ssl_ca, the file of the authority to trust")
    if options.ssl_key and not options.ssl_cert:
        raise ConfigError("ssl_key needs ssl_cert, the certificate it belongs to")
    return options


def _refuse_dangerous(options: Mapping[str, object], shown: str, *, allowed: bool) -> None:
    for name in sorted(options.keys() & _NEVER):
        raise ConfigError(f"the option {name} for {shown!r}: a server could then read any file of this host")
    for name in sorted(options.keys() & _UNSAFE):
        if not allowed:
            raise ConfigError(
                f"the option {name} in the store URL {shown!r} makes this host read a file, or run what the URL says; "
                "give unsafe_url_options=True in config if whoever writes the URL may do that"
            )


def _places(parts: StoreURL, shown: str) -> dict[str, object]:
    named: dict[str, object] = {
        "host": parts.host,
        "port": parts.port,
        "user": parts.user,
        "password": parts.password,
        "database": parts.path or None,
    }
    places = {name: value for name, value in named.items() if value is not None and value != ""}
    for name in sorted(places.keys() & parts.options.keys()):
        raise ConfigError(f"the store URL {shown!r} says {name} twice, in its front and among its options")
    return places
