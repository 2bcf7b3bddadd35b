"""Traces: a span for each enqueue and each run, tied together, and never in the way of a job."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import apsw
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from helpers.waiting import wait_until
from jobcard import (
    Backoff,
    Cancel,
    ConfigError,
    Fail,
    InvalidJobError,
    Jobcard,
    JobContext,
    JobFailedError,
    Retry,
    Snooze,
)
from jobcard.opentelemetry import trace_jobs

SECRET = "open sesame"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Spans:
    """What was recorded."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracer = self.provider.get_tracer("test")

    @property
    def all(self) -> list[ReadableSpan]:
        """In the order they ended."""
        return list(self._kept.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    """Of the same trace, and directly below it."""
    assert child.context is not None and parent.context is not None
    return (
        child.parent is not None
        and child.parent.span_id == parent.context.span_id
        and child.context.trace_id == parent.context.trace_id == child.parent.trace_id
    )


def traceparent_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def jobs(url: str, spans: Spans) -> Iterator[Jobcard]:
    with Jobcard(url) as jobs:
        trace_jobs(jobs, tracer_provider=spans.provider)
        yield jobs


@pytest.fixture
def add(jobs: Jobcard) -> Any:
    @jobs.job(name="add", queue="sums")
    def add(a: Any, b: Any = 2) -> Any:
        return a

    return add


class TestEnqueue:
    def test_every_way_into_the_store_has_a_span(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """One, many, awaitable, by name, by an unknown name: below what is going on, and each job knows its own."""

        async def awaitable() -> list[Any]:
            return [await add.enqueue_async(2), *await jobs.enqueue_many_async([add.call(3), add.call(4)])]

        with spans.tracer.start_as_current_span("request"):
            handles = [add.enqueue(1)]
            handles += asyncio.run(awaitable())
            handles += jobs.enqueue_many([add.call(5), add.options(delay=5).call(6)])
            handles.append(jobs.enqueue("add", [7]))
            unknown = jobs.enqueue("elsewhere", strict=False)
        request = spans.one("request")
        made = spans.named("enqueue add")
        assert len(made) == len(handles) == 7
        assert all(is_child(span, request) for span in made)
        assert [handle.refresh().meta for handle in handles] == [{"traceparent": traceparent_of(span)} for span in made]
        assert unknown.refresh().meta == {"traceparent": traceparent_of(spans.one("enqueue elsewhere"))}

    def test_a_span_says_what_is_enqueued(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """In OpenTelemetry's words for messages where it has some; the id where it is known by then."""
        own = uuid4()
        add.enqueue(1)
        add.options(queue="other", id=own).enqueue(1)
        jobs.enqueue("elsewhere", strict=False)
        first, second, third = spans.all
        assert (first.name, first.kind, first.parent) == ("enqueue add", SpanKind.PRODUCER, None)
        assert first.status.status_code is StatusCode.UNSET
        assert dict(first.attributes or {}) == {
            "messaging.system": "jobcard",
            "messaging.operation.type": "create",
            "messaging.operation.name": "enqueue",
            "messaging.destination.name": "sums",
            "jobcard.job.name": "add",
        }
        assert second.attributes is not None and third.attributes is not None
        assert second.attributes["messaging.destination.name"] == "other"
        assert second.attributes["messaging.message.id"] == str(own)
        assert third.attributes["messaging.destination.name"] == "default"

    def test_no_argument_is_in_a_span(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """Neither of an enqueue nor of a run: a trace is read by others than the job is."""
        with jobs.testing("inline"):
            add.enqueue(SECRET, b={"password": SECRET})
            add.options(meta={"note": SECRET}).enqueue(1)
        assert len(spans.all) == 4
        assert not [span.name for span in spans.all if SECRET in span.to_json()]

    def test_baggage_and_state_go_along(self, add: Any, spans: Spans) -> None:
        """Whatever the application's propagators carry."""
        remote = trace.SpanContext(1, 2, True, trace.TraceFlags(1), trace.TraceState([("vendor", "x")]))
        outer = trace.set_span_in_context(trace.NonRecordingSpan(remote), baggage.set_baggage("shop", "eu"))
        token = context.attach(outer)
        try:
            meta = add.enqueue(1).refresh().meta
        finally:
            context.detach(token)
        own = traceparent_of(spans.one("enqueue add"))
        assert meta == {"traceparent": own, "tracestate": "vendor=x", "baggage": "shop=eu"}

    def test_what_the_enqueue_says_itself_stays(self, add: Any, spans: Spans) -> None:
        """Its meta, and a trace of its own: then that is the one the job goes on from."""
        meta = {"user": 17}
        bound = add.options(meta=meta)
        assert [bound.enqueue(1).refresh().meta for _ in range(2)] == [
            {"user": 17, "traceparent": traceparent_of(span)} for span in spans.all
        ]
        assert meta == {"user": 17}
        own = {"traceparent": TRACEPARENT, "tracestate": "a=b", "user": 17}
        assert add.options(meta=own).enqueue(1).refresh().meta == own

    def test_no_room_in_meta_is_no_reason_to_refuse(
        self, add: Any, spans: Spans, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The job is stored as it was given, without its trace, and the log says so."""
        full = {"note": "x" * 65_500}
        with caplog.at_level(logging.WARNING, "jobcard.opentelemetry"):
            assert add.options(meta=full).enqueue(1).refresh().meta == full
        assert "add is enqueued without its trace" in caplog.text
        assert len(spans.all) == 1

    def test_what_is_wrong_is_refused_as_ever(self, jobs: Jobcard, add: Any) -> None:
        """Meta of another kind, and whatever another hook leaves."""
        for wrong in ([1], {"x": object()}, {"x": "x" * 70_000}):
            with pytest.raises(InvalidJobError):
                add.options(meta=wrong).enqueue(1)

    def test_an_enqueue_that_others_refuse_has_its_span(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """It was made, and then it was not stored."""

        @jobs.before_enqueue
        def refuse(job: object) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            add.enqueue(1)
        assert spans.one("enqueue add").end_time is not None
        assert jobs.count().total == 0


@pytest.fixture(params=["function", "coroutine", "shared"])
def look(request: pytest.FixtureRequest, jobs: Jobcard, seen: list[Any]) -> Any:
    """A job of each kind that notes what is current in it."""

    def note() -> None:
        span = trace.get_current_span().get_span_context()
        seen.append((span.span_id, dict(baggage.get_all())))

    if request.param == "coroutine":

        @jobs.job(name="look")
        async def look_async() -> None:
            await asyncio.sleep(0)
            note()

        return look_async
    return jobs.job(name="look", isolation="shared" if request.param == "shared" else "process")(note)


@pytest.fixture
def seen() -> list[Any]:
    """What such jobs noted: the id of the span, and the baggage."""
    return []


def inline(jobs: Jobcard, job: Any, *args: Any) -> None:
    with jobs.testing("inline"):
        job.enqueue(*args)


def inline_in_a_loop(jobs: Jobcard, job: Any, *args: Any) -> None:
    async def enqueue() -> None:
        with jobs.testing("inline"):
            await job.enqueue_async(*args)

    asyncio.run(enqueue())


def drained(jobs: Jobcard, job: Any, *args: Any) -> None:
    with jobs.testing() as t:
        job.enqueue(*args)
        t.drain()


def in_process(jobs: Jobcard, job: Any, *args: Any) -> None:
    with jobs.running(in_process=True):
        handle = job.enqueue(*args)
        wait_until(lambda: handle.refresh().finished_at, "the end of the job")


WAYS = [inline, inline_in_a_loop, drained, in_process]


@pytest.mark.parametrize("way", WAYS)
class TestEveryKind:
    def test_a_run_goes_on_from_its_enqueue(
        self, jobs: Jobcard, look: Any, seen: list[Any], spans: Spans, way: Callable[..., None]
    ) -> None:
        """Wherever it runs it has a span, which is current in it, and nothing of it stays current."""
        with spans.tracer.start_as_current_span("request") as request:
            token = context.attach(baggage.set_baggage("shop", "eu"))
            way(jobs, look)
            assert trace.get_current_span() is request
            context.detach(token)
        run, made = spans.one("run look"), spans.one("enqueue look")
        assert is_child(made, spans.one("request")) and is_child(run, made)
        assert run.context is not None
        assert seen == [(run.context.span_id, {"shop": "eu"})]
        assert run.status.status_code is StatusCode.UNSET and not run.events

    def test_a_failure_is_an_exception_and_an_error(
        self, jobs: Jobcard, spans: Spans, way: Callable[..., None]
    ) -> None:
        """With its class, its words and where it was raised."""

        @jobs.job(name="break", max_attempts=1)
        async def broken() -> None:
            raise LookupError("no such shelf")

        way(jobs, broken)
        run = spans.one("run break")
        assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, "LookupError: no such shelf")
        [event] = run.events
        assert event.name == "exception" and event.attributes is not None and run.attributes is not None
        assert event.attributes["exception.type"] == run.attributes["error.type"] == "LookupError"
        assert "no such shelf" in str(event.attributes["exception.stacktrace"])


class TestRun:
    def test_a_span_says_what_runs(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """Which job it is, and which try."""
        with jobs.testing("inline"):
            handle = add.enqueue(1)
        run = spans.one("run add")
        assert run.kind is SpanKind.CONSUMER
        assert dict(run.attributes or {}) == {
            "messaging.system": "jobcard",
            "messaging.operation.type": "process",
            "messaging.operation.name": "run",
            "messaging.destination.name": "sums",
            "messaging.message.id": str(handle.id),
            "jobcard.job.name": "add",
            "jobcard.job.attempt": 1,
        }

    def test_what_a_job_enqueues_goes_on_from_its_run(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """Plainly, many at once, and as a follow-up."""

        @jobs.job(name="order")
        async def order(ctx: JobContext) -> None:
            ctx.then(add.call(1))
            await add.enqueue_async(2)
            await jobs.enqueue_many_async([add.call(3)])

        with jobs.testing("inline"):
            order.enqueue()
        run = spans.one("run order")
        made, ran = spans.named("enqueue add"), spans.named("run add")
        assert len(made) == len(ran) == 3
        assert all(is_child(span, run) for span in made)
        assert sorted(sum(is_child(span, each) for span in ran) for each in made) == [1, 1, 1]

    def test_nothing_stays_current_behind_a_run(self, url: str, spans: Spans) -> None:
        """A hook declared before is around the span, and finds all as it was."""
        with Jobcard(url) as jobs, jobs.testing("inline"):
            seen: list[bool] = []

            @jobs.around_run
            def around(ctx: JobContext) -> Iterator[None]:
                before = context.get_current()
                yield
                seen.append(context.get_current() is before)

            trace_jobs(jobs, tracer_provider=spans.provider)
            jobs.job(name="one")(lambda: 1).enqueue()
        assert seen == [True]
        assert len(spans.all) == 2

    def test_each_try_has_a_span(self, jobs: Jobcard, spans: Spans) -> None:
        """Side by side below the enqueue."""

        @jobs.job(name="third", backoff=Backoff.fixed(1))
        def third(ctx: JobContext) -> None:
            if ctx.attempt < 3:
                raise LookupError

        with jobs.testing("inline"):
            third.enqueue()
        made, runs = spans.one("enqueue third"), spans.named("run third")
        assert all(is_child(run, made) for run in runs)
        said = [(run.attributes["jobcard.job.attempt"], run.status.status_code) for run in runs if run.attributes]
        assert said == [(1, StatusCode.ERROR), (2, StatusCode.ERROR), (3, StatusCode.UNSET)]

    @pytest.mark.parametrize("returned", [False, True])
    @pytest.mark.parametrize(
        ("signal", "said", "status"),
        [
            (Retry("later", delay=5), "retry", (StatusCode.ERROR, "later")),
            (Fail("no such user"), "fail", (StatusCode.ERROR, "no such user")),
            (Snooze(60), "snooze", (StatusCode.UNSET, None)),
            (Cancel("user left"), "cancel", (StatusCode.UNSET, None)),
        ],
    )
    def test_a_signal_is_an_error_if_the_try_is_spent_in_vain(
        self, jobs: Jobcard, spans: Spans, signal: Any, said: str, status: Any, returned: bool
    ) -> None:
        """Retry and Fail are, with their reasons; Snooze and Cancel a job may well want. None is an exception."""

        @jobs.job(name="steer", max_attempts=1)
        def steer() -> Any:
            if returned:
                return signal
            raise signal

        with jobs.testing("inline"):
            steer.enqueue()
        run = spans.one("run steer")
        assert run.attributes is not None
        assert run.attributes["jobcard.job.signal"] == said
        assert (run.status.status_code, run.status.description) == status
        assert run.attributes.get("error.type") == (said.capitalize() if status[1] else None)
        assert not run.events

    def test_an_error_without_words_stays_the_jobs(self, jobs: Jobcard, spans: Spans) -> None:
        """One whose `__str__` fails is recorded as it would be without a trace."""

        class MuteError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        @jobs.job(name="mute", max_attempts=1)
        def mute() -> None:
            raise MuteError

        with jobs.testing("inline"):
            assert mute.enqueue().refresh().errors[-1]["type"].endswith("MuteError")
        assert spans.one("run mute").end_time is not None

    @pytest.mark.parametrize(
        "meta",
        [
            {"traceparent": "00-nonsense-01"},
            {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
            {"traceparent": 17, "tracestate": ["x"], "baggage": {"a": 1}},
            {"traceparent": TRACEPARENT[:-1] + "x", "baggage": ";;;==,,%%"},
            {"traceparent": None},
        ],
    )
    def test_a_context_that_cannot_be_read_is_none(
        self, jobs: Jobcard, add: Any, spans: Spans, meta: dict[str, Any]
    ) -> None:
        """The job runs, in a trace of its own."""
        with jobs.testing("inline"):
            assert add.options(meta=meta).enqueue(1).result(timeout=0) == 1
        run = spans.one("run add")
        assert run.parent is None and run.status.status_code is StatusCode.UNSET

    @pytest.mark.parametrize("text", ["[]", "17", "nonsense", '{"traceparent"'])
    def test_meta_that_somebody_spoiled_is_none(
        self, jobs: Jobcard, add: Any, spans: Spans, text: str, url: str
    ) -> None:
        """Whatever stands in the store."""
        handle = add.enqueue(1)
        with apsw.Connection(url.removeprefix("sqlite:///")) as store:
            store.execute("update jobcard_jobs set meta = ?", (text,))
        with jobs.running(in_process=True):
            assert handle.result(timeout=30) == 1
        assert spans.one("run add").parent is None

    def test_a_trace_of_the_callers_own_goes_on(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """What was in `meta` counts, wherever it came from."""
        with jobs.testing("inline"):
            add.options(meta={"traceparent": TRACEPARENT}).enqueue(1)
        run = spans.one("run add")
        assert run.parent is not None
        assert f"00-{run.parent.trace_id:032x}-{run.parent.span_id:016x}-01" == TRACEPARENT

    def test_a_run_can_be_linked_instead(self, url: str, spans: Spans) -> None:
        """It begins a trace, knows its enqueue, and what it enqueues goes on from it; baggage comes along."""
        bags: list[Any] = []
        with Jobcard(url) as jobs, jobs.testing("inline"):
            trace_jobs(jobs, link=True, tracer_provider=spans.provider)

            @jobs.job(name="first")
            def first() -> None:
                second.enqueue()

            @jobs.job(name="second")
            def second() -> None:
                bags.append(dict(baggage.get_all()))

            with spans.tracer.start_as_current_span("request"):
                token = context.attach(baggage.set_baggage("shop", "eu"))
                first.enqueue()
                context.detach(token)
        assert is_child(spans.one("enqueue first"), spans.one("request"))
        assert is_child(spans.one("enqueue second"), spans.one("run first"))
        for name in ("first", "second"):
            run = spans.one(f"run {name}")
            assert run.parent is None
            [link], made = run.links, spans.one(f"enqueue {name}").context
            assert made is not None
            assert (link.context.trace_id, link.context.span_id) == (made.trace_id, made.span_id)
        assert bags == [{"shop": "eu"}]

    def test_a_tick_begins_a_trace(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """A schedule makes its jobs by itself: who declared it is long gone."""
        with jobs.testing() as t:
            with spans.tracer.start_as_current_span("deploy"):
                jobs.schedule("often", job=add, args=[1], every=timedelta(minutes=1))
            # Each span of a minute has one tick, wherever it begins.
            t.advance(60)
            assert t.drain().completed == 1
        assert [span.name for span in spans.all] == ["deploy", "run add"]
        assert spans.one("run add").parent is None

    def test_a_retry_by_hand_goes_on_from_the_same_enqueue(self, jobs: Jobcard, spans: Spans) -> None:
        """However long it has been."""

        @jobs.job(name="broken", max_attempts=1)
        def broken() -> None:
            raise LookupError

        with jobs.testing() as t:
            handle = broken.enqueue()
            t.drain()
            t.advance(86_400)
            jobs.retry(handle.id)
            t.drain()
        made, runs = spans.one("enqueue broken"), spans.named("run broken")
        assert [is_child(run, made) for run in runs] == [True, True]


class TestToldToEnd:
    @pytest.fixture
    def wait(self, jobs: Jobcard) -> Any:
        @jobs.job(name="wait")
        async def wait() -> None:
            await asyncio.sleep(600)

        return wait

    def test_a_cancel_is_no_error(self, jobs: Jobcard, wait: Any, spans: Spans) -> None:
        """Somebody wanted it so."""
        with jobs.running(in_process=True):
            handle = wait.enqueue()
            wait_until(lambda: handle.refresh().state == "running", "a job that runs")
            handle.cancel()
            with pytest.raises(JobFailedError):
                handle.result(timeout=30)
        run = spans.one("run wait")
        assert run.attributes is not None and run.attributes["jobcard.job.signal"] == "cancel"
        assert run.status.status_code is StatusCode.UNSET and not run.events

    def test_being_out_of_time_is_one(self, jobs: Jobcard, spans: Spans) -> None:
        """Nobody wanted that; the status has the words that the job's error has."""

        @jobs.job(name="slow", timeout=0.2, backoff=Backoff.fixed(0))
        async def slow(ctx: JobContext) -> None:
            if ctx.attempt == 1:
                await asyncio.sleep(600)

        with jobs.running(in_process=True):
            handle = slow.enqueue()
            handle.result(timeout=30)
        first, second = spans.named("run slow")
        assert first.attributes is not None and first.attributes["error.type"] == "timeout"
        assert first.status.status_code is StatusCode.ERROR
        assert first.status.description == handle.refresh().errors[0]["message"]
        assert not first.events
        assert second.status.status_code is StatusCode.UNSET

    def test_a_cancelled_task_that_nobody_told_is_one(self, jobs: Jobcard, spans: Spans) -> None:
        """It cancelled itself, and the job has failed."""

        @jobs.job(name="lonely", max_attempts=1)
        async def lonely() -> None:
            raise asyncio.CancelledError

        with jobs.running(in_process=True), pytest.raises(JobFailedError):
            lonely.enqueue().result(timeout=30)
        run = spans.one("run lonely")
        assert run.status.status_code is StatusCode.ERROR and len(run.events) == 1


class TestSettingUp:
    def test_once_is_enough(self, jobs: Jobcard, add: Any, spans: Spans) -> None:
        """Twice would give two spans for each."""
        with pytest.raises(ConfigError, match="traced already"):
            trace_jobs(jobs)
        add.enqueue(1)
        assert len(spans.all) == 1

    def run(self, tmp_path: Path, source: str) -> str:
        """A program of its own, which may spoil what it imports and set what is global."""
        script = tmp_path / "program.py"
        script.write_text(dedent(source))
        ran = subprocess.run(
            [sys.executable, "-W", "error", str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.context"])
    def test_without_the_extra_it_says_what_to_install(self, tmp_path: Path, missing: str) -> None:
        """And nothing else of jobcard needs it."""
        said = self.run(
            tmp_path,
            f"""
            import sys
            sys.modules[{missing!r}] = None
            import jobcard
            with jobcard.Jobcard("sqlite:///x.db") as jobs, jobs.testing("inline"):
                print(jobs.job(name="one")(lambda: 1).enqueue().result(timeout=0))
            try:
                from jobcard.opentelemetry import trace_jobs
            except ImportError as error:
                print(error)
            """,
        )
        assert said.splitlines() == [
            "1",
            "jobcard.opentelemetry needs the package 'opentelemetry-api': pip install 'jobcard[otel]'",
        ]

    def test_without_an_sdk_nothing_is_done(self, tmp_path: Path) -> None:
        """The jobs of a library may be traced, and an application that uses it need not care."""
        said = self.run(
            tmp_path,
            """
            import sys
            sys.modules["opentelemetry.sdk"] = None
            from opentelemetry import trace
            from jobcard import Jobcard
            from jobcard.opentelemetry import trace_jobs

            with Jobcard("sqlite:///x.db") as jobs, jobs.running(in_process=True):
                trace_jobs(jobs)

                @jobs.job(name="look")
                def look():
                    return trace.get_current_span().get_span_context().is_valid

                handle = look.enqueue()
                print(handle.result(timeout=30), handle.refresh().meta)
            """,
        )
        assert said == "False {}\n"

    def test_the_provider_may_be_set_later(self, tmp_path: Path) -> None:
        """As an application does whose jobs are imported before it has begun."""
        said = self.run(
            tmp_path,
            """
            from jobcard import Jobcard
            from jobcard.opentelemetry import trace_jobs

            jobs = Jobcard("sqlite:///x.db")
            trace_jobs(jobs)

            from opentelemetry import trace
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import SimpleSpanProcessor
            from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

            kept = InMemorySpanExporter()
            trace.set_tracer_provider(TracerProvider())
            trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(kept))
            with jobs.testing("inline"):
                jobs.job(name="one")(lambda: 1).enqueue()
            print(*[span.name for span in kept.get_finished_spans()], sep=", ")
            """,
        )
        assert said == "enqueue one, run one\n"
