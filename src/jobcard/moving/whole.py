"""Whole jobs: read from a store that is in use, told in plain values, and summed up so that stores can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from jobcard.backends.base import Backend, Filter, Record, RecordKind
from jobcard.backends.pages import readable
from jobcard.core.job import Attempt, JobRow, LogLine, OnceKey, WholeJob

PAGE = 1_000
"""The most jobs that are read at once: as many as `put` takes."""
PAGE_TEXT = 16 << 20
"""Characters of arguments and results that a page should have at most; where jobs are large, pages are small."""
RECORDS = (RecordKind.QUEUE, RecordKind.TICK, RecordKind.SCHEDULE, RecordKind.AUDIT)
"""The records that go with the jobs, in the order in which to write them: how far a schedule is, before the schedule.

What operators did goes along, for it is told with the jobs. What engines say of themselves and are told stays with
their store, and so does the mark of a move.
"""

EVERY = Filter()

# ------------------------------------------------------------------ from a store


def newest_first(store: Backend, where: Filter = EVERY) -> Iterator[list[WholeJob]]:
    """All jobs that fit, page by page; what cannot be read is left out, and a page may be empty."""
    size = first_size()
    page = store.list(where, limit=size)
    while True:
        yield with_history(store, page.rows)
        if page.below is None:
            return
        size = next_size(size, page.rows)
        page = store.list(where, limit=size, before_id=page.below)


def read(store: Backend, job_ids: Sequence[bytes]) -> list[WholeJob]:
    """Those of up to 1,000 jobs that exist and can be read, by ascending id."""
    return with_history(store, sorted(readable(store.get, job_ids), key=lambda row: row.id))


def with_history(store: Backend, rows: Sequence[JobRow]) -> list[WholeJob]:
    """These jobs in their order, each row with the tries and lines that belong to it, also while engines work.

    Whoever has changed since its row was read comes as it is now; one that is gone by then is left out.
    """
    whole: dict[bytes, WholeJob] = {row.id: WholeJob(row, (), ()) for row in rows}
    unsure = list(rows)
    # Every claim raises the token, so a job that still has token 0 has no history.
    while job_ids := [row.id for row in unsure if row.claim_token]:
        attempts = _by_job(readable(store.attempts, job_ids))
        lines = _by_job(readable(store.log_lines, job_ids))
        # A row is read before its history, so one without any had none. Another may have got more in between: it is
        # whole if nothing has changed since.
        told = [job_id for job_id in job_ids if job_id in attempts or job_id in lines]
        now = {row.id: row for row in readable(store.get, told)} if told else {}
        unsure = []
        for job_id in told:
            row = now.get(job_id)
            if row is None:
                del whole[job_id]
            elif row.version != whole[job_id].row.version:
                whole[job_id] = WholeJob(row, (), ())
                unsure.append(row)
            else:
                whole[job_id] = WholeJob(row, attempts.get(job_id, ()), lines.get(job_id, ()))
    return list(whole.values())


def _by_job(found: Sequence[Any]) -> dict[bytes, list[Any]]:
    sorted_out: dict[bytes, list[Any]] = {}
    for each in found:
        sorted_out.setdefault(each.job_id, []).append(each)
    return sorted_out


def first_size() -> int:
    """How many jobs to read at first."""
    return PAGE // 10  # nothing is known yet of how large jobs are


def next_size(size: int, rows: Sequence[JobRow]) -> int:
    """How many jobs to read next, after a page of this size had these rows."""
    text = sum(map(text_of, rows))
    return max(1, min(PAGE, 10 * size, PAGE_TEXT * max(1, len(rows)) // max(1, text)))


def text_of(row: JobRow) -> int:
    """How much there is of a job: the characters of what may be long."""
    return len(row.args) + len(row.kwargs) + len(row.result or "") + len(row.checkpoint or "")


def once_keys(store: Backend) -> Iterator[Sequence[OnceKey]]:
    """All once keys in force, page by page, by ascending key."""
    after: str | None = None
    while True:
        page = store.once_keys(after=after, limit=PAGE)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1].key


def records(store: Backend) -> list[tuple[RecordKind, Record]]:
    """The records that go with the jobs, in the order in which to write them."""
    return [(kind, record) for kind in RECORDS for record in store.read_records(kind)]


# ------------------------------------------------------------------ in plain values


class PlainJob(msgspec.Struct, array_like=True, tag="job", forbid_unknown_fields=True):
    """A whole job as JSON: ["job", row, [[attempt, at, error] …], [[at, text] …]], ids in base64."""

    row: JobRow
    attempts: list[tuple[int, int, str]]
    lines: list[tuple[int, str]]


def to_plain(job: WholeJob) -> PlainJob:
    """A job as JSON has it."""
    return PlainJob(
        job.row, [(one.attempt, one.at, one.error) for one in job.attempts], [(one.at, one.text) for one in job.lines]
    )


def from_plain(plain: PlainJob) -> WholeJob:
    """The same job again."""
    job_id = plain.row.id
    return WholeJob(
        plain.row,
        [Attempt(job_id, attempt, at, error) for attempt, at, error in plain.attempts],
        [LogLine(job_id, at, text) for at, text in plain.lines],
    )


# ------------------------------------------------------------------ summed up

_INSTANTS = tuple(
    JobRow._fields.index(name)
    for name in ("order_at", "available_at", "created_at", "claimed_at", "started_at", "finished_at", "expires_at")
)
_LEASE = JobRow._fields.index("lease_until")


def canonical(job: WholeJob) -> bytes:
    """A job in the same bytes whichever store has it: all there is of it but its lease, instants in milliseconds.

    A store may round instants to milliseconds, and a lease is between the store and the engine that holds the job.
    """
    row: list[Any] = [*job.row]
    for place in _INSTANTS:
        if row[place] is not None:
            row[place] = _rounded(row[place])
    row[_LEASE] = None
    attempts = [(one.attempt, _rounded(one.at), one.error) for one in job.attempts]
    return msgspec.json.encode((row, attempts, [(_rounded(one.at), one.text) for one in job.lines]))


def _rounded(instant: int) -> int:
    return (instant + 500) // 1000


def checksum(job: WholeJob) -> bytes:
    """16 bytes that differ where two jobs, or what two stores have of one, differ."""
    return hashlib.blake2b(canonical(job), digest_size=16).digest()
