"""Jobs and once keys as they are, on their way from or into another store.

Jobs go out in one command, which the server carries through whatever becomes of who sent it. They may appear over some
milliseconds; where the server itself dies in between, some are there and some are not, and putting all of them again
mends it. That is why there is no transaction: who dies in one leaves its jobs locked for a minute, also for a repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne
from pymongo.collection import Collection
from pymongo.cursor import Cursor
from pymongo.errors import BulkWriteError, DocumentTooLarge

from jobcard.backends.mongodb import permits, records
from jobcard.backends.mongodb.connection import ANY_TEXT, BY_ID, Document, Store
from jobcard.backends.mongodb.errors import DUPLICATE, code_of
from jobcard.backends.mongodb.rows import WITHOUT_HISTORY, to_job, whole
from jobcard.core.job import OnceKey, WholeJob
from jobcard.errors import CorruptRecordError

_LARGEST = 16 << 20
"""Bytes of a document that the server takes."""

_UNREAD = CodecOptions(document_class=RawBSONDocument)


def put(store: Store, jobs: Sequence[WholeJob]) -> list[bytes]:
    """Write jobs as they are, each in place of the one with its id; the ids of those that are not written."""
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


def versions(store: Store, after: bytes | None, limit: int) -> list[tuple[bytes, int]]:
    """(id, version) of jobs by ascending id; -1 for one that cannot be read."""
    which: Document = {"load": None} if after is None else {"load": None, "_id": {"$gt": after}}

    def find(jobs: Collection[Any]) -> Cursor[Any]:
        return jobs.find(which, WITHOUT_HISTORY).sort([("_id", 1)]).limit(limit).hint(BY_ID)

    try:
        # Whole, though two fields are asked for: what cannot be read is found by reading it.
        return [_version_of(one) for one in find(store.jobs)]
    except InvalidBSON:
        return [_version_in(one.raw) for one in find(store.jobs.with_options(codec_options=_UNREAD))]


def _version_of(document: Document) -> tuple[bytes, int]:
    try:
        return document["_id"], to_job(document).version
    except CorruptRecordError:
        return document["_id"], -1


def _version_in(raw: bytes) -> tuple[bytes, int]:
    try:
        return _version_of(bson.decode(raw))
    except InvalidBSON:
        return bson.decode(raw, ANY_TEXT)["_id"], -1


def once_keys(store: Store, after: str | None, limit: int, now: int) -> list[OnceKey]:
    """Once keys in force, by ascending key."""
    which: Document = {"until": {"$gt": now}}
    if after is not None:
        which["_id"] = {"$gt": after}
    found = store.once.find(which).sort([("_id", 1)]).limit(limit).hint(BY_ID)
    return [OnceKey(one["_id"], one["job_id"], int(one["until"])) for one in found]


def put_once_keys(store: Store, keys: Sequence[OnceKey]) -> None:
    """Write once keys as they are, in place of those that are there."""
    writes = [ReplaceOne({"_id": one.key}, {"job_id": one.job_id, "until": one.until}, upsert=True) for one in keys]
    while True:
        try:
            store.once.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            if code_of(error) != DUPLICATE:
                raise
            continue  # made by another at the same moment
        return
