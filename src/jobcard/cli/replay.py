"""`jobcard jobs replay`: a stored job's call, run once in this very process; the stored job stays as it is."""

from __future__ import annotations

import sys

import click

from jobcard.cli import output
from jobcard.cli.application import APP_HELP, chosen_app, load_for_reading
from jobcard.cli.options import common, start_logging

_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard jobs replay 0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b --app shop:jobs
  jobcard jobs replay 0199c0de-7d5a-7c3e-8000-5a1f2e3d4c5b --pdb
"""


@click.command(epilog=_EXAMPLES)
@click.argument("id")
@click.option("--app", metavar="APP", help="The application; else [tool.jobcard] app in pyproject.toml.")
@click.option("--pdb", "debug", is_flag=True, help="Open the debugger where the job raised.")
@common("The store; else the one the application names.")
def replay(id: str, app: str | None, debug: bool, url: str | None, as_json: bool) -> int:
    """Run a stored job's call once, here and now, with its real arguments; print its result or its traceback.

    The stored job is not touched, whatever state it is in: no attempt is counted, no result kept, what it notes
    with ctx is shown and not stored. What the job does elsewhere it really does. No timeout or memory limit ends it.
    """
    reference = chosen_app(app, "Missing option '--app'")
    if debug and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("--pdb needs a terminal")
    start_logging()
    with load_for_reading(reference, url) as jobs:
        from jobcard.cli.replaying import print_replayed, replay_job

        replayed = replay_job(jobs, id, prints_to_stderr=as_json)
        print_replayed(replayed, as_json=as_json)
        if debug and replayed.error is not None:
            import pdb

            output.flush()
            pdb.post_mortem(replayed.frames)
    return 0 if replayed.error is None else 1
