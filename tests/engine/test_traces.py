"""Traces over processes: from a client through an engine's workers to what their jobs enqueue, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.apps import App

APP = """
    import sys
    import time
    from pathlib import Path

    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    from jobcard import Backoff, Jobcard, JobContext
    from jobcard.opentelemetry import trace_jobs

    # Each process writes whole lines at the end of one file.
    to_file = ConsoleSpanExporter(
        out=Path(__file__).with_name("spans").open("a"), formatter=lambda span: span.to_json(indent=None) + "\\n"
    )
    provider = TracerProvider()
    provider.add_span_processor(PROCESSOR)
    trace.set_tracer_provider(provider)

    jobs = Jobcard("sqlite:///shop.db")
    trace_jobs(jobs)

    @jobs.job
    def order(ctx: JobContext) -> str:
        ctx.then(invoice.call())
        return mail.enqueue().id.hex

    @jobs.job(isolation="fresh")
    def invoice() -> None: ...

    @jobs.job
    async def mail() -> None:
        await mail_again.enqueue_async()

    @jobs.job(isolation="shared")
    def mail_again() -> None: ...

    @jobs.job(timeout=0.5, backoff=Backoff.fixed(0))
    def stuck(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            time.sleep(600)

    def until_all_have_ended() -> None:
        while jobs.count(state=["waiting", "claimed", "running"]).total:
            time.sleep(0.01)
"""
MAIN = """
    if __name__ == "__main__":
        with jobs.running(), trace.get_tracer("shop").start_as_current_span("request"):
            BODY
            until_all_have_ended()
"""
AT_ONCE = "SimpleSpanProcessor(to_file)"
IN_BATCHES = "BatchSpanProcessor(to_file, schedule_delay_millis=600_000)"


def traced(tmp_path: Path, processor: str, body: str) -> list[dict[str, Any]]:
    """What a program with such a processor records, all its processes together."""
    app = App(tmp_path)
    app.write("shop.py", APP.replace("PROCESSOR", processor) + MAIN.replace("BODY", body))
    ran = app.python("shop.py")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]


def tree(spans: list[dict[str, Any]]) -> set[tuple[str, str | None]]:
    """Each span's name with that of the one above it."""
    names = {span["context"]["span_id"]: span["name"] for span in spans}
    assert len(names) == len(spans)
    return {(span["name"], names[span["parent_id"]] if span["parent_id"] else None) for span in spans}


@pytest.mark.parametrize("processor", [AT_ONCE, IN_BATCHES], ids=["at once", "in batches"])
def test_one_trace_goes_through_all_processes(tmp_path: Path, processor: str) -> None:
    """From the client through a job to its follow-up; also what had to wait is exported before the workers are gone."""
    spans = traced(tmp_path, processor, "order.enqueue()")
    assert tree(spans) == {
        ("request", None),
        ("enqueue shop.order", "request"),
        ("run shop.order", "enqueue shop.order"),
        ("enqueue shop.invoice", "run shop.order"),
        ("run shop.invoice", "enqueue shop.invoice"),
        ("enqueue shop.mail", "run shop.order"),
        ("run shop.mail", "enqueue shop.mail"),
        ("enqueue shop.mail_again", "run shop.mail"),
        ("run shop.mail_again", "enqueue shop.mail_again"),
    }
    assert len({span["context"]["trace_id"] for span in spans}) == 1


def test_a_run_that_is_killed_leaves_no_span(tmp_path: Path) -> None:
    """There is nobody left to write it; the next try is where it belongs."""
    spans = traced(tmp_path, AT_ONCE, "stuck.enqueue()")
    assert tree(spans) == {
        ("request", None),
        ("enqueue shop.stuck", "request"),
        ("run shop.stuck", "enqueue shop.stuck"),
    }
    [run] = [span for span in spans if span["name"] == "run shop.stuck"]
    assert run["attributes"]["jobcard.job.attempt"] == 2
