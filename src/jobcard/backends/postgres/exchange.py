"""The hot path: settle what ended, claim what is wanted, in one round trip and one commit.

    release ─► lock ─► complete ─► apply … ─► trim ─► claim ─► news

All of it is sent before the first answer is read. When the server cannot take a value the whole is undone and done
again step by step, each write under a savepoint of its own.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from jobcard.backends.base import Completions, Exchanged, Outcome, Refusal, Verdict, Want
from jobcard.backends.postgres import changes
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.rows import place_in_line, to_claimed
from jobcard.backends.postgres.values import Numbers, Texts
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT, Claimed, Ref
from jobcard.core.states import AT_WORK, JobState
from jobcard.errors import CorruptRecordError, InvalidJobError, StoreMovedError

_log = logging.getLogger("jobcard.store")

_Missing = tuple[Ref, int, frozenset[JobState]]
"""A write that changed nothing: its ref and token, and the states it may start from."""


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
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._owner = owner
        self._now = now
        self._completions = completions
        self._outcomes = outcomes
        self._want = want
        self._lease = lease
        self._refusals: list[Refusal] = []

    def run(self) -> Exchanged:
        """All of it at once, or step by step when something in it cannot be stored."""
        try:
            return self._at_once()
        except InvalidJobError:
            # Undone: none of it is stored.
            return self._connection.again(self._singly)
        except CorruptRecordError:
            if not self._take_out_damaged():
                raise
            return self.run()

    # -- all at once

    def _at_once(self) -> Exchanged:
        steps = [self._release()]
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
        if self._wants_jobs():
            steps.append(self._claim())
        steps.append(self._news())

        answers = self._connection.run(steps)
        missing: list[_Missing] = []
        if completed >= 0:
            missing += _not_completed(self._completions, answers[completed])
        for (_, group), changed in zip(groups, answers[applied:], strict=False):
            missing += _not_applied(group, changed)
        claimed = self._sorted(answers[-2]) if self._wants_jobs() else []
        return self._answer(claimed, answers[-1][0], self._explained(missing, claimed))

    # -- step by step

    def _singly(self) -> Exchanged:
        connection = self._connection
        with connection.transaction():
            self._refusals.clear()
            self._ask(self._release())
            self._ask(self._lock())
            for ref, token, result, ago in zip(*self._completions, strict=True):
                one = Completions([ref], [token], [result], [ago])
                self._settle(ref, token, AT_WORK, lambda one=one: _is_done(self._ask(self._complete(one))))  # type: ignore[misc]
            for outcome in self._outcomes:
                sources = outcome.change.sources
                self._settle(outcome.ref, outcome.token, sources, lambda outcome=outcome: self._apply(outcome))  # type: ignore[misc]
            claimed = self._sorted(self._ask(self._claim())) if self._wants_jobs() else []
            return self._answer(claimed, self._ask(self._news())[0], [])

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
        form = changes.form_of(outcome.change, followed=bool(outcome.then))
        changed = self._ask(changes.apply(self._sql, form, [outcome], self._now))
        for step in self._trim([outcome]):
            self._ask(step)
        return bool(changed)

    def _ask(self, step: Step) -> list[Row]:
        return self._connection.ask(step)

    # -- the steps

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

    def _claim(self) -> Step:
        wanted = [(queue, most) for queue, most in self._want.queues if most > 0]
        values = {
            "now": self._now,
            "owner": self._owner,
            "lease": self._lease,
            "queues": Texts(queue for queue, _ in wanted),
            "most": Numbers(most for _, most in wanted),
            "total": self._want.total,
        }
        return Step(self._sql["claim"], values)

    def _news(self) -> Step:
        return Step(self._sql["news"], {"now": self._now, "owner": self._owner})

    def _standing(self, refs: Sequence[Ref]) -> Step:
        return Step(self._sql["standing"], {"refs": Numbers(refs)})  # type: ignore[arg-type]

    def _wants_jobs(self) -> bool:
        return self._want.total > 0 and any(most > 0 for _, most in self._want.queues)

    # -- the answer

    def _answer(self, claimed: list[Claimed], news: Row, refusals: list[Refusal]) -> Exchanged:
        settings, due, canceled, reasons = news
        return Exchanged(
            claimed=claimed,
            refusals=[*self._refusals, *refusals],
            cancels=list(zip(canceled, reasons, strict=True)),
            settings=settings,
            next_due=None if due is None else max(0, due),
        )

    def _sorted(self, rows: Sequence[Row]) -> list[Claimed]:
        claimed = list(map(to_claimed, rows))
        claimed.sort(key=place_in_line)
        if len(self._want.queues) > 1:
            places = {queue: place for place, (queue, _) in enumerate(self._want.queues)}
            claimed.sort(key=lambda claim: places[claim.queue])
        return claimed

    def _explained(self, missing: list[_Missing], claimed: Sequence[Claimed]) -> list[Refusal]:
        """Look once at the jobs that did not change: was it ours before, or is the claim gone?"""
        if not missing:
            return []
        refs = list({ref: None for ref, _, _ in missing})
        steps = [self._standing(refs)]
        has_followers = any(outcome.then for outcome in self._outcomes)
        if has_followers:
            steps.append(Step(self._sql["seal"]))
        standing, *seal = self._connection.run(steps)
        # What this very exchange has claimed stood, when the write came, one token lower and in line.
        ours = {claim.ref: claim.token - 1 for claim in claimed}
        before = [(n, JobState.WAITING, ours[n]) if n in ours else (n, state, token) for n, state, token in standing]
        refusals = self._verdicts(missing, before)
        if seal and seal[0][0][0] and any(refusal.verdict is Verdict.LOST for refusal in refusals):
            raise StoreMovedError("this store was sealed: jobs that follow others cannot be stored here")
        return refusals

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
            _log.error("jobs number %s cannot be read: taken out of the line, their bytes kept", damaged)
            self._connection.execute(self._sql["quarantine"], {"refs": Numbers(damaged)})
        return bool(damaged)


def _grouped(outcomes: Sequence[Outcome]) -> list[tuple[changes.Form, list[Outcome]]]:
    """Outcomes of one form together. Where one job has several, all stay in their order, each by itself."""
    in_order = len({outcome.ref for outcome in outcomes}) < len(outcomes)
    groups: dict[object, tuple[changes.Form, list[Outcome]]] = {}
    for place, outcome in enumerate(outcomes):
        form = changes.form_of(outcome.change, followed=bool(outcome.then))
        groups.setdefault((form, place) if in_order else form, (form, []))[1].append(outcome)
    return list(groups.values())


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
