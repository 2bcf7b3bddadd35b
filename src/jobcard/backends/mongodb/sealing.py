"""Sealing: the server itself refuses every write to this store, by a rule that no document satisfies.

    close the loads ── let in what is committed ── wait for those who delete ── close every collection
        ── let in what follows the last ends ── write the word

A rule is put on under a lock of the whole collection: the server first waits for the writes and transactions that have
begun, and lets none through from then on. The loads come first, so that no enqueue is committed any more: nobody who
was told that his jobs are stored is mistaken, and nobody who was told that they are not. Deletes meet no rule: who
deletes takes leave first (see leave.py), in a collection that has one.

The word is written last and taken away first: where it stands, all is closed. What a dead sealer leaves behind may be
closed in a part; whoever seals or opens the store again mends it. No step of sealing opens what another has closed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pymongo
from bson.objectid import ObjectId
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.results import BulkWriteResult, UpdateResult

from jobcard.backends.mongodb import leave, loads, records
from jobcard.backends.mongodb.connection import COLLECTIONS, Document, Store
from jobcard.backends.mongodb.errors import COLLECTION_EXISTS, NO_SUCH_COLLECTION, translate
from jobcard.backends.mongodb.records import STORE
from jobcard.errors import StoreUnavailableError

_log = logging.getLogger("jobcard.store")

_CLOSED: Document = {"$comment": "this jobcard store is sealed", "_id": {"$exists": False}}
_OPEN: Document = {}

_AT_ONCE = 1.0
"""Seconds for which a rule waits for writers in one go: as long as it waits, everybody else waits behind it."""
_LONGEST_UNDOING = 10.0


class _Unbarred(Collection[Document]):
    """A collection whose updates no rule stops: only who may migrate may do that."""

    def update_one(self, *given: Any, **more: Any) -> UpdateResult:
        return super().update_one(*given, **more, bypass_document_validation=True)

    def update_many(self, *given: Any, **more: Any) -> UpdateResult:
        return super().update_many(*given, **more, bypass_document_validation=True)

    def bulk_write(self, *given: Any, **more: Any) -> BulkWriteResult:
        return super().bulk_write(*given, **more, bypass_document_validation=True)

    def find_one_and_update(self, *given: Any, **more: Any) -> Any:
        return super().find_one_and_update(*given, **more, bypassDocumentValidation=True)


def unbarred(store: Store) -> Store:
    """The store for those whom its seal does not stop."""

    def beside(one: Collection[Document]) -> _Unbarred:
        return _Unbarred(one.database, one.name, write_concern=one.write_concern, read_preference=one.read_preference)

    return replace(store, **{name: beside(getattr(store, name)) for name in COLLECTIONS})


def seal(store: Store, word: str, patience: float) -> None:
    """Close the store to every writer; where others write for longer than that, `StoreUnavailableError`: it is open."""
    until = time.monotonic() + patience
    while not _seal_once(store, word, until):
        if time.monotonic() > until:
            raise StoreUnavailableError("somebody opens this store again and again")


def _seal_once(store: Store, word: str, until: float) -> bool:
    """Whether nobody has begun or ended to open the store meanwhile: only then it is sealed."""
    past = unbarred(store)
    opened = (store.records.find_one({"_id": STORE}, {"opened": True}) or {}).get("opened")
    closed: list[Collection[Document]] = []

    def close_one(collection: Collection[Document]) -> None:
        _put_rule(collection, _CLOSED, until)
        closed.append(collection)

    try:
        close_one(store.loads)
        # While the jobs are still open: whoever stores some may be in the middle of it.
        loads.finish_committed(past)
        leave.wait_for_others(store, until)
        for collection in store.every:
            close_one(collection)
        loads.finish_committed(past)  # what follows the last ends
        as_it_was = {"_id": STORE, "opened": opened}
        return past.records.update_one(as_it_was, {"$set": {"seal": word}}).matched_count > 0
    except BaseException:
        if closed:
            _give_up(store, closed)
        raise


def _give_up(store: Store, closed: Sequence[Collection[Document]]) -> None:
    """Open what was closed in vain, unless the store is sealed all the same."""
    try:
        if _mark_as_opened(store):
            until = time.monotonic() + _LONGEST_UNDOING
            for collection in reversed(closed):
                _put_rule(collection, _OPEN, until)
            if not _mark_as_opened(store):
                close(store, until)
    except PyMongoError:
        _log.exception("a part of this store stays closed: seal it again, or open it")


def unseal(store: Store, patience: float) -> None:
    """Open the store to everybody; engines that are there read its settings."""
    until = time.monotonic() + patience
    is_open = False
    while not is_open:
        _mark_as_opened(store, whatever=True)
        open_again(store, until)
        is_open = _mark_as_opened(store)
    records.raise_settings(store)


def _mark_as_opened(store: Store, *, whatever: bool = False) -> bool:
    """Tell those who are sealing the store that it is not closed; False: it is sealed. whatever: then it is no more."""
    which = {"_id": STORE} if whatever else {"_id": STORE, "seal": None}
    mark: Document = {"$set": {"opened": ObjectId()}, "$unset": {"seal": ""}}
    return unbarred(store).records.update_one(which, mark).matched_count > 0


def close(store: Store, until: float) -> None:
    """Let nobody write to any collection."""
    for collection in store.every:
        _put_rule(collection, _CLOSED, until)


def open_again(store: Store, until: float) -> None:
    """Let everybody write to every collection; to the jobs when all else can be written."""
    for collection in reversed(store.every):
        _put_rule(collection, _OPEN, until)


def _put_rule(collection: Collection[Document], rule: Document, until: float) -> None:
    """Have every document that is written satisfy a rule, from when those who are writing have ended."""
    while True:
        try:
            with pymongo.timeout(_AT_ONCE):
                _change(collection, rule)
            return
        except PyMongoError as error:
            if not isinstance(translate(error), StoreUnavailableError) or time.monotonic() > until:
                raise


def _change(collection: Collection[Document], rule: Document) -> None:
    """Give a collection its rule; one that is missing is made to be closed, so that no late writer makes it."""
    given = {"validator": rule, "validationLevel": "strict", "validationAction": "error"}
    for command in ("collMod", "create", "collMod"):
        try:
            collection.database.command(command, collection.name, **given, writeConcern={"w": "majority"})
            return
        except OperationFailure as error:
            if error.code not in (NO_SUCH_COLLECTION, COLLECTION_EXISTS):
                raise
            if rule == _OPEN:
                return
