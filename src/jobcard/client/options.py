"""What one enqueue can say about its job, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast
from uuid import UUID

from jobcard.core import ids, limits
from jobcard.core.codec import Codec
from jobcard.core.definition import JobOptions, check_keep, check_tags, check_timeout, check_unique
from jobcard.core.dependencies import from_text
from jobcard.core.settings import check_names
from jobcard.core.unique import Unique
from jobcard.errors import InvalidJobError, JobNotFoundError

if TYPE_CHECKING:
    from jobcard.client.after import After
    from jobcard.client.batches import Batch


class EnqueueOptions(TypedDict, total=False):
    """What `job.options(…)` and `jobs.enqueue(name, …)` take; what is left out is as the job was declared.

    delay, timeout, keep: seconds or a timedelta. at: an aware datetime, instead of delay.
    id: a UUID or its text; enqueuing the same id again never makes a second job.
    unique: whether another job makes this one superfluous; None and False: none does.
    after: jobs (handles or ids) and batches that it waits for until they have completed, or, as `Ended(h)`, have just
    ended; it is canceled when one will never complete. Hooks find them as `Dependency`s.
    batch: a batch, or the id of one, that it shall belong to.
    meta: a small dict that travels with the job.
    within: a connection, session or transaction that the job becomes part of: it exists if and only if that commits,
    which is left to the caller. None and False: no transaction; none is found by itself yet.
    """

    queue: str
    priority: int
    delay: float | timedelta | None
    at: datetime | None
    timeout: float | timedelta | None
    max_attempts: int
    id: UUID | str | None
    tags: Iterable[str]
    keep: float | timedelta | None
    unique: Unique | bool | None
    after: After | None
    batch: Batch | UUID | str | None
    meta: Mapping[str, Any] | None
    within: object | None


_NAMES = frozenset(EnqueueOptions.__annotations__)
_codec = Codec()  # for tags and meta, which are plain JSON whatever types an application taught


def check_enqueue_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in the form they are stored in; `InvalidJobError` when one is out of bounds."""
    check_names(dict(given), set(_NAMES), "options")
    checked: dict[str, Any] = {}
    for name, value in given.items():
        # For these None means "not given"; for timeout and keep it means "none".
        if value is not None or name not in ("delay", "at", "id", "meta", "after", "batch"):
            checked[name] = _CHECKS[name](value)
    if "delay" in checked and "at" in checked:
        raise InvalidJobError("a job is due after a delay or at an instant: give delay or at, not both")
    return checked


def to_say_again(said: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were really given, as they were said."""
    return {name: value for name, value in said.items() if name in checked}


def _check_id(value: object) -> bytes:
    try:
        return ids.parse_id(value)
    except JobNotFoundError:
        raise InvalidJobError(f"id must be a UUID or its text, not {_shown(value)}") from None


def _shown(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__


def _check_meta(value: object) -> str:
    if not isinstance(value, dict):
        raise InvalidJobError(f"meta must be a dict, not {type(value).__name__}")
    return _codec.dumps(value, what="meta", limit=limits.MAX_ERROR_TEXT)


# Imported when they are used: most enqueues wait for nobody.


def _check_after(value: object) -> str | None:
    from jobcard.client.after import check_after

    return check_after(value)


def _check_batch(value: object) -> bytes | None:
    from jobcard.client.batches import check_batch

    return check_batch(value)


_CHECKS: Mapping[str, Any] = {
    "queue": lambda value: limits.check_name(value, "queue"),
    "priority": lambda value: limits.check_whole(value, "priority", limits.MIN_PRIORITY, limits.MAX_PRIORITY),
    "delay": limits.check_delay,
    "at": limits.check_instant,
    "timeout": lambda value: check_timeout(value, error=InvalidJobError),
    "max_attempts": lambda value: limits.check_whole(value, "max_attempts", 1, limits.MAX_ATTEMPTS),
    "id": _check_id,
    "tags": lambda value: check_tags(value, error=InvalidJobError),
    "keep": lambda value: check_keep(value, error=InvalidJobError),
    "unique": lambda value: check_unique(value, error=InvalidJobError),
    "after": _check_after,
    "batch": _check_batch,
    "meta": _check_meta,
    # What it is, its store finds out.
    "within": lambda value: None if value is False else value,
}


class Template(NamedTuple):
    """The fields of `NewJob` that all jobs of one kind share: before and behind the call itself.

    id: the one the caller gave, which makes them one job.
    """

    head: tuple[str, str, str | None]
    tail: tuple[Any, ...]
    id: bytes | None
    declared: JobOptions
    said: Mapping[str, Any]
    """The options of the enqueue as they were said, for hooks to read and change."""
    unique: Unique | None
    has_keys: bool
    """Whether something is made of the arguments that goes with the job: see `keys`."""
    within: object | None
    """What holds the transaction that the job becomes part of; None: one of the store's own."""


def make_template(
    name: str, declared: JobOptions, init: str | None, given: Mapping[str, Any], said: Mapping[str, Any]
) -> Template:
    """What a job of this name is stored with, by its declaration and the options of the enqueue.

    given: they, checked. said: they, as `to_say_again`. `InvalidJobError` for what cannot be said together.
    """
    get = given.get
    if (after := get("after")) is not None:
        from jobcard.client.after import refuse_circle

        refuse_circle(after, get("id"), get("batch"))
    priority = get("priority", declared.priority)
    tags = get("tags", declared.tags)
    unique = get("unique", declared.unique)
    rate = None if declared.rate is None else declared.rate.rate
    tail = (
        priority,
        -priority,  # rank
        0,  # order_offset
        get("delay", 0),
        get("at"),
        get("max_attempts", declared.max_attempts),
        declared.max_crashes,
        declared.backoff.to_text(),
        get("timeout", declared.timeout),
        get("keep", declared.keep),
        None,  # unique_key
        None,  # once_key
        None,  # once_until
        unique is not None and unique.on_conflict == "replace",
        None,  # limit_key
        declared.key_limit,
        None if rate is None else rate.most,
        None if rate is None else rate.per,
        get("batch"),
        None,  # parent_id
        None,  # schedule_id
        _codec.dumps(list(tags), what="tags") if tags else None,
        get("meta"),
        after,
    )
    head = (get("queue", declared.queue), name, init)
    return Template(
        head, tail, get("id"), declared, said, unique, unique is not None or declared.is_limited, get("within")
    )


def options_of(template: Template) -> EnqueueOptions:
    """The options of the enqueue as they were said, the caller's to change."""
    said = dict(template.said)
    *_rest, tags, meta, after = template.tail
    # From what will be stored: the lists and the dict that were given may have been used up, or changed since.
    if "tags" in said:
        said["tags"] = [] if tags is None else _codec.loads(tags)
    if "meta" in said:
        said["meta"] = _codec.loads(meta)
    if "after" in said:
        said["after"] = list(from_text(after))
    return cast(EnqueueOptions, said)
