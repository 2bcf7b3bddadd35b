"""Wake-ups: the server's change stream where it has one, else a look at what was stored last. Hints only."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

import pymongo
from pymongo.change_stream import ChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from jobcard.backends.base import Waker
from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.errors import NOT_ALLOWED, driver_errors
from jobcard.backends.mongodb.records import STORE
from jobcard.errors import StoreUnavailableError

_BETWEEN_LOOKS = 0.02
_AGAIN_AFTER = 1.0
_GOODBYE = 0.5


class Listener:
    """Follows the change stream on a thread of its own, and makes a pipe readable at each hint.

    After a hint it waits until that was drained: an engine that is busy is not told a thousand times that there is
    work. The stream goes on where it was.
    """

    def __init__(self, connect: Callable[[], Store], *, away: bool) -> None:
        self.fd, self._in = os.pipe()
        for fd in (self.fd, self._in):
            os.set_blocking(fd, False)
        self._store = connect()
        self._heard = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._stream: ChangeStream[Document] | None = None
        if not away:
            try:
                with driver_errors:
                    self._stream = self._watch()
            except StoreUnavailableError:
                pass  # as if it had been away before
            except BaseException:
                self.close()
                raise
        threading.Thread(target=self._listen, name="jobcard-waker", daemon=True).start()

    def drain(self) -> None:
        """Empty the pipe, and listen on."""
        with contextlib.suppress(OSError):
            while os.read(self.fd, 1 << 10):
                pass
        self._heard.set()

    def close(self) -> None:
        """Let go of the stream and its connection; closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._heard.set()
            # The thread may be in the middle of a call: that ends with the connection.
            with contextlib.suppress(PyMongoError), pymongo.timeout(_GOODBYE):
                self._store.client.close()
            os.close(self.fd)
            os.close(self._in)

    def _watch(self) -> ChangeStream[Document]:
        jobs, records = self._store.jobs, self._store.records
        news = [
            {"ns.coll": jobs.name, "operationType": "insert", "fullDocument.line": {"$exists": True}},
            {"ns.coll": jobs.name, "updateDescription.updatedFields.line": {"$exists": True}},
            {"ns.coll": jobs.name, "updateDescription.updatedFields.cancel_requested": {"$exists": True}},
            {"ns.coll": jobs.name, "operationType": "replace", "fullDocument.line": {"$exists": True}},
            {"ns.coll": records.name, "documentKey._id": STORE},
        ]
        only_that: list[Document] = [{"$match": {"$or": news}}, {"$project": {"_id": 1}}]
        try:
            return jobs.database.watch(only_that, max_await_time_ms=1_000)
        except OperationFailure as error:
            if error.code != NOT_ALLOWED:
                raise
            # A user of these collections alone: what is set is read once a second anyway.
            return jobs.watch(only_that, max_await_time_ms=1_000)

    def _listen(self) -> None:
        while not self._closed:
            try:
                heard = self._stream is not None and self._stream.try_next() is not None
                broken = self._stream is None
            except PyMongoError:
                broken = True
            if broken:
                if self._closed or not self._watch_again():
                    return
            elif not heard:
                continue
            self._hint()
            self._heard.wait()
            self._heard.clear()

    def _watch_again(self) -> bool:
        """Begin anew where the stream broke for good; something may have been missed, so that is a hint too."""
        while not self._closed:
            with contextlib.suppress(PyMongoError):
                self._stream = self._watch()
                return True
            self._heard.wait(_AGAIN_AFTER)
        return False

    def _hint(self) -> None:
        with self._lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):  # full: then it is readable already
                    os.write(self._in, b"!")


def listen(connect: Callable[[], Store], *, away: bool = False) -> Waker:
    """A waker on the change stream. away: the server does not answer now; it is listened to when it does."""
    listener = Listener(connect, away=away)
    return Waker(fd=listener.fd, drain=listener.drain, close=listener.close)


def watch(store: Callable[[], Store]) -> Waker:
    """A waker that is asked: whether the job stored last, or the settings, are others than before."""
    seen: list[object] = []

    def changed() -> bool:
        now = store()
        with driver_errors:
            last = now.jobs.find_one({}, {"load": True, "version": True}, sort=[("$natural", -1)])
            settings = now.records.find_one({"_id": STORE}, {"settings": True})
        before = seen[:]
        # One that is loading is a sign too early; it is another when it is in.
        seen[:] = [None if last is None else (last["_id"], "load" in last), settings]
        return before != seen

    return Waker(changed=changed, interval=_BETWEEN_LOOKS)
