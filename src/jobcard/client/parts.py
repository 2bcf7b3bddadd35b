"""What one `Jobcard` is made of, for the modules that share it: handles, declared jobs, look-ups."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from jobcard.client import living
from jobcard.client.ageing import Ageing
from jobcard.client.hooks import Hooks
from jobcard.client.keys import Keys
from jobcard.client.producer import Producer
from jobcard.client.schedules import Schedules
from jobcard.client.started import Started
from jobcard.client.store import Connection
from jobcard.client.watcher import Watcher
from jobcard.core.codec import Codec
from jobcard.core.registry import Registry
from jobcard.engine.store_clock import StoreClock

if TYPE_CHECKING:
    from jobcard.client.audit import Audit
    from jobcard.client.live_engines import Engines
    from jobcard.client.lookup import Lookup
    from jobcard.client.moves import Moves
    from jobcard.client.queues import Queues
    from jobcard.client.threads import Threads


class Parts:
    """One client's connection and everything that works over it; any thread may use them."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.codec = Codec()
        self.connection = Connection()
        self.hooks = Hooks()
        self.ageing = Ageing(self.connection)
        self.keys = Keys(self.codec, StoreClock(self.connection.time))
        self.producer = Producer(self)
        self.watcher = Watcher(self.connection)
        self.schedules = Schedules(self)
        self.started = Started(self)
        self.crowded: dict[tuple[tuple[str, ...], bytes | None], float] = {}
        """States, and the batch, that many jobs were in a moment ago, and until when they are held for crowded."""
        self.is_tested = False
        self.is_beside = False
        self.closed = False
        living.add(self)

    # Imported when they are used: a worker, or a program that only enqueues, starts in half the time without them.

    @cached_property
    def lookup(self) -> Lookup:
        """Reads jobs, and counts them."""
        from jobcard.client.lookup import Lookup

        return Lookup(self.connection, self.codec)

    @cached_property
    def moves(self) -> Moves:
        """Cancels, retries and deletes jobs."""
        from jobcard.client.moves import Moves

        return Moves(self.connection, self.lookup)

    @cached_property
    def queues(self) -> Queues:
        """Lists and changes queues."""
        from jobcard.client.queues import Queues

        return Queues(self.connection, self.ageing)

    @cached_property
    def engines(self) -> Engines:
        """Lists engines, and stops them."""
        from jobcard.client.live_engines import Engines

        return Engines(self.connection)

    @cached_property
    def audit(self) -> Audit:
        """Writes down what operators do."""
        from jobcard.client.audit import Audit

        return Audit(self.connection)

    @cached_property
    def threads(self) -> Threads:
        """What awaitable calls run on."""
        from jobcard.client.threads import Threads

        return Threads(self.producer.send)

    def close(self) -> None:
        """Stop the engine and let go of threads and store."""
        self.closed = True
        self.started.stop()
        self.watcher.close()
        threads = self.__dict__.pop("threads", None)
        if threads is not None:
            threads.close()
        self.connection.close()

    def after_fork(self) -> None:
        """In a forked child: forget threads, locks and the engine, which stayed with the parent."""
        self.started.after_fork()
        self.__dict__.pop("threads", None)
        self.watcher.after_fork()
        self.connection.after_fork()
