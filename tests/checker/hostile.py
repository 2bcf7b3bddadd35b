"""A client that means no good, on each kind of store: it locks what others want, and has the server hang up on them.

It speaks the server's own language and not through jobcard. `lock` holds some rows, or all, for a moment; how many.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.places import Place

ROWS = 30
HELD_SECONDS = 0.15
PAUSE_SECONDS = 0.1


class Hostile:
    """One connection of it."""

    def __init__(self, place: Place) -> None:
        self._url = urlsplit(place.url)
        self._prefix = parse_qs(self._url.query).get("prefix", ["jobcard_"])[0]

    def lock(self, chance: random.Random) -> int:
        """Lock something for a moment, as badly as it can be done."""
        raise NotImplementedError

    def kill_connections(self) -> int:
        """Have the server end all others; how many."""
        raise NotImplementedError

    def close(self) -> None:
        """Hang up."""

    @staticmethod
    def _hold() -> None:
        time.sleep(HELD_SECONDS)

    @staticmethod
    def _pause() -> None:
        time.sleep(PAUSE_SECONDS)


class OnSQLite(Hostile):
    """Holds the one lock there is."""

    def __init__(self, place: Place) -> None:
        import apsw

        self._connection = apsw.Connection(place.url.removeprefix("sqlite:///"))
        self._connection.set_busy_timeout(10_000)

    def lock(self, chance: random.Random) -> int:
        self._connection.execute("begin exclusive")
        self._hold()
        self._connection.execute("rollback")
        self._pause()
        return 1

    def close(self) -> None:
        self._connection.close()


class OnSQL(Hostile):
    """Locks rows in an order of its own, one after another."""

    _some = "select id from {jobs} order by {random} limit {rows}"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._jobs = f"{self._prefix}jobs"
        self._connection = self._connect()

    def _connect(self) -> Any:
        raise NotImplementedError

    def _random_rows(self) -> list[Any]:
        raise NotImplementedError

    def lock(self, chance: random.Random) -> int:
        held = 0
        cursor = self._connection.cursor()
        try:
            for row in self._random_rows():
                cursor.execute(f"select id from {self._jobs} where id = %s for update", row)  # noqa: S608
                held += 1
            self._hold()
        except Exception:
            held += 0  # it was the victim of a deadlock: it meant to make one
        finally:
            self._connection.rollback()
        self._pause()
        return held

    def close(self) -> None:
        self._connection.close()


class OnPostgres(OnSQL):
    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self._url._replace(query="").geturl())

    def _random_rows(self) -> list[Any]:
        found = self._connection.execute(
            f"select id from {self._jobs} where state in ('waiting', 'claimed', 'running') order by random() limit {ROWS}"  # noqa: S608, E501
        ).fetchall()
        return list(found)

    def kill_connections(self) -> int:
        found = self._connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and backend_type = 'client backend'"
        ).fetchall()
        self._connection.commit()
        return len(found)


class OnMySQL(OnSQL):
    def _connect(self) -> Any:
        import pymysql

        return pymysql.connect(
            host=self._url.hostname or "127.0.0.1",
            port=self._url.port or 3306,
            user=self._url.username,
            password=unquote(self._url.password or ""),
            database=self._url.path.strip("/"),
        )

    def _random_rows(self) -> list[Any]:
        cursor = self._connection.cursor()
        cursor.execute(f"select id from {self._jobs} order by rand() limit {ROWS}")  # noqa: S608
        return list(cursor.fetchall())

    def kill_connections(self) -> int:
        cursor = self._connection.cursor()
        cursor.execute("select id from information_schema.processlist where user = 'jobcard' and id <> connection_id()")
        killed = 0
        for (number,) in cursor.fetchall():
            with contextlib.suppress(Exception):  # it has just hung up by itself
                cursor.execute(f"kill {int(number)}")
                killed += 1
        return killed


class OnRedis(Hostile):
    """Nothing can be locked there: the server itself is kept busy."""

    def __init__(self, place: Place) -> None:
        import redis

        super().__init__(place)
        self._client = redis.Redis(
            host=self._url.hostname or "", port=self._url.port or 0, password=self._url.password, socket_timeout=10
        )

    def lock(self, chance: random.Random) -> int:
        self._client.execute_command("DEBUG", "SLEEP", HELD_SECONDS)
        self._pause()
        return 1

    def kill_connections(self) -> int:
        # What waits for a wake-up counts as another type in no version we know; all that are not ours.
        return int(self._client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")) + int(
            self._client.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
        )

    def close(self) -> None:
        self._client.close()


class OnMongoDB(Hostile):
    """Writes to many documents in one transaction and takes it back; without transactions it locks all of them."""

    def __init__(self, place: Place) -> None:
        from pymongo import MongoClient

        super().__init__(place)
        self._client: Any = MongoClient(self._url.hostname, self._url.port, directConnection=True)
        self._jobs = self._client[self._url.path.strip("/")][f"{self._prefix}.jobs"]
        self._transactions = "replicaSet" in self._url.query

    def lock(self, chance: random.Random) -> int:
        from pymongo.errors import PyMongoError

        if not self._transactions:
            self._client.admin.command("fsync", lock=True)
            self._hold()
            self._client.admin.command("fsyncUnlock")
            self._pause()
            return 1
        held = 0
        ids = [found["_id"] for found in self._jobs.aggregate([{"$sample": {"size": ROWS}}, {"$project": {"_id": 1}}])]
        with self._client.start_session() as session, contextlib.suppress(PyMongoError):
            session.start_transaction()
            for job in ids:
                self._jobs.update_one({"_id": job}, {"$set": {"hostile": chance.random()}}, session=session)
                held += 1
            self._hold()
            session.abort_transaction()
        self._pause()
        return held

    def kill_connections(self) -> int:
        # A server ends no connection on command: it ends every session and every operation that comes with it.
        self._client.admin.command("killAllSessions", [])
        killed = 0
        with self._client.admin.aggregate([{"$currentOp": {"allUsers": True}}]) as found:
            for operation in found:
                if operation.get("client") and operation.get("opid") and "$currentOp" not in str(operation):
                    with contextlib.suppress(Exception):
                        self._client.admin.command("killOp", op=operation["opid"])
                        killed += 1
        return killed

    def close(self) -> None:
        self._client.close()


KINDS: dict[str, type[Hostile]] = {
    "sqlite": OnSQLite,
    "postgres": OnPostgres,
    "mysql": OnMySQL,
    "mariadb": OnMySQL,
    "redis": OnRedis,
    "valkey": OnRedis,
    "mongodb": OnMongoDB,
    "mongodb-standalone": OnMongoDB,
}


@contextlib.contextmanager
def client(place: Place) -> Iterator[Hostile]:
    """A hostile client of a store, straight to its server."""
    found = KINDS[place.kind](place)
    try:
        yield found
    finally:
        found.close()
