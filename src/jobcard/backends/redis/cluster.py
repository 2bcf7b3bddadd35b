"""A cluster: a client of the one node that has our slot, wherever that is at the moment.

All keys of a store live in one slot, so each of its calls goes to one node. That node is found by asking any node of
the cluster; it is looked for again when it does not answer, and followed when it says that the slot has moved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    MovedError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from jobcard.errors import ConfigError

Place = tuple[str, int]
"""Host and port."""

_AWAY = (ConnectionError, TimeoutError, ClusterDownError)


class Slot:
    """Knows which node has a slot, and keeps a pool of connections to it."""

    def __init__(self, key: str, places: Sequence[Place], new_pool: Callable[[Place], Any]) -> None:
        """key: one of the slot. places: nodes of the cluster, one of which must answer at first."""
        self._number = key_slot(key.encode())
        self._named = list(places)
        self._seen: list[Place] = []
        self._new_pool = new_pool
        self._lock = threading.Lock()
        self._owner: Place | None = None
        self._last: Place | None = None
        self._pool: Any = None
        self._left: list[Any] = []

    def owner(self) -> Place:
        """The node that has the slot, as far as anybody knows."""
        self.pool()
        assert self._last is not None
        return self._last

    def pool(self) -> Any:
        """Connections to the node that has the slot."""
        with self._lock:
            if self._owner is None:
                self._go_to(self._find())
            return self._pool

    def lost(self) -> None:
        """Its node does not answer, or does not know: before the next call the others are asked."""
        with self._lock:
            self._owner = None

    def moved(self, moved: MovedError) -> None:
        """Its node says where the slot is now."""
        with self._lock:
            host = moved.host or (self._last or self._named[0])[0]
            self._go_to((host, int(moved.port)))

    def close(self) -> None:
        """Let go of every connection."""
        with self._lock:
            for pool in (*self._left, self._pool):
                if pool is not None:
                    pool.disconnect()
            self._left, self._pool, self._owner = [], None, None

    def _go_to(self, owner: Place) -> None:
        if self._pool is None or owner != self._last:
            if self._pool is not None:
                self._left.append(self._pool)  # other threads may be waiting for an answer
            self._pool = self._new_pool(owner)
        self._owner = self._last = owner

    def _find(self) -> Place:
        """Ask one node after the other; the one that was lost comes last: it may not know that it was replaced."""
        places = dict.fromkeys([*self._seen, *self._named])
        error: RedisError = ConnectionError("no node of the cluster answers")
        for place in sorted(places, key=lambda place: place == self._last):
            pool = self._new_pool(place)
            try:
                asked: Any = redis.Redis(connection_pool=pool)
                slots = asked.execute_command("CLUSTER", "SLOTS")
            except _AWAY as problem:
                error = problem
            except ResponseError as problem:
                if isinstance(problem, redis.exceptions.NoPermissionError):
                    raise
                raise ConfigError("this server is no node of a cluster: leave `cluster` out of its URL") from problem
            else:
                owners = [(first, last, nodes) for first, last, *nodes in slots]
                self._seen = [_place(node, place) for _, _, nodes in owners for node in nodes]
                for first, last, nodes in owners:
                    if first <= self._number <= last:
                        return _place(nodes[0], place)
            finally:
                pool.disconnect()
        raise error


def _place(node: Sequence[Any], asked: Place) -> Place:
    # A node that does not know its own name says none: it is the one we asked.
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    return (host or asked[0], int(node[1]))


class SlotClient(redis.Redis):
    """The driver's client, of the node that has our slot."""

    def __init__(self, slot: Slot) -> None:
        super().__init__(connection_pool=slot.pool())
        self._slot = slot

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command; a node that sends it elsewhere has not run it."""
        send: Any = super().execute_command
        return _followed(self, self._slot, lambda: send(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Several commands in one go."""
        return _SlotPipeline(self._slot, self.response_callbacks, transaction, shard_hint)


class _SlotPipeline(redis.client.Pipeline):
    def __init__(self, slot: Slot, *others: Any) -> None:
        super().__init__(slot.pool(), *others)
        self._slot = slot

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = list(self.command_stack)
        send: Any = super().execute

        def call() -> list[Any]:
            self.command_stack = list(commands)
            answers: list[Any] = send(raise_on_error=raise_on_error)
            for answer in answers:
                if isinstance(answer, (MovedError, *_AWAY)):
                    raise answer
            return answers

        answers: list[Any] = _followed(self, self._slot, call)
        return answers


def _followed(client: Any, slot: Slot, call: Callable[[], Any]) -> Any:
    client.connection_pool = slot.pool()
    try:
        try:
            return call()
        except MovedError as moved:
            slot.moved(moved)
            client.connection_pool = slot.pool()
            return call()
    except MovedError as again:
        slot.lost()
        raise TryAgainError("the slot is on its way") from again
    except _AWAY:
        slot.lost()
        raise
