"""What an engine does every now and then, over the model store."""

from __future__ import annotations

import pytest

from jobcard.backends.base import Backend, RecordKind
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.conformance.model import ModelBackend, ModelStore
from jobcard.core.clock import FrozenClock
from jobcard.engine.routines import read_order, rescue_lost


class SmallBatches(ModelBackend):
    """A store that takes five at once."""

    capabilities = ModelBackend.capabilities._replace(max_batch=5)


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def backend(clock: FrozenClock) -> Backend:
    made = SmallBatches(ModelStore(clock))
    made.migrate()
    return made


class TestRescue:
    def test_our_own_lapsed_claims_hide_none_behind_them(self, backend: Backend, clock: FrozenClock) -> None:
        """However many are in our own name, which the plan decides about, those of others are all taken."""
        factory.enqueue_several(backend, 24)
        ours = factory.claim_some(backend, 12, owner="me", lease=micros(10))
        others = factory.claim_some(backend, 12, owner="lost", lease=micros(10))
        clock.advance(10)
        count, left = rescue_lost(backend, "me", [])
        assert (count, sorted(claim.id for claim in left)) == (12, sorted(claim.id for claim in ours))
        rows = factory.rows_of(backend, [claim.id for claim in others])
        assert {(row.state, row.attempt) for row in rows.values()} == {("waiting", 0)}
        assert {row.claimed_by for row in backend.get([claim.id for claim in ours])} == {"me"}

    def test_what_the_store_refuses_is_asked_once(self, backend: Backend) -> None:
        """A claim that cannot be rescued now is left for the next sweep, and those behind it are taken."""
        stuck = [factory.claimed_job(backend, owner="dead") for _ in range(7)]
        factory.enqueue_several(backend, 3)
        factory.claim_some(backend, 3, owner="dead")
        renewed = {claim.ref for claim in stuck}

        class Refusing(SmallBatches):
            def exchange(self, owner, *, outcomes=(), **given):  # type: ignore[no-untyped-def]
                stale = [said._replace(token=said.token - (said.ref in renewed)) for said in outcomes]
                return super().exchange(owner, outcomes=stale, **given)

        assert isinstance(backend, SmallBatches)
        assert rescue_lost(Refusing(backend.store), "me", ["dead"]) == (3, [])

    def test_an_engine_known_to_be_dead_is_not_listed(self, backend: Backend) -> None:
        """Its record goes with its jobs; those of others stay."""
        for owner in ("dead", "me", "other"):
            backend.write_record(RecordKind.ENGINE, owner, "{}")
        rescue_lost(backend, "me", [])
        assert [record.key for record in backend.read_records(RecordKind.ENGINE)] == ["dead", "me", "other"]
        rescue_lost(backend, "me", ["dead"])
        assert [record.key for record in backend.read_records(RecordKind.ENGINE)] == ["me", "other"]

    def test_what_a_dead_engine_was_told_counts_for_its_successor(self, backend: Backend) -> None:
        """Told to be quiet and killed: whoever stands in its place is quiet."""
        backend.write_record(RecordKind.ORDER, "dead", '{"order": "quiet"}')
        backend.write_record(RecordKind.ORDER, "other", '{"order": "stop"}')
        rescue_lost(backend, "me", ["dead"])
        assert [read_order(backend, owner) for owner in ("dead", "me", "other")] == [None, "quiet", "stop"]
