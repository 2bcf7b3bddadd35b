"""`jobcard check`: would this code break jobs that are queued?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobcard.cli import output
from jobcard.cli.application import APP_HELP, chosen_app, load_for_reading
from jobcard.cli.options import common, start_logging

if TYPE_CHECKING:
    from jobcard.client.compat import Compatibility

_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard check shop:jobs
  jobcard check shop:jobs --url "$PRODUCTION_URL" --json

\b
Exit code 0: all of them can be run; 1: some cannot.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("app", required=False)
@common("The store; else the one the application names.")
def check(app: str | None, url: str | None, as_json: bool) -> int:
    """Say whether this code can run the jobs that wait or are delayed; before it is deployed.

    It finds names that are gone, arguments that no longer fit the function or the class's constructor, and values
    that cannot be rebuilt as the annotations say: an enum's member gone, a dataclass's field new or gone, another
    type. Nothing is run or changed. Without APP, [tool.jobcard] app in pyproject.toml.
    """
    reference = chosen_app(app)
    start_logging()
    with load_for_reading(reference, url) as jobs:
        from jobcard.cli.progress import progress
        from jobcard.client.compat import check_waiting

        total = jobs.count(state="waiting").total
        with progress(total, "checked") as tell:
            found = check_waiting(jobs.parts, tell=tell)
    if as_json:
        from jobcard.cli.record import to_plain

        output.emit_json({"ok": found.ok, **to_plain(found)})
    else:
        _print(found)
    return 0 if found.ok else 1


def _print(found: Compatibility) -> None:
    rows = [
        {"jobs": misfit.count, "name": misfit.name, "problem": misfit.problem, "example": misfit.example}
        for misfit in found.problems
    ]
    if rows:
        output.table(("jobs", "name", "problem", "example"), rows)
    for misfit in found.notes:
        output.note(f"note: {misfit.problem} ({misfit.count:,} jobs of {output.one_line(misfit.name)})")
    broken = sum(misfit.count for misfit in found.problems)
    what = f"{found.checked:,} job{'' if found.checked == 1 else 's'} checked"
    output.emit(f"{what}: {f'this code cannot run {broken:,} of them' if broken else 'this code can run them all'}")
