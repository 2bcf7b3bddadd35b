"""Which jobs a page is about: the words of its query, and what they are to the client."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobcard.core.states import JobState
from jobcard.dashboard.asking import Ask
from jobcard.dashboard.fields import Choice, Moment, Text, Whole
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.views.values import says

if TYPE_CHECKING:
    from jobcard.core.job import JobRow

MOST_ROWS = 200
MOST_BACK = 60
"""Pages that a query remembers the way back through: each takes 38 characters of the address."""


@dataclass(frozen=True, slots=True)
class Id:
    """The id of a job, with or without dashes; its value is a `UUID`."""

    name: str
    many: bool = False
    default: Any = None

    def read(self, text: str) -> UUID:
        """The id."""
        if len(text) in (32, 36) and text.isascii():
            try:
                return UUID(text)
            except ValueError:
                pass
        raise ValueError("must be the id of a job")

    def schema(self) -> dict[str, Any]:
        """It in JSON Schema's words."""
        return {"type": "string", "format": "uuid"}


FILTERS = (
    Choice("state", tuple(state.value for state in JobState), many=True),
    Text("queue", many=True),
    Text("name", many=True),
    Text("tag", many=True),
    Text("error_kind", most=500),
    Text("schedule"),
    Id("batch"),
    Moment("after"),
    Moment("before"),
    Text("search"),
    Text("args"),
)
"""What jobs are chosen by; all that is given must hold."""
CURSOR = Id("cursor")
BACK = Id("back", many=True)
LIMIT = Whole("limit", 50, 1, MOST_ROWS)
QUERY = (*FILTERS, Id("id", many=True), LIMIT, CURSOR, BACK)


def filters_of(ask: Ask) -> dict[str, Any]:
    """The filters that were given, as a link says them."""
    return {field.name: ask[field.name] for field in FILTERS if ask[field.name] not in (None, ())}


def where(ask: Ask) -> dict[str, Any]:
    """The filters that a store can choose by, as the client says them."""
    if ask["after"] is not None and ask["before"] is not None and ask["after"] >= ask["before"]:
        raise Refused(400, "after must be earlier than before.")
    given = {
        "state": ask["state"],
        "queue": ask["queue"],
        "name": ask["name"],
        "tags": ask["tag"],
        "error_kind": ask["error_kind"],
        "batch": ask["batch"],
        "after": ask["after"],
        "before": ask["before"],
        "search": ask["search"],
    }
    return {name: value for name, value in given.items() if value not in (None, ())}


def also(ask: Ask) -> Callable[[JobRow], bool] | None:
    """What no store chooses by, to be looked for among what the others leave; `Refused` for who may not look there."""
    text, schedule = ask["args"], ask["schedule"]
    if text is not None and not ask.sees_arguments:
        raise Refused(403, f"Arguments are for the role {ask.options.show_arguments_to}.")
    if text is None and schedule is None:
        return None
    # As it is typed, or as JSON writes it: arguments are stored in ASCII.
    written = () if text is None else (text, json.dumps(text)[1:-1])

    def fits(row: JobRow) -> bool:
        return (schedule is None or row.schedule_id == schedule) and (text is None or says(row, written, ask))

    return fits


def links(filters: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The query of a link that keeps the filters."""
    return {**filters, **{name: value for name, value in more.items() if value not in (None, ())}}
