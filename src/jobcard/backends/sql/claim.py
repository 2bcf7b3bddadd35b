"""The claims of one exchange: queue by queue; in the stead of those whom their limits keep out come those behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from jobcard.backends.base import Want
from jobcard.backends.sql import leases
from jobcard.backends.sql.admission import Gate
from jobcard.backends.sql.connection import Connection, Rows, Step
from jobcard.backends.sql.rows import place_in_line, to_claimed
from jobcard.backends.sql.statements import Statements, rows_of
from jobcard.core.job import Claimed
from jobcard.core.rates import QueueLimit

_ROUNDS, _GROWTH, _MOST_MET = 16, 4, 500
"""So often one exchange looks at a line, each time at more jobs behind those who were kept out: so many times as many,
up to so many."""

_SOON = 10_000
"""Microseconds until an exchange may look again at jobs about whose keys another one is deciding."""


class Claims:
    """What one exchange claims; its last writes are for the trip that ends the transaction.

    Who has no limits pays nothing: no trip, no statement, no lock.
    """

    def __init__(
        self, connection: Connection, sql: Statements, *, owner: str, now: int | None, want: Want, lease: int
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._owner = owner
        self._clock = now
        self._lease = lease
        self._total = want.total
        self._limits = limits_of(want)
        self._gate = Gate(connection, sql, now)
        self._steps: list[Step] = []
        self._let_in: list[int] = []
        self._waits: dict[str, int] = {}
        self._looks_left = _ROUNDS
        self._again_in: int | None = None
        self.claimed: list[Claimed] = []

    def open(self, freed: Collection[str]) -> None:
        """Before the first claim, where a queue is limited or a key was freed: let in whom the freed keys held."""
        self._let_in = self._gate.open(self._limits, freed)

    def look(self, queue: str, most: int) -> Step:
        """The step that finds and locks the first jobs of a line."""
        return Step(self._sql["claim"], {"queue": queue, "most": most, "owner": self._owner, "now": self._clock})

    def take_from(self, queue: str, most: int, rows: Rows | None = None) -> None:
        """Claim at most so many jobs of a queue. rows: what a look at this many has found already."""
        number = min(most, self._total - len(self.claimed))
        limit = self._limits.get(queue)
        if limit is None:
            self._take(queue, number, rows)
            return
        self._take(queue, self._gate.room_in(queue, limit, number), rows, limit)
        wait = self._gate.free_in(queue, limit)
        if wait is not None:
            self._waits[queue] = wait

    def _take(self, queue: str, number: int, rows: Rows | None, limit: QueueLimit | None = None) -> None:
        if number <= 0:
            return
        most = number
        while True:
            if rows is None:
                rows = self._run(self.look(queue, most))
            if rows.unreadable:
                leases.quarantine(self._connection, self._sql, rows.unreadable)
            met = sorted(map(to_claimed, rows), key=place_in_line)
            if any(job.limit_key is not None for job in met):
                sifted = self._gate.sift(queue, met, number)
                entered, left = sifted.entered, sifted.left
                self._steps += sifted.steps(self._sql)
            else:
                entered, left = met[:number], False
            if limit is not None:
                entered = self._gate.enter(queue, limit, entered)
            if entered:
                self._steps.append(self._take_step(entered))
                self.claimed += entered
                number -= len(entered)
            if number <= 0 or (len(met) < most and not left):
                return
            if left:
                self._again_in = _SOON if self._again_in is None else self._again_in
                return
            if not self._looks_left:
                # The rest is for an exchange of its own.
                self._again_in = 0
                return
            self._looks_left -= 1
            rows, most = None, min(most * _GROWTH, _MOST_MET)

    def _run(self, step: Step) -> Rows:
        steps, self._steps = [*self._steps, step], []
        return self._connection.run(steps)[-1]

    def _take_step(self, claimed: Sequence[Claimed]) -> Step:
        now = claimed[0].claimed_at
        values = {
            "refs": sorted(claim.ref for claim in claimed),
            "owner": self._owner,
            "claimed_at": now,
            "lease_until": now + self._lease,
        }
        return Step(self._sql["take"], values)

    # -- ending

    def closing(self) -> list[Step]:
        """The last writes; behind them, where a rate is used up, a look at who waits for it, for `due_in`."""
        steps = [*self._steps, *self._gate.closing()]
        if set(self._let_in) - {claim.ref for claim in self.claimed}:
            steps.append(Step(self._sql["raise_rings"]))
        if self._waits:
            steps.append(claimable(self._sql, [*self._waits]))
        return steps

    def due_in(self, in_line: Sequence[Rows]) -> int | None:
        """In how many microseconds an exchange may claim what this one could not; None: it left nobody in line."""
        queues = [queue for rows in in_line[-1:] for (queue,) in rows] if self._waits else []
        times = [self._waits[queue] for queue in queues]
        return min(times if self._again_in is None else [*times, self._again_in], default=None)


def limits_of(want: Want) -> Mapping[str, QueueLimit]:
    """The limits of the queues that are wanted."""
    if not want.limits or want.total <= 0:
        return {}
    return {queue: want.limits[queue] for queue, most in want.queues if most > 0 and queue in want.limits}


def claimable(sql: Statements, queues: Sequence[str]) -> Step:
    """The step that finds out which of some queues have a job to claim."""
    values = {f"queue_{place}": queue for place, queue in enumerate(queues)}
    return Step(sql["claimable"].replace("{wanted}", rows_of(values, "queue")), values)
