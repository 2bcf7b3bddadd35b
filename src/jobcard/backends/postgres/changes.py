"""Changes of core as guarded UPDATEs: those of one form together, their values in columns.

An engine's outcomes mostly have few forms: so many retries, so many notes of progress. The text of a statement
depends on the form alone, so it is prepared once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from jobcard.backends.base import Outcome
from jobcard.backends.postgres import admission, lookup
from jobcard.backends.postgres.connection import Connection, Row, Step
from jobcard.backends.postgres.enqueue import firsts, in_order, queues_of, storing, takes_once
from jobcard.backends.postgres.errors import UniqueKeyError
from jobcard.backends.postgres.rows import IDS, NUMBERS, column, columns_of
from jobcard.backends.postgres.values import Id, Ids, Numbers, Texts
from jobcard.core.job import LAST_ATTEMPTS, LAST_LINES, LINES_TEXT, Dependent, NewJob
from jobcard.core.states import ENDED, After, Change, JobState, Now, check_settable
from jobcard.errors import DuplicateJobError, StoreMovedError

Sql = Mapping[str, str]

_NOW, _AFTER, _VALUE = "now", "after", "value"


class Form(NamedTuple):
    """What the text of a change's statement depends on. fields: each name, and how its value comes about."""

    fields: tuple[tuple[str, str], ...]
    sources: frozenset[JobState]
    target: JobState
    takes: bool
    lapsed: bool
    has_version: bool
    has_error: bool
    has_lines: bool
    has_followers: bool
    has_once: bool


def form_of(change: Change, then: Sequence[NewJob] = ()) -> Form:
    """The form of a change; `InvalidJobError` when it sets what no change may set."""
    check_settable(change.sets)
    return Form(
        fields=tuple((name, _kind(value)) for name, value in change.sets.items()),
        sources=change.sources,
        target=change.target,
        takes=change.takes,
        lapsed=change.lapsed,
        has_version=change.version is not None,
        has_error=change.error is not None,
        has_lines=bool(change.lines),
        has_followers=bool(then),
        has_once=takes_once(then),
    )


def apply(sql: Sql, form: Form, outcomes: Sequence[Outcome], now: int | None) -> Step:
    """The step that applies outcomes of one form; it answers with the refs that were changed."""
    text = _apply_text(sql["apply"], tuple(_further(sql, form, "add_lines")), form)
    values: dict[str, object] = {
        "now": now,
        "refs": Numbers(outcome.ref for outcome in outcomes),  # type: ignore[misc]
        "tokens": Numbers(outcome.token for outcome in outcomes),
    }
    for name, kind in form.fields:
        if kind != _NOW:
            values[f"new_{name}"] = column(name, [_plain(outcome.change.sets[name]) for outcome in outcomes])
    if form.has_version:
        values["versions"] = Numbers(outcome.change.version for outcome in outcomes)
    if form.has_error:
        values["try_numbers"] = Numbers(outcome.change.attempt for outcome in outcomes)
        values["try_errors"] = Texts(outcome.change.error for outcome in outcomes)
    if form.has_lines:
        lines = [(outcome.ref, ago, text) for outcome in outcomes for ago, text in outcome.change.lines]
        values["line_refs"] = Numbers(ref for ref, _, _ in lines)  # type: ignore[misc]
        values["line_ago"] = Numbers(ago for _, ago, _ in lines)
        values["line_texts"] = Texts(line for _, _, line in lines)
    if form.has_followers:
        followers = [(outcome.ref, job) for outcome in outcomes for job in outcome.then]
        followers = [followers[place] for place in firsts([job for _, job in followers])]
        ordered = in_order([job for _, job in followers])
        values |= columns_of([followers[place][1] for place in ordered])
        values["leaders"] = Numbers(followers[place][0] for place in ordered)  # type: ignore[misc]
        values["queues"] = queues_of([job for _, job in followers])
    return Step(text, values)


def apply_by_operator(connection: Connection, sql: Sql, job_id: bytes, change: Change, now: int | None) -> Row | None:
    """Apply a change to a job whoever holds it; the row after it, None: no such job, or not from its state."""
    # A job that stood in line may have stood before others of its key.
    steps = [_apply_by_operator(sql, change, job_id, now), *admission.let_in_after(sql, job_id)]
    try:
        rows = connection.run(steps)[0]
    except UniqueKeyError as error:
        duplicate = _duplicate(connection, sql, job_id)
        if duplicate is None:
            # Whoever held the key has ended since.
            rows = connection.run(steps)[0]
        else:
            raise duplicate from error
    if rows and (change.error is not None or change.lines):
        # The change is stored: sealed since then, the store tells whoever writes next.
        with contextlib.suppress(StoreMovedError):
            _trim(connection, sql, job_id)
    return rows[0] if rows else None


def _duplicate(connection: Connection, sql: Sql, job_id: bytes) -> DuplicateJobError | None:
    keys = Texts(row.unique_key for row in lookup.get_jobs(connection, sql, [job_id]))
    holders = connection.execute(sql["find_unique_keys"], {"keys": keys})
    if not holders:
        return None
    existing = UUID(bytes=holders[0][1])
    return DuplicateJobError(UUID(bytes=job_id), existing, "a living job holds its unique key")


def _trim(connection: Connection, sql: Sql, job_id: bytes) -> None:
    refs = Numbers(n for (n,) in connection.execute(sql["find_refs"], {"ids": Ids([job_id])}))
    connection.run(
        [
            Step(sql["trim_attempts"], {"refs": refs, "keep": LAST_ATTEMPTS}),
            Step(sql["trim_lines"], {"refs": refs, "keep": LAST_LINES, "characters": LINES_TEXT}),
        ]
    )


def unpark(connection: Connection, sql: Sql, names: Sequence[str], now: int | None) -> int:
    """Put jobs parked under these names back in line; how many."""
    known = Texts(name for name in names if lookup.can_be_stored(name))
    number: int = connection.execute(sql["unpark"], {"now": now, "names": known})[0][0]
    return number


def release_dependents(connection: Connection, sql: Sql, those: Sequence[Dependent], now: int | None) -> int:
    """Put those of these jobs that wait as they were read in line, or among the delayed ones; how many."""
    seen = {"ids": Ids(one.id for one in those), "versions": Numbers(one.version for one in those)}
    number: int = connection.execute(sql["release_dependents"], {"now": now, **seen})[0][0]
    return number


def _apply_by_operator(sql: Sql, change: Change, job_id: bytes, now: int | None) -> Step:
    """The step that applies an operator's change; it answers with the job after it."""
    form = form_of(change)
    text = _operator_text(sql["apply_by_operator"], tuple(_further(sql, form, "add_lines_by_operator")), form)
    values: dict[str, object] = {"now": now, "id": Id(job_id)}
    if form.has_version:
        values["version"] = change.version
    for name, kind in form.fields:
        if kind != _NOW:
            values[f"new_{name}"] = _scalar(name, _plain(change.sets[name]))
    if form.has_error:
        values |= {"try_number": change.attempt, "try_error": change.error}
    if form.has_lines:
        values["line_ago"] = Numbers(ago for ago, _ in change.lines)
        values["line_texts"] = Texts(line for _, line in change.lines)
    return Step(text, values)


def _kind(value: object) -> str:
    return _NOW if isinstance(value, Now) else _AFTER if isinstance(value, After) else _VALUE


def _plain(value: object) -> object:
    if isinstance(value, After):
        return value.delay
    # The driver would send the name of a member.
    return str(value) if isinstance(value, str) else value


def _scalar(name: str, value: object) -> object:
    return Id(value) if name in IDS and isinstance(value, bytes) else value


def _further(sql: Sql, form: Form, lines: str) -> list[str]:
    parts = (("add_attempts", form.has_error), (lines, form.has_lines))
    texts = [sql[name] for name, wanted in parts if wanted]
    return [*texts, storing(sql, "add_followers", once=form.has_once)] if form.has_followers else texts


@lru_cache(maxsize=256)
def _apply_text(template: str, further: tuple[str, ...], form: Form) -> str:
    columns = [("refs", "n"), ("tokens", "token")]
    columns += [(f"new_{name}", f"new_{name}") for name, kind in form.fields if kind != _NOW]
    if form.has_version:
        columns.append(("versions", "version"))
    if form.has_error:
        columns += [("try_numbers", "try_number"), ("try_errors", "try_error")]
    places = ", ".join(f"%({place})s" for place, _ in columns)
    names = ", ".join(name for _, name in columns)
    returned = ", given.try_number, given.try_error" if form.has_error else ""
    return (
        template.replace("{assignments}", _assignments(form, "given.new_{name}"))
        .replace("{guard}", _guard(form, "given.version"))
        .replace("{given}", f"{places}) as given ({names}")
        .replace("{returned}", returned)
        .replace("{further}", " ".join(further))
    )


@lru_cache(maxsize=256)
def _operator_text(template: str, further: tuple[str, ...], form: Form) -> str:
    returned = ", %(try_number)s::bigint as try_number, %(try_error)s::text as try_error" if form.has_error else ""
    return (
        template.replace("{assignments}", _assignments(form, "%(new_{name})s::{type}"))
        .replace("{guard}", _guard(form, "%(version)s::bigint"))
        .replace("{returned}", returned)
        .replace("{further}", " ".join(further))
    )


def _assignments(form: Form, place: str) -> str:
    parts = [f"state = {form.target.value!r}"]
    for name, kind in form.fields:
        type_ = "bigint" if name in NUMBERS else "uuid" if name in IDS else "text"
        new = place.replace("{name}", name).replace("{type}", type_)
        parts.append(f"{name} = " + {_NOW: "moment.now", _AFTER: f"moment.now + {new}", _VALUE: new}[kind])
    if form.target in ENDED and all(name != "expires_at" for name, _ in form.fields):
        parts.append("expires_at = moment.now + job.keep")
    if form.takes:
        parts.append("claim_token = job.claim_token + 1")
    parts.append("version = job.version + 1")
    return ", ".join(parts)


def _guard(form: Form, version: str) -> str:
    parts = [f"job.state in ({', '.join(repr(state.value) for state in sorted(form.sources))})"]
    if form.lapsed:
        parts.append("job.lease_until <= moment.now")
    if form.has_version:
        parts.append(f"job.version = {version}")
    return " and ".join(parts)
