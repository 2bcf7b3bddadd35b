"""Moving on MongoDB: what its rules keep out of a sealed store, whom a seal waits for, and what deaths leave."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure, WriteError

from helpers.mongodb import dies_at
from helpers.servers import KINDS, using
from helpers.waiting import wait_until
from jobcard.backends.base import Fate, Filter, Outcome, RecordKind, Want
from jobcard.backends.mongodb import MongoBackend, deleting, loads, moving, wake
from jobcard.backends.mongodb import leave as leaves
from jobcard.backends.mongodb.connection import COLLECTIONS
from jobcard.conformance import factory
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.job import Attempt, Claimed, JobRow, LogLine, WholeJob
from jobcard.errors import (
    InvalidJobError,
    SchemaVersionError,
    StoreMovedError,
    StoreUnavailableError,
)

pytestmark = [pytest.mark.turns, pytest.mark.slow, pytest.mark.timeout(600)]

WORD = "moved:there"
SEALED = 121

Open = Callable[..., MongoBackend]


@pytest.fixture(scope="module", params=["mongodb", "mongodb-standalone"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(KINDS[request.param]) as url:
        yield url


@pytest.fixture
def open_store(server_url: str) -> Iterator[Open]:
    """Opens backends on one empty store."""
    prefix = f"test-{secrets.token_hex(6)}"
    opened: list[MongoBackend] = []

    def another(**more: Any) -> MongoBackend:
        opened.append(MongoBackend(server_url, prefix=prefix, **more))
        return opened[-1]

    another().migrate()
    yield another
    with pymongo.MongoClient[dict[str, Any]](server_url) as client:
        for name in COLLECTIONS:
            client.get_default_database().drop_collection(f"{prefix}.{name}")
    for backend in opened:
        backend.close()


@pytest.fixture
def other_store(server_url: str) -> Iterator[MongoBackend]:
    """Another store, where the jobs may go to."""
    backend = MongoBackend(server_url, prefix=f"test-{secrets.token_hex(6)}")
    backend.migrate()
    yield backend
    for collection in backend._store.every:
        collection.drop()
    backend.close()


def documents_in(store: MongoBackend) -> dict[str, list[Any]]:
    """Every document, but for what only those who delete write and take away."""
    inside = store._store
    return {one.name: list(one.find({"over": None}).sort("_id", 1)) for one in inside.every}


def refuses_every_write(store: MongoBackend) -> bool:
    """Whether each collection refuses a document that knows nothing of jobcard; False: none does."""
    answers = set()
    for collection in store._store.every:
        try:
            collection.insert_one({"_id": "raw"})
        except WriteError as error:
            assert error.code == SEALED
            answers.add(True)
        else:
            collection.delete_one({"_id": "raw"})
            answers.add(False)
    assert len(answers) == 1, "closed in a part"
    return answers.pop()


# ------------------------------------------------------------------ the rules


def test_a_sealed_store_refuses_code_that_knows_nothing_of_it(open_store: Open) -> None:
    """Inserts, updates and replacements by the plain driver are refused by the server, in every collection."""
    store = open_store()
    there = factory.enqueue(store)
    store.write_record(RecordKind.SCHEDULE, "nightly", "{}")
    store.seal(WORD)
    before = documents_in(store)
    assert refuses_every_write(store)
    jobs = store._store.jobs
    for write in (
        lambda: jobs.update_one({"_id": there}, {"$set": {"state": "claimed"}}),
        lambda: jobs.update_many({}, [{"$set": {"version": 9}}]),
        lambda: jobs.find_one_and_update({"_id": there}, {"$inc": {"claim_token": 1}}),
        lambda: jobs.replace_one({"_id": there}, {"queue": "mine"}),
        lambda: jobs.bulk_write([pymongo.UpdateOne({"_id": b"new"}, {"$set": {"a": 1}}, upsert=True)]),
        lambda: jobs.aggregate([{"$merge": {"into": store._store.records.name}}]),
    ):
        with pytest.raises(pymongo.errors.PyMongoError):
            write()
    assert documents_in(store) == before
    store.seal(None)
    assert not refuses_every_write(store)
    assert [claim.id for claim in factory.claim_some(store)] == [there]


def test_no_late_writer_makes_a_collection_that_was_missing(open_store: Open) -> None:
    """One that is not there when the store is sealed is made by the sealer, so that it has the rule from the first."""
    store = open_store()
    for collection in (store._store.once, store._store.limits, store._store.loads):
        collection.drop()
    store.seal(WORD)
    assert refuses_every_write(store)
    store.seal(None)
    assert {answer.fate for answer in store.enqueue([factory.new_job(), factory.new_job()])} == {Fate.STORED}


def test_a_store_without_its_schema_is_not_sealed(server_url: str) -> None:
    """There is nothing in it that could be closed."""
    store = MongoBackend(server_url, prefix=f"test-{secrets.token_hex(6)}")
    with pytest.raises(SchemaVersionError):
        store.seal(WORD)
    assert not [name for name in store._store.jobs.database.list_collection_names() if name.startswith(
        store._options.prefix
    )]  # fmt: skip
    store.close()


def test_an_exchange_whose_answers_are_mixed_is_told_that_the_store_moved(open_store: Open) -> None:
    """A change that could not be stored anyway does not make a sealed store's answer one about values."""
    store = open_store()
    claims = [factory.claimed_job(store) for _ in range(2)]
    # A number where a list is to be: this one's change fails by itself, before its document would be checked.
    store._store.jobs.update_one({"_id": claims[0].id}, {"$set": {"attempts": 7}})
    store.seal(WORD)
    fails = [
        Outcome(one.ref, one.token, states.fail(one, reason="error", error=factory.ERROR, kind="X")) for one in claims
    ]
    with pytest.raises(StoreMovedError):
        store.exchange("engine", outcomes=fails)


# ------------------------------------------------------------------ whom it waits for


def test_a_seal_waits_for_a_transaction_or_is_not_put_on(open_store: Open) -> None:
    """While somebody's transaction has written it cannot be; then nothing is sealed, and with his end it can be."""
    store, hasty = open_store(), open_store(patience=0.3)
    if not wake.has_change_streams(store._store):
        pytest.skip("a standalone server has no transactions")
    there = factory.enqueue(store)
    inside = store._store
    with inside.client.start_session() as session:
        session.start_transaction()
        inside.jobs.update_one({"_id": there}, {"$set": {"meta": "{}"}}, session=session)
        with pytest.raises(StoreUnavailableError):
            hasty.seal(WORD)
        assert hasty.facts().seal is None
        session.abort_transaction()
        assert not refuses_every_write(store)
        session.start_transaction()
        inside.jobs.update_one({"_id": there}, {"$set": {"meta": "{}"}}, session=session)
        sealer = threading.Thread(target=store.seal, args=[WORD], daemon=True)
        sealer.start()
        wait_until(lambda: _loads_are_closed(store), "the first rule")
        session.commit_transaction()
        sealer.join(60)
    assert store.facts().seal == WORD and refuses_every_write(store)
    assert factory.row_of(store, there).meta == "{}"


def test_a_transaction_older_than_the_seal_writes_nothing(open_store: Open) -> None:
    """Who has read before the seal and writes behind it is refused, whatever his snapshot shows him."""
    store = open_store()
    if not wake.has_change_streams(store._store):
        pytest.skip("a standalone server has no transactions")
    there = factory.enqueue(store)
    database = store._store.jobs.database
    with store._store.client.start_session() as session:
        session.start_transaction()
        database["elsewhere"].find_one({}, session=session)
        store.seal(WORD)
        with pytest.raises(OperationFailure):
            store._store.jobs.update_one({"_id": there}, {"$set": {"meta": "{}"}}, session=session)
        session.abort_transaction()
    assert factory.row_of(store, there).meta is None


def _loads_are_closed(store: MongoBackend) -> bool:
    try:
        with leaves.to_delete(store._store):
            return False
    except OperationFailure as error:
        return error.code == SEALED


def test_a_seal_waits_for_those_who_delete(open_store: Open) -> None:
    """Deletes meet no rule: whoever is about to delete ends first, or the store is not sealed."""
    store, hasty = open_store(), open_store(patience=0.3)
    ended = [factory.job_in_state(store, "completed") for _ in range(2)]
    with leaves.to_delete(store._store):
        with pytest.raises(StoreUnavailableError):
            hasty.seal(WORD)
        assert hasty.facts().seal is None and not refuses_every_write(store)
        assert store.delete(ended[:1]) == 1
        sealer = threading.Thread(target=store.seal, args=[WORD], daemon=True)
        sealer.start()
        wait_until(lambda: _loads_are_closed(store), "the first rule")
        assert store.facts().seal is None
    sealer.join(60)
    assert store.facts().seal == WORD
    for delete in (
        lambda: store.delete(ended),
        lambda: deleting.delete(store._store, ended),  # by one who looked at the word before it was there
        lambda: deleting.erase(store._store, ended),
    ):
        with pytest.raises((StoreMovedError, OperationFailure)):
            delete()
    assert [row.id for row in store.list(Filter(), limit=9).rows] == ended[1:]


def test_a_delete_that_comes_too_late_deletes_nothing(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a deleter that died; so one that only slept finds nothing when it goes on."""
    store = open_store()
    ended = factory.job_in_state(store, "completed")
    monkeypatch.setattr(leaves, "_MILLISECONDS", -1)
    assert store.delete([ended]) == 0
    assert store.remove_record(RecordKind.QUEUE, "default") is False
    monkeypatch.undo()
    assert store.delete([ended]) == 1


# ------------------------------------------------------------------ what is in the middle


def test_jobs_that_are_committed_are_in_before_the_store_is_sealed(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer stopped behind the commit of its jobs is answered that they are stored, and so they are."""
    store, other = open_store(), open_store()
    real = loads.let_in
    committed, sealed = threading.Event(), threading.Event()

    def late(inside: Any, *given: Any, **more: Any) -> None:
        if threading.current_thread().name == "racer-0":
            committed.set()
            assert sealed.wait(60)
        real(inside, *given, **more)

    monkeypatch.setattr(loads, "let_in", late)
    jobs = [factory.new_job(), factory.new_job(unique_key="k"), factory.new_job(once_key="o", once_until=1 << 60)]

    def seal() -> None:
        assert committed.wait(60)
        other.seal(WORD)
        sealed.set()

    answers, _ = at_once([lambda: store.enqueue(jobs), seal])
    assert answers is not None and [answer.fate for answer in answers] == [Fate.STORED] * 3
    assert sorted(row.id for row in store.get([job.id for job in jobs])) == sorted(job.id for job in jobs)
    assert [key.job_id for key in store.once_keys(after=None, limit=9)] == [jobs[2].id]


def test_jobs_that_are_not_committed_never_come_in(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer stopped before the commit is told that the store moved, and nobody ever sees its jobs."""
    store, other = open_store(), open_store()
    real = loads.commit

    def late(*given: Any) -> bool:
        other.seal(WORD)
        return real(*given)

    monkeypatch.setattr(loads, "commit", late)
    jobs = [factory.new_job() for _ in range(3)]
    with pytest.raises(StoreMovedError):
        store.enqueue(jobs)
    assert store.get([job.id for job in jobs]) == list(store.versions(after=None, limit=9)) == []
    monkeypatch.undo()
    store.seal(None)
    loads.Sweeper().sweep(store._store, patience=0)
    assert store.count(Filter()) == {}
    assert {answer.fate for answer in store.enqueue(jobs)} == {Fate.STORED}


def test_what_follows_an_end_is_in_before_the_store_is_sealed(
    open_store: Open, other_store: MongoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine stopped behind the end of a job hears that the store moved; where the jobs went, the end is its own."""
    store, other = open_store(), open_store()
    parent = factory.claimed_job(store)
    then = [factory.new_job(queue="after"), factory.new_job(queue="after", unique_key="k")]
    done = Outcome(parent.ref, parent.token, states.complete('"done"'), then)
    real = loads.let_in

    def late(inside: Any, *given: Any, **more: Any) -> None:
        monkeypatch.undo()
        other.seal(WORD)
        real(inside, *given, **more)

    monkeypatch.setattr(loads, "let_in", late)
    with pytest.raises(StoreMovedError):
        store.exchange("engine", outcomes=[done], want=Want([("default", 1)], 1), lease=factory.LEASE)
    assert factory.row_of(store, parent.id).result == '"done"'
    move(store, other_store)
    assert {job.id for job in then} <= {row.id for row in other_store.list(Filter(), limit=9).rows}
    assert [refusal.verdict for refusal in other_store.exchange("engine", outcomes=[done]).refusals] == ["mine"]
    assert other_store.count(Filter(queues=["after"])) == {"after": {"waiting": 2}}


def move(source: MongoBackend, target: MongoBackend) -> None:
    """Put all jobs and once keys of a store into another."""
    ids = [job_id for job_id, version in source.versions(after=None, limit=10_000)]
    for first in range(0, len(ids), 1_000):
        assert target.put(factory.whole_of(source, ids[first : first + 1_000])) == []
    target.put_once_keys(source.once_keys(after=None, limit=10_000))


class Engine:
    """Claims and settles until it is told that the store moved, and knows what it was told and what not."""

    def __init__(self, store: MongoBackend, name: str) -> None:
        self.store, self.name = store, name
        self.ended: list[object] = []
        self.begun: list[Outcome] = []

    def run(self) -> None:
        want = Want([("work", 20)], 20)
        claims: list[Claimed] = []
        while True:
            self.begun = [
                Outcome(one.ref, one.token, states.complete("1"), [factory.new_job(queue="after", parent_id=one.id)])
                for one in claims
            ]
            try:
                answer = self.store.exchange(self.name, outcomes=self.begun, want=want, lease=factory.LEASE)
            except StoreMovedError:
                return
            assert answer.refusals == []
            self.ended += [one.ref for one in self.begun]
            claims = answer.claimed


class Rush:
    """Producers, engines and a pruner at work until their store is sealed, and what they were told."""

    def __init__(self, open_store: Open, turn: int) -> None:
        self._open = open_store
        self.engines = [Engine(open_store(), f"engine-{turn}-{place}") for place in range(2)]
        self.stored: list[bytes] = []
        self.refused: list[bytes] = []
        self.sealed: dict[str, list[Any]] = {}

    def run(self) -> None:
        works = [one.run for one in self.engines]
        works += [partial(work, self._open()) for work in (self._produce, self._prune, self._seal)]
        at_once(works)

    def _produce(self, at: MongoBackend) -> None:
        while True:
            jobs = [factory.new_job(queue="new", unique_key=secrets.token_hex(8)) for _ in range(3)]
            try:
                at.enqueue(jobs)
            except StoreMovedError:
                self.refused += [job.id for job in jobs]
                return
            self.stored += [job.id for job in jobs]

    def _prune(self, at: MongoBackend) -> None:
        with contextlib.suppress(StoreMovedError):
            while True:
                at.prune(states=["completed"], finished_before=None, age=-factory.LEASE, limit=5)

    def _seal(self, at: MongoBackend) -> None:
        wait_until(lambda: self.stored and all(one.ended for one in self.engines), "everybody at work")
        at.seal(WORD)
        self.sealed = documents_in(at)


def test_whoever_is_in_the_middle_goes_on_where_the_jobs_went(open_store: Open, other_store: MongoBackend) -> None:
    """A store is sealed while many write, ten times: what they were told is so, what they were not told is found by
    repeating it where the jobs went, and no job is lost, ended twice or followed twice.
    """
    store = open_store()
    for turn in range(10):
        for _ in range(2):
            factory.enqueue_several(store, 300, queue="work")
        rush = Rush(open_store, turn)
        rush.run()
        assert documents_in(store) == rush.sealed, "something was written behind the seal"
        there = {job_id for job_id, _ in store.versions(after=None, limit=10_000)}
        assert set(rush.stored) <= there and there.isdisjoint(rush.refused)
        move(store, other_store)
        ended: set[object] = set()
        for one in rush.engines:
            refusals = other_store.exchange(one.name, outcomes=one.begun).refusals
            # Lost is only what had ended, and was pruned before the seal.
            assert {refusal.verdict for refusal in refusals} <= {"mine", "lost"}
            lost = [bytes(each.ref) for each in refusals if each.verdict == "lost" and isinstance(each.ref, bytes)]
            assert other_store.get(lost) == []
            ended.update(one.ended, (outcome.ref for outcome in one.begun))
        followed = [row.parent_id for row in other_store.list(Filter(queues=["after"]), limit=10_000).rows]
        assert len(followed) == len(ended) and set(followed) == ended
        other_store.truncate()
        store.seal(None)
        store.truncate()


# ------------------------------------------------------------------ deaths


def a_store_in_use(store: MongoBackend) -> None:
    store.truncate()
    factory.enqueue_several(store, 2)
    factory.job_in_state(store, "completed")


@pytest.mark.parametrize("ends_with", [WORD, None])
def test_a_sealer_killed_at_any_command_is_mended_by_who_repeats_it(open_store: Open, ends_with: str | None) -> None:
    """Where the word is there, all is closed; whoever seals or opens the store then has it sealed, or open."""
    store, seen = open_store(), set()
    a_store_in_use(store)
    for moment in range(1, 200):
        died = dies_at(moment, open_store, lambda child: child.seal(WORD))
        if word := store.facts().seal:
            assert refuses_every_write(store)
        seen.add(word)
        store.seal(ends_with)
        assert store.facts().seal == ends_with
        assert refuses_every_write(store) is (ends_with is not None)
        store.seal(None)
        assert factory.complete(store, factory.claimed_job(store)) == []
        if not died:
            break
    assert moment > 10, "every command of a seal was a place to die"
    assert seen == {None, WORD}


def test_an_opener_killed_at_any_command_is_mended_by_who_repeats_it(open_store: Open) -> None:
    """Where the word is there still, all is closed; repeated, the store is open."""
    store = open_store()
    a_store_in_use(store)
    for moment in range(1, 200):
        store.seal(WORD)
        died = dies_at(moment, open_store, lambda child: child.seal(None))
        if store.facts().seal:
            assert refuses_every_write(store)
        store.seal(None)
        assert not refuses_every_write(store)
        if not died:
            break
    assert moment > 4


_NONE_YET = dict.fromkeys(JobRow._fields)
_ROW = JobRow(
    **{**_NONE_YET, **{name: value for name, value in factory.new_job()._asdict().items() if name in _NONE_YET}}
)
_ROW = _ROW._replace(
    state="waiting",
    order_at=1,
    attempt=1,
    crashes=0,
    interrupts=0,
    available_at=1,
    created_at=1,
    claim_token=3,
    version=7,
)


def whole_jobs(number: int, **fields: Any) -> list[WholeJob]:
    """Jobs of another store, each with a try and a line."""
    found = []
    for job_id in [factory.new_id() for _ in range(number)]:
        row = _ROW._replace(**{"id": job_id, **fields})
        found.append(WholeJob(row, [Attempt(job_id, 1, 2, factory.ERROR)], [LogLine(job_id, 3, "said é")]))
    return found


def test_a_put_is_there_whole_or_not_at_all(open_store: Open) -> None:
    """Whoever dies at it leaves all of its jobs or none; whoever repeats it has all of them, as they were."""
    store, seen = open_store(), set()
    kept = whole_jobs(2, unique_key=None)
    for moment in range(1, 100):
        store.truncate()
        assert store.put(kept) == []
        jobs = [
            kept[0]._replace(row=kept[0].row._replace(args="[2]")),
            *whole_jobs(3, state="completed", finished_at=5),
            *whole_jobs(1, unique_key="k", queue="new"),
        ]
        died = dies_at(moment, open_store, lambda child, jobs=jobs: child.put(jobs))
        there = sum(job == found for job in jobs for found in _whole_in(store))
        assert there in (0, len(jobs)), f"at moment {moment}"
        seen.add(there)
        assert store.put(jobs) == []
        assert _whole_in(store) == sorted([*jobs, kept[1]], key=lambda job: job.row.id)
        if not died:
            break
    assert moment > 3 and {0, len(jobs)} <= seen


def _whole_in(store: MongoBackend) -> list[WholeJob]:
    return factory.whole_of(store, [job_id for job_id, _ in store.versions(after=None, limit=100)])


def test_a_job_that_cannot_be_put_takes_nothing_with_it(open_store: Open) -> None:
    """Larger than a document may be, or no text: none of the call is written, and no queue is opened."""
    store = open_store()
    for bad in (
        whole_jobs(1, args="x" * (16 << 20))[0],
        whole_jobs(1, args=factory.NO_TEXT)[0],
    ):
        with pytest.raises(InvalidJobError):
            store.put([*whole_jobs(3, queue="new"), bad])
        assert _whole_in(store) == [] and store.read_records(RecordKind.QUEUE) == []


def test_a_key_that_is_taken_while_jobs_are_put_is_noticed(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at who has a key and the write another may take it: that job is not written, the others are."""
    store, other = open_store(), open_store()
    jobs = [*whole_jobs(1, unique_key="a"), *whole_jobs(1, unique_key="b"), *whole_jobs(1)]
    real, holders = moving._without_their_key, []

    def late(*given: Any) -> set[bytes]:
        found = real(*given)
        if not holders:
            holders.append(factory.enqueue(other, unique_key="b"))
        return found

    monkeypatch.setattr(moving, "_without_their_key", late)
    assert store.put(jobs) == [jobs[1].row.id]
    assert factory.whole_of(store, [jobs[0].row.id, jobs[2].row.id]) == [jobs[0], jobs[2]]
    assert sorted(job_id for job_id, _ in store.versions(after=None, limit=9)) == sorted(
        [jobs[0].row.id, jobs[2].row.id, *holders]
    )


def test_jobs_that_are_not_in_are_nowhere(open_store: Open) -> None:
    """What is loading has no version and is not erased; putting a job over one that is loading makes it that job."""
    store = open_store()
    jobs = whole_jobs(2)
    documents = [{"_id": job.row.id, "state": "loading", "load": [b"E-one"], "queue": "q"} for job in jobs]
    store._store.jobs.insert_many(documents)
    ids = [job.row.id for job in jobs]
    assert store.versions(after=None, limit=9) == [] and store.erase(ids) == 0
    assert store.put(jobs[:1]) == []
    loads.let_in(store._store, [b"E-none"])
    assert store.versions(after=None, limit=9) == [(ids[0], 7)]
    assert factory.whole_of(store, ids[:1]) == jobs[:1]
