"""`jobcard migrate` and `jobcard rollback`: the store's schema, forward and back."""

from __future__ import annotations

import click

from jobcard.cli import output
from jobcard.cli.asking import agreed
from jobcard.cli.options import common, open_store


@click.command(epilog="Example: jobcard migrate --url sqlite:///jobs.db")
@common()
def migrate(url: str | None, as_json: bool) -> None:
    """Bring the store's schema to the version this jobcard needs."""
    with open_store(url) as store:
        applied = store.migrate()
    if as_json:
        output.emit_json({"applied": applied})
    elif applied:
        output.emit(f"applied {', '.join(map(str, applied))}")
    else:
        output.emit("nothing to do: the schema is up to date")


@click.command(epilog="Example: jobcard rollback --url sqlite:///jobs.db --yes")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common()
def rollback(yes: bool, url: str | None, as_json: bool) -> int | None:
    """Take the newest migration of the store back; the first one takes every job with it."""
    if not agreed("Take the newest migration back? What it added is deleted, jobs too.", yes=yes):
        return 1
    with open_store(url) as store:
        version = store.rollback_migration()
    if as_json:
        output.emit_json({"rolled_back": version})
    else:
        output.emit("nothing to take back" if version is None else f"took back {version}")
    return None
