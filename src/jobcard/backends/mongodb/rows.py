"""Between a document of the jobs and the records of `core/job.py`.

A document has the fields of a job by their names, `_id` for its id, and leaves out what is None. Beside them:

    line      its queue, while it may be claimed: the line itself is an index on it
    key       its unique key, while it lives
    limited   its limit key, while it lives
    labels    its tags, for looking up
    replaced_by  the id of the job whose content it took over last
    load      loads that may let it in, while it is `loading`; `born`: what its entry needs to know then
    then      follow-ups that its last change let in and that may not be in yet
    attempts  its last tries · lines, said: its last log lines, and how many characters it ever logged
    settled, taken, beat   marks of the calls that settled, claimed and renewed it last
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import accumulate, islice
from typing import Any

import bson
from bson.int64 import Int64
from bson.objectid import ObjectId

from jobcard.backends.mongodb.connection import Document, Expression
from jobcard.core.job import Claimed, JobRow, NewJob, WholeJob
from jobcard.core.states import ALIVE, AT_WORK, Hold
from jobcard.errors import CorruptRecordError

LOADING = "loading"
"""The state of a job that is stored and not in yet; nobody but loads.py knows it."""
STATES_AT_WORK = sorted(state.value for state in AT_WORK)

_ENTRY = frozenset({"id", "order_offset", "delay", "at", "once_until", "replaces"})
_STORED = tuple(name for name in NewJob._fields if name not in _ENTRY)
_KEYS = ("unique_key", "once_key")
CONTENT = ("name", "init", "args", "kwargs")
"""What makes a repeated enqueue the same."""

_CHECKED_AT_ONCE = 50

WITHOUT_HISTORY = {"attempts": False, "lines": False}
WITHOUT_ENDINGS = {**WITHOUT_HISTORY, "result": False, "progress": False, "labels": False}


# ------------------------------------------------------------------ to the store


def to_document(job: NewJob, place: int = 0) -> Document:
    """A new job that is not in yet; `enter` lets it in. place: in its load."""
    document: Document = {"_id": job.id, "state": LOADING}
    for name in _STORED:
        value = getattr(job, name)
        if value is not None:
            document[name] = value
    document |= {"claim_token": 0, "attempt": 0, "crashes": 0, "interrupts": 0, "version": 1}
    if labels := _labels(job.tags):
        document["labels"] = labels
    if job.limit_key is not None:
        document["limited"] = job.limit_key
    document["born"] = {"delay": job.delay, "at": job.at, "offset": job.order_offset, "place": place}
    if job.once_key is not None:
        document["born"] |= {"until": job.once_until, "mark": ObjectId()}
    if job.replaces:
        document["born"]["replaces"] = True
    return document


def place_by(now: Expression, *, waits: Expression) -> Document:
    """The hold of a waiting job, and its place in the line, by its time and by whether it waits for others."""
    later = {"$gt": ["$available_at", now]}
    return {
        "hold": {"$cond": [waits, Hold.AFTER.value, {"$cond": [later, Hold.DELAY.value, "$$REMOVE"]}]},
        "line": {"$cond": [{"$or": [waits, later]}, "$$REMOVE", "$queue"]},
    }


_WAITS_FOR_OTHERS: Expression = {"$gt": ["$waits_for", None]}


def enter(now: Expression) -> list[Document]:
    """The update that puts a job in line, among the delayed ones or those that wait for others, by the store's time."""
    return [
        {"$set": {"created_at": now, "available_at": {"$ifNull": ["$born.at", {"$add": [now, "$born.delay"]}]}}},
        {
            "$set": {
                "state": "waiting",
                "order_at": {"$add": ["$available_at", "$born.offset"]},
                "order_offset": "$born.offset",
                **place_by("$created_at", waits=_WAITS_FOR_OTHERS),
                "key": {"$ifNull": ["$unique_key", "$$REMOVE"]},
            }
        },
        {"$unset": ["born", "load"]},
    ]


def take_over(document: Document, now: Expression) -> list[Document]:
    """The update that writes the content of a job that is not in over one that waits."""
    content: Document = {
        name: {"$literal": document[name]} if name in document else "$$REMOVE"
        for name in (*_STORED, "labels", "limited")
        if name not in _KEYS
    }
    # What it has tried and said of itself is not held against what it is to do now.
    content |= dict.fromkeys(("attempt", "crashes", "interrupts"), 0)
    content |= dict.fromkeys(("cancel_requested", "error_kind", "progress", "checkpoint"), "$$REMOVE")
    return [
        {"$set": {**content, "born": {"$literal": document["born"]}, "replaced_by": {"$literal": document["_id"]}}},
        {"$set": {"available_at": {"$ifNull": ["$born.at", {"$add": [now, "$born.delay"]}]}}},
        {
            "$set": {
                "order_at": {"$add": ["$available_at", "$born.offset"]},
                "order_offset": "$born.offset",
                **place_by(now, waits=_WAITS_FOR_OTHERS),
                "version": {"$add": ["$version", 1]},
            }
        },
        {"$unset": "born"},
    ]


def whole(job: WholeJob) -> Document:
    """A job as it is, with its tries and its log."""
    row = job.row
    given = {_STORED_AS.get(name, name): value for name, value in row._asdict().items()}
    if row.state == "waiting" and row.hold is None:
        given["line"] = row.queue
    if row.state in ALIVE:
        given |= {"key": row.unique_key, "limited": row.limit_key}
    document = {name: value for name, value in given.items() if value is not None}
    if labels := _labels(row.tags):
        document["labels"] = labels
    if job.attempts:
        document["attempts"] = [{"attempt": one.attempt, "at": one.at, "error": one.error} for one in job.attempts]
    if job.lines:
        ends = list(accumulate(len(one.text) for one in job.lines))
        document["lines"] = [
            {"at": one.at, "text": one.text, "end": end} for one, end in zip(job.lines, ends, strict=True)
        ]
        document["said"] = ends[-1]
    return document


def check_writable(values: Iterable[object]) -> None:
    """Raise the driver's own error for what it could not send."""
    left = iter(values)
    while some := list(islice(left, _CHECKED_AT_ONCE)):  # encoded, all jobs of a call may be a gigabyte
        bson.encode({"values": some})


def _labels(tags: str | None) -> list[str]:
    try:
        found = json.loads(tags) if tags else []
    except ValueError:
        return []
    return [label for label in found if isinstance(label, str)] if isinstance(found, list) else []


# ------------------------------------------------------------------ from the store

_WHOLE = {
    "priority", "rank", "order_at", "order_offset", "attempt", "max_attempts", "crashes", "max_crashes", "interrupts",
    "available_at", "created_at", "claim_token", "version", "token",
}  # fmt: skip
_WHOLE_OR_NONE = {
    "timeout", "keep", "claimed_at", "started_at", "finished_at", "expires_at", "lease_until", "key_limit",
    "rate_count", "rate_per",
}  # fmt: skip
_TEXT = {"queue", "name", "args", "kwargs", "state", "backoff", "claimed_by"}

_STORED_AS = {"id": "_id", "ref": "_id", "token": "claim_token"}


def _kinds(names: Iterable[str], optional: Iterable[str]) -> tuple[tuple[str, type, bool], ...]:
    """(the field of the document, its type, whether it must be there) for each field of a record."""
    found = []
    for name in names:
        kind: type = str
        if name in _WHOLE or name in _WHOLE_OR_NONE:
            kind = int
        elif name in ("id", "ref", "batch_id", "parent_id"):
            kind = bytes
        needed = name in _WHOLE or name in _TEXT or name in ("id", "ref")
        found.append((_STORED_AS.get(name, name), kind, needed and name not in optional))
    return tuple(found)


_JOB = _kinds(JobRow._fields, optional=("claimed_by",))
_CLAIMED = _kinds(Claimed._fields, optional=())
_CLAIMED = tuple((name, kind, needed or name == "claimed_at") for name, kind, needed in _CLAIMED)


def _values(document: Document, kinds: tuple[tuple[str, type, bool], ...]) -> Iterable[Any]:
    get = document.get
    for name, kind, needed in kinds:
        value = get(name)
        if type(value) is kind:
            yield value
        elif type(value) is Int64 and kind is int:
            yield int(value)
        elif value is None and not needed:
            yield None
        elif value is None and name == "order_offset":
            yield _offset_of(document)
        else:
            raise CorruptRecordError(f"job {_shown(document)} holds {name} of the wrong kind")


def _offset_of(document: Document) -> int:
    """What an older jobcard has not written: no rate of a key has ever put off what it stored."""
    order_at, available_at = document.get("order_at"), document.get("available_at")
    if not (isinstance(order_at, int) and isinstance(available_at, int)):
        raise CorruptRecordError(f"job {_shown(document)} holds no order")
    return order_at - available_at


def _shown(document: Document) -> str:
    found = document.get("_id")
    return found.hex() if isinstance(found, bytes) else repr(found)[:80]


def to_job(document: Document) -> JobRow:
    """A job; `CorruptRecordError` when its document is not as jobcard writes them."""
    return JobRow._make(_values(document, _JOB))


def to_claimed(document: Document) -> Claimed:
    """A claim; `CorruptRecordError` when its document is not as jobcard writes them."""
    return Claimed._make(_values(document, _CLAIMED))


def place_in_line(claim: Claimed) -> tuple[int, int, bytes]:
    """Where a claim stood in the line of its queue."""
    return claim.rank, claim.order_at, claim.id
