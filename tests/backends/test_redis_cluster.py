"""The Redis store on a cluster: the public suite, and what only a cluster does: move a slot, lose a node."""

from __future__ import annotations

import secrets
import select
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from redis.crc import key_slot

from helpers.servers import KINDS, RedisCluster, ValkeyCluster, free_port, using
from helpers.stores import in_fork, spoil_in_redis
from jobcard.backends.base import Backend, Filter, Want
from jobcard.backends.redis import RedisBackend
from jobcard.backends.registry import open_backend
from jobcard.conformance import BackendSuite, Harness, factory
from jobcard.conformance.drawing import SERVER
from jobcard.core.clock import FrozenClock
from jobcard.errors import ConfigError, StoreUnavailableError

pytestmark = pytest.mark.slow


def new_harness(url: str) -> Harness:
    """Each store has a prefix of its own, and by it a slot."""

    def new_store(clock: FrozenClock) -> Callable[[], Backend]:
        prefix = f"test-{secrets.token_hex(6)}"
        return lambda: RedisBackend(url, clock=clock, prefix=prefix)

    return Harness(new_store, spoil=spoil_in_redis)


@pytest.fixture(scope="session", params=[RedisCluster, pytest.param(ValkeyCluster, marks=pytest.mark.long)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Three masters without replicas."""
    several = request.param()
    try:
        several.start()
        yield several
    finally:
        several.close()


@pytest.mark.slow
@pytest.mark.turns
class TestRedisCluster(BackendSuite):
    """Each test's store is in a slot of its own, on one of the three nodes."""

    histories = settings(SERVER, max_examples=8, stateful_step_count=30)

    @pytest.fixture
    def harness(self, cluster: Any) -> Iterator[Harness]:
        harness = new_harness(cluster.url)
        yield harness
        harness.close()


@pytest.fixture
def store(cluster: Any) -> Iterator[RedisBackend]:
    """A store by the server's own clock."""
    backend = RedisBackend(cluster.url, prefix=f"test-{secrets.token_hex(6)}")
    backend.migrate()
    yield backend
    backend.close()


def claim(store: Backend, number: int = 1) -> list[Any]:
    return store.exchange("engine", want=Want([("default", number)], number), lease=60_000_000).claimed


def node_of(cluster: Any, store: RedisBackend) -> Any:
    """The node that has a store's slot, by a client of it."""
    return cluster.client(cluster.primary(store._options.prefix))


def test_any_node_of_the_url_will_do(cluster: Any) -> None:
    """One that is not there is passed over, whichever it is; none at all is a store that is away."""
    gone = f"127.0.0.1:{free_port()}"
    before, _, places = cluster.url.partition("@")
    for url in (
        f"{before}@{gone},{places}",
        *(f"{before}@{one}/?cluster=1" for one in places.split("/")[0].split(",")),
    ):
        store = RedisBackend(url, prefix=f"test-{secrets.token_hex(6)}")
        assert store.migrate() == [1, 2, 3]
        factory.enqueue(store)
        assert len(claim(store)) == 1
        store.close()
    nowhere = RedisBackend(f"{before}@{gone}/?cluster=1")
    with pytest.raises(StoreUnavailableError):
        nowhere.facts()
    nowhere.close()


def test_facts_are_those_of_the_node_with_the_jobs(cluster: Any, store: RedisBackend) -> None:
    """Another node's memory, policy or clock say nothing of this store."""
    with node_of(cluster, store) as node:
        node.config_set("appendonly", "no")
        try:
            assert any("appendonly" in problem for problem in store.facts().problems)
        finally:
            node.config_set("appendonly", "yes")


def test_scripts_that_a_node_forgot_are_sent_again(cluster: Any, store: RedisBackend) -> None:
    """A node that took over has never seen them."""
    factory.enqueue(store)
    with node_of(cluster, store) as node:
        node.script_flush()
    assert len(claim(store)) == 1


def test_a_slot_that_moves_is_followed(cluster: Any, store: RedisBackend) -> None:
    """All keys go to another node while jobs are stored: not one is lost, doubled or refused at the end."""
    before = [factory.enqueue(store) for _ in range(5)]
    source = cluster.primary(store._options.prefix)
    target = next(node for node in cluster.nodes[:3] if node is not source)
    slot = key_slot(store._keys.meta.encode())
    with cluster.client(source) as old, cluster.client(target) as new:
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old.execute_command("CLUSTER", "MYID"))
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new.execute_command("CLUSTER", "MYID"))
        # With some keys on either side no script can run, and that is said as what it is.
        keys = old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000)
        _migrate(old, target.port, cluster._password, keys[:1])
        with pytest.raises(StoreUnavailableError):
            factory.enqueue(store)
        _migrate(old, target.port, cluster._password, keys[1:])
        for node in (new, old):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new.execute_command("CLUSTER", "MYID"))
    after = [factory.enqueue(store) for _ in range(5)]
    assert {row.id for row in store.get([*before, *after])} == {*before, *after}
    assert len(store.list(Filter(), limit=50).rows) == 10
    assert len(claim(store, 50)) == 10


def _migrate(node: Any, port: int, password: str, keys: list[bytes]) -> None:
    for key in keys:
        assert node.execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5_000, "AUTH", password) == b"OK"


def test_an_enqueue_wakes_whoever_listens(store: RedisBackend) -> None:
    """What a script publishes on one node is heard."""
    waker = store.waker()
    assert waker.fd is not None
    waker.drain()
    factory.enqueue(store)
    assert select.select([waker.fd], [], [], 10)[0]
    waker.close()


def test_a_forked_child_has_connections_of_its_own(store: RedisBackend) -> None:
    """The child's calls do not mix with the parent's on one socket."""

    def child() -> None:
        for _ in range(20):
            factory.enqueue(store)

    factory.enqueue(store)
    in_fork(child)
    for _ in range(20):
        factory.enqueue(store)
    assert store.tally().counts["waiting"] == 41


def test_a_write_that_no_replica_has_is_not_confirmed(cluster: Any) -> None:
    """With `wait_replicas` a cluster without replicas confirms nothing; the same call with an id is safe to repeat."""
    prefix = f"test-{secrets.token_hex(6)}"
    sure = RedisBackend(cluster.url, prefix=prefix, wait_replicas=1, socket_timeout=0.5)
    plain = RedisBackend(cluster.url, prefix=prefix)
    plain.migrate()
    with pytest.raises(StoreUnavailableError):
        factory.enqueue(sure)
    assert plain.tally().counts["waiting"] == 1
    for each in (sure, plain):
        each.close()


def test_urls_say_which_kind_of_server_it_is(cluster: Any) -> None:
    """A node without `cluster=1`, one server with it, several without it: each is told what to say."""
    one = cluster.url.replace("cluster=1", "").split(",")[0].rstrip("/?")
    refusals = []
    for number in range(40):  # of so many prefixes one is on another node
        store = open_backend(f"{one}/0?prefix=p{number}")
        try:
            store.facts()
        except ConfigError as error:
            refusals.append(str(error))
        store.close()
    assert refusals and all("cluster=1" in text for text in refusals)
    with pytest.raises(ConfigError, match="several servers"):
        open_backend(cluster.url.replace("?cluster=1", ""))
    with pytest.raises(ConfigError, match="no database 3"):
        open_backend(cluster.url.replace("/?", "/3?"))
    with using(KINDS["redis"]) as url:
        alone = open_backend(f"{url}?cluster=1")
        with pytest.raises(ConfigError, match="no node of a cluster"):
            alone.facts()
        alone.close()
