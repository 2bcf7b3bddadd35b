"""What a store keeps beside its jobs and takes along: queues, schedules and how far they are, once keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from jobcard.backends.base import Backend, RecordKind
from jobcard.core.clock import SECOND
from jobcard.core.job import OnceKey
from jobcard.moving import whole
from jobcard.moving.pages import Beside, Selection

_MILLISECOND = SECOND // 1000


@dataclass(frozen=True, slots=True)
class Settled:
    """How many of them there are."""

    queues: int
    schedules: int
    once_keys: int


def copy_settings(
    source: Backend, target: Backend, selection: Selection, *, keep: bool = False, exactly: bool = False
) -> Settled:
    """Write what the source has into the target; of a selection of jobs only their queues go along.

    keep: what the target has stays as it is. exactly: what the source has not goes.
    """
    counts = dict.fromkeys(whole.RECORDS, 0)
    for kind in whole.RECORDS if selection.is_all else (RecordKind.QUEUE,):
        ours = _texts(source, kind, selection.queues)
        theirs = _texts(target, kind)
        counts[kind] = len(ours)
        for key, text in ours.items():
            if theirs.get(key) != text and not (keep and key in theirs):
                target.write_record(kind, key, text)
        for key in theirs.keys() - ours.keys() if exactly else ():
            target.remove_record(kind, key)
    once_keys = _copy_once_keys(source, target, keep=keep) if selection.is_all else 0
    return Settled(counts[RecordKind.QUEUE], counts[RecordKind.SCHEDULE], once_keys)


def missing_settings(source: Backend, target: Backend, selection: Selection, *, keep: bool = False) -> list[str]:
    """What of them the target has not, or otherwise; in words. keep: otherwise is as good."""
    found = []
    for kind in whole.RECORDS if selection.is_all else (RecordKind.QUEUE,):
        theirs = _texts(target, kind)
        for key, text in _texts(source, kind, selection.queues).items():
            if key not in theirs or (theirs[key] != text and not keep):
                found.append(f"{kind} {key}")
    if selection.is_all:
        now = target.facts().now
        for page, there in _beside(source, target):
            found += [f"once key {key.key}" for key in page if key.until > now and _differs(key, there, keep=keep)]
    return found


def count_settings(source: Backend, selection: Selection) -> Settled:
    """How many of them would go along."""
    queues = len(_texts(source, RecordKind.QUEUE, selection.queues))
    if not selection.is_all:
        return Settled(queues, 0, 0)
    once_keys = sum(map(len, whole.once_keys(source)))
    return Settled(queues, len(_texts(source, RecordKind.SCHEDULE)), once_keys)


def _texts(store: Backend, kind: RecordKind, only: Collection[str] = ()) -> dict[str, str]:
    records = store.read_records(kind)
    return {record.key: record.value for record in records if not only or record.key in only}


def _copy_once_keys(source: Backend, target: Backend, *, keep: bool) -> int:
    count = 0
    for page, there in _beside(source, target):
        count += len(page)
        if differ := [key for key in page if _differs(key, there, keep=keep)]:
            target.put_once_keys(differ)
    return count


def _beside(source: Backend, target: Backend) -> Iterator[tuple[Sequence[OnceKey], dict[str, tuple[bytes, int]]]]:
    """Pages of the source's once keys, each with what the target has in its place."""
    others = Beside({key.key: _coarse(key) for key in page} for page in whole.once_keys(target))
    for page in whole.once_keys(source):
        yield page, others.up_to(page[-1].key)


def _differs(key: OnceKey, there: dict[str, tuple[bytes, int]], *, keep: bool) -> bool:
    known = there.get(key.key)
    return known is None or (known != _coarse(key) and not keep)


def _coarse(key: OnceKey) -> tuple[bytes, int]:
    """What it says, as exactly as every store keeps it."""
    return key.job_id, key.until // _MILLISECOND
