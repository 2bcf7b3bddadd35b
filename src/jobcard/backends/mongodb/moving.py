"""Jobs as they are, on their way from or into another store.

They go out in one command, which the server carries through whatever becomes of who sent it. They may appear over some
milliseconds; where the server itself dies in between, some are there and some are not, and putting all of them again
mends it. That is why there is no transaction: who dies in one leaves its jobs locked for a minute, also for a repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, DocumentTooLarge

from jobcard.backends.mongodb import permits, records
from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.rows import whole
from jobcard.core.job import WholeJob

_LARGEST = 16 << 20
"""Bytes of a document that the server takes."""


def put(store: Store, jobs: Sequence[WholeJob]) -> list[bytes]:
    """Write jobs as they are, each in place of the one with its id; the ids of those whose unique key is taken."""
    documents = {job.row.id: whole(job) for job in jobs}
    # All of them before the first is sent: what cannot be written must leave nothing behind.
    bodies = {job_id: _body(document) for job_id, document in documents.items()}
    records.open_queues(store, {job.row.queue for job in jobs})
    permits.take_back(store, list(documents))
    refused = _without_their_key(store, documents)
    # Those that live no more come first: each may give a key free that another has by now.
    left = sorted(documents.keys() - refused, key=lambda job_id: ("key" in documents[job_id], job_id))
    while left:
        writes: list[ReplaceOne[Document]] = [ReplaceOne({"_id": each}, bodies[each], upsert=True) for each in left]
        try:
            store.jobs.bulk_write(writes)
        except BulkWriteError as error:
            # It ended with this one; the others come behind it.
            problem = error.details["writeErrors"][0] if error.details["writeErrors"] else {}
            if "key" not in problem.get("keyPattern", ()):
                raise
            refused.add(left[problem["index"]])  # another has taken its key since we looked
            left = left[problem["index"] + 1 :]
        else:
            left = []
    return [job_id for job_id in documents if job_id in refused]


def _body(document: Document) -> RawBSONDocument:
    raw = bson.encode(document)
    if len(raw) > _LARGEST:
        raise DocumentTooLarge(f"a job with its tries and its log is {len(raw)} bytes long")
    return RawBSONDocument(raw)


def _without_their_key(store: Store, documents: Mapping[bytes, Document]) -> set[bytes]:
    """The ids of those living jobs whose unique key another has, in the store or before them among these."""
    living = {job_id: document["key"] for job_id, document in documents.items() if "key" in document}
    if not living:
        return set()
    holders: dict[str, bytes] = {}
    for one in store.jobs.find({"key": {"$in": list(living.values())}}, {"key": True}):
        # One that is written now holds its key as it will be then.
        if one["_id"] not in documents or living.get(one["_id"]) == one["key"]:
            holders[one["key"]] = one["_id"]
    return {job_id for job_id, key in living.items() if holders.setdefault(key, job_id) != job_id}
