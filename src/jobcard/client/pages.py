"""Many stored jobs: all that fit a filter, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobcard.backends.base import Backend, Filter
from jobcard.core.job import JobRow

PAGE = 1_000


def pages(store: Backend, where: Filter, *, size: int = PAGE) -> Iterator[Sequence[JobRow]]:
    """Page after page to the end, newest id first; one may be short, or empty: what cannot be read is left out."""
    page = store.list(where, limit=size)
    yield page.rows
    while page.below is not None:
        page = store.list(where, limit=size, before_id=page.below)
        yield page.rows
