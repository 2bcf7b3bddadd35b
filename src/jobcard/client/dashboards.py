"""From an application to its dashboard, which is loaded only when it is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client.app import Jobcard

_PLACE = "jobcard.dashboard"
_EXTRA = frozenset({"starlette", "jinja2", "markupsafe", "anyio", "uvicorn"})

Message = MutableMapping[str, Any]


class Dashboard(Protocol):
    """An ASGI application."""

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        ...

    def close(self) -> None:
        """Let go of its own connections and threads."""
        ...


class DashboardOptions(TypedDict, total=False):
    """What `jobs.dashboard(…)` takes.

    base_path: where it is served, if whoever mounts it does not say. allowed_hosts: names it may be called by; none:
    any, and with `open` those of this machine. secret: 32 random characters or more, where several processes serve it
    without a users file. hide: names of arguments that nobody is shown. show_arguments_to: the least role that sees
    arguments and results, "operator" unless told.
    """

    users: str | PathLike[str] | None
    auth: Callable[..., Any] | None
    open: bool
    read_url: str | None
    base_path: str
    allowed_hosts: Iterable[str]
    secret: str | None
    hide: Iterable[str]
    show_arguments_to: str


def make_dashboard(app: Jobcard, options: Mapping[str, Any]) -> Dashboard:
    """The dashboard of an application; `ConfigError` when its extra is not installed."""
    try:
        # By name: nothing that an application imports knows the dashboard.
        made: Dashboard = import_module(_PLACE).make(app, options)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise ConfigError(
            f"the dashboard needs the package {error.name!r}: pip install 'jobcard[dashboard]'"
        ) from error
    return made
