"""Jobs that wait for others, and batches, in Redis: what looks cost, an index in step, older engines, few rights."""

from __future__ import annotations

import secrets
import select
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from helpers.redis_indexes import misplaced
from helpers.servers import KINDS, OwnServer, using
from jobcard.backends.base import Enqueued, Fate, Filter, Want
from jobcard.backends.redis import RedisBackend, scripts
from jobcard.backends.redis.rows import LIVE, PLACE, pack, unpack
from jobcard.backends.roles import Role
from jobcard.conformance import factory
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Claimed, Dependent

ALIVE = ("claimed", "running", "waiting")
HOUR = 3_600_000_000


@pytest.fixture(scope="module", params=["redis", "valkey"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with using(KINDS[request.param]) as server:
        yield server


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def store(url: str, clock: FrozenClock) -> Iterator[RedisBackend]:
    backend = RedisBackend(url, clock=clock, prefix=f"test-{secrets.token_hex(6)}")
    backend.migrate()
    yield backend
    backend.truncate()
    backend.close()


@pytest.fixture
def batch() -> bytes:
    return factory.new_id()


def take(store: RedisBackend, number: int = 100, done: list[Claimed] | None = None) -> list[Claimed]:
    """Claim from the one queue, and complete what was claimed before."""
    completions = factory.completions_of(done or [])
    want = Want([("default", number)], number)
    return store.exchange("engine", completions=completions, want=want, lease=factory.LEASE).claimed


def run_all(store: RedisBackend) -> None:
    """Claim and complete whatever is in line."""
    claims = take(store, 200)
    while claims:
        claims = take(store, 200, done=claims)


def move_by_older_scripts(store: RedisBackend, job_id: bytes, **sets: Any) -> None:
    """What a jobcard does to a row that knows nothing of the new indexes."""
    live = unpack(store._client.hget(store._keys.live, job_id.hex()))
    for name, value in sets.items():
        live[PLACE[name] - 1] = value
    store._client.hset(store._keys.live, job_id.hex(), pack(live))


# ------------------------------------------------------------------ what looks cost


def commands_of(client: Any, action: Callable[[], object]) -> Counter[str]:
    """How often the server ran each command meanwhile, in scripts, too."""

    def calls() -> Counter[str]:
        found = client.info("commandstats").items()
        return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in found})

    before = calls()
    action()
    return +(calls() - before - Counter({"info": 1}))


@pytest.mark.slow
@pytest.mark.turns
@pytest.mark.timeout(180)
def test_looks_for_dependents_and_the_rest_of_a_batch_read_no_other_job() -> None:
    """Beside a hundred thousand delayed and ended jobs: one look into one index each, and no row."""
    server = OwnServer(KINDS["redis"])
    server.start()
    client, store = redis.Redis.from_url(server.url), RedisBackend(server.url)
    batch = factory.new_id()
    try:
        store.migrate()
        for _ in range(80):
            factory.enqueue_several(store, 1_000, delay=HOUR)
        for _ in range(20):
            factory.enqueue_several(store, 1_000, batch_id=batch)
        run_all(store)
        assert store.count(Filter()) == {"default": {"waiting": 80_000, "completed": 20_000}}

        looked = commands_of(client, lambda: store.dependents(after=None, limit=1_000))
        assert looked == {"zrangebylex": 1}
        last = factory.enqueue(store, batch_id=batch, waits_for="[]")
        looked = commands_of(client, lambda: store.dependents(after=None, limit=1_000))
        assert looked == {"zrangebylex": 1, "hmget": 1}
        assert list(store.dependents(after=None, limit=1_000)) == [Dependent(last, "[]", 1)]

        alive = Filter(batch_id=batch, states=ALIVE)
        assert store.count(alive) == {"default": {"waiting": 1}}
        looked = commands_of(client, lambda: store.count(alive))
        assert looked.keys() <= {"evalsha", "zrangebylex", "zlexcount", "time"} and looked.total() < 10
        looked = commands_of(client, lambda: store.count(alive, limit=1))
        assert looked.pop("hget") == 1 and looked.keys() <= {"evalsha", "zrangebylex", "time"} and looked.total() < 10
        looked = commands_of(client, lambda: store.count(Filter(batch_id=batch)))
        assert "hget" not in looked and looked.total() < 20
        assert store.count(Filter(batch_id=batch)) == {"default": {"waiting": 1, "completed": 20_000}}
        looked = commands_of(client, lambda: store.list(Filter(batch_id=batch, states=ALIVE), limit=50))
        assert looked["hmget"] == 2 and "hget" not in looked
    finally:
        store.close()
        client.close()
        server.close()


def test_many_dependents_are_released_some_to_a_script(store: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand in one call let others have a turn; each stands in line once."""
    seen = factory.as_read(store, factory.enqueue_several(store, 1_000, waits_for="[]"))
    sizes, run = [], store._run

    def watched(name: str, *values: Any, **given: Any) -> Any:
        sizes.append(len(values[0]))
        return run(name, *values, **given)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_run", watched)
        assert store.release_dependents(seen) == 1_000
    assert sizes == [scripts.MOST_JOBS] * 5
    assert misplaced(store) == {}


def test_a_release_wakes_whoever_listens(store: RedisBackend) -> None:
    """One that finds nothing to release does not."""
    job_id = factory.enqueue(store, waits_for="[]")
    waker = store.waker()
    assert waker.fd is not None
    for heard in (True, False):
        assert factory.release(store, job_id) == heard
        assert bool(select.select([waker.fd], [], [], 10 if heard else 0)[0]) == heard
        waker.drain()
    waker.close()


# ------------------------------------------------------------------ the index of batches


def test_a_batch_is_found_where_its_jobs_are_whatever_moves_them(
    store: RedisBackend, batch: bytes, clock: FrozenClock
) -> None:
    """Claimed, started, ended, run again, held by a limit, put off, replaced, quarantined, deleted: in step."""
    for state in ("waiting", "claimed", "running", "completed", "failed", "canceled"):
        factory.job_in_state(store, state, batch_id=batch, rank=-1)
    assert misplaced(store) == {}
    [failed] = store.list(Filter(batch_id=batch, states=("failed",)), limit=9).rows
    assert store.apply_by_operator(failed.id, states.retry_ended(failed)) is not None
    factory.enqueue_several(store, 3, batch_id=batch, limit_key="k", key_limit=1)
    factory.enqueue_several(store, 2, batch_id=batch, limit_key="r", rate_count=1, rate_per=HOUR)
    claims = take(store)
    assert misplaced(store) == {}
    take(store, done=claims)
    store.let_in(10)
    assert misplaced(store) == {}
    [first] = factory.enqueue_several(store, 1, unique_key="u", batch_id=batch)
    for given in ({"batch_id": None}, {"batch_id": batch, "waits_for": "[]"}, {"batch_id": batch}, {"queue": "else"}):
        new = factory.new_job(unique_key="u", replaces=True, **given)
        assert store.enqueue([new]) == [Enqueued(Fate.REPLACED, first)]
        assert misplaced(store) == {}
    torn = factory.claimed_job(store, batch_id=batch, rank=-9)
    store._client.hset(store._keys.card, torn.id.hex(), b"\xc1 torn")
    clock.advance(61)
    store.find_held([], lapsed=True, limit=10)
    assert misplaced(store) == {}
    now = store._now()
    store.prune(states=["completed", "failed", "canceled"], finished_before=now, age=None, limit=100)
    assert misplaced(store) == {}
    left = Counter((row.queue, row.state) for row in store.list(Filter(), limit=100).rows if row.batch_id == batch)
    by_queue = store.count(Filter(batch_id=batch)).items()
    left[torn.queue, "waiting"] += 1  # the list leaves it out
    assert left == {(queue, state): number for queue, found in by_queue for state, number in found.items()}


def test_pages_of_a_batch_come_newest_first_over_all_its_queues(store: RedisBackend, batch: bytes) -> None:
    """Each job once, in whatever state and queue, none of another batch; more than one look finds."""
    ids = []
    for number in range(12):
        ids += factory.enqueue_several(store, 100, batch_id=batch, queue=f"q{number % 3}", name=f"n{number % 2}")
        factory.enqueue_several(store, 10, batch_id=factory.new_id())
    claims = store.exchange("engine", want=Want([("q0", 150), ("q1", 20)], 170), lease=factory.LEASE).claimed
    factory.complete(store, claims[:100])
    found: list[bytes] = []
    below = None
    while True:
        page = store.list(Filter(batch_id=batch), limit=77, before_id=below)
        found += [row.id for row in page.rows]
        if (below := page.below) is None:
            break
    assert found == sorted(ids, reverse=True)
    by_name = store.list(Filter(batch_id=batch, names=("n1",), queues=("q1",)), limit=1_000).rows
    assert len(by_name) == 200 and {(row.name, row.queue) for row in by_name} == {("n1", "q1")}
    assert store.count(Filter(batch_id=batch, names=("n1",)), limit=150)["q1"] == {"waiting": 150, "claimed": 20}
    completed = Filter(batch_id=batch, states=("completed",))
    assert store.count(completed) == {"q0": {"completed": 100}}
    assert len(store.list(completed, limit=1_000).rows) == 100


def test_batches_and_queues_are_told_apart_whatever_they_are_called(store: RedisBackend) -> None:
    """Queues that begin alike, and with control characters; ids of batches next to one another."""
    batches = [bytes(15) + bytes([number]) for number in range(3)]
    for number, batch in enumerate(batches):
        for queue in ("a", "a\x01", "a\x01b", "ab", "é"):
            factory.enqueue_several(store, number + 1, batch_id=batch, queue=queue)
    for number, batch in enumerate(batches):
        expected = {queue: {"waiting": number + 1} for queue in ("a", "a\x01", "a\x01b", "ab", "é")}
        assert store.count(Filter(batch_id=batch)) == expected
        assert len(store.list(Filter(batch_id=batch), limit=100).rows) == 5 * (number + 1)


# ------------------------------------------------------------------ older engines, and their rows


def test_jobs_that_an_older_jobcard_moved_neither_end_a_batch_nor_keep_it(store: RedisBackend, batch: bytes) -> None:
    """It leaves them in the index where they were; whoever waits for the last one is told by the rows."""
    alive = Filter(batch_id=batch, states=ALIVE)
    ids = factory.enqueue_several(store, 250, batch_id=batch)
    for job_id in ids[:-1]:
        move_by_older_scripts(store, job_id, state="completed", finished_at=store._now())
    assert store.count(alive, limit=1) == {"default": {"waiting": 1}}
    move_by_older_scripts(store, ids[-1], state="running")
    assert store.count(alive, limit=1) == {"default": {"running": 1}}
    move_by_older_scripts(store, ids[-1], state="completed", finished_at=store._now())
    assert store.count(alive, limit=1) == {}
    assert store.delete(ids) == 250
    assert store._client.exists(store._keys.batches) == 0


def test_a_job_of_a_batch_that_cannot_be_read_keeps_it(store: RedisBackend, batch: bytes) -> None:
    """Nobody knows that it has ended; one that is gone altogether does not."""
    torn, gone = factory.enqueue_several(store, 2, batch_id=batch)
    store._client.hset(store._keys.live, torn.hex(), b"\xc1 torn")
    store._client.hdel(store._keys.live, gone.hex())
    assert store.count(Filter(batch_id=batch, states=ALIVE), limit=9) == {"default": {"waiting": 1}}


def test_a_dependent_that_an_older_jobcard_moved_is_none(store: RedisBackend) -> None:
    """Its row says so, whatever the index holds still; the pages go on behind it."""
    ids = factory.enqueue_several(store, 5, waits_for="[]")
    for job_id in ids[:3]:
        move_by_older_scripts(store, job_id, state="canceled", hold=False)
    assert [one.id for one in store.dependents(after=None, limit=2)] == ids[3:]
    assert factory.release(store, *ids) == 2


def test_a_row_from_before_batches_is_read_and_moved(store: RedisBackend) -> None:
    """It lacks both fields: it waits for nobody, and its batch stands where it always did."""
    batch = factory.new_id()
    job_id = factory.enqueue(store, batch_id=batch)
    live = unpack(store._client.hget(store._keys.live, job_id.hex()))
    store._client.hset(store._keys.live, job_id.hex(), pack(live[: LIVE.index("waits_for")]))
    row = factory.row_of(store, job_id)
    assert (row.waits_for, row.batch_id) == (None, batch)
    assert factory.complete(store, take(store)) == []


def test_a_rollback_lets_dependents_go_and_the_way_back_finds_every_batch(
    store: RedisBackend, batch: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited stand where they belong; the indexes are made anew from all rows, in short scripts."""
    due, late = factory.enqueue(store, waits_for="[]"), factory.enqueue(store, waits_for="[]", delay=HOUR)
    factory.enqueue_several(store, 900, batch_id=batch)
    factory.complete(store, take(store, 100))
    for _ in range(3):
        factory.enqueue_several(store, 900)
    factory.enqueue(store, batch_id=batch)
    assert store.rollback() == 3
    assert [factory.row_of(store, job_id).hold for job_id in (due, late)] == [None, "delay"]
    assert store._client.exists(store._keys.after, store._keys.batches) == 0
    answers, client = [], store._client
    run = client.eval
    with monkeypatch.context() as patch:
        patch.setattr(client, "eval", lambda *given: answers.append(run(*given)) or answers[-1])
        assert store.migrate() == [3]
    assert answers == [0, 0, *[scripts.MORE] * 3, 1]
    assert misplaced(store) == {}
    assert store.count(Filter(batch_id=batch)) == {"default": {"waiting": 801, "completed": 100}}


# ------------------------------------------------------------------ few rights


def test_a_producer_may_replace_and_a_viewer_may_look(store: RedisBackend) -> None:
    """With the printed rights and no others: jobs that wait for others, and those of a batch."""
    server = OwnServer(KINDS["redis"])
    server.start()
    admin = redis.Redis.from_url(server.url)
    engine = RedisBackend(server.url)
    engine.migrate()
    batch = factory.new_id()
    try:
        producer, viewer = (as_user(admin, server.url, role) for role in (Role.PRODUCER, Role.VIEWER))
        first = factory.enqueue(producer, unique_key="u", waits_for="[]", batch_id=batch)
        for given in ({}, {"batch_id": batch}, {"batch_id": batch, "waits_for": "[]"}):
            new = factory.new_job(unique_key="u", replaces=True, **given)
            assert producer.enqueue([new]) == [Enqueued(Fate.REPLACED, first)]
            assert misplaced(engine) == {}
        assert list(viewer.dependents(after=None, limit=9)) == [Dependent(first, "[]", 4)]
        assert viewer.count(Filter(batch_id=batch), limit=1) == {"default": {"waiting": 1}}
        assert [row.id for row in viewer.list(Filter(batch_id=batch), limit=9).rows] == [first]
        producer.close()
        viewer.close()
    finally:
        engine.close()
        admin.close()
        server.close()


def as_user(admin: Any, url: str, role: Role) -> RedisBackend:
    with_all = RedisBackend(url)
    for line in with_all.grants(role, str(role)):
        admin.execute_command(*(word.strip('"') for word in line.split()), ">secret")
    with_all.close()
    return RedisBackend(f"redis://{role}:secret@{url.rpartition('@')[2].removeprefix('redis://')}")
