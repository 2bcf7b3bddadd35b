"""A store whose jobs move: before it happens, while it does, and afterwards; claims, waiters, wakers and all."""

from __future__ import annotations

import inspect
import os
import select
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from helpers.stores import in_fork, raw
from helpers.waiting import wait_until
from jobcard.backends import following as module
from jobcard.backends.asynchronous import VERBS
from jobcard.backends.base import Backend, Completions, Fate, Filter, Outcome, RecordKind, Verdict, Waker, Want
from jobcard.backends.following import FollowingBackend, following
from jobcard.backends.registry import open_backend
from jobcard.backends.sqlite import SQLiteBackend
from jobcard.conformance import CHECKS, BackendSuite, Crowd, Harness, check_seal, factory, run_histories
from jobcard.conformance.drawing import SHORT
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.core import move, states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, Ref
from jobcard.errors import SchemaVersionError, StoreMovedError, StoreUnavailableError

ID = move.new_id()


def record(role: move.Role, phase: move.Phase, id_: str = ID) -> str:
    """What a store has of a move."""
    return move.to_text(move.Move(id=id_, role=role, kind=move.Kind.LIVE, phase=phase, other="the other"))


class Numbered(ModelBackend):
    """A model store that finds claims by small numbers, as SQL stores do: those of two stores are easily mistaken."""

    def __init__(self, store: ModelStore, first: int = 1) -> None:
        super().__init__(store)
        self._first = first

    def _number(self, job_id: bytes) -> int:
        numbers: dict[bytes, int] = self.store.__dict__.setdefault("numbers", {})
        return numbers.setdefault(job_id, self._first + len(numbers))

    def _id(self, ref: Ref) -> bytes:
        assert isinstance(ref, int), "a ref of another store"
        numbers: dict[bytes, int] = self.store.__dict__.setdefault("numbers", {})
        return next((job_id for job_id, number in numbers.items() if number == ref), b"")

    def exchange(self, owner: str, **given: Any) -> Any:
        done: Completions = given.pop("completions", Completions())
        outcomes = [one._replace(ref=self._id(one.ref)) for one in given.pop("outcomes", ())]
        done = done._replace(refs=[self._id(ref) for ref in done.refs])
        answer = super().exchange(owner, completions=done, outcomes=outcomes, **given)
        return answer._replace(
            claimed=[claim._replace(ref=self._number(claim.id)) for claim in answer.claimed],
            refusals=[one._replace(ref=self._number(one.ref)) for one in answer.refusals],
            cancels=[(self._number(ref), why) for ref, why in answer.cancels],
        )

    def renew(self, owner: str, held: Any, *, lease: int) -> list[Ref]:
        ids = [(self._id(ref), token) for ref, token in held]
        return [self._number(ref) for ref in super().renew(owner, ids, lease=lease)]  # type: ignore[arg-type]

    def find_held(self, owners: Any, *, lapsed: bool, limit: int, after: Ref | None = None) -> Any:
        held = super().find_held(owners, lapsed=lapsed, limit=limit, after=None if after is None else self._id(after))
        claims = [claim._replace(ref=self._number(claim.id)) for claim in held.claims]
        return held._replace(claims=claims, after=None if held.after is None else self._number(held.after))


class Pair:
    """A source, an empty target, and a backend that follows from one to the other."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.source = Numbered(ModelStore(self.clock), first=1)
        self.target = Numbered(ModelStore(self.clock), first=3)
        for store in (self.source, self.target):
            store.migrate()
        self.source.write_record(RecordKind.MOVE, move.SOURCE_KEY, record(move.Role.SOURCE, move.Phase.PASSES))
        self.target.write_record(RecordKind.MOVE, move.KEY, record(move.Role.TARGET, move.Phase.PASSES))
        self.both = self.follower()

    def follower(self) -> Backend:
        return following(self.source, self.target)

    def seal(self) -> None:
        """Up to here everybody works in the source."""
        self.source.seal(f"moved:{ID}")

    def carry(self) -> None:
        """The jobs are in the target, which is not open."""
        ids = factory.ids_in(self.source)
        assert self.target.put(factory.whole_of(self.source, ids)) == []
        self.target.put_once_keys(self.source.once_keys(after=None, limit=1_000))

    def open(self) -> None:
        self.target.write_record(RecordKind.MOVE, move.KEY, record(move.Role.TARGET, move.Phase.OPENED))

    def move(self) -> None:
        self.seal()
        self.carry()
        self.open()


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who read look each time whether the jobs have moved, and nobody waits for long."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "SHORT_PATIENCE", 0.0)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "_PAUSE", 0.001)


def claims_in(backend: Backend, count: int) -> list[Claimed]:
    """So many claims of the engine."""
    factory.enqueue_several(backend, count)
    claims = factory.claim_some(backend, count)
    assert len(claims) == count
    return claims


def state_of(backend: Backend, claim: Claimed) -> str:
    return factory.row_of(backend, claim.id).state


def spoil(store: Backend, job_id: bytes) -> None:
    """Arguments that are no text."""
    assert isinstance(store, SQLiteBackend)
    raw(store, "update jobcard_jobs set args = cast(x'22ff22' as text) where id = ?", job_id)


# ------------------------------------------------------------------ while nothing moves


@pytest.mark.slow
@pytest.mark.turns
class TestFollowing(BackendSuite):
    """As long as nothing moves, whoever could follow is a store like any other: the public suite says so."""

    histories = SHORT
    crowd = Crowd(histories=3)

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        numbers = count()

        def new_store(clock: FrozenClock) -> Callable[[], Backend]:
            path = tmp_path / f"{next(numbers)}.db"
            return lambda: SQLiteBackend(path, clock=clock, synchronous="normal")

        def may_follow(backend: Backend) -> Backend:
            return following(backend, SQLiteBackend(tmp_path / "target.db"))

        harness = Harness(new_store, through=may_follow, spoil=spoil)
        yield harness
        harness.close()

    @pytest.mark.timeout(600)
    def test_random_histories_agree_with_the_model(self, harness: Harness) -> None:
        """Thousands of writes, on whatever machine."""
        run_histories(harness.fresh, self.histories)


for _name, _check in CHECKS.items():
    # Who may follow waits where another store refuses at once: the rest of this module is about that.
    if inspect.getmodule(inspect.unwrap(_check)) is check_seal:
        setattr(TestFollowing, _name.replace("check_", "test_", 1), None)


class TestWhatTwoStoresCan:
    def test_what_both_can_is_what_is_said(self, pair: Pair) -> None:
        """The smaller batch, threads of its own if one of them asks for it, all else only where both can."""
        pair.source.capabilities = pair.source.capabilities._replace(max_batch=200, own_thread=True)
        pair.target.capabilities = pair.target.capabilities._replace(max_batch=300, shared_by_hosts=True)
        can = pair.follower().capabilities
        assert (can.max_batch, can.own_thread, can.shared_by_hosts, can.one_commit_exchange) == (200, True, False, True)

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_is_there(self, verb: str) -> None:
        """A verb of the contract, today's or tomorrow's, follows."""
        assert callable(getattr(FollowingBackend, verb))


class TestWhoFollows:
    def test_by_the_url_it_is_given(self, tmp_path: Path) -> None:
        """`moving_to` makes a store follow; without it, or where it is the store itself, there is nothing to follow."""
        url, other = f"sqlite:///{tmp_path}/one.db", f"sqlite:///{tmp_path}/other.db"
        assert not isinstance(open_backend(url), FollowingBackend)
        assert not isinstance(open_backend(url, moving_to=url), FollowingBackend)
        store = open_backend(url, moving_to=other)
        assert isinstance(store, FollowingBackend)
        store.close()

    def test_a_store_of_ones_own_can_be_followed(self, pair: Pair, tmp_path: Path) -> None:
        """Also one that was made already."""
        store = open_backend(None, backend=pair.source, moving_to=f"sqlite:///{tmp_path}/other.db")
        assert isinstance(store, FollowingBackend)
        assert store.facts().store == "model"


# ------------------------------------------------------------------ while it moves


class TestOnTheWay:
    def test_a_producer_waits_for_the_target(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        """An enqueue under the seal is stored once, in the target, as soon as that is open."""
        monkeypatch.setattr(module, "PATIENCE", 30.0)
        pair.seal()
        job = factory.new_job()
        answers: list[Any] = []
        producer = threading.Thread(target=lambda: answers.extend(pair.both.enqueue([job])), daemon=True)
        producer.start()
        pair.carry()
        assert (answers, pair.source.get([job.id]), pair.target.get([job.id])) == ([], [], [])
        pair.open()
        producer.join(30)
        assert [answer.fate for answer in answers] == [Fate.STORED]
        assert (pair.source.get([job.id]), len(pair.target.get([job.id]))) == ([], 1)

    def test_one_whose_patience_is_over_may_try_again(self, pair: Pair) -> None:
        """Until the target is open a write fails as if the store were away, and nothing has changed."""
        [claim] = claims_in(pair.both, 1)
        pair.seal()
        pair.carry()
        for write in (
            lambda: pair.both.enqueue([factory.new_job()]),
            lambda: factory.complete(pair.both, claim),
            lambda: pair.both.renew("engine", [(claim.ref, claim.token)], lease=factory.LEASE),
            lambda: pair.both.write_record(RecordKind.ENGINE, "e", "{}"),
        ):
            with pytest.raises(StoreUnavailableError, match="not open yet"):
                write()
        assert state_of(pair.source, claim) == state_of(pair.target, claim) == "claimed"
        pair.open()
        assert factory.complete(pair.both, claim) == []
        assert (state_of(pair.source, claim), state_of(pair.target, claim)) == ("claimed", "completed")

    def test_reading_goes_on_meanwhile(self, pair: Pair) -> None:
        """As long as the target is not open, the sealed source has the latest there is."""
        job_id = factory.enqueue(pair.both)
        pair.seal()
        assert factory.row_of(pair.both, job_id).state == "waiting"
        assert pair.both.tally().counts["waiting"] == 1

    def test_a_seal_that_is_taken_back(self, pair: Pair) -> None:
        """Then the source is the one again, as if nothing had been."""
        [claim] = claims_in(pair.both, 1)
        pair.seal()
        with pytest.raises(StoreUnavailableError):
            factory.complete(pair.both, claim)
        pair.source.seal(None)
        assert factory.complete(pair.both, claim) == []
        assert (state_of(pair.source, claim), pair.target.get([claim.id])) == ("completed", [])

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "no record",
            record(move.Role.TARGET, move.Phase.OPENED, id_="another"),
            record(move.Role.TARGET, move.Phase.VERIFY),
            record(move.Role.SOURCE, move.Phase.OPENED),
        ],
    )
    def test_no_other_store_is_taken_for_the_target(self, pair: Pair, text: str | None) -> None:
        """Only one that says of the same move that it is over; so a wrong address costs time and nothing else."""
        pair.seal()
        pair.target.remove_record(RecordKind.MOVE, move.KEY)
        if text is not None:
            pair.target.write_record(RecordKind.MOVE, move.KEY, text)
        with pytest.raises(StoreUnavailableError):
            pair.both.enqueue([factory.new_job()])
        assert pair.both.count(Filter()) == pair.target.count(Filter()) == {}

    def test_a_target_that_cannot_be_used_is_a_store_that_is_away(self, pair: Pair) -> None:
        """Whatever is wrong with it, an engine asks again: it must not end of it."""
        pair.seal()
        pair.target.rollback()
        with pytest.raises(StoreUnavailableError, match="cannot be used") as caught:
            pair.both.enqueue([factory.new_job()])
        assert not isinstance(caught.value, SchemaVersionError)

    def test_a_target_that_was_sealed_too(self, pair: Pair) -> None:
        """Where the next move leads nobody has said: that is for whoever starts the process."""
        pair.move()
        factory.enqueue(pair.both)
        pair.target.seal("moved:on")
        with pytest.raises(StoreMovedError):
            pair.both.enqueue([factory.new_job()])


# ------------------------------------------------------------------ claims that come along


class TestClaims:
    def test_every_outcome_lands_in_the_target(self, pair: Pair) -> None:
        """Whatever a holder says of a claim from before the move is written where the job is now, and once."""
        done, failed, again, back, noted, cancelled = claims = claims_in(pair.both, 6)
        pair.move()
        asks = states.ask_to_cancel(factory.row_of(pair.target, cancelled.id), reason="stop")
        assert pair.target.apply_by_operator(cancelled.id, asks) is not None
        moves = [
            (failed, states.fail(failed, reason="error", error=factory.ERROR, kind="X")),
            (again, states.retry(again, reason="error", delay=5_000_000, error=factory.ERROR, kind="X")),
            (back, states.hand_back(back)),
            (noted, states.note(noted, ago=0, progress='"half"', lines=((0, "said"),))),
        ]
        answer = pair.both.exchange(
            "engine",
            completions=factory.completions_of([done], result='"here"'),
            outcomes=[Outcome(claim.ref, claim.token, change) for claim, change in moves],
            want=Want([("default", 5)], 5),
            lease=factory.LEASE,
        )
        assert answer.refusals == []
        assert [claim.id for claim in answer.claimed] == [back.id]
        assert answer.cancels == [(cancelled.ref, "stop")]
        assert [state_of(pair.target, claim) for claim in claims] == [
            "completed", "failed", "waiting", "claimed", "running", "claimed",
        ]  # fmt: skip
        assert {state_of(pair.source, claim) for claim in claims} == {"claimed"}
        assert factory.row_of(pair.target, done.id).result == '"here"'
        assert [line.text for line in pair.target.log_lines([noted.id])] == ["said"]
        assert factory.complete(pair.both, [noted, answer.claimed[0]]) == []
        assert factory.settle(pair.both, cancelled, states.cancel_at_work(cancelled, reason="stop")) == []

    def test_a_renewal_holds_them_there(self, pair: Pair) -> None:
        """Those whose claims are gone are named as they are known here."""
        kept, gone = claims_in(pair.both, 2)
        pair.move()
        taken = pair.target.find_held(["engine"], lapsed=False, limit=9).claims
        [there] = [claim for claim in taken if claim.id == gone.id]
        rescue = states.rescue(there, error=factory.ERROR, lapsed=False)
        assert factory.settle(pair.target, there, rescue, owner="rescuer") == []
        pair.clock.advance(5)
        held = [(kept.ref, kept.token), (gone.ref, gone.token)]
        assert pair.both.renew("engine", held, lease=factory.LEASE) == [gone.ref]
        assert factory.row_of(pair.target, kept.id).lease_until == pair.clock.now() + factory.LEASE
        late = factory.complete(pair.both, [kept, gone])
        assert [(refusal.ref, refusal.verdict) for refusal in late] == [(gone.ref, Verdict.LOST)]

    def test_what_was_stored_before_the_move_is_ours_after_it(self, pair: Pair) -> None:
        """An exchange whose answer was lost, and that is repeated in the target, is known there to be ours."""
        done, back = claims_in(pair.both, 2)
        source = pair.source.find_held(["engine"], lapsed=False, limit=9).claims
        refs = {claim.id: claim for claim in source}
        assert factory.complete(pair.source, refs[done.id]) == []  # the answer is lost
        assert factory.settle(pair.source, refs[back.id], states.hand_back(back)) == []
        pair.move()
        again = pair.both.exchange(
            "engine",
            completions=factory.completions_of([done]),
            outcomes=[factory.outcome_of(back, states.hand_back(back))],
        )
        assert {(refusal.ref, refusal.verdict) for refusal in again.refusals} == {
            (done.ref, Verdict.MINE),
            (back.ref, Verdict.MINE),
        }

    def test_a_claim_nobody_knows_is_lost(self, pair: Pair) -> None:
        """Of a job that is gone, or held by somebody else by now."""
        [claim] = claims_in(pair.both, 1)
        pair.move()
        assert pair.target.erase([claim.id]) == 1
        assert [refusal.verdict for refusal in factory.complete(pair.both, claim)] == [Verdict.LOST]
        strange = claim._replace(ref=factory.new_id(), token=7)
        assert [refusal.verdict for refusal in factory.complete(pair.both, strange)] == [Verdict.LOST]

    def test_what_others_hold_is_no_concern_of_ours(self, pair: Pair) -> None:
        """A late word of a claim that somebody else has by now is lost, and nothing of theirs is remembered for it."""
        both = pair.both
        assert isinstance(both, FollowingBackend)
        [claim] = claims_in(both, 1)
        pair.move()
        [there] = pair.target.find_held(["engine"], lapsed=False, limit=9).claims
        assert factory.settle(pair.target, there, states.rescue(there, error=factory.ERROR, lapsed=False)) == []
        factory.enqueue_several(pair.target, 5)
        assert len(factory.claim_some(pair.target, 6, owner="other")) == 6
        assert [refusal.verdict for refusal in factory.complete(both, claim)] == [Verdict.LOST]
        assert both._side._held == {}

    def test_no_ref_of_the_source_is_used_in_the_target(self, pair: Pair) -> None:
        """The numbers of the two stores overlap; a late word of an old claim touches no other job."""
        claims = claims_in(pair.both, 5)
        pair.move()
        before = factory.rows_of(pair.target, [claim.id for claim in claims[1:]])
        assert factory.complete(pair.both, claims[0]) == []
        assert factory.rows_of(pair.target, list(before)) == before
        assert [refusal.verdict for refusal in factory.complete(pair.both, claims[0])] == [Verdict.MINE]
        assert factory.rows_of(pair.target, list(before)) == before

    def test_strays_and_the_lapsed_are_found_page_by_page(self, pair: Pair) -> None:
        """Also when the jobs move between two pages: then it begins anew."""
        claims = claims_in(pair.both, 5)
        first = pair.both.find_held(["engine"], lapsed=False, limit=2)
        pair.move()
        second = pair.both.find_held(["engine"], lapsed=False, limit=2, after=first.after)
        pages = [*factory.held_pages(pair.both, ["engine"], lapsed=True, limit=2)]
        found = [claim for page in pages for claim in page]
        assert [claim.id for claim in second.claims] == [claim.id for claim in claims[:2]]
        assert found == claims
        pair.clock.advance(3600)
        lapsed = pair.both.find_held([], lapsed=True, limit=9).claims
        rescues = [
            Outcome(claim.ref, claim.token, states.rescue(claim, error=factory.ERROR, lapsed=True)) for claim in lapsed
        ]
        assert pair.both.exchange("other", outcomes=rescues).refusals == []
        assert pair.target.count(Filter()) == {"default": {"waiting": 5}}

    def test_nothing_is_kept_of_what_is_over(self, pair: Pair) -> None:
        """Whoever settles jobs for months keeps no memory of them."""
        both = pair.both
        assert isinstance(both, FollowingBackend)
        for _ in range(3):
            claims = claims_in(both, 20)
            factory.complete(both, claims[:10])
            for claim in claims[10:]:
                factory.settle(both, claim, states.fail(claim, reason="error", error=factory.ERROR, kind="X"))
        assert both._side._held == both._side._ids == both._side._pages == {}

    def test_a_refused_outcome_may_be_said_otherwise(self, pair: Pair) -> None:
        """What the store cannot take leaves the claim with its holder, who says something else."""
        [claim] = claims_in(pair.both, 1)
        for moved in (False, True):
            if moved:
                pair.move()
            bad = states.fail(claim, reason="error", error=factory.NO_TEXT, kind="X")
            assert [refusal.verdict for refusal in factory.settle(pair.both, claim, bad)] == [Verdict.REFUSED]
        good = states.fail_refused(claim, error=factory.ERROR)
        assert factory.settle(pair.both, claim, good) == []
        assert state_of(pair.target, claim) == "failed"


# ------------------------------------------------------------------ afterwards


class TestAfterwards:
    def test_who_only_reads_follows_too(self, pair: Pair) -> None:
        """A sealed store answers for ever; who waits for a result sees the one that is in the target."""
        [claim] = claims_in(pair.both, 1)
        pair.move()
        [there] = pair.target.find_held(["engine"], lapsed=False, limit=9).claims
        factory.complete(pair.target, there)
        assert [ended.state for ended in pair.both.ended([claim.id])] == ["completed"]
        assert pair.both.facts().identity == pair.target.facts().identity

    def test_what_no_seal_stops_follows_too(self, pair: Pair) -> None:
        """To empty the store empties the one that has the jobs, not the one that had them."""
        factory.enqueue(pair.both)
        pair.move()
        pair.both.truncate()
        assert (pair.source.tally().counts["waiting"], pair.target.count(Filter())) == (1, {})

    def test_a_repeated_enqueue_is_a_repeat_there(self, pair: Pair) -> None:
        """Repeating an enqueue is safe over a move."""
        job = factory.new_job()
        assert [answer.fate for answer in pair.both.enqueue([job])] == [Fate.STORED]
        pair.move()
        assert [answer.fate for answer in pair.both.enqueue([job])] == [Fate.REPEATED]

    def test_engines_read_the_settings_anew(self, pair: Pair) -> None:
        """The version of settings goes on rising, whatever the target's own is."""
        for key in "abc":
            pair.source.write_record(RecordKind.QUEUE, key, "{}")
        before = pair.both.exchange("engine").settings
        pair.move()
        moved = pair.both.exchange("engine").settings
        assert moved > before
        pair.both.write_record(RecordKind.QUEUE, "d", "{}")
        assert pair.both.exchange("engine").settings > moved

    def test_a_process_that_starts_afterwards(self, pair: Pair) -> None:
        """With the same two addresses it works in the target from its first call on."""
        pair.move()
        late = pair.follower()
        assert late.migrate() == []
        job_id = factory.enqueue(late)
        assert [row.id for row in pair.target.get([job_id])] == [job_id]

    def test_a_forked_child_goes_on(self, pair: Pair) -> None:
        """Whatever another thread of the parent was doing when it forked."""
        both = pair.both
        assert isinstance(both, FollowingBackend)
        pair.move()

        def enqueue() -> None:
            factory.enqueue(both)

        with both._lock:
            in_fork(enqueue)


# ------------------------------------------------------------------ wakers


class Ringing(ModelBackend):
    """A store with a pipe to listen to."""

    def __init__(self, store: ModelStore) -> None:
        super().__init__(store)
        self.open: list[tuple[int, int]] = []
        self.has_changed = False

    def ring(self) -> None:
        for _, inward in self.open:
            os.write(inward, b"!")

    def waker(self) -> Waker:
        outward, inward = os.pipe()
        self.open.append((outward, inward))

        def close() -> None:
            self.open.remove((outward, inward))
            os.close(outward)
            os.close(inward)

        def drain() -> None:
            os.read(outward, 99)

        return Waker(fd=outward, drain=drain, changed=lambda: self.has_changed, interval=0.5, close=close)


def rings(waker: Waker) -> bool:
    assert waker.fd is not None
    return bool(select.select([waker.fd], [], [], 0)[0])


class TestWakers:
    @pytest.fixture
    def ringing(self) -> Pair:
        pair = Pair()
        pair.source = Ringing(pair.source.store)  # type: ignore[assignment]
        pair.target = Ringing(pair.target.store)  # type: ignore[assignment]
        pair.both = pair.follower()
        return pair

    def test_one_descriptor_goes_along(self, ringing: Pair) -> None:
        """An engine's selector keeps the one it has; behind it the target's hints take the place of the source's."""
        source, target = ringing.source, ringing.target
        assert isinstance(source, Ringing) and isinstance(target, Ringing)
        waker = ringing.both.waker()
        assert not rings(waker)
        source.ring()
        assert rings(waker)
        waker.drain()
        assert not rings(waker)
        ringing.move()
        factory.enqueue(ringing.both)
        assert (len(source.open), len(target.open)) == (0, 1)
        assert not rings(waker)
        target.ring()
        assert rings(waker)
        waker.drain()
        assert not rings(waker)
        assert waker.changed is not None and not waker.changed()
        target.has_changed = True
        assert waker.changed()
        waker.close()
        assert target.open == []

    def test_a_store_without_one(self, pair: Pair) -> None:
        """Where there is nothing to listen to, nothing rings, before and after."""
        waker = pair.both.waker()
        assert waker.changed is not None and not waker.changed()
        pair.move()
        factory.enqueue(pair.both)
        assert not rings(waker) and not waker.changed()
        waker.drain()
        waker.close()

    def test_closed_ones_are_not_opened_again(self, ringing: Pair) -> None:
        """Who stopped listening before the move hears nothing after it."""
        target = ringing.target
        assert isinstance(target, Ringing)
        waker = ringing.both.waker()
        waker.close()
        waker.close()
        ringing.move()
        factory.enqueue(ringing.both)
        assert target.open == []


# ------------------------------------------------------------------ at once


def test_threads_at_work_go_over_together(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Producers and engines go on over the move: every job that was answered runs once, and ends in the target."""
    monkeypatch.setattr(module, "PATIENCE", 30.0)
    monkeypatch.setattr(module, "SHORT_PATIENCE", 30.0)
    moved = threading.Event()
    stored: list[bytes] = []
    ran: list[bytes] = []
    errors: list[BaseException] = []

    def produce() -> None:
        both = pair.follower()
        for _ in range(3_000):
            job = factory.new_job()
            assert both.enqueue([job])[0].fate in (Fate.STORED, Fate.REPEATED)
            stored.append(job.id)
            if moved.is_set() and len(stored) > 200:
                return

    def work(owner: str) -> None:
        both = pair.follower()
        held: list[Claimed] = []
        while not (moved.is_set() and not producer.is_alive() and not pair.target.tally().counts.get("waiting")):
            answer = both.exchange(
                owner,
                completions=factory.completions_of(held),
                want=Want([("default", 5)], 5),
                lease=factory.LEASE,
            )
            assert answer.refusals == []
            ran.extend(claim.id for claim in held)
            held = answer.claimed
        assert factory.complete(both, held, owner=owner) == []
        ran.extend(claim.id for claim in held)

    def guarded(what: Callable[[], None]) -> None:
        try:
            what()
        except BaseException as error:
            errors.append(error)

    producer = threading.Thread(target=guarded, args=[produce], daemon=True)
    workers = [
        threading.Thread(target=guarded, args=[partial(work, owner)], daemon=True) for owner in ("engine", "other")
    ]
    for thread in (producer, *workers):
        thread.start()
    wait_until(lambda: len(ran) > 50 or errors, "jobs to run")
    pair.move()
    moved.set()
    for thread in (producer, *workers):
        thread.join(30)
    assert errors == []
    assert not any(thread.is_alive() for thread in (producer, *workers))
    assert len(ran) == len(set(ran))
    assert set(ran) == set(stored)
    assert pair.target.count(Filter()) == {"default": {"completed": len(stored)}}
