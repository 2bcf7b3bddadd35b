"""Several jobs stored all or not at all, on a server without transactions.

Jobs enter as `loading`, under the name of their load; nobody sees them. Then one write of one document says that the
load is in: that is the commit. Then they are let in, which anybody may do, any number of times.

    enqueue      the commit is a record of the load, `in`
    follow-ups   the commit is the change they follow: it puts the name of the load into the parent's `then`

Whoever meets a load that was left behind finishes it: `in`, and it is let in; else the opposite record is written,
`out`, and from then on its producer cannot commit it. A load of follow-ups needs no record: once the parent's claim
is over without it, its commit cannot happen any more. Two loads may bring the same job: then it stands under both
names, and the first that is in lets it in.

Unique keys are taken by jobs that are in, never by one that is loading; once keys by whoever lets their jobs in.

Jobs come in one by one, and in order: before one that has a key or waits for others comes in, all that were given
before it are in, or never will be; and so is everything before the last one. Whoever lets it in has seen to them, or
another has.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from bson.objectid import ObjectId
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from jobcard.backends.mongodb import admission, once, records
from jobcard.backends.mongodb.connection import BY_ID, Document, Store
from jobcard.backends.mongodb.errors import DUPLICATE, NOT_ALLOWED, unless_sealed
from jobcard.backends.mongodb.rows import CONTENT, LOADING, STATES_AT_WORK, enter, take_over
from jobcard.core.job import NewJob
from jobcard.core.states import Hold
from jobcard.errors import StoreUnavailableError

_log = logging.getLogger("jobcard.store")

ABANDONED = 60.0
"""Seconds for which a load must have been seen without its commit before it is given up."""

_KEYS = ("unique_key", "once_key")
BY_THEMSELVES = (*_KEYS, "waits_for")
"""The fields of jobs that are not let in all at once: the order matters."""
MAY_ENTER: Document = {"state": LOADING, "load.0": {"$exists": True}}
"""What a job is like that is loading, and was not dropped by one who may remove nothing."""

_OF_ENQUEUE = b"E"
_OF_CHANGE = b"C"
_TRIES = 10

Joins = Callable[[Document, Document], bool]
"""Whether a new job may stand for one that is loading under the same id: (the one there, the new one)."""


def name_of_enqueue() -> bytes:
    """A name for a load; one that was given up is never used again."""
    return _OF_ENQUEUE + secrets.token_bytes(12)


def name_of_follow_ups(parent: bytes, token: int, jobs: Sequence[NewJob]) -> bytes:
    """The same name for the same follow-ups of the same claim, so that a repeat commits what an earlier call stored."""
    digest = hashlib.blake2b(b"".join(job.id for job in jobs), digest_size=8).digest()
    return _OF_CHANGE + parent + token.to_bytes(8, "big", signed=True) + digest


def _claim_of(load: bytes) -> tuple[bytes, int]:
    return load[1:17], int.from_bytes(load[17:25], "big", signed=True)


# ------------------------------------------------------------------ storing


def same_content(there: Document, new: Document) -> bool:
    """Whether two documents are the same job to an enqueue."""
    return all(there.get(name) == new.get(name) for name in CONTENT)


def put(store: Store, load: bytes, documents: Iterable[Document], *, joins: Joins) -> dict[bytes, Document]:
    """Store jobs under a load; by id what stands there instead of those that were not stored.

    One that is loading already, and that the new one may stand for, is put under this load too: it is among those
    returned, and will be in if either is.
    """
    there: dict[bytes, Document] = {}
    missing = [{**document, "load": [load]} for document in documents]
    for _ in range(_TRIES):
        missing = _insert(store, missing)
        if not missing:
            return there
        found = _standing(store, missing)
        again = []
        for document in missing:
            job_id = document["_id"]
            other = found.get(job_id)
            if other is None:
                again.append(document)
            elif not other.get("load", True):
                # Dropped by one who may remove nothing.
                dropped = {"_id": job_id, "state": LOADING, "load": {"$size": 0}}
                if not store.jobs.replace_one(dropped, document).matched_count:
                    again.append(document)
            elif other["state"] != LOADING or not joins(other, document):
                there[job_id] = other
            elif load not in other["load"]:
                if _join(store, load, job_id):
                    there[job_id] = other
                else:
                    again.append(document)
        missing = again
    raise StoreUnavailableError("other producers store and drop the same jobs all the time")


def _insert(store: Store, documents: Sequence[Document]) -> list[Document]:
    """Store documents; those whose id was there."""
    if not documents:
        return []
    try:
        store.jobs.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        problems = error.details.get("writeErrors", [])
        if error.details.get("writeConcernErrors") or any(problem["code"] != DUPLICATE for problem in problems):
            raise
        return [documents[problem["index"]] for problem in problems]
    return []


def _standing(store: Store, documents: Sequence[Document]) -> dict[bytes, Document]:
    wanted = dict.fromkeys((*CONTENT, "state", "load"), True)
    found = store.jobs.find({"_id": {"$in": [document["_id"] for document in documents]}}, wanted)
    return {document["_id"]: document for document in found}


def _join(store: Store, load: bytes, job_id: bytes) -> bool:
    return store.jobs.update_one({"_id": job_id, **MAY_ENTER}, {"$addToSet": {"load": load}}).matched_count > 0


# ------------------------------------------------------------------ committing


def commit(store: Store, load: bytes) -> bool:
    """Say that a load of an enqueue is in; False: it was given up."""
    try:
        store.loads.insert_one({"_id": load, "fate": "in"})
    except DuplicateKeyError:
        return _fate(store, load) == "in"
    return True


def _fate(store: Store, load: bytes) -> str | None:
    found = store.loads.find_one({"_id": load})
    return None if found is None else found["fate"]


def give_up(store: Store, load: bytes) -> bool:
    """Say that a load of an enqueue is out, unless it is in; whether it is out now."""
    # Kept for some days (an index on `at` sees to it): a producer that was frozen for hours must not commit it.
    out = [
        {
            "$set": {
                "at": {"$cond": [{"$eq": ["$fate", "in"]}, "$$REMOVE", "$$NOW"]},
                "fate": {"$ifNull": ["$fate", "out"]},
            }
        }
    ]
    while True:
        try:
            found = store.loads.find_one_and_update(
                {"_id": load}, out, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            continue  # made by another at the same moment
        return found is not None and found["fate"] == "out"


# ------------------------------------------------------------------ letting in, dropping


def let_in(store: Store, loads: Sequence[bytes], *, queues: Iterable[str] | None = None, singly: bool = True) -> None:
    """Let the jobs of loads in that are committed; those whose unique or once key is taken are dropped.

    queues: all there can be among them. singly: whether any can have such a key, or wait for others.
    """
    theirs = {"load": {"$in": list(loads)}, "state": LOADING}
    if queues is None:
        queues = store.jobs.distinct("queue", theirs)
    records.open_queues(store, queues)
    # In the order in which they were given, in which they lie in their index, too.
    together: Document = {**theirs, **dict.fromkeys(BY_THEMSELVES)}
    if singly and (found := _by_themselves(store, theirs)):
        last = _place(found[-1])
        if [_place(job) for job in found] != list(range(last + 1)):
            store.jobs.update_many({**together, "born.place": {"$lt": last}}, enter(store.now), hint="load")
        for part in _parts(found):
            _let_in_part(store, part)
    store.jobs.update_many(together, enter(store.now), hint="load")


def _by_themselves(store: Store, theirs: Document) -> list[Document]:
    """Those that are let in by themselves, in their order."""
    wanted = {**theirs, "$or": [{name: {"$exists": True}} for name in BY_THEMSELVES]}
    found = store.jobs.find(wanted, {"born": True, **dict.fromkeys(BY_THEMSELVES, True)}).hint("load")
    return sorted(found, key=_place)


def _place(job: Document) -> int:
    return int(job["born"].get("place", 0))


def _parts(jobs: Iterable[Document]) -> Iterator[list[Document]]:
    """Jobs in their order, in pieces whose jobs can go together: each takes its own key, or is dropped.

    One with both keys takes both or none, so all behind it wait for what becomes of it. And what is dropped replaces
    others when all of its piece are in: one with a key that waits for others comes behind that.
    """

    def kind(job: Document) -> object:
        has = tuple(name in job for name in BY_THEMSELVES)
        return job["_id"] if sum(has) > 1 else has

    return (list(part) for _, part in groupby(jobs, kind))


def _let_in_part(store: Store, part: Sequence[Document]) -> None:
    by = ObjectId()
    refused = _without_once_key(store, part, by)
    entering = [job for job in part if job["_id"] not in refused]
    late, were_there = _enter(store, entering)
    losers = [job for job in part if job["_id"] in refused | late]
    if losers and _turn_away(store, losers):
        once.give_back(store, losers)
    elif losers or not were_there:
        once.give_back(store, _not_in(store, part), by)


def _not_in(store: Store, jobs: Sequence[Document]) -> list[Document]:
    """Those of some jobs with once keys that others have let in no more."""
    keyed = [job for job in jobs if "once_key" in job]
    which = {"_id": {"$in": [job["_id"] for job in keyed]}, "state": {"$ne": LOADING}}
    there = {one["_id"] for one in store.jobs.find(which, {"_id": True})} if keyed else set()
    return [job for job in keyed if job["_id"] not in there]


def _without_once_key(store: Store, jobs: Sequence[Document], by: ObjectId) -> set[bytes]:
    """Take the once keys of jobs; the ids of those that do not get theirs."""
    wanting = [job for job in jobs if "once_key" in job]
    if not wanting:
        return set()
    # A job whose other key is taken must not take this one.
    taken = {job["_id"] for job in wanting if "unique_key" in job and find_by_unique_key(store, job["unique_key"])}
    wanting = [job for job in wanting if job["_id"] not in taken]
    return taken | ({job["_id"] for job in wanting} - once.take(store, wanting, by) if wanting else set())


def _enter(store: Store, jobs: Sequence[Document]) -> tuple[set[bytes], bool]:
    """Let jobs in, each by itself, in their order; the ids of those whose unique key was taken, and whether all others
    were there still and not in yet.
    """
    if not jobs:
        return set(), True
    update = enter(store.now)
    writes = [UpdateOne({"_id": job["_id"], **MAY_ENTER}, update) for job in jobs]
    try:
        return set(), store.jobs.bulk_write(writes, ordered=False).matched_count == len(jobs)
    except BulkWriteError as error:
        problems = error.details.get("writeErrors", [])
        if error.details.get("writeConcernErrors") or any(problem["code"] != DUPLICATE for problem in problems):
            raise
        refused = {jobs[problem["index"]]["_id"] for problem in problems}
        return refused, error.details["nMatched"] == len(jobs) - len(refused)


def _turn_away(store: Store, jobs: Sequence[Document]) -> bool:
    """Remove jobs whose key is taken; first, what replaces says so to the job that has it. Whether none came in."""
    for job in jobs:
        if "replaces" in job["born"]:
            _replace_holder(store, job)
    return _remove(store, [job["_id"] for job in jobs])


def _replace_holder(store: Store, job: Document) -> None:
    """Write a job over the one that has its key, if that waits, and if nobody else who finishes its load has."""
    for _ in range(_TRIES):
        # In this order, and only over what was read: when another has done it, and a newer job is written over the
        # same one, either that has changed since, or the older job is gone.
        holder = find_holder(store, job.get("unique_key"), job.get("once_key"))
        whole = store.jobs.find_one({"_id": job["_id"], **MAY_ENTER})
        if whole is None or holder is None or holder.get("state") != "waiting":
            return
        if holder.get("replaced_by") == job["_id"] or replace(store, holder["_id"], whole, holder["version"]):
            return


_OF_HOLDER = dict.fromkeys(("replaced_by", "state", "version"), True)


def find_by_unique_key(store: Store, unique_key: str) -> Document | None:
    """The living job that has a unique key: its id, how it stands, and whose content it took over."""
    return store.jobs.find_one({"key": unique_key}, _OF_HOLDER)


def find_holder(store: Store, unique_key: str | None, once_key: str | None) -> Document | None:
    """The job that has one of two keys, as `find_by_unique_key` has it; None: both are free."""
    if unique_key is not None and (found := find_by_unique_key(store, unique_key)) is not None:
        return found
    if once_key is None:
        return None
    for holder in once.find_holders(store, [once_key]).values():
        job_id = holder["job_id"]
        # Its record stays when it goes.
        return store.jobs.find_one({"_id": job_id}, _OF_HOLDER) or {"_id": job_id}
    return None


def replace(store: Store, job_id: bytes, document: Document, version: int | None = None) -> bool:
    """Write the content of a job that is not in over one that waits; False: it waits no more.

    version: only if it is as it was then.
    """
    waits: Document = {"_id": job_id, "state": "waiting", "hold": {"$ne": Hold.BROKEN.value}}
    if version is not None:
        waits["version"] = version
    before = store.jobs.find_one_and_update(waits, take_over(document, store.now), {"limited": True})
    if before is not None and "limited" in before:
        with unless_sealed():
            admission.let_in(store, [before["limited"]], records.now(store))
    return before is not None


def _remove(store: Store, job_ids: Sequence[bytes]) -> bool:
    """Remove jobs that lost their key while they were loading; who may not leaves them to the next sweep.

    Whether all were loading still: so none of them came in, or ever will.
    """
    theirs = {"_id": {"$in": list(job_ids)}, **MAY_ENTER}
    try:
        number = store.jobs.delete_many(theirs, hint=BY_ID).deleted_count
    except OperationFailure as error:
        if error.code != NOT_ALLOWED:
            raise
        number = store.jobs.update_many(theirs, {"$set": {"load": []}}, hint=BY_ID).matched_count
    return number == len(job_ids)


def forget(store: Store, load: bytes) -> None:
    """Remove the record of a load whose jobs are all in."""
    store.loads.delete_one({"_id": load, "fate": "in"})


def drop(store: Store, loads: Sequence[bytes]) -> None:
    """Take the jobs of loads away that can never be in; what stands under another load too stays for that one."""
    if loads:
        theirs = {"load": {"$in": list(loads)}, "state": LOADING}
        store.jobs.update_many(theirs, {"$pull": {"load": {"$in": list(loads)}}}, hint="load")
    store.jobs.delete_many({"load": {"$size": 0}, "state": LOADING}, hint="load")


def close(store: Store, parents: Mapping[bytes, Sequence[bytes]]) -> None:
    """Take the names of loads that are all in from the parents that committed them."""
    every = [load for loads in parents.values() for load in loads]
    left = {"$setDifference": ["$then", {"$literal": every}]}
    store.jobs.update_many(
        {"_id": {"$in": sorted(parents)}, "then": {"$in": every}},
        [{"$set": {"then": {"$cond": [{"$eq": [left, []]}, "$$REMOVE", left]}}}],
        hint=BY_ID,
    )


# ------------------------------------------------------------------ finishing what others left


class Sweeper:
    """Finishes loads whose producer or engine died in between."""

    def __init__(self) -> None:
        self._seen: dict[bytes, float] = {}

    def sweep(self, store: Store, *, patience: float = ABANDONED) -> None:
        """Let in what is committed; give up what nobody has committed for so long."""
        finish_parents(store)
        open_loads: list[bytes] = store.jobs.distinct("load", {"load": {"$exists": True}})
        now = time.monotonic()
        self._seen = {load: self._seen.get(load, now) for load in open_loads}
        for load, since in list(self._seen.items()):
            if load.startswith(_OF_CHANGE):
                _finish_follow_ups(store, load)
            elif _fate(store, load) == "in" or (now - since >= patience and not give_up(store, load)):
                let_in(store, [load])
                forget(store, load)
            elif now - since >= patience or _fate(store, load) == "out":
                _log.warning("gave up jobs of an enqueue that never ended")
                drop(store, [load])
        if store.jobs.find_one({"load": {"$size": 0}}, {"_id": True}, hint="load"):
            drop(store, [])


def finish_committed(store: Store) -> None:
    """Let in whatever is committed by now."""
    finish_parents(store)
    for load in [one["_id"] for one in store.loads.find({"fate": "in"}, {"_id": True})]:
        let_in(store, [load])
        forget(store, load)


def finish_parents(store: Store, job_ids: Sequence[bytes] | None = None) -> None:
    """Let in the follow-ups that a change has committed and its engine left behind."""
    which: Document = {"then": {"$exists": True}}
    if job_ids is not None:
        which["_id"] = {"$in": list(job_ids)}
    for parent in store.jobs.find(which, {"then": True}).hint("then"):
        let_in(store, parent["then"])
        close(store, {parent["_id"]: parent["then"]})


def _finish_follow_ups(store: Store, load: bytes) -> None:
    parent_id, token = _claim_of(load)
    parent = store.jobs.find_one({"_id": parent_id}, {"then": True, "claim_token": True, "state": True})
    if parent is not None and load in parent.get("then", ()):
        let_in(store, [load])
        close(store, {parent_id: [load]})
    elif parent is None or parent["claim_token"] != token or parent["state"] not in STATES_AT_WORK:
        drop(store, [load])
