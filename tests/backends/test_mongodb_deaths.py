"""What a MongoDB store makes of deaths: of producers and engines at every command they send, and of the server."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure, PyMongoError

from helpers.mongodb import dies_at
from helpers.servers import KINDS, MongoDB, MongoDBStandalone, _free_port, using
from helpers.servers.common import frozen
from helpers.waiting import wait_until
from jobcard.backends.base import Completions, Fate, Filter, Outcome, Want
from jobcard.backends.mongodb import MongoBackend, loads
from jobcard.backends.mongodb.rows import LOADING, to_document
from jobcard.conformance import factory
from jobcard.conformance.races import at_once
from jobcard.core import states
from jobcard.core.job import Claimed, NewJob
from jobcard.errors import ConfigError, StoreUnavailableError

pytestmark = [pytest.mark.turns, pytest.mark.slow]

MINUTE = 60_000_000


@pytest.fixture(
    scope="module",
    params=["mongodb", "mongodb-standalone"],
)
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(KINDS[request.param]) as url:
        yield url


@pytest.fixture
def open_store(server_url: str) -> Iterator[Callable[[], MongoBackend]]:
    """Opens backends on one empty store."""
    prefix = f"test-{secrets.token_hex(6)}"
    opened: list[MongoBackend] = []

    def another() -> MongoBackend:
        opened.append(MongoBackend(server_url, prefix=prefix))
        return opened[-1]

    another().migrate()
    yield another
    for backend in opened:
        inside = backend._store
        for collection in (inside.jobs, inside.loads, inside.records, inside.once, inside.limits):
            collection.drop()
        backend.close()


def sweep(store: MongoBackend) -> None:
    """What the engines' rescues do, without the patience for producers that may still live."""
    loads.Sweeper().sweep(store._store, patience=0)


def nothing_is_left_half_done(store: MongoBackend) -> None:
    inside = store._store
    assert inside.jobs.count_documents({"$or": [{"state": LOADING}, {"load": {"$exists": True}}]}) == 0
    assert inside.jobs.count_documents({"then": {"$exists": True}}) == 0


# ------------------------------------------------------------------ producers


def a_batch() -> list[NewJob]:
    keyed = [factory.new_job(unique_key=f"key {number}") for number in range(3)]
    delayed = factory.new_job(delay=MINUTE)
    return [factory.new_job(), *keyed[:2], delayed, keyed[2], factory.new_job(queue="fresh")]


def test_a_producer_killed_at_any_command_leaves_all_or_nothing(open_store: Callable[[], MongoBackend]) -> None:
    """Before the one write that commits its jobs none of them is ever seen; after it all of them are, soon."""
    store, seen = open_store(), set()
    for moment in range(1, 100):
        store.truncate()
        jobs = a_batch()
        died = dies_at(moment, open_store, lambda child, jobs=jobs: child.enqueue(jobs))
        sweep(store)
        stored = {row.id for row in store.list(Filter(), limit=100).rows}
        assert stored in (set(), {job.id for job in jobs}), f"at moment {moment}"
        nothing_is_left_half_done(store)
        seen.add(len(stored))
        fates = [answer.fate for answer in store.enqueue(jobs)]
        assert fates == [Fate.REPEATED if stored else Fate.STORED] * len(jobs)
        assert store.count(Filter()) == {"default": {"waiting": len(jobs) - 1}, "fresh": {"waiting": 1}}
        if not died:
            break
    assert moment > 6, "every command of an enqueue was a place to die"
    assert seen == {0, len(jobs)}


def test_a_repeat_needs_no_sweep(open_store: Callable[[], MongoBackend]) -> None:
    """Whoever repeats the enqueue of a dead producer at once has all jobs stored, each once."""
    store = open_store()
    for moment in range(1, 100):
        jobs = [factory.new_job(queue=f"q{moment}") for _ in range(5)]
        died = dies_at(moment, open_store, lambda child, jobs=jobs: child.enqueue(jobs))
        assert {answer.fate for answer in store.enqueue(jobs)} <= {Fate.STORED, Fate.REPEATED}
        assert store.count(Filter(queues=[f"q{moment}"])) == {f"q{moment}": {"waiting": 5}}
        if not died:
            break
    sweep(store)
    nothing_is_left_half_done(store)


def test_a_single_job_is_there_or_not(open_store: Callable[[], MongoBackend]) -> None:
    """One job is one write: nothing has to be finished after it."""
    store = open_store()
    for moment in range(1, 100):
        job = factory.new_job(unique_key=f"k{moment}")
        died = dies_at(moment, open_store, lambda child, job=job: child.enqueue([job]))
        nothing_is_left_half_done(store)
        assert store.enqueue([job])[0].fate in (Fate.STORED, Fate.REPEATED)
        if not died:
            break


def test_a_slow_producer_that_was_given_up_stores_its_jobs_anew(
    open_store: Callable[[], MongoBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot commit what others have thrown away; it notices, and its answer is right."""
    slow, other = open_store(), open_store()
    real, rounds = loads.commit, []

    def late(*given: Any) -> bool:
        rounds.append(given)
        if len(rounds) <= 2:
            sweep(other)
        return real(*given)

    monkeypatch.setattr(loads, "commit", late)
    jobs = a_batch()
    assert [answer.fate for answer in slow.enqueue(jobs)] == [Fate.STORED] * len(jobs)
    assert len(rounds) == 3
    assert {row.id for row in other.list(Filter(), limit=100).rows} == {job.id for job in jobs}
    nothing_is_left_half_done(other)


def test_a_truncate_takes_a_load_under_way_whole(
    open_store: Callable[[], MongoBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that were being stored are all stored after it, never a part of them."""
    slow, other = open_store(), open_store()
    real, rounds = loads.commit, []

    def late(*given: Any) -> bool:
        rounds.append(given)
        if len(rounds) == 1:
            other.truncate()
        return real(*given)

    monkeypatch.setattr(loads, "commit", late)
    jobs = a_batch()
    slow.enqueue(jobs)
    assert {row.id for row in other.list(Filter(), limit=100).rows} == {job.id for job in jobs}


def test_a_live_producer_is_not_given_up(open_store: Callable[[], MongoBackend]) -> None:
    """A load that was seen only now may be in the middle of its commit: a rescue leaves it alone."""
    store = open_store()
    load = loads.name_of_enqueue()
    loads.put(store._store, load, [to_document(factory.new_job())], joins=loads.same_content)
    for _ in range(3):
        assert store.find_held([], lapsed=True, limit=10).claims == []
    assert loads.commit(store._store, load)
    store.find_held([], lapsed=True, limit=10)
    assert store.count(Filter()) == {"default": {"waiting": 1}}
    nothing_is_left_half_done(store)


# ------------------------------------------------------------------ engines, with follow-ups


def follow_ups() -> list[NewJob]:
    return [
        factory.new_job(queue="after"),
        factory.new_job(queue="after", delay=MINUTE),
        factory.new_job(queue="after", unique_key="theirs"),
        factory.new_job(queue="after", unique_key="taken"),
    ]


def settle(claims: Sequence[Claimed], jobs: Sequence[Sequence[NewJob]], store: MongoBackend) -> list[Any]:
    done = states.complete('"done"')
    outcomes = [Outcome(one.ref, one.token, done, then) for one, then in zip(claims, jobs, strict=True)]
    return store.exchange("engine", outcomes=outcomes).refusals


def claim(store: MongoBackend, number: int, *queues: str, lease: int = MINUTE) -> list[Claimed]:
    want = Want([(queue, number) for queue in queues or ("default",)], number)
    return store.exchange("engine", want=want, lease=lease).claimed


def test_an_engine_killed_at_any_command_stores_follow_ups_with_their_parent_or_not_at_all(
    open_store: Callable[[], MongoBackend],
) -> None:
    """A parent that ended has all that follows it, soon; one that did not has nothing, and its next end brings it."""
    store, seen = open_store(), set()
    for moment in range(1, 100):
        store.truncate()
        factory.enqueue(store, queue="holder", unique_key="taken")
        factory.enqueue_several(store, 2)
        claims = claim(store, 2)
        then = [follow_ups(), [factory.new_job(queue="after")]]
        died = dies_at(moment, open_store, partial(settle, claims, then))
        store.find_held(["nobody"], lapsed=True, limit=10)  # a rescue that finds nobody to rescue, and finishes loads
        rows = {row.id: row.state for row in store.get([one.id for one in claims])}
        for parent, jobs in zip(claims, then, strict=True):
            stored = {row.id for row in store.get([job.id for job in jobs])}
            expected = {job.id for job in jobs if job.unique_key != "taken"}
            assert stored == (expected if rows[parent.id] == "completed" else set()), f"at moment {moment}"
        seen.add(tuple(sorted(rows.values())))
        held = store.find_held(["engine"], lapsed=False, limit=10).claims
        rescues = [Outcome(one.ref, one.token, states.rescue(one, error="{}", lapsed=False)) for one in held]
        assert store.exchange("heir", outcomes=rescues).refusals == []
        store.find_held([], lapsed=True, limit=10)
        nothing_is_left_half_done(store)
        # What the dead engine did not end is run again, and brings the same follow-ups.
        again = claim(store, 2)
        assert settle(again, [then[[one.id for one in claims].index(parent.id)] for parent in again], store) == []
        assert store.count(Filter(queues=["after"])) == {"after": {"waiting": 4}}
        nothing_is_left_half_done(store)
        if not died:
            break
    assert moment > 7, "every command of an exchange was a place to die"
    assert seen == {("claimed", "claimed"), ("completed", "completed")}


def test_an_engine_that_repeats_after_an_unknown_answer_finishes_its_own_follow_ups(
    open_store: Callable[[], MongoBackend],
) -> None:
    """Whatever had happened: the repeat applies, or says `MINE`, and all that follows is there once."""
    store = open_store()
    for moment in range(1, 100):
        parent = factory.claimed_job(store)
        queue = f"after {moment}"
        jobs = [factory.new_job(queue=queue), factory.new_job(queue=queue, unique_key=queue)]
        died = dies_at(moment, open_store, partial(settle, [parent], [jobs]))
        assert [refusal.verdict for refusal in settle([parent], [jobs], store)] in ([], ["mine"])
        assert {row.id for row in store.get([job.id for job in jobs])} == {job.id for job in jobs}
        nothing_is_left_half_done(store)
        if not died:
            break


def test_a_parent_is_not_deleted_before_what_follows_it_is_in(
    open_store: Callable[[], MongoBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is the commit of its follow-ups: an engine that dies behind it leaves them to whoever deletes it."""
    store = open_store()
    for remove in (lambda ids: store.delete(ids), lambda ids: store.prune(
        states=["completed"], finished_before=store.facts().now + MINUTE, age=None, limit=10
    )):  # fmt: skip
        parent, job = factory.claimed_job(store), factory.new_job(queue="after")
        with monkeypatch.context() as patched:
            patched.setattr(loads, "let_in", lambda *given, **more: os.kill(os.getpid(), signal.SIGKILL))
            assert dies_at(1_000, open_store, partial(settle, [parent], [[job]]))
        assert store.get([job.id]) == []
        if remove([parent.id]):
            assert store.get([parent.id]) == []
        else:
            store.find_held([], lapsed=True, limit=1)
            assert remove([parent.id]) == 1
        assert [row.state for row in store.get([job.id])] == ["waiting"]
        nothing_is_left_half_done(store)


# ------------------------------------------------------------------ the server


class OwnServer:
    """A server that one test may kill and start again on the same data."""

    def __init__(self, folder: Path, kind: MongoDB, *options: str) -> None:
        self.port = _free_port()
        self._kind = kind
        kind.prepare(folder)
        self._command = [*kind.command(folder, self.port), *options]
        self._log = folder / "log"
        self.url = kind.url(folder, self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(self._answers, "a server that answers", timeout=60)
        self._kind.settle(self.port)

    def _answers(self) -> bool:
        try:
            with pymongo.MongoClient[Any](
                "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=100
            ) as client:
                return bool(client.admin.command("ping"))
        except PyMongoError:
            return False

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """It hangs: connections are taken and nothing is said."""
        return frozen(self._process)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    server = OwnServer(tmp_path, MongoDB())
    server.start()
    yield server
    server.kill()


def test_what_was_acknowledged_outlives_the_servers_death(own_server: OwnServer) -> None:
    """SIGKILL of the server after enqueues, claims and ends: all are there when it is back, and all go on."""
    store = MongoBackend(own_server.url, connect_timeout=1, socket_timeout=3)
    store.migrate()
    waker = store.waker()
    assert waker.fd is not None
    ids: list[bytes] = []
    completed = 0
    for _ in range(2):
        ids += [factory.enqueue(store) for _ in range(10)] + factory.enqueue_several(store, 50)
        claims = claim(store, 20)
        own_server.kill()
        with pytest.raises(StoreUnavailableError):
            factory.enqueue(store)
        own_server.start()
        settled = wait_until(partial(_attempt, store, claims), "an exchange that is answered")
        assert settled.refusals == []
        completed += len(claims)
    rows = {row.id: row.state for row in store.get(ids)}
    assert len(rows) == len(ids)
    assert sorted(rows.values()).count("completed") == completed
    # The stream broke with the server; whoever listens hears of new jobs again.
    waker.drain()

    def is_woken() -> bool:
        waker.drain()
        factory.enqueue(store)
        assert waker.fd is not None
        return bool(select.select([waker.fd], [], [], 1)[0])

    assert wait_until(is_woken, "a hint")
    waker.close()
    store.close()


def test_a_waker_of_a_server_that_is_away_hears_it_later(own_server: OwnServer) -> None:
    """An engine that starts while the server is away has wake-ups when it is back."""
    store = MongoBackend(own_server.url, connect_timeout=0.5, socket_timeout=3)
    store.migrate()
    own_server.kill()
    waker = store.waker()
    fd = waker.fd
    assert fd is not None
    own_server.start()

    def is_woken() -> bool:
        waker.drain()
        with contextlib.suppress(StoreUnavailableError):
            factory.enqueue(store)
        return bool(select.select([fd], [], [], 1)[0])

    wait_until(is_woken, "a hint", timeout=60)
    waker.close()
    store.close()


def _attempt(store: MongoBackend, claims: Sequence[Claimed]) -> Any:
    refs, tokens = [one.ref for one in claims], [one.token for one in claims]
    done = Completions(refs, tokens, ["1"] * len(refs), [0] * len(refs))
    try:
        return store.exchange("engine", completions=done)
    except StoreUnavailableError:
        return None


def test_a_server_that_hangs_is_given_up_in_time(own_server: OwnServer) -> None:
    """A stopped server answers nobody: every call ends within its timeout, and goes on when the server does."""
    store = MongoBackend(own_server.url, socket_timeout=1)
    store.migrate()
    factory.enqueue(store)
    with own_server.frozen():
        for call in (lambda: factory.enqueue(store), lambda: claim(store, 1), store.tally):
            with pytest.raises(StoreUnavailableError):
                call()

    def is_back() -> bool:
        try:
            return store.facts().now > 0
        except StoreUnavailableError:
            return False

    wait_until(is_back, "an answer")
    factory.enqueue(store)
    store.close()


def test_a_primary_that_steps_down_is_unavailable_for_a_while(own_server: OwnServer) -> None:
    """Writers get `StoreUnavailableError` and nothing else until there is a primary; no job is lost or doubled."""
    with pymongo.MongoClient[Any]("127.0.0.1", own_server.port, directConnection=True) as direct:
        config = direct.admin.command("replSetGetConfig")["config"]
        config["version"] += 1
        config["settings"]["electionTimeoutMillis"] = 500
        direct.admin.command("replSetReconfig", config)
        store = MongoBackend(own_server.url, connect_timeout=1, socket_timeout=2)
        store.migrate()
        stored: list[bytes] = []
        stop: list[bool] = []

        def produce() -> None:
            while not stop:
                jobs = [factory.new_job() for _ in range(3)]
                while True:
                    try:
                        store.enqueue(jobs)
                    except StoreUnavailableError:
                        continue
                    break
                stored.extend(job.id for job in jobs)

        def step_down() -> None:
            for _ in range(2):
                before = len(stored)
                wait_until(lambda before=before: len(stored) > before + 30, "jobs")
                direct.admin.command("replSetStepDown", 1, force=True)
                wait_until(lambda: direct.admin.command("hello")["isWritablePrimary"], "a primary")
            stop.append(True)

        at_once([produce, step_down])
    sweep(store)
    assert store.count(Filter()) == {"default": {"waiting": len(stored)}}
    assert {row.id for row in store.get(stored)} == set(stored)
    store.close()


def test_a_password_never_shows(tmp_path: Path) -> None:
    """Neither in the repr nor in any error, be it wrong or the server away; and the right one is let in."""
    server = OwnServer(tmp_path, MongoDBStandalone(), "--auth")
    server.start()
    try:
        with pymongo.MongoClient[Any]("127.0.0.1", server.port) as client:
            client.admin.command("createUser", "jobs", pwd="canary-right", roles=["root"])
        right = MongoBackend(server.url.replace("//", "//jobs:canary-right@") + "?authSource=admin")
        assert right.migrate() == [1, 2, 3]
        assert right.facts().problems == []
        wrong = MongoBackend(server.url.replace("//", "//jobs:canary-wrong@") + "?authSource=admin")
        nobody = MongoBackend(server.url)
        for store in (wrong, nobody):
            with pytest.raises(ConfigError) as refused:
                store.facts()
            no_canary(refused.value, store)
    finally:
        server.kill()
    lonely = MongoBackend(server.url.replace("//", "//jobs:canary-right@"), connect_timeout=0.2)
    with pytest.raises(StoreUnavailableError) as away:
        lonely.facts()
    no_canary(away.value, lonely)
    for store in (right, wrong, nobody, lonely):
        store.close()


def no_canary(error: BaseException, store: MongoBackend) -> None:
    assert "canary" not in repr(store)
    seen: BaseException | None = error
    while seen is not None:
        assert "canary" not in repr(seen)
        seen = seen.__cause__


def test_killed_operations_heal(open_store: Callable[[], MongoBackend]) -> None:
    """Whatever an operator kills on the server, the next call is answered again."""
    store = open_store()
    admin = store._store.client.admin
    for _ in range(5):
        for operation in admin.command("currentOp", {"$all": True})["inprog"]:
            if "clientMetadata" in operation and "opid" in operation:
                with contextlib.suppress(OperationFailure):
                    admin.command("killOp", op=operation["opid"])
        factory.enqueue(store)
    assert len(claim(store, 10)) == 5
