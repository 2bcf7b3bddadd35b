"""Engines: which are alive, what their workers run now, and what an operator tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobcard.client.at_work import leases_of
from jobcard.client.live_engines import Engine
from jobcard.dashboard.asking import Ask, Done
from jobcard.dashboard.formats import name_of
from jobcard.version import VERSION

MOST_ENGINES = 100
_MOST_LEASES = 500
_PAGE = "/engines"


def engines(ask: Ask) -> Mapping[str, Any]:
    """The engines that are alive, with what each worker runs and until when it holds it."""
    found = ask.reading.engines.list()
    shown = found[:MOST_ENGINES]
    leases = leases_of(ask.reading.parts, [job.job_id for engine in shown for job in engine.jobs][:_MOST_LEASES])
    return {
        "engines": [{**_told(engine), "workers": _workers(engine, leases)} for engine in shown],
        "engines_in_all": len(found),
        "versions": sorted({engine.version for engine in found}),
        "version": VERSION,
    }


def quiet(ask: Ask) -> Done:
    """Let an engine finish what it has and take nothing more."""
    engine = name_of(ask["id"])
    ask.jobs.engines.quiet(engine)
    return Done(_PAGE, f"The engine {name_of(ask['id'])} takes nothing more within two seconds.")


def work(ask: Ask) -> Done:
    """Let a quiet engine take jobs again."""
    engine = name_of(ask["id"])
    ask.jobs.engines.work(engine)
    return Done(_PAGE, f"The engine {name_of(ask['id'])} takes jobs again within two seconds.")


def stop(ask: Ask) -> Done:
    """Stop an engine, as SIGTERM does."""
    engine = name_of(ask["id"])
    ask.jobs.engines.stop(engine)
    return Done(_PAGE, f"The engine {name_of(ask['id'])} is told to stop: it finishes what it has, and ends.")


def _told(engine: Engine) -> dict[str, Any]:
    return {
        "id": engine.id,
        "host": engine.host,
        "pid": engine.pid,
        "keeper_pid": engine.keeper_pid,
        "app": engine.app,
        "version": engine.version,
        "queues": engine.queues,
        "quiet": engine.quiet,
        "started_at": engine.started_at,
        "heartbeat_at": engine.heartbeat_at,
    }


def _workers(engine: Engine, leases: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Each worker with its jobs, busy ones first; a job may run in the engine's own process, too."""
    jobs: dict[int, list[dict[str, Any]]] = {}
    for job in engine.jobs:
        told = {"id": job.job_id, "name": job.name, "since": job.since, "lease_until": leases.get(job.job_id)}
        jobs.setdefault(job.pid, []).append(told)
    pids = [*jobs, *(pid for pid in engine.workers if pid not in jobs)]
    return [{"pid": pid, "jobs": jobs.get(pid, [])} for pid in pids]
