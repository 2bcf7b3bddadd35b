"""`jobcard engines`: list, quiet, work and stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from jobcard.cli import output
from jobcard.cli.options import common, open_store

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.client.live_engines import Engine

_COLUMNS = ("id", "host", "pid", "workers", "quiet", "queues", "started_at", "heartbeat_at", "version")
_SPARE = ("version", "heartbeat_at", "started_at", "queues")

_EXAMPLES = """\b
Examples:
  jobcard engines list
  jobcard engines quiet --all                  they finish what they have
  jobcard engines stop 7f3c9a0be12d4456
"""


@click.group(epilog=_EXAMPLES)
def engines() -> None:
    """List the engines that live, and tell them to pause or to stop."""


@engines.command("list", epilog="Example: jobcard engines list --json")
@common()
def list_(url: str | None, as_json: bool) -> None:
    """List the engines whose last heartbeat is recent."""
    with open_store(url) as store:
        found = store.engines.list()
    _print(found, as_json=as_json, many=True)


def _order(verb: str, help: str, example: str, tell: Callable[[Jobcard, str], object]) -> None:
    @engines.command(verb, help=help, epilog=f"Example: jobcard engines {verb} {example}")
    @click.argument("ids", nargs=-1, metavar="[ID...]")
    @click.option("--all", "everyone", is_flag=True, help="Every engine of this store that lives.")
    @common()
    def order(ids: tuple[str, ...], everyone: bool, url: str | None, as_json: bool) -> None:
        if bool(ids) == everyone:
            raise click.UsageError("name engines by their ids, or say --all")
        _tell(ids, url, tell, as_json=as_json)


_order(
    "quiet",
    "Let engines finish what they have and take nothing more, until they are told to work.",
    "--all",
    lambda store, engine: store.engines.quiet(engine),
)
_order(
    "work",
    "Let quiet engines take jobs again.",
    "--all",
    lambda store, engine: store.engines.work(engine),
)
_order(
    "stop",
    "Stop engines, as SIGTERM does: running jobs may end. Returns when they are told, not when they have ended.",
    "7f3c9a0be12d4456",
    lambda store, engine: store.engines.stop(engine),
)


def _tell(ids: Sequence[str], url: str | None, tell: Callable[[Jobcard, str], object], *, as_json: bool) -> None:
    """Tell each engine; one that does not live does not keep the others back, and the first one is the error."""
    from jobcard.errors import NotFoundError

    with open_store(url) as store:
        alive = {engine.id: engine for engine in store.engines.list()}
        told: list[Engine] = []
        missing: list[NotFoundError] = []
        for wanted in dict.fromkeys(ids) or alive:
            try:
                if wanted not in alive:
                    raise NotFoundError(f"no live engine has the id {wanted[:80]!r}")
                tell(store, wanted)
                told.append(alive[wanted])
            except NotFoundError as error:
                missing.append(error)
    many = len(ids) != 1
    if told or many:
        _print(told, as_json=as_json, many=many)
    for other in missing[1:]:
        output.complain(str(other))
    if missing:
        raise missing[0]


def _print(found: Sequence[Engine], *, as_json: bool, many: bool) -> None:
    from jobcard.cli.record import short_moment, to_plain

    if as_json:
        plain = [to_plain(engine) for engine in found]
        output.emit_json(plain if many else plain[0])
        return
    if not found:
        output.note("no engine is alive")
        return
    rows = [
        {
            **{name: getattr(engine, name) for name in _COLUMNS},
            "workers": len(engine.workers),
            "quiet": "yes" if engine.quiet else None,
            "queues": " ".join(engine.queues),
            "started_at": short_moment(engine.started_at),
            "heartbeat_at": short_moment(engine.heartbeat_at),
        }
        for engine in found
    ]
    output.table(_COLUMNS, rows, spare=_SPARE)
