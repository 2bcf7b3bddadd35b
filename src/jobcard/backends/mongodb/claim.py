"""Claiming: look at the heads of the lines, take what was seen by one guarded update, read back what was taken.

Several engines may see the same heads. The update takes what still stands in line, and marks it as this call's, so
each job goes to one. Who came too late looks again, further down and at a place drawn by lot, so that many engines
spread over a line and do not all run after its first jobs.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bson.errors import InvalidBSON
from bson.objectid import ObjectId

from jobcard.backends.base import RELEASED_AT_ONCE, Want
from jobcard.backends.mongodb import schema
from jobcard.backends.mongodb.connection import BY_ID, Document, Expression, Store
from jobcard.backends.mongodb.records import STORE
from jobcard.backends.mongodb.rows import WITHOUT_ENDINGS, place_in_line, to_claimed
from jobcard.core.job import Claimed, Ref
from jobcard.core.states import Hold
from jobcard.errors import CorruptRecordError, SchemaVersionError

_log = logging.getLogger("jobcard.store")

_LOOKS = 6
_WIDEST = 4_000

_IN_LINE: Document = {"line": {"$exists": True}}
_CLAIMABLE: Document = {
    **_IN_LINE,
    "state": "waiting",
    "claim_token": {"$type": "number"},
    "attempt": {"$type": "number"},
    "version": {"$type": "number"},
}


class Seat(NamedTuple):
    """One place in a line: what a look gives."""

    queue: int
    rank: int
    order_at: int
    ref: bytes


@dataclass(slots=True)
class Look:
    """What one round trip tells an engine."""

    now: int
    settings: int
    due: int | None
    cancels: list[tuple[Ref, str]] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)


def look(store: Store, owner: str, wants: Sequence[tuple[int, str, int]]) -> Look:
    """The settings' version, the next due time, cancels of an owner and the heads of some lines, in one round trip.

    wants: (place in the list of queues, queue, how many).
    """
    jobs = store.jobs.name

    def beside(*pipeline: Document) -> Document:
        return {"$unionWith": {"coll": jobs, "pipeline": list(pipeline)}}

    stages: list[Document] = [
        {"$match": {"_id": STORE}},
        {"$project": {"_id": 0, "what": "store", "settings": 1, "now": store.now}},
        beside(
            {"$match": {"hold": "delay", "available_at": {"$gte": 0}}},
            {"$sort": {"available_at": 1}},
            {"$limit": 1},
            {"$project": {"_id": 0, "what": "due", "at": "$available_at"}},
        ),
        beside(
            {"$match": {"claimed_by": owner, "cancel_requested": {"$exists": True}}},
            {"$project": {"what": "cancel", "why": "$cancel_requested"}},
        ),
    ]
    for place, queue, most in wants:
        stages.append(
            beside(
                {"$match": {"line": queue}},
                {"$sort": {"line": 1, "rank": 1, "order_at": 1, "_id": 1}},
                {"$limit": most},
                {"$project": {"what": {"$literal": place}, "rank": 1, "order_at": 1}},
            )
        )
    found: Look | None = None
    for row in store.records.aggregate(stages):
        match row["what"]:
            case "store":
                found = Look(now=int(row["now"]), settings=int(row["settings"]), due=None)
            case _ if found is None:
                break
            case "due":
                found.due = int(row["at"])
            case "cancel":
                found.cancels.append((row["_id"], row["why"]))
            case place:
                found.seats.append(Seat(place, row.get("rank", 0), row.get("order_at", 0), row["_id"]))
    if found is None:
        raise SchemaVersionError(0, schema.wanted())
    return found


def release(store: Store, now: int) -> None:
    """Put delayed jobs that are due in line."""
    due = {"hold": "delay", "available_at": {"$lte": now}}
    refs = [one["_id"] for one in store.jobs.find(due, {"_id": True}).hint("hold").limit(RELEASED_AT_ONCE)]
    if refs:
        store.jobs.update_many(
            {"_id": {"$in": sorted(refs)}, **due},
            [{"$set": {"hold": "$$REMOVE", "line": "$queue", "version": {"$add": ["$version", 1]}}}],
            hint=BY_ID,
        )


class Claim:
    """One engine's claim of what it wants."""

    def __init__(self, store: Store, owner: str, want: Want, lease: int) -> None:
        self._store = store
        self._owner = owner
        self._lease = lease
        self._queues = [queue for queue, _ in want.queues]
        self._left = [max(0, most) for _, most in want.queues]
        self._total = max(0, want.total)
        self._window = 1
        self.cancels: list[tuple[Ref, str]] = []

    def wants(self) -> list[tuple[int, str, int]]:
        """How much of each line to look at."""
        return [
            (place, queue, min(_WIDEST, self._window * most))
            for place, queue in enumerate(self._queues)
            if (most := min(self._left[place], self._total)) > 0
        ]

    def take(self, first: Look) -> list[Claimed]:
        """Claim from what was seen, and look again as long as others were faster."""
        claimed: list[Claimed] = []
        seen = first
        for _ in range(_LOOKS):
            chosen = self._choose(seen.seats)
            if not chosen:
                break
            taken = self._claim([seat.ref for seat in chosen])
            claimed += taken
            if len(taken) == len(chosen) or self._total == 0:
                break
            self._window *= 2
            seen = look(self._store, self._owner, self.wants())
        places = {queue: place for place, queue in reversed(list(enumerate(self._queues)))}
        claimed.sort(key=lambda claim: (places[claim.queue], *place_in_line(claim)))
        return claimed

    def _choose(self, seats: list[Seat]) -> list[Seat]:
        chosen: list[Seat] = []
        for place, most in enumerate(self._left):
            line = sorted(seat for seat in seats if seat.queue == place)
            number = min(most, self._total - len(chosen))
            # The head of the line; or, where others were faster, a piece of it that others hardly draw too.
            spare = max(0, len(line) - number) if self._window > 1 else 0
            start = random.randint(0, spare)
            chosen += line[start : start + number]
        return chosen

    def _claim(self, refs: list[bytes]) -> list[Claimed]:
        mark = ObjectId()
        now = self._store.now
        ids = sorted(refs)
        update = {
            "state": "claimed",
            "claim_token": {"$add": ["$claim_token", 1]},
            "attempt": {"$add": ["$attempt", 1]},
            "version": {"$add": ["$version", 1]},
            "claimed_by": {"$literal": self._owner},
            "claimed_at": now,
            "lease_until": {"$add": [now, self._lease]},
            "taken": mark,
            "line": "$$REMOVE",
        }
        which = {"_id": {"$in": ids}, **_CLAIMABLE}
        number = self._store.jobs.update_many(which, [{"$set": update}], hint=BY_ID).modified_count
        if number < len(ids):
            self._pull_out(ids)
        return self._read_back(ids, mark) if number else []

    def _read_back(self, ids: list[bytes], mark: ObjectId) -> list[Claimed]:
        claims, broken = [], []
        for job_id, document in read_each(self._store, {"_id": {"$in": ids}, "taken": mark}):
            try:
                claims.append(to_claimed(document))
            except CorruptRecordError:
                broken.append(job_id)
                continue
            if (why := document.get("cancel_requested")) is not None:
                self.cancels.append((job_id, why))
        if broken:
            quarantine(self._store, broken)
        for claim in claims:
            self._left[self._queues.index(claim.queue)] -= 1
        self._total -= len(claims)
        return claims

    def _pull_out(self, ids: list[bytes]) -> None:
        """Take what stands in line and can never be claimed out of it."""
        cannot = {"_id": {"$in": ids}, **_IN_LINE, "$nor": [_CLAIMABLE]}
        update = [{"$set": {"hold": Hold.BROKEN.value, "line": "$$REMOVE"}}]
        if number := self._store.jobs.update_many(cannot, update, hint=BY_ID).modified_count:
            _log.error("%d jobs cannot be read: taken out of the line, their fields kept", number)


def read_each(store: Store, which: Document) -> list[tuple[bytes, Document]]:
    """Jobs as the claims of them need them; one whose bytes are no document comes as an empty one."""
    try:
        return [(one["_id"], one) for one in store.jobs.find(which, WITHOUT_ENDINGS).hint(BY_ID)]
    except InvalidBSON:
        found = []
        for job_id in [one["_id"] for one in store.jobs.find(which, {"_id": True}).hint(BY_ID)]:
            try:
                one = store.jobs.find_one({"_id": job_id}, WITHOUT_ENDINGS)
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
