"""The Redis store: the public suite on Redis and on Valkey, and what only such a server does to it."""

from __future__ import annotations

import secrets
import select
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from helpers.days import has_its_turn
from helpers.servers import KINDS, OwnServer, _free_port, using
from helpers.stores import in_fork, spoil_in_redis
from helpers.waiting import wait_until
from jobcard.backends.base import Backend, Completions, Filter, Want
from jobcard.backends.redis import RedisBackend
from jobcard.backends.redis.errors import translate
from jobcard.backends.registry import open_backend
from jobcard.conformance import AsyncBackendSuite, BackendSuite, Harness, factory
from jobcard.conformance.drawing import SERVER, SHORT
from jobcard.core.clock import FrozenClock
from jobcard.errors import ConfigError, StoreError, StoreFullError, StoreUnavailableError


def redis_harness(url: str) -> Harness:
    """Each store has a prefix of its own."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = f"test-{secrets.token_hex(6)}"
        return lambda: RedisBackend(url, clock=clock, prefix=prefix)

    return Harness(new_store, spoil=spoil_in_redis)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with using(KINDS["redis"]) as url:
        yield url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with using(KINDS["valkey"]) as url:
        yield url


class TestRedis(BackendSuite):
    histories = SERVER

    @pytest.fixture
    def harness(self, redis_url: str) -> Iterator[Harness]:
        harness = redis_harness(redis_url)
        yield harness
        harness.close()


class TestValkey(BackendSuite):
    histories = SERVER if has_its_turn("Valkey") else SHORT

    @pytest.fixture
    def harness(self, valkey_url: str) -> Iterator[Harness]:
        harness = redis_harness(valkey_url)
        yield harness
        harness.close()


@pytest.mark.slow
@pytest.mark.turns
class TestRedisAwaited(AsyncBackendSuite, TestRedis):
    """The same through the async facade."""


@pytest.mark.long
class TestValkeyAwaited(AsyncBackendSuite, TestValkey):
    """The same through the async facade."""


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisBackend]:
    """A store by the server's own clock."""
    backend = RedisBackend(redis_url, prefix=f"test-{secrets.token_hex(6)}")
    backend.migrate()
    yield backend
    backend.close()


@pytest.fixture
def direct(redis_url: str) -> Iterator[Any]:
    """The server itself."""
    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


class Own:
    """A server that one test may kill and set as it likes, and a client of it."""

    def __init__(self) -> None:
        self.server = OwnServer(KINDS["redis"])
        self.server.start()
        self.url = self.server.url
        self.client = redis.Redis.from_url(self.url)

    def start_again(self) -> None:
        """After a kill; returns when it has read what it wrote."""
        self.server.start()

        def has_read() -> bool:
            try:
                return bool(self.client.ping())
            except redis.ConnectionError:
                return False

        wait_until(has_read, "a server that has read its file")


@pytest.fixture
def own_server() -> Iterator[Own]:
    own = Own()
    yield own
    own.client.close()
    own.server.close()


def claim(store: Backend, number: int = 1) -> list[Any]:
    return store.exchange("engine", want=Want([("default", number)], number), lease=60_000_000).claimed


def test_every_key_carries_the_one_hash_tag(store: RedisBackend, direct: Any) -> None:
    """On a cluster all of a store lives in one slot, so that each move can be one script."""
    factory.enqueue(store)
    claim(store)
    prefix = f"{{{store._options.prefix}}}:".encode()
    keys = list(direct.scan_iter(match=f"*{store._options.prefix}*"))
    assert keys
    assert all(key.startswith(prefix) for key in keys)


def test_scripts_that_the_server_forgot_are_sent_again(store: RedisBackend, direct: Any) -> None:
    """A restart or SCRIPT FLUSH loses the scripts, and nobody notices."""
    factory.enqueue(store)
    direct.script_flush()
    assert len(claim(store)) == 1


def test_a_server_that_throws_keys_away_is_refused(own_server: Own) -> None:
    """An eviction policy would lose jobs: the store is not opened."""
    own_server.client.config_set("maxmemory", "100mb")
    own_server.client.config_set("maxmemory-policy", "allkeys-lru")
    store = RedisBackend(own_server.url)
    with pytest.raises(ConfigError, match="noeviction"):
        store.migrate()
    own_server.client.config_set("maxmemory-policy", "noeviction")
    assert store.migrate() == [1, 2, 3]
    own_server.client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match="noeviction"):
        store.check_schema()
    store.close()


def test_a_full_server_says_so_and_loses_nothing(own_server: Own) -> None:
    """No memory left: `StoreFullError`, nothing half done, and all goes on when there is room again."""
    store = RedisBackend(own_server.url)
    store.migrate()
    before = factory.enqueue(store, delay=0)
    factory.enqueue(store, delay=1)  # due by the next exchange, so that it would move it
    own_server.client.config_set("maxmemory", "1")
    with pytest.raises(StoreFullError):
        factory.enqueue(store)
    with pytest.raises(StoreFullError):
        claim(store, 5)
    own_server.client.config_set("maxmemory", "0")
    assert store.count(Filter())["default"]["waiting"] == 2
    assert {job.id for job in wait_until(lambda: claim(store, 5), "both")} >= {before}
    store.close()


def test_what_was_acknowledged_outlives_the_servers_death(own_server: Own) -> None:
    """SIGKILL of the server after each of many enqueues and claims: all are there when it is back."""
    store = RedisBackend(own_server.url)
    store.migrate()
    ids = []
    for _ in range(3):
        ids += [factory.enqueue(store) for _ in range(50)]
        claimed = claim(store, 20)
        own_server.server.kill()
        with pytest.raises(StoreUnavailableError):
            factory.enqueue(store)
        own_server.start_again()
        settled = store.exchange("engine", completions=Completions(*_columns(claimed)))
        assert settled.refusals == []
    rows = {row.id: row.state for row in store.get(ids)}
    assert set(rows) >= set(ids)
    assert sorted(rows.values()).count("completed") == 60
    store.close()


def _columns(claimed: list[Any]) -> tuple[list[Any], ...]:
    return ([job.ref for job in claimed], [job.token for job in claimed], ["1"] * len(claimed), [0] * len(claimed))


def test_killed_connections_heal(own_server: Own) -> None:
    """After CLIENT KILL the next call, or the one after it, is answered again."""
    store = RedisBackend(own_server.url)
    store.migrate()
    for _ in range(20):
        # Of everybody: on the server that all tests share it would be theirs, too.
        own_server.client.client_kill_filter(_type="normal", skipme=True)
        try:
            factory.enqueue(store)
        except StoreUnavailableError:
            factory.enqueue(store)
    assert len(claim(store, 50)) >= 20
    store.close()


def test_an_enqueue_wakes_whoever_listens(store: RedisBackend) -> None:
    """A new job, and a change of settings, are heard at once; draining empties the descriptor."""
    waker = store.waker()
    assert waker.fd is not None
    assert not select.select([waker.fd], [], [], 0)[0]
    factory.enqueue(store)
    assert select.select([waker.fd], [], [], 10)[0]
    waker.drain()
    assert not select.select([waker.fd], [], [], 0)[0]
    waker.close()


def test_a_forked_child_has_connections_of_its_own(store: RedisBackend) -> None:
    """The child's calls do not mix with the parent's on one socket."""
    factory.enqueue(store)

    def child() -> None:
        for _ in range(50):
            factory.enqueue(store)

    in_fork(child)
    for _ in range(50):
        factory.enqueue(store)
    assert store.tally().counts["waiting"] == 101


def test_foreign_keys_under_our_prefix_are_left_alone(redis_url: str, direct: Any) -> None:
    """A key of the wrong kind is a clear error, and stays as it is."""
    prefix = f"test-{secrets.token_hex(6)}"
    direct.set(f"{{{prefix}}}:live", "somebody else's")
    store = RedisBackend(redis_url, prefix=prefix)
    store.migrate()
    with pytest.raises(StoreError, match="prefix"):
        factory.enqueue(store)
    assert direct.get(f"{{{prefix}}}:live") == b"somebody else's"
    store.close()


def test_a_job_that_lost_a_part_is_quarantined(store: RedisBackend, direct: Any) -> None:
    """Half of a job is missing, or is not ours: it never comes, and the others do."""
    lost, torn, whole = (factory.enqueue(store) for _ in range(3))
    direct.hdel(store._keys.card, lost.hex())
    direct.hset(store._keys.live, torn.hex(), b"\xc1 torn")
    assert [job.id for job in claim(store, 10)] == [whole]
    assert direct.hget(store._keys.live, torn.hex()) == b"\xc1 torn"
    assert claim(store, 10) == []


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("redis://localhost:6379/x", "db"),
        ("redis://localhost?pool_size=0", "pool_size"),
        ("redis://localhost?pool_sise=3", "pool_size"),
        ("redis://localhost/0?db=1", "twice"),
        ("redis://localhost?prefix={x}", "prefix"),
        ("redis://localhost?socket_timeout=never", "socket_timeout"),
    ],
)
def test_bad_urls_are_refused_by_name(url: str, word: str) -> None:
    """Each error names the part that is wrong."""
    with pytest.raises(ConfigError, match=word):
        open_backend(url)


@pytest.mark.parametrize(
    ("error", "ours", "word"),
    [
        # A user who may not do in a script what the script does: the driver takes the ERR away.
        (redis.ResponseError("The user executing the script can't run this command"), StoreError, "failed: ERR"),
    ],
)
def test_errors_without_a_code_are_told_apart(error: Exception, ours: type[StoreError], word: str) -> None:
    """What the driver raises becomes an error of ours, and no word of its text is taken for a code."""
    found = translate(error)
    assert type(found) is ours and word in str(found)


def test_a_password_never_shows(redis_url: str) -> None:
    """Neither in the repr nor in an error about the connection."""
    url = f"redis://:canary-secret@127.0.0.1:{_free_port()}/0"
    store = open_backend(url)
    assert "canary" not in repr(store)
    with pytest.raises(StoreUnavailableError) as caught:
        store.facts()
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "canary" not in str(seen)
        seen = seen.__cause__
    wrong = redis_url.replace("redis://:", "redis://:canary-secret-")
    with pytest.raises(ConfigError) as refused:
        open_backend(wrong).facts()
    assert "canary" not in str(refused.value)


def test_facts_name_what_weakens_durability(own_server: Own) -> None:
    """Without an append-only file a crash loses jobs: that is a problem with its remedy."""
    store = RedisBackend(own_server.url)
    store.migrate()
    assert store.facts().problems == []
    own_server.client.config_set("appendonly", "no")
    assert any("appendonly" in problem for problem in store.facts().problems)
    store.close()
