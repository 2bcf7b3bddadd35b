"""Everything a store has, into one file, and from it into any store."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

from jobcard.backends.base import Backend, RecordKind
from jobcard.backends.pages import readable
from jobcard.core import clock
from jobcard.core.job import JobRow, OnceKey, WholeJob
from jobcard.core.states import ALIVE, AT_WORK, Hold
from jobcard.errors import ConfigError
from jobcard.moving.archive import VERSION, EndLine, Header, OnceLine, Reader, RecordLine, Writer, is_backup
from jobcard.moving.fresh_file import fresh_file
from jobcard.moving.oldest_first import OldestFirst
from jobcard.moving.passes import KEY_TAKEN
from jobcard.moving.patience import patient
from jobcard.moving.putting import put_what_fits
from jobcard.moving.stores import is_empty
from jobcard.moving.summary import Backup, Restored
from jobcard.moving.whole import PAGE, PAGE_TEXT, PlainJob, from_plain, once_keys, records, text_of, to_plain
from jobcard.version import VERSION as MADE_BY

_log = logging.getLogger("jobcard.moving")

Tell = Callable[[int], object]
"""Hears how many jobs are done so far."""


def _unheard(_so_far: int) -> None:
    return


def path_from(given: Any) -> Path:
    """A path as users give it; `ConfigError` when it is none."""
    try:
        path = Path(os.fspath(given))
    except TypeError:
        raise ConfigError(f"the path of a backup must be text or a Path, not {type(given).__name__}") from None
    if not path.name or "\0" in str(path):
        raise ConfigError("the path of a backup must name a file")
    return path


# ------------------------------------------------------------------ into a file


def back_up(store: Backend, path: Path, *, overwrite: bool = False, tell: Tell = _unheard) -> Backup:
    """Write all jobs, once keys and settings of a store into a file, while others go on using the store.

    Every job stored before it began is in it, once, as it was at one moment while it ran. The file is read again
    before it takes its place.
    """
    store = patient(store)
    with fresh_file(path, overwrite=overwrite, may_go=is_backup, check=check) as put:
        facts = store.facts()
        writer = Writer(put, _header(facts.store, facts.now))
        # A schedule that is behind its jobs makes a tick again, whose job has the same id; ahead of them it would
        # leave one out. So how far schedules are is read before the jobs, and keys, whose jobs must be there, after.
        writer.write(RecordLine(kind, record.key, record.value) for kind, record in records(store))
        walk = OldestFirst(store, began=facts.now - clock.SECOND // 1000)  # instants may be rounded
        since = _Since(facts.now)
        for page in walk:
            writer.write(to_plain(job) for job in since.belonging(page))
            tell(writer.jobs)
        for keys in once_keys(store):
            writer.write(OnceLine(*key) for key in since.keys_belonging(store, keys))
        writer.finish(walk.unreadable)
    unreadable = tuple(map(_named, walk.unreadable))
    if unreadable:
        _log.warning(
            "backup.unreadable %d jobs cannot be read and are not in %s: %s", len(unreadable), path, unreadable
        )
    return Backup(path=path, jobs=writer.jobs, size=writer.size, unreadable=unreadable)


def _header(store: str, now: int) -> Header:
    made_at = clock.to_datetime(now).isoformat()
    return Header(VERSION, made_at, MADE_BY, store, [*JobRow._fields])


class _Since:
    """What came into the store while it was read: taken into the backup only where it fits what is there already."""

    def __init__(self, began: int) -> None:
        self._began = began
        self._unique_keys: set[int] = set()  # by their hashes: they may be many
        self._with_once_key: set[bytes] = set()

    def belonging(self, page: Iterable[WholeJob]) -> Iterator[WholeJob]:
        """These jobs but those whose unique key a living job of the backup has.

        That job was read while it lived; this one was enqueued after it had ended, and after the backup began. Where
        the backup is restored the first one lives again, and with it this one would not have been let in.
        """
        for job in page:
            row = job.row
            is_new = row.created_at >= self._began
            if row.unique_key is not None and row.state in ALIVE:
                key = hash(row.unique_key)
                if key in self._unique_keys and is_new:
                    continue
                self._unique_keys.add(key)
            if row.once_key is not None and is_new:
                self._with_once_key.add(row.id)
            yield job

    def keys_belonging(self, store: Backend, keys: Sequence[OnceKey]) -> list[OnceKey]:
        """These once keys but those of jobs that came too late for the backup.

        A key without its job would keep others from being enqueued in its stead. One whose job was deleted is kept.
        """
        late = {
            row.id
            for row in readable(store.get, [*{key.job_id for key in keys}])
            if row.created_at >= self._began and row.id not in self._with_once_key
        }
        return [key for key in keys if key.job_id not in late]


# ------------------------------------------------------------------ from a file


def restore(store: Backend, path: Path, *, merge: bool = False, tell: Tell = _unheard) -> Restored:
    """Write what a backup has into a store; `BackupError` for a damaged file, and then nothing is written.

    The store must be empty, or `ConfigError`. merge: it need not be; what it has already stays as it is. Jobs that
    were at work are taken up by the engines of the store as those of an engine that died.
    """
    store = patient(store)
    with Reader(path) as file:
        file.check()
        if not merge:
            _refuse_unless_empty(store)
        _restore_settings(store, file, merge=merge)
        return _restore_jobs(store, file, tell)


def check(path: Any) -> tuple[Header, EndLine]:
    """Read a backup whole; what it says of itself. `BackupError` when it is damaged."""
    with Reader(path_from(path)) as file:
        return file.check()


def _refuse_unless_empty(store: Backend) -> None:
    if not is_empty(store) or next(once_keys(store), None):
        raise ConfigError("the store is not empty, it has jobs, schedules or keys: say merge to leave them as they are")


def _restore_settings(store: Backend, file: Reader, *, merge: bool) -> None:
    for line in file:
        if isinstance(line, RecordLine):
            store.write_record(RecordKind(line.kind), line.key, line.value, expect=0 if merge else None)
    # Before the jobs: whoever enqueues while they come must find the keys taken.
    taken = {key.key for page in once_keys(store) for key in page}
    new = (line.whole() for line in file if isinstance(line, OnceLine) and line.key not in taken)
    while keys := {key.key: key for key in islice(new, PAGE)}:
        store.put_once_keys([*keys.values()])


def _restore_jobs(store: Backend, file: Reader, tell: Tell) -> Restored:
    now = store.facts().now
    written = present = done = 0
    refused: dict[UUID, str] = {}
    for lines in _pages(_held_last(file)):
        there = {row.id for row in readable(store.get, [line.row.id for line in lines])}
        new = [_let_go(from_plain(line), now) for line in lines if line.row.id not in there]
        not_put = put_what_fits(store, new)
        why = dict.fromkeys(not_put.taken, KEY_TAKEN) | not_put.refused
        refused |= {_named(job_id): text for job_id, text in why.items()}
        written += len(new) - len(why)
        present += len(there)
        done += len(lines)
        tell(done)
    return Restored(jobs=written, present=present, refused=refused)


def _held_last(file: Reader) -> Iterator[PlainJob]:
    """The jobs, those that wait for others last: an engine must not take for over what is not all there yet."""
    some_held = False
    for line in file:
        if isinstance(line, PlainJob):
            if line.row.hold == Hold.AFTER:
                some_held = True
            else:
                yield line
    if some_held:
        yield from (line for line in file if isinstance(line, PlainJob) and line.row.hold == Hold.AFTER)


def _named(job_id: bytes) -> UUID:
    return UUID(bytes=job_id.ljust(16, b"\0")[:16])  # somebody may have written another id into a store by hand


def _let_go(job: WholeJob, now: int) -> WholeJob:
    """The job as whoever takes it up needs it: its engine is not here, so its lease has run out."""
    row = job.row
    if row.state not in AT_WORK or row.lease_until is None or row.lease_until <= now:
        return job
    return job._replace(row=row._replace(lease_until=now))


def _pages(jobs: Iterable[PlainJob]) -> Iterator[list[PlainJob]]:
    """So many at a time as can be held at once."""
    page: list[PlainJob] = []
    text = 0
    for job in jobs:
        page.append(job)
        text += text_of(job.row)
        if len(page) == PAGE or text >= PAGE_TEXT:
            yield page
            page, text = [], 0
    if page:
        yield page
