"""The way to the server: one pool for each process, every error in jobcard's words."""

from __future__ import annotations

import os
import threading
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobcard.backends.redis.cluster import Place, Slot, SlotClient
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.options import Options
from jobcard.backends.url import StoreURL


class Connections:
    """Makes the driver's client at first use, and anew in a forked child."""

    def __init__(self, url: StoreURL, options: Options) -> None:
        self.url = url
        self._options = options
        self._lock = threading.Lock()
        self._pid = 0
        self._client: Any = None
        self._slot: Slot

    def client(self) -> Any:
        """The driver's client of this process."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    # The parent's sockets are left alone: closing them politely would end its connections.
                    self._client = self._make()
                    self._pid = os.getpid()
        return self._client

    def listener(self) -> Any:
        """A client with one connection of its own, for a waker."""
        self.client()
        # On a cluster every node hears what is published on another.
        place = self._slot.owner() if self._options.cluster else None
        return redis.Redis(**self._arguments(place), single_connection_client=False)

    def close(self) -> None:
        """Let go of every connection of this process."""
        with self._lock:
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
                if self._options.cluster:
                    self._slot.close()
                else:
                    self._client.connection_pool.disconnect()
            self._client, self._pid = None, 0

    def _make(self) -> Any:
        if self._options.cluster:
            self._slot = Slot(Keys(self._options.prefix).meta, self._places(), self._pool)
            return SlotClient(self._slot)
        return redis.Redis(connection_pool=self._pool())

    def _pool(self, place: Place | None = None) -> Any:
        arguments = self._arguments(place)
        pool: Any = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]
            connection_class=redis.SSLConnection if arguments.pop("ssl", False) else redis.Connection,
            max_connections=self._options.pool_size,
            timeout=self._options.pool_timeout,
            **arguments,
        )
        return pool

    def _places(self) -> list[Place]:
        named = [(self.url.host, self.url.port), *self.url.others]
        return [(host or "localhost", port or 6379) for host, port in named]

    def _arguments(self, place: Place | None = None) -> dict[str, Any]:
        url, options = self.url, self._options
        host, port = place or self._places()[0]
        arguments: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": options.db,
            "username": url.user or None,
            "password": url.password,
            "socket_connect_timeout": options.connect_timeout,
            "socket_timeout": options.socket_timeout,
            "socket_keepalive": True,
            "health_check_interval": 0,
            # A script whose answer was lost is not repeated behind our back: whoever asked decides.
            "retry": Retry(NoBackoff(), 0),
        }
        if url.scheme in ("rediss", "valkeys"):
            arguments["ssl"] = True
            arguments["ssl_cert_reqs"] = "required"
            arguments["ssl_check_hostname"] = options.ssl_check_hostname
            if options.ssl_ca_certs:
                arguments["ssl_ca_certs"] = options.ssl_ca_certs
        return arguments
