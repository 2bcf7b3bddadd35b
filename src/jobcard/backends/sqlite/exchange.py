"""The hot path: settle what ended, claim what is wanted, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from itertools import repeat

from jobcard.backends.base import Completions, Exchanged, Outcome, Refusal, Verdict, Want
from jobcard.backends.sqlite import admission, changes, enqueue, sealing
from jobcard.backends.sqlite.connection import Connection
from jobcard.backends.sqlite.rows import place_in_line, to_claimed
from jobcard.core import rates
from jobcard.core.clock import Clock
from jobcard.core.job import Claimed, Ref
from jobcard.core.states import AT_WORK, JobState
from jobcard.errors import CorruptRecordError, InvalidJobError, JobcardError

_log = logging.getLogger("jobcard.store")

_FAR = 500
"""So far one look behind jobs whose keys are full reaches at most."""

_LOOKS = 16
"""So many such looks one exchange takes at a queue; the next exchange goes on."""


_News = tuple[int, int | None]
"""The version of settings, and when the next delayed job is due."""


class _CountMismatchError(JobcardError):
    """Not every completion applied; the batch is undone and settled one by one."""


class Exchange:
    """One exchange of one engine, on a connection lent for it."""

    def __init__(
        self,
        connection: Connection,
        sql: Mapping[str, str],
        *,
        owner: str,
        clock: Clock,
        completions: Completions,
        outcomes: tuple[Outcome, ...],
        want: Want,
        lease: int,
        freed: Collection[str],
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._owner = owner
        self._clock = clock
        self._now = clock.now()
        self._completions = completions
        self._outcomes = outcomes
        self._want = want
        self._lease = lease
        self._freed = freed
        self._free_at: int | None = None
        self._passed = 0
        self._has_more = False
        self._refusals: list[Refusal] = []
        self.has_news = False
        """Jobs came in line, or a place for them is free: whoever waits for jobs wants to know."""

    def run(self) -> Exchanged:
        """All of it in one commit; without the write lock when there is nothing to do."""
        if not (self._completions.refs or self._outcomes or self._freed):
            news = self._news()
            if not self._finds_work(news):
                return self._answer([], news)
        try:
            return self._in_one_step(self._complete_all, self._apply)
        except (_CountMismatchError, InvalidJobError):
            # Rolled back: none of it is stored. Again, each write by itself.
            return self._in_one_step(self._complete_singly, self._apply_alone)

    def _in_one_step(self, complete: Callable[[], None], apply: Callable[[Outcome], None]) -> Exchanged:
        while True:
            self._refusals.clear()
            self.has_news = False
            try:
                with self._connection.transaction():
                    # Others may have held the lock for long: what is stored from here on comes after what they stored.
                    self._now = self._clock.now()
                    self._connection.execute(self._sql["release"], (self._now,))
                    if self._completions.refs:
                        complete()
                    for outcome in self._outcomes:
                        apply(outcome)
                    let_in = admission.let_in(self._connection, self._sql, self._freed)
                    claimed = self._claim()
                    self.has_news |= let_in > sum(claim.limit_key in self._freed for claim in claimed)
                    self.has_news |= self._leaves_room()
                    return self._answer(claimed, self._news())
            except CorruptRecordError:
                if not self._quarantine():
                    raise

    # -- looking

    def _finds_work(self, news: _News) -> bool:
        _, due = news
        if due is not None and due <= self._now:
            return True
        return self._want.total > 0 and any(
            most > 0 and self._has_claimable(queue) and self._room_in(queue, most) for queue, most in self._want.queues
        )

    def _has_claimable(self, queue: str) -> bool:
        return bool(self._connection.execute(self._sql["claimable"], (queue,)))

    def _room_in(self, queue: str, most: int) -> int:
        """How many jobs of a queue may be claimed, `most` at the most; notes when its rate lets in one more."""
        limit = self._want.limits.get(queue)
        if limit is None:
            return most
        room, free_at = admission.room_in_queue(self._connection, self._sql, queue, limit, self._now)
        if free_at is not None and free_at > self._now:
            self._free_at = min(free_at, self._free_at or free_at)
        return most if room is None else min(most, room)

    def _leaves_room(self) -> bool:
        """Whether this exchange set a place of a full queue free, and left it to others."""
        settled = len(self._completions.refs) + len(self._outcomes)
        for queue, limit in self._want.limits.items():
            if settled and self._has_claimable(queue):
                room, _ = admission.room_in_queue(self._connection, self._sql, queue, limit, self._now)
                # Where there is more, there was room before as well.
                if room is not None and 0 < room <= settled:
                    return True
        return False

    def _news(self) -> _News:
        [(settings, due, seal)] = self._connection.execute(self._sql["news"])
        # Whoever settles what is lost, or wants nothing, writes nothing and meets no barrier.
        sealing.refuse(seal)
        return settings, due

    def _answer(self, claimed: list[Claimed], news: _News) -> Exchanged:
        settings, due = news
        if self._free_at is not None:
            due = self._free_at if due is None else min(due, self._free_at)
        if self._has_more:
            due = self._now
        return Exchanged(
            claimed=claimed,
            refusals=self._refusals,
            cancels=self._connection.execute(self._sql["cancels"], (self._owner,)),
            settings=settings,
            next_due=None if due is None else max(0, due - self._now),
        )

    # -- settling

    def _complete_all(self) -> None:
        refs, tokens, results, started_ago = self._completions
        rows = zip(results, started_ago, repeat(self._now), refs, tokens, strict=False)
        if self._connection.change_many(self._sql["complete"], rows) != len(refs):
            raise _CountMismatchError

    def _complete_singly(self) -> None:
        for ref, token, result, ago in zip(*self._completions, strict=True):
            values = (result, ago, self._now, ref, token)

            def write(values: tuple[object, ...] = values) -> bool:
                return self._connection.change(self._sql["complete"], values) > 0

            self._settle_alone(ref, token, AT_WORK, write)

    def _apply(self, outcome: Outcome) -> None:
        if not self._write(outcome):
            self._explain(outcome.ref, outcome.token, outcome.change.sources)

    def _apply_alone(self, outcome: Outcome) -> None:
        self._settle_alone(outcome.ref, outcome.token, outcome.change.sources, lambda: self._write(outcome))

    def _write(self, outcome: Outcome) -> bool:
        sql, values = changes.bind(self._sql["apply"], outcome.change, self._now)
        if not self._connection.change(sql, (*values, outcome.ref, outcome.token)):
            return False
        changes.keep_records(self._connection, self._sql, outcome.ref, outcome.change, self._now)
        if outcome.then and enqueue.follow(self._connection, self._sql, outcome.then, self._now):
            self.has_news = True
        return True

    def _settle_alone(self, ref: Ref, token: int, sources: frozenset[JobState], write: Callable[[], bool]) -> None:
        try:
            with self._connection.savepoint():
                applied = write()
        except InvalidJobError as error:
            self._refusals.append(Refusal(ref, token, Verdict.REFUSED, str(error)))
        else:
            if not applied:
                self._explain(ref, token, sources)

    def _explain(self, ref: Ref, token: int, sources: frozenset[JobState]) -> None:
        standing = self._connection.execute(self._sql["standing"], (ref,))
        mine = standing and standing[0][1] == token and standing[0][0] not in sources
        self._refusals.append(Refusal(ref, token, Verdict.MINE if mine else Verdict.LOST))

    # -- claiming

    def _claim(self) -> list[Claimed]:
        claimed: list[Claimed] = []
        self._free_at = None
        self._passed = 0
        self._has_more = False
        gate = admission.Gate(self._connection, self._sql, self._now)
        for queue, most in self._want.queues:
            number = min(most, self._want.total - len(claimed))
            if number > 0:
                claimed += self._claim_from(queue, number, gate)
        return claimed

    def _claim_from(self, queue: str, most: int, gate: admission.Gate) -> list[Claimed]:
        room = self._room_in(queue, most)
        taken = self._take(queue, room)
        claimed = taken
        if any(claim.limit_key is not None for claim in taken):
            claimed = gate.sift(taken)
            if len(claimed) < len(taken) == room:
                claimed += self._claim_behind(queue, room - len(claimed), gate)
        limit = self._want.limits.get(queue)
        if limit is not None and limit.rate is not None:
            name = rates.of_queue(queue)
            admission.count_starts(self._connection, self._sql, name, limit.rate, len(claimed), self._now)
            self._room_in(queue, most)
        return claimed

    def _claim_behind(self, queue: str, room: int, gate: admission.Gate) -> list[Claimed]:
        """In the stead of jobs whose keys are at their limit come those behind them, as far as one exchange looks."""
        claimed: list[Claimed] = []
        far = room
        for _ in range(_LOOKS):
            far = min(_FAR, 4 * far)
            self._passed += far
            number, passed = gate.look(queue, room - len(claimed), far)
            claimed += self._take(queue, number)
            if len(claimed) == room or passed < far:
                return claimed
        self._has_more = True
        return claimed

    def _take(self, queue: str, number: int) -> list[Claimed]:
        """Claim the first jobs of a queue's line, in its order."""
        if number <= 0:
            return []
        values = (self._owner, self._now, self._now + self._lease, queue, number)
        return sorted(map(to_claimed, self._connection.execute(self._sql["claim"], values)), key=place_in_line)

    def _quarantine(self) -> bool:
        """Take the unreadable jobs at the head of the line out of it; False: there was none."""
        found = False
        with self._connection.transaction():
            for queue, most in self._want.queues:
                # Rolled back: those that it had passed stand in line again.
                number = self._passed + min(most, self._want.total)
                for (ref,) in self._connection.execute(self._sql["candidates"], (queue, max(0, number))):
                    try:
                        self._connection.execute(self._sql["get_ref"], (ref,))
                    except CorruptRecordError:
                        _log.error("job number %s cannot be read: taken out of the line, its bytes kept", ref)
                        self._connection.execute(self._sql["quarantine"], (ref,))
                        found = True
        return found
