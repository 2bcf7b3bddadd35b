"""What an engine makes of jobs that wait for others: by a real store, look by look."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from helpers.stores import raw
from jobcard.backends.base import Filter
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.dependencies import ANY_END, BATCH, COMPLETED, JOB, Dependency, to_text
from jobcard.core.job import Claimed
from jobcard.engine import dependents
from jobcard.engine.dependents import Dependents, see_to_all
from jobcard.errors import StoreUnavailableError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(file: Path) -> Iterator[SQLiteBackend]:
    store = SQLiteBackend(f"sqlite:///{file}")
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> FrozenClock:
    """The seconds that engines count, in the hands of the test."""
    clock = FrozenClock(10**12)
    monkeypatch.setattr(dependents.time, "monotonic", lambda: clock.now() / 1e6)
    return clock


def after(*those: bytes | Dependency) -> str:
    """What a job waits for, as text: the success of these jobs."""
    return to_text(one if isinstance(one, Dependency) else on(one) for one in those)


def on(of: bytes, until: str = COMPLETED, kind: str = JOB) -> Dependency:
    return Dependency(kind, UUID(bytes=of), until)


def holds(store: SQLiteBackend, *job_ids: bytes) -> list[tuple[str, str | None]]:
    return [(row.state, row.hold) for row in (factory.row_of(store, job_id) for job_id in job_ids)]


def end(store: SQLiteBackend, how: str = "completed", **given: Any) -> bytes:
    """A job that has ended."""
    return factory.job_in_state(store, how, **given)


def look_on(dependents: Dependents, ended: Collection[bytes] = ()) -> list[bytes]:
    """Look as an engine does, until there is nothing more to do at once; all that were released."""
    looked = dependents.look(ended)
    released = [*looked.released]
    while looked.more:
        looked = dependents.look()
        released += looked.released
    return released


HELD, FREE, OVER = ("waiting", "after"), ("waiting", None), ("canceled", None)


class TestEnds:
    @pytest.mark.parametrize("until", [COMPLETED, ANY_END])
    @pytest.mark.parametrize("state", ["waiting", "claimed", "running", "completed", "failed", "canceled"])
    def test_a_job_in_every_state(self, store: SQLiteBackend, state: str, until: str) -> None:
        """One that is alive is waited for, be it claimed by an engine or at work; then its end decides."""
        first = factory.job_in_state(store, state)
        held = factory.enqueue(store, waits_for=after(on(first, until)))
        looked = Dependents(store).look()
        if state in ("waiting", "claimed", "running"):
            assert (looked.released, holds(store, held)) == ([], [HELD])
        elif state == "completed" or until == ANY_END:
            assert (looked.released, holds(store, held)) == ([held], [FREE])
        else:
            assert (looked.released, holds(store, held)) == ([], [OVER])
            assert factory.row_of(store, held).reason == "dependency"

    def test_a_chain_falls_at_once(self, store: SQLiteBackend) -> None:
        """Each for the one before it; who waited for any end runs all the same."""
        ids = [end(store, "failed")]
        for _ in range(20):
            ids.append(factory.enqueue(store, waits_for=after(ids[-1])))
        last = factory.enqueue(store, waits_for=after(on(ids[-1], ANY_END)))
        assert look_on(Dependents(store)) == [last]
        assert holds(store, *ids[1:], last) == [OVER] * 20 + [FREE]
        whys = [store.attempts([job_id])[0].error for job_id in ids[1:]]
        assert f"job {UUID(bytes=ids[0])}, which failed" in whys[0]
        assert f"job {UUID(bytes=ids[19])}, which was canceled" in whys[19]

    def test_a_chain_named_backwards_falls_too(self, store: SQLiteBackend) -> None:
        """Also when each has a lower id than the one it waits for."""
        ids = [uuid4().bytes for _ in range(10)]
        for own, other in pairwise(ids):
            factory.enqueue(store, id=own, waits_for=after(other))
        factory.enqueue(store, id=ids[-1])
        dependents = Dependents(store)
        assert not dependents.look().released
        store.apply_by_operator(ids[-1], states.cancel_waiting(reason="canceled"))
        assert look_on(dependents, [ids[-1]]) == []
        assert holds(store, *ids) == [OVER] * 10

    def test_a_ring_waits_for_ever_and_harms_nobody(self, store: SQLiteBackend) -> None:
        """Two that wait for each other; the others go on."""
        one, other = uuid4().bytes, uuid4().bytes
        for own, awaited in ((one, other), (other, one)):
            factory.enqueue(store, id=own, waits_for=after(awaited))
        third = factory.enqueue(store, waits_for=after(end(store)))
        assert list(Dependents(store).look().released) == [third]
        assert holds(store, one, other) == [HELD, HELD]

    def test_a_released_job_is_left_alone(self, store: SQLiteBackend) -> None:
        """By whoever still remembers that it waited: it may be at work, or wait for others anew."""
        first = factory.enqueue(store)
        held = factory.enqueue(store, unique_key="k", waits_for=after(first))
        one, other = Dependents(store), Dependents(store)
        assert not one.look().released and not other.look().released
        factory.complete(store, factory.claim_some(store)[0])
        assert list(one.look([first]).released) == [held]
        new = factory.new_job(unique_key="k", waits_for=after(factory.enqueue(store)), replaces=True)
        store.enqueue([new])
        other.look([first])
        assert holds(store, held) == [HELD]


class TestMissing:
    @pytest.mark.parametrize("until", [COMPLETED, ANY_END])
    def test_what_is_not_there_is_waited_for_a_while(self, store: SQLiteBackend, now: FrozenClock, until: str) -> None:
        """It may yet be stored by another call; then it counts as deleted, whose end nobody knows."""
        strange = factory.new_id()
        held = factory.enqueue(store, waits_for=after(on(strange, until)))
        dependents = Dependents(store)
        assert not dependents.look().released
        now.advance(59)
        assert not dependents.look().released
        assert holds(store, held) == [HELD]
        now.advance(2)
        released = dependents.look().released
        if until == ANY_END:
            assert (list(released), holds(store, held)) == ([held], [FREE])
        else:
            assert (list(released), holds(store, held)) == ([], [OVER])
            assert "is not there any more" in store.attempts([held])[0].error

    def test_one_that_comes_late_is_waited_for(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """From then on for as long as it takes."""
        late = factory.new_id()
        held = factory.enqueue(store, waits_for=after(late))
        dependents = Dependents(store)
        dependents.look()
        now.advance(59)
        factory.enqueue(store, id=late)
        for _ in range(5):
            dependents.look()
            now.advance(100)
        assert holds(store, held) == [HELD]
        factory.complete(store, factory.claim_some(store)[0])
        assert list(dependents.look([late]).released) == [held]

    def test_a_deleted_job_is_missed_from_then_on(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """Not from the time when it was not there for the first time."""
        late = factory.new_id()
        held = factory.enqueue(store, waits_for=after(late))
        dependents = Dependents(store)
        dependents.look()
        now.advance(30)
        factory.enqueue(store, id=late)
        dependents.look()
        store.apply_by_operator(late, states.cancel_waiting(reason="canceled"))
        assert store.delete([late]) == 1
        now.advance(40)
        dependents.look()
        now.advance(59)
        dependents.look()
        assert holds(store, held) == [HELD]
        now.advance(2)
        dependents.look()
        assert holds(store, held) == [OVER]

    def test_those_that_were_missed_are_forgotten(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """With those who waited for them: an engine lives for months."""
        held = [factory.enqueue(store, waits_for=after(factory.new_id())) for _ in range(250)]
        dependents = Dependents(store)
        for _ in range(200):
            look_on(dependents)
            now.advance(1)
        assert holds(store, *held) == [OVER] * 250
        assert dependents._missing == {}


class TestWhatIsRead:
    """Of jobs that are waited for and have not ended whole rows are read, and some are large."""

    def test_those_that_were_there_are_not_looked_for_again_at_once(
        self, store: SQLiteBackend, now: FrozenClock
    ) -> None:
        """Few in one read, and none for ten seconds, however often there is a look."""
        awaited = factory.enqueue_several(store, 250)
        factory.enqueue_several(store, 10, waits_for=after(*awaited))
        noting = Noting(store)
        dependents = Dependents(noting)  # type: ignore[arg-type]
        for _ in range(10):
            dependents.look()
            now.advance(0.9)
        assert sum(noting.read) == 250 and max(noting.read) <= 100
        now.advance(1)
        dependents.look()
        assert sum(noting.read) == 500

    def test_those_that_are_not_there_are_looked_for_together(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """Each alone only when it is to be given up: by then it may be there and unreadable."""
        awaited = [factory.new_id() for _ in range(250)]
        factory.enqueue(store, waits_for=after(*awaited))
        noting = Noting(store)
        dependents = Dependents(noting)  # type: ignore[arg-type]
        dependents.look()
        assert sorted(noting.read) == [50, 100, 100]


class Noting:
    """A store that notes how many jobs were read at once."""

    def __init__(self, store: SQLiteBackend) -> None:
        self.read: list[int] = []
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, job_ids: Collection[bytes]) -> Any:
        self.read.append(len(job_ids))
        return self._store.get(list(job_ids))


class TestUnreadable:
    """One record that cannot be read is its own misfortune: all others go on."""

    SPOILED = ("cast(x'ff' as text)", "5", "'[[\"job\"'", "'{}'")

    @pytest.mark.parametrize("spoiled", SPOILED)
    def test_what_it_waits_for(self, store: SQLiteBackend, spoiled: str) -> None:
        """Such a job stays where it is, with its bytes."""
        first = end(store)
        bad, good = factory.enqueue_several(store, 2, waits_for=after(first))
        raw(store, f"update jobcard_jobs set waits_for = {spoiled} where id = ?", bad)  # noqa: S608
        dependents = Dependents(store)
        assert list(dependents.look().released) == [good]
        late = factory.enqueue(store, waits_for=after(first))
        assert list(dependents.look().released) == [late]
        assert see_to_all(store, {}) == []
        assert raw(store, "select state, hold from jobcard_jobs where id = ?", bad) == [HELD]

    @pytest.mark.parametrize("column", ["result", "reason", "args", "name"])
    @pytest.mark.parametrize("alone", [True, False])
    def test_what_is_waited_for(self, store: SQLiteBackend, column: str, alone: bool) -> None:
        """Who waits for that one waits on; nobody else notices."""
        spoiled, first = end(store), end(store)
        bad = factory.enqueue(store, waits_for=after(spoiled))
        raw(store, f"update jobcard_jobs set {column} = cast(x'ff' as text) where id = ?", spoiled)  # noqa: S608
        dependents = Dependents(store)
        dependents.look()
        good = factory.enqueue(store, waits_for=after(first, *([] if alone else [end(store)])))
        assert list(dependents.look([spoiled]).released) == [good]
        [other] = [one.id for one in store.dependents(after=None, limit=9)] or [bad]
        assert other == bad

    @pytest.mark.parametrize("column", ["args", "meta", "name"])
    def test_the_one_that_waits(self, store: SQLiteBackend, column: str) -> None:
        """It may be impossible to cancel; those behind it are all the same, and whoever waits for them."""
        first = end(store, "failed")
        bad, good, next_one = factory.enqueue_several(store, 3, waits_for=after(first))
        follows = factory.enqueue(store, waits_for=after(on(good, ANY_END)))
        raw(store, f"update jobcard_jobs set {column} = cast(x'ff' as text) where id = ?", bad)  # noqa: S608
        assert look_on(Dependents(store)) == [follows]
        assert holds(store, good, next_one) == [OVER, OVER]
        assert see_to_all(store, {}) == []


class TestReplaced:
    @pytest.mark.parametrize("state", ["completed", "failed"])
    def test_one_that_is_replaced_during_a_look_waits_for_its_own(self, store: SQLiteBackend, state: str) -> None:
        """Neither what came of the others releases it, nor does that cancel it; those beside it are seen to."""
        first, new_first = end(store, state), factory.enqueue(store)
        held, beside = (factory.enqueue(store, unique_key=key, waits_for=after(first)) for key in "kb")
        new = factory.new_job(unique_key="k", waits_for=after(new_first), replaces=True)
        dependents = Dependents(Meanwhile(store, lambda: store.enqueue([new])))  # type: ignore[arg-type]
        dependents.look()
        assert holds(store, held, beside) == [HELD, FREE if state == "completed" else OVER]
        factory.complete(store, factory.claim_one(store))
        assert see_to_all(store, {}) == [held]


class TestAtOnce:
    def test_who_is_second_has_released_nobody(self, store: SQLiteBackend) -> None:
        """Of engines that find the same at the same time each counts what it has put in line itself."""
        held = factory.enqueue_several(store, 3, waits_for=after(end(store)))
        other = Meanwhile(store, lambda: factory.release(store, *held[:2]))
        looked = Dependents(other).look()  # type: ignore[arg-type]
        assert (looked.released, looked.number) == (held, 1)
        assert holds(store, *held) == [FREE] * 3


class Meanwhile:
    """A store where something happens once between a look at who waits and what is made of it."""

    def __init__(self, store: SQLiteBackend, happens: Callable[[], object]) -> None:
        self._store = store
        self._left = [happens]

    def __getattr__(self, name: str) -> Any:
        if name == "ended" and self._left:
            self._left.pop()()
        return getattr(self._store, name)


class TestManyThatAreCanceled:
    def test_no_look_takes_long(self, store: SQLiteBackend) -> None:
        """Each cancellation is a write of its own: a look makes some, and releases go first."""
        first, other = end(store, "failed"), end(store)
        falling = factory.enqueue_several(store, 450, waits_for=after(first))
        held = factory.enqueue(store, waits_for=after(other))
        dependents = Dependents(store)
        looked = dependents.look()
        assert (list(looked.released), looked.more) == ([held], True)
        assert store.count(Filter())["default"]["canceled"] == 100
        later = factory.enqueue(store, waits_for=after(other))
        looked = dependents.look()
        assert (list(looked.released), looked.more) == ([later], True)
        assert look_on(dependents) == []
        assert holds(store, *falling) == [OVER] * 450

    def test_those_that_were_left_are_told_apart(self, store: SQLiteBackend) -> None:
        """One that is replaced in between waits for what it says by then."""
        falling = factory.enqueue_several(store, 150, waits_for=after(end(store, "failed")))
        last = factory.enqueue(store, unique_key="k", waits_for=after(end(store, "failed")))
        dependents = Dependents(store)
        assert dependents.look().more
        store.enqueue([factory.new_job(unique_key="k", waits_for=after(factory.enqueue(store)), replaces=True)])
        assert look_on(dependents) == []
        assert holds(store, *falling) == [OVER] * 150 and holds(store, last) == [HELD]

    @pytest.mark.parametrize("step", ["dependents", "get", "ended", "release_dependents"])
    def test_a_failed_look_is_made_up_for(self, store: SQLiteBackend, step: str) -> None:
        """The next one sees to all that it had begun with, in whichever step it failed."""
        first = factory.enqueue(store)
        held = factory.enqueue_several(store, 120, waits_for=after(first))
        failing = Failing(store)
        dependents = Dependents(failing)  # type: ignore[arg-type]
        assert look_on(dependents) == []
        factory.complete(store, factory.claim_some(store)[0])
        new = factory.enqueue(store, waits_for=after(first))
        failing.step = step
        with pytest.raises(StoreUnavailableError):
            dependents.look([first])
        assert holds(store, held[0], new) == [HELD, HELD]
        failing.step = ""
        # The engine says again what it was told until a look has succeeded.
        assert sorted(look_on(dependents, [first])) == sorted([*held, new])


class Failing:
    """A store of which one verb does not answer."""

    def __init__(self, store: SQLiteBackend) -> None:
        self.step = ""
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name == self.step:
            raise StoreUnavailableError("away")
        return getattr(self._store, name)


class TestWhoIsLookedAt:
    def test_new_ones_are_found_whatever_their_ids(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """Ids may be anything, so those below the newest are found in turn: some each second."""
        first = end(store)
        dependents = Dependents(store)
        highest = factory.enqueue(store, id=b"\xff" * 16, waits_for=after(factory.enqueue(store)))
        dependents.look()
        lower = [factory.enqueue(store, waits_for=after(first)) for _ in range(3)]
        found: list[bytes] = []
        for _ in range(3):
            now.advance(1)
            found += dependents.look().released
        assert sorted(found) == lower
        assert holds(store, highest) == [HELD]

    def test_ids_of_the_far_future_do_not_slow_others_down(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """A random id is as good as any, and above all that clocks give: those that come later are new all the same."""
        first = end(store)
        dependents = Dependents(store)
        for _ in range(300):
            factory.enqueue(store, id=b"\xfe" + uuid4().bytes[1:], waits_for=after(factory.enqueue(store)))
        dependents.look()
        held = factory.enqueue_several(store, 500, waits_for=after(first))
        assert sorted(look_on(dependents)) == sorted(held)

    def test_more_than_are_read_at_once(self, store: SQLiteBackend) -> None:
        """The answer says that there may be more; look by look all are found."""
        first = end(store)
        held = [job_id for _ in range(3) for job_id in factory.enqueue_several(store, 800, waits_for=after(first))]
        assert sorted(look_on(Dependents(store))) == sorted(held)

    def test_who_is_known_is_told_at_once(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """The end of a job, or of a job of a batch, names who waits for it; forgotten with those."""
        batch = factory.new_id()
        first, second = factory.enqueue(store), factory.enqueue(store, batch_id=batch)
        ids = [
            factory.enqueue(store, waits_for=after(first)),
            factory.enqueue(store, waits_for=after(on(batch, kind=BATCH))),
        ]
        dependents = Dependents(store)
        claims = factory.claim_some(store, 2)
        assert dependents.are_told_by(claims) == []
        dependents.look()
        assert sorted(dependents.are_told_by(claims)) == sorted([first, batch])
        for claim in claims:
            factory.complete(store, claim)
        assert sorted(dependents.look([first, batch]).released) == sorted(ids)
        assert dependents.are_told_by(claims) == []
        assert second in {claim.id for claim in claims}

    def test_what_others_saw_to_is_forgotten(self, store: SQLiteBackend, now: FrozenClock) -> None:
        """Nobody is remembered for ever."""
        first = factory.enqueue(store)
        held = factory.enqueue_several(store, 350, waits_for=after(first))
        dependents = Dependents(store)
        dependents.look()
        [claim] = factory.claim_some(store)
        factory.complete(store, claim)
        see_to_all(store, {})
        for _ in range(10):
            now.advance(1)
            dependents.look()
        assert dependents.are_told_by([claim]) == []
        assert holds(store, *held) == [FREE] * 350


class TestBatches:
    def test_a_job_that_moves_during_a_count_is_alive(self, store: SQLiteBackend) -> None:
        """Only a count without a limit is of one moment; by another a store may ask for one state after the other."""
        batch = factory.new_id()
        factory.enqueue(store, batch_id=batch)
        waiting = factory.enqueue(store, waits_for=after(on(batch, ANY_END, BATCH)), queue="other")
        held: list[Claimed] = factory.claim_some(store)
        moving = Moving(store, lambda: held and factory.settle(store, held[0], states.hand_back(held.pop())))
        assert see_to_all(moving, {}) == []  # type: ignore[arg-type]
        assert held == [] and holds(store, waiting) == [HELD]
        [claim] = factory.claim_some(store)
        factory.complete(store, claim)
        assert see_to_all(moving, {}) == [waiting]  # type: ignore[arg-type]


class Moving:
    """A store that counts with a limit state by state, as one may, while something happens in between."""

    def __init__(self, store: SQLiteBackend, happens: Callable[[], object]) -> None:
        self._store = store
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def count(self, where: Filter, *, limit: int | None = None) -> Mapping[str, Mapping[str, int]]:
        if limit is None:
            return self._store.count(where)
        counts: dict[str, dict[str, int]] = {}
        for state in ("waiting", "claimed", "running", "completed", "failed", "canceled"):
            if state in where.states:
                for queue, found in self._store.count(Filter(batch_id=where.batch_id, states=[state])).items():
                    counts.setdefault(queue, {}).update(found)
            self._happens()
        return counts
