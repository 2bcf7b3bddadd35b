"""Store URLs: taking them apart strictly, and showing them without their secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote

from jobcard.errors import ConfigError

_HIDDEN = "***"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_OPTION = re.compile(r"(?:^|[?&;])([^=&;?]*)=")
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}(?=&|$)")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")


def mask(url: object) -> str:
    """A store URL as it may be shown: no password, no secret option; also when it is malformed.

    Rather too much is hidden than too little: a password with an unescaped `/`, `?` or `@` is hidden whole.
    """
    if not isinstance(url, str):
        return f"<{type(url).__name__}>"
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    shown = _without_secret_options(rest)
    user, at, tail = shown.rpartition("@")
    if ":" in user:
        shown = f"{user.partition(':')[0]}:{_HIDDEN}@{tail}"
    elif not at and "@" in rest and ":" in shown:
        # The secret option held the @, and nobody knows whether it was that of a login.
        shown = f"{shown.partition(':')[0]}:{_HIDDEN}"
    return f"{scheme}{separator}{shown}"


def _without_secret_options(text: str) -> str:
    shown, done = "", 0
    for option in _OPTION.finditer(text):
        # Its name may be escaped too: `p%61ssword` is one.
        if option.start() >= done and _is_secret(unquote(option[1]), text[option.end() :]):
            shown += f"{text[done : option.end()]}{_HIDDEN}"
            done = (text + "&").index("&", option.end())
    return shown + text[done:]


def _is_secret(name: str, rest: str) -> bool:
    """Whether what an option says must not be shown; where a secret is found is none, if it looks like it."""
    return bool(_SECRET.search(name)) and not (name.endswith("_env") and _VARIABLE.match(rest))


def has_password(url: str) -> bool:
    """Whether there is something in a store URL that `mask` hides."""
    return mask(url) != url


def is_this_machine(host: str | None) -> bool:
    """Whether what is sent to a host stays on this machine: a loopback address, a socket's path, or no host at all."""
    if not host or host.startswith(("/", "@")) or host.lower().rstrip(".") in ("localhost", "localhost.localdomain"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreURL:
    """A store URL in parts, percent escapes decoded. path: what follows the slash behind the host."""

    scheme: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    others: Sequence[tuple[str, int | None]] = ()
    """Further servers of one store, behind commas in the URL."""


def parse(url: object, *, several_hosts: bool = False) -> StoreURL:
    """Take a store URL apart; `ConfigError` names the part that is wrong and hides the password.

    Escapes: `%20` is a space, `%40` an @, in UTF-8. A raw space, `#` or a lone `%` is refused.
    several_hosts: the store may have several servers, `host:port,host:port`.
    """
    if not isinstance(url, str):
        raise ConfigError(f"the store URL must be text, not {type(url).__name__}")
    if not url:
        raise ConfigError("the store URL is empty; for example sqlite:///jobs.db")
    shown = mask(url)
    if _UNPRINTABLE.search(url):
        raise ConfigError(f"the store URL {shown!r} holds a space or control character: write a space as %20")
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ConfigError(f"the store URL {shown!r} must begin with a scheme, for example sqlite:///jobs.db")
    if "#" in rest:
        raise ConfigError(f"the store URL {shown!r} holds a '#': write it as %23")
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    further: list[str] = []
    if several_hosts:
        login, at, places = authority.rpartition("@")
        first, *further = places.split(",")
        authority = login + at + first
    user, password, host, port = _authority(authority, shown)
    return StoreURL(
        scheme=scheme.lower(),
        user=user,
        password=password,
        host=host,
        port=port,
        path=_decode(path, "path", shown),
        options=_options(query, shown),
        others=tuple(_server(text, shown) for text in further),
    )


def _server(text: str, shown: str) -> tuple[str, int | None]:
    _, _, host, port = _authority(text, shown)
    if host is None:
        raise ConfigError(f"one of the hosts in the store URL {shown!r} is empty")
    return host, port


def _authority(text: str, shown: str) -> tuple[str | None, str | None, str | None, int | None]:
    login, at, place = text.rpartition("@")
    user, colon, password = login.partition(":")
    if at and ("@" in login or ":" in password):
        raise ConfigError(f"the login in the store URL {shown!r} holds a raw '@' or ':': write them as %40 and %3A")
    host, port = place, ""
    if place.startswith("["):
        host, bracket, after = place[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise ConfigError(f"the host in the store URL {shown!r} has an unclosed '['")
        port = after[1:]
        if after == ":":
            raise ConfigError(f"the port in the store URL {shown!r} is empty")
    elif ":" in place:
        host, _, port = place.partition(":")
        if not port:
            raise ConfigError(f"the port in the store URL {shown!r} is empty")
    if "[" in host or "]" in host:
        raise ConfigError(f"the host in the store URL {shown!r} holds a stray bracket")
    return (
        _decode(user, "user", shown) if at else None,
        _decode(password, "password", shown) if colon else None,
        _decode(host, "host", shown) or None,
        _port(port, shown),
    )


def _port(text: str, shown: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not 1 <= int(text) <= 65_535:
        raise ConfigError(f"the port in the store URL {shown!r} must be 1 to 65535")
    return int(text)


def _options(query: str, shown: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        raw_name, equals, raw_value = part.partition("=")
        name = _decode(raw_name, "options", shown)
        if not equals or not name:
            raise ConfigError(f"the options of the store URL {shown!r} must be name=value, joined by &")
        if name in options:
            raise ConfigError(f"the option {name!r} stands twice in the store URL {shown!r}")
        options[name] = _decode(raw_value, f"option {name!r}", shown)
    return options


def _decode(text: str, part: str, shown: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ConfigError(f"the {part} in the store URL {shown!r} has a bad escape: write a percent sign as %25")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError(f"the {part} in the store URL {shown!r} has an escape that is not UTF-8") from None
    if "\x00" in decoded:
        raise ConfigError(f"the {part} in the store URL {shown!r} holds a NUL")
    return decoded
