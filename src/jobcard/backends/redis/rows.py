"""Between the packed parts of a job and the records of `core/job.py`.

    card    32 characters of digest | msgpack array of CARD
    live    msgpack array of LIVE; scripts read and write it, so None is `false` in it
    job     what `enqueue` and follow-ups hand to a script, see `new_job`
    tries   msgpack array of [attempt, at, error], oldest first
    lines   msgpack array of [at, text], oldest first

Both arrays grow at their end only: engines of an older and a newer jobcard may work on one store at the same time.
What an older one wrote lacks the last fields: its order offset is what its order shows, the others are None. What a
newer one added is carried along unread.

Lua has no integer above 2^53: instants in microseconds and tokens stay far below.
"""

from __future__ import annotations

import hashlib
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from jobcard.core.job import Claimed, Dependent, JobRow, NewJob, WholeJob
from jobcard.core.states import Hold, JobState
from jobcard.errors import CorruptRecordError, InvalidJobError

CARD = (
    "init",
    "args",
    "kwargs",
    "priority",
    "max_attempts",
    "max_crashes",
    "backoff",
    "timeout",
    "batch_id",
    "parent_id",
    "schedule_id",
    "tags",
    "meta",
)
LIVE = (
    "state",
    "claim_token",
    "claimed_by",
    "lease_until",
    "queue",
    "name",
    "rank",
    "order_at",
    "hold",
    "attempt",
    "crashes",
    "interrupts",
    "available_at",
    "created_at",
    "claimed_at",
    "started_at",
    "finished_at",
    "expires_at",
    "keep",
    "unique_key",
    "cancel_requested",
    "reason",
    "error_kind",
    "progress",
    "checkpoint",
    "result",
    "version",
    "limit_key",
    "once_key",
    "key_limit",
    "rate_count",
    "rate_per",
    "order_offset",
    "waits_for",
    "batch",
)
PLACE = {field: place for place, field in enumerate(LIVE, 1)}
"""Where a field stands in the array, counted as Lua counts. `batch` is the batch id once more, for the indexes."""

DIGEST = 32
_IDS = frozenset({"batch_id", "parent_id"})

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def pack(value: object) -> bytes:
    """Anything plain as msgpack; `InvalidJobError` for text that is not UTF-8 or a number that is none of ours."""
    try:
        return _encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        raise InvalidJobError(f"Redis cannot store a value: {error}") from error


def unpack(data: bytes | memoryview) -> Any:
    """What was packed; `CorruptRecordError` when it is not msgpack."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecordError("a record of the store cannot be read") from error


# ------------------------------------------------------------------ to the store


def new_job(job: NewJob) -> tuple[list[object], bytes]:
    """(what scripts read of a new job, its card)."""
    digest = _digest(job)
    moving: list[object] = [
        job.id.hex(),
        digest,
        job.queue,
        job.rank,
        job.order_offset,
        job.delay,
        False if job.at is None else job.at,
        False if job.keep is None else job.keep,
        False if job.unique_key is None else job.unique_key,
        job.name,
    ]
    keyed = (job.limit_key, job.key_limit, job.rate_count, job.rate_per, job.once_key, job.once_until)
    bound = (job.waits_for, None if job.batch_id is None else job.batch_id.hex())
    if job.replaces or any(value is not None for value in (*keyed, *bound)):
        moving += [False if value is None else value for value in keyed]
        moving.append(job.replaces)
        moving += [False if value is None else value for value in bound]
    return moving, _card(job, digest)


def _card(job: NewJob | JobRow, digest: str) -> bytes:
    return digest.encode() + pack([_plain(field, getattr(job, field)) for field in CARD])


def _digest(job: NewJob | JobRow) -> str:
    content = pack((job.name, job.init, job.args, job.kwargs))
    return hashlib.blake2b(content, digest_size=DIGEST // 2).hexdigest()


def _plain(field: str, value: Any) -> Any:
    return value.hex() if field in _IDS and value is not None else value


class Whole(NamedTuple):
    """All that is stored of one job, packed. tries, lines: empty when there are none."""

    ref: str
    live: bytes
    card: bytes
    tries: bytes
    lines: bytes


def whole_job(job: WholeJob) -> Whole:
    """A job as it is; `InvalidJobError` for one that has no place in the indexes."""
    row = job.row
    _check_place(row)
    moving = {**row._asdict(), "batch": _plain("batch_id", row.batch_id)}
    values = [moving[field] for field in LIVE]
    tries = [[tried.attempt, tried.at, tried.error] for tried in job.attempts]
    lines = [[line.at, line.text] for line in job.lines]
    return Whole(
        row.id.hex(),
        pack([False if value is None else value for value in values]),
        _card(row, _digest(row)),
        pack(tries) if tries else b"",
        pack(lines) if lines else b"",
    )


_STATES = frozenset(JobState)
_SAYS = {
    int: ("claim_token", "rank", "order_at", "order_offset", "attempt", "available_at", "created_at", "version"),
    str: ("queue", "name"),
}
_MAY_SAY = {
    int: ("keep", "lease_until", "finished_at", "expires_at"),
    str: ("hold", "claimed_by", "unique_key", "limit_key", "cancel_requested"),
    bytes: ("batch_id",),
}
"""What indexes are written by: a value that an index cannot take would stop a script in the middle."""


def _check_place(row: JobRow) -> None:
    wrong = [field for kind, fields in _SAYS.items() for field in fields if not isinstance(getattr(row, field), kind)]
    for kind, fields in _MAY_SAY.items():
        wrong += [field for field in fields if not isinstance(getattr(row, field), kind | None)]
    if row.state not in _STATES:
        wrong.append("state")
    if wrong:
        raise InvalidJobError(f"job {row.id.hex()} is none that can be stored: its {wrong[0]} is of the wrong kind")


# ------------------------------------------------------------------ from the store


def _array(ref: str, data: bytes | memoryview, fields: tuple[str, ...]) -> list[Any]:
    """A packed array with a value for each field, and behind them whatever a newer jobcard added."""
    values = unpack(data)
    if type(values) is not list:
        raise CorruptRecordError(f"job {ref} is not as jobcard writes jobs")
    if len(values) < len(fields):
        values += [None] * (len(fields) - len(values))
    return values


def to_ending(ref: str, live: bytes) -> tuple[str, str | None, str | None]:
    """(state, result, reason) of a job, from the part of it that changes."""
    moving = _array(ref, live, LIVE)
    state, result, reason = (moving[PLACE[name] - 1] for name in ("state", "result", "reason"))
    return state, result or None, reason or None


def to_dependent(ref: str, live: bytes) -> Dependent | None:
    """A job that waits for others, from the part of it that changes; None: it does not."""
    moving = _array(ref, live, LIVE)
    state, hold, waits_for, version = (moving[PLACE[name] - 1] for name in ("state", "hold", "waits_for", "version"))
    if (state, hold) != (JobState.WAITING, Hold.AFTER):
        return None
    return Dependent(bytes.fromhex(ref), None if waits_for is False else waits_for, version)


def _read(ref: str, live: bytes | None, card: bytes | None) -> dict[str, Any]:
    if live is None or card is None:
        raise CorruptRecordError(f"a part of job {ref} is missing")
    fields = dict(zip(CARD, _array(ref, memoryview(card)[DIGEST:], CARD), strict=False))
    for field, value in zip(LIVE, _array(ref, live, LIVE), strict=False):
        fields[field] = None if value is False else value
    try:
        for field in _IDS:
            if fields[field] is not None:
                fields[field] = bytes.fromhex(fields[field])
        fields["id"] = bytes.fromhex(ref)
    except (TypeError, ValueError) as error:
        raise CorruptRecordError(f"job {ref} is not as jobcard writes jobs") from error
    order_at, available_at = fields["order_at"], fields["available_at"]
    if fields["order_offset"] is None and type(order_at) is int and type(available_at) is int:
        fields["order_offset"] = order_at - available_at
    return fields


def to_job(ref: str, live: bytes | None, card: bytes | None) -> JobRow:
    """A job from its two parts; `CorruptRecordError` when one is missing or unreadable."""
    fields = _read(ref, live, card)
    return _checked(JobRow(*[fields[name] for name in JobRow._fields]))


def _checked(row: JobRow) -> JobRow:
    whole = (row.attempt, row.claim_token, row.created_at, row.available_at, row.order_offset, row.max_attempts)
    if not all(type(value) is int for value in (*whole, row.version)) or not isinstance(row.args, str):
        raise CorruptRecordError(f"job {row.id.hex()} holds a value of the wrong kind")
    return row


_PARTS = ("id", *LIVE, *CARD)
_AS_STORED = {"ref": "id", "token": "claim_token"}
_claimed_of = itemgetter(*(_PARTS.index(_AS_STORED.get(name, name)) for name in Claimed._fields))
"""The fields of a claim out of those of its job, without a dict in between: this is the hot path."""
_ID = Claimed._fields.index("id")
_HEX = tuple(Claimed._fields.index(name) for name in sorted(_IDS))
_ORDER_OFFSET = Claimed._fields.index("order_offset")
_CHECKPOINT = Claimed._fields.index("checkpoint")
_LIMIT_KEY = Claimed._fields.index("limit_key")
_LIMITS = slice(_LIMIT_KEY, _LIMIT_KEY + 4)  # the key, its limit, the two of its rate
_UNLIMITED = (None, None, None, None)


def to_claimed(ref: str, live: bytes, card: bytes | None) -> Claimed:
    """A claim from its two parts."""
    if card is None:
        raise CorruptRecordError(f"a part of job {ref} is missing")
    moving, fixed = _array(ref, live, LIVE), _array(ref, memoryview(card)[DIGEST:], CARD)
    try:
        values = list(_claimed_of([ref, *moving[: len(LIVE)], *fixed]))
        values[_ID] = bytes.fromhex(ref)
        for place in _HEX:
            if values[place] is not None:
                values[place] = bytes.fromhex(values[place])
        if type(values[_ORDER_OFFSET]) is not int:
            values[_ORDER_OFFSET] = moving[PLACE["order_at"] - 1] - moving[PLACE["available_at"] - 1]
        if values[_CHECKPOINT] is False:
            values[_CHECKPOINT] = None
        if values[_LIMIT_KEY] is False:
            values[_LIMITS] = _UNLIMITED
        else:
            values[_LIMITS] = [None if value is False else value for value in values[_LIMITS]]
        claim = Claimed._make(values)
        if type(claim.attempt) is not int or type(claim.args) is not str or type(claim.available_at) is not int:
            raise CorruptRecordError(f"job {ref} holds a value of the wrong kind")
    except (IndexError, TypeError, ValueError) as error:
        raise CorruptRecordError(f"job {ref} is not as jobcard writes jobs") from error
    return claim


def place_in_line(claim: Claimed) -> tuple[int, int, bytes]:
    """Where a claim stood in the line of its queue."""
    return claim.rank, claim.order_at, claim.id
