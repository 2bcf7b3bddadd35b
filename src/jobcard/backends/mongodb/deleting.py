"""Deleting jobs: those kept long enough, those named, all; never in a sealed store, but for all."""

from __future__ import annotations

from collections.abc import Sequence

from jobcard.backends.mongodb import loads, once, permits, records
from jobcard.backends.mongodb.connection import BY_ID, Document, Store
from jobcard.backends.mongodb.errors import unless_sealed
from jobcard.backends.mongodb.leave import to_delete
from jobcard.backends.mongodb.rows import LOADING
from jobcard.core.states import ENDED

_ENDED = frozenset(state.value for state in ENDED)
_AT_ONCE = 1_000


def prune(store: Store, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
    """Delete at most `limit` ended jobs in these states, in pieces; then once keys and starts whose time is over."""
    total = 0
    now = records.now(store)
    for state in map(str, states):
        if state not in _ENDED:
            continue
        looks: list[tuple[Document, str]] = []
        if finished_before is not None:
            looks.append(({"finished_at": {"$lt": finished_before}}, "ended"))
        if age is not None:
            looks.append(({"finished_at": {"$lt": now - age}, "keep": None}, "ended"))
            looks.append(({"expires_at": {"$lte": now}}, "expiry"))
        for which, index in looks:
            total += _prune(store, {"state": state, **which}, index, limit - total)
    once.forget(store, now, limit)
    permits.forget(store, now, limit)
    return total


def _prune(store: Store, which: Document, index: str, limit: int) -> int:
    total = 0
    while total < limit:
        most = min(_AT_ONCE, limit - total)
        found = store.jobs.find({**which, "then": None}, {"_id": True}).hint(index).limit(most)
        ids = sorted(one["_id"] for one in found)
        if ids:
            # Looked at again: whoever runs one again in this moment keeps it.
            total += _delete(store, ids, {"then": None, **which})
        if len(ids) < most:
            break
    return total


def delete(store: Store, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs if they have ended; how many."""
    if not job_ids:
        return 0
    ids = sorted(job_ids)
    loads.finish_parents(store, ids)  # what they let in comes first
    return _delete(store, ids, {"state": {"$in": sorted(_ENDED)}, "then": None})


def erase(store: Store, job_ids: Sequence[bytes]) -> int:
    """Delete these jobs in whatever state they are; how many were there."""
    if not job_ids:
        return 0
    ids = sorted(job_ids)
    loads.finish_parents(store, ids)  # what they let in comes first
    return _delete(store, ids, {"state": {"$ne": LOADING}})


def _delete(store: Store, ids: Sequence[bytes], which: Document) -> int:
    with to_delete(store) as in_time:
        return store.jobs.delete_many({"_id": {"$in": list(ids)}, **which, **in_time}, hint=BY_ID).deleted_count


def truncate(store: Store) -> None:
    """Delete every job and record; the schema and the store's identity stay."""
    # First no load that is under way may be committed any more: else a part of it would stay.
    with unless_sealed():  # there nothing is committed
        for load in store.jobs.distinct("load", {"load": {"$exists": True}}):
            loads.give_up(store, load)
    while ids := [one["_id"] for one in store.jobs.find({}, {"_id": True}).sort([("_id", 1)]).limit(10 * _AT_ONCE)]:
        store.jobs.delete_many({"_id": {"$lte": ids[-1]}})
    store.loads.delete_many({"fate": "in"})
    store.once.delete_many({})
    store.limits.delete_many({})
    store.records.delete_many({"_id": {"$ne": records.STORE}})
    records.raise_settings(store)
