"""What a MySQL or MariaDB store can be told, in its URL or in `config`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from jobcard.backends.checks import Check, choice, flag, text
from jobcard.backends.sql import options as usual
from jobcard.backends.url import mask, parse
from jobcard.errors import ConfigError

SCHEMES = ("mysql", "mariadb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(usual.Options):
    """The usual ones of a SQL database, and those of these servers."""

    port: int = 3306
    user: str = "root"
    password: str = field(default="", repr=False)
    unix_socket: str | None = None
    """The file of a server on this host, instead of host and port."""
    driver: str = "auto"
    """`mysqlclient` where it is installed, else `pymysql`; `auto` chooses."""
    ssl_mode: str = "preferred"
    """disabled, preferred, required, verify_ca or verify_identity, as the server's own programs know them."""
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    unsafe_url_options: bool = False
    """Let the URL name files that the driver then reads, or statements that it runs. Only code may say so."""
    unsafe: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)


_CHECKS: Mapping[str, Check] = {
    **usual.CHECKS,
    "unix_socket": text,
    "driver": choice("auto", "pymysql", "mysqlclient"),
    "ssl_mode": choice("disabled", "preferred", "required", "verify_ca", "verify_identity"),
    "ssl_ca": text,
    "ssl_cert": text,
    "ssl_key": text,
    "unsafe_url_options": flag,
}

# They make the driver read files, or run statements, that the URL names.
_UNSAFE: Mapping[str, Check] = {"init_command": text, "read_default_file": text, "read_default_group": text}
_NEVER = frozenset({"local_infile"})
KNOWN = _CHECKS.keys() | _UNSAFE.keys() | _NEVER
"""Every name that the URL, or `config`, may say, and what it must not."""


def read_options(url: object, given: Mapping[str, Any], *, patience: float | None = None) -> Options:
    """The checked options of a URL; `given` wins over it. None: not given."""
    parts = parse(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{mask(url)!r} is not a MySQL URL; for example mysql://user@host/database")
    for name in sorted((parts.options.keys() | given.keys()) & _NEVER):
        raise ConfigError(f"the option {name} for {mask(url)!r}: a server could then read any file of this host")
    merged = usual.gather(
        url, given, name="MySQL", known=_CHECKS.keys(), unsafe=_UNSAFE, harm="read a file, or run what the URL says"
    )
    usual.need_database(merged, url)
    unsafe = {name: merged.pop(name) for name in sorted(merged.keys() & _UNSAFE)}
    options = Options(
        **usual.checked(_CHECKS, "MySQL", merged),
        lock_timeout=patience,
        unsafe=MappingProxyType(usual.checked(_UNSAFE, "MySQL", unsafe)),
    )
    return _complete(options, merged)


def _complete(options: Options, given: Mapping[str, object]) -> Options:
    if (options.ssl_ca or options.ssl_cert) and "ssl_mode" not in given:
        raise ConfigError("ssl_ca or ssl_cert without ssl_mode: say required, verify_ca or verify_identity")
    if options.ssl_mode == "verify_ca" and not options.ssl_ca:
        raise ConfigError("ssl_mode=verify_ca needs ssl_ca, the file of the authority to trust")
    if options.ssl_key and not options.ssl_cert:
        raise ConfigError("ssl_key needs ssl_cert, the certificate it belongs to")
    return options
