"""The overview: one view for each block, so that each is refreshed at its own pace."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from jobcard.client.browsing import count
from jobcard.client.lookup import Counts, Line
from jobcard.client.recent import failures_by_kind, times_by_queue
from jobcard.core.states import ALIVE, AT_WORK, ENDED, JobState
from jobcard.dashboard.asking import Ask
from jobcard.dashboard.fields import Choice
from jobcard.dashboard.views.schedules import due_next
from jobcard.dashboard.views.values import reason_of

SPANS = ("12m", "12h", "12d")
SPAN = Choice("span", SPANS, "12m")
COUNTED = 10_000
"""Jobs of a queue and state are counted so far: beyond, nobody reads the digits, and each costs."""
RECENT = timedelta(hours=24)
TIMED = timedelta(hours=1)
CHART_KEPT = {"12m": 60.0, "12h": 3600.0, "12d": 3600.0}
"""Seconds that the closed slices of a chart are shown without being counted again."""
_MOST_FAILURES = 10
_MOST_ROWS = 50


def overview(ask: Ask) -> Mapping[str, Any]:
    """All of them; what two of them tell is asked for once."""
    line, alive = _line(ask), _alive(ask)
    blocks: dict[str, Any] = {**counts(ask, line, alive), **queues(ask, line, alive)}
    for block in (chart, engines, schedules, failures):
        blocks |= block(ask)
    return blocks


def _line(ask: Ask) -> Line:
    return ask.reading.parts.lookup.line(limit=COUNTED)


def _alive(ask: Ask) -> dict[str, Counts]:
    return ask.reading.parts.lookup.count_each(dict.fromkeys(ALIVE, COUNTED))


def counts(ask: Ask, line: Line | None = None, alive: Mapping[str, Counts] | None = None) -> Mapping[str, Any]:
    """How many jobs are in each state, how many are delayed, and how long the first of the line has been due."""
    line = line or _line(ask)
    states = JobState if alive is None else ENDED
    found: dict[str, int] = {**count(ask.reading.parts, {"state": sorted(states)}, limit=COUNTED).counts}
    if alive is not None:
        found |= {state: sum(of_queue[state] for of_queue in alive.values()) for state in ALIVE}
    return {
        "counts": {state.value: found[state] for state in JobState},
        "counted": COUNTED,
        "delayed": line.delayed,
        "oldest_waiting": line.oldest_waiting,
    }


def chart(ask: Ask) -> Mapping[str, Any]:
    """What ended, and how, by minute, hour or day."""
    span, lookup = ask["span"], ask.reading.parts.lookup
    ended = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELED)
    # What has ended ended: of a chart only the open slice is counted again, but for what is deleted meanwhile.
    known = ask.shared.get(("chart", span), lambda: lookup.chart(span, states=ended), seconds=CHART_KEPT[span])
    buckets = lookup.chart(span, states=ended, known=known).buckets
    return {
        "span": span,
        "spans": SPANS,
        "buckets": [{"at": bucket.at, **{state.value: bucket.counts[state] for state in ended}} for bucket in buckets],
    }


def queues(ask: Ask, line: Line | None = None, alive: Mapping[str, Counts] | None = None) -> Mapping[str, Any]:
    """Each queue with what waits and is at work in it, what it may do, and how long its jobs wait and run."""
    counted = _alive(ask) if alive is None else alive
    line = line or _line(ask)
    timed = times_by_queue(ask.reading.parts, TIMED)
    found = []
    for queue in ask.reading.queues.list("-priority"):
        of_it = counted.get(queue.name, Counts())
        times = timed.get(queue.name)
        found.append(
            {
                "name": queue.name,
                "waiting": of_it.get(JobState.WAITING, 0),
                "oldest_waiting": line.by_queue.get(queue.name),
                "at_work": sum(of_it.get(state, 0) for state in AT_WORK),
                "concurrency": queue.concurrency,
                "global_concurrency": queue.global_concurrency,
                "priority": queue.priority,
                "paused": queue.paused,
                "paused_by": queue.paused_by,
                "paused_since": queue.paused_since,
                "wait_p50": None if times is None else times.wait_p50,
                "wait_p95": None if times is None else times.wait_p95,
                "run_p50": None if times is None else times.run_p50,
                "run_p95": None if times is None else times.run_p95,
            }
        )
    return {"queues": found[:_MOST_ROWS], "queues_in_all": len(found), "counted": COUNTED}


def engines(ask: Ask) -> Mapping[str, Any]:
    """The engines that are alive, and what their workers run at this moment."""
    found = ask.reading.engines.list()
    return {"engines": found[:_MOST_ROWS], "engines_in_all": len(found)}


def schedules(ask: Ask) -> Mapping[str, Any]:
    """The schedules that are due next."""
    return due_next(ask, most=_MOST_ROWS)


def failures(ask: Ask) -> Mapping[str, Any]:
    """What failed lately, alike failures together."""
    found = failures_by_kind(ask.reading.parts, RECENT, partial(reason_of, ask=ask))
    return {"failures": found[:_MOST_FAILURES], "failure_kinds": len(found), "recent": RECENT}
