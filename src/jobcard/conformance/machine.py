"""Long random histories: the same moves on the model and on the store under test, compared after each.

What must hold after every step:
    I1   every job of the store equals the model's, field by field, its recorded tries too
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
from typing import Any, NamedTuple, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobcard.backends.base import (
    NOTHING,
    Backend,
    Completions,
    Enqueued,
    Exchanged,
    Fate,
    Filter,
    Outcome,
    RecordKind,
    Want,
)
from jobcard.conformance.harness import Harness
from jobcard.conformance.model import ModelBackend, ModelStore, is_alive, is_at_work, is_ended
from jobcard.core import states
from jobcard.core.clock import DAY, SECOND
from jobcard.core.job import Claimed, JobRow, NewJob, Ref
from jobcard.core.states import Change
from jobcard.errors import DuplicateJobError, JobcardError

LEASE = 30 * SECOND
QUEUES = ("alpha", "beta")
NAMES = ("mail", "report")
KEYS = ("k1", "k2")
ENGINES = ("e1", "e2", "e3")
ENDED_STATES = ("completed", "failed", "canceled")
ERROR = '{"kind": "error"}'

T = TypeVar("T")

CI = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
"""What every merge runs."""

SOAK = settings(CI, max_examples=5_000, stateful_step_count=100)
"""What a night runs."""

# ------------------------------------------------------------------ what is drawn

# Whole milliseconds: a store may keep no finer time.
moments = st.sampled_from([0, 0, 0, 1_000, 5 * SECOND, LEASE, 90 * SECOND, 1_000_000 * SECOND])
picks = st.integers(min_value=0, max_value=1_000)
engines = st.sampled_from(ENGINES)
texts = st.sampled_from(['"plain"', "null", '["é 😀"]', '"it\'s %_\\\\"'])
line_ups = st.permutations(QUEUES).flatmap(lambda queues: st.integers(1, len(queues)).map(lambda n: queues[:n]))

job_specs = st.fixed_dictionaries(
    {
        "salt": st.integers(0, 255),
        "queue": st.sampled_from(QUEUES),
        "name": st.sampled_from(NAMES),
        "args": texts,
        "rank": st.integers(-2, 2),
        "order_offset": st.sampled_from([0, 0, -5 * SECOND, 5 * SECOND]),
        "delay": moments,
        "at_offset": st.one_of(st.none(), st.none(), st.integers(-10, 30).map(lambda seconds: seconds * SECOND)),
        "max_attempts": st.integers(1, 3),
        "max_crashes": st.integers(1, 3),
        "keep": st.sampled_from([None, None, 0, 60 * SECOND]),
        "unique_key": st.sampled_from([None, None, None, *KEYS]),
        "tags": st.sampled_from([None, "[]", '["a"]', '["a", "b"]']),
    }
)
Spec = dict[str, Any]


class Holding(NamedTuple):
    """A claim as an engine remembers it: the store's proof, and the model's."""

    owner: str
    real: Claimed
    model: Claimed


class Machine(RuleBasedStateMachine):
    """One history on an empty store. `machine_for` says which store."""

    new_harness: Callable[[], Harness]

    def __init__(self) -> None:
        super().__init__()
        self.harness = type(self).new_harness()
        self.clock = self.harness.clock
        self.backends = [self.harness.ready(), self.harness.open()]
        self.model = ModelBackend(ModelStore(self.clock))
        self.model.migrate()
        self.turn = 0
        self.born = 0
        self.jobs: dict[bytes, NewJob] = {}
        self.claims: list[Holding] = []
        self.refs: dict[Ref, bytes] = {}
        self.last_exchange: tuple[str, list[Holding], list[Change]] | None = None
        self.seen: dict[bytes, JobRow] = {}
        self.settings = 0

    def teardown(self) -> None:
        self.harness.close()

    # -- both at once

    @property
    def real(self) -> Backend:
        """The backends take turns: a transaction that one left open would stop the other."""
        self.turn += 1
        return self.backends[self.turn % len(self.backends)]

    def on_both(self, move: Callable[[Backend], T]) -> T:
        """The same call on model and store; same answer, same error."""
        try:
            expected = move(self.model)
        except JobcardError as error:
            refused: JobcardError | None = None
            try:
                move(self.real)
            except type(error) as same:
                refused = same
            assert refused is not None, f"the model refuses: {error!r}"
            assert vars(refused) == vars(error)
            raise
        found = move(self.real)
        assert found == expected, f"store: {found!r}\nmodel: {expected!r}"
        return found

    def exchange(
        self,
        owner: str,
        *,
        complete: Sequence[tuple[Holding, str, int]] = (),
        outcomes: Sequence[tuple[Holding, Change]] = (),
        want: Want = NOTHING,
    ) -> Exchanged:
        """The same exchange on both; answers are compared, claims remembered. Gives the model's answer."""

        def send(backend: Backend, proof: Callable[[Holding], Claimed]) -> Exchanged:
            return backend.exchange(
                owner,
                completions=Completions(
                    refs=[proof(holding).ref for holding, _, _ in complete],
                    tokens=[proof(holding).token for holding, _, _ in complete],
                    results=[result for _, result, _ in complete],
                    started_ago=[ago for _, _, ago in complete],
                ),
                outcomes=[Outcome(proof(holding).ref, proof(holding).token, change) for holding, change in outcomes],
                want=want,
                lease=LEASE,
            )

        expected = send(self.model, lambda holding: holding.model)
        found = send(self.real, lambda holding: holding.real)
        assert [claim.id for claim in found.claimed] == [claim.id for claim in expected.claimed]
        for claim, its_model in zip(found.claimed, expected.claimed, strict=True):
            assert claim._replace(ref=b"") == its_model._replace(ref=b"")
            self.refs[claim.ref] = its_model.id
            self.claims.append(Holding(owner, claim, its_model))
        assert self._told(found, self.refs) == self._told(expected, {job_id: job_id for job_id in self.jobs})
        assert found.next_due == expected.next_due
        assert found.settings >= self.settings
        self.settings = found.settings
        return expected

    @staticmethod
    def _told(answer: Exchanged, ids: dict[Any, bytes]) -> list[object]:
        refusals = Counter((ids[refusal.ref], refusal.token, refusal.verdict) for refusal in answer.refusals)
        return [refusals, {(ids[ref], reason) for ref, reason in answer.cancels}]

    # -- picking

    def rows(self) -> list[JobRow]:
        """The model's jobs."""
        return list(self.model.store.rows.values())

    def pick(self, number: int, wanted: Callable[[JobRow], bool]) -> JobRow | None:
        """One of the jobs wanted."""
        found = [row for row in self.rows() if wanted(row)]
        return found[number % len(found)] if found else None

    def is_held(self, holding: Holding) -> bool:
        """The claim is still good."""
        row = self.model.store.rows.get(holding.model.id)
        return row is not None and is_at_work(row) and row.claim_token == holding.model.token

    def held(self) -> list[Holding]:
        """Claims that are still good."""
        return [holding for holding in self.claims if self.is_held(holding)]

    def stale(self) -> list[Holding]:
        """Claims that are gone, or were used up."""
        return [holding for holding in self.claims if not self.is_held(holding)]

    def new_job(self, spec: Spec) -> NewJob:
        """A job of this kind under a new id; ids do not rise, so that their order is tested too."""
        self.born += 1
        offset = spec["at_offset"]
        job = NewJob(
            id=bytes([spec["salt"]]) * 8 + self.born.to_bytes(8, "big"),
            queue=spec["queue"],
            name=spec["name"],
            init=None,
            args=spec["args"],
            kwargs="{}",
            priority=-spec["rank"],
            rank=spec["rank"],
            order_offset=spec["order_offset"],
            delay=spec["delay"],
            at=None if offset is None else self.clock.now() + offset,
            max_attempts=spec["max_attempts"],
            max_crashes=spec["max_crashes"],
            backoff="{}",
            timeout=None,
            keep=spec["keep"],
            unique_key=spec["unique_key"],
            limit_key=None,
            batch_id=None,
            parent_id=None,
            schedule_id=None,
            tags=spec["tags"],
            meta=None,
        )
        self.jobs[job.id] = job
        return job

    # -- producing

    @initialize(specs=st.lists(job_specs, min_size=2, max_size=6))
    def begin(self, specs: list[Spec]) -> None:
        """A history begins with some jobs, a few of them claimed."""
        self.enqueue_many(specs)
        self.claim_all(ENGINES[0], 2)
        self.claim_all(ENGINES[1], 1)

    @rule(specs=st.lists(job_specs, max_size=8))
    def enqueue_many(self, specs: list[Spec]) -> None:
        jobs = [self.new_job(spec) for spec in specs]
        answers = self.on_both(lambda backend: backend.enqueue(jobs))
        assert {answer.fate for answer in answers} <= {Fate.STORED, Fate.KEY_TAKEN}

    @rule(spec=job_specs, size=st.sampled_from([20, 50]))
    def enqueue_a_crowd(self, spec: Spec, size: int) -> None:
        jobs = [self.new_job({**spec, "salt": place % 7}) for place in range(size)]
        if len(self.model.store.rows) < 300:
            self.on_both(lambda backend: backend.enqueue(jobs))

    @rule(spec=job_specs, delay=moments)
    def enqueue_delayed(self, spec: Spec, delay: int) -> None:
        job = self.new_job({**spec, "delay": delay, "at_offset": None})
        self.on_both(lambda backend: backend.enqueue([job]))

    @rule(spec=job_specs, key=st.sampled_from(KEYS), twice=st.booleans())
    def enqueue_unique(self, spec: Spec, key: str, twice: bool) -> None:
        jobs = [self.new_job({**spec, "unique_key": key}) for _ in range(1 + twice)]
        self.on_both(lambda backend: backend.enqueue(jobs))

    @rule(number=picks, other_args=st.booleans(), beside=job_specs)
    def enqueue_same_id_again(self, number: int, other_args: bool, beside: Spec) -> None:
        row = self.pick(number, lambda row: True)
        if row is None:
            return
        again = self.jobs[row.id]
        again = again._replace(args='"other"') if other_args else again
        jobs = [self.new_job(beside), again, again]
        answers = self.on_both(lambda backend: backend.enqueue(jobs))
        assert answers[1:] == [Enqueued(Fate.ID_TAKEN if other_args else Fate.REPEATED, row.id)] * 2

    # -- holding

    @rule(engine=engines, queues=line_ups, each=st.integers(0, 5), total=st.integers(0, 8))
    def claim(self, engine: str, queues: list[str], each: int, total: int) -> None:
        before = {row.id: row for row in self.rows()}
        answer = self.exchange(engine, want=Want([(queue, each) for queue in queues], total))
        for claim in answer.claimed:
            assert claim.token > before[claim.id].claim_token
            assert before[claim.id].state == "waiting"

    @rule(engine=engines, total=st.integers(1, 20))
    def claim_all(self, engine: str, total: int) -> None:
        self.exchange(engine, want=Want([(queue, total) for queue in QUEUES], total))

    @precondition(lambda self: self.held())
    @rule(number=picks, result=texts, ago=moments, several=st.integers(1, 4))
    def complete(self, number: int, result: str, ago: int, several: int) -> None:
        held = self.held()
        chosen = (held[number % len(held) :] + held)[: min(several, len(held))]
        self.exchange(chosen[0].owner, complete=[(holding, result, ago) for holding in chosen])

    def settle(self, holding: Holding, change: Change) -> None:
        """One move of a holder, remembered so that it can be repeated."""
        self.exchange(holding.owner, outcomes=[(holding, change)])
        self.last_exchange = (holding.owner, [holding], [change])

    def change_of(self, kind: str, holding: Holding, delay: int) -> Change:
        """The move of this kind, as the engine that holds the claim would make it."""
        claim = holding.model
        match kind:
            case "start":
                return states.start(claim, ago=delay)
            case "complete":
                return states.complete('"as a change"')
            case "fail":
                return states.fail(claim, reason="error", error=ERROR, kind="X")
            case "retry":
                return states.retry(claim, reason="error", delay=delay, error=ERROR, kind="X")
            case "crash":
                return states.crash(claim, reason="crash", delay=delay, error=ERROR, kind="crash")
            case "snooze":
                return states.snooze(claim, delay=delay)
            case "cancel":
                return states.cancel_at_work(claim, reason="canceled", error=ERROR if delay else None)
            case "hand back":
                return states.hand_back(claim)
            case "interrupt":
                return states.interrupt(claim, error=ERROR)
            case "park":
                return states.park(claim)
        return states.quarantine(claim)

    kinds = st.sampled_from(
        ["start", "start", "complete", "fail", "retry", "retry", "crash", "snooze", "cancel", "hand back", "interrupt",
 "park", "park", "quarantine"]
    )  # fmt: skip

    @precondition(lambda self: self.held())
    @rule(number=picks, kind=kinds, delay=moments)
    def move(self, number: int, kind: str, delay: int) -> None:
        held = self.held()
        holding = held[number % len(held)]
        self.settle(holding, self.change_of(kind, holding, delay))

    @rule(engine=engines, plan=st.lists(st.tuples(kinds, moments), min_size=1, max_size=6))
    def work(self, engine: str, plan: list[tuple[str, int]]) -> None:
        """Claim a few jobs and settle them together, each in its own way."""
        total = len(plan)
        self.exchange(engine, want=Want([(queue, total) for queue in QUEUES], total))
        held = [holding for holding in self.held() if holding.owner == engine][-total:]
        changes = [self.change_of(kind, one, delay) for one, (kind, delay) in zip(held, plan, strict=False)]
        self.exchange(engine, outcomes=list(zip(held, changes, strict=True)))
        self.last_exchange = (engine, held, changes)

    @precondition(lambda self: self.stale())
    @rule(number=picks, kind=kinds, delay=moments)
    def move_with_old_token(self, number: int, kind: str, delay: int) -> None:
        stale = self.stale()
        holding = stale[-1 - number % min(len(stale), 10)]
        before = self.model.store.rows.get(holding.model.id)
        change = self.change_of(kind, holding, delay)
        answer = self.exchange(holding.owner, complete=[(holding, '"late"', 0)], outcomes=[(holding, change)])
        assert len(answer.refusals) == 2
        after = self.model.store.rows.get(holding.model.id)
        assert before is after or before == after or (after and before and after.hold != before.hold)

    @precondition(lambda self: self.held() and self.stale())
    @rule(pick=picks, kind=kinds, other_kind=kinds, engine=engines, total=st.integers(0, 4))
    def exchange_of_everything(self, pick: int, kind: str, other_kind: str, engine: str, total: int) -> None:
        held, stale = self.held(), self.stale()
        good, bad = held[pick % len(held)], stale[-1 - pick % min(len(stale), 10)]
        another = held[(pick + 1) % len(held)]
        self.exchange(
            engine,
            complete=[(another, '"done"', 1_000), (bad, '"late"', 0)],
            outcomes=[(good, self.change_of(kind, good, 0)), (bad, self.change_of(other_kind, bad, 0))],
            want=Want([(queue, total) for queue in QUEUES], total),
        )

    @precondition(lambda self: self.last_exchange is not None)
    @rule()
    def repeat_a_lost_answer(self) -> None:
        assert self.last_exchange is not None
        owner, holdings, changes = self.last_exchange
        self.exchange(owner, outcomes=list(zip(holdings, changes, strict=True)))

    @precondition(lambda self: self.claims)
    @rule(numbers=st.lists(picks, min_size=1, max_size=6), engine=engines)
    def renew(self, numbers: list[int], engine: str) -> None:
        chosen = {self.claims[number % len(self.claims)] for number in numbers}
        newest = {holding.real.ref: holding for holding in sorted(chosen, key=lambda one: one.real.token)}
        mine = [holding for holding in newest.values() if holding.owner == engine]
        self._renew(engine, mine)

    @precondition(lambda self: self.held())
    @rule(engine=engines)
    def heartbeat(self, engine: str) -> None:
        self._renew(engine, [holding for holding in self.held() if holding.owner == engine])

    @precondition(lambda self: self.stale())
    @rule(number=picks)
    def renew_with_old_token(self, number: int) -> None:
        stale = self.stale()
        holding = stale[number % len(stale)]
        self._renew(holding.owner, [holding])

    def _renew(self, owner: str, holdings: list[Holding]) -> None:
        gone = self.model.renew(owner, [(one.model.ref, one.model.token) for one in holdings], lease=LEASE)
        found = self.real.renew(owner, [(one.real.ref, one.real.token) for one in holdings], lease=LEASE)
        assert Counter(self.refs[ref] for ref in found) == Counter(gone)

    # -- what an engine's death brings

    def _find_held(self, owners: Sequence[str], *, lapsed: bool) -> list[Holding]:
        expected = {claim.id: claim for claim in self.model.find_held(owners, lapsed=lapsed, limit=1_000)}
        found = {claim.id: claim for claim in self.real.find_held(owners, lapsed=lapsed, limit=1_000)}
        assert found.keys() == expected.keys()
        for job_id, claim in found.items():
            assert claim._replace(ref=b"") == expected[job_id]._replace(ref=b"")
        few = self.real.find_held(owners, lapsed=lapsed, limit=2)
        assert len(few) == min(2, len(expected)) and {claim.id for claim in few} <= expected.keys()
        return [Holding("rescuer", found[job_id], expected[job_id]) for job_id in found]

    def _rescue(self, held: Sequence[Holding], *, lapsed: bool) -> None:
        rescues = [(one, states.rescue(one.model, error=ERROR, lapsed=lapsed)) for one in held]
        self.exchange("rescuer", outcomes=rescues)

    @precondition(lambda self: self.held())
    @rule(passing=st.sampled_from([0, LEASE - 1_000, LEASE, LEASE]))
    def rescue(self, passing: int) -> None:
        self.clock.advance(passing / SECOND)
        self._rescue(self._find_held([], lapsed=True), lapsed=True)

    @rule(engine=engines)
    def crash_engine(self, engine: str) -> None:
        """Its keeper saw it die: others take its jobs before the leases run out."""
        self._rescue(self._find_held([engine], lapsed=False), lapsed=False)

    @precondition(lambda self: self.held())
    @rule(back=st.sampled_from([0, 1_000, SECOND]), forth=st.sampled_from([0, SECOND]))
    def rescue_late(self, back: int, forth: int) -> None:
        """Between finding and taking the clock steps, and the holder renews if it still can."""
        self.clock.advance(LEASE / SECOND)
        held = self._find_held([], lapsed=True)
        self.clock.step(-back / SECOND)
        for holding in held[::2]:
            self._renew(holding.model.claimed_by, [holding])
        self.clock.step(forth / SECOND)
        self._rescue(held, lapsed=True)

    # -- time

    @rule(moment=st.sampled_from([1_000, SECOND, LEASE - 1_000, LEASE, LEASE, 2 * LEASE, DAY]))
    def advance_clock(self, moment: int) -> None:
        self.clock.advance(moment / SECOND)

    @rule(moment=st.sampled_from([1_000, SECOND, LEASE]))
    def clock_back(self, moment: int) -> None:
        self.clock.step(-moment / SECOND)

    # -- operators

    @precondition(lambda self: self.rows())
    @rule(number=picks, kind=st.sampled_from(["cancel", "ask", "ask", "retry", "run now", "snooze"]), delay=moments)
    def operate(self, number: int, kind: str, delay: int) -> None:
        wanted = {"ask": is_at_work, "retry": is_ended}.get(kind, lambda row: row.state == "waiting")
        # Now and then on a job whose state does not allow it.
        row = self.pick(number, wanted if number % 5 else lambda row: True)
        if number % 3 == 0 and kind in ("cancel", "run now", "snooze"):
            row = self.pick(number, lambda row: row.hold is not None) or row
        if row is None:
            return
        match kind:
            case "cancel":
                change = states.cancel_waiting(reason="canceled")
            case "ask":
                change = states.ask_to_cancel(row, reason="too late")
            case "retry":
                change = states.retry_ended(row)
            case "run now":
                change = states.run_now(row)
            case _:
                change = states.snooze_waiting(row, delay=delay)
        if kind == "ask" and not is_at_work(row):
            return
        try:
            after = self._operate(row.id, change)
        except DuplicateJobError:
            assert kind == "retry"
            return
        assert (after is None) == (row.state not in change.sources)
        if after is not None and kind == "retry":
            del self.seen[row.id]

    def _operate(self, job_id: bytes, change: Change) -> JobRow | None:
        def move(backend: Backend) -> JobRow | None:
            row = backend.apply_by_operator(job_id, change)
            return row and _plain(row)

        return self.on_both(move)

    @precondition(lambda self: any(row.hold == "parked" for row in self.rows()))
    @rule(names=st.lists(st.sampled_from(NAMES), unique=True))
    def unpark(self, names: list[str]) -> None:
        self.on_both(lambda backend: backend.unpark(names))

    @rule(
        ended=st.lists(st.sampled_from(ENDED_STATES), min_size=1, unique=True),
        age=st.sampled_from([None, 0, 60 * SECOND]),
        before=st.sampled_from([None, -LEASE, 0, SECOND]),
        limit=st.integers(1, 20),
    )
    def prune(self, ended: list[str], age: int | None, before: int | None, limit: int) -> None:
        # One of them, as engines and operators do.
        moment = self.clock.now() + before if before is not None and age is None else None
        deletable = set(self.model.store.rows)
        everything = self.model.prune(states=ended, finished_before=moment, age=age, limit=0)
        assert everything == 0
        removed = self.real.prune(states=ended, finished_before=moment, age=age, limit=limit)
        left = {row.id for row in self.real.get(list(deletable))}
        gone = deletable - left
        allowed = self._prunable(ended, moment, age)
        assert gone <= allowed
        assert removed == len(gone) == min(limit, len(allowed))
        self.model.delete(list(gone))
        self._forget(gone)

    def _prunable(self, ended: list[str], moment: int | None, age: int | None) -> set[bytes]:
        trial = ModelBackend(ModelStore(self.clock, rows=dict(self.model.store.rows), applied=[1]))
        trial.prune(states=ended, finished_before=moment, age=age, limit=1_000_000)
        return set(self.model.store.rows) - set(trial.store.rows)

    @precondition(lambda self: self.rows())
    @rule(numbers=st.lists(picks, max_size=4))
    def delete(self, numbers: list[int]) -> None:
        rows = self.rows()
        chosen = [rows[number % len(rows)] for number in numbers]
        self.on_both(lambda backend: backend.delete([row.id for row in chosen]))
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
            error_kind=error_kind,
        )
        below = self.pick(number, lambda row: True) if number % 2 else None
        before_id = None if below is None else below.id
        self.on_both(lambda backend: list(map(_plain, backend.list(where, limit=limit, before_id=before_id))))
        self.on_both(lambda backend: _without_zeros(backend.count(where)))
        self.on_both(lambda backend: _without_zeros(backend.count(where, limit=3)))

    @rule(step=st.sampled_from([SECOND, LEASE, DAY]), buckets=st.integers(1, 5))
    def chart(self, step: int, buckets: int) -> None:
        first = self.clock.now() - step * (buckets - 1)
        self.on_both(
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
            self.on_both(lambda backend: backend.remove_record(kind, key))
        else:
            self.on_both(lambda backend: backend.write_record(kind, key, f'"{self.born}"', expect=expect))
        # The text of a record that an enqueue made is the store's affair.
        self.on_both(
            lambda backend: [
                (record.key, record.version, max(0, record.age))
                for record in backend.read_records(kind)
                if kind is not RecordKind.QUEUE or record.key in ("x", "y")
            ]
        )

    @rule(which=st.integers(0, 1))
    def reconnect(self, which: int) -> None:
        self.backends[which].close()
        self.backends[which] = self.harness.open()

    # -- what holds after every step

    @invariant()
    def rows_are_the_models(self) -> None:
        """I1."""
        ids = list(self.jobs)
        found = {row.id: row for row in self.real.get(ids)}
        expected = self.model.store.rows
        assert found.keys() == expected.keys()
        for job_id, row in found.items():
            assert _plain(row) == _plain(expected[job_id])
        tries: dict[bytes, list[object]] = {}
        for attempt in self.real.attempts(ids):
            tries.setdefault(attempt.job_id, []).append(attempt)
        assert tries == {job_id: several for job_id, several in self.model.store.attempts.items() if several}
        self._check_each(found)
        self.seen = found

    def _check_each(self, found: dict[bytes, JobRow]) -> None:
        """I2, I3, I4, I8, I9."""
        for job_id, row in found.items():
            assert is_at_work(row) == (row.claimed_by is not None) == (row.lease_until is not None)
            assert 0 <= row.attempt <= row.max_attempts
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
        expected = self.model.tally()
        found = self.real.tally()
        counts = {state: n for state, n in found.counts.items() if n}
        assert counts == expected.counts
        by_queue = _without_zeros(self.real.count(Filter()))
        total: Counter[str] = Counter()
        for by_state in by_queue.values():
            total.update(by_state)
        assert total == expected.counts
        ended = {end.id: end for end in self.real.ended(list(self.jobs))}
        assert ended == {end.id: end for end in self.model.ended(list(self.jobs))}


def _plain(row: JobRow) -> JobRow:
    """The row but for its version, which rises as each store likes."""
    return row._replace(version=0)


def _without_zeros(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    trimmed = {queue: {state: n for state, n in by_state.items() if n} for queue, by_state in counts.items()}
    return {queue: by_state for queue, by_state in trimmed.items() if by_state}


def machine_for(new_harness: Callable[[], Harness]) -> type[Machine]:
    """The state machine over one kind of store.

    new_harness: gives a harness over a new, empty store for each history; the machine closes it.
    """
    return type("StoreMachine", (Machine,), {"new_harness": staticmethod(new_harness)})


def run_histories(new_harness: Callable[[], Harness], how: settings = CI) -> None:
    """Run random histories; the first that differs from the model is shrunk, shown and raised."""
    run_state_machine_as_test(machine_for(new_harness), settings=how)
