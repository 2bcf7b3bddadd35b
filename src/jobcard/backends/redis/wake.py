"""Wake-ups: scripts publish on the store's channel, engines listen with a connection of their own. Hints only."""

from __future__ import annotations

import contextlib
from typing import Any

from redis.exceptions import RedisError

from jobcard.backends.base import Waker
from jobcard.backends.redis.errors import driver_errors


def listen(client: Any, channel: str) -> Waker:
    """A waker on this channel; the client and its connection belong to it."""
    listener = client.pubsub(ignore_subscribe_messages=True)
    with driver_errors:
        listener.subscribe(channel)
        listener.get_message(timeout=1.0)
    fd: int = listener.connection._sock.fileno()

    def drain() -> None:
        # A connection that broke stays readable: it is let go, and polling is the truth from then on.
        with contextlib.suppress(RedisError, OSError):
            while listener.get_message(timeout=0) is not None:
                pass

    def close() -> None:
        with contextlib.suppress(RedisError, OSError):
            listener.close()
            client.close()

    return Waker(fd=fd, drain=drain, close=close)
