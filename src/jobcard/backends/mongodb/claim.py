"""Claiming: look at the heads of the lines, take what was seen by one guarded update, read back what was taken.

Several engines may see the same heads. The update takes what still stands in line, and marks it as this call's, so
each job goes to one. Who came too late looks again, further down and at a place drawn by lot, so that many engines
spread over a line and do not all run after its first jobs.

A look does not tell which jobs have a limit key. The update leaves them, and all of queues that are limited; what is
left in line then is asked for, gets permits (see admission.py), and is claimed by a second update.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bson.objectid import ObjectId

from jobcard.backends.base import RELEASED_AT_ONCE, Want
from jobcard.backends.mongodb import admission, records, schema
from jobcard.backends.mongodb.admission import FIELDS, IN_LINE, WHOLE, Verdicts, to_candidate
from jobcard.backends.mongodb.connection import BY_ID, Document, Expression, Store
from jobcard.backends.mongodb.leases import quarantine, read_each
from jobcard.backends.mongodb.records import STORE, check_seal
from jobcard.backends.mongodb.rows import place_in_line, to_claimed
from jobcard.core.job import Claimed, Ref
from jobcard.core.states import Hold
from jobcard.errors import CorruptRecordError, SchemaVersionError

_log = logging.getLogger("jobcard.store")

_LOOKS = 6
_WIDEST = 4_000
_MANY = 1_000
"""So many jobs under limits are decided about at once."""

_FURTHER = 8
"""So many times as wide is the next look, when jobs were kept out by their limits."""

_CLAIMABLE: Document = {**IN_LINE, **WHOLE}
_MAY_BE_HELD: Document = {**WHOLE, "$or": [IN_LINE, {"hold": Hold.LIMIT.value}]}


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

    wants: (place in the list of queues, queue, how many). `StoreMovedError` if the store is sealed.
    """
    jobs = store.jobs.name

    def beside(*pipeline: Document) -> Document:
        return {"$unionWith": {"coll": jobs, "pipeline": list(pipeline)}}

    stages: list[Document] = [
        {"$match": {"_id": STORE}},
        {"$project": {"_id": 0, "what": "store", "settings": 1, "seal": 1, "now": store.now}},
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
                check_seal(row)  # where nothing was to be written, nothing else has met it
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
        self._limits = {
            queue: limit for queue, limit in want.limits.items() if limit.at_once is not None or limit.rate is not None
        }
        self._window = 1
        self._is_spread = False
        self.cancels: list[tuple[Ref, str]] = []
        self.free_at: int | None = None
        """When a rate lets in one more: of a queue with jobs in line, or of a key that has put some off."""

    def wants(self) -> list[tuple[int, str, int]]:
        """How much of each line to look at."""
        return [
            (place, queue, min(_WIDEST, self._window * most))
            for place, queue in enumerate(self._queues)
            if (most := min(self._left[place], self._total)) > 0
        ]

    def take(self, first: Look) -> list[Claimed]:
        """Claim from what was seen, and look again as long as others were faster, or limits kept some out."""
        claimed: list[Claimed] = []
        seen = first
        for _ in range(_LOOKS):
            chosen = self._choose(seen.seats)
            if not chosen:
                break
            taken, kept_out, is_full = self._claim(sorted(seat.ref for seat in chosen), seen)
            claimed += taken
            if len(taken) == len(chosen) or self._total == 0:
                break
            self._is_spread = self._is_spread or not (kept_out or is_full)
            self._window *= _FURTHER if kept_out else 2
            seen = look(self._store, self._owner, self.wants())
        else:
            if kept_out:
                self.free_at = first.now  # there may be others behind them
        places = {queue: place for place, queue in reversed(list(enumerate(self._queues)))}
        claimed.sort(key=lambda claim: (places[claim.queue], *place_in_line(claim)))
        return claimed

    def _choose(self, seats: list[Seat]) -> list[Seat]:
        chosen: list[Seat] = []
        for place, most in enumerate(self._left):
            line = sorted(seat for seat in seats if seat.queue == place)
            number = min(most, self._total - len(chosen))
            # The head of the line; or, where others were faster, a piece of it that others hardly draw too.
            spare = max(0, len(line) - number) if self._is_spread else 0
            start = random.randint(0, spare)
            chosen += line[start : start + number]
        return chosen

    def _claim(self, ids: list[bytes], seen: Look) -> tuple[list[Claimed], bool, bool]:
        """Claim what may be claimed of these; whether limits of keys kept some out, and whether a queue is full."""
        mark, chosen = ObjectId(), set(ids)
        which: Document = {"_id": {"$in": ids}, **_CLAIMABLE, "limited": None}
        if self._limits:
            which["queue"] = {"$nin": sorted(self._limits)}
        number = self._update(which, mark)
        verdicts = self._permit(ids, seen) if number < len(ids) else Verdicts()
        if verdicts.enter:
            refs = sorted(one.ref for one in verdicts.enter)
            # At the instant at which they count, not at a later one: in any window of time no more start than may.
            number += self._update(self._permitted(verdicts), mark, hold="$$REMOVE", claimed_at=verdicts.now)
            ids = sorted({*ids, *refs})
        taken = self._read_back(ids, mark) if number else []
        # What its key holds already was kept out before, and makes way for nobody.
        kept_out = any(one.ref in chosen for one, _ in verdicts.kept_out)
        self._stand_back(verdicts, {claim.ref for claim in taken}, seen, is_over=not kept_out)
        return taken, kept_out, bool(verdicts.full)

    def _update(self, which: Document, mark: ObjectId, **more: Expression) -> int:
        now = self._store.now
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
            **more,
        }
        return self._store.jobs.update_many(which, [{"$set": update}], hint=BY_ID).modified_count

    # -- under limits

    def _permit(self, ids: list[bytes], seen: Look) -> Verdicts:
        """Get permits for those of these jobs that still stand in line and are under a limit."""
        chosen = set(ids)
        # Once limits have kept some out: those behind them too, so that a crowd of a full key leaves the line at once.
        wider = (
            ids if self._window == 1 else [*ids, *(seat.ref for seat in seen.seats if seat.ref not in chosen)][:_MANY]
        )
        standing = list(self._store.jobs.find({"_id": {"$in": sorted(wider)}, **IN_LINE}, FIELDS).hint(BY_ID))
        found = [one for one in map(to_candidate, standing) if one is not None]
        line = [one for one in found if one.limit_key is None and one.queue in self._limits and one.ref in chosen]
        keys = Counter((one.limit_key, one.queue) for one in found if one.limit_key is not None and one.ref in chosen)
        if keys:
            # In the order of their keys, wherever we have drawn them: what a key holds may have to go first.
            of_keys = {one.ref: one for one in found if (one.limit_key, one.queue) in keys}
            of_keys |= {one.ref: one for one in admission.first_of_keys(self._store, keys)}
            line += of_keys.values()
        sound = {one.ref for one in found}
        if stuck := [one["_id"] for one in standing if one["_id"] not in sound]:
            self._pull_out(stuck)
        if not line:
            return Verdicts()
        line.sort(key=lambda one: (self._queues.index(one.queue), one))
        now = records.now(self._store)  # anew: some were stored since the look
        return admission.reserve(self._store, line, self._limits, keys, now=now, lease=self._lease)

    def _permitted(self, verdicts: Verdicts) -> Document:
        """What jobs must be like to be claimed by their permits."""
        rows = sorted(verdicts.enter, key=lambda one: one.ref)
        refs = [one.ref for one in rows]
        as_it_was = [[one.token - 1, one.limit_key, one.queue] for one in rows]
        picked = {"$arrayElemAt": [{"$literal": as_it_was}, {"$indexOfArray": [{"$literal": refs}, "$_id"]}]}
        is_same = {"$eq": [["$claim_token", {"$ifNull": ["$limited", None]}, "$queue"], picked]}
        in_time = {"$lt": [self._store.now, verdicts.until]}
        return {"_id": {"$in": refs}, **_MAY_BE_HELD, "$expr": {"$and": [is_same, in_time]}}

    def _stand_back(self, verdicts: Verdicts, taken: set[Ref], seen: Look, *, is_over: bool) -> None:
        """Put out of the line what limits kept out, and ask no more of queues that are full, if nobody made way."""
        if verdicts.kept_out:
            admission.keep_out(self._store, verdicts.kept_out, [seat.ref for seat in seen.seats], seen.now)
            for _, answer in verdicts.kept_out:
                if answer.hold is Hold.DELAY:
                    self._note_free(answer.until)
        for free_at in verdicts.free_at.values():
            if free_at > verdicts.now:
                self._note_free(free_at)
        if is_over:
            for queue in verdicts.full:
                self._left[self._queues.index(queue)] = 0
        # Their permits are of no use: somebody else may be waiting for them.
        missed = {one.limit_key for one in verdicts.enter if one.ref not in taken and one.limit_key is not None}
        if missed:
            admission.let_in(self._store, missed, seen.now)

    def _note_free(self, at: int) -> None:
        self.free_at = at if self.free_at is None else min(at, self.free_at)

    def _read_back(self, ids: list[bytes], mark: ObjectId) -> list[Claimed]:
        claims, broken = [], []
        for job_id, document in read_each(self._store.jobs, {"_id": {"$in": ids}, "taken": mark}):
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
        update = [{"$set": {"hold": Hold.BROKEN.value, "line": "$$REMOVE"}}]
        which = {"_id": {"$in": ids}, **IN_LINE}
        if number := self._store.jobs.update_many(which, update, hint=BY_ID).modified_count:
            _log.error("%d jobs cannot be read: taken out of the line, their fields kept", number)
