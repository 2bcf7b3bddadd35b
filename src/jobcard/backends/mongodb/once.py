"""Once keys: a record of its own for each, which names the job that has it and until when.

A key is taken when its job is let in, never while that is loading, by whoever lets it in: as the record has the mark of
that entry of the job, this may be tried any number of times. So no key is ever taken for a job that was not committed,
and it guards against the same id too when the job is gone.

Who removes a job that cannot come in gives its key back; so does who took one for a job that others had removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from bson.objectid import ObjectId
from pymongo import DeleteOne, UpdateOne
from pymongo.errors import BulkWriteError

from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.errors import DUPLICATE, code_of


def take(store: Store, jobs: Sequence[Document], by: ObjectId) -> set[bytes]:
    """Take the once keys of jobs that are loading, in this order; the ids of those that have theirs now.

    by: a mark of this call, on those that nobody took for these jobs before.
    """
    while True:
        try:
            store.once.bulk_write([taking(store, job, by) for job in jobs])
        except BulkWriteError as error:
            if code_of(error) != DUPLICATE:
                raise
            continue  # made by another at the same moment
        break
    holders = find_holders(store, [job["once_key"] for job in jobs])
    return {job["_id"] for job in jobs if _mark_of(job) == holders.get(job["once_key"], {}).get("mark")}


def taking(store: Store, job: Document, by: ObjectId) -> UpdateOne:
    """The write that takes the once key of a job if it is free."""
    is_free = {"$lte": [{"$ifNull": ["$until", 0]}, store.now]}
    new = {"job_id": job["_id"], "mark": _mark_of(job), "by": by, "until": job["born"]["until"]}
    sets = {name: {"$cond": [is_free, {"$literal": value}, f"${name}"]} for name, value in new.items()}
    return UpdateOne({"_id": job["once_key"]}, [{"$set": sets}], upsert=True)


def _mark_of(job: Document) -> ObjectId:
    mark: ObjectId = job["born"]["mark"]
    return mark


def find_holders(store: Store, keys: Sequence[str]) -> dict[str, Document]:
    """The ids of the jobs that have these keys, and the marks of their entries."""
    found = store.once.find({"_id": {"$in": list(keys)}}, {"job_id": True, "mark": True})
    return {one["_id"]: one for one in found}


def has_taken(store: Store, job: Document) -> bool:
    """Whether a job that entered as this document has its once key."""
    key = job.get("once_key")
    return key is not None and find_holders(store, [key]).get(key, {}).get("mark") == _mark_of(job)


def give_back(store: Store, jobs: Sequence[Document], by: ObjectId | None = None) -> None:
    """Free the once keys of those of these jobs that have one, as they never come in. by: only those of this mark."""
    mine = {} if by is None else {"by": by}
    keyed = [job for job in jobs if "once_key" in job]
    if keyed:
        store.once.bulk_write([DeleteOne({"_id": job["once_key"], "mark": _mark_of(job), **mine}) for job in keyed])


def forget(store: Store, now: int, limit: int) -> None:
    """Delete some keys whose time is over."""
    over = {"until": {"$lte": now}}
    if keys := [one["_id"] for one in store.once.find(over, {"_id": True}).limit(limit)]:
        store.once.delete_many({"_id": {"$in": keys}, **over})
