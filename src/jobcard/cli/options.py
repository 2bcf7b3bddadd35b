"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from jobcard.client import Jobcard

F = TypeVar("F", bound=Callable[..., Any])

URL_HELP = "The store; else $JOBCARD_URL, [tool.jobcard] url in pyproject.toml, or sqlite:///jobcard.db."


def common(url_help: str = URL_HELP) -> Callable[[F], F]:
    """`--url`, `--json` and `--no-color`."""

    def decorate(command: F) -> F:
        for option in (
            click.option("--no-color", is_flag=True, help="No colors; $NO_COLOR says the same."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
            click.option("--url", metavar="URL", help=url_help),
        ):
            command = option(command)
        return command

    return decorate


def open_store(url: str | None) -> Jobcard:
    """A client of the store that leaves its schema as it is: who looks at a store must not change it."""
    from jobcard.client import Jobcard

    return Jobcard(url, migrate=False)
