"""Whether a target has what a source has: each job by its digest, and all of them by one checksum of either store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from jobcard.backends.base import Backend
from jobcard.core.job import WholeJob
from jobcard.moving import whole
from jobcard.moving.pages import ALL, NO_DIFFERENCE, Difference, Reader, Selection, ahead, differences

Digests = dict[bytes, bytes]

NAMED = 20
"""So many jobs that differ are named; all are counted."""


class Sum:
    """One checksum of many jobs, whatever their order."""

    __slots__ = ("_total", "jobs")

    def __init__(self) -> None:
        self._total = 0
        self.jobs = 0

    def add(self, checksums: Iterable[bytes]) -> None:
        """Count these jobs in."""
        for each in checksums:
            self._total += int.from_bytes(each, "big")
            self.jobs += 1

    def __str__(self) -> str:
        return f"{self._total % (1 << 128):032x}"


@dataclass(slots=True)
class Verified:
    """What came of it. jobs: those of the source. others: jobs that the target alone has."""

    jobs: int = 0
    missing: int = 0
    different: int = 0
    others: int = 0
    unreadable: int = 0
    source: Sum = field(default_factory=Sum)
    target: Sum = field(default_factory=Sum)
    names: list[str] = field(default_factory=list)
    """The first few that are missing or different."""
    settings: list[str] = field(default_factory=list)
    """What else is missing or different, in words."""

    @property
    def is_equal(self) -> bool:
        """Whether every job of the source is in the target as it is; what else that has does not count."""
        return not (self.missing or self.different or self.settings)

    def name(self, job_ids: Sequence[bytes]) -> None:
        """Name these, as far as there is room."""
        self.names += [str(UUID(bytes=job_id)) for job_id in job_ids[: max(0, NAMED - len(self.names))]]


def verify(
    source: Backend,
    target: Backend,
    selection: Selection = ALL,
    *,
    merged: bool = False,
    beat: Callable[[], None] = lambda: None,
    tell: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Read every job of both stores, and compare. merged: what the target has in another version is its own affair."""
    verified = Verified()
    reader = Reader(source, selection)

    def pages() -> Iterator[tuple[Difference, Digests]]:
        for difference in differences(source, target):
            yield difference, {}
            changed = () if merged else difference.changed
            for _, jobs in reader.pages(sorted([*difference.missing, *difference.same, *changed])):
                yield NO_DIFFERENCE, digests(jobs)

    with ahead(pages()) as read:
        for difference, ours in read:
            beat()
            verified.others += len(difference.gone)
            verified.unreadable += len(difference.unreadable)
            _compare(verified, target, ours)
            tell(verified.jobs)
    return verified


def doubtful(
    source: Backend,
    target: Backend,
    *,
    beat: Callable[[], None] = lambda: None,
    tell: Callable[[int], None] = lambda _: None,
) -> set[bytes]:
    """The jobs that have one version in both stores and yet are not the same, while the source is in use."""
    found: set[bytes] = set()
    seen = 0
    reader = Reader(source)

    def pages() -> Iterator[tuple[Sequence[bytes], Digests]]:
        for difference in differences(source, target):
            for job_ids, jobs in reader.pages(difference.same):
                yield job_ids, digests(jobs)

    with ahead(pages()) as read:
        for job_ids, ours in read:
            beat()
            theirs = digests(whole.read(target, job_ids))
            found |= {job_id for job_id in job_ids if ours.get(job_id) != theirs.get(job_id)}
            seen += len(job_ids)
            tell(seen)
    return found


def verify_some(
    source: Backend, target: Backend, some: Collection[bytes], *, beat: Callable[[], None] = lambda: None
) -> Verified:
    """Compare all jobs by their versions, and these as they are."""
    verified = Verified()
    for difference in differences(source, target):
        beat()
        verified.jobs += len(difference.same)
        verified.missing += len(difference.missing)
        verified.different += len(difference.changed)
        verified.others += len(difference.gone)
        verified.unreadable += len(difference.unreadable)
        verified.name([*difference.missing, *difference.changed])
    closely = Verified()
    for _, jobs in Reader(source).pages(sorted(some)):
        beat()
        _compare(closely, target, digests(jobs))
    verified.different += closely.different
    verified.names += closely.names
    return verified


def digests(jobs: Sequence[WholeJob]) -> Digests:
    """The checksum of each job, by its id."""
    return {job.row.id: whole.checksum(job) for job in jobs}


def _compare(verified: Verified, target: Backend, ours: Digests) -> None:
    if not ours:
        return
    theirs = digests(whole.read(target, list(ours)))
    missing = [job_id for job_id in ours if job_id not in theirs]
    different = [job_id for job_id, mine in ours.items() if theirs.get(job_id, mine) != mine]
    verified.jobs += len(ours)
    verified.source.add(ours.values())
    verified.target.add(theirs.values())
    verified.missing += len(missing)
    verified.different += len(different)
    verified.name([*missing, *different])
