"""What a job brought along and returned, as it may be shown: without what nobody is to see."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobcard.dashboard.asking import Ask
from jobcard.dashboard.formats import HIDDEN, redacted
from jobcard.dashboard.plain import to_plain
from jobcard.errors import JobcardError

if TYPE_CHECKING:
    from jobcard.core.job import JobRow

UNREADABLE = "(cannot be read)"


def value_of(text: str | None, ask: Ask) -> Any:
    """A stored value in JSON's own types, without what is hidden from everybody."""
    if text is None:
        return None
    try:
        value = ask.reading.parts.codec.loads(text)
    except JobcardError:
        # Not its text instead: what is to be hidden could not be found in there.
        return UNREADABLE
    return redacted(to_plain(value), ask.options.hide)


def arguments_of(row: JobRow, ask: Ask) -> dict[str, Any]:
    """What the job is called with. Where the code is known here, a name also hides what stands in its place."""
    definition = ask.app.registry.find(row.name)
    hide = ask.options.hide
    init = value_of(row.init, ask)
    if definition is not None and isinstance(init, Mapping):
        init = {**init, "args": by_place(init.get("args"), definition.init_parameters, hide)}
    args = by_place(value_of(row.args, ask), () if definition is None else definition.parameters, hide)
    return {"init": init, "args": args, "kwargs": value_of(row.kwargs, ask)}


def by_place(args: Any, names: Sequence[str], hide: Collection[str]) -> Any:
    """Arguments by place, those hidden that are called so."""
    if not isinstance(args, list):
        return args
    hidden = {place for place, name in enumerate(names) if name.lower() in hide}
    return [HIDDEN if place in hidden else value for place, value in enumerate(args)]


def says(row: JobRow, written: Sequence[str], ask: Ask) -> bool:
    """Whether the arguments of a job say one of these; of what is hidden from everybody nobody learns a word so."""
    stored = (row.init or "", row.args, row.kwargs)
    if not any(each in part for part in stored for each in written):
        return False
    shown = [json.dumps(value, separators=(",", ":")) for value in arguments_of(row, ask).values()]
    return any(each in part for part in shown for each in written)
