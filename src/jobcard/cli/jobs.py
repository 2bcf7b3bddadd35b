"""`jobcard jobs`: list, show, explain, retry, cancel, delete and replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from jobcard.cli import output
from jobcard.cli.moving import CANCEL, DELETE, RETRY, Verb, job_table, move_chosen, move_each
from jobcard.cli.options import chosen, common, filters, open_store
from jobcard.cli.replay import replay

_EXAMPLES = """\b
Examples:
  jobcard jobs list --state failed --queue mail
  jobcard jobs show 0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b
  jobcard jobs retry ID ID ID
  jobcard jobs cancel --queue mail --yes
"""

_ID = "0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b"


@click.group(epilog=_EXAMPLES)
def jobs() -> None:
    """List, explain, retry, cancel, delete and replay jobs."""


jobs.add_command(replay)


@jobs.command(
    "list",
    epilog="""\b
Examples:
  jobcard jobs list --state failed --queue mail
  jobcard jobs list --search thumbnail --after 2h --limit 200 --json
""",
)
@filters
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, metavar="N", show_default=True, help="At most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where an earlier list ended.")
@common()
def list_(limit: int, cursor: str | None, url: str | None, as_json: bool, **given: Any) -> None:
    """List jobs, newest first."""
    from jobcard.cli.record import job_to_plain

    with open_store(url) as store:
        page = store.list(limit=limit, cursor=cursor, **chosen(given))
        if as_json:
            output.emit_json([job_to_plain(job) for job in page])
        else:
            job_table(page)
    if page.next_cursor is not None:
        output.note(f"there are more: --cursor {page.next_cursor}")


@jobs.command(epilog=f"Example: jobcard jobs show {_ID}")
@click.argument("id")
@common()
def show(id: str, url: str | None, as_json: bool) -> None:
    """Show everything about one job."""
    from jobcard.cli.record import job_to_plain
    from jobcard.cli.sheet import print_job

    with open_store(url) as store:
        job = store.get(id)
    if as_json:
        output.emit_json(job_to_plain(job))
    else:
        print_job(job)


@jobs.command(epilog=f"Example: jobcard jobs explain {_ID}")
@click.argument("id")
@common()
def explain(id: str, url: str | None, as_json: bool) -> None:
    """Say why a job does not run: a sentence for each reason.

    With --json an array of objects with code, text and until.
    """
    from jobcard.cli.record import moment, to_plain

    with open_store(url) as store:
        reasons = store.explain(id)
    if as_json:
        output.emit_json([to_plain(reason) for reason in reasons])
        return
    if not reasons:
        output.emit("nothing keeps it: it waits for its turn")
    for reason in reasons:
        until = "" if reason.until is None else f" (until {moment(reason.until)})"
        output.emit(f"{reason.code}: {output.one_line(reason.text)}{until}")


# ------------------------------------------------------------------ moving


@jobs.command(
    epilog="""\b
Examples:
  jobcard jobs retry ID ID
  jobcard jobs retry --queue mail --after 2h --yes
  jobcard jobs retry --state canceled --name shop.thumbnail
"""
)
@click.argument("ids", nargs=-1, metavar="[ID...]")
@filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@common()
def retry(ids: tuple[str, ...], yes: bool, url: str | None, as_json: bool, **given: Any) -> int:
    """Run failed or canceled jobs again: those named, or all that the options choose (failed ones unless --state).

    With --json one job named prints an object, several an array, a choice how many there were.
    """
    return _move(RETRY, ids, yes, url, as_json, given)


@jobs.command(
    epilog="""\b
Examples:
  jobcard jobs cancel ID
  jobcard jobs cancel --name shop.thumbnail --state waiting --yes
"""
)
@click.argument("ids", nargs=-1, metavar="[ID...]")
@filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@common()
def cancel(ids: tuple[str, ...], yes: bool, url: str | None, as_json: bool, **given: Any) -> int:
    """Cancel jobs that have not ended: those named, or all that the options choose.

    A waiting job never starts; one at work is told to stop. With --json one job named prints an object, several an
    array, a choice how many there were.
    """
    return _move(CANCEL, ids, yes, url, as_json, given)


@jobs.command(
    epilog="""\b
Examples:
  jobcard jobs delete ID
  jobcard jobs delete --state completed --before 30d --yes
"""
)
@click.argument("ids", nargs=-1, metavar="[ID...]")
@filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@common()
def delete(ids: tuple[str, ...], yes: bool, url: str | None, as_json: bool, **given: Any) -> int:
    """Delete jobs that have ended, with their errors and logs: those named, or all that the options choose.

    With --json how many there were.
    """
    return _move(DELETE, ids, yes, url, as_json, given)


def _move(verb: Verb, ids: Sequence[str], yes: bool, url: str | None, as_json: bool, given: dict[str, Any]) -> int:
    where = chosen(given)
    if ids and where:
        raise click.UsageError("name jobs by their ids, or choose them by options, not both")
    if not ids and not where:
        raise click.UsageError("Missing argument 'ID...', or an option that chooses jobs, for example --state")
    with open_store(url) as store:
        if ids:
            return move_each(store, verb, ids, yes=yes, as_json=as_json)
        return move_chosen(store, verb, where, yes=yes, as_json=as_json)
