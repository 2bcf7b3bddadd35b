"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobcard.cli import output

if TYPE_CHECKING:
    from jobcard.client import Jobcard

F = TypeVar("F", bound=Callable[..., Any])

URL_HELP = "The store; else $JOBCARD_URL, [tool.jobcard] url in pyproject.toml, or sqlite:///jobcard.db."
LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")

_LOGGING = "jobcard.logging"  # where the context keeps what the two log options said


def common(url_help: str = URL_HELP) -> Callable[[F], F]:
    """`--url` and `--json`, and the options of `plain`."""

    def decorate(command: F) -> F:
        for option in (
            plain,
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
            url_option(url_help),
        ):
            command = option(command)
        return command

    return decorate


def url_option(url_help: str, *names: str) -> Callable[[F], F]:
    """`--url`, or one of another name, with a warning on standard error when it holds a password.

    A command line is for everybody to read.
    """
    return click.option(*(names or ("--url",)), metavar="URL", callback=_warn_of_password, help=url_help)


def _warn_of_password(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from jobcard.backends.url import has_password

        # `doctor` has a finding for it.
        if has_password(value) and ctx.info_name != "doctor":
            option = parameter.opts[0]
            variable = "$JOBCARD_MOVING_TO" if option == "--to" else "$JOBCARD_URL"
            output.note(
                f"warning: the password in {option} can be read by every user of this machine while this runs: "
                f"put the URL into {variable}, and leave {option} out"
            )
    return value


def plain(command: F) -> F:
    """`--log-level`, `--log-format` and `--no-color`: for every command, and heeded without its doing."""
    for option in (
        click.option(
            "--no-color",
            is_flag=True,
            expose_value=False,
            callback=_no_color,
            help="No colors; $NO_COLOR says the same.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(FORMATS),
            metavar="FORMAT",
            expose_value=False,
            callback=_log,
            help="text or json.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(LEVELS),
            metavar="LEVEL",
            expose_value=False,
            callback=_log,
            help=f"{', '.join(LEVELS)}; debug tells each call to the store.",
        ),
    ):
        command = option(command)
    return command


def _no_color(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        output.forbid_color()


def _log(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name is not None:
        ctx.meta.setdefault(_LOGGING, {})[parameter.name.removeprefix("log_")] = value


def logging_options() -> dict[str, str]:
    """What `--log-level` and `--log-format` said: `level` and `format`, those that were given."""
    given: dict[str, str] = click.get_current_context().meta.get(_LOGGING, {})
    return given


def start_logging() -> None:
    """Send jobcard's log to standard error as the options say; before the store is opened, so that it is heard."""
    from jobcard.engine.logs import configure_logging

    configure_logging(**logging_options())


def open_store(url: str | None) -> Jobcard:
    """A client of the store that leaves its schema as it is: who looks at a store must not change it."""
    from jobcard.client import Jobcard

    start_logging()
    return Jobcard(url, migrate=False)


# ------------------------------------------------------------------ which jobs


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A time in ISO 8601 with a zone, or how long ago: `90s`, `15m`, `2h`, `3d`."""

    name = "time"

    _AGO = re.compile(r"([0-9]{1,6})([smhd])")
    _UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}  # noqa: RUF012 - never changed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if match := self._AGO.fullmatch(value):
            try:
                return datetime.now(UTC) - timedelta(**{self._UNITS[match[2]]: int(match[1])})
            except OverflowError:
                self.fail(f"{value!r} is before all times", param, ctx)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                "write a time in ISO 8601 with a zone, 2030-01-31T08:00:00Z, or how long ago: 90s 15m 2h 3d", param, ctx
            )
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no time zone: 2030-01-31T08:00:00Z or +02:00 behind it", param, ctx)
        return moment


MOMENT = Moment()


def filters(command: F) -> F:
    """What chooses among jobs: the names of the look-ups in code."""
    for option in (
        click.option("--before", type=MOMENT, metavar="TIME", help="Enqueued before then."),
        click.option("--after", type=MOMENT, metavar="TIME", help="Enqueued then or later: a time, or 15m, 2h, 3d."),
        click.option("--search", metavar="TEXT", help="With this text in its name or id."),
        click.option("--error-kind", metavar="TEXT", help="Whose last error was of this kind, as `jobs show` says it."),
        click.option("--batch", metavar="ID", help="Of this batch."),
        click.option("--tag", "tags", multiple=True, metavar="NAME", help="With this tag; several: with all of them."),
        click.option("--name", multiple=True, metavar="NAME", help="Of this name; several: of one of them."),
        click.option("--queue", multiple=True, metavar="NAME", help="Of this queue; several: of one of them."),
        click.option("--state", multiple=True, metavar="STATE", help="In this state; several: in one of them."),
    ):
        command = option(command)
    return command


FILTERS = ("state", "queue", "name", "tags", "batch", "error_kind", "search", "after", "before")


def chosen(given: dict[str, Any]) -> dict[str, Any]:
    """The filters among a command's options that were given, as look-ups take them."""
    return {name: given[name] for name in FILTERS if given.get(name) not in (None, ())}
