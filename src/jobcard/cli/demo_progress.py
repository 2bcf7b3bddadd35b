"""How far the demo is: a bar on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobcard.cli import output


@contextmanager
def progress(total: int, *, no_color: bool) -> Iterator[Callable[[int], None]]:
    """Yields what to call with the number of files done so far. All of it goes to standard error."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("indexed"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, no_color=no_color or None)) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


class _Lines:
    def __init__(self, total: int) -> None:
        self._total = total
        self._tenths = 0

    def __call__(self, done: int) -> None:
        tenths = 10 * done // self._total if self._total else 10
        if tenths > self._tenths:
            self._tenths = tenths
            output.note(f"indexed {done:,} of {self._total:,}")
