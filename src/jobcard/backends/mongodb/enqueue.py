"""Storing new jobs: one in a single step, several as a load."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from pymongo.errors import DuplicateKeyError, PyMongoError

from jobcard.backends.base import Enqueued, Fate, RecordKind
from jobcard.backends.mongodb import loads, once
from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.errors import unless_sealed
from jobcard.backends.mongodb.records import STORE, check_seal, name_of, open_queues
from jobcard.backends.mongodb.rows import CONTENT, LOADING, check_writable, enter, to_document
from jobcard.backends.mongodb.schema import check_version
from jobcard.core.job import NewJob
from jobcard.errors import StoreUnavailableError

_TRIES = 10


def store(store: Store, jobs: Sequence[NewJob]) -> list[Enqueued]:
    """Store jobs, all or nothing; one answer each, in order."""
    check_writable(map(tuple, jobs))  # all before the first is sent: what cannot be written must leave nothing behind
    _open_line(store, {job.queue for job in jobs})
    # A once key is a record of its own: its job is stored as several are, in steps that anybody may finish.
    if len(jobs) == 1 and jobs[0].once_key is None and (answer := _store_one(store, jobs[0])) is not None:
        return [answer]
    return _store_several(store, jobs)


def _open_line(store: Store, queues: set[str]) -> None:
    """See in one look that there is a schema, no seal, and a record for each queue."""
    names = [STORE, *(name_of(RecordKind.QUEUE, queue) for queue in queues)]
    found = list(
        store.records.find({"_id": {"$in": names}, "untold": None}, dict.fromkeys(("key", "schema", "seal"), True))
    )
    facts = next((one for one in found if one["_id"] == STORE), {})
    check_version(facts.get("schema", 0))
    check_seal(facts)
    open_queues(store, queues, known={one["key"] for one in found if one["_id"] != STORE})


def _store_one(store: Store, job: NewJob) -> Enqueued | None:
    """Store one job in one step; None when one is loading under its id."""
    document = to_document(job)
    update = [{"$replaceWith": {"$literal": document}}, *enter(store.now)]
    for _ in range(_TRIES):
        try:
            # Not only by id: a job that is there must not match, else it would be written over.
            store.jobs.update_one({"_id": job.id, "state": {"$exists": False}}, update, upsert=True)
        except DuplicateKeyError:
            there = store.jobs.find_one({"_id": job.id}, dict.fromkeys((*CONTENT, "state"), True))
            if there is not None:
                return None if there["state"] == LOADING else _standing(document, there)
            if (holder := loads.find_by_unique_key(store, job.unique_key or "")) is not None:
                replaced = job.replaces and loads.replace(store, holder["_id"], document)
                return Enqueued(Fate.REPLACED if replaced else Fate.KEY_TAKEN, holder["_id"])
        else:
            return Enqueued(Fate.STORED, job.id)
    raise StoreUnavailableError("other jobs take and give back the same unique key all the time")


def _standing(document: Document, there: Document) -> Enqueued:
    same = loads.same_content(there, document)
    return Enqueued(Fate.REPEATED if same else Fate.ID_TAKEN, document["_id"])


def _store_several(store: Store, jobs: Sequence[NewJob]) -> list[Enqueued]:
    documents: dict[bytes, Document] = {}
    for place, job in enumerate(jobs):
        documents.setdefault(job.id, to_document(job, place))
    there = _commit(store, documents)
    keyed = [job for job in jobs if has_key(job) and job.id not in there]
    holders = _losers(store, keyed, documents)
    answers = []
    seen: set[bytes] = set()
    for job in jobs:
        if job.id in there:
            answers.append(_standing(to_document(job), there[job.id]))
        elif job.id in seen:
            answers.append(_standing(to_document(job), documents[job.id]))
        elif (answer := holders.get(job.id)) is not None:
            answers.append(answer)
        else:
            answers.append(Enqueued(Fate.STORED, job.id))
        seen.add(job.id)
    return answers


def _commit(store: Store, documents: dict[bytes, Document]) -> dict[bytes, Document]:
    """Store documents as one load and let them in; what stood there instead of some, by id."""
    for _ in range(_TRIES):
        load = loads.name_of_enqueue()
        try:
            there = loads.put(store, load, documents.values(), joins=loads.same_content)
        except BaseException:
            # Whatever the server may still do of it: without a commit nobody ever sees it.
            with contextlib.suppress(PyMongoError):
                loads.drop(store, [load])
            raise
        if len(there) < len(documents) or any(one["state"] == LOADING for one in there.values()):
            if not loads.commit(store, load):
                continue  # given up by somebody who thought us dead
            singly = any(name in document for document in documents.values() for name in loads.BY_THEMSELVES)
            with unless_sealed():  # whoever seals lets in first what is committed
                loads.let_in(store, [load], queues=(), singly=singly)
                loads.forget(store, load)
        return there
    raise StoreUnavailableError("the jobs were given up as abandoned again and again while they were stored")


def _losers(store: Store, keyed: Sequence[NewJob], documents: Mapping[bytes, Document]) -> dict[bytes, Enqueued]:
    """The fates of those jobs of a load that were not let in, as their key was taken."""
    if not keyed:
        return {}
    ids = [job.id for job in keyed]
    stored = {one["_id"] for one in store.jobs.find({"_id": {"$in": ids}, "state": {"$ne": LOADING}}, {"_id": True})}
    fates: dict[bytes, Enqueued] = {}
    for place, job in enumerate(keyed):
        if job.id in stored or job.id in fates:
            continue
        holder = loads.find_holder(store, job.unique_key, job.once_key)
        if holder is not None and holder["_id"] in ids[place + 1 :]:
            # Behind it in this call, and let in because somebody else had kept this one out: that one is told.
            holder = loads.find_holder(store, None, job.once_key) or holder
        if holder is None:  # it has ended since: the key is free again
            fates[job.id] = _store_again(store, job)
        elif holder["_id"] == job.id and (_is_in(holder) or once.has_taken(store, documents[job.id])):
            # Let in since we looked, or gone already; else its once key is that of an earlier job of this id.
            fates[job.id] = Enqueued(Fate.STORED, job.id)
        else:
            # Its own content, or that of one behind it in this call, which has come over its own.
            replaced = job.replaces and holder.get("replaced_by") in ids[place:]
            fates[job.id] = Enqueued(Fate.REPLACED if replaced else Fate.KEY_TAKEN, holder["_id"])
    return fates


def _is_in(holder: Document) -> bool:
    return "state" in holder and holder["state"] != LOADING


def _store_again(store: Store, job: NewJob) -> Enqueued:
    if job.once_key is None:
        return _store_one(store, job) or Enqueued(Fate.REPEATED, job.id)
    [answer] = _store_several(store, [job])
    return answer


def has_key(job: NewJob) -> bool:
    """Whether another job may have a key of this one, so that it is not let in."""
    return job.unique_key is not None or job.once_key is not None
