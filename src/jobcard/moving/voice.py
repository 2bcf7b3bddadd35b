"""What a move says while it lasts: a line now and then, and how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass


def _silent(_: object) -> None:
    return


@contextmanager
def _unseen(_total: int | None, _done: str) -> Iterator[Callable[[int], None]]:
    yield _silent


@dataclass(frozen=True, slots=True)
class Voice:
    """say: takes a line for people. progress: given of how many and what has happened to them, yields what to call."""

    say: Callable[[str], None] = _silent
    progress: Callable[[int | None, str], AbstractContextManager[Callable[[int], None]]] = _unseen


SILENT = Voice()
