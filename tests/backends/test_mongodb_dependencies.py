"""Jobs that wait for others, and batches, in MongoDB: what looks cost, how jobs come in, what deaths leave."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pymongo
import pytest
from bson import encode
from bson.raw_bson import RawBSONDocument
from pymongo.monitoring import CommandListener, CommandStartedEvent

from helpers.mongodb import dies_at
from helpers.servers import KINDS, using
from jobcard.backends.base import Filter, Outcome
from jobcard.backends.mongodb import MongoBackend, loads, lookup
from jobcard.backends.mongodb.connection import COLLECTIONS, Store
from jobcard.conformance import factory
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.job import Dependent, NewJob

pytestmark = [pytest.mark.turns, pytest.mark.slow, pytest.mark.timeout(600)]

ALIVE = ("claimed", "running", "waiting")
HOUR = 3_600_000_000

Open = Callable[[], MongoBackend]


@pytest.fixture(
    scope="module",
    params=["mongodb", "mongodb-standalone"],
)
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(KINDS[request.param]) as url:
        yield url


@pytest.fixture
def open_store(server_url: str) -> Iterator[Open]:
    """Opens backends on one empty store."""
    prefix = f"test-{secrets.token_hex(6)}"
    opened: list[MongoBackend] = []

    def another() -> MongoBackend:
        opened.append(MongoBackend(server_url, prefix=prefix))
        return opened[-1]

    another().migrate()
    yield another
    with pymongo.MongoClient[dict[str, Any]](server_url) as client:
        for name in COLLECTIONS:
            client.get_default_database().drop_collection(f"{prefix}.{name}")
    for backend in opened:
        backend.close()


@pytest.fixture
def store(open_store: Open) -> MongoBackend:
    return open_store()


@pytest.fixture
def batch() -> bytes:
    return factory.new_id()


def alive_of(batch: bytes) -> Filter:
    return Filter(batch_id=batch, states=ALIVE)


# ------------------------------------------------------------------ what looks cost


class Overheard(CommandListener):
    """The looks that a client sends."""

    def __init__(self) -> None:
        self.looks: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate"):
            self.looks.append(dict(event.command))

    def succeeded(self, event: object) -> None:
        """Nothing to be seen."""

    def failed(self, event: object) -> None:
        """Nothing to be seen."""


def examined_by(store: MongoBackend, action: Callable[[Store], object]) -> tuple[int, int]:
    """How many keys and documents the server examines for all the looks of an action."""
    overheard = Overheard()
    connections = store._connections
    watched = connections._collections(connections._client(event_listeners=[overheard]))
    action(watched)
    plans = [explained(store, look) for look in overheard.looks]
    watched.client.close()
    assert plans
    return sum(_most(plan, "totalKeysExamined") for plan in plans), sum(_most(p, "totalDocsExamined") for p in plans)


def explained(store: MongoBackend, look: dict[str, Any]) -> Any:
    beside = {"lsid", "$db", "$clusterTime", "readConcern", "maxTimeMS", "txnNumber", "$readPreference", "apiVersion"}
    asked = {name: value for name, value in look.items() if name not in beside}
    return store._store.jobs.database.command("explain", asked, verbosity="executionStats")


def _most(plan: Any, name: str) -> int:
    """The largest number of this name anywhere in a plan."""
    if isinstance(plan, dict):
        return max([plan.get(name, 0), *(_most(each, name) for each in plan.values())])
    return max((_most(each, name) for each in plan), default=0) if isinstance(plan, list) else 0


def copy_often(store: MongoBackend, job_id: bytes, number: int) -> None:
    """So many more jobs like this one."""
    jobs = store._store.jobs
    [document] = jobs.find({"_id": job_id})
    for _ in range(number // 10_000):
        jobs.insert_many([{**document, "_id": factory.new_id()} for _ in range(10_000)], ordered=False)


def test_looks_for_dependents_and_the_rest_of_a_batch_read_no_other_job(store: MongoBackend, batch: bytes) -> None:
    """Beside a hundred thousand delayed and ended jobs: next to no key and no document of theirs."""
    copy_often(store, factory.enqueue(store, delay=HOUR), 50_000)
    copy_often(store, factory.job_in_state(store, "completed", batch_id=batch), 50_000)

    def dependents(watched: Store) -> object:
        return lookup.dependents(watched, None, 1_000)

    def count(limit: int | None, where: Filter) -> Callable[[Store], object]:
        return lambda watched: lookup.count_jobs(watched, where, limit=limit)

    def listed(where: Filter) -> Callable[[Store], object]:
        return lambda watched: lookup.list_jobs(watched, where, limit=50, before_id=None)

    assert examined_by(store, dependents) == (0, 0)
    for limit in (1, None):
        keys, documents = examined_by(store, count(limit, alive_of(batch)))
        assert keys <= 12 and documents == 0, limit
    last = factory.enqueue(store, batch_id=batch, waits_for="[]")
    assert lookup.dependents(store._store, None, 9) == [Dependent(last, "[]", 1)]
    keys, documents = examined_by(store, dependents)
    assert keys <= 2 and documents == 1
    assert store.count(alive_of(batch), limit=1) == {"default": {"waiting": 1}}
    for limit in (1, None):
        keys, documents = examined_by(store, count(limit, alive_of(batch)))
        assert keys <= 12 and documents == 0, limit
    keys, documents = examined_by(store, count(1, Filter(batch_id=batch)))
    assert keys <= 30 and documents == 0
    # All are counted by their index alone.
    keys, documents = examined_by(store, count(None, Filter(batch_id=batch)))
    assert keys < 50_050 and documents == 0
    assert sum(sum(one.values()) for one in store.count(Filter(batch_id=batch)).values()) == 50_002
    keys, documents = examined_by(store, listed(Filter(batch_id=batch)))
    assert keys <= 60 and documents <= 51
    keys, documents = examined_by(store, listed(alive_of(batch)))
    assert keys <= 20 and documents == 1


def test_who_moves_while_a_batch_is_counted_is_counted(
    store: MongoBackend, batch: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the count by states has met it in none of them: its place in another index stays until it ends."""
    factory.job_in_state(store, "completed", batch_id=batch)
    factory.job_in_state(store, "running", batch_id=batch)
    factory.enqueue(store, queue="b", name="other", batch_id=batch)
    monkeypatch.setattr(lookup, "_counted", lambda *given: iter([("default", "completed", 1)]))
    [running] = [queue for queue, found in store.count(alive_of(batch)).items() if "running" in found]
    assert store.count(alive_of(batch), limit=1) == {running: {"running": 1}, "b": {"waiting": 1}} | {
        "default": {"completed": 1}
    }
    only_b = Filter(batch_id=batch, queues=("b",), names=("other",), states=("waiting",))
    assert store.count(only_b)["b"] == {"waiting": 1}
    assert store.count(Filter(batch_id=batch, states=("completed",))) == {"default": {"completed": 1}}
    assert store.count(Filter(batch_id=factory.new_id())) == {"default": {"completed": 1}}


def test_a_dependent_whose_text_is_none_hides_no_other(store: MongoBackend) -> None:
    """What it waits for cannot be read; the others are found, and it is there still."""
    spoiled, other = factory.enqueue_several(store, 2, waits_for="[]")
    broken_text = encode({"u": {"waits_for": "MARK"}}).replace(b"MARK", b"\xff\xfe\xff\xfe")
    store._store.jobs.update_one({"_id": spoiled}, {"$set": RawBSONDocument(broken_text)["u"]})
    assert [one.id for one in store.dependents(after=None, limit=9)] == [spoiled, other]
    assert store.dependents(after=spoiled, limit=9) == [Dependent(other, "[]", 1)]


# ------------------------------------------------------------------ in which order jobs come in

Call = Callable[[bytes, str], list[NewJob]]


def plain(batch: bytes, _: str) -> list[NewJob]:
    return [factory.new_job(batch_id=batch) for _ in range(40)]


def keyed(batch: bytes, tag: str, *, often: int = 4) -> list[NewJob]:
    """With every kind of key, and some without."""
    jobs = []
    for number in range(often):
        own = f"{tag}-{number}"
        for given in ({}, {"unique_key": own}, {"once_key": own, "once_until": 1 << 52}):
            jobs.append(factory.new_job(batch_id=batch, **given))
        both = {"unique_key": f"{own}-both", "once_key": f"{own}-both", "once_until": 1 << 52}
        jobs.append(factory.new_job(batch_id=batch, **both))
    return jobs


def chained(batch: bytes, tag: str, *, often: int = 4) -> list[NewJob]:
    """Some that wait for those before them, others between."""
    jobs = keyed(batch, tag, often=often)
    for place in range(len(jobs), 0, -2):
        jobs.insert(place, factory.new_job(batch_id=batch, waits_for="[]", unique_key=f"{tag}-{place}-dependent"))
        jobs.insert(place, factory.new_job(batch_id=batch, waits_for="[]"))
    return jobs


CALLS: Sequence[Call] = (plain, keyed, chained)


def with_callback(call: Call, batch: bytes, tag: str, *, has_key: bool) -> list[NewJob]:
    """A call whose last job waits for the batch, as none of it."""
    own = {"unique_key": f"{tag}-callback"} if has_key else {}
    return [*call(batch, tag), factory.new_job(waits_for="[]", queue="callback", **own)]


def is_in_order(store: MongoBackend, jobs: Sequence[NewJob], batch: bytes, *, others: int = 0) -> bool:
    """Whether whoever sees one that waits for others sees all before it; whether the last one was seen.

    others: jobs of the batch that are there besides.
    """
    waiting = {one.id for one in store.dependents(after=None, limit=1_000)}
    counted = sum(sum(one.values()) for one in store.count(Filter(batch_id=batch)).values())
    there = {row.id for row in store.get([job.id for job in jobs])}
    furthest = max((place for place, job in enumerate(jobs) if job.id in waiting), default=0)
    assert {job.id for job in jobs[:furthest]} <= there
    if jobs[-1].id not in waiting:
        return False
    assert counted == len(jobs) - 1 + others
    return True


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_whoever_sees_the_last_of_a_call_sees_all(open_store: Open, call: Call, has_key: bool) -> None:
    """While jobs come in one by one: the callback of a batch is never there before all of the batch are."""
    store, reader = open_store(), open_store()
    for number in range(8):
        batch = factory.new_id()
        jobs = with_callback(call, batch, f"{number}", has_key=has_key)

        def look(batch: bytes = batch, jobs: list[NewJob] = jobs) -> None:
            while not is_in_order(reader, jobs, batch):
                pass

        at_once([lambda jobs=jobs: store.enqueue(jobs) and None, look])  # type: ignore[misc]
        store.erase([job.id for job in jobs])


@pytest.mark.parametrize("call", [partial(keyed, often=1), partial(chained, often=1)], ids=["keyed", "chained"])
def test_a_producer_that_dies_leaves_no_callback_without_its_batch(open_store: Open, call: Call) -> None:
    """At every command: what is there is in order, and what a sweep lets in waits for others as it was told to."""
    store, seen = open_store(), set()
    for turn in range(2, 400):
        moment, has_key = divmod(turn, 2)
        store.truncate()
        batch = factory.new_id()
        jobs = with_callback(call, batch, f"{moment}", has_key=bool(has_key))
        died = dies_at(moment, open_store, lambda child, jobs=jobs: child.enqueue(jobs))
        is_in_order(store, jobs, batch)
        loads.Sweeper().sweep(store._store, patience=0)
        is_in = is_in_order(store, jobs, batch)
        holds = {row.id: row.hold for row in store.get([job.id for job in jobs])}
        assert holds == ({job.id: "after" if job.waits_for else None for job in jobs} if is_in else {})
        assert bool(store.count(alive_of(batch))) == is_in  # nobody waits for what was given up
        seen.add(is_in)
        if not died and has_key:
            break
    assert moment > 6 and seen == {False, True}


def test_follow_ups_come_in_in_their_order_too(open_store: Open) -> None:
    """An engine that dies behind the end of their parent leaves no dependent without what stands before it, and no
    batch that looks over: where the parent was the last of it, those that follow are yet to run.
    """
    store = open_store()
    for moment in range(1, 200):
        store.truncate()
        batch = factory.new_id()
        jobs = with_callback(partial(chained, often=1), batch, f"{moment}", has_key=False)
        parent = factory.claimed_job(store, batch_id=batch)
        outcome = Outcome(parent.ref, parent.token, states.complete(None), jobs)
        died = dies_at(moment, open_store, partial(_settle, outcome))
        is_in_order(store, jobs, batch, others=1)
        assert all(store.count(alive_of(batch), limit=limit) for limit in (1, None))
        loads.finish_parents(store._store)
        is_in = is_in_order(store, jobs, batch, others=1)
        assert is_in == (factory.row_of(store, parent.id).state == "completed")
        if not died:
            break
    assert moment > 6 and is_in


def _settle(outcome: Outcome, store: MongoBackend) -> None:
    store.exchange("engine", outcomes=[outcome])


def test_what_replaces_others_is_in_before_who_waits_for_it(open_store: Open) -> None:
    """A job of the batch that took over from another is one of it when the callback is seen."""
    store, reader = open_store(), open_store()
    for number in range(5):
        batch = factory.new_id()
        first = factory.enqueue(store, unique_key=f"{number}")
        jobs = [
            *plain(batch, ""),
            factory.new_job(batch_id=batch, unique_key=f"{number}", replaces=True),
            factory.new_job(waits_for="[]", unique_key=f"{number}-callback"),
        ]

        def look(batch: bytes = batch, last: bytes = jobs[-1].id, first: bytes = first) -> None:
            while last not in {one.id for one in reader.dependents(after=None, limit=1_000)}:
                pass
            assert reader.count(Filter(batch_id=batch)) == {"default": {"waiting": 41}}
            assert factory.row_of(reader, first).batch_id == batch

        at_once([lambda jobs=jobs: store.enqueue(jobs) and None, look])  # type: ignore[misc]


# ------------------------------------------------------------------ the schema


def test_a_rollback_lets_dependents_go_and_the_way_back_finds_every_batch(store: MongoBackend, batch: bytes) -> None:
    """Who waited for others stands where it belongs; the indexes are made anew with the jobs that are there."""
    due, late = factory.enqueue(store, waits_for="[]"), factory.enqueue(store, waits_for="[]", delay=HOUR)
    factory.enqueue_several(store, 5, batch_id=batch)
    assert store.rollback() == 3
    assert [factory.row_of(store, job_id).hold for job_id in (due, late)] == [None, "delay"]
    assert store.migrate() == [3]
    assert store.count(Filter(batch_id=batch)) == {"default": {"waiting": 5}}
    assert list(store.dependents(after=None, limit=9)) == []
    assert due in {one.id for one in factory.claim_some(store, 9)}
