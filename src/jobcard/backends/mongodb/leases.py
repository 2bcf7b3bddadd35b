"""Holding claims for longer, and finding those that nobody holds any more."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bson.errors import InvalidBSON
from bson.objectid import ObjectId
from pymongo.collection import Collection

from jobcard.backends.base import Held
from jobcard.backends.mongodb.connection import BY_ID, Document, Expression, Store
from jobcard.backends.mongodb.records import refuse_sealed
from jobcard.backends.mongodb.rows import STATES_AT_WORK, WITHOUT_ENDINGS, to_claimed
from jobcard.backends.pages import end_of
from jobcard.core.job import Ref
from jobcard.core.states import Hold
from jobcard.errors import CorruptRecordError

_log = logging.getLogger("jobcard.store")


def renew(store: Store, owner: str, held: Sequence[tuple[Ref, int]], lease: int) -> list[Ref]:
    """Hold claims for longer; the refs of those that are gone."""
    if not held:
        return []
    rows = sorted(held, key=lambda row: row[0])
    refs = [ref for ref, _ in rows]
    tokens = [token for _, token in rows]
    now, mark = store.now, ObjectId()
    picked = {"$arrayElemAt": [{"$literal": tokens}, {"$indexOfArray": [{"$literal": refs}, "$_id"]}]}
    still_held: Document = {
        "_id": {"$in": refs},
        "claimed_by": owner,
        "state": {"$in": STATES_AT_WORK},
        "$expr": {"$and": [{"$gt": ["$lease_until", now]}, {"$eq": ["$claim_token", picked]}]},
    }
    # A mark of its own: an exchange beside this looks for the one it has left.
    update = {"$set": {"lease_until": {"$add": [now, lease]}, "beat": mark}}
    if store.jobs.update_many(still_held, [update], hint=BY_ID).matched_count == len(rows):
        return []
    refuse_sealed(store)  # none of them is gone for that it was not there to be written
    found = store.jobs.find({"_id": {"$in": refs}, "beat": mark}, {"claim_token": True}).hint(BY_ID)
    renewed = {(one["_id"], one["claim_token"]) for one in found}
    return [ref for ref, token in held if (ref, token) not in renewed]


def find_held(
    store: Store, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None
) -> tuple[Held, list[bytes]]:
    """Claims of some owners, and with `lapsed` those of anybody whose lease has run out: by ref, behind `after`.

    Beside them the refs of those that cannot be read.
    """
    which: Document = {"claimed_by": {"$in": list(owners)}}
    if lapsed:
        run_out = {"$expr": {"$lte": ["$lease_until", store.now]}}
        which = {"claimed_by": {"$exists": True}, "$or": [which, run_out]}
    if after is not None:
        which["_id"] = {"$gt": after}
    # The ids first: all claims of everybody may have to be looked at, but not with all their texts.
    jobs = store.settled(store.jobs)
    found = jobs.find(which, {"_id": True}).sort([("_id", 1)]).hint("held").limit(limit)
    ids = [one["_id"] for one in found]
    # Looked at once more: some are another's by now. As settled as before, or a later look could see them here again.
    mine = {"claimed_by": {"$exists": True}, **which, "_id": {"$in": ids}}
    claims, broken = [], []
    for job_id, document in read_each(jobs, mine) if ids else []:
        try:
            claims.append(to_claimed(document))
        except CorruptRecordError as error:
            _log.warning("a job cannot be read and was left out: %s", error)
            broken.append(job_id)
    return Held(sorted(claims, key=lambda claim: claim.id), end_of(ids, limit)), broken


def read_each(jobs: Collection[Document], which: Document) -> list[tuple[bytes, Document]]:
    """Jobs as the claims of them need them; one whose bytes are no document comes as an empty one."""
    try:
        return [(one["_id"], one) for one in jobs.find(which, WITHOUT_ENDINGS).hint(BY_ID)]
    except InvalidBSON:
        found = []
        for job_id in [one["_id"] for one in jobs.find(which, {"_id": True}).hint(BY_ID)]:
            try:
                one = jobs.find_one({"_id": job_id}, WITHOUT_ENDINGS)
            except InvalidBSON:
                one = {}
            if one is not None:
                found.append((job_id, one))
        return found


def quarantine(store: Store, refs: Sequence[bytes], *, lapsed: bool = False) -> None:
    """Take claims that cannot be read from their holder, and put them under the hold `broken`; all else is kept.

    lapsed: only those whose lease has run out.
    """
    which: Document = {"_id": {"$in": sorted(refs)}, "claimed_by": {"$exists": True}}
    if lapsed:
        which["$expr"] = {"$lte": ["$lease_until", store.now]}
    unspent = {"$cond": [{"$eq": ["$state", "claimed"]}, -1, 0]}
    update: Document = {
        "state": "waiting",
        "hold": Hold.BROKEN.value,
        "reason": "broken",
        **{name: _added(name, more) for name, more in (("attempt", unspent), ("claim_token", 1), ("version", 1))},
        **dict.fromkeys(("claimed_by", "claimed_at", "started_at", "lease_until", "line"), "$$REMOVE"),
    }
    if number := store.jobs.update_many(which, [{"$set": update}], hint=BY_ID).modified_count:
        ids = ", ".join(ref.hex() for ref in refs)
        _log.error("%d of these jobs cannot be read: taken out of the line, their bytes kept: %s", number, ids)


def _added(name: str, more: Expression) -> Document:
    """A number and something more; whatever else stands there stays."""
    return {"$cond": [{"$isNumber": f"${name}"}, {"$add": [f"${name}", more]}, f"${name}"]}
