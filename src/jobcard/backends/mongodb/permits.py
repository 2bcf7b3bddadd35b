"""Who is about to be claimed under a limit, on a server without transactions.

Who is at work is counted by the jobs themselves, so that no death leaves a place taken. What they cannot say is who is
just being claimed: that stands in one document for each limit in use, and every claim under it begins by changing it.

    {_id: "key/mail", mark, until, pending: [{ref, token, until, by, slot}], starts: [{slot, used, until}], since}

    read it ── see who of `pending` is at work by now ── count who is at work ── write it, if its mark is the one
    that was read ── claim the jobs that are pending for us, each by the token that follows its own

Whoever claims in between has changed the mark; whoever was faster is counted, as pending or at work, or as both for a
moment. Starts that have lapsed are left out when it is written, and `since` says when the last of them did: nobody
decides by it as of an earlier instant, at which they still counted. A job whose claimer died is pending until its time
is over. Then its token is raised before its place is given away: a claimer that only slept comes too late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bson.objectid import ObjectId
from pymongo import DeleteOne, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError

from jobcard.backends.mongodb.connection import BY_ID, Document, Store
from jobcard.backends.mongodb.errors import DUPLICATE, code_of
from jobcard.backends.mongodb.rows import STATES_AT_WORK
from jobcard.core import rates
from jobcard.core.clock import SECOND
from jobcard.core.rates import Rate, Starts, Use

PENDING = 10 * SECOND
"""For so long a claim may take from its permit on, and never longer than its lease."""
_KEPT = 60 * SECOND
"""For so long a document is kept that is of no use any more, so that nobody writes what was read before it was made."""


@dataclass(slots=True)
class Permit:
    """One limit's document as it was read, and what is at work under it. mark: None, there is none yet."""

    name: str
    mark: ObjectId | None = None
    pending: list[Document] = field(default_factory=list)
    starts: Counter[int] = field(default_factory=Counter)
    ends: dict[int, int] = field(default_factory=dict)
    since: int = 0
    at_work: int = 0
    changed: bool = False

    @property
    def use(self) -> Use:
        """How far its limit is used."""
        slots = sorted((slot, used) for slot, used in self.starts.items() if used > 0)
        return Use(self.at_work + len(self.pending), Starts(slots))

    def add(self, ref: bytes, token: int, rate: Rate | None, *, now: int, until: int, by: ObjectId) -> None:
        """Let one more in."""
        self.changed = True
        slot = None
        if rate is not None:
            slot = rate.slot_at(now)
            self.starts[slot] += 1
            self.ends[slot] = max(self.ends.get(slot, 0), rate.lapses(slot))
        self.pending.append({"ref": ref, "token": token, "until": until, "by": by, "slot": slot})

    def take_back(self, entry: Document) -> None:
        """Let one in no more that has not been claimed."""
        self.changed = True
        if entry["slot"] is not None:
            self.starts[entry["slot"]] -= 1

    def to_document(self, now: int) -> Document:
        """As it is written, but for its name and mark."""
        used = {slot: number for slot, number in sorted(self.starts.items()) if number > 0}
        starts = [
            {"slot": slot, "used": number, "until": self.ends[slot]}
            for slot, number in used.items()
            if self.ends[slot] > now
        ]
        since = max(self.since, *(self.ends[slot] for slot in used if self.ends[slot] <= now), 0)
        last = max((one["until"] for one in (*self.pending, *starts)), default=now)
        return {"pending": self.pending, "starts": starts, "until": last + _KEPT, "since": since}


@dataclass(slots=True)
class Permits:
    """Several limits as they stand at an instant. busy: the jobs that others are just claiming."""

    now: int
    by_name: dict[str, Permit]
    busy: set[bytes] = field(default_factory=set)
    lapsed: list[Document] = field(default_factory=list)

    def use(self, name: str) -> Use:
        """How far a limit is used."""
        return self.by_name[name].use


def read(store: Store, queues: Collection[str], keys: Collection[str], now: int, by: ObjectId | None = None) -> Permits:
    """How far the limits of queues and limit keys are used, as of now, or of the first instant at which that is known.

    by: what is pending for this call is taken back.
    """
    names = [*map(rates.of_queue, queues), *map(rates.of_key, keys)]
    found = Permits(now, {name: Permit(name) for name in names})
    documents = list(store.limits.find({"_id": {"$in": names}}))
    found.now = max(now, *(document.get("since", 0) for document in documents), 0)
    tokens: dict[bytes, int] = {}
    # First who is about to be claimed, then who is at work: whoever moves on in between counts twice and is not missed.
    pending = [entry["ref"] for document in documents for entry in document["pending"]]
    for row in store.jobs.aggregate(_counting(store, pending, queues, keys), hint=BY_ID):
        if row["what"] == "row":
            tokens[row["_id"]] = row["token"]
        else:
            found.by_name[row["what"] + row["_id"]].at_work = row["number"]
    for document in documents:
        _fill(found, document, tokens, by)
    return found


def _counting(store: Store, refs: Iterable[bytes], queues: Collection[str], keys: Collection[str]) -> list[Document]:
    stages: list[Document] = [
        {"$match": {"_id": {"$in": sorted(set(refs))}}},
        {"$project": {"what": "row", "token": "$claim_token"}},
    ]
    key, queue = rates.of_key(""), rates.of_queue("")
    counts = (
        (keys, "limited", key, {"limited": {"$in": sorted(keys)}, "state": {"$in": STATES_AT_WORK}}),
        (queues, "queue", queue, {"claimed_by": {"$gte": ""}, "queue": {"$in": sorted(queues)}}),
    )
    for names, name, what, which in counts:
        if names:
            pipeline = [
                {"$match": which},
                {"$group": {"_id": f"${name}", "number": {"$sum": 1}}},
                {"$set": {"what": what}},
            ]
            stages.append({"$unionWith": {"coll": store.jobs.name, "pipeline": pipeline}})
    return stages


def _fill(found: Permits, document: Document, tokens: Mapping[bytes, int], by: ObjectId | None) -> None:
    permit = found.by_name[document["_id"]]
    permit.mark = document["mark"]
    permit.since = document.get("since", 0)
    for one in document["starts"]:
        permit.starts[one["slot"]] += one["used"]
        permit.ends[one["slot"]] = one["until"]
    for entry in document["pending"]:
        if tokens.get(entry["ref"]) != entry["token"] - 1:
            continue  # claimed: at work, or past that
        if entry["by"] == by:
            permit.take_back(entry)
        elif entry["until"] <= found.now:
            found.lapsed.append(entry)
        else:
            permit.pending.append(entry)
            found.busy.add(entry["ref"])


def fence(store: Store, lapsed: Sequence[Document]) -> None:
    """See to it that jobs that were about to be claimed for too long are not claimed by that permit any more."""
    raised = [{"$set": {name: {"$add": [f"${name}", 1]} for name in ("claim_token", "version")}}]
    store.jobs.bulk_write(
        [UpdateOne({"_id": entry["ref"], "claim_token": entry["token"] - 1}, raised) for entry in lapsed],
        ordered=False,
    )


def write(store: Store, permits: Permits) -> set[str]:
    """Write what was changed since it was read; the names of those that somebody else has changed too: not written."""
    mark = ObjectId()
    changed = [permit for permit in permits.by_name.values() if permit.changed]
    if not changed:
        return set()
    writes: list[InsertOne[Document] | UpdateOne] = []
    for permit in sorted(changed, key=lambda permit: permit.name):
        document = {"mark": mark, **permit.to_document(permits.now)}
        if permit.mark is None:
            writes.append(InsertOne({"_id": permit.name, **document}))
        else:
            writes.append(UpdateOne({"_id": permit.name, "mark": permit.mark}, {"$set": document}))
    try:
        result = store.limits.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        if code_of(error) != DUPLICATE:
            raise
    else:
        if result.matched_count + result.inserted_count == len(writes):
            return set()
    names = {permit.name for permit in changed}
    written = store.limits.find({"_id": {"$in": sorted(names)}, "mark": mark}, {"_id": True})
    return names - {one["_id"] for one in written}


def take_back(store: Store, refs: Sequence[bytes]) -> None:
    """Let nobody be about to claim these jobs any more: they are written anew, with tokens of their own."""
    theirs = {"ref": {"$in": list(refs)}}
    update = {"$pull": {"pending": theirs}, "$set": {"mark": ObjectId()}}
    store.limits.update_many({"pending": {"$elemMatch": theirs}}, update)


def forget(store: Store, now: int, limit: int) -> None:
    """Delete some documents that are of no use any more."""
    over = list(store.limits.find({"until": {"$lte": now}}).limit(limit))
    if not over:
        return
    if lapsed := [entry for document in over for entry in document["pending"]]:
        fence(store, lapsed)
    # Not if somebody has written it since.
    store.limits.bulk_write([DeleteOne({"_id": one["_id"], "mark": one["mark"]}) for one in over], ordered=False)
