"""A `Change` of core as one guarded update of one document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from jobcard.backends.mongodb import admission, records
from jobcard.backends.mongodb.connection import BY_ID, Document, Expression, Store
from jobcard.backends.mongodb.errors import unless_sealed
from jobcard.backends.mongodb.rows import WITHOUT_HISTORY, place_by, to_job
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT, Dependent, JobRow, Ref
from jobcard.core.states import AT_WORK, ENDED, After, Change, Hold, JobState, Now, check_settable
from jobcard.errors import DuplicateJobError


def fits(change: Change, now: Expression) -> Document:
    """What a job must be like for the change to apply."""
    condition: Document = {"state": {"$in": sorted(state.value for state in change.sources)}}
    if change.version is not None:
        condition["version"] = change.version
    if change.lapsed:
        condition["$expr"] = {"$and": [{"$gt": ["$lease_until", None]}, {"$lte": ["$lease_until", now]}]}
    return condition


def held_by(ref: Ref, token: int) -> Document:
    """The one job of a claim."""
    return {"_id": ref, "claim_token": token}


def update(change: Change, now: Expression, **marks: object) -> list[Document]:
    """The update of a change; `InvalidJobError` when it sets what no change may."""
    sets: Document = {"state": change.target.value, "version": {"$add": ["$version", 1]}}
    check_settable(change.sets)
    for name, value in change.sets.items():
        sets[name] = _value(value, now)
    if change.takes:
        sets["claim_token"] = {"$add": ["$claim_token", 1]}
    if change.target in ENDED and "expires_at" not in change.sets:
        sets["expires_at"] = expiry(now)
    if change.error is not None:
        tried = {"attempt": change.attempt, "at": now, "error": {"$literal": change.error}}
        sets["attempts"] = {"$slice": [_appended("attempts", [tried]), -LAST_ATTEMPTS]}
    if change.lines:
        sets |= _lines(change, now)
    sets |= {name: {"$literal": value} for name, value in marks.items()}
    stages: list[Document] = [{"$set": sets}]
    if change.lines:
        stages.append({"$set": {"lines": _LAST_OF_LINES}})
    stages.append({"$set": _PLACES[change.target]})
    return stages


def expiry(now: Expression) -> Expression:
    """When a job that ends now is no longer kept; none without a `keep` of its own."""
    return {"$cond": [{"$gt": ["$keep", None]}, {"$add": [now, "$keep"]}, "$$REMOVE"]}


def then_let_in(load: bytes) -> Document:
    """What makes a change the commit of its follow-ups."""
    return {"$set": {"then": _appended("then", [{"$literal": load}])}}


def _value(value: object, now: Expression) -> Expression:
    if value is None:
        return "$$REMOVE"
    if isinstance(value, Now):
        return now
    if isinstance(value, After):
        return {"$add": [now, value.delay]}
    return {"$literal": str(value) if isinstance(value, str) else value}


def _appended(name: str, values: list[Expression]) -> Expression:
    return {"$concatArrays": [{"$ifNull": [f"${name}", []]}, values]}


def _lines(change: Change, now: Expression) -> Document:
    """New lines behind the old ones, each with how much the job has said up to its end."""
    said = {"$ifNull": ["$said", 0]}
    lines, size = [], 0
    for ago, text in change.lines:
        size += len(text)
        lines.append({"at": {"$subtract": [now, ago]}, "text": {"$literal": text}, "end": {"$add": [said, size]}})
    return {"lines": {"$slice": [_appended("lines", lines), -LAST_LINES]}, "said": {"$add": [said, size]}}


_LAST_OF_LINES: Expression = {
    "$filter": {"input": "$lines", "cond": {"$gt": ["$$this.end", {"$subtract": ["$said", LINES_TEXT]}]}}
}

# Which indexes a job stands in follows from its state.
_GONE: Document = {"line": "$$REMOVE", "key": "$$REMOVE", "limited": "$$REMOVE"}
_HELD: Document = {"line": "$$REMOVE"}
_WAITS: Document = {
    "line": {"$cond": [{"$gt": ["$hold", None]}, "$$REMOVE", "$queue"]},
    "key": {"$ifNull": ["$unique_key", "$$REMOVE"]},
    "limited": {"$ifNull": ["$limit_key", "$$REMOVE"]},
}
_PLACES: Mapping[JobState, Document] = {
    state: _GONE if state in ENDED else _HELD if state in AT_WORK else _WAITS for state in JobState
}


# ------------------------------------------------------------------ by operators


def apply_by_operator(store: Store, job_id: bytes, change: Change) -> JobRow | None:
    """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
    stages = update(change, store.now)
    while True:
        try:
            found = store.jobs.find_one_and_update(
                {"_id": job_id, **fits(change, store.now)},
                stages,
                projection=WITHOUT_HISTORY,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError as error:
            asked = store.jobs.find_one({"_id": job_id}, {"unique_key": True}) or {}
            holder = store.jobs.find_one({"key": asked.get("unique_key", "")}, {"_id": True})
            if holder is None:
                continue  # it has ended since: the key is free again
            existing = UUID(bytes=holder["_id"])
            raise DuplicateJobError(UUID(bytes=job_id), existing, "a living job holds its unique key") from error
        if found is None:
            return None
        if JobState.WAITING in change.sources and found.get("limit_key") is not None:
            # Those behind it in line may have one before them less.
            with unless_sealed():
                admission.let_in(store, [found["limit_key"]], records.now(store))
        return to_job(found)


def unpark(store: Store, names: Sequence[str]) -> int:
    """Put jobs parked under these names back in line; how many."""
    parked = {"hold": Hold.PARKED.value, "name": {"$in": list(names)}}
    return store.jobs.update_many(parked, _come_back(store), hint="hold").modified_count if names else 0


def release_dependents(store: Store, those: Sequence[Dependent]) -> int:
    """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
    of_version: defaultdict[int, list[bytes]] = defaultdict(list)
    for one in those:
        of_version[one.version].append(one.id)
    as_read = [{"version": version, "_id": {"$in": ids}} for version, ids in of_version.items()]
    # All their ids once more: what is under `$or` alone would be looked for among all jobs.
    waiting = {"_id": {"$in": sorted(one.id for one in those)}, "hold": Hold.AFTER.value, "$or": as_read}
    return store.jobs.update_many(waiting, _come_back(store), hint=BY_ID).modified_count if those else 0


def _come_back(store: Store) -> list[Document]:
    return [{"$set": {**place_by(store.now, waits=False), "version": {"$add": ["$version", 1]}}}]
