"""`jobcard stats`: how many jobs the store holds, once or again and again."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from jobcard.cli import output
from jobcard.cli.options import common, open_store
from jobcard.core.states import ENDED, JobState

if TYPE_CHECKING:
    from jobcard.client.health import Stats

_STATES = [state.value for state in JobState]
_HOME_AND_CLEAR = "\x1b[H\x1b[2J"

_EXAMPLES = """\b
Examples:
  jobcard stats
  jobcard stats --url sqlite:///jobs.db --json
  jobcard stats --watch --interval 5
"""


@click.command(epilog=_EXAMPLES)
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.05, 3600),
    default=1.0,
    metavar="SECONDS",
    show_default=True,
    help="How often, with --watch.",
)
@common()
def stats(watch: bool, interval: float, url: str | None, as_json: bool) -> None:
    """Count the jobs of the store by state and by queue.

    With --watch a screen that keeps up on a terminal; elsewhere one text, or one line of JSON, after the other.
    """
    with open_store(url) as store:
        found = store.stats()
        if not watch:
            _print(found, as_json=as_json)
            return
        since, before = time.monotonic(), found
        rate: float | None = None
        while True:
            _print_again(found, rate, as_json=as_json)
            time.sleep(interval)
            now, found = time.monotonic(), store.stats()
            # Jobs that were pruned meanwhile are missed here: never fewer than none.
            rate = max(0, _ended(found) - _ended(before)) / (now - since)
            since, before = now, found


def _print_again(found: Stats, rate: float | None, *, as_json: bool) -> None:
    if as_json:
        output.emit_line({**_plain(found), "ended_per_s": None if rate is None else round(rate, 3)})
    else:
        if sys.stdout.isatty():
            sys.stdout.write(_HOME_AND_CLEAR)
        _print(found, as_json=False)
        output.emit("" if rate is None else f"\n{rate:.3g} jobs/s ended")
    # Who reads it in a pipe wants it now, and when nobody does any more we hear of it here.
    output.flush()


def _ended(found: Stats) -> int:
    return sum(getattr(found, state) for state in ENDED)


def _plain(found: Stats) -> dict[str, Any]:
    return {
        "total": found.total,
        **{state: getattr(found, state) for state in _STATES},
        "delayed": found.delayed,
        "oldest_waiting_s": found.oldest_waiting_s,
        "queues": {name: {state: counts[state] for state in _STATES} for name, counts in found.queues.items()},
    }


def _print(found: Stats, *, as_json: bool) -> None:
    plain = _plain(found)
    if as_json:
        output.emit_json(plain)
        return
    oldest = plain.pop("oldest_waiting_s")
    queues = plain.pop("queues")
    output.sheet({**plain, "oldest waiting": None if oldest is None else f"{oldest:.3g} s"})
    output.emit("")
    output.table(("queue", *_STATES), [{"queue": name, **counts} for name, counts in queues.items()])
