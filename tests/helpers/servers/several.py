"""Servers that are one store together: a Redis Cluster, and a replica set of MongoDB, each of one test's own."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import redis
from pymongo.errors import PyMongoError
from redis.crc import key_slot

from helpers.servers.common import free_port
from helpers.servers.mongodb import MongoDB
from helpers.servers.own import OwnServer
from helpers.servers.redis import Redis, Valkey
from helpers.waiting import wait_until

_ALL_SLOTS = 16_384
_NODE_TIMEOUT = 1_000  # ms until a silent node counts as gone
_ELECTION_TIMEOUT = 1_000
_FAILOVER_SECONDS = 6.0  # a Redis server gives a hand-over up after five


class Several:
    """Servers of one store: any may be killed, and started again."""

    nodes: Sequence[OwnServer]
    url: str

    def start(self) -> None:
        """Start all and make them one; returns when that can be used."""
        raise NotImplementedError

    def primary(self, prefix: str) -> OwnServer:
        """The node that takes the writes of a store now; waits until there is one."""
        raise NotImplementedError

    def hand_over(self, prefix: str) -> None:
        """Let another node take the writes; none dies. Returns when it does."""
        raise NotImplementedError

    def close(self) -> None:
        """End all of them and delete what they kept."""
        for node in self.nodes:
            node.close()


# ------------------------------------------------------------------ Redis


def _as_node(kind: type[Redis]) -> type[Redis]:
    class Node(kind):  # type: ignore[valid-type, misc]
        """One node of a cluster; all have one password."""

        def __init__(self, password: str) -> None:
            self._password = password

        def prepare(self, folder: Path) -> None:
            (folder / "password").write_text(self._password)
            (folder / "bus").write_text(str(free_port()))

        def command(self, folder: Path, port: int) -> Sequence[str]:
            return [
                *super().command(folder, port), "--masterauth", self._password, "--cluster-enabled", "yes",
                "--cluster-port", (folder / "bus").read_text(), "--cluster-config-file", str(folder / "nodes.conf"),
                "--cluster-node-timeout", str(_NODE_TIMEOUT), "--repl-diskless-sync-delay", "0",
            ]  # fmt: skip

    return Node


class RedisCluster(Several):
    """A cluster of three that share the slots, and as many replicas as a test wants for each."""

    def __init__(self, kind: type[Redis] = Redis, *, replicas: int = 0) -> None:
        self._password = secrets.token_hex(8)
        node: Any = _as_node(kind)
        self.nodes = [OwnServer(node(self._password)) for _ in range(3 * (1 + replicas))]
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        self.url = f"{kind._scheme}://:{self._password}@{places}/?cluster=1"

    def start(self) -> None:
        """Start them, share out the slots, and wait until every node and every replica agrees."""
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[:3], self.nodes[3:]
        for place, node in enumerate(self.nodes):
            with self.client(node) as client:
                if place < 3:
                    bounds = (place * _ALL_SLOTS // 3, (place + 1) * _ALL_SLOTS // 3 - 1)
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", *bounds)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
                for other in self.nodes[:place]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, self._bus(other))
        ids = [self._ask(node, "CLUSTER", "MYID").decode() for node in masters]
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes), "nodes that know each other")
        for place, node in enumerate(replicas):
            self._ask(node, "CLUSTER", "REPLICATE", ids[place % 3])
        for node in self.nodes:
            wait_until(partial(self._is_ready, node), "a node that has joined")

    def client(self, node: OwnServer) -> Any:
        """That node itself."""
        return redis.Redis(port=node.port, password=self._password, socket_timeout=5)

    def primary(self, prefix: str) -> OwnServer:
        """The master of the slot of a prefix, once all the living agree on it."""

        def found() -> OwnServer | None:
            answers = [found for node in self.nodes if (found := self._owner(node, prefix)) is not None]
            if len(set(answers)) != 1:
                return None
            [owner] = [node for node in self.nodes if node.port == answers[0]]
            return owner if self._owner(owner, prefix) == owner.port and self._writes(owner, prefix) else None

        return wait_until(found, "a master", timeout=30)

    def hand_over(self, prefix: str) -> None:
        """`CLUSTER FAILOVER` at a replica of the slot's master; again where the server gave it up, as it may."""
        before = self.primary(prefix)
        own_id = self._ask(before, "CLUSTER", "MYID")
        asked_at = 0.0

        def is_over() -> bool:
            nonlocal asked_at
            if time.monotonic() - asked_at > _FAILOVER_SECONDS:
                replica = self._replica_of(own_id)
                if replica is not None:
                    self._ask(replica, "CLUSTER", "FAILOVER")
                    asked_at = time.monotonic()
            return self.primary(prefix) is not before

        wait_until(is_over, "another master", timeout=60)

    def _replica_of(self, master: bytes) -> OwnServer | None:
        for node in self.nodes:
            with contextlib.suppress(redis.RedisError):
                follows = b"myself,slave " + master in self._ask(node, "CLUSTER", "NODES")
                if follows and b"master_link_status:up" in self._ask(node, "INFO", "replication"):
                    return node
        return None

    def _owner(self, node: OwnServer, prefix: str) -> int | None:
        slot = key_slot(f"{{{prefix}}}".encode())
        try:
            slots = self._ask(node, "CLUSTER", "SLOTS")
        except redis.RedisError:
            return None
        return next((int(nodes[0][1]) for first, last, *nodes in slots if first <= slot <= last), None)

    def _writes(self, node: OwnServer, prefix: str) -> bool:
        with contextlib.suppress(redis.RedisError):
            return self._ask(node, "DEL", f"{{{prefix}}}:no such key") == 0
        return False

    def _knows_all(self, node: OwnServer) -> bool:
        known: bytes = self._ask(node, "CLUSTER", "NODES")
        return known.count(b" connected") == len(self.nodes) and b"handshake" not in known

    def _is_ready(self, node: OwnServer) -> bool:
        follows = b"master_link_status:down" not in self._ask(node, "INFO", "replication")
        return follows and b"cluster_state:ok" in self._ask(node, "CLUSTER", "INFO")

    def _ask(self, node: OwnServer, *words: object) -> Any:
        with self.client(node) as client:
            client.response_callbacks.clear()  # as the server says it
            return client.execute_command(*words)

    @staticmethod
    def _bus(node: OwnServer) -> int:
        return int((node.folder / "bus").read_text())


class ValkeyCluster(RedisCluster):
    """The same of Valkey."""

    def __init__(self, *, replicas: int = 0) -> None:
        super().__init__(Valkey, replicas=replicas)


# ------------------------------------------------------------------ MongoDB


class _Member(MongoDB):
    """One of a set: it is told so by the set."""

    cache_gigabytes = 0.25

    def settle(self, port: int) -> None:
        pass


class ReplicaSet(Several):
    """A replica set of three that elects a new primary within seconds."""

    def __init__(self) -> None:
        self.nodes = [OwnServer(_Member()) for _ in range(3)]
        self._hosts = [f"127.0.0.1:{node.port}" for node in self.nodes]
        self.url = f"mongodb://{','.join(self._hosts)}/test?replicaSet={_Member.replica_set}"

    def start(self) -> None:
        """Start them and found the set; returns when it has a primary."""
        for node in self.nodes:
            node.start()
        with self.client(self.nodes[0]) as client:
            client.admin.command(
                "replSetInitiate",
                {
                    "_id": _Member.replica_set,
                    "members": [{"_id": number, "host": host} for number, host in enumerate(self._hosts)],
                    "settings": {"electionTimeoutMillis": _ELECTION_TIMEOUT, "heartbeatIntervalMillis": 500},
                },
            )
        self.primary("")

    def client(self, node: OwnServer) -> pymongo.MongoClient[Any]:
        """That member itself."""
        return pymongo.MongoClient(
            "127.0.0.1", node.port, directConnection=True, serverSelectionTimeoutMS=200, timeoutMS=5_000
        )

    def primary(self, prefix: str) -> OwnServer:
        """The member that takes writes."""

        def found() -> OwnServer | None:
            for node in self.nodes:
                with contextlib.suppress(PyMongoError), self.client(node) as client:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return node
            return None

        return wait_until(found, "a primary", timeout=60)

    def hand_over(self, prefix: str) -> None:
        """Let the primary step down."""
        before = self.primary(prefix)
        with self.client(before) as client:
            client.admin.command("replSetStepDown", 10)
        wait_until(lambda: self.primary(prefix) is not before, "another primary", timeout=60)
