"""`jobcard init`: a project's settings, asked for and written into pyproject.toml."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jobcard.cli import output
from jobcard.cli.options import common

_FILE = "pyproject.toml"

_EXAMPLES = """\b
Examples:
  jobcard init
  jobcard init --url sqlite:///jobs.db --app shop:jobs
  jobcard init --url sqlite:///jobs.db --force
"""


@click.command(epilog=_EXAMPLES)
@click.option("--app", metavar="APP", help="The application, so that other commands need not be told: shop:jobs.")
@click.option("--force", is_flag=True, help="Replace what [tool.jobcard] says now.")
@common("The store of this project.")
def init(app: str | None, force: bool, url: str | None, as_json: bool) -> None:
    """Write [tool.jobcard] into pyproject.toml in this directory; asks on a terminal for what is not given.

    Nothing else in the file changes, and the store is not opened.
    """
    from jobcard.backends.url import mask
    from jobcard.cli.project import write_table

    if url is None or (app is None and not as_json):
        url, app = _ask(url, app)
    if app is not None:
        from jobcard.cli.application import parse_reference

        parse_reference(app)
    holds_secret = _check(url)
    path = Path(_FILE).absolute()
    values = {"url": url, **({} if app is None else {"app": app})}
    write_table(path, values, replace=force, secret=holds_secret)
    shown = {"url": mask(url), **({} if app is None else {"app": app})}
    if as_json:
        output.emit_json({"file": str(path), **shown})
    else:
        output.emit(f"wrote [tool.jobcard] to {output.one_line(path)}")
        output.sheet(shown)
        output.emit("")
        _tell_next(app)
    if holds_secret:
        where = f"which now stands in {_FILE}{_readers(path)}"
        output.note(f"note: the URL holds a password, {where}; $JOBCARD_URL would keep it out")


def _readers(path: Path) -> str:
    return ", where others can read it" if path.stat().st_mode & 0o077 else ""


def _ask(url: str | None, app: str | None) -> tuple[str, str | None]:
    from jobcard.client.sources import DEFAULT_URL

    if not sys.stdin.isatty():
        if url is None:
            raise click.UsageError("nobody can be asked here: say --url")
        return url, app
    if url is None:
        url = _ask_until_right("Store", DEFAULT_URL)
    if app is None:
        app = click.prompt("Application (module:attribute, empty for none)", default="", show_default=False, err=True)
    return url, app.strip() or None


def _ask_until_right(question: str, default: str) -> str:
    from jobcard.errors import ConfigError

    while True:
        answer: str = click.prompt(question, default=default, err=True)
        try:
            _check(answer)
        except ConfigError as error:
            output.complain(str(error))
        else:
            return answer


def _check(url: str) -> bool:
    """`ConfigError` unless a store is installed for this URL and takes its options; whether it holds a password."""
    from jobcard.backends.registry import open_backend
    from jobcard.backends.url import mask

    open_backend(url).close()
    return mask(url) != url


def _tell_next(app: str | None) -> None:
    lines = [
        ("jobcard migrate", "make the store's tables"),
        ("jobcard start" if app else "jobcard start APP", "run the jobs"),
        ("jobcard dev" if app else "jobcard dev APP", "run them while you write them"),
        ("jobcard stats", "see how many there are"),
    ]
    output.emit("next")
    for command, what in lines:
        output.emit(f"  {command:<20}{what}")
