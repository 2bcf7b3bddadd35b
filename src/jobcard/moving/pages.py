"""Two stores gone through side by side, page by page, so that the memory it takes does not grow with the jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from jobcard.backends.base import Backend
from jobcard.core.job import JobRow, WholeJob
from jobcard.moving import whole

T = TypeVar("T")
K = TypeVar("K", bound="Ordered")
V = TypeVar("V")


class Ordered(Protocol):
    """What a walk goes by: ids, or keys."""

    def __hash__(self) -> int: ...
    def __lt__(self, other: Any, /) -> bool: ...
    def __le__(self, other: Any, /) -> bool: ...
    def __gt__(self, other: Any, /) -> bool: ...


LOOKED_AT = 5_000
"""Of ids and versions so many are asked for at once."""
UNREADABLE = -1
"""The version of a job that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which jobs are copied; empty: all. since: created at this instant or later, in microseconds."""

    states: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    since: int | None = None

    def has(self, row: JobRow) -> bool:
        """Whether this job is one of them."""
        return (
            (not self.states or row.state in self.states)
            and (not self.queues or row.queue in self.queues)
            and (self.since is None or row.created_at >= self.since)
        )

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.states or self.queues) and self.since is None


ALL = Selection()


class Versions(NamedTuple):
    """Some jobs of a store by ascending id, and which of them cannot be read."""

    of: dict[bytes, int]
    unreadable: Sequence[bytes]
    last: bytes


def version_pages(store: Backend) -> Iterator[Versions]:
    """The id and version of every job, by ascending id."""
    after: bytes | None = None
    while True:
        page = store.versions(after=after, limit=LOOKED_AT)
        of = {job_id: version for job_id, version in page if version != UNREADABLE}
        if page:
            after = page[-1][0]
            yield Versions(of, [job_id for job_id, _ in page if job_id not in of], after)
        if len(page) < LOOKED_AT:
            return


class Difference(NamedTuple):
    """What some jobs of a source are beside those of a target, each by ascending id.

    missing: not in the target. changed: there in another version. same: there in this one. gone: in the target alone.
    unreadable: in the source, and nobody knows what they are.
    """

    missing: Sequence[bytes] = ()
    changed: Sequence[bytes] = ()
    same: Sequence[bytes] = ()
    gone: Sequence[bytes] = ()
    unreadable: Sequence[bytes] = ()


NO_DIFFERENCE = Difference()


def differences(source: Backend, target: Backend) -> Iterator[Difference]:
    """Both stores gone through side by side, by versions alone."""
    there = Beside(map(_all_of, version_pages(target)))
    with ahead(version_pages(source)) as pages:
        for of, unreadable, last in pages:
            theirs = there.up_to(last)
            missing: list[bytes] = []
            changed: list[bytes] = []
            same: list[bytes] = []
            for job_id, version in of.items():
                known = theirs.pop(job_id, None)
                (missing if known is None else same if known == version else changed).append(job_id)
            for job_id in unreadable:
                theirs.pop(job_id, None)
            yield Difference(missing, changed, same, list(theirs), unreadable)
    for theirs in there.rest():
        yield Difference(gone=list(theirs))


def _all_of(page: Versions) -> dict[bytes, int]:
    return dict(sorted([*page.of.items(), *((job_id, UNREADABLE) for job_id in page.unreadable)]))


class Beside(Generic[K, V]):
    """What the other store has, page after page by ascending key, taken from the front as a walk goes on."""

    def __init__(self, pages: Iterator[dict[K, V]]) -> None:
        self._pages = pages
        self._ready: dict[K, V] = {}

    def up_to(self, last: K) -> dict[K, V]:
        """What it has up to this key, and was not taken before."""
        taken: dict[K, V] = {}
        while True:
            if self._ready and next(reversed(self._ready)) > last:
                for key in takewhile(lambda key: key <= last, [*self._ready]):
                    taken[key] = self._ready.pop(key)
                return taken
            taken |= self._ready
            self._ready = next(self._pages, {})
            if not self._ready:
                return taken

    def rest(self) -> Iterator[dict[K, V]]:
        """What it has behind all that."""
        yield from filter(None, [self._ready])
        yield from self._pages


class Reader:
    """Reads whole jobs by their ids. Left out are those that are gone, cannot be read or are not selected."""

    def __init__(self, store: Backend, selection: Selection = ALL) -> None:
        self._store = store
        self._selection = selection
        self._size = whole.first_size()

    def pages(self, job_ids: Sequence[bytes]) -> Iterator[tuple[Sequence[bytes], list[WholeJob]]]:
        """Page by page: the ids asked for, and the jobs in their order. Where jobs are large, pages are small."""
        first = 0
        while first < len(job_ids):
            part = job_ids[first : first + self._size]
            first += len(part)
            jobs = whole.read(self._store, part)
            self._size = whole.next_size(self._size, [job.row for job in jobs])
            yield part, jobs if self._selection.is_all else [job for job in jobs if self._selection.has(job.row)]


class ahead(Iterator[T]):
    """`with ahead(pages) as pages:` The same, each read by a thread while its predecessor is worked on."""

    _END = object()

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._thread = ThreadPoolExecutor(1, "jobcard-read")
        self._next = self._thread.submit(next, self._items, self._END)

    def __enter__(self) -> ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __next__(self) -> T:
        item = self._next.result()
        if item is self._END:
            raise StopIteration
        self._next = self._thread.submit(next, self._items, self._END)
        return item  # type: ignore[return-value]
