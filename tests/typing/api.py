"""Code as users write it; it must type-check, and each ignored line must be an error without its comment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

from jobcard import (
    Backoff,
    Backup,
    Batch,
    Bucket,
    Counts,
    Dependency,
    Ended,
    Engine,
    EngineJob,
    Enqueuing,
    Event,
    Events,
    Fail,
    Health,
    Job,
    Jobcard,
    JobClass,
    JobContext,
    JobGroup,
    JobHandle,
    JobState,
    Page,
    Queue,
    RateLimit,
    Reason,
    Restored,
    Retry,
    Schedule,
    Snooze,
    Stats,
    Unique,
    current_job,
)
from jobcard.opentelemetry import trace_jobs
from jobcard.testing import Testing

jobs = Jobcard("sqlite:///jobs.db", queues=[Queue("mail", concurrency=5)], imports=["shop.jobs"], lease=timedelta(60))
jobs.configure(
    max_concurrent_jobs=4, worker_client="direct", start_method="template", cancel_grace=timedelta(seconds=5)
)
Jobcard(worker_client="pipe", start_method="fork")  # type: ignore[arg-type]
Jobcard(cancel_grace="10")  # type: ignore[arg-type]
Jobcard(max_concurrent_job=4)  # type: ignore[call-arg]
Jobcard(max_concurrent_jobs="4")  # type: ignore[arg-type]


# ------------------------------------------------------------------ functions


@jobs.job
def add(a: int, b: int = 2) -> int:
    return a + b


@jobs.job(name="mail.welcome", aliases=("old",), queue="mail", timeout=60, backoff=Backoff.fixed(5), tags=["a"])
def welcome(ctx: JobContext, to: str) -> None:
    raise Retry(f"{ctx.attempt} for {ctx.job.id}", delay=timedelta(seconds=5))


@jobs.job
async def fetch(url: str) -> bytes:
    raise Snooze(60)


@jobs.job(isolation="fresh", memory_limit=1 << 30)
async def crawl(ctx: JobContext, url: str, *, depth: int = 1) -> list[str]:
    raise Fail("no")


@jobs.job(timeoutt=5)  # type: ignore[call-overload,untyped-decorator]
def misspelt() -> None: ...


@jobs.job(isolation="thread")  # type: ignore[call-overload,untyped-decorator]
def unknown_isolation() -> None: ...


@jobs.job(isolation="shared", on_lost_lease="tell", max_crashes=2)
def shares(a: int) -> int:
    return a


@jobs.job(unique=Unique(by=("to",), per="day", on_conflict="ignore"), rate=RateLimit(50, per=timedelta(minutes=1)))
def once(to: str) -> None: ...


@jobs.job(unique=True, concurrency_key=lambda tenant: f"tenant-{tenant}", key_limit=2)
def bounded(tenant: int) -> None: ...


@jobs.job(concurrency_key=("tenant", "region"))
def keyed(tenant: int, region: str) -> None: ...


@jobs.job(unique="to")  # type: ignore[call-overload,untyped-decorator]
def not_unique(to: str) -> None: ...


@jobs.job(rate=50)  # type: ignore[call-overload,untyped-decorator]
def not_rated() -> None: ...


Unique(key=lambda to: to.lower(), per=timedelta(minutes=5))
Unique(on_conflict="explode")  # type: ignore[arg-type]
RateLimit("50", per=1)  # type: ignore[arg-type]


@jobs.job(on_lost_lease="ask")  # type: ignore[call-overload,untyped-decorator]
def asks() -> None: ...


assert_type(add(1, 2), int)
assert_type(add.enqueue(1), JobHandle[int])
assert_type(add.enqueue(1, b=2).result(timeout=10), int)
assert_type(add.options(delay=5, queue="mail", at=None).enqueue(1, 2), JobHandle[int])
assert_type(welcome.enqueue("x@example.org").result(), None)
assert_type(fetch.enqueue("https://example.org"), JobHandle[bytes])
assert_type(crawl.options(priority=3).enqueue("https://example.org", depth=2).result(), list[str])
assert_type(add.name, str)

add.enqueue("1")  # type: ignore[arg-type]
add.enqueue()  # type: ignore[call-arg]
add.enqueue(1, c=2)  # type: ignore[call-arg]
add.enqueue(1, 2, 3)  # type: ignore[call-arg]
add.call("1")  # type: ignore[arg-type]
add.options(delay=5).enqueue("1")  # type: ignore[arg-type]
assert_type(once.enqueue("ann").duplicate, bool)
assert_type(once.options(unique=None).enqueue("ann"), JobHandle[None])
once.options(unique=Unique(by="args"))
once.options(unique="to")  # type: ignore[arg-type]
add.options(dellay=5)  # type: ignore[call-arg]
add.options(priority="high")  # type: ignore[arg-type]
welcome.enqueue(1)  # type: ignore[arg-type]
welcome("x@example.org")  # type: ignore[call-arg,arg-type]
crawl.enqueue("https://example.org", 2)  # type: ignore[call-arg]
text: str = add.enqueue(1).result()  # type: ignore[assignment]


async def in_a_loop() -> None:
    handle = await add.enqueue_async(1, b=2)
    assert_type(handle, JobHandle[int])
    assert_type(await handle, int)
    assert_type(await handle.result_async(timeout=5), int)
    assert_type(await fetch("https://example.org"), bytes)
    await add.enqueue_async("1")  # type: ignore[arg-type]
    await jobs.enqueue_many_async([add.call(1), fetch.call("https://example.org")])


# ------------------------------------------------------------------ classes


@jobs.job
class Report(JobClass):
    def __init__(self, region: str) -> None:
        self.region = region

    def run(self, day: date) -> Path:
        return Path(self.region, str(day))


@jobs.job(queue="reports")
class Daily(JobClass):
    def run(self, ctx: JobContext, day: date, *, final: bool = False) -> int:
        return ctx.attempt


@jobs.job
class Crawl(JobClass):
    async def run(self, url: str) -> str:
        return url


today = date.today()
assert_type(Report("eu").run(today), Path)
assert_type(Report.with_("eu").enqueue(today), JobHandle[Path])
assert_type(Report.with_(region="eu").options(delay=60).enqueue(today).result(), Path)
assert_type(Daily.enqueue(today, final=True), JobHandle[int])
assert_type(Crawl.enqueue("https://example.org").result(), str)
Report.with_(1)  # type: ignore[arg-type]
Report.with_()  # type: ignore[call-arg]
Report.with_("eu").enqueue("today")  # type: ignore[arg-type]
Report.enqueue(today)  # type: ignore[misc]
Daily.enqueue("today")  # type: ignore[call-overload]
Crawl.enqueue(1)  # type: ignore[call-overload]


# ------------------------------------------------------------------ groups, bulk, names

mail = JobGroup(queue="mail", prefix="mail.")


@mail.job
def remind(to: str) -> bool:
    return bool(to)


jobs.include(mail)
assert_type(remind.enqueue("x"), JobHandle[bool])
remind.enqueue(1)  # type: ignore[arg-type]

for handle in jobs.enqueue_many([add.call(1, 2), remind.call("x"), Report.with_("eu").call(today)]):
    assert_type(handle.id, UUID)
jobs.enqueue_many([add])  # type: ignore[list-item]
jobs.enqueue("mail.welcome", args=["x"], kwargs={}, priority=3, strict=False)
jobs.enqueue("mail.welcome", priority="high")  # type: ignore[arg-type]


# ------------------------------------------------------------------ hooks


@jobs.before_enqueue
def trace(job: Enqueuing) -> None:
    job.options["meta"] = {**(job.options.get("meta") or {}), "trace": job.name}
    job.args = [*job.args, 1]
    job.options["priority"] = "high"  # type: ignore[typeddict-item]
    job.name = "other"  # type: ignore[misc]


@jobs.before_enqueue  # type: ignore[type-var]
def takes_a_context(ctx: JobContext) -> None: ...


@jobs.around_run
def timed(ctx: JobContext) -> Iterator[None]:
    yield


@jobs.around_run
@contextmanager
def managed(ctx: JobContext) -> Iterator[int]:
    yield ctx.attempt


@jobs.around_run
async def connected(ctx: JobContext) -> AsyncIterator[Any]:
    yield ctx.job


@jobs.around_run  # type: ignore[type-var]
def unmanaged(ctx: JobContext) -> int:
    return ctx.attempt


trace_jobs(jobs, link=True, tracer_provider=None)
trace_jobs("jobs")  # type: ignore[arg-type]
trace_jobs(jobs, True)  # type: ignore[call-arg]

# ------------------------------------------------------------------ looking up, changing

page = jobs.list(state=[JobState.FAILED, "canceled"], queue="mail", after=datetime.now(UTC), limit=10)
assert_type(page[0], Job)
assert_type(page[:5], Sequence[Job])
assert_type(page.next_cursor, str | None)
assert_type(jobs.find(page[0].id), Job | None)
assert_type(jobs.count(queue="mail").total, int)
assert_type(jobs.count()["waiting"], int)
assert_type(jobs.cancel(page[0].id), Job)
assert_type(jobs.queues.get("mail"), Queue)
assert_type(jobs.queues.list(order_by="-priority"), list[Queue])
assert_type([engine.pid for engine in jobs.engines.list()], list[int])
assert_type(jobs.engines.list(), list[Engine])
assert_type(jobs.list(), Page)
assert_type(jobs.count(), Counts)
assert_type(jobs.count_over_time("12h"), list[Bucket])
assert_type((jobs.health(), jobs.stats()), tuple[Health, Stats])
assert_type(jobs.backup(Path("shop.jobcard"), overwrite=True), Backup)
assert_type(jobs.restore("shop.jobcard", merge=True), Restored)
jobs.list(stat="failed")  # type: ignore[call-arg]
jobs.list(limit="10")  # type: ignore[arg-type]
jobs.queues.update("mail", concurency=3)  # type: ignore[call-arg]
jobs.schedule("nightly", "0 3 * * *", "add", args=(1,), tz="Europe/Berlin", missed=3, overlap="allow", queue="mail")
jobs.schedule("often", every=timedelta(minutes=5), job=add, args=(1,), jitter=5, missed="skip")
jobs.schedule("class", timedelta(hours=1), Report.with_("eu"), args=(date(2026, 1, 1),))
jobs.schedule("fetched", "@hourly", fetch, args=("http://localhost",))
jobs.schedule("wrong", "@hourly", print)  # type: ignore[arg-type]
jobs.schedule("nightly", "0 3 * * *", "add", overlap="maybe")  # type: ignore[arg-type]
jobs.schedule("nightly", "0 3 * * *", "add", prioriti=3)  # type: ignore[call-arg]
assert_type(jobs.schedules.list(), list[Schedule])
assert_type(jobs.schedules.pause("nightly"), Schedule)
assert_type(jobs.schedules.next("nightly", 3), list[datetime])
jobs.queues.create("mail", weight=3, ageing=timedelta(minutes=1))
jobs.queues.update("mail", weight=3.5)  # type: ignore[arg-type]
jobs.queues.update("mail", global_concurrency=4, rate=RateLimit(50, per=1))
jobs.queues.update("mail", rate=50)  # type: ignore[arg-type]
assert_type(jobs.queues.pause("mail", by="ann").paused_since, datetime | None)
assert_type(jobs.explain(page[0].id)[0].jobs, tuple[UUID, ...])
assert_type(jobs.explain(page[0].id), list[Reason])
assert_type([engine.jobs for engine in jobs.engines.list()], list[tuple[EngineJob, ...]])
jobs.engines.quiet("id")
jobs.engines.stop(5)  # type: ignore[arg-type]

with jobs.events(since=datetime.now(UTC)) as events:
    assert_type(events, Events)
    assert_type(next(events), Event)
    for event in events:
        assert_type((event.job_id, event.state, event.cursor), tuple[UUID, JobState, str])
jobs.events(since=5)  # type: ignore[arg-type]


async def listening() -> None:
    async with jobs.events(since=events.cursor) as stream:
        async for event in stream:
            assert_type(event.at, datetime)


context = current_job()
if context is not None:
    assert_type(context.deadline, datetime | None)

with jobs.running() as running, jobs.running(in_process=True):
    assert_type(running, Jobcard)
jobs.start(another=True)
jobs.start(True)  # type: ignore[call-arg]
assert_type(jobs.run(in_process=True, until_empty=True), int)


# ------------------------------------------------------------------ testing

with jobs.testing("inline"), jobs.testing() as t:
    assert_type(t, Testing)
    assert_type(t.assert_enqueued(add, 1, b=2, queue="mail"), Job)
    t.assert_enqueued(Report.with_("eu"), today)
    t.assert_enqueued(Report)
    t.refute_enqueued("mail.welcome")
    t.refute_enqueued(add.call(1))
    t.refute_enqueued(fetch)
    t.refute_enqueued(welcome, "x")
    t.refute_enqueued(len)  # type: ignore[arg-type]
    assert_type(t.all_enqueued(), list[Job])
    assert_type(t.drain(with_scheduled=True).completed, int)
    t.advance(60)
    t.advance(timedelta(minutes=1))
jobs.testing("auto")  # type: ignore[arg-type]


# ------------------------------------------------------------------ jobs that wait for others, and batches

first, second = add.enqueue(1), fetch.enqueue("https://example.org")
by_name = {"first": first}
with jobs.batch("import", on_success=add.call(1), on_end=None) as b:
    assert_type(b, Batch)
    assert_type(b.enqueue(add.call(1, 2)), JobHandle[int])
    assert_type(b.enqueue_many([add.call(number) for number in range(3)]), list[JobHandle[int]])
    b.enqueue_many([add.call(1), fetch.call("https://example.org")])
    b.enqueue_many(add.options(after=first).call(number) for number in range(3))
    b.enqueue(Report.with_("eu").call(today))
    b.enqueue(add)  # type: ignore[arg-type]
    b.enqueue(add.call("1"))  # type: ignore[arg-type]
assert_type(b.id, UUID)
assert_type(b.name, str | None)
assert_type(b.counts(), Counts)
assert_type(b.cancel_rest(), int)
jobs.batch(on_success=add)  # type: ignore[arg-type]
jobs.batch(on_end="add")  # type: ignore[arg-type]

assert_type(add.options(after=[first, second.id, str(first.id), Ended(second), b, Ended(b)]).enqueue(1), JobHandle[int])
add.options(after=first).options(after=Ended(b), batch=b).enqueue(1)
add.options(after=by_name.values()).enqueue(1)
add.options(after={first, first}).enqueue(1)
add.options(after=(handle for handle in [first])).enqueue(1)
add.options(after=first.refresh().after, batch=b.id).enqueue(1)
add.options(after=None, batch=None).enqueue(1)
add.options(after=5)  # type: ignore[arg-type]
add.options(after=[5])  # type: ignore[list-item]
add.options(batch=first)  # type: ignore[arg-type]
jobs.enqueue("add", args=[1], after=[first, b], batch=b)
assert_type(jobs.count(batch=b), Counts)
jobs.list(batch=b.id, state="failed")
assert_type(first.refresh().after, tuple[Dependency, ...])
assert_type(first.refresh().after[0].id, UUID)


async def fill_in_a_loop() -> None:
    async with jobs.batch(on_end=add.call(1)) as filled:
        assert_type(filled, Batch)
        assert_type(filled.enqueue(add.call(1)), JobHandle[int])
