"""Several threads let go at the same instant."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")

PATIENCE = 60.0
"""Seconds after which a thread that has not ended counts as stuck; a hundred times what it takes."""


def at_once(works: Sequence[Callable[[], T]]) -> list[T]:
    """Run each piece of work on a thread of its own, all started together; their results in order.

    The first error any of them raised is raised here.
    """
    gate = threading.Barrier(len(works))
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(place: int, work: Callable[[], T]) -> None:
        try:
            gate.wait(PATIENCE)
            results[place] = work()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(place, work), name=f"racer-{place}", daemon=True)
        for place, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        raise AssertionError(f"still busy after {PATIENCE:g} s: {', '.join(stuck)}")
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(works))]


def both_at_once(one: Callable[[], A], other: Callable[[], B]) -> tuple[A, B]:
    """Two pieces of work of different kinds, let go together; both results."""
    works: list[Callable[[], object]] = [one, other]
    first, second = at_once(works)
    return cast(A, first), cast(B, second)
