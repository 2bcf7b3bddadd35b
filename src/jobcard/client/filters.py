"""Which jobs are meant: what users say, checked and in the store's terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from jobcard.backends.base import Filter
from jobcard.core import limits
from jobcard.core.codec import Codec
from jobcard.core.nearest import nearest
from jobcard.core.settings import check_names
from jobcard.core.states import JobState
from jobcard.errors import ConfigError, InvalidJobError, JobcardError

if TYPE_CHECKING:
    from jobcard.client.batches import Batch


class Filters(TypedDict, total=False):
    """What look-ups take; all that is given must hold. Text is exact: `%` and `*` mean themselves.

    state, queue, name: one or several. tags: all of them. args: the positional arguments.
    after, before: aware datetimes, `after <= created_at < before`. search: text in the name or the id.
    """

    state: str | Iterable[str] | None
    queue: str | Iterable[str] | None
    name: str | Iterable[str] | None
    tags: str | Iterable[str] | None
    args: Sequence[Any] | None
    error_kind: str | None
    batch: Batch | UUID | str | None
    after: datetime | None
    before: datetime | None
    search: str | None


_MAX_SEARCH = 200
_MAX_VALUES = 100


def make_filter(codec: Codec, given: Mapping[str, Any]) -> Filter:
    """The store's filter; `ConfigError` when something given cannot be meant."""
    check_names(dict(given), set(Filters.__annotations__), "a look-up")
    get = given.get
    return Filter(
        states=check_states(get("state")),
        queues=_texts(get("queue"), "queue"),
        names=_texts(get("name"), "name"),
        tags=_texts(get("tags"), "tags"),
        args=_args(codec, get("args")),
        error_kind=_text(get("error_kind"), "error_kind"),
        batch_id=_batch(get("batch")),
        after=_instant(get("after"), "after"),
        before=_instant(get("before"), "before"),
        search=_search(get("search")),
    )


def check_states(value: object) -> tuple[str, ...]:
    """One or several states; () for None."""
    states = _texts(value, "state")
    for state in states:
        if state not in JobState._value2member_map_:
            near = nearest(state, JobState)
            hint = f"; did you mean {str(near)!r}?" if near else ""
            raise ConfigError(f"state must be one of {', '.join(JobState)}{hint}")
    return states


def _texts(value: object, what: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{what} must be text or a list of texts, not {type(value).__name__}")
    if not 0 < len(value) <= _MAX_VALUES:
        raise ConfigError(f"{what}: give 1 to {_MAX_VALUES} of them, or None for any")
    return tuple(str(_text(item, what)) for item in value)


def _text(value: object, what: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be text, not {type(value).__name__}")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigError(f"{what} holds a character that no stored text has")
    return str(value)


def _search(value: object) -> str | None:
    text = _text(value, "search")
    if text is not None and len(text) > _MAX_SEARCH:
        raise ConfigError(f"search: at most {_MAX_SEARCH} characters")
    return text or None


def _args(codec: Codec, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"args must be a list of the positional arguments, not {type(value).__name__}")
    return codec.dump_call(value, {})[0]


def _batch(value: object) -> bytes | None:
    from jobcard.client.batches import check_batch  # which looks up by filters itself

    try:
        return check_batch(value)
    except InvalidJobError:
        raise ConfigError("batch must be a batch, or the id of one") from None


def _instant(value: object, what: str) -> int | None:
    try:
        return None if value is None else limits.check_instant(value, what)
    except JobcardError as error:
        raise ConfigError(str(error)) from None
