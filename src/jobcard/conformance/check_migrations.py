"""The schema, the store itself, opening and closing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial

import pytest

from jobcard.backends.base import Backend, Capabilities, Fate, Filter, RecordKind
from jobcard.conformance import factory
from jobcard.conformance.harness import Harness, micros
from jobcard.conformance.races import at_once
from jobcard.core.clock import FrozenClock
from jobcard.errors import JobcardError, SchemaVersionError


def check_a_new_store_is_migrated_once(harness: Harness) -> None:
    """The first migration applies every version in order; the second finds nothing to do."""
    backend = harness.open()
    applied = backend.migrate()
    assert applied and applied == sorted(set(applied))
    assert backend.migrate() == []
    assert harness.open().migrate() == []
    backend.check_schema()
    assert backend.facts().schema_version == applied[-1]
    harness.close()


def check_a_store_without_schema_is_refused(harness: Harness) -> None:
    """Before `migrate`, checking says which version is wanted and nothing can be stored."""
    backend = harness.open()
    with pytest.raises(SchemaVersionError) as caught:
        backend.check_schema()
    assert caught.value.found < caught.value.wanted
    with pytest.raises(JobcardError):
        backend.enqueue([factory.new_job()])
    harness.close()


def check_opening_changes_no_schema(harness: Harness) -> None:
    """A backend that is only opened migrates nothing by itself."""
    harness.open()
    with pytest.raises(SchemaVersionError):
        harness.open().check_schema()
    harness.close()


def check_the_newest_migration_is_taken_back(harness: Harness) -> None:
    """Rolling back removes the newest version; the store is then refused until it is migrated again."""
    backend = harness.open()
    applied = backend.migrate()
    assert backend.rollback() == applied[-1]
    with pytest.raises(SchemaVersionError):
        backend.check_schema()
    assert backend.migrate() == applied[-1:]
    backend.check_schema()
    assert factory.complete(backend, factory.claimed_job(backend)) == []
    harness.close()


def check_every_migration_can_be_taken_back(harness: Harness) -> None:
    """Down to nothing and up again: each step has its way back, and then there is none left."""
    backend = harness.open()
    applied = backend.migrate()
    assert [backend.rollback() for _ in applied] == applied[::-1]
    assert backend.rollback() is None
    assert backend.migrate() == applied
    assert backend.count(Filter()) == {}
    harness.close()


def check_a_migration_leaves_jobs_alone(harness: Harness) -> None:
    """Migrating a store that has jobs and is up to date touches none of them."""
    backend = harness.ready()
    ids = [factory.job_in_state(backend, state) for state in ("waiting", "running", "failed")]
    before = factory.rows_of(backend, ids)
    assert harness.open().migrate() == []
    assert factory.rows_of(backend, ids) == before
    harness.close()


def check_migrations_at_once_apply_each_version_once(harness: Harness) -> None:
    """Engines that start together migrate a new store once between them, and all may go on."""

    def migrate(at: Backend) -> list[int]:
        applied = at.migrate()
        at.check_schema()
        factory.enqueue(at)
        return applied

    for _ in range(4):
        fresh = harness.fresh()
        backends = [fresh.open() for _ in range(6)]
        applied = at_once([partial(migrate, at) for at in backends])
        versions = [version for several in applied for version in several]
        assert versions and len(versions) == len(set(versions))
        assert backends[0].count(Filter()) == {"default": {"waiting": 6}}
        fresh.close()
    harness.close()


def check_rollbacks_at_once_take_each_version_back_once(harness: Harness) -> None:
    """Operators that roll back together take back one version each, the newest first, and none twice."""
    for _ in range(3):
        fresh = harness.fresh()
        backends = [fresh.open() for _ in range(3)]
        applied = backends[0].migrate()
        taken = [version for version in at_once([at.rollback for at in backends]) if version is not None]
        assert sorted(taken, reverse=True) == applied[::-1][: len(backends)]
        assert backends[1].migrate() == sorted(taken)
        factory.enqueue(backends[2])
        fresh.close()
    harness.close()


def check_closing_twice_is_fine(harness: Harness) -> None:
    """A backend may be closed again, and one that was never used too."""
    used, unused = harness.ready(), harness.open()
    factory.enqueue(used)
    for backend in (used, unused, used, unused):
        backend.close()
    harness.close()


def check_closing_one_backend_leaves_the_others(harness: Harness) -> None:
    """Each backend has its own way to the store."""
    here, there = harness.ready(), harness.open()
    claim = factory.claimed_job(there)
    here.close()
    assert factory.complete(there, claim) == []
    harness.close()


def check_everything_is_there_after_opening_again(harness: Harness) -> None:
    """What was answered was stored: jobs, outcomes, tries, leases and records survive all backends' closing."""
    first = harness.ready()
    states = ("waiting", "claimed", "running", "completed", "failed", "canceled")
    ids = [factory.job_in_state(first, state) for state in states]
    first.write_record(RecordKind.SCHEDULE, "nightly", '{"n": 1}')
    claim = factory.claimed_job(first)
    assert first.renew("engine", [(claim.ref, claim.token)], lease=micros(500)) == []
    ids.append(claim.id)
    seen = (factory.rows_of(first, ids), first.attempts(ids), list(first.read_records(RecordKind.SCHEDULE)))
    identity = first.facts().identity
    first.close()
    again = harness.open()
    assert (factory.rows_of(again, ids), again.attempts(ids), list(again.read_records(RecordKind.SCHEDULE))) == seen
    assert again.facts().identity == identity
    assert factory.complete(again, claim) == []
    harness.close()


def check_facts_are_the_stores(harness: Harness, clock: FrozenClock) -> None:
    """A store tells its kind, version, time and an identity that every backend on it shares and no other store."""
    backend = harness.ready()
    facts = backend.facts()
    assert facts.store and facts.version and facts.identity
    assert facts.now == clock.now()
    clock.advance(5)
    assert backend.facts().now == clock.now()
    assert harness.open().facts().identity == facts.identity
    assert facts.size_bytes is None or facts.size_bytes >= 0
    stranger = harness.fresh()
    assert stranger.ready().facts().identity != facts.identity
    stranger.close()
    harness.close()


def check_capabilities_are_stated(backend: Backend) -> None:
    """Every capability is given; a batch takes at least one job."""
    assert isinstance(backend.capabilities, Capabilities)
    assert backend.capabilities.max_batch >= 1


def check_one_backend_serves_several_threads(backend: Backend) -> None:
    """Enqueuing, looking up and renewing through one backend from several threads is safe."""
    claim = factory.claimed_job(backend, queue="held")
    per_thread = 15

    def produce() -> None:
        for _ in range(per_thread):
            factory.enqueue(backend)

    def look() -> None:
        for _ in range(per_thread):
            backend.count(Filter())
            backend.list(Filter(), limit=5)
            backend.tally()

    def renew() -> None:
        for _ in range(per_thread):
            assert backend.renew("engine", [(claim.ref, claim.token)], lease=micros(60)) == []

    def exchange() -> None:
        for _ in range(per_thread):
            assert factory.complete(backend, factory.claimed_job(backend, queue="mine")) == []

    works: list[Callable[[], None]] = [produce, produce, look, renew, exchange]
    at_once(works)
    assert backend.count(Filter()) == {
        "default": {"waiting": 2 * per_thread},
        "held": {"claimed": 1},
        "mine": {"completed": per_thread},
    }


def check_a_backend_works_on_in_a_forked_child(harness: Harness) -> None:
    """A process that forks may go on with its backend, and so may the child: neither disturbs the other."""
    backend = harness.ready()
    if not backend.capabilities.survives_process:
        pytest.skip("the jobs of this store live in one process")
    claim = factory.claimed_job(backend)
    in_child = factory.new_job(queue="child")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is what we do here
        child = os.fork()
    if child == 0:
        try:
            fates = [answer.fate for answer in backend.enqueue([in_child])]
            os._exit(0 if fates == [Fate.STORED] else 1)
        finally:
            os._exit(2)
    factory.enqueue(backend, queue="parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert factory.complete(backend, claim) == []
    assert factory.row_of(backend, in_child.id).state == "waiting"
    assert backend.count(Filter(states=["waiting"])) == {"child": {"waiting": 1}, "parent": {"waiting": 1}}
    harness.close()
