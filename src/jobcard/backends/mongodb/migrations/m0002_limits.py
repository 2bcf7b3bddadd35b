"""Keys that stay taken until an instant, and limits over all engines.

The new index holds only living jobs with a limit key. Every job gets its order offset, which is what its order shows.
Older engines may go on, but they claim such jobs whatever their limits are, and let jobs in without their once keys:
let them end before such jobs are enqueued.
"""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from jobcard.backends.mongodb.connection import Store
from jobcard.backends.mongodb.errors import COLLECTION_EXISTS, NO_SUCH_COLLECTION, NO_SUCH_INDEX_NAMED

_FIELDS = ("limited", "state", "hold", "queue", "rank", "order_at", "_id", "available_at", "order_offset")
# Those at work are counted, and those put off by the rate of their key; those held and those in line are found in their
# order.
_LIMITED = IndexModel(
    [(field, ASCENDING) for field in _FIELDS],
    name="limited",
    partialFilterExpression={"limited": {"$exists": True}},
)
_UNTIL = IndexModel([("until", ASCENDING)], name="until")


def up(store: Store) -> None:
    """Make the collections and their indexes; what is there stays."""
    for collection in (store.once, store.limits):
        try:
            collection.database.create_collection(collection.name, check_exists=False)
        except OperationFailure as error:
            if error.code != COLLECTION_EXISTS:
                raise
        collection.create_indexes([_UNTIL])
    store.jobs.create_indexes([_LIMITED])
    numbers = {name: {"$type": "number"} for name in ("order_at", "available_at")}
    offset = {"$subtract": ["$order_at", "$available_at"]}
    store.jobs.update_many({"order_offset": None, **numbers}, [{"$set": {"order_offset": offset}}])


def down(store: Store) -> None:
    """Forget the keys and the limits, and let those in that were held by one."""
    let_in = [{"$set": {"hold": "$$REMOVE", "line": "$queue", "version": {"$add": ["$version", 1]}}}]
    store.jobs.update_many({"hold": "limit"}, let_in)
    try:
        store.jobs.drop_index("limited")
    except OperationFailure as error:  # taken away by another
        if error.code not in (NO_SUCH_COLLECTION, NO_SUCH_INDEX_NAMED):
            raise
    store.once.drop()
    store.limits.drop()
