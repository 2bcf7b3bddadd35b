"""Limits over all engines: who of a line may start, and who comes in when one has left."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bson.objectid import ObjectId
from pymongo import UpdateOne

from jobcard.backends.mongodb import permits
from jobcard.backends.mongodb.connection import BY_ID, Document, Expression, Store
from jobcard.backends.mongodb.permits import Permits
from jobcard.core import rates
from jobcard.core.rates import Admission, Limited, QueueLimit, Rate, Starts, Use
from jobcard.core.states import Hold

_TRIES = 10
_PAUSE = 0.002
"""Seconds, drawn by lot up to this and a bit longer each time, before those who got in each other's way try again."""
_AT_ONCE = 100
"""So many keys are looked at in one command."""
_FIRST_LOOK, _FURTHER, _MANY = 10, 10, 1_000
"""So many of a queue are looked at for those that may come in; so many times more if it is not over; at most."""

IN_LINE: Document = {"line": {"$exists": True}}
WHOLE: Document = {
    "state": "waiting",
    "claim_token": {"$type": "number"},
    "attempt": {"$type": "number"},
    "version": {"$type": "number"},
}
"""What a job must be like to be claimed, wherever it stands."""
_HELD: Document = {"state": "waiting", "hold": Hold.LIMIT.value}
_WAITS: Document = {"state": "waiting", "hold": {"$in": [None, Hold.LIMIT.value]}}
# As the index has them: by key, then in the order of the line.
_ORDER = {"rank": 1, "order_at": 1, "_id": 1}
_NUMBERS = ("claim_token", "attempt", "version", "rank", "order_at")
FIELDS = dict.fromkeys(("state", "queue", "limited", "key_limit", "rate_count", "rate_per", *_NUMBERS), True)


class Candidate(NamedTuple):
    """One waiting job as its limits see it. token: of its next claim."""

    rank: int
    order_at: int
    ref: bytes
    token: int
    queue: str
    limit_key: str | None
    key_limit: int | None
    rate: Rate | None

    @property
    def limited(self) -> Limited:
        """The limits of its key."""
        return Limited(self.limit_key or "", self.key_limit, self.rate)


def to_candidate(document: Document) -> Candidate | None:
    """A candidate from `FIELDS` of its document; None: it is not as jobcard writes them."""
    numbers = [number for name in _NUMBERS if isinstance(number := document.get(name), int)]
    count, per, most = (document.get(name) for name in ("rate_count", "rate_per", "key_limit"))
    queue, key = document.get("queue"), document.get("limited")
    if document.get("state") != "waiting" or not isinstance(queue, str) or len(numbers) < len(_NUMBERS):
        return None
    if not all(one is None or isinstance(one, int) for one in (count, per, most)):
        return None
    token, _attempt, _version, rank, order_at = map(int, numbers)
    rate = None if count is None or per is None else Rate(int(count), int(per))
    return Candidate(rank, order_at, document["_id"], token + 1, queue, key, most, rate)


def first_of_keys(store: Store, wanted: Mapping[tuple[str, str], int]) -> list[Candidate]:
    """The first jobs of limit keys in queues, those held by the limit too; so many of each (key, queue)."""
    pipelines: list[list[Document]] = [
        [
            {"$match": {"limited": key, **_WAITS, **WHOLE, "queue": queue}},
            {"$sort": _ORDER},
            {"$limit": number},
            {"$project": FIELDS},
        ]
        for (key, queue), number in wanted.items()
    ]
    found = map(to_candidate, _each(store, pipelines))
    return [one for one in found if one is not None]


def _each(store: Store, pipelines: Sequence[list[Document]]) -> Iterator[Document]:
    """The answers of several pipelines on the jobs, one after the other."""
    for start in range(0, len(pipelines), _AT_ONCE):
        first, *others = pipelines[start : start + _AT_ONCE]
        beside = [{"$unionWith": {"coll": store.jobs.name, "pipeline": pipeline}} for pipeline in others]
        yield from store.jobs.aggregate([*first, *beside])


# ------------------------------------------------------------------ who may start


@dataclass(slots=True)
class Verdicts:
    """What became of candidates. For those that may start, now: when that counts; until: the end of their permits.

    kept_out: by a limit of their keys. full: queues that let nobody more in now. free_at: when their rates do.
    """

    now: int = 0
    until: int = 0
    enter: list[Candidate] = field(default_factory=list)
    kept_out: list[tuple[Candidate, Admission]] = field(default_factory=list)
    full: set[str] = field(default_factory=set)
    free_at: dict[str, int] = field(default_factory=dict)


def reserve(
    store: Store,
    line: Sequence[Candidate],
    limits: Mapping[str, QueueLimit],
    most: Mapping[tuple[str, str], int],
    *,
    now: int,
    lease: int,
) -> Verdicts:
    """Give those of a line permits that its limits let start. limits: of queues; each job brings those of its key.

    most: how many of a (key, queue) at most.
    """
    verdicts = Verdicts(now, _end_of_permits(now, lease))
    by = ObjectId()
    left = list(line)
    for turn in range(_TRIES):
        found = _read(store, left, limits, verdicts.now, by)
        if found.now > verdicts.now:
            if verdicts.enter:
                break  # those are counted, and will be claimed, at another instant
            verdicts.now, verdicts.until = found.now, _end_of_permits(found.now, lease)
        if found.lapsed:
            permits.fence(store, found.lapsed)
            raised = {(entry["ref"], entry["token"]) for entry in found.lapsed}
            left = [one._replace(token=one.token + 1) if (one.ref, one.token) in raised else one for one in left]
            continue
        entered = _decide(store, found, left, limits, most, verdicts)
        for one in entered:
            for name, rate in _limits_of(one, limits):
                found.by_name[name].add(one.ref, one.token, rate, now=verdicts.now, until=verdicts.until, by=by)
        not_written = permits.write(store, found)
        left = [one for one in entered if any(name in not_written for name, _ in _limits_of(one, limits))]
        again = {one.ref for one in left}
        verdicts.enter += [one for one in entered if one.ref not in again]
        _note_rates(found, limits, verdicts)
        if not left:
            return verdicts
        time.sleep(random.uniform(0, _PAUSE * (turn + 1)))
    _withdraw(store, left, limits, by)
    return verdicts


def _end_of_permits(now: int, lease: int) -> int:
    return now + min(lease, permits.PENDING)


def _limits_of(one: Candidate, limits: Mapping[str, QueueLimit]) -> Iterator[tuple[str, Rate | None]]:
    """The names of the limits that a candidate is under, with their rates."""
    if one.queue in limits:
        yield rates.of_queue(one.queue), limits[one.queue].rate
    if one.limit_key is not None:
        yield rates.of_key(one.limit_key), one.rate


def _read(store: Store, line: Sequence[Candidate], limits: Mapping[str, QueueLimit], now: int, by: ObjectId) -> Permits:
    queues = {one.queue for one in line if one.queue in limits}
    keys = {one.limit_key for one in line if one.limit_key is not None}
    return permits.read(store, queues, keys, now, by)


def _decide(
    store: Store,
    found: Permits,
    line: Sequence[Candidate],
    limits: Mapping[str, QueueLimit],
    most: Mapping[tuple[str, str], int],
    verdicts: Verdicts,
) -> list[Candidate]:
    """Who of a line may start; of the others it is noted why not."""
    now = found.now
    line = [one for one in line if one.ref not in found.busy]  # those another is just claiming
    use = _use_of_keys(store, found, line, verdicts)
    rooms = {name: limit.room(found.use(rates.of_queue(name)), now) for name, limit in _of(line, limits).items()}
    taken: Counter[str] = Counter()
    of_key: Counter[tuple[str, str]] = Counter()
    entered = []
    for one in line:
        room = rooms.get(one.queue)
        if room is not None and taken[one.queue] >= room:
            verdicts.full.add(one.queue)
            continue
        if (key := one.limit_key) is not None:
            [answer] = rates.admit([one.limited], use, now)
            if answer.enters and of_key[key, one.queue] >= most[key, one.queue]:
                continue
            use[key] = _with_one_more(use[key], answer, one.rate, now)
            if not answer.enters:
                verdicts.kept_out.append((one, answer))
                continue
            of_key[key, one.queue] += 1
        taken[one.queue] += 1
        entered.append(one)
    return entered


def _of(line: Sequence[Candidate], limits: Mapping[str, QueueLimit]) -> Mapping[str, QueueLimit]:
    return {one.queue: limits[one.queue] for one in line if one.queue in limits}


def _with_one_more(use: Use, answer: Admission, rate: Rate | None, now: int) -> Use:
    if not answer.enters:
        return use._replace(kept_out=use.kept_out + (answer.hold is Hold.DELAY))
    starts = use.starts if rate is None else Starts([*use.starts.slots, (rate.slot_at(now), 1)])
    return Use(use.at_work + 1, starts, use.kept_out)


def _use_of_keys(store: Store, found: Permits, line: Sequence[Candidate], verdicts: Verdicts) -> dict[str, Use]:
    """How far the limits of the keys of a line are used; asked whom a rate has put off where it will again."""
    keyed = [one for one in line if one.limit_key is not None]
    number = Counter(one.limited.limit_key for one in keyed)
    use = {key: found.use(rates.of_key(key)) for key in number}
    spent = set()
    for key, _, rate in (one.limited for one in keyed):
        if rate is not None and use[key].starts.room(rate, found.now) < number[key]:
            spent.add(key)
    before = _put_off(store, spent, found.now) if spent else Counter[str]()
    before += Counter(one.limited.limit_key for one, answer in verdicts.kept_out if answer.hold is Hold.DELAY)
    return {key: each._replace(kept_out=before[key]) for key, each in use.items()}


def _put_off(store: Store, keys: Collection[str], now: int) -> Counter[str]:
    """How many jobs the rates of limit keys have put off beyond now; without a look at more delayed ones than count."""
    is_later = {"$gt": ["$available_at", now]}
    is_put_off = {"$gt": [{"$add": ["$available_at", "$order_offset"]}, "$order_at"]}
    pipelines: list[list[Document]] = [
        [
            {"$match": {"limited": key, "state": "waiting", "hold": Hold.DELAY.value}},
            # As their index has them, which knows all that is asked for.
            {"$sort": {"queue": 1, **_ORDER}},
            {"$limit": rates.MOST_KEPT_OUT},
            {"$project": {"_id": 0, "available_at": 1, "order_at": 1, "order_offset": 1}},
            {"$match": {"$expr": {"$and": [is_later, is_put_off]}}},
            {"$group": {"_id": None, "number": {"$sum": 1}}},
            {"$set": {"key": {"$literal": key}}},
        ]
        for key in sorted(keys)
    ]
    return Counter({one["key"]: one["number"] for one in _each(store, pipelines)})


def _note_rates(found: Permits, limits: Mapping[str, QueueLimit], verdicts: Verdicts) -> None:
    for queue, limit in limits.items():
        permit = found.by_name.get(rates.of_queue(queue))
        if permit is not None and limit.rate is not None:
            verdicts.free_at[queue] = permit.use.starts.free_at(limit.rate, found.now)


def _withdraw(store: Store, line: Sequence[Candidate], limits: Mapping[str, QueueLimit], by: ObjectId) -> None:
    """Give up what was written for jobs that get no further, others being faster all the time."""
    names = sorted({name for one in line for name, _ in _limits_of(one, limits)})
    mine = {"by": by, "ref": {"$in": [one.ref for one in line]}}
    if names:
        update = {"$pull": {"pending": mine}, "$set": {"mark": ObjectId()}}
        store.limits.update_many({"_id": {"$in": names}, "pending": {"$elemMatch": mine}}, update)


# ------------------------------------------------------------------ who has to wait


def keep_out(store: Store, kept_out: Sequence[tuple[Candidate, Admission]], seen: Collection[bytes], now: int) -> None:
    """Put jobs out of the line, and with those of a full key others of it that were seen there: if no limit of theirs
    is larger than one that was reached.
    """
    full: dict[str, int] = {}
    for one, answer in kept_out:
        key, most, _ = one.limited
        if answer.hold is Hold.LIMIT and most is not None:
            full[key] = max(most, full.get(key, most))
    later = [(one, answer.until) for one, answer in kept_out if answer.hold is Hold.DELAY]
    if later:
        store.jobs.bulk_write([_until(one, until) for one, until in later], ordered=False)
    if full:
        refs = sorted({*seen, *(one.ref for one, _ in kept_out)})
        reached = [{"limited": key, "key_limit": {"$lte": most}} for key, most in sorted(full.items())]
        which = {"_id": {"$in": refs}, "state": "waiting", **IN_LINE, "$or": reached}
        store.jobs.update_many(which, _put(hold=Hold.LIMIT.value, line="$$REMOVE"), hint=BY_ID)
        # One of them may have left before these were held, so that nobody lets them in.
        let_in(store, full, now)


def _until(one: Candidate, until: int) -> UpdateOne:
    which = {"_id": one.ref, "claim_token": one.token - 1, **_WAITS}
    return UpdateOne(which, _put(hold=Hold.DELAY.value, available_at=until, line="$$REMOVE"))


def _put(**sets: Expression) -> list[Document]:
    return [{"$set": {**sets, "version": {"$add": ["$version", 1]}}}]


# ------------------------------------------------------------------ who comes in


def let_in(store: Store, keys: Collection[str], now: int, limit: int | None = None) -> int:
    """Put the first jobs held by these keys back in line, of each queue as many as there is room for; how many."""
    places = _held_places(store, keys)
    if not places:
        return 0
    found = permits.read(store, (), sorted({key for key, _ in places}), now)
    held = _next_of_keys(store, places, {key: found.use(rates.of_key(key)).at_work for key, _ in places})
    which = {"_id": {"$in": sorted(held[:limit])}, **_HELD}
    return store.jobs.update_many(which, _put(hold="$$REMOVE", line="$queue"), hint=BY_ID).modified_count if held else 0


def _held_places(store: Store, keys: Collection[str]) -> list[tuple[str, str]]:
    """The queues in which these keys hold jobs back: (key, queue)."""
    pipelines: list[list[Document]] = [
        [
            {"$match": {"limited": key, **_HELD}},
            {"$group": {"_id": "$queue"}},
            {"$project": {"key": {"$literal": key}}},
        ]
        for key in sorted(keys)
    ]
    return sorted((one["key"], one["_id"]) for one in _each(store, pipelines))


def _next_of_keys(store: Store, places: Sequence[tuple[str, str]], at_work: Mapping[str, int]) -> list[bytes]:
    """Those held by limit keys that come in now, of each queue the first ones."""
    held: list[bytes] = []
    look, left = _FIRST_LOOK, list(places)
    while left:
        waiting: dict[tuple[str, str], list[Document]] = {place: [] for place in left}
        for one in _each(store, [_first_waiting(*place, look) for place in left]):
            waiting[one["limited"], one["queue"]].append(one)
        further = []
        for place in left:
            coming, is_over = _walk(waiting[place], at_work[place[0]])
            if is_over or len(waiting[place]) < look or look >= _MANY:
                held += coming
            else:
                further.append(place)
        look, left = _FURTHER * look, further
    return held


def _first_waiting(key: str, queue: str, number: int) -> list[Document]:
    return [
        {"$match": {"limited": key, **_WAITS, "queue": queue}},
        {"$sort": _ORDER},
        {"$limit": number},
        {"$project": dict.fromkeys(("limited", "queue", "hold", "key_limit"), True)},
    ]


def _walk(waiting: Sequence[Document], at_work: int) -> tuple[list[bytes], bool]:
    """Those held that come in, each by its own limit, of the first of a queue; whether one of them may not."""
    coming: list[bytes] = []
    for place, one in enumerate(waiting):
        most = one.get("key_limit")
        if one.get("hold") is None:
            continue
        if isinstance(most, int) and at_work + place >= most:
            return coming, True
        coming.append(one["_id"])
    return coming, False


def let_in_all(store: Store, now: int, limit: int) -> int:
    """Put at most so many jobs back in line whose limit key has room again; how many."""
    number = 0
    keys = _held_keys(store)
    for start in range(0, len(keys), _AT_ONCE):
        if number < limit:
            number += let_in(store, keys[start : start + _AT_ONCE], now, limit - number)
    return number


def _held_keys(store: Store) -> list[str]:
    """The limit keys that hold jobs back, from one to the next along their index."""
    found = store.jobs.aggregate([{"$match": {"limited": {"$gte": ""}, **_HELD}}, {"$group": {"_id": "$limited"}}])
    return sorted(one["_id"] for one in found)


# ------------------------------------------------------------------ telling


def usage(
    store: Store, queues: Sequence[str], keys: Sequence[str], now: int
) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
    """How far the limits of these queues and limit keys are used now."""
    found = permits.read(store, queues, keys, now)
    put_off = _put_off(store, keys, now)
    return (
        {queue: found.use(rates.of_queue(queue)) for queue in queues},
        {key: found.use(rates.of_key(key))._replace(kept_out=put_off[key]) for key in keys},
    )
