"""What the client does in a worker process as it does outside: hooks, places in line, streams, reasons."""

from __future__ import annotations

from pathlib import Path

from helpers.apps import App

SOURCE = """
    from jobcard import Enqueuing, Jobcard, JobContext, Queue

    jobs = Jobcard("sqlite:///jobs.db", queues=[Queue("aged", ageing=10, concurrency=1)])


    @jobs.before_enqueue
    def trace(job: Enqueuing) -> None:
        job.options["meta"] = {**(job.options.get("meta") or {}), "trace": "t1"}


    @jobs.job
    def parent(ctx: JobContext) -> list:
        with jobs.events() as events:
            handle = child.options(priority=2, delay=60).enqueue()
            seen = next(events)
            while seen.job_id != handle.id:
                seen = next(events)
        return [str(handle.id), seen.state.value, [reason.code for reason in jobs.explain(handle.id)]]


    @jobs.job(queue="aged")
    def child() -> None: ...


    if __name__ == "__main__":
        with jobs.running():
            child_id, state, reasons = parent.enqueue().result(timeout=30)
        row = jobs.parts.lookup.row(jobs.get(child_id).id.bytes)
        print(row.meta, row.rank, row.order_at - row.available_at, state, reasons)
"""


def test_a_job_enqueues_as_its_application_does(tmp_path: Path) -> None:
    """The hooks of the application run there too, the queue's ageing counts, and what happens can be watched."""
    app = App(tmp_path)
    app.write("shop.py", SOURCE)
    ran = app.python("shop.py")
    assert ran.out == """{"trace":"t1"} 0 -20000000 waiting ['not_due']\n""", ran.err


LIMITED = """
    from jobcard import DuplicateJobError, Jobcard, JobContext, Queue, RateLimit, Unique

    jobs = Jobcard("sqlite:///jobs.db", queues=[Queue("narrow", global_concurrency=5, rate=RateLimit(50, per=1))])


    @jobs.job
    def parent(ctx: JobContext) -> list:
        first = daily.enqueue("ann")
        again = daily.enqueue("ann")
        try:
            once.enqueue()
            once.enqueue()
        except DuplicateJobError as error:
            existing = jobs.get(error.existing_id).name
        jobs.queues.pause("narrow", by="the job")
        reasons = [reason.code for reason in jobs.explain(first.id)]
        ctx.then(once.call())
        ctx.then(daily.options(unique=None).call("bob"))
        return [first.id == again.id, again.duplicate, existing, reasons]


    @jobs.job(queue="narrow", unique=Unique(by="to", per="ever"), concurrency_key=lambda to: to, rate=RateLimit(9, 60))
    def daily(to: str) -> None: ...


    @jobs.job(queue="narrow", unique=Unique(on_conflict="raise"))
    def once() -> None: ...


    if __name__ == "__main__":
        jobs.queues.create("narrow", paused=True)
        with jobs.running():
            print(parent.enqueue().result(timeout=30))
        print(sorted((job.name, job.limit_key or "", *job.args) for job in jobs.list(queue="narrow")))
"""


def test_keys_and_limits_are_the_same_there(tmp_path: Path) -> None:
    """A job enqueues unique and limited jobs through its engine; a follow-up whose key is taken is left out."""
    app = App(tmp_path)
    app.write("shop.py", LIMITED)
    ran = app.python("shop.py")
    stored = [("shop.daily", "#ann", "ann"), ("shop.daily", "#bob", "bob"), ("shop.once", "")]
    assert ran.out == f"[True, True, 'shop.once', ['paused']]\n{stored}\n", ran.err
