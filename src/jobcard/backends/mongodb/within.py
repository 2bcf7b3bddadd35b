"""Somebody else's transaction on the database of this store: new jobs become part of it, by the session it is in.

A server aborts a transaction at its first error, and there is no savepoint to go back to. So every id and key is looked
for before it is written, and jobs enter at once, never as a load: the transaction is what lets them in together.
Whatever another has written meanwhile aborts the transaction, as it does with what its owner writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from bson.objectid import ObjectId
from pymongo import ReadPreference, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure, PyMongoError

from jobcard.backends import within
from jobcard.backends.base import Enqueued, Fate, RecordKind
from jobcard.backends.mongodb import loads, once
from jobcard.backends.mongodb.connection import COLLECTIONS, Document, Store
from jobcard.backends.mongodb.enqueue import has_key
from jobcard.backends.mongodb.errors import DUPLICATE, NO_TRANSACTIONS, code_of, translate
from jobcard.backends.mongodb.records import STORE, check_seal, name_of
from jobcard.backends.mongodb.rows import CONTENT, LOADING, check_writable, enter, take_over, to_document
from jobcard.backends.mongodb.schema import check_version
from jobcard.core.job import NewJob
from jobcard.core.states import Hold
from jobcard.errors import ConfigError, StoreUnavailableError

_WANTED = "a pymongo ClientSession in a transaction, of a client of the same servers"
_TRANSIENT = "TransientTransactionError"


class UndoneError(StoreUnavailableError, PyMongoError):
    """The server has undone the transaction; the whole of it again will do, as `with_transaction` of pymongo does."""

    def __init__(self, message: str) -> None:
        PyMongoError.__init__(self, message, [_TRANSIENT])


def store(own: Store, given: object, jobs: Sequence[NewJob], identity: within.Identity) -> list[Enqueued]:
    """Store jobs in the transaction of a session; one answer each, in order."""
    session: ClientSession = within.connection_in(given, (ClientSession,), _WANTED)
    if session.has_ended:
        raise ConfigError("within: the session has ended")
    if not session.in_transaction:
        raise within.not_begun("`with session.start_transaction():`, or session.with_transaction(…),")
    check_writable(map(tuple, jobs))
    with _errors_of_a_transaction():
        return _Enqueue(own, session).store(jobs, identity)


@contextlib.contextmanager
def _errors_of_a_transaction() -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:
        if error.code == NO_TRANSACTIONS:
            raise ConfigError(
                "within: this MongoDB server stands alone: only replica sets have transactions"
            ) from error
        if code_of(error) == DUPLICATE or error.has_error_label(_TRANSIENT):
            raise UndoneError("MongoDB undid the transaction: another wrote the same at the same time") from error
        raise
    except PyMongoError as error:
        if error.has_error_label(_TRANSIENT):
            raise UndoneError(f"MongoDB undid the transaction: {translate(error) or type(error).__name__}") from error
        raise


class _Enqueue:
    """What one call reads and writes, by the session."""

    def __init__(self, own: Store, session: ClientSession) -> None:
        database = session.client.get_database(
            own.jobs.database.name, codec_options=own.jobs.codec_options, read_preference=ReadPreference.PRIMARY
        )
        everything = {name: database[getattr(own, name).name] for name in COLLECTIONS}
        self._store = replace(own, client=session.client, **everything)
        self._session = session

    def store(self, jobs: Sequence[NewJob], identity: within.Identity) -> list[Enqueued]:
        # Before the first write: what is raised between two of them would leave a part of the call behind.
        if LOADING in {one["state"] for one in self._standing(job.id for job in jobs).values()}:
            raise StoreUnavailableError("another enqueue of the same id is under way, and nobody knows yet how it ends")
        self._open_line({job.queue for job in jobs}, identity)
        answers: list[Enqueued] = []
        seen: set[bytes] = set()
        # Those without a key that come one after the other go together, if each has an id of its own.
        for keyed, several in groupby(jobs, key=has_key):
            found = list(several)
            ids = {job.id for job in found}
            if not keyed and len(ids) == len(found) and not ids & seen:
                answers += self._store_simple(found)
            else:
                answers += map(self._store_one, found)
            seen |= ids
        return answers

    def _open_line(self, queues: set[str], identity: within.Identity) -> None:
        """See that it is this store, that there is no seal, and that each queue has a record."""
        names = {name_of(RecordKind.QUEUE, queue): queue for queue in queues}
        wanted = dict.fromkeys(("identity", "schema", "seal", "version"), True)
        records = self._store.records
        found = {
            one["_id"]: one for one in records.find({"_id": {"$in": [STORE, *names]}}, wanted, session=self._session)
        }
        facts = found.get(STORE)
        identity.check(None if facts is None else facts.get("identity"))
        check_version((facts or {}).get("schema", 0))
        check_seal(facts or {})
        missing = sorted(names.keys() - found.keys())
        if missing:
            # Engines hear of them by the same commit, so none has to be marked as untold.
            records.bulk_write([self._making(name, names[name]) for name in missing], session=self._session)
            records.update_one({"_id": STORE}, {"$inc": {"settings": 1}}, session=self._session)

    def _making(self, name: str, queue: str) -> UpdateOne:
        first = {"kind": RecordKind.QUEUE.value, "key": {"$literal": queue}, "value": "{}", "version": 1}
        return UpdateOne({"_id": name}, [{"$set": {**first, "at": self._store.now}}], upsert=True)

    # -- jobs

    def _store_simple(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Store jobs without keys, each with an id of its own."""
        there = self._standing(job.id for job in jobs)
        new = [job for job in jobs if job.id not in there]
        if new:
            self._store.jobs.bulk_write([self._entering(to_document(job)) for job in new], session=self._session)
        return [
            self._compared(job, there[job.id]) if job.id in there else Enqueued(Fate.STORED, job.id) for job in jobs
        ]

    def _store_one(self, job: NewJob) -> Enqueued:
        there = self._standing([job.id])
        if there:
            return self._compared(job, there[job.id])
        document = to_document(job)
        holder = self._holder(job)
        if holder is not None:
            replaced = job.replaces and self._replace(holder, document)
            return Enqueued(Fate.REPLACED if replaced else Fate.KEY_TAKEN, holder)
        if job.once_key is not None:
            taking = once.taking(self._store, document, ObjectId())
            self._store.once.bulk_write([taking], session=self._session)
        self._store.jobs.bulk_write([self._entering(document)], session=self._session)
        return Enqueued(Fate.STORED, job.id)

    def _entering(self, document: Document) -> UpdateOne:
        update = [{"$replaceWith": {"$literal": document}}, *enter(self._store.now)]
        return UpdateOne({"_id": document["_id"], "state": {"$exists": False}}, update, upsert=True)

    def _standing(self, ids: Iterable[bytes]) -> dict[bytes, Document]:
        """What stands under these ids."""
        wanted = dict.fromkeys((*CONTENT, "state"), True)
        return {
            one["_id"]: one for one in self._store.jobs.find({"_id": {"$in": list(ids)}}, wanted, session=self._session)
        }

    def _compared(self, job: NewJob, there: Document) -> Enqueued:
        same = loads.same_content(there, to_document(job))
        return Enqueued(Fate.REPEATED if same else Fate.ID_TAKEN, job.id)

    def _holder(self, job: NewJob) -> bytes | None:
        """The id of the job that has a key of this one."""
        if job.unique_key is not None:
            found = self._store.jobs.find_one({"key": job.unique_key}, {"_id": True}, session=self._session)
            if found is not None:
                return bytes(found["_id"])
        if job.once_key is not None:
            in_force = {"_id": job.once_key, "$expr": {"$gt": ["$until", self._store.now]}}
            found = self._store.once.find_one(in_force, {"job_id": True}, session=self._session)
            if found is not None:
                return bytes(found["job_id"])
        return None

    def _replace(self, holder: bytes, document: Document) -> bool:
        # Who stood behind it with its limit key comes in by an engine's `let_in`: only then all this is committed.
        waits = {"_id": holder, "state": "waiting", "hold": {"$ne": Hold.BROKEN.value}}
        update = take_over(document, self._store.now)
        return self._store.jobs.update_one(waits, update, session=self._session).matched_count > 0
