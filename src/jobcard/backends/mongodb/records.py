"""Small records, and the version of settings that tells engines to read them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from jobcard.backends.base import SETTINGS, Record, RecordKind
from jobcard.backends.mongodb.connection import Document, Store
from jobcard.backends.mongodb.errors import DUPLICATE, code_of, unless_sealed
from jobcard.backends.mongodb.leave import to_delete
from jobcard.errors import StoreMovedError

STORE = "store"
"""The id of the one document that is about the store itself."""


def now(store: Store) -> int:
    """The store's time: conditions on an index need it as a number, not as something to be worked out for each job."""
    [answer] = store.records.aggregate([{"$match": {"_id": STORE}}, {"$project": {"now": store.now}}])
    return int(answer["now"])


def identity(store: Store) -> str:
    """The random name this store got when it was made."""
    return str((store.records.find_one({"_id": STORE}, {"identity": True}) or {}).get("identity", ""))


def find_seal(store: Store) -> str | None:
    """The word that the store was sealed with; None: it is in use."""
    return (store.records.find_one({"_id": STORE}, {"seal": True}) or {}).get("seal")


def refuse_sealed(store: Store) -> None:
    """`StoreMovedError` if the store is sealed; also for what would find nothing to write, and so meet no rule."""
    check_seal({"seal": find_seal(store)})


def check_seal(facts: Document) -> None:
    """`StoreMovedError` if this document about the store says that it is sealed."""
    if facts.get("seal") is not None:
        raise StoreMovedError("this store was sealed: its jobs live elsewhere now")


def open_queues(store: Store, queues: Iterable[str], known: Iterable[str] = ()) -> None:
    """Make a record for each queue that has none. known: those that have one that engines were told of."""
    wanted = set(queues).difference(known)
    if not wanted:
        return
    ids = {name_of(RecordKind.QUEUE, queue): queue for queue in wanted}
    told = {one["_id"] for one in store.records.find({"_id": {"$in": list(ids)}, "untold": None}, {"_id": True})}
    missing = sorted(ids.keys() - told)
    if not missing:
        return
    _make(store, {one: ids[one] for one in missing})
    _tell(store, missing)


def _make(store: Store, missing: Mapping[str, str]) -> None:
    """Write the first version of records of queues that are still missing."""
    updates = []
    for name, queue in missing.items():
        first = {
            "kind": RecordKind.QUEUE.value,
            "key": {"$literal": queue},
            "value": "{}",
            "version": 1,
            "at": store.now,
            "untold": True,
        }
        is_there = {"$gt": ["$version", None]}
        update = [{"$replaceWith": {"$cond": [is_there, "$$ROOT", {"$mergeObjects": ["$$ROOT", first]}]}}]
        updates.append(UpdateOne({"_id": name}, update, upsert=True))
    try:
        store.records.bulk_write(updates, ordered=False)
    except BulkWriteError as error:
        if code_of(error) != DUPLICATE:  # else made by another at the same moment
            raise


def _tell(store: Store, ids: Sequence[str]) -> None:
    # A record is marked until engines were told: should this process die in between, the next to need it tells them.
    raise_settings(store)
    with unless_sealed():
        store.records.update_many({"_id": {"$in": list(ids)}}, {"$unset": {"untold": ""}})


def raise_settings(store: Store) -> None:
    """Make running engines read the records again; those of a sealed store do when it is opened."""
    with unless_sealed():
        store.records.update_one({"_id": STORE}, {"$inc": {"settings": 1}})


def name_of(kind: RecordKind, key: str) -> str:
    """The id of a record's document."""
    return f"{kind.value}:{key}"


def read(store: Store, kind: RecordKind) -> list[Record]:
    """All records of a kind, by key."""
    found = store.records.aggregate(
        [
            {"$match": {"_id": {"$gte": f"{kind.value}:", "$lt": f"{kind.value};"}}},
            {"$sort": {"_id": 1}},
            {"$project": {"key": 1, "value": 1, "version": 1, "age": {"$subtract": [store.now, "$at"]}}},
        ]
    )
    return [Record(one["key"], one["value"], int(one["version"]), max(0, int(one["age"]))) for one in found]


def write(store: Store, kind: RecordKind, key: str, value: str, *, expect: int | None) -> int | None:
    """Write one; its new version. expect: only over this version (0: only if absent), else None."""
    which: Document = {"_id": name_of(kind, key)}
    if expect is not None:
        which["version"] = expect if expect > 0 else {"$exists": False}
    sets: Document = {
        "kind": kind.value,
        "key": {"$literal": key},
        "value": {"$literal": value},
        "version": {"$add": [{"$ifNull": ["$version", 0]}, 1]},
        "at": store.now,
    }
    if kind in SETTINGS:
        sets["untold"] = True
    while True:
        try:
            written = store.records.find_one_and_update(
                which, [{"$set": sets}], upsert=not expect, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            if expect is None:
                continue  # made by another at the same moment
            return None
        break
    if written is None:
        return None
    if kind in SETTINGS:
        _tell(store, [which["_id"]])
    return int(written["version"])


def remove(store: Store, kind: RecordKind, key: str) -> bool:
    """Remove one; False: it was not there."""
    with to_delete(store) as in_time:
        gone = store.records.delete_one({"_id": name_of(kind, key), **in_time}).deleted_count > 0
    if gone and kind in SETTINGS:
        raise_settings(store)
    return gone
