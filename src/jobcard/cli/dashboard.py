"""`jobcard dashboard`: the web page, as a server of its own or beside an engine, and who may see it."""

from __future__ import annotations

import getpass
import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from jobcard.cli import output
from jobcard.cli.application import APP_HELP, load_for_reading, parse_reference
from jobcard.cli.options import open_store, plain, start_logging, url_option
from jobcard.core.limits import DASHBOARD_PORT
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    import socket

    from jobcard.client import Jobcard
    from jobcard.dashboard.app import Dashboard

HOST = "127.0.0.1"
_ROLES = ("viewer", "operator", "admin")
_AGAIN_SECONDS = 1.0

_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard dashboard                 for this machine: http://127.0.0.1:8678
  jobcard dashboard shop:jobs --url postgresql://h/shop
  jobcard dashboard user add anna --role operator --users users.json
  jobcard dashboard --host 0.0.0.0 --users users.json
  jobcard dashboard serve --port 9000 --base-path /ops/jobs
"""
_USER_EXAMPLES = """\b
Examples:
  jobcard dashboard user add anna --role operator --users users.json
  jobcard dashboard user add ci --role viewer < password.txt
  jobcard dashboard user list --users users.json
  jobcard dashboard user remove anna --users users.json
"""


class _Dashboard(click.Group):
    """`dashboard …` is `dashboard serve …` unless it is about users."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Dashboard)
def dashboard() -> None:
    """Show jobs, queues, schedules and engines in a browser."""


@dashboard.command(epilog=_EXAMPLES)
@click.argument("app", required=False)
@url_option("The store; else the one the application names.")
@click.option("--host", default=HOST, show_default=True, help="Where to listen; beyond this machine with --users only.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DASHBOARD_PORT, show_default=True, help="0: any that is free."
)
@click.option("--base-path", default="/", show_default=True, metavar="PATH", help="What addresses begin with.")
@click.option("--users", type=click.Path(dir_okay=False), metavar="FILE", help="Who may come in; see dashboard user.")
@click.option("--allowed-host", "hosts", multiple=True, metavar="NAME", help="A name it may be called by; several.")
@click.option("--proxy", "proxies", multiple=True, metavar="ADDRESS", help="A proxy whose word is believed; several.")
@url_option("A replica for what is only shown.", "--read-url")
@plain
def serve(
    app: str | None,
    url: str | None,
    host: str,
    port: int,
    base_path: str,
    users: str | None,
    hosts: tuple[str, ...],
    proxies: tuple[str, ...],
    read_url: str | None,
) -> int:
    """Serve the dashboard until told to stop.

    Without --users it is for this machine alone, and listens nowhere else. Without APP, [tool.jobcard] app in
    pyproject.toml; without either it knows what the store tells, and not what code declares.
    """
    import_server()
    from jobcard.client.sources import find_in_project
    from jobcard.dashboard.origins import is_loopback

    if users is None and not is_loopback(host):
        raise click.UsageError(
            f"--host {host[:80]} is for others too: give --users FILE, which `jobcard dashboard user add` makes"
        )
    options: dict[str, Any] = {"users": users, "open": users is None, "base_path": base_path, "read_url": read_url}
    if hosts:
        options["allowed_hosts"] = hosts
    start_logging()
    app = app or find_in_project("app")
    with open_store(url) if app is None else load_for_reading(parse_reference(app), url) as jobs:
        made = _make(jobs, options)
        try:
            listening = _bind(host, port)
        except OSError as error:
            raise ConfigError(f"nothing can listen at {host}:{port}: {error.strerror or error}") from error
        return _serve(made, listening, base_path=base_path, proxies=proxies)


def import_server() -> None:
    """`ConfigError` unless the extra is installed."""
    try:
        import jobcard.dashboard.serve  # noqa: F401
    except ImportError as error:
        from jobcard.client.dashboards import missing

        raise missing(error) from error


def _make(jobs: Jobcard, options: dict[str, Any]) -> Dashboard:
    from jobcard.dashboard import make

    return make(jobs, options)


def _bind(host: str, port: int) -> socket.socket:
    from jobcard.dashboard.serve import bind

    return bind(host, port)


def _serve(
    made: Dashboard,
    listening: socket.socket,
    *,
    base_path: str = "/",
    proxies: tuple[str, ...] = (),
    lifeline: int | None = None,
) -> int:
    from jobcard.dashboard.serve import serve

    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}{base_path.rstrip('/')}/"
    return serve(
        made, listening, proxies=proxies, lifeline=lifeline, ready=lambda: output.note(f"ready: dashboard at {address}")
    )


# ------------------------------------------------------------------ beside an engine


def beside() -> None:
    """Be the dashboard of an application, for this machine alone, until standard input ends.

    While another has the port, wait for it: of many processes of one application one shows the dashboard, and when
    that one ends the next does.
    """
    from jobcard.core.reference import AppReference
    from jobcard.errors import JobcardError

    line = b""
    while not line.endswith(b"\n"):
        # Nothing beyond the line is read here: what follows is the end of who started us.
        if not (byte := os.read(0, 1)):
            return
        line += byte
    asked = json.loads(line)
    try:
        import_server()
        reference = {**asked["reference"], "imports": tuple(asked["reference"]["imports"])}
        with load_for_reading(AppReference(**reference), asked["url"]) as jobs:
            made = _make(jobs, {"open": True})
            listening = _wait_for(asked["port"])
            if listening is not None:
                _serve(made, listening, lifeline=0)
    except (JobcardError, OSError) as error:
        output.complain(str(error), "jobcard: no dashboard")


def _wait_for(port: int) -> socket.socket | None:
    """The socket to listen at; None: whoever started us ended first."""
    while True:
        try:
            return _bind(HOST, port)
        except OSError:
            began = time.monotonic()
            while (left := began + _AGAIN_SECONDS - time.monotonic()) > 0:
                if select.select((0,), (), (), left)[0]:
                    return None


# ------------------------------------------------------------------ users


@dashboard.group(epilog=_USER_EXAMPLES)
def user() -> None:
    """Say who may see the dashboard."""


_FILE = click.option(
    "--users", "file", type=click.Path(dir_okay=False), default="users.json", show_default=True, metavar="FILE",
    help="The file to change.",
)  # fmt: skip


@user.command(epilog=_USER_EXAMPLES)
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), required=True, help="What the user may do.")
@_FILE
@plain
def add(name: str, role: str, file: str) -> None:
    """Add a user to FILE, or give one another role and password.

    The password is asked for; without a terminal it is the first line of standard input. Only its hash is kept.
    """
    import_server()
    from jobcard.dashboard.users import add_user

    is_new = add_user(file, name, role, _password())
    output.emit(f"{'added' if is_new else 'changed'} {output.one_line(name)}: {role}, in {file}")


@user.command(epilog=_USER_EXAMPLES)
@click.argument("name")
@_FILE
@plain
def remove(name: str, file: str) -> None:
    """Remove a user from FILE; sessions end at once."""
    import_server()
    from jobcard.dashboard.users import remove_user

    remove_user(file, name)
    output.emit(f"removed {output.one_line(name)} from {file}")


@user.command("list", epilog=_USER_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_FILE
@plain
def list_(as_json: bool, file: str) -> None:
    """List the users of FILE."""
    import_server()
    from jobcard.dashboard.users import list_users

    found = [{"name": each.name, "role": each.role.value} for each in list_users(file)]
    if as_json:
        output.emit_json(found)
    else:
        output.table(("name", "role"), found)


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise click.UsageError("these are two passwords: nothing was changed")
    return first
