"""The same move for many jobs: first what it will touch, then what came of it.

The preview names every job, and only those are touched: what came since, or fits the filter by then, is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from jobcard.client.browsing import browse, named
from jobcard.client.moves import EACH, Moved
from jobcard.core.states import ALLOWED, JobState, in_order
from jobcard.dashboard.asking import Ask, Done
from jobcard.dashboard.fields import Choice
from jobcard.dashboard.plain import to_plain
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.views.choosing import CURSOR, FILTERS, Id, also, filters_of, where
from jobcard.dashboard.views.glances import glance_at

AT_ONCE = 500
"""Jobs of one preview."""
SECONDS = 5.0
"""So long one move of many may take; the rest is left, and said to be."""
_SHOWN = 50
_DONE = {"retry": "retried", "cancel": "canceled, or told to stop", "delete": "deleted"}
# As the client's `retry_many`: canceled jobs are run again only by who says so.
_MEANT = {**ALLOWED, "retry": (JobState.FAILED,)}

_IDS = Id("id", many=True)
PREVIEW = (Choice("verb", EACH, "retry"), _IDS, *FILTERS, CURSOR)
MOVE = (Choice("verb", ("retry", "cancel"), "retry"), _IDS, *FILTERS, CURSOR)
DELETE = (Choice("verb", ("delete",), "delete"), _IDS, *FILTERS, CURSOR)


def preview(ask: Ask) -> Mapping[str, Any]:
    """The jobs that a move will touch: those named, or the newest that fit the filters."""
    verb, chosen, filters = ask["verb"], dict.fromkeys(ask["id"]), filters_of(ask)
    if chosen:
        found = named(ask.reading.parts, chosen)
        next_cursor, is_cut, absent = None, False, len(chosen) - len(found)
        filters = {}
    else:
        states = [state for state in ask["state"] or _MEANT[verb] if state in ALLOWED[verb]]
        if not states:
            raise Refused(400, f"Nobody can {verb} jobs that are {' or '.join(ask['state'])}.")
        cursor = ask["cursor"]
        page = browse(
            ask.reading.parts,
            {**where(ask), "state": states},
            limit=AT_ONCE,
            cursor=None if cursor is None else cursor.hex,
            also=also(ask),
            # Who asks what a move will touch would rather wait than ask again.
            least=AT_ONCE,
        )
        found, next_cursor, is_cut, absent = list(page.rows), page.next_cursor, page.is_cut, 0
    touched = [job for job in found if job.state in ALLOWED[verb]]
    return {
        "verb": verb,
        "jobs": [glance_at(job, ask) for job in touched[:_SHOWN]],
        "ids": [UUID(bytes=job.id) for job in touched],
        "by_state": {state.value: sum(job.state == state for job in touched) for state in in_order(ALLOWED[verb])},
        "by_name": _by_name([job.name for job in touched]),
        "left_out": len(found) - len(touched),
        "absent": absent,
        "filters": filters,
        "next_cursor": next_cursor,
        "is_cut": is_cut,
    }


def _by_name(names: list[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda each: (-each[1], each[0]))[:10])


def move(ask: Ask) -> Done:
    """Do it to the jobs named, each by itself; what came of it."""
    chosen = tuple(dict.fromkeys(ask["id"]))
    if not chosen:
        raise Refused(400, "Which jobs? Name some by id.")
    verb, filters = ask["verb"], filters_of(ask)
    moved = ask.jobs.parts.moves.each(verb, chosen, seconds=SECONDS)
    cursor = ask["cursor"]
    going = {**filters, "verb": verb, "cursor": cursor} if cursor is not None and not moved.left else filters
    path = "/jobs/bulk" if "verb" in going else "/jobs"
    query = urlencode(to_plain(going), doseq=True)
    return Done(
        see=path + (f"?{query}" if query else ""), text=in_words(verb, moved), data={"verb": verb, **to_plain(moved)}
    )


def in_words(verb: str, moved: Moved) -> str:
    """What came of a move of many jobs: 412 of 500 retried, 88 had changed."""
    parts = [f"{moved.moved:,} of {moved.asked:,} {_DONE[verb]}"]
    if moved.changed:
        parts.append(f"{moved.changed:,} had changed")
    if moved.taken:
        parts.append(f"{moved.taken:,} have a unique key that another job has taken")
    if moved.unreadable:
        parts.append(f"{moved.unreadable:,} cannot be read")
    if moved.left:
        parts.append(f"{moved.left:,} are left, for it took too long")
    return ", ".join(parts)
