"""`jobcard backup` and `jobcard restore`: everything a store has, into one file and back."""

from __future__ import annotations

import click

from jobcard.cli import output
from jobcard.cli.asking import agreed
from jobcard.cli.options import common, open_store, start_logging
from jobcard.cli.progress import progress

_SHOWN = 5


@click.command(epilog="Example: jobcard backup --url postgresql://db.example/shop /var/backups/shop.jobcard")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help="In place of an older backup of this name.")
@click.option("--skip-unreadable", is_flag=True, help="Exit code 0 also when there are jobs that cannot be read.")
@common()
def backup(file: str, overwrite: bool, skip_unreadable: bool, url: str | None, as_json: bool) -> int:
    """Write all jobs, queues and schedules into FILE, while the store is in use.

    FILE is there whole or not at all, and only its owner may read it.
    """
    from jobcard.client.keeping import back_up

    with open_store(url) as store, progress(None, "jobs backed up") as tell:
        made = back_up(store.parts.connection, file, overwrite=overwrite, tell=tell)
    if as_json:
        unreadable = [str(job_id) for job_id in made.unreadable]
        output.emit_json({"path": str(made.path), "jobs": made.jobs, "size": made.size, "unreadable": unreadable})
    else:
        output.emit(f"{output.jobs(made.jobs)} backed up: {made.path}, {made.size:,} bytes")
    if made.unreadable:
        shown = ", ".join(map(str, made.unreadable[:_SHOWN]))
        more = "" if len(made.unreadable) <= _SHOWN else " and others; --json names them all"
        output.complain(f"{output.jobs(len(made.unreadable))} cannot be read, not in the backup: {shown}{more}")
    return int(bool(made.unreadable) and not skip_unreadable)


@click.command(epilog="Example: jobcard restore --url sqlite:///shop.db /var/backups/shop.jobcard --yes")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--merge", is_flag=True, help="Into a store that is not empty: what it has stays as it is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common()
def restore(file: str, merge: bool, yes: bool, url: str | None, as_json: bool) -> int:
    """Write what the backup FILE holds into an empty store, and bring its schema up to date.

    A damaged FILE is refused, and nothing is written.
    """
    from jobcard.client import Jobcard
    from jobcard.client.keeping import restore
    from jobcard.moving.backup import check

    start_logging()
    _, end = check(file)
    if not agreed(f"Write {output.jobs(end.jobs)} into the store?", yes=yes):
        return 1
    with Jobcard(url) as store, progress(end.jobs, "jobs restored") as tell:
        done = restore(store.parts.connection, file, merge=merge, tell=tell)
    if as_json:
        refused = {str(job_id): why for job_id, why in done.refused.items()}
        output.emit_json({"jobs": done.jobs, "present": done.present, "refused": refused})
    else:
        there = f", {done.present:,} were there" if done.present else ""
        output.emit(f"{output.jobs(done.jobs)} restored{there}")
    for job_id, why in [*done.refused.items()][:_SHOWN]:
        output.complain(f"job {job_id} was not restored: {why}")
    if len(done.refused) > _SHOWN:
        output.complain(f"{output.jobs(len(done.refused))} were not restored; --json names them all")
    return int(bool(done.refused))
