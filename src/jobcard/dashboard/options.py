"""What a dashboard can be told, checked."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobcard.client.dashboards import DashboardOptions
from jobcard.core.settings import check_names
from jobcard.dashboard.roles import Role
from jobcard.dashboard.users import Users
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from starlette.requests import Request

Identity = Role | str | tuple[str, str] | None
"""Who asks, as `auth=` tells it: a role, (name, role), or None for nobody."""
Auth = Callable[["Request"], Identity | Awaitable[Identity]]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
HIDDEN = ("password", "passwd", "secret", "token", "api_key", "apikey", "authorization", "credentials")
_SHORTEST_SECRET = 32
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
_HOST = re.compile(r"(\*\.)?[a-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-f:.]+\](:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`DashboardOptions`, checked. One of users, auth and open says who may come in."""

    users: Users | None = None
    auth: Auth | None = None
    open: bool = False
    read_url: str | None = field(default=None, repr=False)
    base_path: str = ""
    allowed_hosts: tuple[str, ...] = ()
    secret: bytes | None = field(default=None, repr=False)
    hide: frozenset[str] = frozenset(HIDDEN)
    show_arguments_to: Role = Role.OPERATOR


def check_options(given: dict[str, Any]) -> Options:
    """Options from keyword arguments; `ConfigError` for what cannot be, and when nothing says who may come in."""
    check_names(given, set(DashboardOptions.__annotations__), "a dashboard")
    users, auth, is_open = given.get("users"), given.get("auth"), given.get("open", False)
    if not isinstance(is_open, bool):
        raise ConfigError("open must be True or False")
    if auth is not None and not callable(auth):
        raise ConfigError("auth must be a function of the request")
    if (users is not None) + (auth is not None) + is_open > 1:
        raise ConfigError("users, auth and open: give one of them")
    if users is None and auth is None and not is_open:
        raise ConfigError(
            "who may see the dashboard? Give users= (a file that `jobcard dashboard user add` makes) or auth= (a "
            "function of the request); open=True lets everybody on this machine in, and nobody else"
        )
    hosts = _hosts(given.get("allowed_hosts", ()))
    return Options(
        users=None if users is None else Users(users),
        auth=auth,
        open=is_open,
        read_url=_text(given.get("read_url"), "read_url"),
        base_path=_base_path(given.get("base_path", "")),
        # By another name than these an open dashboard is reached by a page that plays tricks with DNS.
        allowed_hosts=hosts or (LOCAL_HOSTS if is_open else ()),
        secret=_secret(given.get("secret")),
        hide=frozenset(name.lower() for name in _texts(given.get("hide", HIDDEN), "hide")),
        show_arguments_to=_role(given.get("show_arguments_to", Role.OPERATOR)),
    )


def _text(value: object, what: str) -> str | None:
    if not isinstance(value, (str, type(None))):
        raise ConfigError(f"{what} must be text, not {type(value).__name__}")
    return value


def _texts(value: object, what: str) -> tuple[str, ...]:
    items = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else None
    if items is None or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{what} must be a list of texts")
    return items


def _hosts(value: object) -> tuple[str, ...]:
    hosts = tuple(host.lower() for host in _texts(value, "allowed_hosts"))
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ConfigError(f"allowed_hosts: {host[:80]!r} is no host; write jobs.example.org, or *.example.org")
    return hosts


def _base_path(value: object) -> str:
    if not isinstance(value, str) or not _BASE_PATH.fullmatch(value) or ".." in value:
        raise ConfigError("base_path must be a path such as /ops/jobs")
    return value.rstrip("/")


def _secret(value: object) -> bytes | None:
    text = _text(value, "secret")
    if text is None:
        return None
    if len(text) < _SHORTEST_SECRET or len(set(text)) < 8:
        raise ConfigError(
            f'secret must be {_SHORTEST_SECRET} random characters or more: python -c "import secrets; '
            'print(secrets.token_hex(32))"'
        )
    return text.encode("utf-8")


def _role(value: object) -> Role:
    if value not in tuple(Role):
        raise ConfigError(f"show_arguments_to must be one of {', '.join(Role)}")
    return Role(str(value))
