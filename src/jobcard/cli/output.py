"""How commands print: tables and sheets for people, JSON for programs, one line for what went wrong.

Everything goes to standard output through `emit` and to standard error through `note` and `complain`. What
comes from a store or a job is shown with control characters spelled out, so that it cannot drive a terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click

NARROW = 60  # columns under which a table is printed as one block a row

# C0 and C1 controls, DEL, line separators, what turns the direction of text, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_OR_BREAK = re.compile(rf"[\t\n]|{_UNSAFE.pattern}")

STATE_STYLES = {
    "waiting": "cyan",
    "claimed": "yellow",
    "running": "yellow",
    "completed": "green",
    "failed": "red",
    "canceled": "magenta",
}

SEVERITY_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


def one_line(text: object) -> str:
    """Text with every control character and line break spelled out."""
    return _UNSAFE_OR_BREAK.sub(_spelled_out, str(text))


def many_lines(text: object) -> str:
    """Text with every control character but line breaks and tabs spelled out."""
    return _UNSAFE.sub(_spelled_out, str(text).replace("\r\n", "\n"))


def _spelled_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


# ------------------------------------------------------------------ out


def emit(text: str) -> None:
    """A line, or several, on standard output."""
    sys.stdout.write(text + "\n")


def emit_json(value: object) -> None:
    """One JSON document on standard output: indented for a terminal, on one line elsewhere. ASCII only."""
    emit(json.dumps(value, indent=2 if sys.stdout.isatty() else None))


def emit_line(value: object) -> None:
    """One JSON document of several, each on a line of its own."""
    emit(json.dumps(value))


def flush() -> None:
    """Let what was printed be seen now; a reader that left shows here."""
    sys.stdout.flush()


def note(text: str) -> None:
    """A line on standard error that is not part of the answer."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        # Nobody listens; the exit code says it too.
        return


def complain(text: str, name: str = "jobcard") -> None:
    """What went wrong, on one line of standard error."""
    note(f"{name}: {one_line(' '.join(text.split()))}")


_colors = {"allowed": True}


def jobs(count: int) -> str:
    """So many jobs, in words."""
    return "1 job" if count == 1 else f"{count:,} jobs"


def forbid_color() -> None:
    """Color nothing from now on: `--no-color`."""
    _colors["allowed"] = False


def wants_color(stream: TextIO | None = None) -> bool:
    """Whether to color what goes to a stream, standard output if none is given: on a terminal, unless told not to."""
    dumb = os.environ.get("TERM") == "dumb"
    return (stream or sys.stdout).isatty() and _colors["allowed"] and not dumb and not os.environ.get("NO_COLOR")


def colored(text: str, color: str | None) -> str:
    """Text in a color, where standard output is to have colors."""
    return click.style(text, fg=color) if color and wants_color() else text


# ------------------------------------------------------------------ tables


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, spare: Sequence[str] = ()) -> None:
    """Rows under headings. Without a terminal nothing is cut; on a very narrow one each row is a block.

    spare: columns that are left out, in this order, while the terminal is too narrow for all.
    """
    shown = [{column: one_line("" if row.get(column) is None else row[column]) for column in columns} for row in rows]
    widths = {column: max(len(column), *(len(row[column]) for row in shown), 0) for column in columns}
    if not sys.stdout.isatty():
        for row in [{column: column for column in columns}, *shown]:
            emit("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())
        return
    from shutil import get_terminal_size  # only now: most output is no table on a terminal

    width = get_terminal_size().columns
    if width < NARROW:
        for row in shown:
            sheet({column: cell or None for column, cell in row.items()})
            emit("")
        return
    for column in spare:
        if sum(widths.values()) + 2 * (len(widths) - 1) > width:
            del widths[column]
    emit(_drawn(list(widths), shown, width, wants_color()))


def sheet(fields: Mapping[str, object]) -> None:
    """One thing, a line per field; fields that are None are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        emit(f"{name.ljust(width)}  {one_line(value)}".rstrip())


def _drawn(columns: Sequence[str], rows: Sequence[Mapping[str, str]], width: int, color: bool) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Into text first: what a broken pipe means is decided in one place, and rich has its own mind about it.
    console = Console(
        width=width, color_system="standard" if color else None, force_terminal=color, highlight=False, emoji=False
    )
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        # An id is there to be copied: it is never broken.
        whole = max((len(row[column]) for row in rows), default=0) if column in ("id", "example") else None
        drawn.add_column(column, overflow="fold", no_wrap=whole is not None, min_width=whole)
    for row in rows:
        drawn.add_row(
            *(
                Text(row[column], style=STATE_STYLES.get(row[column], "") if column == "state" else "")
                for column in columns
            )
        )
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
