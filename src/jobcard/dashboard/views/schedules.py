"""Schedules: when each is due, what it made, and whether it is paused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from jobcard.client.scheduled import LOOKED_AT, jobs_of
from jobcard.core.schedule import Schedule
from jobcard.dashboard.asking import Ask, Done
from jobcard.dashboard.formats import name_of, word
from jobcard.dashboard.views.values import call_of

MOST_SCHEDULES = 200
_TICKS = 10
_JOBS = 20


def schedules(ask: Ask) -> Mapping[str, Any]:
    """Every schedule, those that are due next first."""
    return due_next(ask, most=MOST_SCHEDULES)


def due_next(ask: Ask, *, most: int) -> Mapping[str, Any]:
    """The schedules that are due next; of their jobs' arguments nothing."""
    found = sorted(ask.reading.schedules.list(), key=lambda each: (each.next_at is None, each.next_at, each.name))
    return {"schedules": [_told(each) for each in found[:most]], "schedules_in_all": len(found)}


def schedule(ask: Ask) -> Mapping[str, Any]:
    """One schedule, its next ticks and its last jobs."""
    found = ask.reading.schedules.get(name_of(ask["name"]))
    told = _told(found)
    if ask.sees_arguments:
        told |= call_of(found, ask)
    return {
        "schedule": told,
        "ticks": ask.reading.schedules.next(found.name, _TICKS),
        "jobs": [
            {
                "id": job.id,
                "state": job.state,
                "attempt": job.attempt,
                "due_at": job.available_at,
                "finished_at": job.finished_at,
                "error_kind": job.error_kind,
            }
            for job in jobs_of(ask.reading.parts, found.name, limit=_JOBS)
        ],
        "looked_at": LOOKED_AT,
    }


def pause(ask: Ask) -> Done:
    """Let its ticks pass without jobs."""
    paused = ask.jobs.schedules.pause(name_of(ask["name"]))
    return Done(_page(paused.name), f"The schedule {paused.name} is paused: its ticks make no jobs.", {"paused": True})


def resume(ask: Ask) -> Done:
    """Let its ticks make jobs again."""
    resumed = ask.jobs.schedules.resume(name_of(ask["name"]))
    return Done(_page(resumed.name), f"The ticks of {resumed.name} make jobs again.", {"paused": False})


def run_now(ask: Ask) -> Done:
    """Enqueue its job now, beside its ticks."""
    name = name_of(ask["name"])
    made = ask.jobs.schedules.run_now(name)
    return Done(_page(name), f"Enqueued the job {made.id}.", {"id": made.id})


def _told(schedule: Schedule) -> dict[str, Any]:
    """It without arguments."""
    return {
        "name": schedule.name,
        "job": schedule.job,
        "queue": schedule.queue,
        "when": schedule.when,
        "tz": schedule.tz,
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "jitter": schedule.jitter,
        "window": schedule.window,
        "paused": schedule.paused,
        "next_at": schedule.next_at,
        "last_at": schedule.last_at,
    }


def _page(name: str) -> str:
    return f"/schedules/{quote(word(name), safe='')}"
