"""Queues: what waits and runs in each, and how fast engines may take from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from jobcard.client.at_work import QueueUse, use_of
from jobcard.client.lookup import Counts
from jobcard.client.recent import times_by_queue
from jobcard.core import clock, limits
from jobcard.core.queue import Queue
from jobcard.core.rates import RateLimit
from jobcard.core.states import JobState
from jobcard.dashboard.asking import Ask, Done
from jobcard.dashboard.fields import UNSAID, Number, OrNone, Whole
from jobcard.dashboard.formats import name_of, word
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.views.overview import COUNTED, TIMED

MOST_QUEUES = 200
DONE_COUNTED = 1_000
COUNTED_OF_EACH = {
    state: DONE_COUNTED if state in (JobState.COMPLETED, JobState.CANCELED) else COUNTED for state in JobState
}
"""How far jobs are counted where every queue is: of what is done most queues have thousands, and each costs."""
_WINDOW = (limits.RATE_WINDOW[0] / clock.SECOND, limits.RATE_WINDOW[1] / clock.SECOND)

LIMITS = (
    Whole("concurrency", None, 1, limits.MAX_CONCURRENCY),
    OrNone(Whole("global_concurrency", None, 1, limits.MAX_CONCURRENCY)),
    OrNone(Whole("rate_count", None, 1, limits.MAX_RATE)),
    OrNone(Number("rate_per", None, *_WINDOW)),
    Whole("priority", None, limits.MIN_PRIORITY, limits.MAX_PRIORITY),
    Whole("weight", None, 1, limits.MAX_WEIGHT),
    OrNone(Number("ageing", None, 0.001, clock.DAY / clock.SECOND)),
)
"""What may be changed of a queue while engines run; what is not given stays, what is empty or null has no limit."""


def queues(ask: Ask) -> Mapping[str, Any]:
    """Every queue, with its jobs by state and how far its limits are used."""
    stored = ask.reading.queues.list("-priority")
    counted = ask.reading.parts.lookup.count_each(COUNTED_OF_EACH)
    shown = stored[:MOST_QUEUES]
    used = use_of(ask.reading.parts, shown)
    # Names that somebody wrote by hand, and records that cannot be read.
    unreadable = sorted(counted.keys() - {queue.name for queue in stored})
    return {
        "queues": [_told(queue, counted.get(queue.name, Counts()), used[queue.name]) for queue in shown],
        "queues_in_all": len(stored),
        "unreadable": unreadable[:MOST_QUEUES],
        "counted": COUNTED_OF_EACH,
    }


def queue(ask: Ask) -> Mapping[str, Any]:
    """One queue."""
    found = ask.reading.queues.get(name_of(ask["name"]))
    counts = ask.reading.count(limit=COUNTED, queue=found.name)
    times = times_by_queue(ask.reading.parts, TIMED).get(found.name)
    return {
        "queue": {
            **_told(found, counts, use_of(ask.reading.parts, [found])[found.name]),
            "wait_p50": None if times is None else times.wait_p50,
            "wait_p95": None if times is None else times.wait_p95,
            "run_p50": None if times is None else times.run_p50,
            "run_p95": None if times is None else times.run_p95,
        },
        "counted": dict.fromkeys(JobState, COUNTED),
        "bounds": {field.name: {"least": field.least, "most": field.most} for field in LIMITS},
    }


def pause(ask: Ask) -> Done:
    """Let engines take nothing more from it."""
    paused = ask.jobs.queues.pause(name_of(ask["name"]), by=ask.visitor.name)
    return Done(_page(paused), f"The queue {paused.name} is paused. What runs goes on.", {"paused": True})


def resume(ask: Ask) -> Done:
    """Let engines take from it again."""
    resumed = ask.jobs.queues.resume(name_of(ask["name"]))
    return Done(_page(resumed), f"Engines take from the queue {resumed.name} again.", {"paused": False})


def change(ask: Ask) -> Done:
    """Change its limits; running engines keep to them within two seconds."""
    before = ask.jobs.queues.get(name_of(ask["name"]))
    changes: dict[str, Any] = {
        name: ask[name] for name in ("concurrency", "priority", "weight") if ask[name] is not None
    }
    changes |= {name: ask[name] for name in ("global_concurrency", "ageing") if ask[name] is not UNSAID}
    changes |= _rate(before.rate, ask["rate_count"], ask["rate_per"])
    wanted = {name: value for name, value in changes.items() if getattr(before, name) != value}
    if not wanted:
        return Done(_page(before), "That is what it was; nothing is changed.", {"changed": {}})
    after = ask.jobs.queues.update(before.name, **wanted)
    told = "; ".join(f"{name} {_as_text(getattr(before, name))} → {_as_text(getattr(after, name))}" for name in wanted)
    return Done(
        _page(after), f"Changed {after.name}: {told}.", {"changed": {name: getattr(after, name) for name in wanted}}
    )


def _rate(before: RateLimit | None, count: Any, per: Any) -> dict[str, RateLimit | None]:
    """The rate as two fields say it: half of one is none."""
    if count is UNSAID and per is UNSAID:
        return {}
    if count is UNSAID:
        count = None if before is None or per is None else before.count
    if per is UNSAID:
        per = None if before is None or count is None else before.per
    if (count is None) != (per is None):
        raise Refused(400, "A rate needs rate_count and rate_per; without a rate, leave both empty.")
    return {"rate": None if count is None else RateLimit(count, per)}


def _as_text(value: object) -> str:
    if isinstance(value, RateLimit):
        return f"{value.count:,} in {value.per:g} s"
    return "none" if value is None else f"{value:,}"


def _told(queue: Queue, counts: Counts, use: QueueUse) -> dict[str, Any]:
    return {
        "name": queue.name,
        "counts": {state.value: counts[state] for state in JobState},
        "at_work": use.at_work,
        "concurrency": queue.concurrency,
        "global_concurrency": queue.global_concurrency,
        "rate_count": None if queue.rate is None else queue.rate.count,
        "rate_per": None if queue.rate is None else queue.rate.per,
        "rate_started": use.started,
        "rate_full_until": use.full_until,
        "priority": queue.priority,
        "weight": queue.weight,
        "ageing": queue.ageing,
        "paused": queue.paused,
        "paused_by": queue.paused_by,
        "paused_since": queue.paused_since,
    }


def _page(queue: Queue) -> str:
    return f"/queues/{quote(word(queue.name), safe='')}"
