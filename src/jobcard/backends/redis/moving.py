"""Jobs and once keys as they are, on their way from or into another store."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jobcard.backends.redis import rows
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.scripts import MOST_BYTES, MOST_JOBS, MOST_VERSIONS, Run
from jobcard.core.job import OnceKey, WholeJob
from jobcard.core.states import ENDED
from jobcard.errors import CorruptRecordError

_log = logging.getLogger("jobcard.store")


def put(run: Run, jobs: Sequence[WholeJob]) -> list[bytes]:
    """Write jobs as they are, each in place of the one with its id; the ids of those that are not written.

    So many to a script as others can wait for: after an error some may be there, and may be put again.
    """
    # Those that have ended come first: each may give a key free that a living one has by now.
    by_id = {job.row.id: job for job in jobs}
    in_order = sorted(by_id.values(), key=lambda job: job.row.state not in ENDED)
    left_out: list[bytes] = []
    # All are packed before the first is written, so one that cannot be stored stops all of them.
    for part in _parts([rows.whole_job(job) for job in in_order]):
        texts = [text for _, *each in part for text in each]
        left_out += run("put", [job.ref for job in part], cards=texts)
    return [bytes.fromhex(ref.decode()) for ref in left_out]


def _parts(jobs: Iterable[rows.Whole]) -> Iterator[list[rows.Whole]]:
    part: list[rows.Whole] = []
    size = 0
    for job in jobs:
        part.append(job)
        size += sum(map(len, job))
        if len(part) == MOST_JOBS or size >= MOST_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def versions(run: Run, after: bytes | None, limit: int) -> list[tuple[bytes, int]]:
    """(id, version) of jobs by ascending id; -1 for one that cannot be read."""
    found: list[tuple[bytes, int]] = []
    behind: str | bool = False if after is None else after.hex()
    while len(found) < limit:
        most = min(MOST_VERSIONS, limit - len(found))
        refs, numbers = run("versions", behind, most)
        found += [(bytes.fromhex(ref.decode()), number) for ref, number in zip(refs, numbers, strict=True)]
        if len(refs) < most:
            break
        behind = refs[-1].decode()
    return found


def put_once_keys(run: Run, once_keys: Sequence[OnceKey]) -> None:
    """Write once keys as they are, in place of those that are there."""
    if once_keys:
        run("put_once_keys", [(once.key, once.job_id.hex(), once.until) for once in once_keys])


class OnceKeys:
    """Once keys by ascending key.

    They lie in a hash, which has no order: each walk through it reads ahead, and the pages behind the first one come
    from there. Whoever begins anew sees what is there now.
    """

    _AHEAD = 100_000

    def __init__(self) -> None:
        self._read: tuple[str | None, list[OnceKey]] = (None, [])

    def page(self, client: Any, keys: Keys, after: str | None, limit: int, now: int) -> list[OnceKey]:
        """Those in force above `after`, at most so many."""
        behind, ahead = self._read
        if after is None or after != behind or len(ahead) < limit:
            in_force = (
                once for once in _walk(client, keys) if once.until > now and (after is None or once.key > after)
            )
            # By key: while the hash grows a walk may come by one twice.
            first = {once.key: once for once in heapq.nsmallest(limit + self._AHEAD, in_force)}
            ahead = list(first.values())
        page = ahead[:limit]
        self._read = (page[-1].key if page else None, ahead[limit:])
        return page


def _walk(client: Any, keys: Keys) -> Iterator[OnceKey]:
    for key, text in client.hscan_iter(keys.once, count=1_000):
        try:
            job_id, until = rows.unpack(text)
            once = OnceKey(key.decode(), bytes.fromhex(job_id), int(until))
        except (CorruptRecordError, TypeError, ValueError):
            _log.warning("a once key cannot be read and was left out")
        else:
            yield once
