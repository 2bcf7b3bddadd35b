"""What a store in a SQL database can be told, in its URL or in `config`, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobcard.backends.checks import Check, flag, matching, seconds, text, whole
from jobcard.backends.url import StoreURL, mask, parse
from jobcard.core import clock
from jobcard.core.settings import check_names
from jobcard.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations in seconds; None: never, or the driver's own default."""

    host: str = "localhost"
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str
    prefix: str = "jobcard_"
    pool_size: int = 5
    pool_timeout: float = 30.0
    """How long to wait for another thread to give a connection back."""
    pool_recycle: float | None = None
    """Open a connection afresh after this long."""
    connect_timeout: float = 5.0
    call_timeout: float = 15.0
    """How long a statement may take."""
    lock_timeout: float | None = None
    """How long a statement waits for somebody else's lock."""
    readonly: bool = False
    """To look only: whatever would change something is refused."""


lower_name = matching(r"[a-z_][a-z0-9_]{0,39}", "1 to 40 lower-case letters, digits and _, not a digit first")

POOL_CHECKS: Mapping[str, Check] = {
    "pool_size": whole(1, 64),
    "pool_timeout": seconds(0, 3600),
    "pool_recycle": seconds(1, 10 * clock.DAY / clock.SECOND),
}

CHECKS: Mapping[str, Check] = {
    "host": text,
    "port": whole(1, 65_535),
    "user": text,
    "password": text,
    "database": text,
    "prefix": lower_name,
    **POOL_CHECKS,
    "connect_timeout": seconds(0.1, 60),
    "call_timeout": seconds(1, 3600),
    "readonly": flag,
}


def read_options(url: object, given: Mapping[str, Any], *, name: str, patience: float | None = None) -> Options:
    """The checked options of a URL; `given` wins over it. name: the database, in messages."""
    merged = gather(url, given, name=name, known=CHECKS.keys())
    need_database(merged, url)
    return Options(**checked(CHECKS, name, merged), lock_timeout=patience)


def gather(
    url: object,
    given: Mapping[str, Any],
    *,
    name: str,
    known: Collection[str],
    unsafe: Collection[str] = (),
    harm: str = "",
    database: str = "database",
) -> dict[str, object]:
    """The options of a URL and those given in code, which win; a name that is not known is an error. None: not given.

    unsafe: further ones, which do `harm` to this host; a URL may have them only if code says `unsafe_url_options`.
    database: what the option is called that stands behind the slash.
    """
    parts = parse(url)
    shown = mask(url)
    known, unsafe = set(known), set(unsafe)
    from_code = {option: value for option, value in given.items() if value is not None}
    allowed = flag(f"the {name} option unsafe_url_options", from_code.get("unsafe_url_options", False))
    if unsafe and "unsafe_url_options" in parts.options:
        raise ConfigError(f"unsafe_url_options in the store URL {shown!r}: only code may say so")
    for option in sorted(parts.options.keys() & unsafe):
        if not allowed:
            raise ConfigError(
                f"the option {option} in the store URL {shown!r} makes this host {harm}; "
                "give unsafe_url_options=True in config if whoever writes the URL may do that"
            )
    check_names(dict(parts.options), known | unsafe if allowed else known, f"the store URL {shown!r}")
    check_names(from_code, known | unsafe, f"the {name} store")
    return {**_places(parts, shown, database), **parts.options, **from_code}


def need_database(options: Mapping[str, object], url: object) -> None:
    """`ConfigError` when neither URL nor code names a database."""
    if "database" not in options:
        scheme = parse(url).scheme
        raise ConfigError(f"the store URL {mask(url)!r} names no database; for example {scheme}://user@host/database")


def checked(checks: Mapping[str, Check], name: str, options: Mapping[str, object]) -> dict[str, Any]:
    """Options as their checks give them back."""
    return {option: checks[option](f"the {name} option {option}", value) for option, value in options.items()}


def _places(parts: StoreURL, shown: str, database: str) -> dict[str, object]:
    named: dict[str, object] = {
        "host": parts.host,
        "port": parts.port,
        "user": parts.user,
        "password": parts.password,
        database: parts.path or None,
    }
    found = {name: value for name, value in named.items() if value is not None and value != ""}
    for name in sorted(found.keys() & parts.options.keys()):
        raise ConfigError(f"the store URL {shown!r} says {name} twice, in its front and among its options")
    return found
