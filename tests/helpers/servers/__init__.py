"""Throwaway servers for tests: real ones, started once for a test run, gone with the last process that used them.

    postgres = Postgres()
    with using(postgres) as url: …

$JOBCARD_TEST_POSTGRES (and so on) may name a server to use instead; it is then left as it is, but for the tables
of the tests. A server that cannot be started is an error that says what to install: never a silent skip.

Another kind of server is one more `Server` class in KINDS.
"""

from __future__ import annotations

from helpers.servers.common import MissingServerError, Server, free_port, wait_until_up
from helpers.servers.mongodb import MongoDB, MongoDBStandalone
from helpers.servers.mysql import MariaDB, MySQL
from helpers.servers.own import OwnServer
from helpers.servers.postgres import Postgres
from helpers.servers.redis import Redis, Valkey
from helpers.servers.several import RedisCluster, ReplicaSet, Several, ValkeyCluster
from helpers.servers.sharing import using

__all__ = [
    "KINDS",
    "MariaDB",
    "MissingServerError",
    "MongoDB",
    "MongoDBStandalone",
    "MySQL",
    "OwnServer",
    "Postgres",
    "Redis",
    "RedisCluster",
    "ReplicaSet",
    "Server",
    "Several",
    "Valkey",
    "ValkeyCluster",
    "free_port",
    "using",
    "wait_until_up",
]

KINDS: dict[str, Server] = {
    server.name: server
    for server in (Postgres(), Redis(), Valkey(), MariaDB(), MySQL(), MongoDB(), MongoDBStandalone())
}

# As tests call them that were written before they had a module of their own.
_free_port, _wait_until_up = free_port, wait_until_up
