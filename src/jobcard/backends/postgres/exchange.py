"""The hot path: settle what ended, claim what is wanted, in one round trip and one commit.

    release ─► lock ─► complete ─► apply … ─► trim ─► claim ─► news

All of it is sent before the first answer is read. When the server cannot take a value the whole is undone and done
again step by step, each write under a savepoint of its own.

Where limits count it takes some more trips, still in one commit: what may be claimed is known only after a look at what
is at work. A claim of the hot path passes over jobs with a limit key, and the news say that there are some: they are
claimed then, in a transaction of their own. Who wants many jobs passes over queues that were full a moment ago, too,
and asks in passing whether they still are: beside a full queue others keep their speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from jobcard.backends.base import NO_COMPLETIONS, Completions, Exchanged, Outcome, Refusal, Verdict, Want
from jobcard.backends.postgres import admission, changes, leases
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.enqueue import once_names
from jobcard.backends.postgres.rows import place_in_line, to_claimed
from jobcard.backends.postgres.values import Numbers, Texts
from jobcard.core import rates
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT, Claimed, Ref
from jobcard.core.states import AT_WORK, JobState
from jobcard.errors import CorruptRecordError, InvalidJobError, StoreMovedError

_Missing = tuple[Ref, int, frozenset[JobState]]
"""A write that changed nothing: its ref and token, and the states it may start from."""


_FindMissing = Callable[[Sequence[list[Row]]], list[_Missing]]
_Run = Callable[[Sequence[Step]], list[list[Row]]]


_MANY = 50
"""Whoever wants so many jobs works on short ones, and comes again within a moment."""


class Exchange:
    """One exchange of one engine, on a connection lent for it."""

    def __init__(
        self,
        connection: Connection,
        sql: Mapping[str, str],
        *,
        owner: str,
        now: int | None,
        completions: Completions,
        outcomes: Sequence[Outcome],
        want: Want,
        lease: int,
        full: set[str],
        freed: Collection[str] = (),
    ) -> None:
        """full: queues that had no place when an exchange of this process last looked; kept up to date here."""
        self._connection = connection
        self._sql = sql
        self._owner = owner
        self._now = now
        self._completions = completions
        self._outcomes = outcomes
        self._want = want
        self._lease = lease
        self._freed = freed
        self._limited = [queue for queue, most in want.queues if most > 0 and queue in want.limits]
        self._full = full
        self._refusals: list[Refusal] = []
        self.has_news = False
        """Jobs came in line, or a place for them is free: whoever waits for jobs wants to know."""

    def run(self, *, limited: bool = False) -> Exchanged:
        """All of it at once, or step by step when something in it cannot be stored.

        limited: there are limits to look at, though neither a queue nor an end speaks of them.
        """
        try:
            if _is_for_jobs(self._want) and (limited or self._freed or (self._limited and not self._may_pass())):
                return self._connection.again(self._limitedly)
            return self._at_once()
        except InvalidJobError:
            # Undone: none of it is stored.
            return self._connection.again(self._singly)
        except CorruptRecordError:
            if not self._take_out_damaged():
                raise
            return self.run(limited=limited)

    def _may_pass(self) -> bool:
        # A place that was just set free may then wait for the next exchange: not where that comes late.
        return self._want.total >= _MANY and self._full.issuperset(self._limited)

    # -- all at once

    def _at_once(self) -> Exchanged:
        want = self._want if not self._limited else _without(self._want, self._limited)
        steps, missing_in = self._settling(locking=())
        settling = len(steps)
        if _is_for_jobs(want):
            steps.append(self._claim(want, keyed=False))
        claiming = len(steps)
        if looks := (self._limited or self._settled) and self._want.limits:
            steps += [self._use(), self._in_line()]
        steps.append(self._news(want))

        answers = self._connection.run(steps)
        claimed = self._sorted(answers[settling]) if claiming > settling else []
        uses, waiting = answers[claiming:-1] if looks else ([], [])
        [news] = answers[-1]
        answer = self._answer(claimed, news, self._explained(missing_in(answers), claimed, self._connection.run))
        if looks:
            self._see_who_is_full(uses, [])
        has_place = any(queue in self._limited and queue not in self._full for (queue,) in waiting)
        has_keyed = news[-1]
        if has_keyed or has_place:
            answer = self._with_rest(answer)
        self._notice(answers[:settling], answer.claimed, uses, waiting)
        return answer

    def _see_who_is_full(self, uses: Sequence[Row], claimed: Sequence[Claimed]) -> None:
        full = admission.full_queues(self._want.limits, uses, claimed)
        self._full.difference_update(self._want.limits.keys() - full)
        self._full.update(full)

    def _settling(self, *, locking: Collection[str]) -> tuple[list[Step], _FindMissing]:
        """The steps before the claim, and how to read from their answers which writes changed nothing.

        locking: limited queues to be claimed from.
        """
        steps = [*self._lock_names(locking), self._release()]
        groups = _grouped(self._outcomes)
        completed = -1
        if self._outcomes:
            steps.append(self._lock())
        if self._completions.refs:
            completed = len(steps)
            steps.append(self._complete(self._completions))
        applied = len(steps)
        steps += [changes.apply(self._sql, form, group, self._now) for form, group in groups]
        steps += self._trim(self._outcomes)
        steps += admission.let_in(self._sql, self._freed)

        def missing_in(answers: Sequence[list[Row]]) -> list[_Missing]:
            missing: list[_Missing] = []
            if completed >= 0:
                missing += _not_completed(self._completions, answers[completed])
            for (_, group), changed in zip(groups, answers[applied:], strict=False):
                missing += _not_applied(group, changed)
            return missing

        return steps, missing_in

    def _notice(
        self, settling: Sequence[list[Row]], claimed: Sequence[Claimed], uses: Sequence[Row], waiting: Sequence[Row]
    ) -> None:
        """See whether others have something to do now. settling: the answers to the steps before the claim."""
        let_in = settling[-1][0][0] if self._freed else 0
        self.has_news = (
            any(outcome.then for outcome in self._outcomes)
            or let_in > sum(claim.limit_key in self._freed for claim in claimed)
            or admission.leaves_room(self._want.limits, uses, waiting, claimed, self._settled)
        )

    # -- where limits count

    def _limitedly(self) -> Exchanged:
        with self._connection.transaction():
            self._refusals.clear()
            steps, missing_in = self._settling(locking=self._limited)
            *answers, uses = self._connection.ask_all([*steps, self._use()])
            refusals = self._explained(missing_in(answers), [], self._connection.ask_all)
            return self._enter(answers, uses, refusals)

    def _enter(self, settling: Sequence[list[Row]], uses: Sequence[Row], refusals: list[Refusal]) -> Exchanged:
        """Claim what limits let in, inside a transaction. settling: the answers to the steps before."""
        entrance = admission.Entrance(
            self._connection.ask_all,
            self._sql,
            now=self._now,
            want=self._want,
            locked=self._freed,
            uses=uses,
            claim=lambda want: self._sorted(self._ask(self._claim(want, keyed=True))),
        )
        claimed = self._in_order(entrance.walk())
        *_, waiting, news = self._connection.ask_all([*entrance.closing(), self._in_line(), self._news(self._want)])
        self._notice(settling, claimed, uses, waiting)
        self._see_who_is_full(uses, claimed)
        answer = self._answer(claimed, news[0], refusals)
        times = (answer.next_due, entrance.next_due(waiting))
        return answer._replace(next_due=min((time for time in times if time is not None), default=None))

    def _with_rest(self, answer: Exchanged) -> Exchanged:
        """After a claim that passed over jobs with limits: claim those, too, where there is room for more."""
        found = Counter(claim.queue for claim in answer.claimed)
        total = self._want.total - len(answer.claimed)
        queues = [(queue, most - found[queue]) for queue, most in self._want.queues]
        if total <= 0 or not any(most > 0 for _, most in queues):
            return answer
        rest = Exchange(
            self._connection,
            self._sql,
            owner=self._owner,
            now=self._now,
            completions=NO_COMPLETIONS,
            outcomes=(),
            want=Want(queues, total, self._want.limits),
            lease=self._lease,
            full=self._full,
        )
        try:
            more = rest.run(limited=True)
        except StoreMovedError:
            # What came before is stored: sealed since then, the store tells the next exchange.
            return answer
        return more._replace(
            claimed=self._in_order([*answer.claimed, *more.claimed]), refusals=[*answer.refusals, *more.refusals]
        )

    # -- step by step

    def _singly(self) -> Exchanged:
        connection = self._connection
        with connection.transaction():
            self._refusals.clear()
            self._connection.ask_all([*self._lock_names(self._limited), self._release(), self._lock()])
            for ref, token, result, ago in zip(*self._completions, strict=True):
                one = Completions([ref], [token], [result], [ago])
                self._settle(ref, token, AT_WORK, lambda one=one: _is_done(self._ask(self._complete(one))))  # type: ignore[misc]
            for outcome in self._outcomes:
                sources = outcome.change.sources
                self._settle(outcome.ref, outcome.token, sources, lambda outcome=outcome: self._apply(outcome))  # type: ignore[misc]
            *let_in, uses = self._connection.ask_all([*admission.let_in(self._sql, self._freed), self._use()])
            return self._enter(let_in, uses, [])

    def _settle(self, ref: Ref, token: int, sources: frozenset[JobState], write: Callable[[], bool]) -> None:
        try:
            with self._connection.savepoint():
                applied = write()
        except InvalidJobError as error:
            self._refusals.append(Refusal(ref, token, Verdict.REFUSED, str(error)))
            return
        if not applied:
            self._refusals += self._verdicts([(ref, token, sources)], self._ask(self._standing([ref])))

    def _apply(self, outcome: Outcome) -> bool:
        form = changes.form_of(outcome.change, outcome.then)
        changed = self._ask(changes.apply(self._sql, form, [outcome], self._now))
        for step in self._trim([outcome]):
            self._ask(step)
        return bool(changed)

    def _ask(self, step: Step) -> list[Row]:
        return self._connection.ask(step)

    # -- the steps

    def _lock_names(self, queues: Collection[str]) -> list[Step]:
        """What is waited for before anything else, in one order: limited queues, and once keys of jobs that follow."""
        names = {rates.of_queue(queue) for queue in queues}
        names |= once_names(job for outcome in self._outcomes for job in outcome.then)
        return admission.lock(self._sql, names)

    def _use(self) -> Step:
        return admission.use_of_queues(self._sql, list(self._want.limits), self._now)

    def _in_line(self) -> Step:
        return admission.in_line(self._sql, self._want.limits)

    def _release(self) -> Step:
        return Step(self._sql["release"], {"now": self._now})

    def _lock(self) -> Step:
        refs = sorted({*self._completions.refs, *(outcome.ref for outcome in self._outcomes)})
        return Step(self._sql["lock"], {"refs": Numbers(refs)})  # type: ignore[arg-type]

    def _complete(self, completions: Completions) -> Step:
        refs = completions.refs
        # As everybody locks them.
        order = sorted(range(len(refs)), key=refs.__getitem__)
        values = {
            "now": self._now,
            "count": len(refs),
            "refs": Numbers([refs[at] for at in order]),  # type: ignore[misc]
            "tokens": Numbers([completions.tokens[at] for at in order]),
            "results": Texts([completions.results[at] for at in order]),
            "started_ago": Numbers([completions.started_ago[at] for at in order]),
        }
        return Step(self._sql["complete"], values)

    def _trim(self, outcomes: Sequence[Outcome]) -> list[Step]:
        steps = []
        if tried := {outcome.ref for outcome in outcomes if outcome.change.error is not None}:
            values = {"refs": Numbers(sorted(tried)), "keep": LAST_ATTEMPTS}  # type: ignore[arg-type]
            steps.append(Step(self._sql["trim_attempts"], values))
        if logged := {outcome.ref for outcome in outcomes if outcome.change.lines}:
            values = {"refs": Numbers(sorted(logged)), "keep": LAST_LINES, "characters": LINES_TEXT}  # type: ignore[arg-type]
            steps.append(Step(self._sql["trim_lines"], values))
        return steps

    def _claim(self, want: Want, *, keyed: bool) -> Step:
        wanted = [(queue, most) for queue, most in want.queues if most > 0]
        values = {
            "now": self._now,
            "owner": self._owner,
            "lease": self._lease,
            "queues": Texts(queue for queue, _ in wanted),
            "most": Numbers(most for _, most in wanted),
            "total": want.total,
            "keyed": keyed,
        }
        return Step(self._sql["claim"], values)

    def _news(self, want: Want) -> Step:
        queues = Texts(queue for queue, most in want.queues if most > 0)
        return Step(self._sql["news"], {"now": self._now, "owner": self._owner, "queues": queues})

    def _standing(self, refs: Sequence[Ref]) -> Step:
        return Step(self._sql["standing"], {"refs": Numbers(refs)})  # type: ignore[arg-type]

    @property
    def _settled(self) -> int:
        return len(self._completions.refs) + len(self._outcomes)

    # -- the answer

    def _answer(self, claimed: list[Claimed], news: Row, refusals: list[Refusal]) -> Exchanged:
        settings, due, canceled, reasons, _ = news
        return Exchanged(
            claimed=claimed,
            refusals=[*self._refusals, *refusals],
            cancels=list(zip(canceled, reasons, strict=True)),
            settings=settings,
            next_due=None if due is None else max(0, due),
        )

    def _sorted(self, rows: Sequence[Row]) -> list[Claimed]:
        return self._in_order(list(map(to_claimed, rows)))

    def _in_order(self, claimed: list[Claimed]) -> list[Claimed]:
        claimed.sort(key=place_in_line)
        if len(self._want.queues) > 1:
            places = {queue: place for place, (queue, _) in enumerate(self._want.queues)}
            claimed.sort(key=lambda claim: places[claim.queue])
        return claimed

    def _explained(self, missing: list[_Missing], claimed: Sequence[Claimed], run: _Run) -> list[Refusal]:
        """Look once at the jobs that did not change: was it ours before, or is the claim gone?"""
        if not missing:
            return []
        refs = list({ref: None for ref, _, _ in missing})
        [standing] = run([self._standing(refs)])
        # What this very exchange has claimed stood, when the write came, one token lower and in line.
        ours = {claim.ref: claim.token - 1 for claim in claimed}
        before = [(n, JobState.WAITING, ours[n]) if n in ours else (n, state, token) for n, state, token in standing]
        return self._verdicts(missing, before)

    @staticmethod
    def _verdicts(missing: Sequence[_Missing], standing: Sequence[Row]) -> list[Refusal]:
        found = {n: (state, token) for n, state, token in standing}
        refusals = []
        for ref, token, sources in missing:
            state, its_token = found.get(ref, (None, None))
            mine = its_token == token and state not in sources
            refusals.append(Refusal(ref, token, Verdict.MINE if mine else Verdict.LOST))
        return refusals

    # -- what cannot be read

    def _take_out_damaged(self) -> bool:
        """Find the jobs at the head of the line that the server cannot read, and put them aside. False: none."""
        damaged: list[int] = []
        for queue, most in self._want.queues:
            values = {"queue": queue, "limit": max(0, min(most, self._want.total))}
            for (ref,) in self._connection.execute(self._sql["candidates"], values):
                try:
                    self._connection.execute(self._sql["get_ref"], {"ref": ref})
                except CorruptRecordError:
                    damaged.append(ref)
        if damaged:
            leases.quarantine(self._connection, self._sql, damaged)
        return bool(damaged)


def _grouped(outcomes: Sequence[Outcome]) -> list[tuple[changes.Form, list[Outcome]]]:
    """Outcomes of one form together. Where one job has several, all stay in their order, each by itself.

    So they do where two bring jobs with one once key: the second looks after the first.
    """
    once = [name for outcome in outcomes if outcome.then for name in once_names(outcome.then)]
    in_order = len({outcome.ref for outcome in outcomes}) < len(outcomes) or len({*once}) < len(once)
    groups: dict[object, tuple[changes.Form, list[Outcome]]] = {}
    for place, outcome in enumerate(outcomes):
        form = changes.form_of(outcome.change, outcome.then)
        groups.setdefault((form, place) if in_order else form, (form, []))[1].append(outcome)
    return list(groups.values())


def _is_for_jobs(want: Want) -> bool:
    return want.total > 0 and any(most > 0 for _, most in want.queues)


def _without(want: Want, queues: Collection[str]) -> Want:
    return want._replace(queues=[(queue, most) for queue, most in want.queues if queue not in queues])


def _is_done(rows: Sequence[Row]) -> bool:
    return rows[0][0] is None


def _not_completed(completions: Completions, rows: Sequence[Row]) -> list[_Missing]:
    [[done]] = rows
    if done is None:
        return []
    left = {(ref, token) for ref, token in done}
    missing: list[_Missing] = []
    for ref, token in zip(completions.refs, completions.tokens, strict=True):
        if (ref, token) in left:
            left.discard((ref, token))
        else:
            missing.append((ref, token, AT_WORK))
    return missing


def _not_applied(group: Sequence[Outcome], rows: Sequence[Row]) -> list[_Missing]:
    changed = Counter(ref for (ref,) in rows)
    return [(outcome.ref, outcome.token, outcome.change.sources) for outcome in group if not changed[outcome.ref]]
