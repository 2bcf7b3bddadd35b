"""A model and a store under test, told the same and compared at each answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from jobcard.backends.base import NOTHING, Backend, Completions, Exchanged, Filter, Outcome, Want
from jobcard.conformance import factory
from jobcard.conformance.drawing import LEASE
from jobcard.conformance.harness import Harness
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.conformance.rules import may_be_set_aside
from jobcard.core.job import Claimed, JobRow, NewJob, Ref
from jobcard.core.states import AT_WORK, Change
from jobcard.errors import JobcardError

T = TypeVar("T")


class Holding(NamedTuple):
    """A claim as an engine remembers it: the store's proof, and the model's."""

    owner: str
    real: Claimed
    model: Claimed


class Said(NamedTuple):
    """One outcome of a history: who says it, what shall become of the job, and which jobs follow."""

    holding: Holding
    change: Change
    then: Sequence[NewJob] = ()


class Pair:
    """The model, and two backends on the store that take turns.

    A transaction that one of them left open would stop the other.
    """

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._backends = [harness.ready(), harness.open()]
        self._turn = 0
        self._settings = 0
        self.model = ModelBackend(ModelStore(harness.clock))
        self.model.migrate()
        self.claims: list[Holding] = []
        self._refs: dict[Ref, bytes] = {}

    @property
    def rows(self) -> dict[bytes, JobRow]:
        """The model's jobs by id."""
        return self.model.store.rows

    @property
    def real(self) -> Backend:
        """The backend whose turn it is."""
        self._turn += 1
        return self._backends[self._turn % len(self._backends)]

    def reconnect(self, which: int) -> None:
        """Close one of the backends and open it again."""
        self._backends[which].close()
        self._backends[which] = self._harness.open()

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
        outcomes: Sequence[Said] = (),
        want: Want = NOTHING,
        tells: bool = True,
    ) -> Exchanged:
        """The same exchange on both; answers are compared, claims remembered. Gives the model's answer.

        tells: says which limit keys are freed by it.
        """
        leaving = [holding for holding, _, _ in complete]
        leaving += [said.holding for said in outcomes if said.change.target not in AT_WORK]
        freed = {one.model.limit_key for one in leaving if one.model.limit_key is not None} if tells else set()

        def send(backend: Backend, proof: Callable[[Holding], Claimed]) -> Exchanged:
            return backend.exchange(
                owner,
                completions=Completions(
                    refs=[proof(holding).ref for holding, _, _ in complete],
                    tokens=[proof(holding).token for holding, _, _ in complete],
                    results=[result for _, result, _ in complete],
                    started_ago=[ago for _, _, ago in complete],
                ),
                outcomes=[
                    Outcome(proof(said.holding).ref, proof(said.holding).token, said.change, said.then)
                    for said in outcomes
                ],
                want=want,
                lease=LEASE,
                freed=freed,
            )

        before = self._under_limits()
        expected = send(self.model, lambda holding: holding.model)
        found = send(self.real, lambda holding: holding.real)
        assert [claim.id for claim in found.claimed] == [claim.id for claim in expected.claimed]
        for claim, its_model in zip(found.claimed, expected.claimed, strict=True):
            assert claim._replace(ref=b"") == its_model._replace(ref=b"")
            self._refs[claim.ref] = its_model.id
            self.claims.append(Holding(owner, claim, its_model))
        assert _told(found, self._refs) == _told(expected, {claim.model.id: claim.model.id for claim in self.claims})
        self._set_aside_alike()
        # A store may also tell the turn of a rate for which nobody stands in line any more; and it may want to be asked
        # again at once, if it has put some aside and not looked behind all of them.
        dues = [self.model.next_due(want), self.model.next_due(want, whoever_waits=False)]
        assert found.next_due in (dues if self._under_limits() <= before else [*dues, 0])
        assert found.settings >= self._settings
        self._settings = found.settings
        return expected

    def _under_limits(self) -> set[tuple[bytes, str, int]]:
        rows = self.model.store.rows.values()
        return {
            (row.id, row.hold, row.available_at) for row in rows if row.limit_key is not None and row.hold is not None
        }

    def _set_aside_alike(self) -> None:
        """A store may set more jobs of full keys aside than the model, and a rate's turns are its own."""
        store = self.model.store
        keyed = [row for row in store.rows.values() if row.limit_key is not None and row.state == "waiting"]
        for row in self.real.get([row.id for row in keyed]) if keyed else ():
            mine = store.rows[row.id]
            if row.hold not in ("limit", "delay") or _standing(row) == _standing(mine):
                continue
            # It may have been claimed for a moment: the token is never lowered.
            assert row.claim_token >= mine.claim_token
            if (row.hold, row.available_at) != (mine.hold, mine.available_at):
                assert mine.hold is None or (row.id in store.paced and row.hold == "delay")
            [use] = self.model.usage([], [str(row.limit_key)])[1].values()
            assert may_be_set_aside(row, use, store.clock.now())
            store.rows[row.id] = mine._replace(**_standing(row))

    def renew(self, owner: str, holdings: list[Holding]) -> None:
        """The same renewal on both; the same are gone."""
        gone = self.model.renew(owner, [(one.model.ref, one.model.token) for one in holdings], lease=LEASE)
        found = self.real.renew(owner, [(one.real.ref, one.real.token) for one in holdings], lease=LEASE)
        assert Counter(self._refs[ref] for ref in found) == Counter(gone)

    def find_held(self, owners: Sequence[str], *, lapsed: bool) -> list[Holding]:
        """The same claims are found on both, by ascending ref, at once and in short looks."""
        expected = {claim.id: claim for claim in self.model.find_held(owners, lapsed=lapsed, limit=1_000).claims}
        found = {claim.id: claim for claim in self.real.find_held(owners, lapsed=lapsed, limit=1_000).claims}
        assert found.keys() == expected.keys()
        for job_id, claim in found.items():
            assert claim._replace(ref=b"") == expected[job_id]._replace(ref=b"")
        seen = [claim for page in factory.held_pages(self.real, owners, lapsed=lapsed, limit=5) for claim in page]
        assert [claim.ref for claim in seen] == [claim.ref for claim in found.values()]
        return [Holding("rescuer", found[job_id], expected[job_id]) for job_id in found]

    def find_again(self, owners: Sequence[str]) -> None:
        """Under which refs these hold what they hold, where the jobs have been put anew; older claims are forgotten."""
        self.claims = []
        for owner in owners:
            for found in self.find_held([owner], lapsed=False):
                self._refs[found.real.ref] = found.model.id
                self.claims.append(found._replace(owner=owner))


def listed(backend: Backend, where: Filter, limit: int, before_id: bytes | None = None) -> list[JobRow]:
    """A page and the one behind it; whether the first one said that it was the end is then no matter."""
    first = backend.list(where, limit=limit, before_id=before_id)
    behind = [] if first.below is None else backend.list(where, limit=limit, before_id=first.below).rows
    return [plain(row) for row in (*first.rows, *behind)]


def _standing(row: JobRow) -> dict[str, Any]:
    """What a claim that its key's limits do not allow leaves of itself."""
    return {"hold": row.hold, "available_at": row.available_at, "claim_token": row.claim_token}


def plain(row: JobRow) -> JobRow:
    """The row but for its version, which rises as each store likes."""
    return row._replace(version=0)


def without_zeros(counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Counts without zeros, which a store may state or leave out."""
    trimmed = {queue: {state: n for state, n in by_state.items() if n} for queue, by_state in counts.items()}
    return {queue: by_state for queue, by_state in trimmed.items() if by_state}


def _told(answer: Exchanged, ids: Mapping[Any, bytes]) -> tuple[Counter[object], set[object]]:
    """What an exchange said of refusals and cancels, in ids that both know."""
    refusals = Counter((ids.get(refusal.ref), refusal.token, refusal.verdict) for refusal in answer.refusals)
    return Counter(refusals), {(ids.get(ref), reason) for ref, reason in answer.cancels}
