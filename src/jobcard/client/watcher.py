"""One thread per client that waits for jobs to end, for all who wait, with one query."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from uuid import UUID

from jobcard.backends.base import Ended
from jobcard.client.store import Connection
from jobcard.core import limits
from jobcard.errors import ConfigError, JobcardError, JobNotFoundError, StoreError, StoreUnavailableError

Told = Ended | JobcardError
"""What a waiter hears: how the job ended, or why that cannot be known."""

SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.25
_SLOWING = 1.3
_LOOK_FOR_MISSING = 5.0
_PATIENCE = 30.0
"""Seconds that a store may be out of reach before those who wait are told."""


class Watcher:
    """Asks the store about all awaited jobs at once, every 5 ms at first and every 250 ms in the end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: the thread and those who waited stayed with the parent."""
        self._lock = threading.Lock()
        self._waiting: dict[bytes, list[Callable[[Told], None]]] = {}
        self._news = threading.Event()
        self._thread: threading.Thread | None = None

    def wait(self, job_id: bytes, timeout: float | None) -> Told | None:
        """How this job ended; None: not within `timeout` seconds."""
        heard: SimpleQueue[Told] = SimpleQueue()
        self.watch(job_id, heard.put)
        try:
            return heard.get(timeout=timeout)
        except Empty:
            return None
        finally:
            self.unwatch(job_id, heard.put)

    def watch(self, job_id: bytes, tell: Callable[[Told], None]) -> None:
        """Call `tell` once, from the watcher's thread, when this job has ended."""
        with self._lock:
            self._waiting.setdefault(job_id, []).append(tell)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobcard-watcher", daemon=True)
                self._thread.start()
        self._news.set()

    def unwatch(self, job_id: bytes, tell: Callable[[Told], None]) -> None:
        """Nobody listens any more."""
        with self._lock:
            listeners = self._waiting.get(job_id, [])
            if tell in listeners:
                listeners.remove(tell)
            if not listeners:
                self._waiting.pop(job_id, None)
            if not self._waiting:
                self._news.set()  # so that the thread sees that it can end

    def close(self) -> None:
        """Tell all who still wait that there will be no answer."""
        self._tell_all(ConfigError("this Jobcard is closed"))

    # -- the thread

    def _run(self) -> None:
        pause = SHORTEST_PAUSE
        reached = time.monotonic()
        looked_for_missing = reached
        while ids := self._awaited():
            began = time.monotonic()
            try:
                self._ask(ids)
                if began - looked_for_missing > _LOOK_FOR_MISSING:
                    looked_for_missing = began
                    self._find_missing(self._awaited(end=False))
                reached = time.monotonic()
            except StoreUnavailableError as error:
                if began - reached > _PATIENCE:
                    self._tell_all(error)
            except JobcardError as error:
                self._tell_all(error)
            except Exception as error:
                # A store of somebody else may raise anything; without an answer all would wait for ever.
                told = StoreError(f"the store failed with {type(error).__name__}: {error}")
                told.__cause__ = error
                self._tell_all(told)
            took = time.monotonic() - began
            # Many waiters that come one by one must not each have a query of their own.
            time.sleep(max(SHORTEST_PAUSE, took))
            if self._news.wait(max(0.0, pause - SHORTEST_PAUSE)):
                self._news.clear()
                pause = SHORTEST_PAUSE
            else:
                pause = min(pause * _SLOWING, LONGEST_PAUSE)

    def _awaited(self, *, end: bool = True) -> list[bytes]:
        with self._lock:
            if not self._waiting and end:
                self._thread = None
            return list(self._waiting)

    def _ask(self, ids: Sequence[bytes]) -> None:
        for first in range(0, len(ids), limits.BULK):
            with self._connection as store:
                found = store.ended(ids[first : first + limits.BULK])
            for ended in found:
                self._tell(ended.id, ended)

    def _find_missing(self, ids: Sequence[bytes]) -> None:
        # A job that was deleted ends for nobody: without this its waiters would wait for ever.
        for first in range(0, len(ids), limits.BULK):
            some = ids[first : first + limits.BULK]
            with self._connection as store:
                there = {row.id for row in store.get(some)}
            for job_id in some:
                if job_id not in there:
                    self._tell(job_id, JobNotFoundError(UUID(bytes=job_id)))

    def _tell(self, job_id: bytes, told: Told) -> None:
        with self._lock:
            listeners = self._waiting.pop(job_id, [])
        for tell in listeners:
            tell(told)

    def _tell_all(self, error: JobcardError) -> None:
        for job_id in self._awaited(end=False):
            self._tell(job_id, error)
