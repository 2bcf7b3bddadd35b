"""`jobcard demo`: real work on this machine's own files, while some jobs crash on purpose."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from jobcard.cli import output
from jobcard.cli.options import common
from jobcard.errors import ConfigError

_EXAMPLES = """\b
Examples:
  jobcard demo
  jobcard demo --files 500 --json
  jobcard demo --url sqlite:///demo.db
  jobcard jobs list --url sqlite:///demo.db --state failed
"""


@click.command(epilog=_EXAMPLES)
@click.option("--files", type=click.IntRange(1, 100_000), metavar="N", help="Index at most so many files.")
@common("An empty store, which keeps the jobs; else a temporary SQLite file.")
def demo(files: int | None, url: str | None, as_json: bool) -> int:
    """Index the source files of this Python, while other jobs crash, hang and take memory on purpose.

    On a temporary SQLite file, or on an empty store that --url names and that keeps the jobs.
    """
    from jobcard.cli import demo_app
    from jobcard.cli.demo_report import plain_report, print_report
    from jobcard.cli.demo_run import find_sources, run
    from jobcard.cli.own_store import file_url
    from jobcard.cli.progress import progress

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="jobcard-demo-")))
        url = url or file_url(folder / "demo.db")
        # The workers import the application too, and find their store by this.
        os.environ[demo_app.VARIABLE] = url
        demo_app.jobs.configure(url)
        stack.enter_context(demo_app.jobs)
        if demo_app.jobs.count().total:
            raise ConfigError("this store holds jobs; the demo wants an empty one")
        sources = find_sources(files)
        output.note(f"indexing {len(sources):,} source files, while five other jobs misbehave on purpose")
        with progress(len(sources), "indexed", lines=True) as tell:
            report = run(sources, engine_log=folder / "engine.log", tell=tell)
        if not report.ok:
            log = (folder / "engine.log").read_text("utf-8", "replace")
            output.note(output.many_lines(log[-4000:]))
    if as_json:
        output.emit_json(plain_report(report))
    else:
        print_report(report)
    return 0 if report.ok else 1
