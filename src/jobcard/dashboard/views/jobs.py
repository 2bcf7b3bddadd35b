"""The list of jobs: newest first, a page at a time, by whatever they are chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from jobcard.client.browsing import Found, browse, named
from jobcard.client.browsing import count as count_jobs
from jobcard.core.states import JobState
from jobcard.dashboard.asking import Ask
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.views.choosing import LIMIT, MOST_BACK, also, filters_of, links, where
from jobcard.dashboard.views.glances import glance_at
from jobcard.dashboard.views.overview import COUNTED

VERBS = ("retry", "cancel", "delete")
CHEAP = frozenset({"state", "queue", "batch"})
"""Counting by these goes along an index; by anything else it looks at every job."""
_UNCOUNTED = {"counts": None, "counted": COUNTED, "counted_among": None, "counted_back_to": None}
_SPANS = {"last hour": timedelta(hours=1), "last day": timedelta(days=1), "last week": timedelta(days=7)}


def jobs(ask: Ask) -> Mapping[str, Any]:
    """A page of jobs, what they were chosen by, and how many there are, if that is quickly said."""
    found = dict(rows(ask))
    is_cheap = found["filters"].keys() <= CHEAP and not ask["id"]
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return {
        **found,
        **(count(ask) if is_cheap else _UNCOUNTED),
        "since": {name: now - span for name, span in _SPANS.items()},
    }


def rows(ask: Ask) -> Mapping[str, Any]:
    """The page alone."""
    filters, cursor, back = filters_of(ask), ask["cursor"], ask["back"]
    if ask["id"]:
        if filters or cursor is not None:
            raise Refused(400, "id names jobs by itself: give it alone, or other filters.")
        some = named(ask.reading.parts, ask["id"][: ask["limit"]])
        found = Found(rows=some, next_cursor=None, is_cut=False, looked=len(some), back_to=None)
    else:
        found = browse(
            ask.reading.parts,
            where(ask),
            limit=ask["limit"],
            cursor=None if cursor is None else cursor.hex,
            also=also(ask),
        )
    here = {**filters, "id": tuple(each.hex for each in ask["id"])}
    if ask["limit"] != LIMIT.default:
        here["limit"] = ask["limit"]
    way = tuple(each.hex for each in back)
    this = () if cursor is None else (cursor.hex,)
    return {
        "jobs": [glance_at(row, ask) for row in found.rows],
        "next_cursor": found.next_cursor,
        "is_cut": found.is_cut,
        "looked": found.looked,
        "back_to": found.back_to,
        "filters": filters,
        "verbs": VERBS,
        # The ways on and back, as queries: whoever goes back sees what was there, and not what has come since.
        "here": links(here, cursor=this, back=way),
        "older": links(here, cursor=found.next_cursor, back=(*way, *this)[-MOST_BACK:]) if found.next_cursor else None,
        "newer": links(here, cursor=way[-1:], back=way[:-1]) if this else None,
    }


def count(ask: Ask) -> Mapping[str, Any]:
    """How many there are, by state; only of what a store can choose by. What none finds at once is looked for."""
    if ask["args"] is not None or ask["schedule"] is not None or ask["id"]:
        raise Refused(400, "Jobs are not counted by their arguments, their schedule or their ids.")
    found = count_jobs(ask.reading.parts, where(ask), limit=COUNTED)
    return {
        "counts": {state.value: found.counts[state] for state in JobState},
        "counted": COUNTED,
        "counted_among": found.looked if found.is_cut else None,
        "counted_back_to": found.back_to if found.is_cut else None,
    }
