"""Traces for OpenTelemetry: a span for each enqueue and one for each run, tied together by the job's `meta`.

    enqueue ─► producer span ─► inject ─► meta {traceparent, …} ─► store ─► worker ─► extract ─► consumer span ─► run
                                                                                 enqueues in it go on from there

Needs the extra `jobcard[otel]`, which is OpenTelemetry's API alone: where an application sets up no SDK, nothing is
recorded and nothing is written into `meta`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakSet

from jobcard.client.options import check_enqueue_options
from jobcard.core.codec import Codec
from jobcard.core.definition import DEFAULT_QUEUE
from jobcard.core.signals import Cancel, Fail, JobSignal, Retry
from jobcard.errors import ConfigError, InvalidJobError, SerializationError
from jobcard.version import VERSION

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError(
        "jobcard.opentelemetry needs the package 'opentelemetry-api': pip install 'jobcard[otel]'", name=error.name
    ) from error

if TYPE_CHECKING:
    from jobcard.client.app import Jobcard
    from jobcard.client.hooks import Enqueuing
    from jobcard.core.context import JobContext
    from jobcard.core.job import Claimed

__all__ = ["trace_jobs"]

log = logging.getLogger("jobcard.opentelemetry")

# An engine reckons from a moment before the worker works out the deadline, so it may tell the job this much earlier.
_BEFORE_DEADLINE = timedelta(seconds=0.1)

_codec = Codec()  # for meta, which is plain JSON whatever types an application taught
_traced: WeakSet[Jobcard] = WeakSet()


def trace_jobs(jobs: Jobcard, *, link: bool = False, tracer_provider: trace.TracerProvider | None = None) -> None:
    """Give each enqueue and each run of these jobs a span; call it once, where the jobs are declared.

    link: a run begins a trace of its own, linked to its enqueue, instead of being a child of it.
    tracer_provider: whose spans they are; None: the global one, which may be set later.
    `ConfigError` when these jobs are traced already.
    """
    if jobs in _traced:
        raise ConfigError("these jobs are traced already: call trace_jobs once for each Jobcard")
    tracing = _Tracing(jobs, link, tracer_provider)
    jobs.before_enqueue(tracing.before_enqueue)
    jobs.around_run(tracing.around_run)
    jobs.parts.hooks.add_farewell(tracing.flush)
    _traced.add(jobs)


class _Tracing:
    """The hooks of one `Jobcard`."""

    def __init__(self, jobs: Jobcard, link: bool, provider: trace.TracerProvider | None) -> None:
        self._registry = jobs.registry
        self._link = link
        self._provider = provider
        self._tracer = trace.get_tracer("jobcard", VERSION, tracer_provider=provider)

    # -- the enqueue

    def before_enqueue(self, job: Enqueuing) -> None:
        """A span that is over when the job is about to be stored: whoever measures the store measures that."""
        attributes = _attributes("create", "enqueue", job.name, self._queue_of(job))
        if job.options.get("id") is not None:
            attributes["messaging.message.id"] = str(job.options["id"])
        span = self._tracer.start_span(f"enqueue {job.name}", kind=SpanKind.PRODUCER, attributes=attributes)
        try:
            carrier: dict[str, str] = {}
            propagate.inject(carrier, trace.set_span_in_context(span))
            _give(job, carrier)
        finally:
            span.end()

    def _queue_of(self, job: Enqueuing) -> str:
        definition = self._registry.find(job.name)
        return job.options.get("queue") or (DEFAULT_QUEUE if definition is None else definition.options.queue)

    # -- the run

    @contextmanager
    def around_run(self, ctx: JobContext) -> Iterator[None]:
        """A span around the job, in which all that it starts and enqueues goes on."""
        claim = ctx.claim
        attributes = _attributes("process", "run", claim.name, claim.queue)
        attributes["messaging.message.id"] = str(UUID(bytes=claim.id))
        attributes["jobcard.job.attempt"] = ctx.attempt
        parent, links = self._origin(claim)
        span = self._tracer.start_span(
            f"run {claim.name}", parent, kind=SpanKind.CONSUMER, attributes=attributes, links=links
        )
        token = context.attach(trace.set_span_in_context(span, parent))
        try:
            yield
        except BaseException as error:
            with suppress(Exception):  # an error that cannot be put into words is still the job's, and not this one
                _say_how_it_ended(span, ctx, error)
            raise
        finally:
            context.detach(token)
            span.end()

    def _origin(self, claim: Claimed) -> tuple[Context, list[Link]]:
        """What a run goes on from, and what it is linked to."""
        stored = propagate.extract(_carrier_of(claim))
        if not self._link:
            return stored, []
        origin = trace.get_current_span(stored).get_span_context()
        alone = trace.set_span_in_context(trace.INVALID_SPAN, stored)  # its baggage stays
        return alone, [Link(origin)] if origin.is_valid else []

    # -- the end of a worker

    def flush(self) -> None:
        """Have all spans exported that still wait for it; an API without an SDK has none."""
        provider = self._provider or trace.get_tracer_provider()
        flush = getattr(provider, "force_flush", None)
        if flush is not None:
            flush()


def _attributes(kind: str, operation: str, name: str, queue: str) -> dict[str, str | int]:
    # OpenTelemetry's conventions for messaging where they have a word. Never an argument: it may be secret.
    return {
        "messaging.system": "jobcard",
        "messaging.operation.type": kind,
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
        "jobcard.job.name": name,
    }


def _give(job: Enqueuing, carrier: Mapping[str, str]) -> None:
    """Put a context into a job's `meta`, unless the enqueue gave one itself or there is no room."""
    meta: Any = job.options.get("meta")
    if meta is None:
        meta = {}
    if not carrier or not isinstance(meta, dict) or carrier.keys() & meta.keys():
        return
    both = {**meta, **carrier}
    try:
        check_enqueue_options({"meta": both})
    except InvalidJobError:
        # Tracing must not refuse a job. Meta that is wrong by itself is refused in a moment.
        log.warning("job %s is enqueued without its trace: there is no room for it in its meta", job.name)
    else:
        job.options["meta"] = both


def _carrier_of(claim: Claimed) -> dict[str, str]:
    """The texts in a job's `meta`; a propagator finds its own, and passes over those it cannot read."""
    try:
        meta = None if claim.meta is None else _codec.loads(claim.meta)
    except SerializationError:
        meta = None
    return {name: text for name, text in meta.items() if isinstance(text, str)} if isinstance(meta, dict) else {}


def _say_how_it_ended(span: Span, ctx: JobContext, error: BaseException) -> None:
    """What a job raised: an error if its try is spent in vain, else only by which signal it ended."""
    if isinstance(error, JobSignal):
        signal = "cancel" if isinstance(error, Cancel) else type(error).__name__.lower()
        span.set_attribute("jobcard.job.signal", signal)
    if isinstance(error, (Fail, Retry)):
        _fail(span, type(error).__name__, error.reason)
    elif isinstance(error, (Cancel, asyncio.CancelledError)) and _is_out_of_time(ctx):
        _fail(span, "timeout", ctx.cancel_reason)
    elif isinstance(error, asyncio.CancelledError) and ctx.cancelled:
        span.set_attribute("jobcard.job.signal", "cancel")
    elif not isinstance(error, JobSignal):
        span.record_exception(error)
        cls = type(error)
        kind = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        _fail(span, kind, f"{cls.__name__}: {error}")


def _is_out_of_time(ctx: JobContext) -> bool:
    # Asked in this order: to ask why it shall end makes the job one that knows of it.
    deadline = ctx.deadline
    return deadline is not None and datetime.now(UTC) >= deadline - _BEFORE_DEADLINE and ctx.cancelled


def _fail(span: Span, kind: str, why: str | None) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, why))
