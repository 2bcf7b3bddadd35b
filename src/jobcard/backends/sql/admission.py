"""Limits over all engines: who of those met at a claim may start, and who comes in when one has left.

Whoever decides about a limited queue or key has its turn until the transaction ends, and counts only then: in a new
snapshot, which every statement has at `read committed`. Turns are rows to lock, some hundred that all names share by
their hash. They are waited for in ascending order; one that would be out of order is taken if it is free, and if not,
the jobs of that key stay in line for the next exchange. So nobody waits in a ring: beyond that, who has a turn waits
for an operator's single row at most, and operators take no turns.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jobcard.backends.sql.connection import Connection, Rows, Step, only_row
from jobcard.backends.sql.statements import Statements, rows_of
from jobcard.backends.sql.values import or_nothing, own
from jobcard.core import rates
from jobcard.core.job import Claimed
from jobcard.core.rates import NO_STARTS, Limited, QueueLimit, Rate, Starts, Use

TURNS = 512
"""So many rows has the table of turns."""

_MOST_LET_IN = 1_000
"""So many jobs of one key come in at once where its limit is none."""


def turn_of(name: str) -> int:
    """The turn that a limited queue or key has, the same in every process."""
    return zlib.crc32(name.encode()) % TURNS


# ------------------------------------------------------------------ how far limits are used


def usage(
    connection: Connection, sql: Statements, queues: Sequence[str], keys: Sequence[str], now: int | None
) -> tuple[dict[str, Use], dict[str, Use]]:
    """How far the limits of these queues and limit keys are used."""
    names = [*map(rates.of_queue, queues), *map(rates.of_key, keys)]
    steps = [_queues_at_work(sql, queues), _starts(sql, names, now)]
    if keys:
        steps.append(_keys_at_work(sql, keys, ""))
    in_queues, starts, *of_keys = connection.run(steps)
    started = _by_name(starts)
    at_work: dict[str, int] = dict(in_queues)
    return (
        {queue: Use(at_work.get(queue, 0), started.get(rates.of_queue(queue), NO_STARTS)) for queue in queues},
        {key: Use(number, started.get(rates.of_key(key), NO_STARTS)) for rows in of_keys for key, number, _ in rows},
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


def _by_name(rows: Rows) -> dict[str, Starts]:
    found: dict[str, list[tuple[int, int]]] = {}
    for name, slot, used in rows:
        found.setdefault(name, []).append((slot, used))
    return {name: Starts(slots) for name, slots in found.items()}


# ------------------------------------------------------------------ those who come in


def held_keys(connection: Connection, sql: Statements, after: str) -> list[str]:
    """The next limit keys that hold jobs, behind one of them; none: that was the last."""
    return [key for (key,) in connection.execute(sql["held_keys"], {"after": after, "most": _MOST_LET_IN})]


def keys_with_room(connection: Connection, sql: Statements, keys: Sequence[str]) -> list[str]:
    """Those of some keys that hold jobs though not as many are at work as might be; a look without turns."""
    return list(_rooms(connection.execute(*_held_by(sql, keys))))


def let_in(connection: Connection, sql: Statements, keys: Sequence[str], most: int) -> list[int]:
    """Put jobs held by these keys back in line, as many as each has room for, in one transaction; their refs."""
    gate = Gate(connection, sql, None)
    return gate.open({}, sorted(keys), most=most)


def _held_by(sql: Statements, keys: Sequence[str]) -> Step:
    return _of_keys(sql["held_by_keys"], keys)


def _rooms(rows: Rows) -> dict[str, int]:
    """How many jobs each key has room for, of those that hold any."""
    rooms = {key: most - at_work if most >= 0 else _MOST_LET_IN for key, most, at_work in rows if most is not None}
    return {key: min(room, _MOST_LET_IN) for key, room in rooms.items() if room > 0}


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
        steps = [*self._turn_steps([*names, *map(rates.of_key, freed)]), self._moment()]
        if limits:
            steps += [_queues_at_work(self._sql, [*limits]), _starts(self._sql, names, self._clock)]
        if freed:
            steps.append(_held_by(self._sql, sorted(freed)))
        turns, moment, *answers = self._connection.run(steps)
        self._take_turns(turns, moment)
        if limits:
            at_work: dict[str, int] = dict(answers[0])
            started = _by_name(answers[1])
            for queue in limits:
                self._queues[queue] = Use(at_work.get(queue, 0), started.get(rates.of_queue(queue), NO_STARTS))
        return self._let_in(_rooms(answers[-1]), most) if freed else []

    def _turn_steps(self, names: Iterable[str]) -> list[Step]:
        wanted = sorted({turn_of(name) for name in names} - self._turns)
        in_order = not self._turns or not wanted or wanted[0] > max(self._turns)
        return [Step(self._sql["lock_turns" if in_order else "try_turns"], {"places": or_nothing(wanted)})]

    def _take_turns(self, turns: Rows, moment: Rows) -> None:
        self._turns.update(place for (place,) in turns)
        self._now = only_row(moment)[0]

    def _moment(self) -> Step:
        return Step(self._sql["moment"], {"now": self._clock})

    def _let_in(self, rooms: Mapping[str, int], most: int) -> list[int]:
        if not rooms:
            return []
        steps = []
        for key, room in rooms.items():
            asked = {"key": key, "most": room}
            steps += [Step(self._sql["first_in_line"], asked), Step(self._sql["first_held"], asked)]
        answers = iter(self._connection.run(steps))
        refs: list[int] = []
        for room, in_line, held in zip(rooms.values(), answers, answers, strict=True):
            # Those in line take up room only for those behind them: each key keeps its order.
            first = sorted([*in_line, *held])[:room]
            refs += [n for _, _, _, *at_end in first for n in at_end]
        refs = refs[:most]
        if refs:
            self._connection.run([Step(self._sql["let_in"], {"refs": sorted(refs)})])
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

    def note_claims(self, queue: str, limit: QueueLimit, number: int) -> None:
        """So many jobs of a limited queue have been claimed."""
        self._queues[queue] = self._enter(self._queues[queue], rates.of_queue(queue), limit.rate, number)

    # -- keys

    def sift(self, queue: str, met: Sequence[Claimed], most: int) -> Sifted:
        """Who of these jobs of a line may start, at most so many; whoever stands behind the last stays in line."""
        self._learn(queue, met)
        line = [job for job in met if job.limit_key in self._keys]
        answers = {
            job.ref: answer
            for job, answer in zip(line, rates.admit(map(_limits_of, line), self._keys, self._now), strict=True)
        }
        sifted = Sifted()
        for job in met:
            if len(sifted.entered) == most:
                break
            answer = rates.ENTERS if job.limit_key is None else answers.get(job.ref)
            if answer is None:
                sifted.left = True
            elif answer.enters:
                sifted.entered.append(job)
            elif answer.until:
                sifted.put_off[job.ref] = answer.until  # type: ignore[index]
            else:
                sifted.held.append(job.ref)  # type: ignore[arg-type]
        entered = Counter((job.limit_key, _rate_of(job)) for job in sifted.entered if job.limit_key is not None)
        for (key, rate), number in entered.items():
            self._keys[str(key)] = self._enter(self._keys[str(key)], rates.of_key(str(key)), rate, number)
        return sifted

    def _learn(self, queue: str, met: Sequence[Claimed]) -> None:
        """Take the turns of the keys among these jobs, as far as they are to be had, and count."""
        new = {job.limit_key for job in met if job.limit_key is not None} - self._keys.keys()
        if not new:
            return
        keys = sorted(new)
        rated = sorted({rates.of_key(job.limit_key) for job in met if job.limit_key in new and job.rate_count})
        steps = [
            *self._turn_steps(map(rates.of_key, keys)),
            self._moment(),
            _keys_at_work(self._sql, keys, queue),
            *([_starts(self._sql, rated, self._clock)] if rated else ()),
        ]
        turns, moment, at_work, *starts = self._connection.run(steps)
        self._take_turns(turns, moment)
        started = _by_name(starts[0]) if starts else {}
        mine = {job.ref for job in met}
        for key, number, first in at_work:
            if turn_of(rates.of_key(key)) in self._turns:
                # In front of ours in this line, and not met: somebody has it locked, and will claim it at his turn.
                ahead = first is not None and first not in mine
                self._keys[key] = Use(number + ahead, started.get(rates.of_key(key), NO_STARTS))

    # -- counting

    def _enter(self, use: Use, name: str, rate: Rate | None, number: int) -> Use:
        if rate is None or not number:
            return use._replace(at_work=use.at_work + number)
        slot = rate.slot_at(self._now)
        counted, until = self._counted.get((name, slot), (0, 0))
        self._counted[name, slot] = (counted + number, max(until, (slot + rates.SLOTS + 1) * rate.slot))
        return Use(use.at_work + number, Starts([*use.starts.slots, (slot, number)]))

    def closing(self) -> list[Step]:
        """The steps that keep what was counted."""
        rows = [(name, slot, number, until) for (name, slot), (number, until) in sorted(self._counted.items())]
        return [Step(self._sql["count_starts"], {"rows": rows})] if rows else []


def _limits_of(job: Claimed) -> Limited:
    return Limited(str(job.limit_key), job.key_limit, _rate_of(job))


def _rate_of(job: Claimed) -> Rate | None:
    if job.rate_count is None or job.rate_per is None:
        return None
    return Rate(job.rate_count, job.rate_per)
