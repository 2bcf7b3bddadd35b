"""Limits over all engines: who of those just claimed may start, and who comes in when one has left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from jobcard.backends.sqlite.connection import Connection
from jobcard.core import rates
from jobcard.core.job import Claimed
from jobcard.core.rates import ENTERS, MOST_KEPT_OUT, Admission, Bound, QueueLimit, Rate, Starts, Use

LET_IN_AT_ONCE = 1_000
"""Of the jobs that wait with a key in one queue so many are gone through at most when the key has room again."""

_KEYS_AT_ONCE = 200
"""So many limit keys are written in one transaction."""

_BEHIND_ALL = "\U0010ffff"
"""A text behind the name of any queue."""

Job = TypeVar("Job", bound=Bound)


def usage(
    connection: Connection, sql: Mapping[str, str], queues: Sequence[str], keys: Sequence[str]
) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
    """How far the limits of these queues and limit keys are used now."""
    return (
        {queue: _use_of_queue(connection, sql, queue) for queue in queues},
        {key: _use_of_key(connection, sql, key) for key in keys},
    )


def _use_of_queue(connection: Connection, sql: Mapping[str, str], queue: str) -> Use:
    """How far the limits of a queue are used."""
    [(at_work,)] = connection.execute(sql["queue_at_work"], (queue,))
    return Use(at_work, _starts(connection, sql, rates.of_queue(queue)))


def _use_of_key(connection: Connection, sql: Mapping[str, str], key: str) -> Use:
    """How far the limits of a limit key are used."""
    return Use(_at_work(connection, sql, key), _starts(connection, sql, rates.of_key(key)))


def _at_work(connection: Connection, sql: Mapping[str, str], key: str) -> int:
    [(at_work,)] = connection.execute(sql["key_at_work"], (key,))
    return int(at_work)


def _starts(connection: Connection, sql: Mapping[str, str], name: str) -> Starts:
    return Starts([(slot, used) for slot, used in connection.execute(sql["starts"], (name,))])


def count_starts(connection: Connection, sql: Mapping[str, str], name: str, rate: Rate, number: int, now: int) -> None:
    """Count starts of a queue or key under its rate."""
    if number:
        slot = rate.slot_at(now)
        connection.execute(sql["count_starts"], (name, slot, number, rate.lapses(slot)))


def room_in_queue(
    connection: Connection, sql: Mapping[str, str], queue: str, limit: QueueLimit | None, now: int
) -> tuple[int | None, int | None]:
    """How many more jobs of a queue may be claimed now (None: unbounded), and when its rate lets in one more."""
    if limit is None:
        return None, None
    use = _use_of_queue(connection, sql, queue)
    room = limit.room(use, now)
    free_at = None if limit.rate is None else use.starts.free_at(limit.rate, now)
    return room, free_at


# ------------------------------------------------------------------ who may start


class _InLine(NamedTuple):
    """A job in line, as the limits of its key see it."""

    ref: int
    limit_key: str | None
    key_limit: int | None
    rate_count: int | None
    rate_per: int | None


class Gate:
    """Whom the keys let start in one transaction. How far a key is used is read once, and counted on from there."""

    def __init__(self, connection: Connection, sql: Mapping[str, str], now: int) -> None:
        self._connection = connection
        self._sql = sql
        self._now = now
        self._use: dict[str, Use] = {}
        self._counted: set[str] = set()
        """Keys of which it is known how many jobs their rate has put off."""

    def sift(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Those of the jobs claimed in this transaction that may start; the others are put back, held."""
        self._read(Counter(claim.limit_key for claim in claimed))
        answers = self._ask(claimed)
        self._note(claimed, answers)
        kept_out = [(*_held(answer), claim.ref, claim.token) for claim, answer in _kept_out(claimed, answers)]
        self._connection.change_many(self._sql["keep_out"], kept_out)
        return [claim for claim, answer in zip(claimed, answers, strict=True) if answer.enters]

    def look(self, queue: str, most: int, far: int) -> tuple[int, int]:
        """Look so far into a line that `most` may start; how many may, and how far that was.

        Whom their keys keep out leave the line, so that those who may start are the first ones in it.
        """
        line = [_InLine(*row) for row in self._connection.execute(self._sql["look"], (queue, far))]
        self._read(Counter({job.limit_key: 0 for job in line}))
        answers = self._ask(line)
        entering = [place for place, answer in enumerate(answers, 1) if answer.enters][:most]
        if len(entering) == most:
            line = line[: entering[-1]]
        answers = answers[: len(line)]
        self._note(line, answers)
        kept_out = [(*_held(answer), job.ref) for job, answer in _kept_out(line, answers)]
        self._connection.change_many(self._sql["hold_back"], kept_out)
        return len(entering), len(line)

    def _read(self, claimed: Mapping[str | None, int]) -> None:
        """Read how far keys are used that are not known yet, but for so many jobs of them claimed just now."""
        for key, number in claimed.items():
            if key is not None and key not in self._use:
                use = _use_of_key(self._connection, self._sql, key)
                self._use[key] = use._replace(at_work=use.at_work - number)

    def _ask(self, line: Sequence[Bound]) -> list[Admission]:
        answers = self._answers(line)
        put_off = {str(job.limit_key) for job, answer in zip(line, answers, strict=True) if answer.until}
        if not put_off - self._counted:
            return answers
        for key in put_off - self._counted:
            [(number,)] = self._connection.execute(self._sql["put_off"], (key, self._now, MOST_KEPT_OUT))
            self._use[key] = self._use[key]._replace(kept_out=number)
        self._counted |= put_off
        return self._answers(line)

    def _answers(self, line: Sequence[Bound]) -> list[Admission]:
        limited = [rates.limits_of(job) for job in line if job.limit_key is not None]
        answers = iter(rates.admit(limited, self._use, self._now))
        return [ENTERS if job.limit_key is None else next(answers) for job in line]

    def _note(self, line: Sequence[Bound], answers: Sequence[Admission]) -> None:
        """Count those who start, and those whom a rate puts off."""
        asked = [(job, answer) for job, answer in zip(line, answers, strict=True) if job.limit_key is not None]
        for job, answer in asked:
            key = str(job.limit_key)
            use = self._use[key]
            self._use[key] = use._replace(
                at_work=use.at_work + answer.enters, kept_out=use.kept_out + (answer.until > 0)
            )
        entered = Counter((str(job.limit_key), rates.rate_of(job)) for job, answer in asked if answer.enters)
        for (key, rate), number in entered.items():
            if rate is not None:
                count_starts(self._connection, self._sql, rates.of_key(key), rate, number, self._now)
                use = self._use[key]
                starts = Starts([*use.starts.slots, (rate.slot_at(self._now), number)])
                self._use[key] = use._replace(starts=starts)


def _kept_out(line: Sequence[Job], answers: Sequence[Admission]) -> Iterator[tuple[Job, Admission]]:
    return ((job, answer) for job, answer in zip(line, answers, strict=True) if not answer.enters)


def _held(answer: Admission) -> tuple[str | None, int | None]:
    """Under which hold, and until when."""
    return None if answer.hold is None else answer.hold.value, answer.until or None


# ------------------------------------------------------------------ who comes in


def let_in(connection: Connection, sql: Mapping[str, str], keys: Collection[str], *, most: int | None = None) -> int:
    """Put the first jobs held by these keys back in line, as far as each has room for them; how many."""
    refs = [ref for key in sorted(keys) for ref in _next_of(connection, sql, key)]
    return connection.change_many(sql["let_in"], [(ref,) for ref in refs[:most]])


def _next_of(connection: Connection, sql: Mapping[str, str], key: str) -> Iterator[int]:
    # In each queue for itself: who stands in one that is not served holds up nobody.
    held = _next_held(connection, sql, key, "")
    if held is None or held[0] != key:
        return
    at_work = _at_work(connection, sql, key)
    while held is not None and held[0] == key:
        _, queue, limit = held
        if limit is None or at_work < limit:
            yield from _next_in(connection, sql, key, queue, at_work)
        held = _next_held(connection, sql, key, queue)


def _next_in(connection: Connection, sql: Mapping[str, str], key: str, queue: str, at_work: int) -> Sequence[int]:
    """Of one queue: each by its own limit, until one may not."""
    far = 32
    while True:
        waiting = connection.execute(sql["waiting_with_key"], (key, queue, far))
        coming: list[int] = []
        for place, (ref, hold, limit) in enumerate(waiting):
            if hold is None:
                continue
            if limit is not None and at_work + place >= limit:
                return coming
            coming.append(ref)
        if len(waiting) < far or far == LET_IN_AT_ONCE:
            return coming
        far = LET_IN_AT_ONCE


def _next_held(
    connection: Connection, sql: Mapping[str, str], key: str, queue: str
) -> tuple[str, str, int | None] | None:
    """The next key and queue behind these where jobs are held by a limit, and the limit of the first of those."""
    for found, its_queue, limit in connection.execute(sql["next_held"], (key, queue)):
        return found, its_queue, limit
    return None


def keys_with_room(connection: Connection, sql: Mapping[str, str], after: str) -> tuple[list[str], str | None]:
    """Some keys behind this one that hold jobs back and have room; and behind which there may be more, None: none.

    One step along an index for each key that holds jobs back, in no transaction: whoever writes looks again.
    """
    keys: list[str] = []
    key, at_work = after, 0
    held = _next_held(connection, sql, key, _BEHIND_ALL)
    while held is not None:
        found, queue, limit = held
        if found != key:
            if len(keys) == _KEYS_AT_ONCE:
                return keys, key
            key, at_work = found, _at_work(connection, sql, found)
        if (limit is None or at_work < limit) and _next_in(connection, sql, key, queue, at_work):
            keys.append(key)
            queue = _BEHIND_ALL
        held = _next_held(connection, sql, key, queue)
    return keys, None
