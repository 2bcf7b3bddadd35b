"""How far something is: a bar on a terminal; elsewhere a line every tenth, or nothing. All of it on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobcard.cli import output


@contextmanager
def progress(total: int | None, done: str, *, lines: bool = False) -> Iterator[Callable[[int], None]]:
    """Yields what to call with how many of `total` are done so far; None: nobody knows of how many.

    done: what has happened to those, as in "indexed". lines: say so every tenth where there is no terminal.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines(total or 0, done) if lines else _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(done), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, no_color=not output.wants_color(sys.stderr))) as bar:
        task = bar.add_task("", total=total)
        yield lambda so_far: bar.update(task, completed=so_far)


def _silent(_done: int) -> None:
    return


class _Lines:
    def __init__(self, total: int, done: str) -> None:
        self._total = total
        self._done = done
        self._tenths = 0

    def __call__(self, so_far: int) -> None:
        tenths = 10 * so_far // self._total if self._total else 10
        if tenths > self._tenths:
            self._tenths = tenths
            output.note(f"{self._done} {so_far:,} of {self._total:,}")
