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
(I10, ticks of a schedule, comes with schedules.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobcard.backends.base import Backend, Enqueued, Fate, Filter, RecordKind, Want
from jobcard.conformance import factory
from jobcard.conformance.drawing import (
    CI,
    ENDED_STATES,
    ENGINES,
    ERROR,
    KEYS,
    LEASE,
    MOST,
    NAMES,
    QUEUES,
    Spec,
    change_by_operator,
    change_of,
    engines,
    is_for,
    job_of,
    job_specs,
    kinds,
    line_ups,
    moments,
    operations,
    picks,
    texts,
)
from jobcard.conformance.harness import Harness
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.conformance.pair import Holding, Pair, Said, listed, plain, without_zeros
from jobcard.conformance.rules import is_alive, is_at_work, is_ended
from jobcard.core import states
from jobcard.core.clock import DAY, SECOND
from jobcard.core.job import JobRow, LogLine, NewJob
from jobcard.core.soundness import faults
from jobcard.core.states import Change
from jobcard.errors import DuplicateJobError


class Machine(RuleBasedStateMachine):
    """One history on an empty store. `machine_for` says which store."""

    new_harness: Callable[[], Harness]

    def __init__(self) -> None:
        super().__init__()
        self.harness = type(self).new_harness()
        self.clock = self.harness.clock
        self.pair = Pair(self.harness)
        self.jobs: dict[bytes, NewJob] = {}
        self.last_exchange: tuple[str, list[Said]] | None = None
        self.seen: dict[bytes, JobRow] = {}

    def teardown(self) -> None:
        self.harness.close()

    # -- picking

    def rows(self) -> list[JobRow]:
        """The model's jobs."""
        return list(self.pair.rows.values())

    def pick(self, number: int, wanted: Callable[[JobRow], bool] = lambda row: True) -> JobRow | None:
        """One of the jobs wanted."""
        found = [row for row in self.rows() if wanted(row)]
        return found[number % len(found)] if found else None

    def is_held(self, holding: Holding) -> bool:
        """The claim is still good."""
        row = self.pair.rows.get(holding.model.id)
        return row is not None and is_at_work(row) and row.claim_token == holding.model.token

    def held(self) -> list[Holding]:
        """Claims that are still good."""
        return [holding for holding in self.pair.claims if self.is_held(holding)]

    def stale(self) -> list[Holding]:
        """Claims that are gone or used up: those of jobs that are held by a later claim, else the latest."""
        gone = [holding for holding in self.pair.claims if not self.is_held(holding)]
        at_work = {row.id: row.claimed_by for row in self.rows() if is_at_work(row)}
        same_owner = [one for one in gone if at_work.get(one.model.id) == one.owner]
        return same_owner or [one for one in gone if one.model.id in at_work] or gone[-10:]

    def new_job(self, spec: Spec) -> NewJob:
        """A job of this kind, remembered by its id."""
        job = job_of(spec, born=len(self.jobs), now=self.clock.now())
        self.jobs[job.id] = job
        return job

    # -- producing

    @initialize(specs=st.lists(job_specs, min_size=2, max_size=6))
    def begin(self, specs: list[Spec]) -> None:
        """A history begins with some jobs, a few of them claimed."""
        self.enqueue_many(specs)
        self.claim(ENGINES[0], list(QUEUES), 2, 2)
        self.claim(ENGINES[1], list(QUEUES), 1, 1)

    @rule(specs=st.lists(job_specs, max_size=8))
    def enqueue_many(self, specs: list[Spec]) -> None:
        jobs = [self.new_job(spec) for spec in specs]
        answers = self.pair.on_both(lambda backend: backend.enqueue(jobs))
        assert {answer.fate for answer in answers} <= {Fate.STORED, Fate.KEY_TAKEN}

    @precondition(lambda self: len(self.rows()) < 300)
    @rule(spec=job_specs, size=st.sampled_from([20, 50]))
    def enqueue_a_crowd(self, spec: Spec, size: int) -> None:
        jobs = [self.new_job({**spec, "salt": place % 7}) for place in range(size)]
        self.pair.on_both(lambda backend: backend.enqueue(jobs))

    @rule(spec=job_specs, key=st.sampled_from(KEYS), twice=st.booleans())
    def enqueue_unique(self, spec: Spec, key: str, twice: bool) -> None:
        jobs = [self.new_job({**spec, "unique_key": key}) for _ in range(1 + twice)]
        self.pair.on_both(lambda backend: backend.enqueue(jobs))

    @precondition(lambda self: self.rows())
    @rule(number=picks, other_args=st.booleans(), beside=job_specs)
    def enqueue_same_id_again(self, number: int, other_args: bool, beside: Spec) -> None:
        row = self.pick(number)
        assert row is not None
        again = self.jobs[row.id]
        again = again._replace(args='"other"') if other_args else again
        answers = self.pair.on_both(lambda backend: backend.enqueue([again, again]))
        assert answers == [Enqueued(Fate.ID_TAKEN if other_args else Fate.REPEATED, row.id)] * 2
        jobs = [again, self.new_job(beside)]
        self.pair.on_both(lambda backend: backend.enqueue(jobs))

    # -- holding

    @rule(engine=engines, queues=line_ups, each=st.integers(0, 5), total=st.integers(0, 12))
    def claim(self, engine: str, queues: list[str], each: int, total: int) -> None:
        before = dict(self.pair.rows)
        answer = self.pair.exchange(engine, want=Want([(queue, each) for queue in queues], total))
        for claim in answer.claimed:
            assert claim.token > before[claim.id].claim_token
            assert before[claim.id].state == "waiting"

    @rule(engine=engines, plan=st.lists(st.tuples(kinds, moments), min_size=1, max_size=6))
    def work(self, engine: str, plan: list[tuple[str, int]]) -> None:
        """Claim a few jobs and settle the latest claims together, each in its own way."""
        total = len(plan)
        self.pair.exchange(engine, want=Want([(queue, total) for queue in QUEUES], total))
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
            then.append(then[0]._replace(id=holding.model.id[::-1], name=factory.NO_TEXT))
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

    def settle(self, owner: str, outcomes: list[Said]) -> None:
        """Moves of a holder, remembered so that they can be repeated."""
        self.pair.exchange(owner, outcomes=outcomes)
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
        assert before == after or (before and before.hold == "delay")  # due by now, and released by any exchange

    @precondition(lambda self: self.held() and self.stale())
    @rule(pick=picks, kind=kinds, other_kind=kinds, engine=engines, total=st.integers(0, 4))
    def exchange_of_everything(self, pick: int, kind: str, other_kind: str, engine: str, total: int) -> None:
        held, stale = self.held(), self.stale()
        good, another, bad = held[pick % len(held)], held[(pick + 1) % len(held)], stale[-1 - pick % len(stale)]
        self.pair.exchange(
            engine,
            complete=[(another, '"done"', 1_000), (bad, '"late"', 0)],
            outcomes=[Said(good, change_of(kind, good.model, 0)), Said(bad, change_of(other_kind, bad.model, 0))],
            want=Want([(queue, total) for queue in QUEUES], total),
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
        self.settle("rescuer", [Said(one, states.rescue(one.model, error=ERROR, lapsed=lapsed)) for one in held[:MOST]])

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

    # -- time

    @rule(moment=st.sampled_from([1_000, SECOND, LEASE - 1_000, LEASE, LEASE, 2 * LEASE, DAY]))
    def advance_clock(self, moment: int) -> None:
        self.clock.advance(moment / SECOND)

    @rule(moment=st.sampled_from([1_000, SECOND, LEASE]))
    def clock_back(self, moment: int) -> None:
        self.clock.step(-moment / SECOND)

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

    # -- looking up, records, opening again

    @rule(
        states_=st.lists(st.sampled_from([*ENDED_STATES, "waiting", "claimed", "running"]), max_size=2, unique=True),
        queues=st.lists(st.sampled_from([*QUEUES, "nowhere"]), max_size=2, unique=True),
        names=st.lists(st.sampled_from(NAMES), max_size=1),
        tags=st.sampled_from([[], [], ["a"], ["b", "a"]]),
        search=st.sampled_from([None, None, "ai", "%", "-0000-"]),
        since=st.sampled_from([None, None, 0, LEASE]),
        touched=st.sampled_from([None, None, 0, LEASE]),
        error_kind=st.sampled_from([None, None, "X", "lost"]),
        limit=st.integers(1, 30),
        number=picks,
    )
    def list_and_count(
        self,
        states_: list[str],
        queues: list[str],
        names: list[str],
        tags: list[str],
        search: str | None,
        since: int | None,
        touched: int | None,
        error_kind: str | None,
        limit: int,
        number: int,
    ) -> None:
        where = Filter(
            states=states_,
            queues=queues,
            names=names,
            tags=tags,
            search=search,
            after=None if since is None else self.clock.now() - since,
            touched_since=None if touched is None else self.clock.now() - touched,
            error_kind=error_kind,
        )
        below = self.pick(number, lambda row: True) if number % 2 else None
        before_id = None if below is None else below.id
        self.pair.on_both(lambda backend: listed(backend, where, limit, before_id))
        self.pair.on_both(lambda backend: without_zeros(backend.count(where)))
        self.pair.on_both(lambda backend: without_zeros(backend.count(where, limit=3)))
        if below is not None:
            self.pair.on_both(lambda backend: listed(backend, Filter(), limit, below.id))
            self.pair.on_both(lambda backend: backend.attempts([below.id]))

    @rule(since=st.sampled_from([0, 1_000, SECOND, LEASE, DAY]), limit=st.integers(1, 30))
    def list_touched(self, since: int, limit: int) -> None:
        where = Filter(touched_since=self.clock.now() - since)
        self.pair.on_both(lambda backend: listed(backend, where, limit))
        self.pair.on_both(lambda backend: without_zeros(backend.count(where)))

    @rule(step=st.sampled_from([SECOND, LEASE, DAY]), buckets=st.integers(1, 5))
    def chart(self, step: int, buckets: int) -> None:
        first = self.clock.now() - step * (buckets - 1)
        self.pair.on_both(
            lambda backend: [
                (bucket.at, {state: n for state, n in bucket.counts.items() if n})
                for bucket in backend.count_over_time(first=first, step=step, buckets=buckets)
            ]
        )

    @rule(
        kind=st.sampled_from(RecordKind),
        key=st.sampled_from(["x", "y"]),
        expect=st.sampled_from([None, None, 0, 1, 2]),
        remove=st.integers(0, 3),
    )
    def keep_records(self, kind: RecordKind, key: str, expect: int | None, remove: int) -> None:
        if remove == 0:
            self.pair.on_both(lambda backend: backend.remove_record(kind, key))
        else:
            self.pair.on_both(lambda backend: backend.write_record(kind, key, f'"{len(self.jobs)}"', expect=expect))
        # The text of a record that an enqueue made is the store's affair.
        self.pair.on_both(
            lambda backend: [
                (record.key, record.version, max(0, record.age))
                for record in backend.read_records(kind)
                if kind is not RecordKind.QUEUE or record.key in ("x", "y")
            ]
        )

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
            assert plain(row) == plain(expected[job_id])
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
        """I2, I3, I4, I8, I9."""
        for job_id, row in found.items():
            assert not list(faults(row))
            before = self.seen.get(job_id)
            if before is not None:
                assert row.claim_token >= before.claim_token
                assert row.version >= before.version
                assert not is_ended(before) or row == before
        keys = Counter(row.unique_key for row in found.values() if row.unique_key is not None and is_alive(row))
        assert not keys or max(keys.values()) == 1

    @invariant()
    def figures_are_the_rows(self) -> None:
        """I11."""
        expected = self.pair.model.tally()
        found = self.pair.real.tally()
        counts = {state: n for state, n in found.counts.items() if n}
        assert (counts, found.delayed) == (expected.counts, expected.delayed)
        # A store may look at the first of each line only, and behind it may be one that is due longer.
        if expected.oldest_waiting is None:
            assert found.oldest_waiting is None
        else:
            assert found.oldest_waiting is not None and 0 <= found.oldest_waiting <= expected.oldest_waiting
        by_queue = without_zeros(self.pair.real.count(Filter()))
        total: Counter[str] = Counter()
        for by_state in by_queue.values():
            total.update(by_state)
        assert total == expected.counts
        ended = {end.id: end for end in self.pair.real.ended(list(self.jobs))}
        assert ended == {end.id: end for end in self.pair.model.ended(list(self.jobs))}


def machine_for(new_harness: Callable[[], Harness]) -> type[Machine]:
    """The state machine over one kind of store.

    new_harness: gives a harness over a new, empty store for each history; the machine closes it.
    """
    return type("StoreMachine", (Machine,), {"new_harness": staticmethod(new_harness)})


def run_histories(new_harness: Callable[[], Harness], how: settings = CI) -> None:
    """Run random histories; the first that differs from the model is shrunk, shown and raised."""
    run_state_machine_as_test(machine_for(new_harness), settings=how)
