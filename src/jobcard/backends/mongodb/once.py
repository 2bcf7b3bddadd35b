"""Once keys: a record of its own for each, which names the job that has it and until when.

A key is taken when its job is let in, never while that is loading, by whoever lets it in: as the record names the job,
that may be tried any number of times. So no key is ever taken for a job that was not committed.
"""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.errors import DUPLICATE, code_of


def take(store: Store, jobs: Sequence[Document]) -> set[bytes]:
    """Take the once keys of jobs that are loading, in this order; the ids of those that have theirs now."""
    while True:
        try:
            store.once.bulk_write([_taking(store, job) for job in jobs])
        except BulkWriteError as error:
            if code_of(error) != DUPLICATE:
                raise
            continue  # made by another at the same moment
        break
    holders = find_holders(store, [job["once_key"] for job in jobs])
    return {job["_id"] for job in jobs if holders.get(job["once_key"]) == job["_id"]}


def _taking(store: Store, job: Document) -> UpdateOne:
    is_free = {"$or": [{"$lte": [{"$ifNull": ["$until", 0]}, store.now]}, {"$eq": ["$job_id", job["_id"]]}]}
    sets = {
        "job_id": {"$cond": [is_free, {"$literal": job["_id"]}, "$job_id"]},
        "until": {"$cond": [is_free, {"$literal": job["born"]["until"]}, "$until"]},
    }
    return UpdateOne({"_id": job["once_key"]}, [{"$set": sets}], upsert=True)


def find_holders(store: Store, keys: Sequence[str]) -> dict[str, bytes]:
    """The ids of the jobs that have these keys."""
    return {one["_id"]: one["job_id"] for one in store.once.find({"_id": {"$in": list(keys)}}, {"job_id": True})}


def give_back(store: Store, job: Document) -> None:
    """Free the once key of a job that cannot come in for another reason."""
    store.once.delete_one({"_id": job["once_key"], "job_id": job["_id"]})


def forget(store: Store, now: int, limit: int) -> None:
    """Delete some keys whose time is over."""
    over = {"until": {"$lte": now}}
    if keys := [one["_id"] for one in store.once.find(over, {"_id": True}).limit(limit)]:
        store.once.delete_many({"_id": {"$in": keys}, **over})
