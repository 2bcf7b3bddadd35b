"""Moving jobs into and out of Redis: a seal that no script passes, rows put as they are, every index right after."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from helpers.redis_indexes import content, misplaced
from helpers.servers import KINDS, OwnServer, RedisCluster, using
from jobcard.backends.base import Backend, Filter, Outcome, RecordKind, Want
from jobcard.backends.redis import RedisBackend, moving, scripts
from jobcard.backends.redis.rows import LIVE, pack, unpack
from jobcard.backends.roles import Role
from jobcard.conformance import factory
from jobcard.conformance.harness import micros
from jobcard.core import states
from jobcard.core.clock import FrozenClock
from jobcard.core.job import Attempt, JobRow, LogLine, OnceKey, WholeJob
from jobcard.errors import AccessDeniedError, InvalidJobError, SchemaVersionError, StoreFullError, StoreMovedError

NOW = FrozenClock().now()
TORN = b"\xc1 torn"


@pytest.fixture(scope="module", params=["redis", "valkey", pytest.param("cluster", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param != "cluster":
        with using(KINDS[request.param]) as server:
            yield server
        return
    cluster = RedisCluster()
    try:
        cluster.start()
        yield cluster.url
    finally:
        cluster.close()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def new_store(url: str, clock: FrozenClock) -> Iterator[Callable[[], RedisBackend]]:
    """Makes stores, each empty and with a prefix of its own."""
    made: list[RedisBackend] = []

    def make() -> RedisBackend:
        store = RedisBackend(url, clock=clock, prefix=f"test-{secrets.token_hex(6)}")
        store.migrate()
        made.append(store)
        return store

    yield make
    for store in made:
        store.seal(None)
        while store.rollback():
            pass
        store.close()


@pytest.fixture
def store(new_store: Callable[[], RedisBackend]) -> RedisBackend:
    return new_store()


# ------------------------------------------------------------------ jobs in every state

AT_WORK = {
    "claimed_by": "engine",
    "claim_token": 1,
    "attempt": 1,
    "claimed_at": NOW,
    "lease_until": NOW + factory.LEASE,
}
KEYED = {"limit_key": "k", "key_limit": 1}
OF_BATCH = {"batch_id": b"b" * 16}
ENDED = {"finished_at": NOW, "claim_token": 1, "attempt": 1}
KEPT = {"keep": micros(60), "expires_at": NOW + micros(60)}

PLACES: dict[str, dict[str, Any]] = {
    "in line": {},
    "in line, keyed": KEYED,
    "delayed": {"hold": "delay", "available_at": NOW + 5, "order_at": NOW + 5},
    "put off": {"hold": "delay", "available_at": NOW + 9, "limit_key": "r", "rate_count": 1, "rate_per": micros(1)},
    "held": {"hold": "limit", **KEYED},
    "parked": {"hold": "parked", "name": "nobody.knows"},
    "broken": {"hold": "broken"},
    "after": {"hold": "after", "waits_for": "[]"},
    "after, of a batch": {"hold": "after", "waits_for": "[]", **OF_BATCH},
    "in line, of a batch": OF_BATCH,
    "claimed": {"state": "claimed", **AT_WORK},
    "claimed, keyed": {"state": "claimed", **AT_WORK, **KEYED},
    "claimed, of a batch": {"state": "claimed", **AT_WORK, **OF_BATCH},
    "running, to cancel": {"state": "running", **AT_WORK, "started_at": NOW, "cancel_requested": "enough"},
    "completed": {"state": "completed", **ENDED, "result": '"é"'},
    "completed, of a batch": {"state": "completed", **ENDED, **OF_BATCH},
    "failed, kept": {"state": "failed", **ENDED, **KEPT, "reason": "error", "error_kind": "ValueError"},
    "canceled": {"state": "canceled", **ENDED, "reason": "canceled"},
}
"""What a row says where it is not as that of a new job due now."""


def whole_of(place: str = "in line", **given: Any) -> WholeJob:
    """A job as another store hands it over."""
    job = factory.new_job()
    known = {name: value for name, value in job._asdict().items() if name in JobRow._fields}
    rest = dict.fromkeys(JobRow._fields)
    rest |= {"state": "waiting", "attempt": 0, "crashes": 0, "interrupts": 0, "claim_token": 0, "version": 7}
    rest |= {"order_at": NOW, "available_at": NOW, "created_at": NOW - 1}
    row = JobRow(**{**rest, **known, **PLACES[place], **given})
    return WholeJob(
        row,
        [Attempt(row.id, number, NOW - number, f'"try {number}"') for number in range(row.attempt)],
        [LogLine(row.id, NOW, "a line"), LogLine(row.id, NOW, "ein Wörtchen")] if row.attempt else [],
    )


def wholes(store: Backend, job_ids: Sequence[bytes]) -> dict[bytes, WholeJob]:
    """Jobs as they are stored."""
    tries, lines = store.attempts(job_ids), store.log_lines(job_ids)
    return {
        row.id: WholeJob(
            row, [one for one in tries if one.job_id == row.id], [one for one in lines if one.job_id == row.id]
        )
        for row in store.get(job_ids)
    }


def put(store: Backend, *jobs: WholeJob) -> None:
    """Put them; each must be written as it is."""
    assert store.put(jobs) == []
    assert wholes(store, [job.row.id for job in jobs]) == {job.row.id: job for job in jobs}


# ------------------------------------------------------------------ the seal


def writers(store: RedisBackend) -> dict[str, Callable[[], object]]:
    """Everything that writes, each with something to do; jobs for it are in the store."""
    waiting, ended = factory.enqueue(store, queue="else"), factory.job_in_state(store, "completed")
    brings, done, renewed = (factory.claimed_job(store) for _ in range(3))
    factory.enqueue_several(store, 2, **KEYED)
    [keyed] = factory.claim_some(store, 2)
    parked = factory.claimed_job(store, name="nobody.knows")
    factory.settle(store, parked, states.park(parked))
    factory.complete(store, keyed)  # without `freed`: the one behind it is held still
    store.write_record(RecordKind.QUEUE, "else", "{}")
    follow = Outcome(brings.ref, brings.token, states.complete("1"), [factory.new_job()])
    return {
        "enqueue": lambda: factory.enqueue(store),
        "exchange": lambda: store.exchange("engine"),
        "exchange: claim": lambda: factory.claim_some(store, queues=["else"]),
        "exchange: complete": lambda: factory.complete(store, done),
        "exchange: follow-up": lambda: store.exchange("engine", outcomes=[follow]),
        "renew": lambda: store.renew("engine", [(renewed.ref, renewed.token)], lease=factory.LEASE * 2),
        "let_in": lambda: store.let_in(10),
        "unpark": lambda: store.unpark(["nobody.knows"]),
        "apply_by_operator": lambda: store.apply_by_operator(waiting, states.cancel_waiting(reason="canceled")),
        "prune": lambda: store.prune(states=["completed"], finished_before=None, age=0, limit=10),
        "delete": lambda: store.delete([ended]),
        "write_record": lambda: store.write_record(RecordKind.QUEUE, "else", '{"paused": true}'),
        "remove_record": lambda: store.remove_record(RecordKind.QUEUE, "else"),
        "put": lambda: store.put([whole_of()]),
        "put_once_keys": lambda: store.put_once_keys([OnceKey("o", waiting, NOW + 1)]),
        "erase": lambda: store.erase([waiting]),
    }


def test_nobody_passes_a_seal(store: RedisBackend, clock: FrozenClock) -> None:
    """Every verb that writes is refused, also where it would find nothing to do, and nothing changes."""
    each = writers(store)
    clock.advance(1)  # so that there is something to prune
    store.seal("elsewhere")
    before = content(store)
    for name, write in each.items():
        with pytest.raises(StoreMovedError):
            print(name, write())
    empty = [lambda: store.let_in(1), lambda: store.unpark(["x"]), lambda: store.delete([bytes(16)])]
    for write in empty:
        with pytest.raises(StoreMovedError):
            write()
    assert content(store) == before
    store.seal(None)
    assert misplaced(store) == {}
    for name, write in each.items():
        assert write() is not False, name
    assert content(store) != before
    assert misplaced(store) == {}


def test_what_only_looks_goes_on(store: RedisBackend, clock: FrozenClock) -> None:
    """A sealed store is read as before; what cannot be read stays where it is, and is nobody's error."""
    job_id, lapsed = factory.enqueue(store), factory.claimed_job(store)
    torn = factory.claimed_job(store)
    store._client.hset(store._keys.live, torn.id.hex(), TORN)
    clock.advance(61)
    store.seal("elsewhere")
    before = content(store)
    assert store.facts().seal == "elsewhere"
    assert [claim.id for claim in store.find_held([], lapsed=True, limit=10).claims] == [lapsed.id]
    assert {row.id for row in store.list(Filter(), limit=10).rows} == {job_id, lapsed.id}
    assert dict(store.versions(after=None, limit=10)) == {job_id: 1, lapsed.id: 2, torn.id: -1}
    assert list(store.once_keys(after=None, limit=10)) == []
    assert store.count(Filter())["default"] == {"waiting": 1}
    assert store.usage(["default"], ["k"]) and store.tally() and store.examine()
    store.check_schema()
    assert store.migrate() == []
    assert content(store) == before


def test_a_seal_has_a_word(store: RedisBackend, url: str) -> None:
    """It is told to whoever asks, may be changed, outlives truncate, and is off when it is taken off."""
    factory.enqueue(store)
    assert store.facts().seal is None
    for word in ("first", "sécond", ""):
        store.seal(word)
        assert store.facts().seal == word
    store.truncate()
    assert (store.facts().seal, store.count(Filter())) == ("", {})
    for _ in range(2):
        store.seal(None)
        assert store.facts().seal is None
    factory.enqueue(store)
    empty = RedisBackend(url, prefix=f"test-{secrets.token_hex(6)}")
    with pytest.raises(SchemaVersionError):
        empty.seal("elsewhere")
    assert content(empty) == {}
    empty.close()


def test_whoever_may_take_nothing_away_can_seal_and_move_nothing() -> None:
    """A producer and a viewer are told so, and nothing is changed; an engine's rights do for all of it."""
    server = OwnServer(KINDS["redis"])
    server.start()
    admin = RedisBackend(server.url)
    try:
        admin.migrate()
        job = whole_of("claimed")
        put(admin, job)
        once = OnceKey("o", job.row.id, admin.facts().now + factory.LEASE)
        before = content(admin)
        for role in (Role.PRODUCER, Role.VIEWER):
            store = _as(role, server.url, admin)
            for refused in (
                lambda store=store: store.seal("elsewhere"),
                lambda store=store: store.seal(None),
                lambda store=store: store.put([whole_of("completed")]),
                lambda store=store: store.put([job]),
                lambda store=store: store.erase([job.row.id]),
            ):
                with pytest.raises(AccessDeniedError, match="jobcard grants"):
                    refused()
            assert dict(store.versions(after=None, limit=9)) == {job.row.id: 7}
            assert list(store.once_keys(after=None, limit=9)) == []
            store.close()
        assert content(admin) == before
        for role in (Role.ENGINE, Role.MIGRATION):
            store = _as(role, server.url, admin)
            put(store, *[whole_of(place) for place in PLACES if "keyed" not in place])
            store.put_once_keys([once])
            assert list(store.once_keys(after=None, limit=9)) == [once]
            store._client.hset(store._keys.live, job.row.id.hex(), TORN)
            put(store, job)
            store.seal("elsewhere")
            store.seal(None)
            assert store.erase([job.row.id]) == 1
            store.close()
        assert misplaced(admin) == {}
    finally:
        admin.close()
        server.close()


def _as(role: Role, url: str, admin: RedisBackend) -> RedisBackend:
    for line in admin.grants(role, str(role)):
        admin._client.execute_command(*(word.strip('"') for word in line.split()), ">secret")
    return RedisBackend(f"redis://{role}:secret@{url.rpartition('@')[2].removeprefix('redis://')}")


# ------------------------------------------------------------------ put


def test_a_store_put_into_another_is_the_same_store(new_store: Callable[[], RedisBackend], clock: FrozenClock) -> None:
    """After much has happened in one: rows, tries, lines, once keys and every index, and it goes on there."""
    source, target = new_store(), new_store()
    writers(source)
    claim = factory.running_job(source, keep=micros(60))
    factory.settle(source, claim, states.note(claim, ago=0, lines=((5, "a line"),)))
    factory.settle(source, claim, states.fail(claim, reason="error", error=factory.ERROR, kind="ValueError"))
    factory.enqueue(source, unique_key="u", once_key="o", once_until=clock.now() + 60, limit_key="r", rate_count=1)
    factory.enqueue_several(source, 3, queue="rated", limit_key="r", rate_count=1, rate_per=micros(60))
    factory.claim_some(source, 3, queues=["rated"])
    ids = [row.id for row in source.list(Filter(), limit=1_000).rows]
    assert target.put(list(wholes(source, ids).values())) == []
    target.put_once_keys(source.once_keys(after=None, limit=10))
    assert wholes(target, ids) == wholes(source, ids)
    assert target.versions(after=None, limit=100) == source.versions(after=None, limit=100)
    assert misplaced(source) == misplaced(target) == {}
    there, here = content(source), content(target)
    for unlike in ("meta", "records", "counts", "starts", "lapses"):
        there.pop(unlike, None), here.pop(unlike, None)
    assert here == there
    queues = {record.key for record in target.read_records(RecordKind.QUEUE)}
    assert queues == {record.key for record in source.read_records(RecordKind.QUEUE)}
    for store in (source, target):
        clock.advance(1)
        assert [claim.id for claim in factory.claim_some(store, 9, owner="other")]
        assert misplaced(store) == {}


def test_put_again_is_the_same(store: RedisBackend) -> None:
    """Once, twice, in another order: not a field differs."""
    jobs = [whole_of(place, **given) for place in PLACES for given in ({}, {"unique_key": place})]
    put(store, *jobs)
    assert misplaced(store) == {}
    before = content(store)
    for again in (jobs, jobs[::-1], jobs + jobs):
        assert store.put(again) == []
        assert content(store) == before


def test_a_put_over_a_job_leaves_no_trace_of_it(store: RedisBackend) -> None:
    """From every place into every other: each index names the job where its row puts it, and nowhere else."""
    pairs = [(before, after) for before in PLACES for after in PLACES]
    old = [whole_of(before, unique_key=f"{before}/{after}") for before, after in pairs]
    put(store, *old)
    new = [
        whole_of(after, id=job.row.id, queue="other", rank=3, limit_key="x", unique_key=job.row.unique_key, version=9)
        for job, (_, after) in zip(old, pairs, strict=True)
    ]
    put(store, *new)
    assert misplaced(store) == {}
    assert store.erase([job.row.id for job in new]) == len(new)
    assert misplaced(store) == {}
    assert not {"live", "card", "attempts", "lines", "alive", "unique", "ids"} & set(content(store))


@pytest.mark.parametrize("how", ["torn", "no row", "of other kinds"])
def test_what_cannot_be_read_is_replaced_and_erased(store: RedisBackend, how: str) -> None:
    """Wherever it stood: no index names it any more, the counts are right, and those beside it are as they were."""
    beside = [whole_of(place, unique_key=f"beside {place}") for place in PLACES]
    bad = [whole_of(place, unique_key=place) for place in PLACES]
    put(store, *beside, *bad)
    for job in bad:
        _tear(store, job.row.id, how)
    numbers = dict(store.versions(after=None, limit=100))
    assert {numbers[job.row.id] for job in beside} == {7}
    if how != "of other kinds":
        assert {numbers[job.row.id] for job in bad} == {-1}
    half = len(bad) // 2
    new = [whole_of("failed, kept", id=job.row.id) for job in bad[:half]]
    put(store, *new)
    assert store.erase([job.row.id for job in bad[half:]]) == len(bad) - half
    assert misplaced(store) == {}
    assert wholes(store, [job.row.id for job in beside]) == {job.row.id: job for job in beside}
    assert {row.id for row in store.list(Filter(), limit=100).rows} == {job.row.id for job in (*beside, *new)}


def _tear(store: RedisBackend, job_id: bytes, how: str) -> None:
    if how == "torn":
        store._client.hset(store._keys.live, job_id.hex(), TORN)
    elif how == "no row":
        store._client.hdel(store._keys.live, job_id.hex())
    else:
        _spoil(store, job_id, state="sleeping", claimed_by=["nobody"], unique_key={"no": "text"})


def _spoil(store: RedisBackend, job_id: bytes, **fields: Any) -> None:
    live = dict(zip(LIVE, unpack(store._client.hget(store._keys.live, job_id.hex())), strict=True))
    live |= {name: False if value is None else value for name, value in fields.items()}
    store._client.hset(store._keys.live, job_id.hex(), pack(list(live.values())))


def test_a_living_job_with_a_taken_key_is_left_out(store: RedisBackend) -> None:
    """Taken in the store or by another of the call; what is there of it stays, and the others are written."""
    holder, first, second, free = (whole_of(unique_key=key) for key in ("a", "b", "b", None))
    put(store, holder)
    late = whole_of("claimed", unique_key="a")
    assert sorted(store.put([late, first, second, free])) == sorted([late.row.id, second.row.id])
    assert set(wholes(store, [job.row.id for job in (late, second, first, free)])) == {first.row.id, free.row.id}
    there = whole_of("completed", unique_key="a")
    put(store, there)
    alive = whole_of("in line", id=there.row.id, unique_key="a")
    assert store.put([alive]) == [alive.row.id]
    assert wholes(store, [there.row.id]) == {there.row.id: there}
    assert misplaced(store) == {}


@pytest.mark.parametrize("between", [0, 2 * scripts.MOST_JOBS])
def test_a_key_that_one_gives_free_another_of_the_call_has(store: RedisBackend, between: int) -> None:
    """Whatever their order, in one script or in several."""
    others = [whole_of() for _ in range(between)]
    for turn in (1, -1):
        old, new = whole_of(unique_key=f"u{turn}"), whole_of(unique_key=f"u{turn}")
        put(store, old)
        ended = whole_of("completed", id=old.row.id, unique_key=f"u{turn}")
        assert store.put([new, *others, ended][::turn]) == []
        [fate] = store.enqueue([factory.new_job(unique_key=f"u{turn}")])
        assert fate.existing == new.row.id
    assert misplaced(store) == {}


def test_thousands_are_put_some_to_a_script(store: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, and by size where jobs are large; all are there, and go again as well."""
    jobs = [whole_of(place) for _ in range(250) for place in PLACES if place not in ("claimed, keyed", "held")]
    calls = []
    run = store._run

    def watched(name: str, *values: Any, **given: Any) -> Any:
        calls.append((name, len(values[0]) if name in ("put", "erase") else 0))
        return run(name, *values, **given)

    monkeypatch.setattr(store, "_run", watched)
    for first in range(0, len(jobs), 1_000):
        assert store.put(jobs[first : first + 1_000]) == []
    assert {number for name, number in calls} == {scripts.MOST_JOBS}
    assert misplaced(store) == {}
    ids = sorted(job.row.id for job in jobs)
    seen: list[tuple[bytes, int]] = []
    while page := store.versions(after=seen[-1][0] if seen else None, limit=700):
        assert len(page) == 700 or len(seen) + len(page) == len(ids)
        seen += page
    assert seen == [(job_id, 7) for job_id in ids]
    for first in range(0, len(ids), 1_000):
        assert store.erase(ids[first : first + 1_000]) == len(ids[first : first + 1_000])
    assert store.versions(after=None, limit=5) == [] and misplaced(store) == {}
    calls.clear()
    large = [whole_of(args=f'["{"x" * 1_000_000}"]') for _ in range(10)]
    put(store, *large)
    assert [number for name, number in calls if name == "put"] == [5, 5]


def test_what_cannot_be_stored_stops_all_of_a_put(store: RedisBackend) -> None:
    """Text without bytes, a value that an index cannot take, a state there is not: none of the call is written."""
    for given in ({"result": factory.NO_TEXT}, {"finished_at": "soon"}, {"rank": None}, {"state": "sleeping"}):
        jobs = [whole_of("completed") for _ in range(scripts.MOST_JOBS)]
        with pytest.raises(InvalidJobError):
            store.put([*jobs, whole_of("completed", **given)])
    assert store.versions(after=None, limit=5) == []


def test_a_row_without_what_it_should_say_is_put_all_the_same(store: RedisBackend) -> None:
    """At work with nobody or without a lease, ended at no time: rows that were spoiled somewhere move, too."""
    put(store, whole_of("claimed", claimed_by=None), whole_of("claimed", lease_until=None))
    put(store, whole_of("completed", finished_at=None))
    ids = [job_id for job_id, _ in store.versions(after=None, limit=9)]
    assert store.erase(ids) == 3
    assert misplaced(store) == {}


def test_a_server_that_gets_full_leaves_nothing_half_written() -> None:
    """`StoreFullError`; what is there are whole scripts of jobs in the right places, and the rest can be put behind."""
    server = OwnServer(KINDS["redis"])
    server.start()
    store = RedisBackend(server.url)
    try:
        store.migrate()
        jobs = [whole_of(args=f'["{"x" * 9_000}"]') for _ in range(1_000)]
        put(store, *jobs[: scripts.MOST_JOBS])
        used = store._client.info("memory")["used_memory"]
        store._client.config_set("maxmemory", used + (3 << 20))
        with pytest.raises(StoreFullError):
            store.put(jobs)
        there = len(store.versions(after=None, limit=1_000))
        assert there < 1_000 and there % scripts.MOST_JOBS == 0
        assert misplaced(store) == {}
        store._client.config_set("maxmemory", 1)
        store.seal("a full store may be sealed")
        store.seal(None)
        assert store.erase([jobs[0].row.id]) == 1
        store._client.config_set("maxmemory", 0)
        put(store, *jobs)
        assert misplaced(store) == {}
    finally:
        store.close()
        server.close()


# ------------------------------------------------------------------ versions, once keys


def test_a_job_that_cannot_be_read_has_no_version(store: RedisBackend) -> None:
    """A part that is missing or torn, in one field or whole; those around it have theirs."""
    client, keys = store._client, store._keys
    ids = sorted(factory.enqueue_several(store, 8))
    client.hdel(keys.live, ids[1].hex())
    client.hdel(keys.card, ids[2].hex())
    client.hset(keys.live, ids[3].hex(), TORN)
    client.hset(keys.card, ids[4].hex(), b"junk")
    client.hset(keys.card, ids[5].hex(), client.hget(keys.card, ids[5].hex())[:-1])
    _spoil(store, ids[6], created_at="yesterday")
    found = store.versions(after=None, limit=20)
    assert [job_id for job_id, _ in found] == ids
    readable = {row.id for row in store.list(Filter(), limit=20).rows}
    assert [number > 0 for _, number in found] == [job_id in readable for job_id in ids]
    assert readable == {ids[0], ids[7]}
    assert store.versions(after=ids[4], limit=2) == found[5:7]


def test_once_keys_are_paged_by_key(store: RedisBackend, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are read ahead, and whatever comes or goes meanwhile; those whose time is over are none."""
    monkeypatch.setattr(moving.OnceKeys, "_AHEAD", 7)
    until = clock.now() + micros(60)
    keys = [OnceKey(f"é{number}", factory.new_id(), until + number) for number in range(300)]
    store.put_once_keys([*keys, OnceKey("over", factory.new_id(), clock.now())])
    keys.sort()

    def pages(limit: int) -> list[OnceKey]:
        found: list[OnceKey] = []
        while page := store.once_keys(after=found[-1].key if found else None, limit=limit):
            found += page
        return found

    for limit in (1, 10, 299, 300, 1_000):
        assert pages(limit) == keys
    assert store.once_keys(after=keys[100].key, limit=3) == keys[101:104]
    later = [once._replace(until=until + 1_000, job_id=factory.new_id()) for once in keys[:3]]
    store.put_once_keys(later)
    store._client.hset(store._keys.once, keys[3].key, TORN)
    assert pages(10) == later + keys[4:]
    [fate] = store.enqueue([factory.new_job(once_key=later[0].key, once_until=until)])
    assert fate.existing == later[0].job_id
    clock.advance(60)
    for _ in range(3):
        store.prune(states=[], finished_before=None, age=None, limit=1)
    left = sorted(once for once in [*later, *keys[4:]] if once.until > clock.now())
    assert pages(50) == left
    clock.advance(1)
    for _ in range(3):
        store.prune(states=[], finished_before=None, age=None, limit=1)
    assert "once" not in content(store) and "lapses" not in content(store)


# ------------------------------------------------------------------ what else happens to indexes


def test_a_claim_spoiled_by_hand_stops_no_other(store: RedisBackend) -> None:
    """At work with nobody, or without a lease, or in no queue: those beside it are completed and renewed."""
    spoiled = [{"claimed_by": None}, {"lease_until": None}, {"queue": None}]
    odd = [factory.claimed_job(store, limit_key="k") for _ in spoiled]
    sound = [factory.claimed_job(store) for _ in range(2)]
    for claim, fields in zip(odd, spoiled, strict=True):
        _spoil(store, claim.id, **fields)
    held = [(claim.ref, claim.token) for claim in (*odd, *sound)]
    assert store.renew("engine", held, lease=factory.LEASE) == [claim.ref for claim in odd]
    refused = factory.complete(store, [*odd, sound[0]])
    assert [refusal.ref for refusal in refused] == [odd[2].ref]
    again = factory.settle(store, sound[1], states.fail(sound[1], reason="error", error=factory.ERROR, kind="X"))
    assert again == []
    assert {row.state for row in store.get([claim.id for claim in sound])} == {"completed", "failed"}


def test_a_claim_that_cannot_be_read_leaves_no_request_behind(store: RedisBackend, clock: FrozenClock) -> None:
    """Torn to pieces while somebody asked to cancel it: once it is set aside its holder hears of it no more."""
    claim = factory.running_job(store)
    store.apply_by_operator(claim.id, states.ask_to_cancel(factory.row_of(store, claim.id), reason="enough"))
    assert store.exchange("engine").cancels == [(claim.ref, "enough")]
    store._client.hset(store._keys.live, claim.id.hex(), TORN)
    clock.advance(61)
    assert store.find_held([], lapsed=True, limit=10).claims == []
    assert store.exchange("engine").cancels == []


def test_every_index_agrees_with_the_rows_after_ordinary_work(store: RedisBackend, clock: FrozenClock) -> None:
    """Claims under limits and rates, ends of every kind, puttings off, a quarantine: the same rule as for `put`."""
    for turn in range(4):
        factory.enqueue_several(store, 6, priority=turn, unique_key=None, keep=turn or None)
        factory.enqueue_several(store, 3, limit_key=f"k{turn % 2}", key_limit=2)
        factory.enqueue_several(store, 3, limit_key="r", rate_count=1, rate_per=micros(5))
        factory.enqueue(store, unique_key=f"u{turn}", delay=micros(turn))
        claims = factory.claim_some(store, 9)
        done, rest = claims[:3], claims[3:]
        factory.complete(store, done)
        for claim in rest[:2]:
            factory.settle(store, claim, states.retry(claim, reason="error", delay=turn, error="{}", kind=None))
        for claim in rest[2:3]:
            factory.settle(store, claim, states.park(claim))
        want = Want([("default", 3)], 3)
        store.exchange("other", want=want, lease=factory.LEASE, freed=["k0", "k1"])
        store.renew("engine", [(claim.ref, claim.token) for claim in rest[3:]], lease=factory.LEASE * 2)
        store.let_in(5)
        clock.advance(2)
        assert misplaced(store) == {}
    store.unpark(["shop.mail"])
    store.prune(states=["completed"], finished_before=None, age=1, limit=5)
    assert misplaced(store) == {}
