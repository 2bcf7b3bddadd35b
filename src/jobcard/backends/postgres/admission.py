"""Limits over all engines: who of those just claimed may start, and who comes in when one has left.

Jobs at work are the permits, so nothing has to be given back after a crash. Who claims a job with a limit key, frees
one, or claims from a limited queue holds the lock of that name until its transaction ends: whoever comes second counts
what the first has done. A transaction waits for such locks twice at most, and each time for several in one order:

    once keys and queues ─► rows that change ─► keys ─► (only what nobody has)

Later on it takes a key's lock only if nobody has it; else that key's jobs stay in line for the next exchange.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from jobcard.backends.base import Want
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.lookup import can_be_stored
from jobcard.backends.postgres.values import Id, Ids, Numbers, Texts
from jobcard.core import rates
from jobcard.core.job import Claimed, Ref
from jobcard.core.rates import Admission, QueueLimit, Rate, Starts, Use

Sql = Mapping[str, str]

_ROUNDS = 16
_MOST = 500
"""So many rounds an exchange looks behind those that their keys keep out, and so many jobs a round."""

_SOON = 10_000
"""Microseconds until an exchange may look again at jobs whose keys somebody else has just in hand."""

_KEYS_AT_ONCE = 200
"""So many limit keys are looked at in one transaction, each in one queue."""

ALL = 1 << 31
"""More jobs than are let in at once."""


# ------------------------------------------------------------------ steps


def lock(sql: Sql, names: Collection[str]) -> list[Step]:
    """The step that takes the locks of these names; [] for none."""
    return [Step(sql["lock_names"], {"names": Texts(names)})] if names else []


def try_lock(sql: Sql, names: Collection[str]) -> list[Step]:
    """The step that takes those locks of these names that nobody has, and tells which; [] for none."""
    return [Step(sql["try_lock_names"], {"names": Texts(names)})] if names else []


def let_in(sql: Sql, keys: Collection[str], limit: int = ALL) -> list[Step]:
    """The steps that put the first jobs with these keys in line; the last one tells how many. [] for no keys."""
    if not keys:
        return []
    locked = lock(sql, [rates.of_key(key) for key in keys])
    return [*locked, Step(sql["let_in"], {"keys": Texts(sorted(keys)), "ids": Ids(()), "limit": limit})]


def let_in_after(sql: Sql, job_id: bytes) -> list[Step]:
    """The steps that do so for the key of a job that was just changed, if it has one."""
    lock_it = Step(sql["lock_key_of"], {"prefix": rates.of_key(""), "id": Id(job_id)})
    return [lock_it, Step(sql["let_in"], {"keys": Texts(()), "ids": Ids([job_id]), "limit": ALL})]


def let_in_all(connection: Connection, sql: Sql, limit: int) -> int:
    """Put at most so many jobs back in line whose limit key has room again; how many."""
    number, last = 0, ("", "")
    while number < limit:
        values = {"key": last[0], "queue": last[1], "limit": _KEYS_AT_ONCE}
        held = connection.execute(sql["held_keys"], values)
        if keys := {key for key, _, has_room in held if has_room}:
            [[number_in]] = connection.run(let_in(sql, keys, limit - number))[-1]
            number += number_in
        if len(held) < _KEYS_AT_ONCE:
            break
        last = held[-1][:2]
    return number


def use_of_queues(sql: Sql, queues: Sequence[str], now: int | None) -> Step:
    """The step that asks how far the limits of some queues are used."""
    names = Texts(map(rates.of_queue, queues))
    return Step(sql["queue_use"], {"queues": Texts(queues), "names": names, "now": now})


def use_of_keys(sql: Sql, keys: Sequence[str], now: int | None) -> Step:
    """The step that asks how far the limits of some limit keys are used."""
    return Step(sql["key_use"], {"keys": Texts(keys), "names": Texts(map(rates.of_key, keys)), "now": now})


def usage(
    connection: Connection, sql: Sql, queues: Sequence[str], keys: Sequence[str], now: int | None
) -> tuple[dict[str, Use], dict[str, Use]]:
    """How far the limits of these queues and limit keys are used now."""
    known = [[name for name in names if can_be_stored(name)] for names in (queues, keys)]
    used = connection.run([use_of_queues(sql, known[0], now), use_of_keys(sql, known[1], now)])
    of_queues, of_keys = map(to_uses, used)
    none = Use(0)
    return {queue: of_queues.get(queue, none) for queue in queues}, {key: of_keys.get(key, none) for key in keys}


def to_uses(rows: Sequence[Row]) -> dict[str, Use]:
    """What the steps that ask how far limits are used answer, by name."""
    return {
        name: Use(at_work, Starts(list(zip(slots, used, strict=True))), *kept_out)
        for name, at_work, slots, used, *kept_out, _ in rows
    }


def in_line(sql: Sql, queues: Collection[str]) -> Step:
    """The step that tells in which of some queues jobs stand in line."""
    return Step(sql["in_line"], {"queues": Texts(queues)})


def leaves_room(
    limits: Mapping[str, QueueLimit],
    uses: Sequence[Row],
    waiting: Sequence[Row],
    claimed: Sequence[Claimed],
    settled: int,
) -> bool:
    """Whether an exchange that settled so many set a place of a full queue free, and left it to others.

    uses, waiting: what `use_of_queues` told before the claim, and `in_line` after it.
    """
    now = next((now for *_, now in uses), 0)
    queues = {queue for (queue,) in waiting}
    for queue, use in to_uses(uses).items():
        room = limits[queue].room(_after(use, limits[queue], claimed, queue, now), now)
        # Where there is more, there was room before as well.
        if queue in queues and room is not None and 0 < room <= settled:
            return True
    return False


def full_queues(limits: Mapping[str, QueueLimit], uses: Sequence[Row], claimed: Sequence[Claimed]) -> set[str]:
    """Those of some queues that have no place until one is set free; not those of a rate, which lets jobs in by itself.

    uses: what `use_of_queues` told before these were claimed.
    """
    return {
        queue
        for queue, use in to_uses(uses).items()
        if (limit := limits[queue]).rate is None and limit.room(_after(use, limit, claimed, queue, 0), 0) == 0
    }


def _after(use: Use, limit: QueueLimit, claimed: Sequence[Claimed], queue: str, now: int) -> Use:
    """How far a queue's limits are used after a claim."""
    new = sum(claim.queue == queue for claim in claimed)
    slots = use.starts.slots if limit.rate is None else [*use.starts.slots, (limit.rate.slot_at(now), new)]
    return Use(use.at_work + new, Starts(slots))


# ------------------------------------------------------------------ claiming


class Entrance:
    """The claims of one exchange where limits count, inside its transaction.

    The queues are walked as they are wanted: first all of them at once, then, as long as keys keep jobs out, what
    stands behind those in the same queue.
    """

    def __init__(
        self,
        ask_all: Callable[[Sequence[Step]], list[list[Row]]],
        sql: Sql,
        *,
        now: int | None,
        want: Want,
        locked: Collection[str],
        uses: Sequence[Row],
        claim: Callable[[Want], list[Claimed]],
    ) -> None:
        """locked: keys whose locks are ours. uses: what `use_of_queues` told of the limited ones.

        claim: takes the first jobs of some queues, in order.
        """
        self._ask_all = ask_all
        self._sql = sql
        self._given_now = now
        self._claim = claim
        self._uses = to_uses(uses)
        self._now = next((now for *_, now in uses), 0)
        self._limits = {queue: want.limits[queue] for queue in self._uses}
        self._rooms = {queue: self._room(queue, most) for queue, most in want.queues if most > 0}
        self._left = want.total
        self._open = set(self._rooms)
        self._locked = set(locked)
        self._passed: list[Claimed] = []
        self._passed_keys: set[str | None] = set()
        self._claimed: list[Claimed] = []
        self._goes_on = False

    def _room(self, queue: str, most: int) -> int:
        limit = self._limits.get(queue)
        room = None if limit is None else limit.room(self._uses[queue], self._now)
        return most if room is None else min(most, room)

    def walk(self) -> list[Claimed]:
        """Claim what may start; the caller ends with `closing`."""
        self._round(list(self._rooms.items()), self._left)
        rounds = 1
        for queue in self._rooms:
            size = 0
            while queue in self._open and (room := min(self._rooms[queue], self._left)) > 0:
                if rounds == _ROUNDS:
                    self._goes_on = True
                    return self._claimed
                rounds += 1
                size = max(room, min(2 * size, _MOST))
                self._round([(queue, size)], size)
        return self._claimed

    def _round(self, wanted: Sequence[tuple[str, int]], total: int) -> None:
        wanted = [(queue, number) for queue, number in wanted if number > 0]
        taken = self._claim(Want(wanted, total)) if wanted and total > 0 else []
        found = Counter(claim.queue for claim in taken)
        for queue, number in wanted:
            if found[queue] < min(number, total):
                self._open.discard(queue)
            total -= found[queue]
        if taken:
            self._sift(taken)

    def _sift(self, taken: Sequence[Claimed]) -> None:
        """Who of these may start; the others go back."""
        answers, late = self._ask_keys([claim for claim in taken if claim.limit_key is not None])
        too_many: list[Claimed] = []
        kept_out: list[tuple[Claimed, Admission]] = []
        entered: list[Claimed] = []
        for claim in taken:
            answer = answers.get(claim.ref, rates.ENTERS)
            if claim.ref in late:
                self._passed_keys.add(claim.limit_key)
            if self._left <= 0 or self._rooms[claim.queue] <= 0:
                too_many.append(claim)
            elif claim.limit_key in self._passed_keys:
                # It stays claimed until the end, lest the next round meets it again.
                self._passed.append(claim)
            elif not answer.enters:
                kept_out.append((claim, answer))
            else:
                entered.append(self._at_its_instant(claim))
                self._left -= 1
                self._rooms[claim.queue] -= 1
        self._claimed += entered
        if steps := [
            *self._leave(too_many),
            *self._keep_out(kept_out),
            *self._stamp([claim for claim in entered if rates.rate_of(claim)]),
            *self._count(entered),
        ]:
            self._ask_all(steps)

    def _ask_keys(self, limited: Sequence[Claimed]) -> tuple[dict[Ref, Admission], set[Ref]]:
        """What the limits of keys say to jobs, in order; and before which of them others of their key stand in line."""
        if not limited:
            return {}, set()
        new = Counter(str(claim.limit_key) for claim in limited)
        names = {rates.of_key(key): key for key in new.keys() - self._locked - self._passed_keys}
        # The first time it may wait: nobody waits for us who has a lock of a key. Later on it would go round in a ring.
        may_wait = not self._locked
        locking = lock(self._sql, names) if may_wait else try_lock(self._sql, names)
        refs = Numbers(claim.ref for claim in limited)  # type: ignore[misc]
        steps = [Step(self._sql["behind"], {"refs": refs}), use_of_keys(self._sql, list(new), self._given_now)]
        *got, behind, uses = self._ask_all([*locking, *steps])
        self._locked |= {*names.values()} if may_wait else {names[name] for rows in got for (name,) in rows}
        self._passed_keys |= new.keys() - self._locked
        self._now = uses[0][-1]
        use = {key: use._replace(at_work=use.at_work - new[key]) for key, use in to_uses(uses).items()}
        answers = rates.admit(map(rates.limits_of, limited), use, self._now)
        return {claim.ref: answer for claim, answer in zip(limited, answers, strict=True)}, {ref for (ref,) in behind}

    def _leave(self, claims: Sequence[Claimed]) -> list[Step]:
        refs = Numbers(claim.ref for claim in claims)  # type: ignore[misc]
        return [Step(self._sql["leave_in_line"], {"refs": refs})] if claims else []

    def _keep_out(self, kept_out: Sequence[tuple[Claimed, Admission]]) -> list[Step]:
        if not kept_out:
            return []
        values = {
            "refs": Numbers(claim.ref for claim, _ in kept_out),  # type: ignore[misc]
            "holds": Texts(str(answer.hold) for _, answer in kept_out),
            "untils": Numbers(answer.until or None for _, answer in kept_out),
        }
        return [Step(self._sql["keep_out"], values)]

    def _count(self, entered: Sequence[Claimed]) -> list[Step]:
        counted: Counter[tuple[str, int]] = Counter()
        until: dict[tuple[str, int], int] = {}
        for claim in entered:
            for name, rate in self._rates_of(claim):
                slot = rate.slot_at(claim.claimed_at)
                counted[name, slot] += 1
                until[name, slot] = max(until.get((name, slot), 0), rate.lapses(slot))
        if not counted:
            return []
        ordered = sorted(counted)
        values = {
            "names": Texts(name for name, _ in ordered),
            "slots": Numbers(slot for _, slot in ordered),
            "used": Numbers(counted[each] for each in ordered),
            "untils": Numbers(until[each] for each in ordered),
        }
        return [Step(self._sql["count_starts"], values)]

    def _at_its_instant(self, claim: Claimed) -> Claimed:
        # After the queue's room was told; and what the rate of its key allows was told after its row was taken.
        return claim if rates.rate_of(claim) is None else claim._replace(claimed_at=self._now)

    def _stamp(self, claims: Sequence[Claimed]) -> list[Step]:
        refs = Numbers(claim.ref for claim in claims)  # type: ignore[misc]
        return [Step(self._sql["stamp"], {"refs": refs, "at": self._now})] if claims else []

    def _rates_of(self, claim: Claimed) -> Iterator[tuple[str, Rate]]:
        """The rates that a claim counts under, at the instant at which it was claimed."""
        rate, queue = rates.rate_of(claim), self._limits.get(claim.queue)
        if claim.limit_key is not None and rate is not None:
            yield rates.of_key(claim.limit_key), rate
        if queue is not None and queue.rate is not None:
            yield rates.of_queue(claim.queue), queue.rate

    # -- the end

    def closing(self) -> list[Step]:
        """The last steps: those that were passed are in line as before."""
        return self._leave(self._passed)

    def next_due(self, waiting: Sequence[Row]) -> int | None:
        """Microseconds until another exchange may claim more; None: nobody knows. waiting: what `in_line` told."""
        times = [self._free_at(queue) - self._now for (queue,) in waiting if queue in self._rooms]
        times = [time for time in times if time > 0]
        if self._passed:
            times.append(_SOON)
        if self._goes_on:
            times.append(0)
        return min(times, default=None)

    def _free_at(self, queue: str) -> int:
        """When the rate of a queue lets in one more; now where it does, or where there is none."""
        limit = self._limits[queue]
        if limit.rate is None:
            return self._now
        use = _after(self._uses[queue], limit, self._claimed, queue, self._now)
        return use.starts.free_at(limit.rate, self._now)
