"""`jobcard start` and `jobcard dev`: this process becomes the keeper, or watches over one that starts anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, TypeVar

import click

from jobcard.cli import output
from jobcard.cli.application import APP_HELP, chosen_app, search_here_first
from jobcard.cli.options import logging_options, plain, url_option

F = TypeVar("F", bound=Callable[..., Any])

_START_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard start shop:jobs
  jobcard start shop.py --queues mail,default --processes 4
  jobcard start shop:jobs --url sqlite:////srv/jobs.db --log-format json

\b
SIGTERM or Ctrl-C: what runs may end, then exit 0.
A second one: at once, exit 130.
"""

_DEV_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard dev shop:jobs
  jobcard dev shop.py --queues mail --log-level debug
"""

_DEV_STOP_TIMEOUT = 5.0
"""Seconds: who edits waits for the new code, and a job cut short is tried again with it."""


def engine_options(command: F) -> F:
    """What both commands tell an engine."""
    for option in (
        plain,
        click.option(
            "--stop-timeout", type=float, metavar="SECONDS", help="How long jobs may still run after SIGTERM."
        ),
        click.option("--heartbeat", type=float, metavar="SECONDS", help="How often claims are looked after."),
        click.option("--lease", type=float, metavar="SECONDS", help="How long a claim holds without being renewed."),
        click.option(
            "--max-concurrent-jobs", type=click.IntRange(1, 10_000), metavar="N", help="Jobs at once at most."
        ),
        click.option("--processes", type=click.IntRange(1, 10_000), metavar="N", help="Worker processes at most."),
        click.option("--queues", metavar="A,B", help="Serve only these queues."),
        url_option("The store; else the one the application names."),
    ):
        command = option(command)
    return command


@click.command(epilog=_START_EXAMPLES)
@click.argument("app", required=False)
@engine_options
@click.option("--dashboard", is_flag=True, help="Also show the dashboard, at http://127.0.0.1:8678.")
@click.option("--dashboard-port", type=click.IntRange(1, 65_535), metavar="N", help="The same, at another port.")
@click.option("--reload", is_flag=True, help="Start the engine anew when a .py file below this directory changes.")
def start(
    app: str | None,
    queues: str | None,
    reload: bool,
    dashboard: bool,
    dashboard_port: int | None,
    **overrides: str | float | None,
) -> int:
    """Run the jobs of an application until told to stop.

    Without APP, [tool.jobcard] app in pyproject.toml.
    """
    boot = _boot(app, queues, overrides, logging_options())
    # Before the keeper begins: what is there by then is none of its business.
    with _dashboard(boot, overrides.get("url"), dashboard_port) if dashboard or dashboard_port else nullcontext():
        if not reload:
            from jobcard.engine.keeper import Keeper

            return Keeper(boot, report=_report).run()
        from jobcard.cli.reload import run_reloading

        return run_reloading(boot)


def _dashboard(boot: dict[str, Any], url: Any, port: int | None) -> AbstractContextManager[object]:
    from jobcard.cli.dashboard import import_server
    from jobcard.client.dashboards import DashboardProcess
    from jobcard.core.limits import DASHBOARD_PORT
    from jobcard.core.reference import AppReference

    import_server()
    reference = {**boot["reference"], "imports": tuple(boot["reference"]["imports"])}
    return closing(DashboardProcess(AppReference(**reference), url, port or DASHBOARD_PORT))


@click.command(epilog=_DEV_EXAMPLES)
@click.argument("app", required=False)
@engine_options
def dev(
    app: str | None, queues: str | None, url: str | None, stop_timeout: float | None, **overrides: float | None
) -> int:
    """Run the jobs of an application while you write them.

    As `start --reload`, with a line for each job that ends, a more talkative log, and little patience with what
    still runs when a file changes (--stop-timeout 5). Without APP, [tool.jobcard] app in pyproject.toml.
    """
    logging = {"level": "info", "format": "color" if output.wants_color(sys.stderr) else "text", **logging_options()}
    patience = _DEV_STOP_TIMEOUT if stop_timeout is None else stop_timeout
    boot = _boot(app, queues, {"url": url, "stop_timeout": patience, **overrides}, logging)
    from jobcard.cli.feed import Feed
    from jobcard.cli.reload import run_reloading

    return run_reloading(boot, beside=lambda since: Feed(boot["reference"], url, since))


def _boot(app: str | None, queues: str | None, overrides: dict[str, Any], logging: dict[str, str]) -> dict[str, Any]:
    from jobcard.core.settings import settings_from
    from jobcard.engine.control import boot_document

    reference = chosen_app(app)
    settings: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    # One of the two may be the application's to say: until then, beside the other stands what any will do with.
    beside: dict[str, Any] = {}
    if "lease" in settings:
        beside["heartbeat"] = 0.1
    if "heartbeat" in settings:
        beside["lease"] = 86_400
    settings_from(**{**beside, **settings})
    search_here_first(reference)
    only_queues = None if queues is None else _names(queues)
    return boot_document(reference, settings=settings, only_queues=only_queues, logging=logging)


def _names(text: str) -> list[str]:
    from jobcard.core.limits import check_name
    from jobcard.errors import ConfigError

    return list(dict.fromkeys(check_name(name.strip(), "--queues", error=ConfigError) for name in text.split(",")))


def _report(word: dict[str, Any]) -> None:
    if "ready" in word:
        output.note(f"ready: engine {word['ready']}, process {word['engine_pid']}")
    else:
        output.complain(word["failed"])
