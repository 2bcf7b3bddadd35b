"""From an application to its dashboard, which is loaded only when it is asked for."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client.app import Jobcard
    from jobcard.core.reference import AppReference

_ROOT = str(Path(__file__).resolve().parents[2])
_BESIDE = f"import sys; sys.path.append({_ROOT!r}); from jobcard.cli.dashboard import beside; beside()"
_END_SECONDS = 10.0

_PLACE = "jobcard.dashboard"

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
        raise missing(error) from error
    return made


def missing(error: ImportError) -> ConfigError:
    """What to do about a package that is not there."""
    return ConfigError(f"the dashboard needs the package {error.name!r}: pip install 'jobcard[dashboard]'")


class DashboardProcess:
    """A dashboard for this machine alone, in a process of its own that ends with this one."""

    def __init__(self, reference: AppReference, url: str | None, port: int) -> None:
        """url: the store, if not the one that the application names."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BESIDE],
            stdin=subprocess.PIPE,
            # Ctrl-C is for who started us.
            start_new_session=True,
        )
        told = {**reference._asdict(), "imports": list(reference.imports)}
        document = {"reference": told, "url": url, "port": port}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has said why
            # Over a pipe: a URL may hold a password. The pipe stays open; its end tells the process that we are gone.
            self._process.stdin.write(json.dumps(document).encode() + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
