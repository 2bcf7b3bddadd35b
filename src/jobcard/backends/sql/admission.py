"""Limits over all engines: who of those met at a claim may start, and who comes in when one has left.

Whoever decides about a limited queue or key has its turn until the transaction ends, and counts only then: in a new
snapshot, which every statement has at `read committed`. Turns are rows to lock, some hundred that all names share by
their hash. They are waited for in ascending order; one that would be out of order is taken if it is free, and if not,
the jobs of that key stay in line for the next exchange. So nobody waits in a ring: beyond that, who has a turn waits
for an operator's single row at most, and who has such a row waits for no turn.
"""

from __future__ import annotations

import contextlib
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jobcard.backends.sql import sealing
from jobcard.backends.sql.connection import Connection, Row, Rows, Step, only_row
from jobcard.backends.sql.statements import Statements, pairs_of, rows_of
from jobcard.backends.sql.values import or_nothing, own
from jobcard.core import rates
from jobcard.core.job import Claimed
from jobcard.core.rates import MOST_KEPT_OUT, NO_STARTS, QueueLimit, Rate, Starts, Use
from jobcard.errors import StoreMovedError, StoreUnavailableError

TURNS = 512
"""So many rows has the table of turns."""

_MOST_LET_IN = 1_000
"""So many jobs of one key come in at once in a queue where its limit is none."""

_NO_LIMIT = 1 << 62


def turn_of(name: str) -> int:
    """The turn that a limited queue or key has, the same in every process."""
    return zlib.crc32(name.encode()) % TURNS


# ------------------------------------------------------------------ how far limits are used


def usage(
    connection: Connection, sql: Statements, queues: Sequence[str], keys: Sequence[str], now: int | None
) -> tuple[dict[str, Use], dict[str, Use]]:
    """How far the limits of these queues and limit keys are used now."""
    names = [*map(rates.of_queue, queues), *map(rates.of_key, keys)]
    steps = [_queues_at_work(sql, queues), _starts(sql, names, now)]
    if keys:
        steps.append(_keys_at_work(sql, keys, ""))
        steps += _kept_out(sql, keys, now)
    in_queues, starts, *of_keys = connection.run(steps)
    started = _by_name(starts)
    at_work: dict[str, int] = dict(in_queues)
    kept_out = _by_key(keys, of_keys[1:])
    return (
        {queue: Use(at_work.get(queue, 0), started.get(rates.of_queue(queue), NO_STARTS)) for queue in queues},
        {
            key: Use(number, started.get(rates.of_key(key), NO_STARTS), kept_out[key])
            for rows in of_keys[:1]
            for key, number, _ in rows
        },
    )


def _queues_at_work(sql: Statements, queues: Sequence[str]) -> Step:
    return Step(sql["queue_at_work"], {"queues": or_nothing(queues)})


def _keys_at_work(sql: Statements, keys: Sequence[str], queue: str) -> Step:
    return _of_keys(sql["key_at_work"], keys, queue=queue)


def _of_keys(text: str, keys: Sequence[str], **values: object) -> Step:
    wanted = {f"key_{place}": key for place, key in enumerate(keys)}
    return Step(text.replace("{wanted}", rows_of(wanted, "name")), {**wanted, **values})


def _starts(sql: Statements, names: Sequence[str], now: int | None) -> Step:
    return Step(sql["starts"], {"names": or_nothing(names), "now": now})


def _kept_out(sql: Statements, keys: Sequence[str], now: int | None) -> list[Step]:
    asked = {"most": MOST_KEPT_OUT, "now": now}
    return [Step(sql["kept_out"], {"key": key, "name": rates.of_key(key), **asked}) for key in keys]


def _by_key(keys: Sequence[str], answers: Sequence[Rows]) -> dict[str, int]:
    return {key: only_row(rows)[0] for key, rows in zip(keys, answers, strict=True)}


def _by_name(rows: Rows) -> dict[str, Starts]:
    found: dict[str, list[tuple[int, int]]] = {}
    for name, slot, used in rows:
        found.setdefault(name, []).append((slot, used))
    return {name: Starts(slots) for name, slots in found.items()}


# ------------------------------------------------------------------ those who come in


Place = tuple[str, str]
"""A limit key, and a queue in which it holds jobs."""

_NO_PLACE: Place = ("", "")
"""Before all others."""


def let_in_all(connection: Connection, sql: Statements, limit: int) -> int:
    """Put at most so many jobs back in line whose limit key has room again; how many."""
    number, after = 0, _NO_PLACE
    sealing.begin(connection, sql)
    while number < limit and (held := _held_keys(connection, sql, after)):
        after = held[-1]
        if roomy := _keys_with_room(connection, sql, held):
            most = limit - number  # each lets in one at least
            number += let_in(connection, sql, roomy[:most], most)
    return number


def _held_keys(connection: Connection, sql: Statements, after: Place) -> list[Place]:
    """The next limit keys that hold jobs, in each queue, behind one of them; none: that was the last."""
    key, queue = after
    return [*connection.execute(sql["held_keys"], {"key": key, "queue": queue, "most": _MOST_LET_IN})]


def _keys_with_room(connection: Connection, sql: Statements, places: Sequence[Place]) -> list[str]:
    """Those of some keys that hold jobs though not as many are at work as might be; a look without turns."""
    wanted: dict[str, object] = {}
    for number, (key, queue) in enumerate(places):
        wanted |= {f"name_{number}": key, f"queue_{number}": queue}
    text = sql["with_room"].replace("{wanted}", pairs_of(len(places), "name", "queue"))
    return sorted(key for (key,) in connection.execute(text, {**wanted, "none": _NO_LIMIT}))


def let_in(connection: Connection, sql: Statements, keys: Collection[str], most: int = _MOST_LET_IN) -> int:
    """Put jobs held by these keys back in line, as many as each has room for, in one transaction; how many."""

    def work() -> int:
        with connection.transaction():
            refs = Gate(connection, sql, None).open({}, keys, most=most)
            if refs:
                connection.commit(Step(sql["raise_rings"]))
        return len(refs)

    return connection.again(work)


def let_in_after(connection: Connection, sql: Statements, keys: Collection[str]) -> None:
    """Let in those who stood behind a job that an operator, or a producer, has just moved.

    In a transaction of its own: who has a job's row must not wait for a turn. What has been stored stays so when this
    fails, and a `let_in` of an engine mends it; or the store was sealed just now, and it is mended where its jobs go.
    """
    if keys:
        with contextlib.suppress(StoreUnavailableError, StoreMovedError):
            let_in(connection, sql, keys)


def _held_by(sql: Statements, keys: Sequence[str]) -> Step:
    return _of_keys(sql["held_by_keys"], keys)


class Held(NamedTuple):
    """A limit key in one of the queues in which it holds jobs. at_work: in all queues."""

    key: str
    at_work: int
    queue: str
    first_limit: int | None
    """What the first job brings that is held there; None: no limit."""

    @property
    def room(self) -> int:
        """How many come in, as far as the first one's limit says."""
        return _MOST_LET_IN if self.first_limit is None else min(self.first_limit - self.at_work, _MOST_LET_IN)

    def looks(self, sql: Statements, most: int) -> list[Step]:
        """The steps that find the first so many jobs in line, and of those held."""
        asked = {"key": self.key, "queue": self.queue, "most": most}
        return [Step(sql["first_in_line"], asked), Step(sql["first_held"], asked)]

    def next_one(self, sql: Statements) -> Step:
        """The step that finds the next queue."""
        return Step(sql["next_held"], {"key": self.key, "queue": self.queue})


def who_comes_in(in_line: Sequence[Row], held: Sequence[Row], at_work: int, most: int) -> tuple[list[int], bool]:
    """Of the first jobs held in a queue the refs of those that come in, each by its own limit, in order.

    most: so many of each kind were asked for. False: who comes behind them has not been seen, and might come in too.
    """
    refs: list[int] = []
    for *place, ref, limit in held:
        before = bisect_left(in_line, tuple(place))
        if limit is not None:
            if before + len(refs) >= limit - at_work:
                return refs, True
            if before == most:
                return refs, False
        refs.append(ref)
    return refs, len(held) < most


# ------------------------------------------------------------------ one exchange


@dataclass(slots=True)
class Sifted:
    """What becomes of some jobs of a line. left: whether any stays in line as another decides about its key."""

    entered: list[Claimed] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    put_off: dict[int, int] = field(default_factory=dict)
    left: bool = False

    def steps(self, sql: Statements) -> list[Step]:
        """The steps that keep out those who may not start yet; they were never claimed, so they have spent nothing."""
        steps = []
        if self.held:
            steps.append(Step(sql["hold_back"], {"refs": sorted(self.held)}))
        if self.put_off:
            refs, untils = zip(*sorted(self.put_off.items()), strict=True)
            place, value = own("until", refs, untils, sql.dialect.own_value)
            steps.append(Step(sql["put_off"].replace("{until}", place), {"refs": refs, "until": value}))
        return steps


class Gate:
    """Who may start, in the transaction of one exchange: it takes turns as it needs them and knows who has entered."""

    def __init__(self, connection: Connection, sql: Statements, clock: int | None) -> None:
        self._connection = connection
        self._sql = sql
        self._clock = clock
        self._turns: set[int] = set()
        self._queues: dict[str, Use] = {}
        self._keys: dict[str, Use] = {}
        self._counted: dict[tuple[str, int], tuple[int, int]] = {}
        self._now = 0

    # -- turns

    def open(self, limits: Mapping[str, QueueLimit], freed: Collection[str], *, most: int = _MOST_LET_IN) -> list[int]:
        """Take the turns of limited queues and of freed keys; refs of the jobs that these let back in line."""
        names = [*map(rates.of_queue, limits)]
        steps = self._turn_steps([*names, *map(rates.of_key, freed)])
        if limits:
            steps += [_queues_at_work(self._sql, [*limits]), _starts(self._sql, names, self._clock)]
        if freed:
            steps.append(_held_by(self._sql, sorted(freed)))
        turns, *answers, moment = self._connection.run([*steps, self._moment()])
        self._take_turns(turns, moment)
        if limits:
            at_work: dict[str, int] = dict(answers[0])
            started = _by_name(answers[1])
            for queue in limits:
                self._queues[queue] = Use(at_work.get(queue, 0), started.get(rates.of_queue(queue), NO_STARTS))
        return self._let_in([Held(*row) for row in answers[-1] if row[2] is not None], most) if freed else []

    def _turn_steps(self, names: Iterable[str]) -> list[Step]:
        wanted = sorted({turn_of(name) for name in names} - self._turns)
        in_order = not self._turns or not wanted or wanted[0] > max(self._turns)
        return [Step(self._sql["lock_turns" if in_order else "try_turns"], {"places": or_nothing(wanted)})]

    def _take_turns(self, turns: Rows, moment: Rows) -> None:
        self._turns.update(place for (place,) in turns)
        self._now = only_row(moment)[0]

    def _moment(self) -> Step:
        # Asked last: what lapses while the starts are counted is known, and counts, at any instant before that.
        return Step(self._sql["moment"], {"now": self._clock})

    def _let_in(self, lines: Sequence[Held], most: int) -> list[int]:
        """Let in the first ones of each line by itself, and so in every further queue in which its key holds jobs."""
        refs: list[int] = []
        while lines:
            roomy = [line for line in lines if line.room > 0]
            # One more than there is room for, so that all are seen who may come in, as a rule.
            looks = [step for line in roomy for step in line.looks(self._sql, line.room + 1)]
            answers = self._connection.run([*(line.next_one(self._sql) for line in lines), *looks])
            found = iter(answers[len(lines) :])
            for line, in_line, held in zip(roomy, found, found, strict=True):
                refs += self._who_comes_in(line, in_line, held)
            lines = [
                line._replace(queue=queue, first_limit=limit)
                for line, rows in zip(lines, answers, strict=False)
                for queue, limit in rows
            ]
        refs = refs[:most]
        if refs:
            self._connection.run([Step(self._sql["let_in"], {"refs": sorted(refs)})])
        return refs

    def _who_comes_in(self, line: Held, in_line: Rows, held: Rows) -> list[int]:
        most = line.room + 1
        refs, all_seen = who_comes_in(in_line, held, line.at_work, most)
        while not all_seen and most < _MOST_LET_IN:
            most = min(4 * most, _MOST_LET_IN)
            in_line, held = self._connection.run(line.looks(self._sql, most))
            refs, all_seen = who_comes_in(in_line, held, line.at_work, most)
        return refs

    # -- queues

    def room_in(self, queue: str, limit: QueueLimit, most: int) -> int:
        """How many jobs of a limited queue may be claimed, `most` at the most."""
        room = limit.room(self._queues[queue], self._now)
        return most if room is None else min(most, room)

    def free_in(self, queue: str, limit: QueueLimit) -> int | None:
        """In how many microseconds the rate of a queue lets in one more, if it is used up."""
        if limit.rate is None:
            return None
        return max(0, self._queues[queue].starts.free_at(limit.rate, self._now) - self._now) or None

    def enter(self, queue: str, limit: QueueLimit, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Note these claims of a limited queue; the same, claimed at the instant at which they count."""
        self._queues[queue] = self._enter(self._queues[queue], rates.of_queue(queue), limit.rate, len(claimed))
        return [job._replace(claimed_at=self._now) for job in claimed]

    # -- keys

    def sift(self, queue: str, met: Sequence[Claimed], most: int) -> Sifted:
        """Who of these jobs of a line may start, at most so many; whoever stands behind the last stays in line.

        Those who may are claimed at the instant at which they count.
        """
        self._learn(queue, met)
        line = [job for job in met if job.limit_key in self._keys]
        answers = {
            job.ref: answer
            for job, answer in zip(line, rates.admit(map(rates.limits_of, line), self._keys, self._now), strict=True)
        }
        sifted = Sifted()
        for job in met:
            if len(sifted.entered) == most:
                break
            answer = rates.ENTERS if job.limit_key is None else answers.get(job.ref)
            if answer is None:
                sifted.left = True
            elif answer.enters:
                sifted.entered.append(job._replace(claimed_at=self._now))
            elif answer.until:
                sifted.put_off[job.ref] = answer.until  # type: ignore[index]
            else:
                sifted.held.append(job.ref)  # type: ignore[arg-type]
        entered = Counter(rates.limits_of(job)._replace(key_limit=None) for job in sifted.entered if job.limit_key)
        for (key, _, rate), number in entered.items():
            self._keys[key] = self._enter(self._keys[key], rates.of_key(key), rate, number)
        for key, number in Counter(str(job.limit_key) for job in line if job.ref in sifted.put_off).items():
            self._keys[key] = self._keys[key]._replace(kept_out=self._keys[key].kept_out + number)
        return sifted

    def _learn(self, queue: str, met: Sequence[Claimed]) -> None:
        """Take the turns of the keys among these jobs, as far as they are to be had, and count."""
        new = {job.limit_key for job in met if job.limit_key is not None} - self._keys.keys()
        if not new:
            return
        keys = sorted(new)
        rated = sorted({job.limit_key for job in met if job.limit_key in new and rates.rate_of(job) is not None})
        steps = [
            *self._turn_steps(map(rates.of_key, keys)),
            _keys_at_work(self._sql, keys, queue),
            *_kept_out(self._sql, rated, self._clock),
            *([_starts(self._sql, [*map(rates.of_key, rated)], self._clock)] if rated else ()),
            self._moment(),
        ]
        turns, at_work, *counts, moment = self._connection.run(steps)
        self._take_turns(turns, moment)
        kept_out = _by_key(rated, counts[: len(rated)])
        started = _by_name(counts[-1]) if rated else {}
        mine = {job.ref for job in met}
        for key, number, first in at_work:
            if turn_of(rates.of_key(key)) in self._turns:
                # In front of ours in this line, and not met: somebody has it locked, and will claim it at his turn.
                ahead = first is not None and first not in mine
                starts_of_key = started.get(rates.of_key(key), NO_STARTS)
                self._keys[key] = Use(number + ahead, starts_of_key, kept_out.get(key, 0))

    # -- counting

    def _enter(self, use: Use, name: str, rate: Rate | None, number: int) -> Use:
        if rate is None or not number:
            return use._replace(at_work=use.at_work + number)
        slot = rate.slot_at(self._now)
        counted, until = self._counted.get((name, slot), (0, 0))
        self._counted[name, slot] = (counted + number, max(until, rate.lapses(slot)))
        return Use(use.at_work + number, Starts([*use.starts.slots, (slot, number)]))

    def closing(self) -> list[Step]:
        """The steps that keep what was counted."""
        rows = [(name, slot, number, until) for (name, slot), (number, until) in sorted(self._counted.items())]
        return [Step(self._sql["count_starts"], {"rows": rows})] if rows else []
