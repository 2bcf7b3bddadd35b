"""Jobs as they are, on their way from or into another store.

Where the server has transactions, a call is one of them. A standalone server has none: there its jobs may appear over
some milliseconds, each by itself whole, and should the server die in between, putting the same jobs again mends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DocumentTooLarge
from pymongo.read_concern import ReadConcern

from jobcard.backends.mongodb import records
from jobcard.backends.mongodb.connection import SAFE, Document, Store
from jobcard.backends.mongodb.errors import DUPLICATE, code_of
from jobcard.backends.mongodb.rows import whole
from jobcard.core.job import WholeJob
from jobcard.errors import StoreUnavailableError

_LARGEST = 16 << 20
"""Bytes of a document that the server takes."""
_TRIES = 10

Documents = Mapping[bytes, Document]


def put(store: Store, jobs: Sequence[WholeJob]) -> list[bytes]:
    """Write jobs as they are, each in place of the one with its id; the ids of those whose unique key is taken."""
    documents = {job.row.id: whole(job) for job in jobs}
    # All of them before the first is sent: what cannot be written must leave nothing behind.
    bodies = {job_id: _body(document) for job_id, document in documents.items()}
    records.open_queues(store, {job.row.queue for job in jobs})
    if not store.has_log():
        return _write(store, documents, bodies, None)
    with store.client.start_session() as session:
        for _ in range(_TRIES):
            try:
                return session.with_transaction(
                    partial(_write, store, documents, bodies),
                    read_concern=ReadConcern("snapshot"),
                    write_concern=SAFE,
                )
            except BulkWriteError as error:
                if code_of(error) != DUPLICATE:
                    raise
                # Another has taken a key since we looked.
    raise StoreUnavailableError("other jobs take the same unique keys all the time")


def _body(document: Document) -> RawBSONDocument:
    raw = bson.encode(document)
    if len(raw) > _LARGEST:
        raise DocumentTooLarge(f"a job with its tries and its log is {len(raw)} bytes long")
    return RawBSONDocument(raw)


def _write(
    store: Store, documents: Documents, bodies: Mapping[bytes, RawBSONDocument], session: ClientSession | None
) -> list[bytes]:
    refused = _without_their_key(store, documents, session)
    # Those that live no more come first: each may give a key free that another has by now.
    for lives in (False, True):
        ids = [job_id for job_id in documents if job_id not in refused and ("key" in documents[job_id]) == lives]
        writes = [ReplaceOne({"_id": job_id}, bodies[job_id], upsert=True) for job_id in ids]
        try:
            if writes:
                store.jobs.bulk_write(writes, ordered=False, session=session)
        except BulkWriteError as error:
            problems = error.details["writeErrors"]
            if session is not None or any("key" not in problem.get("keyPattern", ()) for problem in problems):
                raise
            refused |= {ids[problem["index"]] for problem in problems}
    return [job_id for job_id in documents if job_id in refused]


def _without_their_key(store: Store, documents: Documents, session: ClientSession | None) -> set[bytes]:
    """The ids of those living jobs whose unique key another has, in the store or before them among these."""
    living = {job_id: document["key"] for job_id, document in documents.items() if "key" in document}
    if not living:
        return set()
    holders: dict[str, bytes] = {}
    for one in store.jobs.find({"key": {"$in": list(living.values())}}, {"key": True}, session=session):
        # One that is written now holds its key as it will be then.
        if one["_id"] not in documents or living.get(one["_id"]) == one["key"]:
            holders[one["key"]] = one["_id"]
    return {job_id for job_id, key in living.items() if holders.setdefault(key, job_id) != job_id}
