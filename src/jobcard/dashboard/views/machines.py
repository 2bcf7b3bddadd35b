"""What programs ask: whether it lives, its figures for Prometheus, and what the API is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jobcard.dashboard.asking import Ask, Plain
from jobcard.dashboard.views.overview import COUNTED
from jobcard.dashboard.views.queues import COUNTED_OF_EACH, DONE_COUNTED
from jobcard.errors import JobcardError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def healthz(ask: Ask) -> Plain:
    """Whether the store answers: ok or not ok, and nothing more, for anybody may ask."""
    try:
        ask.reading.parts.connection.time()
    except JobcardError:
        return Plain("not ok\n", status=503)
    return Plain("ok\n")


def metrics(ask: Ask) -> Plain:
    """The store's figures as Prometheus reads them."""
    counts = ask.reading.parts.lookup.count_each(COUNTED_OF_EACH)
    queues = ask.reading.queues.list()
    line = ask.reading.parts.lookup.line(limit=COUNTED)
    engines = ask.reading.engines.list()
    lines = [
        *_family(
            "jobcard_jobs",
            f"Jobs of each queue and state, counted up to {COUNTED}, completed and canceled ones up to {DONE_COUNTED}.",
            (
                ({"queue": queue, "state": str(state)}, number)
                for queue, of in counts.items()
                for state, number in of.items()
            ),
        ),
        *_family(
            "jobcard_delayed_jobs", f"Jobs that wait and are not due, counted up to {COUNTED}.", [({}, line.delayed)]
        ),
        *_family(
            "jobcard_oldest_waiting_seconds",
            "How long the job that is due longest has been.",
            [({}, 0 if line.oldest_waiting is None else line.oldest_waiting.total_seconds())],
        ),
        *_family(
            "jobcard_queue_oldest_waiting_seconds",
            "How long the job of the queue that is due longest has been.",
            (({"queue": queue}, age.total_seconds()) for queue, age in sorted(line.by_queue.items())),
        ),
        *_family(
            "jobcard_queue_paused",
            "1: engines take nothing from it.",
            (({"queue": queue.name}, int(queue.paused)) for queue in queues),
        ),
        *_family("jobcard_engines", "Engines that are alive.", [({}, len(engines))]),
        *_family(
            "jobcard_workers", "Worker processes of all engines.", [({}, sum(len(each.workers) for each in engines))]
        ),
    ]
    return Plain("\n".join(lines) + "\n", METRICS_TYPE)


def _family(name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        said = ",".join(f'{label}="{_label(of)}"' for label, of in labels.items())
        yield f"{name}{{{said}}} {value}" if said else f"{name} {value}"


def _label(value: str) -> str:
    text = value.encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def document(ask: Ask) -> Mapping[str, Any]:
    """The OpenAPI document of every route that answers with JSON."""
    from jobcard.dashboard.openapi import openapi  # it walks the table, which names this view

    return openapi()


def session(ask: Ask) -> Mapping[str, Any]:
    """Who asks, and what their writes must carry as X-CSRF-Token while a cookie says who they are."""
    return {"name": ask.visitor.name, "role": ask.visitor.role, "csrf_token": ask.token}
