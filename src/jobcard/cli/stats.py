"""`jobcard stats`: how many jobs the store holds."""

from __future__ import annotations

import click

from jobcard.cli import output
from jobcard.cli.options import common, open_store

_STATES = ("waiting", "claimed", "running", "completed", "failed", "canceled")


@click.command(epilog="Example: jobcard stats --url sqlite:///jobs.db --json")
@common()
def stats(url: str | None, as_json: bool, no_color: bool) -> None:
    """Count the jobs of the store by state and by queue."""
    with open_store(url) as store:
        found = store.stats()
    queues = {name: {state: counts[state] for state in _STATES} for name, counts in found.queues.items()}
    totals = {state: getattr(found, state) for state in _STATES}
    if as_json:
        output.emit_json(
            {
                "total": found.total,
                **totals,
                "delayed": found.delayed,
                "oldest_waiting_s": found.oldest_waiting_s,
                "queues": queues,
            }
        )
        return
    output.sheet(
        {
            "total": found.total,
            **totals,
            "delayed": found.delayed,
            "oldest waiting": None if found.oldest_waiting_s is None else f"{found.oldest_waiting_s:.3g} s",
        }
    )
    output.emit("")
    output.table(("queue", *_STATES), [{"queue": name, **counts} for name, counts in queues.items()], no_color=no_color)
