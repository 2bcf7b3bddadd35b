"""The `jobcard` command: finds the command asked for, and makes one line and an exit code of every error.

Command modules are imported when they are named, and import what they need when they run: `jobcard start`
stays as a process of its own above the engine, so it must stay small.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click

from jobcard.cli import output
from jobcard.engine import exits
from jobcard.errors import (
    AccessDeniedError,
    BackupError,
    ConfigError,
    InvalidJobError,
    JobcardError,
    NotFoundError,
    SchemaVersionError,
    StoreError,
    UnknownJobError,
)
from jobcard.version import VERSION

COMPLETION = "_JOBCARD_COMPLETE"  # set by the script that `jobcard completion` prints
BROKEN_PIPE = 141  # as the shell says of a program that SIGPIPE ended

_EXIT_CODES: Sequence[tuple[type[JobcardError], int]] = (
    (NotFoundError, exits.NOT_FOUND),
    (UnknownJobError, exits.NOT_FOUND),
    (AccessDeniedError, exits.STORE),
    (ConfigError, exits.USAGE),
    (InvalidJobError, exits.USAGE),
    (StoreError, exits.STORE),
    (SchemaVersionError, exits.STORE),
    (BackupError, exits.STORE),
)

_EXAMPLES = """\b
Examples:
  jobcard start shop:jobs                      run the jobs of shop.py
  jobcard check shop:jobs                      would this code break jobs that are queued?
  jobcard enqueue shop:jobs shop.thumbnail --args '["cat.jpg"]'
  jobcard jobs list --state failed
  jobcard jobs show ID                         one job, its errors and what it printed
  jobcard stats --json
  jobcard dashboard                            the same in a browser, and more
  jobcard copy --from URL --to URL --live      move to another store while engines work
  jobcard doctor                               does this store keep what is promised?
  jobcard demo                                 see it work, in a few seconds

\b
The store: --url, else $JOBCARD_URL, else [tool.jobcard] url in pyproject.toml,
else sqlite:///jobcard.db. Exit codes: 0 ok, 1 failed, 2 usage or application
not importable, 3 store or schema, 4 not found, 130 interrupted.
"""


class Commands(click.Group):
    """The commands by name, each imported when it is asked for."""

    _places = {  # noqa: RUF012 - never changed
        "init": "jobcard.cli.init:init",
        "start": "jobcard.cli.start:start",
        "dev": "jobcard.cli.start:dev",
        "check": "jobcard.cli.check:check",
        "enqueue": "jobcard.cli.enqueue:enqueue",
        "jobs": "jobcard.cli.jobs:jobs",
        "queues": "jobcard.cli.queues:queues",
        "schedules": "jobcard.cli.schedules:schedules",
        "engines": "jobcard.cli.engines:engines",
        "dashboard": "jobcard.cli.dashboard:dashboard",
        "stats": "jobcard.cli.stats:stats",
        "migrate": "jobcard.cli.schema:migrate",
        "rollback": "jobcard.cli.schema:rollback",
        "copy": "jobcard.cli.copy:copy",
        "backup": "jobcard.cli.backup:backup",
        "restore": "jobcard.cli.backup:restore",
        "grants": "jobcard.cli.grants:grants",
        "rekey": "jobcard.cli.rekey:rekey",
        "doctor": "jobcard.cli.doctor:doctor",
        "bench": "jobcard.cli.bench:bench",
        "demo": "jobcard.cli.demo:demo",
        "completion": "jobcard.cli.completion:completion",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(
    cls=Commands,
    epilog=_EXAMPLES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, prog_name="jobcard", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Background jobs for Python, kept in the database you already run."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(exits.USAGE)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    try:
        with cli.make_context("jobcard", list(arguments)) as ctx:
            code = cli.invoke(ctx)
        sys.stdout.flush()
        return code if isinstance(code, int) else exits.OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.UsageError as error:
        name = error.ctx.command_path if error.ctx else "jobcard"
        output.complain(f"{error.format_message()} (try: {name} --help)", name)
        return exits.USAGE
    except click.ClickException as error:
        output.complain(error.format_message())
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has had enough. Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return exits.INTERRUPTED
    except JobcardError as error:
        output.complain(str(error))
        return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), exits.FAILED)
    except OSError as error:
        output.complain(str(error))
        return exits.FAILED
    except Exception as error:
        output.complain(f"internal error: {type(error).__name__}: {error}{_place(error)}")
        return exits.FAILED


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def main() -> None:
    """Be the `jobcard` command."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        # Whatever the locale says, a name or a traceback must not end the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = complete(asked) if (asked := os.environ.get(COMPLETION)) else run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or BROKEN_PIPE
    sys.exit(code)


def complete(instruction: str) -> int:
    """Answer a shell that asks how a command line may go on."""
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, "jobcard", COMPLETION, instruction)


def _open_standard_streams() -> None:
    """Stand in for standard streams that were closed: what is opened in their place would be written to."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: PTH123, SIM115
