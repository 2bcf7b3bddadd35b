"""Jobs that wait for others, and the jobs of a batch.

The new indexes hold only those; all others cost nothing. Older engines may go on, but they let jobs in that wait for
others, where they finish what a dead producer left half done: let them end before such jobs are enqueued.
"""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.errors import NO_SUCH_COLLECTION, NO_SUCH_INDEX_NAMED
from jobcard.backends.mongodb.rows import place_by


def _index(name: str, *fields: str, only: Document) -> IndexModel:
    return IndexModel([(field, ASCENDING) for field in fields], name=name, partialFilterExpression=only)


_OF_A_BATCH: Document = {"batch_id": {"$exists": True}}
_INDEXES = {
    # Read every second.
    "dependents": _index("dependents", "hold", "_id", only={"hold": "after"}),
    # For counting without a look at the jobs.
    "batch_states": _index("batch_states", "batch_id", "state", "queue", only=_OF_A_BATCH),
    # Where a job of a batch stands until it ends, whatever becomes of it.
    "batch_ends": _index("batch_ends", "batch_id", "finished_at", only=_OF_A_BATCH),
}


def up(store: Store) -> None:
    """Make the indexes; jobs that are there come into them."""
    store.jobs.create_indexes(list(_INDEXES.values()))


def down(store: Store) -> None:
    """Let those in that wait for others."""
    let_in = [{"$set": {**place_by(store.now, waits=False), "version": {"$add": ["$version", 1]}}}]
    store.jobs.update_many({"hold": "after"}, let_in)
    for name in _INDEXES:
        try:
            store.jobs.drop_index(name)
        except OperationFailure as error:  # taken away by another
            if error.code not in (NO_SUCH_COLLECTION, NO_SUCH_INDEX_NAMED):
                raise
