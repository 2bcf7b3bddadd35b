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
