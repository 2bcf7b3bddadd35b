"""Leave to delete: no rule of the server's keeps deletes out, so who seals the store waits for those who have it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator

from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from jobcard.backends.mongodb.connection import Document, Store
from jobcard.errors import StoreUnavailableError

_MILLISECONDS = 5_000
"""A delete begins within this after leave was given, or deletes nothing."""
_LONGEST = 60.0
"""Seconds that a delete may take where the driver was not told."""
_PAUSE = 0.01


@contextlib.contextmanager
def to_delete(store: Store) -> Iterator[Document]:
    """Leave to delete what anybody can see; gives the condition that each delete within must have, `_id` apart.

    By the server's clock, whatever this host's says: a delete that comes too late, because this process or its network
    slept, finds nothing.
    """
    name = b"D" + secrets.token_bytes(12)
    takes = round(1e3 * (store.client.options.timeout or _LONGEST))
    ends = {
        "until": {"$add": ["$$NOW", _MILLISECONDS]},
        "over": {"$add": ["$$NOW", _MILLISECONDS + takes]},
        "at": "$$NOW",  # should we die, this goes with the loads that were given up
    }
    given = store.loads.find_one_and_update(
        {"_id": name}, [{"$set": ends}], upsert=True, return_document=ReturnDocument.AFTER
    )
    try:
        yield {"$expr": {"$lt": ["$$NOW", given["until"] if given else None]}}
    finally:
        with contextlib.suppress(PyMongoError):
            store.loads.delete_one({"_id": name})


def wait_for_others(store: Store, until: float) -> None:
    """Wait until nobody has leave, at most to this moment of the monotonic clock; new leave must be barred before."""
    may_delete: Document = {"over": {"$exists": True}, "$expr": {"$gt": ["$over", "$$NOW"]}}
    while store.loads.find_one(may_delete, {"_id": True}) is not None:
        if time.monotonic() > until:
            raise StoreUnavailableError("somebody is deleting jobs, or died while doing so: seal the store again later")
        time.sleep(_PAUSE)
