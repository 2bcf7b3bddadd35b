"""Looking up: filters as conditions, counts along the indexes, lists that leave unreadable jobs out."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from bson.errors import InvalidBSON
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from jobcard.backends.base import FEW, RELEASED_AT_ONCE, Bucket, Ended, Filter, Lines, Listed, Tally
from jobcard.backends.mongodb import records
from jobcard.backends.mongodb.connection import ANY_TEXT, BY_ID, Document, Expression, Store
from jobcard.backends.mongodb.loads import MAY_ENTER
from jobcard.backends.mongodb.rows import LOADING, WITHOUT_HISTORY, to_job
from jobcard.backends.pages import beside_states, end_of, reach
from jobcard.core.job import Attempt, Dependent, JobRow, LogLine
from jobcard.core.states import ALIVE, ENDED, Hold, JobState
from jobcard.errors import CorruptRecordError

_log = logging.getLogger("jobcard.store")

_SHOW_A_MOMENT = frozenset({"RSPrimary", "Mongos"})
_NO_MOMENT = frozenset({239, 246})  # SnapshotTooOld, and SnapshotUnavailable: a collection has just been made
_COUNTED_AT_ONCE = 50  # queues
_PART_OF_AN_ID = re.compile(r"[0-9a-fA-F-]+")


class _Part(NamedTuple):
    """Jobs that one index holds. queue: the field of their queue; by_queue: the index finds one of them at once."""

    state: str
    hint: str
    which: Document
    queue: str
    by_queue: bool
    stamp: Expression


_CREATED = "$created_at"
_BEGUN = {"$ifNull": ["$started_at", {"$ifNull": ["$claimed_at", "$created_at"]}]}

# Conditions that say the least value, not only that there is one: so an index answers alone.
_PARTS = (
    _Part(JobState.WAITING.value, "line", {"line": {"$gte": ""}}, "line", True, _CREATED),
    _Part(JobState.WAITING.value, "hold", {"hold": {"$gte": ""}}, "queue", False, _CREATED),
    *(
        _Part(state.value, "held", {"claimed_by": {"$gte": ""}, "state": state.value}, "queue", False, _BEGUN)
        for state in (JobState.CLAIMED, JobState.RUNNING)
    ),
    *(
        _Part(state.value, "ended", {"state": state.value, "finished_at": {"$gte": 0}}, "queue", True, "$finished_at")
        for state in sorted(ENDED)
    ),
)


# ------------------------------------------------------------------ conditions


def condition(where: Filter, before_id: bytes | None = None) -> Document:
    """A filter as the server's condition, all but a search in ids."""
    parts: list[Document] = []
    for name, wanted in (("state", where.states), ("queue", where.queues), ("name", where.names)):
        if wanted:
            parts.append({name: {"$in": list(map(str, wanted))}})
    if where.tags:
        parts.append({"labels": {"$all": list(where.tags)}})
    for name in ("args", "error_kind", "batch_id", "limit_key"):
        if (value := getattr(where, name)) is not None:
            parts.append({name: value})
    if where.after is not None:
        parts.append({"created_at": {"$gte": where.after}})
    if where.before is not None:
        parts.append({"created_at": {"$lt": where.before}})
    if where.touched_since is not None:
        parts.append(_touched(where.touched_since))
    if where.search and not _may_be_of_an_id(where):
        parts.append({"name": {"$regex": re.escape(where.search)}})
    if before_id is not None:
        parts.append({"_id": {"$lt": before_id}})
    return {"$and": parts} if parts else {}


def _touched(since: int) -> Document:
    return {"$or": [{f"{name}_at": {"$gte": since}} for name in ("created", "claimed", "started", "finished")]}


def _may_be_of_an_id(where: Filter) -> bool:
    return bool(where.search) and _PART_OF_AN_ID.fullmatch(where.search or "") is not None


def _matches_search(document: Document, where: Filter) -> bool:
    # The server cannot turn the bytes of an id into text.
    if not _may_be_of_an_id(where):
        return True
    text = where.search or ""
    return text in document.get("name", "") or text.lower() in str(UUID(bytes=document["_id"]))


def _parts_for(where: Filter) -> list[_Part]:
    if where.batch_id is not None:
        wanted = [state.value for state in JobState if not where.states or state in where.states]
        return [_part_of_batch(where.batch_id, state) for state in wanted]
    parts = [part for part in _PARTS if not where.states or part.state in where.states]
    if where.touched_since is not None:
        parts = [
            part._replace(which={**part.which, "finished_at": {"$gte": where.touched_since}})
            if part.hint == "ended"
            else part
            for part in parts
        ]
    return parts


def _part_of_batch(batch_id: bytes, state: str) -> _Part:
    return _Part(state, "batch_states", {"batch_id": batch_id, "state": state}, "queue", True, _CREATED)


def _by_id(where: Filter) -> tuple[Document, str]:
    """The jobs that a walk down the ids meets, and the index it goes along."""
    if where.batch_id is not None:
        return {"load": None, "batch_id": where.batch_id}, "batch"
    return {"load": None}, BY_ID


def _parts_of_few(store: Store, where: Filter) -> list[_Part]:
    """The parts that hold all jobs that can fit, if these are few; [] if they are many, or may be all.

    Few are sorted in no time; among many, a walk down the ids soon meets enough.
    """
    if not where.states and where.touched_since is None:
        return []
    parts = _parts_for(where)
    # Whether a waiting job was touched stands in the job alone. Those created since are at the top of a walk.
    touched = {} if where.touched_since is None or where.after is not None else _touched(where.touched_since)
    left = FEW
    for part in parts:
        left -= store.jobs.count_documents({**part.which, **touched}, limit=left + 1, hint=part.hint)
        if left < 0:
            return []
    return parts


# ------------------------------------------------------------------ jobs


def get_jobs(store: Store, job_ids: Sequence[bytes]) -> list[JobRow]:
    """Those of the jobs that exist; an unreadable one is an error only if it is asked for alone."""
    ids = list(dict.fromkeys(job_ids))
    which = {"_id": {"$in": ids}, "state": {"$ne": LOADING}}
    if len(ids) == 1:
        return [to_job(one) for one in store.settled(store.jobs).find(which, WITHOUT_HISTORY)]
    found = _found(store, lambda fields: store.settled(store.jobs).find(which, fields))
    return [row for row in found.values() if row is not None]


def attempts(store: Store, job_ids: Sequence[bytes]) -> list[Attempt]:
    """The recorded tries of these jobs, oldest first."""
    return [
        Attempt(job_id, int(one["attempt"]), int(one["at"]), one["error"])
        for job_id, tries in _history(store, job_ids, "attempts")
        for one in tries
    ]


def log_lines(store: Store, job_ids: Sequence[bytes]) -> list[LogLine]:
    """The log lines of these jobs, oldest first."""
    return [
        LogLine(job_id, int(one["at"]), one["text"])
        for job_id, lines in _history(store, job_ids, "lines")
        for one in lines
    ]


def _history(store: Store, job_ids: Sequence[bytes], name: str) -> list[tuple[bytes, list[Document]]]:
    if not job_ids:
        return []
    found = store.jobs.find({"_id": {"$in": list(job_ids)}, name: {"$exists": True}}, {name: True})
    return [(one["_id"], one[name]) for one in found]


def ended(store: Store, job_ids: Sequence[bytes]) -> list[Ended]:
    """Those of the jobs that have ended."""
    if not job_ids:
        return []
    which = {"_id": {"$in": list(job_ids)}, "state": {"$in": sorted(state.value for state in ENDED)}}
    found = store.settled(store.jobs).find(which, {"state": True, "result": True, "reason": True})
    return [Ended(one["_id"], one["state"], one.get("result"), one.get("reason")) for one in found]


def dependents(store: Store, after: bytes | None, limit: int) -> list[Dependent]:
    """Jobs that wait for others, by ascending id. As a majority has them: then it has those stored before them, too."""
    which: Document = {"hold": Hold.AFTER.value, "_id": {"$gt": after or b""}}
    # Text that is none ends no look at the others: nobody finds in it what to wait for.
    jobs = store.settled(store.jobs).with_options(codec_options=ANY_TEXT)
    found = jobs.find(which, {"waits_for": True, "version": True}).sort([("_id", 1)]).limit(limit).hint("dependents")
    return [Dependent(one["_id"], one.get("waits_for"), one.get("version", -1)) for one in found]


def _found(store: Store, find: Callable[[Mapping[str, bool]], Any]) -> dict[bytes, JobRow | None]:
    """What a query finds, by id and in its order; None, and logged: it cannot be read."""
    try:
        return {one["_id"]: _row(one) for one in find(WITHOUT_HISTORY)}
    except InvalidBSON:
        ids = [one["_id"] for one in find({"_id": True})]
    return {job_id: _row(one) for job_id in ids if (one := _document(store, job_id)) is not None}


def _document(store: Store, job_id: bytes) -> Document | None:
    """One job; an empty document where its bytes are none, None when it has gone."""
    try:
        return store.jobs.find_one({"_id": job_id}, WITHOUT_HISTORY)
    except InvalidBSON:
        return {"_id": job_id}


def _row(document: Document) -> JobRow | None:
    try:
        return to_job(document)
    except CorruptRecordError as error:
        _log.warning("a job cannot be read and was left out: %s", error)
        return None


def list_jobs(store: Store, where: Filter, *, limit: int, before_id: bytes | None) -> Listed:
    """Jobs of a filter, newest id first; unreadable ones are left out and logged."""
    asked = condition(where, before_id)
    if _may_be_of_an_id(where):
        ids = [one["_id"] for one, _ in zip(_walk(store, where, asked), range(limit), strict=False)]
        return _listed(_found(store, lambda fields: store.jobs.find({"_id": {"$in": ids}}, fields)), ids, limit)

    def find(which: Document, index: str) -> dict[bytes, JobRow | None]:
        both = {"$and": [which, asked]} if asked else which
        order = [("_id", -1)]
        return _found(store, lambda fields: store.jobs.find(both, fields).sort(order).limit(limit).hint(index))

    if parts := _parts_of_few(store, where):
        found = {job_id: row for part in parts for job_id, row in find(part.which, part.hint).items()}
        return _listed(found, sorted(found, reverse=True)[:limit], limit)
    which, index = _by_id(where)
    walks_far = where.touched_since is not None and where.batch_id is None
    lowest = _lowest(store, before_id, reach(limit)) if walks_far else None
    found = find(which if lowest is None else {**which, "_id": {"$gte": lowest}}, index)
    page = _listed(found, list(found), limit)
    return page if page.below is not None else Listed(page.rows, lowest)


def _lowest(store: Store, before_id: bytes | None, places: int) -> bytes | None:
    """The id so many places below another one; None: there are not so many."""
    below = {} if before_id is None else {"_id": {"$lt": before_id}}
    for one in store.jobs.find(below, {"_id": True}).sort([("_id", -1)]).skip(places).limit(1).hint(BY_ID):
        return bytes(one["_id"])
    return None


def _listed(found: Mapping[bytes, JobRow | None], ids: Sequence[bytes], limit: int) -> Listed:
    rows = [row for job_id in ids if (row := found.get(job_id)) is not None]
    return Listed(rows, end_of(ids, limit))


def _walk(store: Store, where: Filter, asked: Document) -> Iterator[Document]:
    """Id, name, queue and state of jobs, newest first, looked through here."""
    fields = dict.fromkeys(("name", "queue", "state"), True)
    which, index = _by_id(where)
    both = {"$and": [which, asked]} if asked else which
    for one in store.jobs.find(both, fields).sort([("_id", -1)]).hint(index):
        if _matches_search(one, where):
            yield one


# ------------------------------------------------------------------ figures


def count_jobs(store: Store, where: Filter, *, limit: int | None) -> dict[str, dict[str, int]]:
    """Jobs by queue and state; with a limit, no (queue, state) is counted much further."""
    try:
        with _snapshot(store) as moment:
            found = list(_counted(store, where, limit, moment))
    except OperationFailure as error:
        if error.code not in _NO_MOMENT:
            raise
        found = list(_counted(store, where, limit, None))
    if where.batch_id is not None and not any(state in ALIVE for _, state, _ in found):
        found += _alive_of_batch(store, where)
    counts: dict[str, dict[str, int]] = {}
    for queue, state, number in found:
        by_state = counts.setdefault(queue, {})
        total = by_state.get(state, 0) + number
        by_state[state] = total if limit is None else min(limit, total)
    return counts


@contextlib.contextmanager
def _snapshot(store: Store) -> Iterator[ClientSession | None]:
    """A session whose reads are all as of one moment; None on a server that cannot show one: it is in no set."""
    servers = store.client.topology_description.server_descriptions().values()
    if not any(server.server_type_name in _SHOW_A_MOMENT for server in servers):
        yield None
        return
    with store.client.start_session(snapshot=True) as session:
        yield session


def _counted(
    store: Store, where: Filter, limit: int | None, moment: ClientSession | None
) -> Iterator[tuple[str, str, int]]:
    if _may_be_of_an_id(where):
        for one in _walk(store, where, condition(where)):
            yield one["queue"], one["state"], 1
        return
    beside = beside_states(where)._replace(batch_id=None)
    asked, beside_queues = condition(beside), condition(beside._replace(queues=()))
    for part in _parts_for(where):
        both = {"$and": [part.which, asked]} if asked else part.which
        if limit is None or not part.by_queue:
            stages: list[Document] = [{"$match": both}, {"$group": {"_id": f"${part.queue}", "number": {"$sum": 1}}}]
            for one in store.jobs.aggregate(stages, hint=part.hint, session=moment):
                yield one["_id"], part.state, one["number"]
        else:
            queues = list(dict.fromkeys(where.queues)) or _queues_in(store, part, moment)
            of_queue = {queue: {**part.which, part.queue: queue} for queue in queues}
            yield from (
                (queue, part.state, number)
                for queue, number in _count_each(store, part, of_queue, beside_queues, limit, moment)
            )


def _alive_of_batch(store: Store, where: Filter) -> Iterator[tuple[str, str, int]]:
    """Jobs of a batch that live though a count found none.

    On a server that cannot show one moment they may move from state to state before it: in this index they do not move
    until they end. And those of a load are not let in yet: they count as waiting, so that a batch whose last job has
    ended is not over before what follows that job in it. Whether they are committed is not asked, for they may be while
    one asks; a load that never will be is dropped soon.

    As this primary has them, not as a majority has: the next one may show what is older than what the last one showed.
    """
    states = [state.value for state in ALIVE if not where.states or state in where.states]
    if not states or _may_be_of_an_id(where):
        return
    living: list[Document] = [{"state": {"$in": states}}]
    if JobState.WAITING in states:
        living.append(MAY_ENTER)
    which = {"batch_id": where.batch_id, "finished_at": None, "$or": living}
    state = {"$cond": [{"$eq": ["$state", LOADING]}, JobState.WAITING.value, "$state"]}
    stages: list[Document] = [
        {"$match": {"$and": [which, condition(where._replace(states=()))]}},
        {"$group": {"_id": {"queue": "$queue", "state": state}, "number": {"$sum": 1}}},
    ]
    for one in store.jobs.aggregate(stages, hint="batch_ends"):
        yield one["_id"]["queue"], one["_id"]["state"], one["number"]


def _count_each(
    store: Store,
    part: _Part,
    of_queue: Mapping[str, Document],
    beside: Document,
    limit: int,
    moment: ClientSession | None,
) -> Iterator[tuple[str, int]]:
    """How many jobs of a part are in each queue, each counted no further than the limit.

    beside: what must hold besides. Without it an index answers alone, for many queues in one trip.
    """
    if beside:
        # One by one: only the first of several in a trip may be told its index.
        for queue, which in of_queue.items():
            both = {"$and": [which, beside]}
            yield queue, store.jobs.count_documents(both, limit=limit, hint=part.hint, session=moment)
        return
    name = f"${part.queue}"
    counts: list[list[Document]] = [
        [{"$match": which}, {"$limit": limit}, {"$group": {"_id": name, "number": {"$sum": 1}}}]
        for which in of_queue.values()
    ]
    for at in range(0, len(counts), _COUNTED_AT_ONCE):
        first, *others = counts[at : at + _COUNTED_AT_ONCE]
        unions = [{"$unionWith": {"coll": store.jobs.name, "pipeline": other}} for other in others]
        for one in store.jobs.aggregate([*first, *unions], hint=part.hint, session=moment):
            yield one["_id"], one["number"]


def _queues_in(store: Store, part: _Part, moment: ClientSession | None = None) -> list[str]:
    """The queues of a part. A server of its own, or a set, leaps along the index from one to the next."""
    named = {"$match": {**part.which, part.queue: {"$gte": ""}}}
    stages: list[Document] = [named, {"$group": {"_id": f"${part.queue}"}}]
    return sorted(one["_id"] for one in store.jobs.aggregate(stages, hint=part.hint, session=moment))


def chart(store: Store, *, first: int, step: int, buckets: int, states: Sequence[str]) -> Sequence[Bucket]:
    """Jobs by present state in slices of time, each at its latest stamp."""
    end = first + step * buckets
    slices: list[dict[str, int]] = [{} for _ in range(buckets)]
    for part in _parts_for(Filter(states=states)):
        which = part.which
        if part.hint == "ended":
            # Queue by queue, for so the index goes; else it would be walked from end to end.
            queues = _queues_in(store, part)
            which = {**which, "queue": {"$in": queues}, "finished_at": {"$gte": first, "$lt": end}}
        ago = {"$subtract": [part.stamp, first]}
        stages: list[Document] = [
            {"$match": which},
            {"$project": {"_id": 0, "ago": ago}},
            {"$match": {"ago": {"$gte": 0, "$lt": end - first}}},
            {"$group": {"_id": {"$subtract": ["$ago", {"$mod": ["$ago", step]}]}, "number": {"$sum": 1}}},
        ]
        for one in store.jobs.aggregate(stages, hint=part.hint):
            counts = slices[int(one["_id"]) // step]
            counts[part.state] = counts.get(part.state, 0) + one["number"]
    return [Bucket(at=first + place * step, counts=counts) for place, counts in enumerate(slices)]


def tally(store: Store) -> Tally:
    """The whole store's figures."""
    counts = {state.value: 0 for state in JobState}
    for by_state in count_jobs(store, Filter(), limit=None).values():
        for state, number in by_state.items():
            counts[state] += number
    age = {"$subtract": [store.now, "$available_at"]}
    in_line: list[Document] = [
        {"$match": {"line": {"$gte": ""}}},
        {"$group": {"_id": None, "first": {"$min": "$available_at"}}},
        {"$project": {"age": {"$subtract": [store.now, "$first"]}}},
    ]
    # Due jobs that nobody has released yet wait as those in line do.
    held_back: list[Document] = [
        {"$match": {"hold": "delay", "available_at": {"$gte": 0}}},
        {"$group": {"_id": {"$gt": ["$available_at", store.now]}, "number": {"$sum": 1}, "age": {"$max": age}}},
    ]
    ages = [int(one["age"]) for one in store.jobs.aggregate(in_line, hint="line")]
    delayed = 0
    for one in store.jobs.aggregate(held_back, hint="hold"):
        if one["_id"]:
            delayed = one["number"]
        else:
            ages.append(int(one["age"]))
    return Tally(counts=counts, delayed=delayed, oldest_waiting=max(0, *ages) if ages else None)


def lines(store: Store, limit: int) -> Lines:
    """How jobs wait."""
    now = records.now(store)
    oldest: dict[str, int] = {}

    def add(queue: str, since: int) -> None:
        oldest[queue] = max(oldest.get(queue, 0), now - since)

    due: Document = {"hold": "delay", "available_at": {"$gte": 0, "$lte": now}}
    fields = {"_id": False, "queue": True, "available_at": True}
    for late in store.jobs.find(due, fields).sort(_DUE_FIRST).limit(RELEASED_AT_ONCE).hint("hold"):
        add(late["queue"], late["available_at"])
    for queue in _queues_in(store, _PARTS[0]):
        # The first of each priority.
        first: Document = {"line": queue}
        while one := store.jobs.find_one(first, {"rank": True, "available_at": True}, sort=_IN_LINE, hint="line"):
            add(queue, one["available_at"])
            first = {"line": queue, "rank": {"$gt": one["rank"]}}
    delayed = {"hold": "delay", "available_at": {"$gt": now}}
    return Lines(store.jobs.count_documents(delayed, limit=limit, hint="hold"), oldest)


_DUE_FIRST = [("hold", 1), ("available_at", 1)]
_IN_LINE = [("line", 1), ("rank", 1), ("order_at", 1), ("_id", 1)]
