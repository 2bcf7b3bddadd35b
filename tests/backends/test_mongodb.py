"""The MongoDB store: the public suite on a replica set, a part of it on a standalone server, and what only it has."""

from __future__ import annotations

import functools
import re
import secrets
import select
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument

from helpers.facade import AT_ONCE, check_through_the_facade, histories_through_the_facade
from helpers.servers import KINDS, using
from jobcard.backends.base import Backend, Completions, Filter, RecordKind, Want
from jobcard.backends.mongodb import MongoBackend
from jobcard.backends.mongodb import claim as claiming
from jobcard.backends.mongodb.connection import COLLECTIONS
from jobcard.backends.registry import open_backend
from jobcard.conformance import (
    AsyncBackendSuite,
    BackendSuite,
    Harness,
    Shelf,
    factory,
)
from jobcard.conformance.drawing import SERVER
from jobcard.conformance.races import at_once
from jobcard.conformance.suite import CHECKS, run_check
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed
from jobcard.errors import ConfigError, CorruptRecordError

# A history is hundreds of writes, each of which waits for a journal.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_made: deque[tuple[str, str]] = deque()
_AT_ONCE = 8


def new_prefix(url: str) -> str:
    """A prefix that no other store has; old ones go, as a server with thousands of collections is slow."""
    prefix = f"test-{secrets.token_hex(6)}"
    _made.append((url, prefix))
    if len(_made) > _AT_ONCE:
        forget(*_made.popleft())
    return prefix


def forget(url: str, prefix: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        for name in COLLECTIONS:
            database.drop_collection(f"{prefix}.{name}")


def mongo_harness(url: str) -> Harness:
    """Each store has a prefix of its own."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = new_prefix(url)
        return lambda: MongoBackend(url, clock=clock, prefix=prefix)

    return Harness(new_store, spoil=spoil, shelf=shelf(url))


@functools.cache
def shelf(url: str) -> Shelf:
    """Making collections and their indexes takes most of many a test's time."""
    return Shelf(lambda prefix, clock: MongoBackend(url, clock=clock, prefix=prefix))


def spoil(store: Backend, job_id: bytes) -> None:
    """Text that is none, so that the whole document cannot be read."""
    assert isinstance(store, MongoBackend)
    broken_text = bson.encode({"u": {"meta": "MARK"}}).replace(b"MARK", b"\xff\xfe\xff\xfe")
    store._store.jobs.update_one({"_id": job_id}, {"$set": RawBSONDocument(broken_text)["u"]})


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    with using(KINDS["mongodb"]) as url:
        yield url


class TestMongoDB(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, mongo_url: str) -> Iterator[Harness]:
        harness = mongo_harness(mongo_url)
        yield harness
        harness.close()


@pytest.mark.long
class TestMongoDBAwaited(AsyncBackendSuite, TestMongoDB):
    """The same through the async facade."""


@pytest.mark.parametrize("name", AT_ONCE)
def test_through_the_async_facade(name: str, mongo_url: str) -> None:
    """The facade is the same for every store; what threads and connections have a part in is seen on each."""
    check_through_the_facade(name, mongo_harness(mongo_url))


@pytest.mark.slow
@pytest.mark.turns
def test_histories_through_the_async_facade(mongo_url: str) -> None:
    """Awaited, too, the store holds what the model holds, and several threads are told what fits together."""
    histories_through_the_facade(mongo_harness(mongo_url))


CHOICE = sorted(
    name
    for name, check in CHECKS.items()
    if check.__module__.rpartition("check_")[2]
    in {
        "claim", "dependencies", "enqueue", "exchange", "follow_ups", "leases", "limits", "migrations", "moving",
        "once", "put", "seal", "unique", "waker",
    }
)  # fmt: skip
"""What a standalone server might do otherwise: acknowledge, race, wake."""


@pytest.fixture(scope="session")
def standalone_url() -> Iterator[str]:
    with using(KINDS["mongodb-standalone"]) as url:
        yield url


@pytest.mark.slow
@pytest.mark.turns
@pytest.mark.parametrize("name", CHOICE)
def test_on_a_standalone_server(name: str, standalone_url: str) -> None:
    """Without a replica set, and so without transactions and change streams, the same holds."""
    run_check(name, mongo_harness(standalone_url))


@pytest.fixture
def store(mongo_url: str) -> Iterator[MongoBackend]:
    """A store by the server's own clock."""
    backend = MongoBackend(mongo_url, prefix=new_prefix(mongo_url))
    backend.migrate()
    yield backend
    backend.close()


def claim(store: Backend, number: int = 1, owner: str = "engine") -> list[Claimed]:
    return store.exchange(owner, want=Want([("default", number)], number), lease=60_000_000).claimed


# ------------------------------------------------------------------ the server's clock


def test_times_are_the_servers(store: MongoBackend) -> None:
    """Whatever this host's clock says, every stamp is the server's, and a delay counts from it."""
    before = store.facts().now
    job_id = factory.enqueue(store, delay=60_000_000)
    after = store.facts().now
    row = factory.row_of(store, job_id)
    assert before <= row.created_at <= after
    assert (row.available_at, row.hold) == (row.created_at + 60_000_000, "delay")
    factory.enqueue(store)
    [claimed] = claim(store)
    row = factory.row_of(store, claimed.id)
    assert (row.claimed_at, row.lease_until) == (claimed.claimed_at, claimed.claimed_at + 60_000_000)


# ------------------------------------------------------------------ what is corrupt


def test_documents_that_are_no_jobs_are_taken_out_of_the_line(store: MongoBackend) -> None:
    """A field of the wrong kind, a missing one, text that is no text: that job is quarantined, the others come."""
    jobs = store._store.jobs
    ids = [factory.enqueue(store) for _ in range(7)]
    jobs.update_one({"_id": ids[0]}, {"$set": {"claim_token": "three"}})
    jobs.update_one({"_id": ids[1]}, {"$unset": {"args": ""}})
    jobs.update_one({"_id": ids[2]}, {"$set": {"max_attempts": "many"}})
    jobs.update_one({"_id": ids[3]}, {"$set": {"state": "dancing"}})
    spoil(store, ids[4])
    assert [one.id for one in claim(store, 10)] == ids[5:]
    assert claim(store, 10) == []
    found = {one["_id"]: one for one in jobs.find({"_id": {"$in": ids[:4]}})}
    assert [found[job_id]["hold"] for job_id in ids[:4]] == ["broken"] * 4
    assert (found[ids[0]]["claim_token"], found[ids[2]]["max_attempts"]) == ("three", "many")
    assert jobs.count_documents({"_id": ids[4], "hold": "broken", "state": "waiting"}) == 1
    assert {row.id for row in store.list(Filter(), limit=10).rows} >= set(ids[5:])
    with pytest.raises(CorruptRecordError):
        store.get([ids[4]])
    assert [row.id for row in store.get([ids[4], ids[5]])] == [ids[5]]


def test_documents_without_a_queue_end_no_count(store: MongoBackend) -> None:
    """Those of other jobs are told as ever."""
    ids = [factory.job_in_state(store, "completed", queue="default") for _ in range(4)]
    store._store.jobs.update_one({"_id": ids[0]}, {"$set": {"queue": 5}})
    store._store.jobs.update_one({"_id": ids[1]}, {"$unset": {"queue": ""}})
    assert store.count(Filter(), limit=10) == {"default": {"completed": 2}}
    now = store.facts().now
    [bucket] = store.count_over_time(first=now - 60_000_000, step=120_000_000, buckets=1, states=["completed"])
    assert bucket.counts == {"completed": 2}


def test_a_count_by_a_part_of_an_id_goes_by_states_and_batches_too(store: MongoBackend) -> None:
    """Such a search is looked through here, not by the server: all else that was asked for holds."""
    job_id = factory.enqueue(store, batch_id=(batch := factory.new_id()))
    part = job_id.hex()[-8:]
    for where, found in (
        (Filter(search=part), 1),
        (Filter(search=part, states=("waiting",)), 1),
        (Filter(search=part, states=("completed", "failed")), 0),
        (Filter(search=part, batch_id=batch), 1),
        (Filter(search=part, batch_id=factory.new_id()), 0),
    ):
        assert store.count(where) == store.count(where, limit=9) == ({"default": {"waiting": 1}} if found else {}), (
            where
        )
        assert len(store.list(where, limit=9).rows) == found, where


# ------------------------------------------------------------------ many engines, many jobs


def test_engines_that_race_share_the_work_and_do_not_spin(
    store: MongoBackend, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four engines drain one queue: each gets its part, and hardly looks more often than it claims."""
    jobs, engines, at_a_time = 2_000, 4, 25
    for _ in range(jobs // 1_000):
        factory.enqueue_several(store, 1_000)
    looks: list[int] = []
    real = claiming.look
    monkeypatch.setattr(claiming, "look", lambda *given: looks.append(1) or real(*given))
    got: list[int] = [0] * engines
    exchanges: list[int] = [0] * engines
    prefix = store._options.prefix

    def drain(place: int) -> None:
        mine = MongoBackend(mongo_url, prefix=prefix)
        done = Completions()
        while True:
            want = Want([("default", at_a_time)], at_a_time)
            answer = mine.exchange(f"engine-{place}", completions=done, want=want, lease=60_000_000)
            assert answer.refusals == []
            exchanges[place] += 1
            if not answer.claimed:
                break
            got[place] += len(answer.claimed)
            done = factory.completions_of(answer.claimed)
        mine.close()

    at_once([partial(drain, place) for place in range(engines)])
    assert sum(got) == jobs
    assert store.count(Filter()) == {"default": {"completed": jobs}}
    assert min(got) >= jobs / engines / 4, got
    assert len(looks) <= 2 * sum(exchanges), (len(looks), exchanges)


def test_jobs_that_ended_cost_a_claim_nothing(store: MongoBackend) -> None:
    """What a look for work examines does not grow with the jobs that ended or wait for their time."""
    for _ in range(3):
        factory.enqueue_several(store, 1_000)
        factory.complete(store, claim(store, 1_000))
        factory.enqueue_several(store, 1_000, delay=3_600_000_000)
    factory.enqueue_several(store, 50)
    inside = store._store
    pipelines: dict[str, list[dict[str, Any]]] = {
        "line": [{"$match": {"line": "default"}}, {"$sort": {"line": 1, "rank": 1, "order_at": 1, "_id": 1}}],
        "hold": [{"$match": {"hold": "delay", "available_at": {"$gte": 0}}}, {"$sort": {"available_at": 1}}],
        "cancels": [{"$match": {"claimed_by": "engine", "cancel_requested": {"$exists": True}}}],
    }
    for index, pipeline in pipelines.items():
        asked = {"aggregate": inside.jobs.name, "pipeline": [*pipeline, {"$limit": 20}], "cursor": {}}
        plan = str(inside.jobs.database.command("explain", asked, verbosity="executionStats"))
        assert f"'indexName': '{index}'" in plan
        examined = max(map(int, re.findall(r"'totalKeysExamined': (\d+)", plan)))
        assert examined <= 21, (index, examined)
    whole = inside.jobs.aggregate([{"$match": {"line": "default"}}, {"$count": "number"}])
    assert list(whole) == [{"number": 50}]


# ------------------------------------------------------------------ waking


def test_what_an_engine_waits_for_wakes_it(store: MongoBackend) -> None:
    """A new job, several new jobs, a change of settings, a request to cancel; its own claims do not."""
    waker = store.waker()
    assert waker.fd is not None

    def is_heard() -> bool:
        assert waker.fd is not None
        heard = bool(select.select([waker.fd], [], [], 10)[0])
        waker.drain()
        return heard

    factory.enqueue(store)
    assert is_heard()
    factory.enqueue_several(store, 3)
    assert is_heard()
    store.write_record(RecordKind.QUEUE, "other", "{}")
    while select.select([waker.fd], [], [], 0.2)[0]:
        waker.drain()  # the queue's first record told engines too
    [first, *_] = claim(store, 4)
    assert not select.select([waker.fd], [], [], 0.5)[0]
    asked = states.ask_to_cancel(factory.row_of(store, first.id), reason="enough")
    assert store.apply_by_operator(first.id, asked) is not None
    assert is_heard()
    waker.close()


# ------------------------------------------------------------------ the URL


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("mongodb:///jobs", "host"),
        ("mongodb://localhost/a.b", "database"),
        ("mongodb://localhost:x/", "port"),
        ("mongodb://localhost,:27018/", "empty"),
        ("mongodb://localhost?pool_size=0", "pool_size"),
        ("mongodb://localhost?replicaset=rs0", "replicaSet"),
        ("mongodb://localhost?prefix=a.b", "prefix"),
        ("mongodb://localhost?w=1", "majority"),
        ("mongodb://localhost?journal=false", "journal"),
        ("mongodb://localhost?readPreference=secondary", "primary"),
        ("mongodb://localhost?tlsInsecure=1", "unsafe_url_options"),
        ("mongodb://localhost?unsafe_url_options=1", "only code"),
        ("mongodb+srv://a,b/", "one host"),
    ],
)
def test_bad_urls_are_refused_by_name(url: str, word: str) -> None:
    """Each error names the part that is wrong."""
    with pytest.raises(ConfigError, match=word):
        open_backend(url)


def test_a_url_may_name_several_servers(mongo_url: str) -> None:
    """As a replica set's has it; its provider's own words about safety are fine."""
    opened = open_backend(
        "mongodb://user:p%40ss@one:27017,two:27018,[::1]:9/jobs?replicaSet=rs0&retryWrites=true&w=majority&appName=x"
    )
    assert "p%40ss" not in repr(opened) and "p@ss" not in repr(opened)
    several = mongo_url.replace("/test", ",127.0.0.1:1/test")
    found = open_backend(several, prefix=new_prefix(mongo_url))
    assert found.migrate() == [1, 2, 3]
    found.close()
    with pytest.raises(ConfigError):
        open_backend("redis://one:6379,two:6379")
