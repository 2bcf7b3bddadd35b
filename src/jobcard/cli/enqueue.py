"""`jobcard enqueue`: store one job of an application, by its name."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from jobcard.cli import output
from jobcard.cli.application import APP_HELP, load, parse_reference
from jobcard.cli.options import common

if TYPE_CHECKING:
    from jobcard.client.handles import JobHandle
    from jobcard.client.options import EnqueueOptions

_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard enqueue shop:jobs shop.thumbnail --args '["cat.jpg"]'
  jobcard enqueue shop.py mail.welcome --kwargs '{{"to": "ann"}}' --delay 60
"""


@click.command(epilog=_EXAMPLES)
@click.argument("app")
@click.argument("name")
@click.option("--args", "args_text", metavar="JSON", default="[]", help="Positional arguments, a JSON array.")
@click.option("--kwargs", "kwargs_text", metavar="JSON", default="{}", help="Named arguments, a JSON object.")
@click.option("--queue", metavar="NAME", help="Another queue than the job's own.")
@click.option("--priority", type=int, metavar="N", help="Higher is served first.")
@click.option("--delay", type=float, metavar="SECONDS", help="Not before so long from now.")
@click.option("--at", metavar="TIME", help="Not before this time, ISO 8601 with a zone: 2030-01-31T08:00:00Z.")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long one try may take.")
@click.option("--max-attempts", type=int, metavar="N", help="How often it is tried at most.")
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="May be given several times.")
@click.option("--after", multiple=True, metavar="ID", help="Not before this job has completed; several: all of them.")
@click.option("--batch", metavar="ID", help="The batch that it shall belong to.")
@click.option("--id", metavar="UUID", help="Its id: the same one again never makes a second job.")
@common()
def enqueue(
    app: str,
    name: str,
    args_text: str,
    kwargs_text: str,
    at: str | None,
    tags: tuple[str, ...],
    after: tuple[str, ...],
    url: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Store a job of an application and print its id."""
    args = _parse_json(args_text, list, "--args")
    kwargs = _parse_json(kwargs_text, dict, "--kwargs")
    options: EnqueueOptions = {name: value for name, value in given.items() if value is not None}  # type: ignore[assignment]
    if at is not None:
        options["at"] = _parse_time(at)
    if tags:
        options["tags"] = tags
    if after:
        options["after"] = after
    jobs = load(parse_reference(app))
    if url is not None:
        jobs.configure(url)
    with jobs:
        handle: JobHandle[Any] | None = jobs.enqueue(name, args, kwargs, **options)
        if handle is None:
            output.note(f"nothing stored: the job {name} is unique, and there is one")
            if as_json:
                output.emit_json(None)
        elif as_json:
            from jobcard.cli.record import job_to_plain

            output.emit_json(job_to_plain(handle.refresh()))
        else:
            output.emit(str(handle.id))


def _parse_json(text: str, kind: type, what: str) -> Any:
    article = "an array" if kind is list else "an object"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise click.UsageError(f"{what} must be {article} in JSON: {why}") from None
    if not isinstance(value, kind):
        raise click.UsageError(f"{what} must be {article} in JSON")
    return value


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            "--at must be a time in ISO 8601 with a zone, for example 2030-01-31T08:00:00Z"
        ) from None
