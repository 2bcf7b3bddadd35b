"""The way to the servers: one client of the driver for each process, and the collections of one store."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pymongo
from bson.codec_options import CodecOptions
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from jobcard.backends.mongodb.options import Options
from jobcard.backends.url import StoreURL
from jobcard.core.clock import Clock

Document = dict[str, Any]
Expression = Any
"""A value of an aggregation: a constant or an operator."""

# Acknowledged is what a majority has in its journal. `j` is never switched off beside it: a server then waits
# up to 100 ms for each write. On a standalone server a majority is the server itself.
_SAFE = WriteConcern(w="majority", j=True)

ANY_TEXT = CodecOptions[Document](unicode_decode_error_handler="replace")
"""For reading what is not all text."""

BY_ID = "_id_"
"""The index for what names its jobs. A server left alone first tries others too: it looked at hundreds of jobs."""

COLLECTIONS = ("jobs", "loads", "records", "once", "limits")
"""The names of a store's collections, behind its prefix."""

_SERVER_TIME: Expression = {"$multiply": [{"$toLong": "$$NOW"}, 1_000]}

_GOODBYE = 0.5
"""Seconds for telling the servers that we go; they notice without."""

_left_behind: list[object] = []  # a parent's clients in a forked child: never touched, never closed


@dataclass(frozen=True, slots=True)
class Store:
    """The collections of one store, and what its clock says.

    {prefix}.jobs      one document for each job, with its tries and its log lines
    {prefix}.loads     which loads of several jobs are in, and which were given up; see loads.py
    {prefix}.records   small records, and one document about the store: schema, identity, settings, seal
    {prefix}.once      keys that stay taken until an instant, and by which job; see once.py
    {prefix}.limits    one document for each limit in use: who is just being claimed, what started; see admission.py
    """

    client: MongoClient[Document]
    jobs: Collection[Document]
    loads: Collection[Document]
    records: Collection[Document]
    once: Collection[Document]
    limits: Collection[Document]
    clock: Clock | None

    @property
    def now(self) -> Expression:
        """The store's time in microseconds, filled in by the server as it applies an update; a test's own clock."""
        return _SERVER_TIME if self.clock is None else {"$literal": self.clock.now()}

    @property
    def every(self) -> tuple[Collection[Document], ...]:
        """All collections, the jobs first."""
        return tuple(getattr(self, name) for name in COLLECTIONS)

    def settled(self, collection: Collection[Document]) -> Collection[Document]:
        """The collection as a majority has it: for what is told to users, and what a rescue rests on."""
        return collection.with_options(read_concern=ReadConcern("majority"))


class Connections:
    """Makes the driver's client at first use, and anew in a forked child."""

    def __init__(self, url: StoreURL, options: Options, clock: Clock | None) -> None:
        self.url = url
        self._options = options
        self._clock = clock
        self._connect_timeout = min(options.connect_timeout, options.socket_timeout)
        self._lock = threading.Lock()
        self._pid = 0
        self._store: Store | None = None

    def store(self) -> Store:
        """The store as this process reaches it."""
        store = self._store
        if store is None or self._pid != os.getpid():
            store = self._open()
        if not store.client.topology_description.has_writable_server():
            # A call may take its time while a new primary is elected; a server that was never there is away sooner.
            with pymongo.timeout(self._connect_timeout):
                store.client.admin.command("ping")
        return store

    def _open(self) -> Store:
        with self._lock:
            if self._store is not None and self._pid != os.getpid():
                # Closing the parent's sockets politely would end its connections.
                _left_behind.append(self._store)
                self._store = None
            if self._store is None:
                self._store = self._collections(self._client())
                self._pid = os.getpid()
            return self._store

    def listener(self) -> Store:
        """The store by a client of its own, whose calls may wait for as long as they like."""
        return self._collections(self._client(timeoutMS=None, maxPoolSize=1))

    def close(self) -> None:
        """Let go of every connection of this process."""
        with self._lock:
            if self._store is not None and self._pid == os.getpid():
                with pymongo.timeout(_GOODBYE):
                    self._store.client.close()
            elif self._store is not None:
                _left_behind.append(self._store)
            self._store = None

    def _collections(self, client: MongoClient[Document]) -> Store:
        database = client.get_database(
            self._options.database, write_concern=_SAFE, read_preference=ReadPreference.PRIMARY
        )
        prefix = self._options.prefix
        jobs, loads, records, once, limits = (database[f"{prefix}.{name}"] for name in COLLECTIONS)
        return Store(client, jobs, loads, records, once, limits, self._clock)

    def _client(self, **others: Any) -> MongoClient[Document]:
        options = self._options
        arguments: dict[str, Any] = {
            "username": self.url.user,
            "password": self.url.password,
            "serverSelectionTimeoutMS": round(1e3 * self._connect_timeout),
            "connectTimeoutMS": round(1e3 * self._connect_timeout),
            "timeoutMS": round(1e3 * options.socket_timeout),
            "waitQueueTimeoutMS": round(1e3 * options.pool_timeout),
            "maxPoolSize": options.pool_size,
            "appName": "jobcard",
            "tz_aware": True,
        }
        if options.pool_recycle is not None:
            arguments["maxIdleTimeMS"] = round(1e3 * options.pool_recycle)
        arguments |= options.driver
        return MongoClient(
            self._servers(), **{name: value for name, value in (arguments | others).items() if value is not None}
        )

    def _servers(self) -> str:
        # Without the login: the driver quotes what it cannot read.
        places = [(self.url.host or "localhost", self.url.port), *self.url.others]
        hosts = ",".join(_place(host, port) for host, port in places)
        return f"{self.url.scheme}://{hosts}/{quote(self.url.path)}"


def _place(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else quote(host)
    return shown if port is None else f"{shown}:{port}"
