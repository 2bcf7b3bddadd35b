"""Running a job's call once more with other arguments: a new job, for what was asked for with a job never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.backends.base import Fate
from jobcard.client.options import make_template
from jobcard.core.job import JobRow, NewJob
from jobcard.errors import DuplicateJobError, InvalidJobError

if TYPE_CHECKING:
    from jobcard.client.parts import Parts
    from jobcard.core.definition import JobDefinition

Call = tuple[tuple[Any, ...], dict[str, Any]]

EDITED_FROM = "edited_from"
"""In the new job's `meta`: the id of the job whose arguments somebody changed."""


def enqueue_again(
    parts: Parts, row: JobRow, args: Sequence[Any], kwargs: Mapping[str, Any], definition: JobDefinition | None = None
) -> UUID:
    """Store the call of this job with these arguments, due now; the id of the new job.

    It keeps queue, priority, limits, tags and keys; a key that the declaration made of the old arguments it makes of
    the new ones. `DuplicateJobError` while another job has its unique key. definition: what the application's code says
    of the job, if it is known here; `InvalidJobError` when the arguments do not fit it, or cannot be stored.
    """
    if definition is not None:
        definition.check_call(tuple(args), dict(kwargs))
    codec = parts.codec
    texts = codec.dump_call(args, dict(kwargs))
    meta = dict(codec.loads(row.meta) or {}) if row.meta else {}
    new = NewJob(
        id=parts.connection.take_ids(1)[0],
        queue=row.queue,
        name=row.name,
        init=row.init,
        args=texts[0],
        kwargs=texts[1],
        priority=row.priority,
        rank=row.rank,
        order_offset=row.order_offset,
        delay=0,
        at=None,
        max_attempts=row.max_attempts,
        max_crashes=row.max_crashes,
        backoff=row.backoff,
        timeout=row.timeout,
        keep=row.keep,
        unique_key=row.unique_key,
        once_key=None,
        once_until=None,
        replaces=False,
        limit_key=row.limit_key,
        key_limit=row.key_limit,
        rate_count=row.rate_count,
        rate_per=row.rate_per,
        batch_id=None,
        parent_id=None,
        schedule_id=None,
        tags=row.tags,
        waits_for=None,
        meta=codec.dumps({**meta, EDITED_FROM: str(UUID(bytes=row.id))}, what="meta"),
    )
    if definition is not None:
        new = _with_keys_of(parts, new, row, definition, (tuple(args), dict(kwargs)))
    [answer] = parts.producer.send([new])
    if answer.fate is Fate.KEY_TAKEN:
        why = "has a unique key, which another job has taken"
        raise DuplicateJobError(UUID(bytes=new.id), UUID(bytes=answer.existing), why)
    return UUID(bytes=new.id)


def _with_keys_of(parts: Parts, new: NewJob, row: JobRow, definition: JobDefinition, call: Call) -> NewJob:
    template = make_template(row.name, definition.options, row.init, {}, {})
    bare = new._replace(unique_key=None, limit_key=None)
    try:
        args, kwargs = parts.codec.load_call(row.args, row.kwargs)
        before = parts.keys.give(bare, definition, template, tuple(args), kwargs)
    except InvalidJobError:
        return new  # code that does not know such arguments did not make its keys either
    after = parts.keys.give(bare, definition, template, *call)
    return new._replace(
        unique_key=after.unique_key if row.unique_key == before.unique_key else row.unique_key,
        limit_key=after.limit_key if row.limit_key == before.limit_key else row.limit_key,
    )
