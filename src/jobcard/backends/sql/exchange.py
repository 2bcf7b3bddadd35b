"""The hot path: settle what ended, claim what is wanted, in one transaction and a few trips.

    nothing to settle   look ─► (nothing there: that was all) ─► due · claim ─► take · news · commit
    completions only    due · complete · claim ─► take · news · commit
    all else            due · lock · time ─► release · each change ─► claim ─► take · news · commit
    with limits         … ─► turns · counts ─► claim ─► turns · counts ─► kept out · claim … ─► take · news · commit

Where all that ended simply returned, one statement settles it and the number of rows says whether all of it applied.
If not, and for every other outcome, the rows are locked first and read, so that each verdict is known before
anything is written. A sealed store is told by its first look; completions that apply meet the barrier itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from jobcard.backends.base import Completions, Exchanged, Outcome, Refusal, Verdict, Want
from jobcard.backends.sql import admission, changes, enqueue, records, sealing
from jobcard.backends.sql.changes import Ledger, Standing
from jobcard.backends.sql.claim import Claims, claimable, limits_of
from jobcard.backends.sql.connection import Connection, Rows, Step, only_row
from jobcard.backends.sql.statements import Statements
from jobcard.backends.sql.values import in_pieces, own
from jobcard.core import states
from jobcard.core.job import Claimed, NewJob, Ref
from jobcard.core.states import Change
from jobcard.errors import InvalidJobError, JobcardError

_RETURNED = states.complete(None)


class _CountMismatchError(JobcardError):
    """Not every completion applied; the batch is undone and settled under locks."""


class Exchange:
    """One exchange of one engine, on a connection lent for it."""

    def __init__(
        self,
        connection: Connection,
        sql: Statements,
        *,
        owner: str,
        now: int | None,
        completions: Completions,
        outcomes: Sequence[Outcome],
        want: Want,
        lease: int,
        freed: Collection[str],
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._owner = owner
        self._clock = now
        self._now: Mapping[str, object] = {"now": now}
        self._completions = completions
        self._outcomes = outcomes
        self._wanted = [(queue, most) for queue, most in want.queues if most > 0] if want.total > 0 else []
        self._want = want
        self._limits = limits_of(want)
        self._lease = lease
        self._freed = freed
        self._refusals: list[Refusal] = []

    def run(self) -> Exchanged:
        """All of it in one commit; one look without locks when there is nothing to do."""
        again = self._connection.again
        if not (self._completions.refs or self._outcomes):
            idle = self._look()
            if idle and not self._freed:
                return idle
        try:
            if not self._outcomes:
                return again(self._quickly)
        except (_CountMismatchError, InvalidJobError):
            pass  # undone: none of it is stored
        try:
            return again(lambda: self._carefully(alone=False))
        except InvalidJobError:
            return again(lambda: self._carefully(alone=True))

    # -- looking

    def _look(self) -> Exchanged | None:
        """The answer when no job is due and none can be claimed; None: there is something to do."""
        steps = self._news()
        if self._wanted:
            steps.append(self._claimable())
        news, cancels, *rows = sealing.begin(self._connection, self._sql, *steps)
        in_line = [queue for each in rows for (queue,) in each]
        if any(queue not in self._limits for queue in in_line):
            return None
        due_in = self._limited_in(in_line, only_row(news)[-1]) if in_line else None
        answer = self._answer([], news, cancels, due_in)
        return None if answer.next_due == 0 else answer

    def _limited_in(self, queues: Sequence[str], now: int) -> int | None:
        """In how many microseconds one of these limited queues with jobs in line lets one start; 0: now."""
        use, _ = admission.usage(self._connection, self._sql, queues, [], self._clock)
        waits = []
        for queue in queues:
            limit = self._limits[queue]
            if limit.room(use[queue], now) != 0:
                return 0
            if limit.rate is not None and (at := use[queue].starts.free_at(limit.rate, now)) > now:
                waits.append(at - now)
        return min(waits, default=None)

    def _news(self) -> list[Step]:
        return [Step(self._sql["news"], self._now), Step(self._sql["cancels"], {"owner": self._owner})]

    def _claimable(self) -> Step:
        return claimable(self._sql, [queue for queue, _ in self._wanted])

    def _answer(self, claimed: list[Claimed], news: Rows, cancels: Rows, due_in: int | None) -> Exchanged:
        """due_in: when another exchange may claim more, whatever is due."""
        settings, due, now = only_row(news)
        waits = [max(0, due - now)] if due is not None else []
        return Exchanged(
            claimed=claimed,
            refusals=self._refusals,
            cancels=[(ref, reason) for ref, reason in cancels],
            settings=settings,
            next_due=min(waits if due_in is None else [*waits, due_in], default=None),
        )

    # -- completions only

    def _quickly(self) -> Exchanged:
        self._refusals.clear()
        with self._connection.transaction():
            steps = [self._due()]
            completing = self._complete(list(zip(*self._completions, strict=True)))
            steps += completing
            claims = self._new_claims()
            alone = self._wanted[0] if len(self._wanted) == 1 and not (self._limits or self._freed) else None
            if alone:
                steps.append(claims.look(alone[0], min(alone[1], self._want.total)))
            [due, *answers], [_, *counts] = self._connection.run_and_count(steps)
            if sum(counts[: len(completing)]) != len(self._completions.refs):
                raise _CountMismatchError
            if due:
                self._release(due)
            found = {alone[0]: answers[-1]} if alone and not due else {}
            return self._claim_and_end(claims, found)

    def _complete(self, done: Sequence[tuple[Ref, int, str | None, int]]) -> list[Step]:
        """The steps that complete jobs, in as many pieces as fit. Along the numbers, as everybody locks them."""
        steps = []
        for piece in self._pieces(done):
            refs, tokens, results, started_ago = zip(*piece, strict=True)
            values: dict[str, object] = {"refs": refs, "proofs": list(zip(refs, tokens, strict=True)), **self._now}
            text = self._sql["complete"]
            for name, column in (("result", results), ("started_ago", started_ago)):
                place, values[name] = own(name, refs, column, self._sql.dialect.own_value)
                text = text.replace(f"{{{name}}}", place)
            steps.append(Step(text, values))
        return steps

    def _pieces(self, done: Sequence[tuple[Ref, int, str | None, int]]) -> Sequence[Sequence[Any]]:
        return in_pieces(sorted(done), self._connection.largest_piece, self._connection.most_values) if done else []

    # -- everything, under locks

    def _carefully(self, *, alone: bool) -> Exchanged:
        """alone: each write by itself, so that one the server refuses takes no other with it."""
        self._refusals.clear()
        connection = self._connection
        with connection.transaction():
            refs = sorted({*self._completions.refs, *(outcome.ref for outcome in self._outcomes)})
            followers = [job for outcome in self._outcomes for job in outcome.then]
            ledger = Ledger(self._sql)
            # The time is asked last: whoever waits for a lock shall not live in the past.
            asked = [
                self._due(),
                Step(self._sql["lock"], {"refs": refs}),
                *([records.queues_known(self._sql, {job.queue for job in followers})] if followers else ()),
                *ledger.look([(outcome.ref, outcome.change) for outcome in self._outcomes]),
                Step(self._sql["moment"], self._now),
            ]
            due, locked, *answers, moment = sealing.begin(connection, self._sql, *asked)
            known = answers.pop(0) if followers else Rows()
            ledger.learn(answers)
            if due:
                self._release(due)
            standing: dict[Ref, Standing] = {n: Standing(*how) for n, *how in locked}
            books = _Books(connection, self._sql, standing, ledger, known, only_row(moment)[0])
            if alone:
                self._write_alone(books)
            else:
                self._write_together(books)
            return self._claim_and_end(self._new_claims(), {})

    def _write_together(self, books: _Books) -> None:
        done = []
        for one in zip(*self._completions, strict=True):
            if self._may(books, one[0], one[1], _RETURNED):
                books.note(one[0], _RETURNED)
                done.append(one)
        applied = []
        for outcome in self._outcomes:
            if self._may(books, outcome.ref, outcome.token, outcome.change):
                books.note(outcome.ref, outcome.change)
                applied.append(outcome)
        books.write(applied, self._complete(done))

    def _write_alone(self, books: _Books) -> None:
        for one in zip(*self._completions, strict=True):
            ref, token, write = one[0], one[1], partial(books.write, [], self._complete([one]))
            if self._may(books, ref, token, _RETURNED) and self._try(ref, token, write):
                books.note(ref, _RETURNED)
        for outcome in self._outcomes:
            ref, token, write = outcome.ref, outcome.token, partial(books.write, [outcome], [])
            if self._may(books, ref, token, outcome.change) and self._try(ref, token, write):
                books.note(ref, outcome.change)

    def _may(self, books: _Books, ref: Ref, token: int, change: Change) -> bool:
        how = books.standing.get(ref)
        verdict = how.verdict(token, change, books.now) if how else Verdict.LOST
        if verdict is not None:
            self._refusals.append(Refusal(ref, token, verdict))
        return verdict is None

    def _try(self, ref: Ref, token: int, write: Callable[[], None]) -> bool:
        try:
            with self._connection.savepoint():
                write()
        except InvalidJobError as error:
            self._refusals.append(Refusal(ref, token, Verdict.REFUSED, str(error)))
            return False
        return True

    # -- claiming

    def _new_claims(self) -> Claims:
        return Claims(
            self._connection, self._sql, owner=self._owner, now=self._clock, want=self._want, lease=self._lease
        )

    def _claim_and_end(self, claims: Claims, found: Mapping[str, Rows]) -> Exchanged:
        """found: what the trip before has claimed already, by queue."""
        if self._limits or self._freed:
            claims.open(self._freed)
        for queue, most in self._worth_asking(found):
            claims.take_from(queue, most, found.get(queue))
        *answers, news, cancels = self._connection.commit(*claims.closing(), *self._news())
        return self._answer(claims.claimed, news, cancels, claims.due_in(answers))

    def _worth_asking(self, found: Mapping[str, Rows]) -> list[tuple[str, int]]:
        if len(self._wanted) < 2 or found:
            return self._wanted
        have = {queue for (queue,) in self._connection.run([self._claimable()])[0]}
        return [(queue, most) for queue, most in self._wanted if queue in have]

    def _due(self) -> Step:
        return Step(self._sql["due"], self._now)

    def _release(self, due: Rows) -> None:
        [locked] = self._connection.run([Step(self._sql["lock_due"], {"refs": sorted(n for (n,) in due), **self._now})])
        if locked:
            self._connection.run([Step(self._sql["release"], {"refs": [n for (n,) in locked]})])


class _Books:
    """What the writes of one exchange are made from: how the locked jobs stand, and where their records go on."""

    def __init__(
        self,
        connection: Connection,
        sql: Statements,
        standing: Mapping[Ref, Standing],
        ledger: Ledger,
        known: Rows,
        now: int,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self.standing = standing
        self._ledger = ledger
        self._known = known
        self.now = now

    def note(self, ref: Ref, change: Change) -> None:
        """The job stands from now on as this change leaves it."""
        self.standing[ref].apply(change, self.now)

    def write(self, outcomes: Sequence[Outcome], steps: Sequence[Step]) -> None:
        """Store outcomes, behind some steps; then the jobs that follow and have once keys."""
        steps = [*steps, *(step for outcome in outcomes for step in self._steps_of(outcome))]
        if steps:
            self._connection.run(steps)
        once = [job for outcome in outcomes for job in outcome.then if job.once_key is not None]
        if once:
            enqueue.follow_once(self._connection, self._sql, once, self.now)

    def _steps_of(self, outcome: Outcome) -> list[Step]:
        """The steps that store an outcome: the change, its records, then the jobs that follow."""
        steps = [changes.apply(self._sql, outcome.change, outcome.ref, self.now)]
        steps += self._ledger.keep(outcome.ref, outcome.change, self.now)
        if outcome.then:
            steps += records.add_queues(self._sql, {job.queue for job in outcome.then}, self._known, self.now)
            free: list[NewJob] = [job for job in outcome.then if job.once_key is None]
            steps += enqueue.follow(self._connection, self._sql, free, self.now)
        return steps
