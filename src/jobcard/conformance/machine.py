"""Long random histories: the same moves on the model and on the store under test, compared after each.

What must hold after every step:
    I1   every job of the store equals the model's, field by field, its recorded tries and log lines too
    I2   at work ⇔ it has an owner and a lease
    I3   a token never falls, and rises with every claim
    I4   0 ≤ attempt ≤ max_attempts
    I5   a claim gives only jobs that are due, not held, not at work, not ended   } the model's claim says which,
    I6   and gives them in order                                                  } in which order
    I7   a stale token changes nothing and is told so                             } the model's verdicts
    I8   a job that ended stays as it ended until an operator retries it
    I9   at most one living job for each unique key
    I11  counts by state equal the rows by state
    I12  no move leaves a transaction open: two backends on the store take turns
    I13  every error is one of ours: any other ends the test
    I14  no more jobs of a limit key are at work than may be
(I10, ticks of a schedule, comes with schedules.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobcard.backends.base import Backend, Enqueued, Fate, Filter, Want
from jobcard.conformance import factory
from jobcard.conformance.carrying import Carrying
from jobcard.conformance.drawing import (
    CI,
    ENDED_STATES,
    ENGINES,
    ERROR,
    KEYS,
    LEASE,
    MOST,
    MOST_AT_WORK,
    NAMES,
    QUEUES,
    Spec,
    change_by_operator,
    change_of,
    engines,
    is_for,
    job_specs,
    kinds,
    line_ups,
    moments,
    operations,
    picks,
    queue_limits,
    texts,
)
from jobcard.conformance.harness import Harness
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.conformance.pair import Holding, Said, plain, without_zeros
from jobcard.conformance.rules import is_alive, is_at_work, is_ended
from jobcard.core import states
from jobcard.core.clock import DAY, SECOND
from jobcard.core.job import JobRow, LogLine
from jobcard.core.rates import QueueLimit
from jobcard.core.soundness import faults
from jobcard.core.states import Change
from jobcard.errors import DuplicateJobError


class Machine(Carrying):
    """One history on an empty store. `machine_for` says which store."""

    def __init__(self) -> None:
        super().__init__()
        self.figures = cycle((self._the_tally_is_the_rows, self._counts_are_the_rows, self._ends_are_the_rows))

    # -- producing

    @initialize(specs=st.lists(job_specs, min_size=2, max_size=6))
    def begin(self, specs: list[Spec]) -> None:
        """A history begins with some jobs, a few of them claimed."""
        self.enqueue_many(specs)
        self.claim(ENGINES[0], list(QUEUES), 2, 2, {})
        self.claim(ENGINES[1], list(QUEUES), 1, 1, {})

    @rule(specs=st.lists(job_specs, max_size=8))
    def enqueue_many(self, specs: list[Spec]) -> None:
        jobs = [self.new_job(spec) for spec in specs]
        assert {answer.fate for answer in self.enqueue(jobs)} <= {Fate.STORED, Fate.KEY_TAKEN, Fate.REPLACED}

    @precondition(lambda self: len(self.rows()) < 300)
    @rule(spec=job_specs, size=st.sampled_from([20, 50]))
    def enqueue_a_crowd(self, spec: Spec, size: int) -> None:
        jobs = [self.new_job({**spec, "salt": place % 7}) for place in range(size)]
        self.enqueue(jobs)

    @rule(spec=job_specs, key=st.sampled_from(KEYS), twice=st.booleans())
    def enqueue_unique(self, spec: Spec, key: str, twice: bool) -> None:
        jobs = [self.new_job({**spec, "unique_key": key}) for _ in range(1 + twice)]
        self.enqueue(jobs)

    @precondition(lambda self: self.rows())
    @rule(number=picks, other_args=st.booleans(), beside=job_specs)
    def enqueue_same_id_again(self, number: int, other_args: bool, beside: Spec) -> None:
        row = self.pick(number)
        assert row is not None
        again = self.jobs[row.id]
        again = again._replace(args='"other"') if other_args else again
        answers = self.enqueue([again, again])
        assert answers == [Enqueued(Fate.ID_TAKEN if other_args else Fate.REPEATED, row.id)] * 2
        jobs = [again, self.new_job(beside)]
        self.enqueue(jobs)

    # -- holding

    @rule(engine=engines, queues=line_ups, each=st.integers(0, 5), total=st.integers(0, 12), limits=queue_limits)
    def claim(self, engine: str, queues: list[str], each: int, total: int, limits: Mapping[str, QueueLimit]) -> None:
        before = dict(self.pair.rows)
        answer = self.pair.exchange(engine, want=Want([(queue, each) for queue in queues], total, limits))
        for claim in answer.claimed:
            assert claim.token > before[claim.id].claim_token
            assert before[claim.id].state == "waiting"

    @rule(engine=engines, plan=st.lists(st.tuples(kinds, moments), min_size=1, max_size=6), limits=queue_limits)
    def work(self, engine: str, plan: list[tuple[str, int]], limits: Mapping[str, QueueLimit]) -> None:
        """Claim a few jobs and settle the latest claims together, each in its own way."""
        total = len(plan)
        self.pair.exchange(engine, want=Want([(queue, total) for queue in QUEUES], total, limits))
        held = [holding for holding in self.held() if holding.owner == engine][-total:]
        self.settle(
            engine,
            [Said(one, change_of(kind, one.model, delay)) for one, (kind, delay) in zip(held, plan, strict=False)],
        )

    @precondition(lambda self: self.held())
    @rule(number=picks, result=texts, ago=moments, several=st.integers(1, 4))
    def complete(self, number: int, result: str, ago: int, several: int) -> None:
        held = self.held()
        chosen = (held[number % len(held) :] + held)[: min(several, len(held))]
        self.pair.exchange(chosen[0].owner, complete=[(holding, result, ago) for holding in chosen])

    @precondition(lambda self: self.held())
    @rule(number=picks, kind=kinds, delay=moments)
    def move(self, number: int, kind: str, delay: int) -> None:
        held = self.held()
        holding = held[number % len(held)]
        self.settle(holding.owner, [Said(holding, change_of(kind, holding.model, delay))])

    @precondition(lambda self: self.held())
    @rule(number=picks, kind=kinds, delay=moments, specs=st.lists(job_specs, max_size=3), trouble=st.integers(0, 6))
    def move_and_follow(self, number: int, kind: str, delay: int, specs: list[Spec], trouble: int) -> None:
        """A holder's move with jobs that follow it; now and then one is there already, or cannot be stored."""
        held = self.held()
        holding = held[number % len(held)]
        then = [self.new_job(spec) for spec in specs]
        if trouble < 2:
            there = self.pick(number)
            assert there is not None
            then.insert(0, self.jobs[there.id]._replace(args='"other"'))
        if trouble in (2, 3) and then:
            # Without a once key: a job that is passed over for its key need not be looked at further.
            no_text = then[0]._replace(id=holding.model.id[::-1], name=factory.NO_TEXT)
            then.append(no_text._replace(once_key=None, once_until=None))
        if trouble > 3 and then:
            # Free again if this move ends the job.
            then[0] = then[0]._replace(unique_key=self.pair.rows[holding.model.id].unique_key)
        self.settle(holding.owner, [Said(holding, change_of(kind, holding.model, delay), then)])

    @precondition(lambda self: self.held())
    @rule(number=picks, ago=moments)
    def note_twice(self, number: int, ago: int) -> None:
        """What a job says of itself adds up: the second note leaves what the first one said."""
        held = self.held()
        holding = held[number % len(held)]
        first = states.note(holding.model, ago=ago, checkpoint=f'"{number}"', lines=((ago, "a"), (0, "b")))
        second = states.note(holding.model, ago=None, progress=f'"{number}"', lines=((0, "c"),))
        self.settle(holding.owner, [Said(holding, first), Said(holding, second)])

    def settle(self, owner: str, outcomes: list[Said], *, tells: bool = True) -> None:
        """Moves of a holder, remembered so that they can be repeated."""
        self.pair.exchange(owner, outcomes=outcomes, tells=tells)
        self.last_exchange = (owner, outcomes)

    @precondition(lambda self: self.last_exchange is not None)
    @rule(spec=job_specs)
    def repeat_after_a_lost_answer(self, spec: Spec) -> None:
        """The same again, and one more follow-up each: with a move that was ours before, none is stored."""
        assert self.last_exchange is not None
        owner, outcomes = self.last_exchange
        again = []
        for said in outcomes:
            # Whether what cannot be stored is refused before or after the look at whose the move was is the store's.
            then = [job for job in said.then if job.name != factory.NO_TEXT]
            again.append(said._replace(then=[*then, self.new_job(spec)]))
        self.settle(owner, again)

    @precondition(lambda self: self.stale())
    @rule(number=picks, kind=kinds, delay=moments, spec=job_specs)
    def move_with_old_token(self, number: int, kind: str, delay: int, spec: Spec) -> None:
        stale = self.stale()
        holding = stale[-1 - number % len(stale)]
        before = self.pair.rows.get(holding.model.id)
        late = Said(holding, change_of(kind, holding.model, delay), [self.new_job(spec)])
        answer = self.pair.exchange(holding.owner, complete=[(holding, '"late"', 0)], outcomes=[late])
        assert len(answer.refusals) == 2
        after = self.pair.rows.get(holding.model.id)
        # Due by now, or its key has room: then any exchange lets it in line.
        assert before == after or (before and before.hold in ("delay", "limit"))

    @precondition(lambda self: self.held() and self.stale())
    @rule(pick=picks, kind=kinds, other_kind=kinds, engine=engines, total=st.integers(0, 4), limits=queue_limits)
    def exchange_of_everything(
        self, pick: int, kind: str, other_kind: str, engine: str, total: int, limits: Mapping[str, QueueLimit]
    ) -> None:
        held, stale = self.held(), self.stale()
        good, another, bad = held[pick % len(held)], held[(pick + 1) % len(held)], stale[-1 - pick % len(stale)]
        self.pair.exchange(
            engine,
            complete=[(another, '"done"', 1_000), (bad, '"late"', 0)],
            outcomes=[Said(good, change_of(kind, good.model, 0)), Said(bad, change_of(other_kind, bad.model, 0))],
            want=Want([(queue, total) for queue in QUEUES], total, limits),
        )

    @precondition(lambda self: self.held())
    @rule(engine=engines)
    def hand_back_and_claim_again(self, engine: str) -> None:
        """An engine gives back all it holds and takes what it can get, in one exchange."""
        mine = [holding for holding in self.held() if holding.owner == engine]
        self.pair.exchange(
            engine,
            outcomes=[Said(holding, states.hand_back(holding.model)) for holding in mine[:MOST]],
            want=Want([(queue, 20) for queue in QUEUES], 20),
        )

    @precondition(lambda self: self.pair.claims)
    @rule(engine=engines, old=st.lists(picks, max_size=3))
    def renew(self, engine: str, old: list[int]) -> None:
        """An engine renews all it holds, and some that it believes to hold."""
        mine = [holding for holding in self.held() if holding.owner == engine]
        for number in old:
            holding = self.pair.claims[-1 - number % len(self.pair.claims)]
            if holding.model.id not in {one.model.id for one in mine}:
                mine.append(holding)
        self.pair.renew(engine, mine)

    @precondition(lambda self: self.stale())
    @rule(number=picks)
    def renew_with_old_token(self, number: int) -> None:
        stale = self.stale()
        holding = stale[-1 - number % len(stale)]
        self.pair.renew(holding.owner, [holding])

    # -- what an engine's death brings

    def _rescue(self, held: Sequence[Holding], *, lapsed: bool) -> None:
        outcomes = [Said(one, states.rescue(one.model, error=ERROR, lapsed=lapsed)) for one in held[:MOST]]
        self.settle("rescuer", outcomes, tells=False)

    @precondition(lambda self: self.held())
    @rule(passing=st.sampled_from([0, LEASE - 1_000, LEASE, LEASE]))
    def rescue(self, passing: int) -> None:
        self.clock.advance(passing / SECOND)
        self._rescue(self.pair.find_held([], lapsed=True), lapsed=True)

    @precondition(lambda self: self.held())
    @rule(back=st.sampled_from([0, 1_000, SECOND]), forth=st.sampled_from([0, SECOND]))
    def rescue_late(self, back: int, forth: int) -> None:
        """Between finding and taking the clock steps, and the holder renews if it still can."""
        self.clock.advance(LEASE / SECOND)
        held = self.pair.find_held([], lapsed=True)
        self.clock.step(-back / SECOND)
        for holding in held[::2]:
            self.pair.renew(holding.model.claimed_by, [holding])
        self.clock.step(forth / SECOND)
        self._rescue(held, lapsed=True)

    @precondition(lambda self: self.held())
    @rule(engine=engines)
    def crash_engine(self, engine: str) -> None:
        """Its keeper saw it die: others take its jobs before the leases run out."""
        self._rescue(self.pair.find_held([engine], lapsed=False), lapsed=False)

    @rule()
    def let_in(self) -> None:
        """What a death left behind a key that has room again is put back in line."""
        self.pair.on_both(lambda backend: backend.let_in(1_000))

    # -- time

    @rule(moment=st.sampled_from([1_000, SECOND, LEASE - 1_000, LEASE, LEASE, 2 * LEASE, DAY]))
    def advance_clock(self, moment: int) -> None:
        self.clock.advance(moment / SECOND)

    @rule(moment=st.sampled_from([1_000, SECOND, LEASE]))
    def clock_back(self, moment: int) -> None:
        now = self.clock.now()
        self.earliest = max(self.earliest, self.pair.model.store.starts.last_over(now))
        self.clock.step(-min(moment, now - self.earliest) / SECOND)

    # -- operators

    @precondition(lambda self: self.rows())
    @rule(number=picks, kind=operations, delay=moments)
    def operate(self, number: int, kind: str, delay: int) -> None:
        # Now and then on a job whose state does not allow it; often on one under a hold.
        row = self.pick(number, lambda row: is_for(kind, row)) if number % 5 else self.pick(number)
        if number % 3 == 0 and kind not in ("ask", "retry"):
            row = self.pick(number, lambda row: row.hold is not None) or row
        if row is None:
            return
        change = change_by_operator(kind, row, delay)
        if change is not None:
            self._operate(row, change)

    @precondition(lambda self: self._rivals())
    @rule(number=picks)
    def retry_into_a_taken_key(self, number: int) -> None:
        rivals = self._rivals()
        row = rivals[number % len(rivals)]
        assert self._operate(row, states.retry_ended(row)) is None

    def _rivals(self) -> list[JobRow]:
        """Jobs to retry whose unique key a living one holds."""
        taken = {row.unique_key for row in self.rows() if is_alive(row)} - {None}
        return [row for row in self.rows() if is_for("retry", row) and row.unique_key in taken]

    def _operate(self, row: JobRow, change: Change) -> JobRow | None:
        def move(backend: Backend) -> JobRow | None:
            after = backend.apply_by_operator(row.id, change)
            return after and plain(after)

        try:
            after = self.pair.on_both(move)
        except DuplicateJobError:
            assert change.verb == "retry"
            return None
        assert (after is None) == (row.state not in change.sources)
        if after is not None and is_ended(row):
            del self.seen[row.id]
        if after is not None and after.cancel_requested is not None:
            for engine in ENGINES:  # of which one holds it
                self.pair.exchange(engine)
        return after

    @precondition(lambda self: any(row.hold == "parked" for row in self.rows()))
    @rule(names=st.lists(st.sampled_from(NAMES), max_size=1))
    def unpark(self, names: list[str]) -> None:
        self.pair.on_both(lambda backend: backend.unpark(names))

    @precondition(lambda self: any(row.hold == "after" for row in self.rows()))
    @rule(data=st.data())
    def release_dependents(self, data: st.DataObject) -> None:
        held = sorted(row.id for row in self.rows() if row.hold == "after")
        ids = data.draw(st.lists(st.sampled_from(held), min_size=1, max_size=3, unique=True))
        self.pair.on_both(lambda backend: [one[:2] for one in backend.dependents(after=None, limit=20)])
        self.pair.on_both(lambda backend: factory.release(backend, *ids))

    # -- deleting

    @precondition(lambda self: any(map(is_ended, self.rows())))
    @rule(
        ended=st.sampled_from([ENDED_STATES, ENDED_STATES, ENDED_STATES[:1], ENDED_STATES[1:]]),
        age=st.sampled_from([None, None, 0, 60 * SECOND]),
        before=st.sampled_from([-LEASE, 0, SECOND, SECOND]),
        limit=st.sampled_from([1, 2, 20]),
    )
    def prune(self, ended: Sequence[str], age: int | None, before: int, limit: int) -> None:
        # By age or by an instant, as engines and operators do.
        moment = self.clock.now() + before if age is None else None
        removed = self.pair.real.prune(states=ended, finished_before=moment, age=age, limit=limit)
        left = {row.id for row in self.pair.real.get(list(self.pair.rows))}
        gone = self.pair.rows.keys() - left
        allowed = self._prunable(ended, moment, age)
        assert gone <= allowed
        assert removed == len(gone) == min(limit, len(allowed))
        self.pair.model.delete(list(gone))
        self._forget(gone)
        store, now = self.pair.model.store, self.clock.now()
        self.earliest = max(self.earliest, store.once.forget(now), store.starts.last_over(now))
        store.starts.forget(now)

    def _prunable(self, ended: Sequence[str], moment: int | None, age: int | None) -> set[bytes]:
        trial = ModelBackend(ModelStore(self.clock, rows=dict(self.pair.rows), applied=[1]))
        trial.prune(states=ended, finished_before=moment, age=age, limit=1_000_000)
        return set(self.pair.rows) - set(trial.store.rows)

    @precondition(lambda self: any(map(is_ended, self.rows())))
    @rule(numbers=st.lists(picks, max_size=4))
    def delete(self, numbers: list[int]) -> None:
        rows = self.rows()
        chosen = [rows[number % len(rows)] for number in numbers]
        self.pair.on_both(lambda backend: backend.delete([row.id for row in chosen]))
        self._forget({row.id for row in chosen if is_ended(row)})

    def _forget(self, job_ids: set[bytes]) -> None:
        for job_id in job_ids:
            self.seen.pop(job_id, None)

    # -- opening again

    @rule(which=st.integers(0, 1))
    def reconnect(self, which: int) -> None:
        self.pair.reconnect(which)

    # -- what holds after every step

    @invariant()
    def rows_are_the_models(self) -> None:
        """I1."""
        ids = list(self.jobs)
        found = {row.id: row for row in self.pair.real.get(ids)}
        expected = self.pair.rows
        assert found.keys() == expected.keys()
        for job_id, row in found.items():
            assert row._replace(version=expected[job_id].version) == expected[job_id]
        tries: dict[bytes, list[object]] = {}
        for attempt in self.pair.real.attempts(ids):
            tries.setdefault(attempt.job_id, []).append(attempt)
        assert tries == {job_id: several for job_id, several in self.pair.model.store.attempts.items() if several}
        lines: dict[bytes, list[LogLine]] = {}
        for line in self.pair.real.log_lines(ids):
            lines.setdefault(line.job_id, []).append(line)
        kept = {job_id: several for job_id, several in self.pair.model.store.lines.items() if several}
        # A store may keep somewhat more: the model's are the last of them.
        assert {job_id: several[-len(kept.get(job_id, several)) :] for job_id, several in lines.items()} == kept
        self._check_each(found)
        self.seen = found

    def _check_each(self, found: dict[bytes, JobRow]) -> None:
        """I2, I3, I4, I8, I9, I14."""
        for job_id, row in found.items():
            before = self.seen.get(job_id)
            if row == before:
                continue  # as after the step before, when it was sound
            assert not list(faults(row))
            if before is not None:
                assert row.claim_token >= before.claim_token
                assert row.version >= before.version
                assert not is_ended(before)
        keys = Counter(row.unique_key for row in found.values() if row.unique_key is not None and is_alive(row))
        assert not keys or max(keys.values()) == 1
        at_work = Counter(row.limit_key for row in found.values() if is_at_work(row))
        assert all(at_work[key] <= most for key, most in MOST_AT_WORK.items())

    @invariant()
    def figures_are_the_rows(self) -> None:
        """I11. One way to ask for them after each step: whatever is wrong in one of them is so after the next, too."""
        next(self.figures)()

    def _the_tally_is_the_rows(self) -> None:
        expected = self.pair.model.tally()
        found = self.pair.real.tally()
        counts = {state: n for state, n in found.counts.items() if n}
        assert (counts, found.delayed) == (expected.counts, expected.delayed)
        # A store may look at the first of each line only, and behind it may be one that is due longer.
        if expected.oldest_waiting is None:
            assert found.oldest_waiting is None
        else:
            assert found.oldest_waiting is not None and 0 <= found.oldest_waiting <= expected.oldest_waiting

    def _counts_are_the_rows(self) -> None:
        assert without_zeros(self.pair.real.count(Filter())) == without_zeros(self.pair.model.count(Filter()))

    def _ends_are_the_rows(self) -> None:
        ids = list(self.jobs)
        assert {end.id: end for end in self.pair.real.ended(ids)} == {end.id: end for end in self.pair.model.ended(ids)}


def machine_for(new_harness: Callable[[], Harness]) -> type[Machine]:
    """The state machine over one kind of store.

    new_harness: gives a harness over a new, empty store for each history; the machine closes it.
    """
    return type("StoreMachine", (Machine,), {"new_harness": staticmethod(new_harness)})


def run_histories(new_harness: Callable[[], Harness], how: settings = CI) -> None:
    """Run random histories; the first that differs from the model is shrunk, shown and raised."""
    run_state_machine_as_test(machine_for(new_harness), settings=how)
