"""`jobcard start`: this very process becomes the keeper, and an engine runs the application's jobs below it."""

from __future__ import annotations

from typing import Any

import click

from jobcard.cli import output
from jobcard.cli.application import APP_HELP, parse_reference, search_here_first

_LEVELS = ("debug", "info", "warning", "error", "critical")

_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard start shop:jobs
  jobcard start shop.py --queues mail,default --processes 4
  jobcard start shop:jobs --url sqlite:////var/lib/shop/jobs.db --log-format json

\b
SIGTERM or Ctrl-C: what runs may end, then exit 0. A second one: at once, exit 130.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("app")
@click.option("--url", metavar="URL", help="The store; else the one the application names.")
@click.option("--queues", metavar="A,B", help="Serve only these queues.")
@click.option("--processes", type=click.IntRange(1, 10_000), metavar="N", help="Worker processes at most.")
@click.option("--max-concurrent-jobs", type=click.IntRange(1, 10_000), metavar="N", help="Jobs at once at most.")
@click.option("--lease", type=float, metavar="SECONDS", help="How long a claim holds without being renewed.")
@click.option("--heartbeat", type=float, metavar="SECONDS", help="How often claims are looked after.")
@click.option("--stop-timeout", type=float, metavar="SECONDS", help="How long jobs may still run after SIGTERM.")
@click.option("--log-level", type=click.Choice(_LEVELS), metavar="LEVEL", help=f"{', '.join(_LEVELS)}.")
@click.option("--log-format", type=click.Choice(["text", "json"]), metavar="FORMAT", help="text or json.")
def start(
    app: str, queues: str | None, log_level: str | None, log_format: str | None, **overrides: str | float | None
) -> int:
    """Run the jobs of an application until told to stop."""
    from jobcard.core.settings import settings_from
    from jobcard.engine.control import boot_document
    from jobcard.engine.keeper import Keeper

    reference = parse_reference(app)
    settings: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    # One of the two may be the application's to say: until then, beside the other stands what any will do with.
    beside: dict[str, Any] = {}
    if "lease" in settings:
        beside["heartbeat"] = 0.1
    if "heartbeat" in settings:
        beside["lease"] = 86_400
    settings_from(**{**beside, **settings})
    search_here_first(reference)
    boot = boot_document(
        reference,
        settings=settings,
        only_queues=None if queues is None else _names(queues),
        logging={name: value for name, value in (("level", log_level), ("format", log_format)) if value is not None},
    )
    return Keeper(boot, report=_report).run()


def _names(text: str) -> list[str]:
    from jobcard.core.limits import check_name
    from jobcard.errors import ConfigError

    return list(dict.fromkeys(check_name(name.strip(), "--queues", error=ConfigError) for name in text.split(",")))


def _report(word: dict[str, Any]) -> None:
    if "ready" in word:
        output.note(f"ready: engine {word['ready']}, process {word['engine_pid']}")
    else:
        output.complain(word["failed"])
