"""The page of one job: its card, what happened to it, what keeps it, what belongs to it, and what may be done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.client.again import EDITED_FROM, enqueue_again
from jobcard.client.browsing import follow_ups, moment, named
from jobcard.client.explain import Reason, reasons
from jobcard.core import ids
from jobcard.core.codec.text import KEY
from jobcard.core.dependencies import ANY_END, BATCH, COMPLETED, JOB, from_text
from jobcard.core.states import ALIVE, ALLOWED, ENDED, Hold
from jobcard.core.view import error_of
from jobcard.dashboard import audit
from jobcard.dashboard.asking import Ask, Done
from jobcard.dashboard.fields import Text
from jobcard.dashboard.formats import HIDDEN, pretty, redacted
from jobcard.dashboard.plain import to_plain
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.views.glances import glance_at
from jobcard.dashboard.views.values import Mask, arguments_of, by_place, mask_of, value_of
from jobcard.errors import ConfigError, CorruptRecordError, JobcardError, SerializationError

if TYPE_CHECKING:
    from jobcard.client.audit import AuditEntry
    from jobcard.core.job import Attempt, JobRow

MOST_EDITED = 100_000
"""Characters of arguments that a form shows for editing; larger ones are edited in code."""
MOST_ACTIONS = 50
MOST_AWAITED = 50
"""So many of those that a job waits for are looked up."""
EDIT_BYTES = 1 << 20
EDIT = (Text("args", "[]", most=MOST_EDITED), Text("kwargs", "{}", most=MOST_EDITED))
ANSWER = {
    "after": {
        "description": "What it waits for, or has waited for",
        "type": "array",
        "items": {
            "type": "object",
            "required": ["kind", "id", "until"],
            "properties": {
                "kind": {"enum": [JOB, BATCH]},
                "id": {"type": "string", "format": "uuid"},
                "until": {"enum": [COMPLETED, ANY_END]},
            },
        },
    }
}
"""In JSON Schema's words."""
_ACTIONS = {**{verb: ALLOWED[verb] for verb in ("run_now", "cancel", "retry")}, "edit": ENDED}
_DAMAGED = "The record of this job is damaged; `jobcard doctor` knows more."


def job(ask: Ask) -> Mapping[str, Any]:
    """Everything that is known of a job."""
    row = _row(ask)
    # What it says of itself may repeat what it was given.
    mask = mask_of(row, ask)
    return {
        "job": glance_at(row, ask),
        "card": _card(row, mask),
        "progress": _progress(row, ask, mask),
        "reasons": _reasons(row, ask, mask) if row.state in ALIVE else [],
        **_tried(row, ask, mask),
        **_brought(row, ask),
        **_awaited(row, ask),
        **_related(row, ask),
        "actions": actions_of(row),
    }


def _row(ask: Ask) -> JobRow:
    try:
        return ask.reading.parts.lookup.row(ids.parse_id(ask["id"]))
    except CorruptRecordError:
        raise Refused(409, _DAMAGED) from None


def actions_of(row: JobRow) -> list[str]:
    """What may be done to a job in its state."""
    return [verb for verb, states in _ACTIONS.items() if row.state in states]


# ------------------------------------------------------------------ what is shown


def _reasons(row: JobRow, ask: Ask, mask: Mask) -> list[Reason]:
    try:
        # A key is made of arguments.
        found = reasons(ask.reading.parts, row, tells_keys=ask.sees_arguments)
        return [replace(each, text=mask(each.text)) for each in found]
    except (ConfigError, CorruptRecordError) as error:
        # A queue that nobody can have named so, or a limit that is none: the rest of the page is shown all the same.
        return [Reason(code="unreadable", text=f"what keeps it cannot be told: {error}")]


def _card(row: JobRow, mask: Mask) -> dict[str, Any]:
    return {
        "claimed_at": None if row.claimed_at is None else moment(row.claimed_at),
        "claimed_by": row.claimed_by,
        "claim_token": row.claim_token,
        "lease_until": None if row.lease_until is None else moment(row.lease_until),
        "expires_at": None if row.expires_at is None else moment(row.expires_at),
        "timeout_seconds": None if row.timeout is None else row.timeout / 1_000_000,
        "crashes": row.crashes,
        "interrupts": row.interrupts,
        "cancel_reason": mask(row.cancel_requested),
        "batch": None if row.batch_id is None else UUID(bytes=row.batch_id),
        "version": row.version,
    }


def _progress(row: JobRow, ask: Ask, mask: Mask) -> dict[str, Any] | None:
    try:
        said = ask.reading.parts.codec.loads(row.progress or "null")
        if said is None:
            return None
        value = min(max(float(said["value"]), 0.0), 1.0)
        return {"value": value, "text": mask(said["text"]), "at": moment(int(said["at"]))}
    except (JobcardError, LookupError, TypeError, ValueError, OverflowError):
        return None


def _tried(row: JobRow, ask: Ask, mask: Mask) -> dict[str, Any]:
    """Its tries, what it wrote, and all of it in the order of time."""
    with ask.reading.parts.connection as store:
        tries = store.attempts([row.id]) if row.claim_token else []
        lines = store.log_lines([row.id]) if row.claim_token else []
    errors = [_error(each, ask, mask) for each in tries]
    return {
        "timeline": _timeline(row._replace(reason=mask(row.reason)), errors, _actions(row, ask)),
        "errors": errors,
        "log": [{"at": moment(line.at), "text": mask(line.text)} for line in lines],
    }


_OF_A_TRY = ("kind", "type", "message", "traceback", "exit_code", "signal", "output")


def _error(attempt: Attempt, ask: Ask, mask: Mask) -> dict[str, Any]:
    shown: dict[str, Any] = {"attempt": attempt.attempt, "at": moment(attempt.at), **dict.fromkeys(_OF_A_TRY)}
    try:
        said = error_of(attempt, ask.reading.parts.codec)
    except (JobcardError, TypeError, ValueError, OverflowError):
        return {**shown, "message": "(cannot be read)"}
    return {**shown, **{name: mask(said.get(name)) for name in _OF_A_TRY}}


def _timeline(row: JobRow, errors: Sequence[Mapping[str, Any]], actions: Sequence[AuditEntry]) -> list[dict[str, Any]]:
    """What happened to it, by its stamps, its recorded tries and the audit; what is to come is at the end."""
    found = [_happened(moment(row.created_at), "stored", f"in the queue {row.queue}")]
    found += [_happened(each.at, each.action.lower(), _by(each)) for each in actions]
    found += [_happened(each["at"], _try_of(each), _short_of(each)) for each in errors]
    if row.claimed_at is not None:
        by = "" if row.claimed_by is None else f" by {row.claimed_by}"
        found.append(_happened(moment(row.claimed_at), "claimed", f"try {row.attempt} of {row.max_attempts}{by}"))
    if row.started_at is not None:
        found.append(_happened(moment(row.started_at), "started", f"try {row.attempt}"))
    if row.finished_at is not None:
        found.append(_happened(moment(row.finished_at), row.state, row.reason or ""))
    if row.available_at > row.created_at and (row.finished_at is None or row.available_at <= row.finished_at):
        found.append(_happened(moment(row.available_at), "due", "delayed" if row.hold == Hold.DELAY else ""))
    if row.expires_at is not None:
        found.append(_happened(moment(row.expires_at), "kept until", ""))
    return sorted(found, key=lambda each: each["at"])


def _try_of(error: Mapping[str, Any]) -> str:
    return f"try {error['attempt']} ended" if error["attempt"] else "not tried"


def _happened(at: Any, what: str, text: str) -> dict[str, Any]:
    return {"at": at, "what": what, "text": text}


def _actions(row: JobRow, ask: Ask) -> Sequence[AuditEntry]:
    """What operators did to it by itself, as far as the audit goes back."""
    return ask.reading.parts.audit.list(limit=MOST_ACTIONS, on=str(UUID(bytes=row.id)))


def _by(entry: AuditEntry) -> str:
    became = "" if entry.result == audit.DONE else f" ({entry.result or 'no result'})"
    return f"by {entry.who}{became}: {entry.text}" if entry.text else f"by {entry.who}{became}"


def _short_of(error: Mapping[str, Any]) -> str:
    return ": ".join(str(part)[:200] for part in (error["type"] or error["kind"], error["message"]) if part)


def _brought(row: JobRow, ask: Ask) -> dict[str, Any]:
    """What it was called with and what came of it, for whoever may see that."""
    if not ask.sees_arguments:
        return {"sees_arguments": False, "brought": None}
    shown = {
        **arguments_of(row, ask),
        "result": value_of(row.result, ask),
        "checkpoint": value_of(row.checkpoint, ask),
        "meta": value_of(row.meta, ask),
    }
    keys = {"unique_key": row.unique_key, "once_key": row.once_key, "limit_key": row.limit_key}
    return {
        "sees_arguments": True,
        "brought": {**shown, "keys": {name: key for name, key in keys.items() if key is not None}},
    }


def _awaited(row: JobRow, ask: Ask) -> dict[str, Any]:
    """What it waits for, or has waited for; with the first ones the job, if it is one and is there."""
    try:
        found = [one._asdict() for one in from_text(row.waits_for)]
    except ValueError:
        found = []  # among the reasons it says so
    first = found[:MOST_AWAITED]
    rows = named(ask.reading.parts, [one["id"] for one in first if one["kind"] == JOB])
    jobs = {UUID(bytes=each.id): glance_at(each, ask) for each in rows}
    return {"after": found, "awaited": [{**one, "job": jobs.get(one["id"])} for one in first]}


def _related(row: JobRow, ask: Ask) -> dict[str, Any]:
    parts = ask.reading.parts
    parent = None if row.parent_id is None else UUID(bytes=row.parent_id)
    found = [] if parent is None else named(parts, [parent])
    return {
        "parent_id": parent,
        "parent": glance_at(found[0], ask) if found else None,
        "edited_from": _origin(row, ask),
        # Stored with its success alone, so no other job has any.
        "follow_ups": [glance_at(each, ask) for each in follow_ups(parts, UUID(bytes=row.id))]
        if row.finished_at is not None
        else [],
        "schedule": row.schedule_id,
    }


def _origin(row: JobRow, ask: Ask) -> UUID | None:
    meta = value_of(row.meta, ask)
    try:
        return UUID(bytes=ids.parse_id(meta[EDITED_FROM])) if isinstance(meta, dict) else None
    except (JobcardError, LookupError):
        return None


# ------------------------------------------------------------------ what may be done


def run_now(ask: Ask) -> Done:
    """Make it due now."""
    job = ask.jobs.run_now(ask["id"])
    return _done(ask, "It is due now, and still waits for other jobs." if job.hold == Hold.AFTER else "It is due now.")


def cancel(ask: Ask) -> Done:
    """Cancel it, or tell its engine to."""
    job = ask.jobs.cancel(ask["id"])
    return _done(ask, "It is canceled." if job.state in ENDED else "Its engine is told to stop it.")


def retry(ask: Ask) -> Done:
    """Run it again from the start."""
    ask.jobs.retry(ask["id"])
    return _done(ask, "It runs again from the start.")


def _done(ask: Ask, text: str) -> Done:
    return Done(see=_page_of(ask["id"]), text=text, data={"id": ask["id"]})


def _page_of(job_id: object) -> str:
    return f"/jobs/{UUID(bytes=ids.parse_id(job_id))}"


def edit(ask: Ask) -> Mapping[str, Any]:
    """Its arguments, to be changed."""
    row = _row(ask)
    _need_to_see(ask)
    args, kwargs = _shown(row, ask)
    return {
        "job": glance_at(row, ask),
        "args": args,
        "kwargs": kwargs,
        "hidden": HIDDEN,
        "is_too_long": max(len(pretty(args)), len(pretty(kwargs))) > MOST_EDITED,
    }


def edit_and_retry(ask: Ask) -> Done:
    """Store the job again, with other arguments."""
    row = _row(ask)
    _need_to_see(ask)
    if row.state not in ENDED:
        raise Refused(409, f"It is {row.state}: only the arguments of a job that has ended are changed.")
    args, kwargs = (
        _put_back(_read(ask, name), shown, json.loads(stored))
        for name, shown, stored in zip(("args", "kwargs"), _shown(row, ask), (row.args, row.kwargs), strict=True)
    )
    if _holds(args) or _holds(kwargs):
        raise Refused(400, f"A value that is hidden was moved: write it out where {HIDDEN} stands.")
    codec = ask.jobs.parts.codec
    loaded = codec.load_call(json.dumps(args), json.dumps(kwargs))
    new = enqueue_again(ask.jobs.parts, row, *loaded, ask.app.registry.find(row.name))
    return Done(see=_page_of(new), text="Stored again, with other arguments.", data={"id": new})


def _need_to_see(ask: Ask) -> None:
    if not ask.sees_arguments:
        raise Refused(403, f"Arguments are for the role {ask.options.show_arguments_to}.")


def _shown(row: JobRow, ask: Ask) -> tuple[Any, Any]:
    """Its arguments as they are stored, tags and all, without what is hidden; `Refused` if they cannot be read."""
    try:
        ask.reading.parts.codec.load_call(row.args, row.kwargs)
    except SerializationError:
        raise Refused(409, "Its arguments cannot be read here.") from None
    definition = ask.app.registry.find(row.name)
    names = () if definition is None else definition.parameters
    args = by_place(_without(json.loads(row.args), ask), names, ask.options.hide)
    return args, _without(json.loads(row.kwargs), ask)


def _without(value: Any, ask: Ask) -> Any:
    """Stored JSON without what is hidden; a value with a tag as a whole, if there is something to hide in it."""
    if isinstance(value, dict):
        if value.keys() == {KEY}:
            return value if _shows_all(value, ask) else HIDDEN
        return {
            name: HIDDEN if name.lower() in ask.options.hide else _without(each, ask) for name, each in value.items()
        }
    return [_without(each, ask) for each in value] if isinstance(value, list) else value


def _shows_all(value: Any, ask: Ask) -> bool:
    plain = to_plain(ask.reading.parts.codec.loads(json.dumps(value)))
    return bool(redacted(plain, ask.options.hide) == plain)


def _read(ask: Ask, what: str) -> Any:
    kind, text = list if what == "args" else dict, ask[what]
    # Its bounds first: a text may be deeper than what walks through it.
    ask.jobs.parts.codec.loads(text, what=what)
    value = json.loads(text)
    if not isinstance(value, kind):
        raise Refused(400, f"{what} must be a JSON {'array' if kind is list else 'object'}.")
    return value


def _put_back(given: Any, shown: Any, stored: Any) -> Any:
    """What was given, with what was hidden in its place again wherever nobody touched it.

    A place is the names and numbers that lead there, and those are what hides it: it is hidden there again.
    """
    if json.dumps(given) == json.dumps(shown):  # in Python True is 1, and 1 is 1.0
        return stored
    if isinstance(given, dict) and isinstance(shown, dict):
        return {
            name: _put_back(each, shown[name], stored[name]) if name in shown else each for name, each in given.items()
        }
    if isinstance(given, list) and isinstance(shown, list):
        pairs = zip(given, shown, stored, strict=False)
        return [*(_put_back(*each) for each in pairs), *given[len(shown) :]]
    return given


def _holds(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    if isinstance(value, list):
        return any(map(_holds, value))
    return bool(value == HIDDEN)
