"""`jobcard jobs`: list, show, retry and cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from jobcard.cli import output
from jobcard.cli.options import common, open_store

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.core.job import Job

_COLUMNS = ("id", "state", "queue", "name", "attempt", "created_at", "reason")

_SPARE = ("created_at", "attempt", "reason", "queue")

_EXAMPLES = """\b
Examples:
  jobcard jobs list --state failed --queue mail
  jobcard jobs list --search thumbnail --limit 200 --json
  jobcard jobs show 0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b
  jobcard jobs retry ID ID ID
  jobcard jobs cancel ID
"""


@click.group(epilog=_EXAMPLES)
def jobs() -> None:
    """List, show, retry and cancel jobs."""


@jobs.command("list")
@click.option("--state", multiple=True, metavar="STATE", help="In this state; several: in one of them.")
@click.option("--queue", multiple=True, metavar="NAME", help="Of this queue; several: of one of them.")
@click.option("--name", multiple=True, metavar="NAME", help="Of this name; several: of one of them.")
@click.option("--search", metavar="TEXT", help="With this text in its name or id.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, metavar="N", show_default=True, help="At most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where an earlier list ended.")
@common()
def list_(
    state: tuple[str, ...],
    queue: tuple[str, ...],
    name: tuple[str, ...],
    search: str | None,
    limit: int,
    cursor: str | None,
    url: str | None,
    as_json: bool,
    no_color: bool,
) -> None:
    """List jobs, newest first."""
    from jobcard.cli.record import job_to_plain

    with open_store(url) as store:
        page = store.list(
            state=state or None, queue=queue or None, name=name or None, search=search, limit=limit, cursor=cursor
        )
        if as_json:
            output.emit_json([job_to_plain(job) for job in page])
        else:
            _table(page, no_color=no_color)
    if page.next_cursor is not None:
        output.note(f"there are more: --cursor {page.next_cursor}")


@jobs.command()
@click.argument("id")
@common()
def show(id: str, url: str | None, as_json: bool, no_color: bool) -> None:
    """Show everything about one job."""
    from jobcard.cli.record import job_to_plain
    from jobcard.cli.sheet import print_job

    with open_store(url) as store:
        job = store.get(id)
    if as_json:
        output.emit_json(job_to_plain(job))
    else:
        print_job(job)


@jobs.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@common()
def retry(ids: tuple[str, ...], url: str | None, as_json: bool, no_color: bool) -> None:
    """Run failed or canceled jobs again.

    With --json one job prints an object, several an array.
    """
    _move(ids, url, lambda store: store.retry, as_json=as_json, no_color=no_color)


@jobs.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@common()
def cancel(ids: tuple[str, ...], url: str | None, as_json: bool, no_color: bool) -> None:
    """Cancel jobs that have not ended.

    A waiting job never starts; one at work is told to stop. With --json one job prints an object, several an array.
    """
    _move(ids, url, lambda store: store.cancel, as_json=as_json, no_color=no_color)


def _move(
    ids: Sequence[str],
    url: str | None,
    verb: Callable[[Jobcard], Callable[[str], Job]],
    *,
    as_json: bool,
    no_color: bool,
) -> None:
    """Move each job; those that cannot be moved do not keep the others back, and the first one is the error."""
    from jobcard.cli.record import job_to_plain
    from jobcard.errors import DuplicateJobError, JobcardError, JobNotFoundError, TransitionError

    moved: list[Job] = []
    refused: list[JobcardError] = []
    with open_store(url) as store:
        move = verb(store)
        for job_id in dict.fromkeys(ids):
            try:
                moved.append(move(job_id))
            except (JobNotFoundError, TransitionError, DuplicateJobError) as error:
                refused.append(error)
    if as_json and (moved or len(ids) > 1):
        plain = [job_to_plain(job) for job in moved]
        output.emit_json(plain if len(ids) > 1 else plain[0])
    elif moved:
        _table(moved, no_color=no_color)
    for other in refused[1:]:
        output.complain(str(other))
    if refused:
        raise refused[0]


def _table(found: Sequence[Job], *, no_color: bool) -> None:
    from jobcard.cli.record import short_moment

    rows = []
    for job in found:
        row = {name: getattr(job, name) for name in _COLUMNS}
        row["created_at"] = short_moment(job.created_at)
        row["attempt"] = f"{job.attempt}/{job.max_attempts}"
        if job.cancel_requested:
            row["reason"] = "cancel requested"
        elif job.hold is not None:
            row["reason"] = job.hold
        rows.append(row)
    output.table(_COLUMNS, rows, no_color=no_color, spare=_SPARE)
