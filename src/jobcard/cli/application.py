"""`APP` on the command line: where an application's `Jobcard` stands, and importing it."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobcard.core.reference import AppReference
from jobcard.errors import ConfigError

if TYPE_CHECKING:
    from jobcard.client import Jobcard

APP_HELP = "APP is module:attribute, a module with one Jobcard, or a script: shop:jobs, shop, shop.py, shop.py:jobs."


def chosen_app(text: str | None, what: str = "Missing argument 'APP'") -> AppReference:
    """`APP` as given, else as `[tool.jobcard] app` in pyproject.toml has it; a usage error when neither says."""
    if text is None:
        from jobcard.client.sources import find_in_project

        text = find_in_project("app")
    if text is None:
        raise click.UsageError(f"{what}, and no [tool.jobcard] app in pyproject.toml stands in for it")
    return parse_reference(text)


def parse_reference(text: str) -> AppReference:
    """`APP` as written; a usage error when it can be neither a module nor a script."""
    place, colon, attribute = text.partition(":")
    if colon and not _is_dotted(attribute):
        raise click.UsageError(f"APP {text[:80]!r}: what follows the colon must be a name in the module")
    if place.endswith(".py") or os.sep in place:
        path = Path(place).absolute()
        if not path.is_file():
            raise click.UsageError(f"APP {text[:80]!r}: there is no file {place[:80]!r}")
        return AppReference(None, str(path), attribute)
    if not _is_dotted(place):
        raise click.UsageError(f"APP {text[:80]!r}: write it as module:attribute or as the path of a script")
    return AppReference(place, None, attribute)


def search_here_first(reference: AppReference) -> None:
    """Put the current directory first on `sys.path`, and a script's own behind it."""
    wanted = [os.getcwd()]  # noqa: PTH109 - as sys.path has it
    if reference.path is not None:
        wanted.append(os.path.dirname(reference.path))  # noqa: PTH120
    sys.path[:] = [*dict.fromkeys(wanted), *(entry for entry in sys.path if entry not in wanted)]


def load(reference: AppReference) -> Jobcard:
    """Import the application here and return its `Jobcard`; `ConfigError` naming file and line when it fails."""
    from jobcard.workers.process import find_app, import_script

    search_here_first(reference)
    try:
        module = import_module(reference.module) if reference.module else import_script(reference.path or "")
        app: Jobcard = find_app(module, reference.attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"the application cannot be imported: {why}{_place(error)}") from error
    return app


def load_for_reading(reference: AppReference, url: str | None) -> Jobcard:
    """The application's `Jobcard`, of the store at `url` if one is given, which leaves the store's schema as it is."""
    app = load(reference)
    if url is not None:
        app.configure(url)
    with suppress(ConfigError):  # it used its store while it was imported: what that did to the schema is done
        app.configure(migrate=False)
    return app


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    ours = str(Path(__file__).resolve().parents[1])
    importers = (ours, "<frozen", import_module.__code__.co_filename)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(importers)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
