"""`jobcard queues`: list, pause, resume and set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from jobcard.cli import output
from jobcard.cli.options import common, open_store

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.core.queue import Queue
    from jobcard.core.rates import RateLimit

_EXAMPLES = """\b
Examples:
  jobcard queues list
  jobcard queues pause mail
  jobcard queues resume mail
  jobcard queues set mail --concurrency 20 --priority 5
"""


@click.group(epilog=_EXAMPLES)
def queues() -> None:
    """List, pause, resume and change queues; running engines follow within two seconds."""


@queues.command("list", epilog="Example: jobcard queues list --order-by -priority --json")
@click.option(
    "--order-by", default="name", metavar="FIELD", show_default=True, help='A column; "-priority": downwards.'
)
@common()
def list_(order_by: str, url: str | None, as_json: bool) -> None:
    """List the queues with their settings and how many jobs wait and are at work."""
    with open_store(url) as store:
        found = store.queues.list(order_by)
        counts = store.count_by_queue()
    rows = []
    for queue in found:
        in_it = counts.get(queue.name)
        at_work = in_it.claimed + in_it.running if in_it else 0
        rows.append({**_plain(queue), "waiting": in_it.waiting if in_it else 0, "at_work": at_work})
    _print(rows, as_json=as_json, many=True)


@queues.command(epilog="Example: jobcard queues pause mail parcels")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--by", metavar="WHO", help="Who wants it so; otherwise this user on this host.")
@common()
def pause(names: tuple[str, ...], by: str | None, url: str | None, as_json: bool) -> None:
    """Let engines take nothing more from queues; what runs goes on."""
    _change(names, url, lambda store, name: store.queues.pause(name, by=by), as_json=as_json)


@queues.command(epilog="Example: jobcard queues resume mail parcels")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common()
def resume(names: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Let engines take from paused queues again."""
    _change(names, url, lambda store, name: store.queues.resume(name), as_json=as_json)


class _Seconds(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value == "none":
            return "none"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of seconds nor none", param, ctx)


class _Most(click.ParamType):  # type: ignore[type-arg]
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "none":
            return "none"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor none", param, ctx)


class _Rate(click.ParamType):  # type: ignore[type-arg]
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RateLimit | str:
        from jobcard.core.rates import RateLimit
        from jobcard.errors import ConfigError

        if value == "none":
            return "none"
        count, slash, per = str(value).partition("/")
        try:
            return RateLimit(int(count), per=float(per) if slash else 1)
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        except ValueError:
            self.fail(f"{value!r} is neither COUNT/SECONDS, for example 50/1, nor none", param, ctx)


@queues.command(
    "set",
    epilog="""\b
Examples:
  jobcard queues set mail --concurrency 20
  jobcard queues set mail --priority 5 --ageing 30
  jobcard queues set mail --ageing none
  jobcard queues set api --global-concurrency 4 --rate 50/1
""",
)
@click.argument("name")
@click.option("--concurrency", type=int, metavar="N", help="Its jobs at once in one engine.")
@click.option("--priority", type=int, metavar="N", help="Queues with a higher one are served first.")
@click.option("--weight", type=int, metavar="N", help="Its share, once any queue has another than 1.")
@click.option("--global-concurrency", type=_Most(), metavar="N", help="Its jobs at once over all engines; none.")
@click.option("--rate", type=_Rate(), metavar="COUNT/SECONDS", help="How many may start in a window of time; none.")
@click.option("--ageing", type=_Seconds(), metavar="SECONDS", help="Waiting that counts as a point of priority; none.")
@common()
def set_(name: str, url: str | None, as_json: bool, **given: Any) -> None:
    """Change what is given about a queue; all else stays."""
    changes: Any = {field: None if value == "none" else value for field, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError(
            "nothing to set: give --concurrency, --priority, --weight, --global-concurrency, --rate or --ageing"
        )
    _change([name], url, lambda store, name: store.queues.update(name, **changes), as_json=as_json)


def _change(names: Sequence[str], url: str | None, change: Callable[[Jobcard, str], Queue], *, as_json: bool) -> None:
    """Change each queue; one that is not there does not keep the others back, and the first one is the error."""
    from jobcard.errors import QueueNotFoundError

    changed: list[Queue] = []
    missing: list[QueueNotFoundError] = []
    with open_store(url) as store:
        for name in dict.fromkeys(names):
            try:
                changed.append(change(store, name))
            except QueueNotFoundError as error:
                missing.append(error)
    if changed or (as_json and len(names) > 1):
        _print([_plain(queue) for queue in changed], as_json=as_json, many=len(names) > 1)
    for other in missing[1:]:
        output.complain(str(other))
    if missing:
        raise missing[0]


def _plain(queue: Queue) -> dict[str, Any]:
    from dataclasses import fields

    from jobcard.cli.record import to_plain

    return {field.name: to_plain(getattr(queue, field.name)) for field in fields(queue)}


def _rate(plain: dict[str, Any] | None) -> str | None:
    return None if plain is None else f"{plain['count']}/{plain['per']:g}s"


def _print(rows: Sequence[dict[str, Any]], *, as_json: bool, many: bool) -> None:
    if as_json:
        output.emit_json(list(rows) if many else rows[0])
        return
    columns = list(rows[0]) if rows else ["name"]
    shown = [{**row, "paused": "yes" if row["paused"] else None, "rate": _rate(row["rate"])} for row in rows]
    # A setting that no queue has needs no column on a terminal that is too narrow for all.
    spare = [name for name in columns if name not in ("name", "paused") and not any(row[name] for row in rows)]
    output.table(columns, shown, spare=[*spare, "weight", "priority"])
