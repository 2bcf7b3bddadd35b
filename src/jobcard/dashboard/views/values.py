"""What a job brought along and returned, as it may be shown: without what nobody is to see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobcard.dashboard.asking import Ask
from jobcard.dashboard.formats import HIDDEN, redacted
from jobcard.dashboard.plain import to_plain
from jobcard.errors import JobcardError

if TYPE_CHECKING:
    from jobcard.core.job import JobRow
    from jobcard.core.schedule import Schedule

UNREADABLE = "(cannot be read)"
SHORTEST_MASKED = 4


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


def call_of(schedule: Schedule, ask: Ask) -> dict[str, Any]:
    """What the jobs of a schedule are called with, hidden as it is of a job."""
    definition = ask.app.registry.find(schedule.job)
    hide = ask.options.hide
    args = redacted(to_plain(schedule.args), hide)
    return {
        "args": by_place(args, () if definition is None else definition.parameters, hide),
        "kwargs": redacted(to_plain(schedule.kwargs), hide),
    }


def by_place(args: Any, names: Sequence[str], hide: Collection[str]) -> Any:
    """Arguments by place, those hidden that are called so."""
    if not isinstance(args, list):
        return args
    hidden = {place for place, name in enumerate(names) if name.lower() in hide}
    return [HIDDEN if place in hidden else value for place, value in enumerate(args)]


Mask = Callable[[Any], Any]
"""Text without what is hidden; anything else as it is."""


def mask_of(row: JobRow, ask: Ask) -> Mask:
    """What takes the hidden values of a job out of what it says of itself: errors, log lines, progress, reasons."""
    found: set[str] = set()
    definition = ask.app.registry.find(row.name)
    places = {} if definition is None else {row.args: definition.parameters, row.init: definition.init_parameters}
    for text in filter(None, (row.init, row.args, row.kwargs, row.result, row.checkpoint, row.meta)):
        try:
            value = to_plain(ask.reading.parts.codec.loads(text))
        except JobcardError:
            continue
        _collect(value, ask.options.hide, found)
        args = value.get("args") if text is row.init and isinstance(value, Mapping) else value
        if isinstance(args, list):
            for name, each in zip(places.get(text, ()), args, strict=False):
                _collect({name: each}, ask.options.hide, found)
    # The longest first: one may be part of another.
    words = [re.escape(word) for word in sorted(found, key=len, reverse=True)]
    if not words:
        return lambda text: text
    any_of_them = re.compile("|".join(words))
    return lambda text: any_of_them.sub(HIDDEN, text) if isinstance(text, str) else text


def reason_of(row: JobRow, ask: Ask) -> str | None:
    """Why a job ended, which may repeat what it was given: without what is hidden."""
    return None if row.reason is None else str(mask_of(row, ask)(row.reason))


def _collect(value: Any, hide: Collection[str], found: set[str], *, hidden: bool = False) -> None:
    """The texts below a name that is hidden, but for those so short that they stand in any sentence."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            _collect(each, hide, found, hidden=hidden or str(name).lower() in hide)
    elif isinstance(value, list):
        for each in value:
            _collect(each, hide, found, hidden=hidden)
    elif hidden and type(value) in (str, int, float) and len(str(value)) >= SHORTEST_MASKED:
        found.add(str(value))


def says(row: JobRow, written: Sequence[str], ask: Ask) -> bool:
    """Whether the arguments of a job say one of these; of what is hidden from everybody nobody learns a word so."""
    stored = (row.init or "", row.args, row.kwargs)
    if not any(each in part for part in stored for each in written):
        return False
    shown = [json.dumps(value, separators=(",", ":")) for value in arguments_of(row, ask).values()]
    return any(each in part for part in shown for each in written)
