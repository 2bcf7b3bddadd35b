"""The jobs, the loads of several jobs and the small records.

Every index holds only jobs it is about, by a field that is there or not: no claim looks at jobs that ended, none that
ended is in more than one or two of them, and none is rewritten when a lease is renewed.
"""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from jobcard.backends.mongodb.connection import Store
from jobcard.backends.mongodb.errors import COLLECTION_EXISTS
from jobcard.backends.mongodb.records import STORE


def _index(name: str, *fields: str, there: str, unique: bool = False) -> IndexModel:
    return IndexModel(
        [(field, ASCENDING) for field in fields],
        name=name,
        unique=unique,
        partialFilterExpression={there: {"$exists": True}},
    )


_JOBS = [
    # The lines themselves, in claim order. What follows `_id` is for counting without a look at the jobs.
    _index("line", "line", "rank", "order_at", "_id", "available_at", there="line"),
    # Delayed jobs by when they are due, and the other holds by name of the hold.
    _index("hold", "hold", "available_at", "queue", there="hold"),
    _index("held", "claimed_by", "_id", there="claimed_by"),
    # Nearly always empty; read in every exchange.
    _index("cancels", "claimed_by", there="cancel_requested"),
    # By queue before time: counts by queue and state then never touch the jobs.
    _index("ended", "state", "queue", "finished_at", there="finished_at"),
    # Only jobs with a `keep` of their own.
    _index("expiry", "expires_at", there="expires_at"),
    _index("key", "key", there="key", unique=True),
    # Nearly always empty: jobs that are not in yet, and those whose follow-ups may not be.
    _index("load", "load", there="load"),
    _index("then", "then", there="then"),
    _index("batch", "batch_id", "_id", there="batch_id"),
]

_DAYS = 7 * 86_400

_LOADS = [IndexModel([("at", ASCENDING)], name="at", expireAfterSeconds=_DAYS)]


def up(store: Store) -> None:
    """Make the collections and their indexes; what is there stays."""
    for collection in (store.jobs, store.loads, store.records):
        try:
            collection.database.create_collection(collection.name, check_exists=False)
        except OperationFailure as error:
            if error.code != COLLECTION_EXISTS:
                raise
    store.jobs.create_indexes(_JOBS)
    store.loads.create_indexes(_LOADS)


def down(store: Store) -> None:
    """Take the jobs and all that belongs to them away."""
    store.jobs.drop()
    store.loads.drop()
    store.records.delete_many({"_id": {"$ne": STORE}})
