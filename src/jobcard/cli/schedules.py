"""`jobcard schedules`: list, next, pause, resume, run and remove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobcard.cli import output
from jobcard.cli.options import common, open_store

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.core.schedule import Schedule

T = TypeVar("T")

_COLUMNS = ("name", "when", "tz", "job", "next_at", "last_at", "paused", "queue", "missed", "overlap")
_SPARE = ("overlap", "missed", "queue", "last_at", "tz")

_EXAMPLES = """\b
Examples:
  jobcard schedules list
  jobcard schedules next nightly -n 5
  jobcard schedules pause nightly              its ticks pass, and are not made up for
  jobcard schedules run nightly                once now, beside its ticks
"""


@click.group(epilog=_EXAMPLES)
def schedules() -> None:
    """List, pause, resume, run and remove schedules; running engines follow within two seconds."""


@schedules.command("list", epilog="Example: jobcard schedules list --json")
@common()
def list_(url: str | None, as_json: bool) -> None:
    """List the schedules: when each is due next, and was last."""
    with open_store(url) as store:
        found = store.schedules.list()
    if not found and not as_json:
        output.note("there is no schedule")
        return
    _print(found, as_json=as_json, many=True)


@schedules.command("next", epilog="Example: jobcard schedules next nightly -n 5")
@click.argument("name")
@click.option("-n", "--number", type=int, default=5, show_default=True, metavar="N", help="So many, 1 to 1,000.")
@common()
def next_(name: str, number: int, url: str | None, as_json: bool) -> None:
    """Print when a schedule is due next, in UTC; paused or not."""
    from jobcard.cli.record import moment

    with open_store(url) as store:
        found = store.schedules.next(name, number)
    if as_json:
        output.emit_json([moment(tick) for tick in found])
        return
    for tick in found:
        output.emit(moment(tick))


@schedules.command(epilog="Example: jobcard schedules pause nightly")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common()
def pause(names: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Let the ticks of schedules pass; what they have made goes on."""
    _change(names, url, lambda store, name: store.schedules.pause(name), as_json=as_json)


@schedules.command(epilog="Example: jobcard schedules resume nightly")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common()
def resume(names: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Let the ticks of paused schedules make jobs again; those that passed are not made up for."""
    _change(names, url, lambda store, name: store.schedules.resume(name), as_json=as_json)


@schedules.command(epilog="Example: jobcard schedules run nightly")
@click.argument("name")
@common()
def run(name: str, url: str | None, as_json: bool) -> None:
    """Enqueue the job of a schedule now, beside its ticks; prints the job's id."""
    with open_store(url) as store:
        handle = store.schedules.run_now(name)
    output.emit_json({"id": str(handle.id), "schedule": name}) if as_json else output.emit(str(handle.id))


@schedules.command(epilog="Example: jobcard schedules remove nightly")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common()
def remove(names: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Forget schedules; what they have made stays. One that code declares comes back with the next engine."""

    def show(removed: Sequence[str], many: bool) -> None:
        if as_json:
            plain = [{"name": name} for name in removed]
            output.emit_json(plain if many else plain[0])
        else:
            output.emit("\n".join(f"removed {name}" for name in removed))

    def removed(store: Jobcard, name: str) -> str:
        store.schedules.remove(name)  # also one whose record cannot be read
        return name

    _each(names, url, removed, show, as_json=as_json)


def _change(
    names: Sequence[str], url: str | None, change: Callable[[Jobcard, str], Schedule], *, as_json: bool
) -> None:
    _each(names, url, change, lambda found, many: _print(found, as_json=as_json, many=many), as_json=as_json)


def _each(
    names: Sequence[str],
    url: str | None,
    change: Callable[[Jobcard, str], T],
    show: Callable[[Sequence[T], bool], None],
    *,
    as_json: bool,
) -> None:
    """Change each schedule; one that is not there does not keep the others back, and the first one is the error."""
    from jobcard.errors import ScheduleNotFoundError

    changed: list[T] = []
    missing: list[ScheduleNotFoundError] = []
    with open_store(url) as store:
        for name in dict.fromkeys(names):
            try:
                changed.append(change(store, name))
            except ScheduleNotFoundError as error:
                missing.append(error)
    if changed or (as_json and len(names) > 1):
        show(changed, len(names) > 1)
    for other in missing[1:]:
        output.complain(str(other))
    if missing:
        raise missing[0]


def _print(found: Sequence[Schedule], *, as_json: bool, many: bool) -> None:
    from jobcard.cli.record import short_moment, to_plain

    if as_json:
        plain: list[dict[str, Any]] = [to_plain(schedule) for schedule in found]
        output.emit_json(plain if many else plain[0])
        return
    rows = [
        {
            **{column: getattr(schedule, column) for column in _COLUMNS},
            "when": schedule.when if isinstance(schedule.when, str) else f"every {schedule.when}",
            "next_at": short_moment(schedule.next_at),
            "last_at": short_moment(schedule.last_at),
            "paused": "yes" if schedule.paused else None,
        }
        for schedule in found
    ]
    output.table(_COLUMNS, rows, spare=_SPARE)
