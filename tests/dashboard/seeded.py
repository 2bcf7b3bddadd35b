"""The jobs that most tests of the dashboard look at."""

from __future__ import annotations

from visitors import MARK

from jobcard.backends.base import Completions, Outcome, Want
from jobcard.client import Jobcard
from jobcard.core import clock, states
from jobcard.engine.outcomes import error_text


def seed(jobs: Jobcard) -> None:
    """Three jobs completed, two failed, one canceled, one claimed, four waiting, one of them delayed."""
    jobs.queues.create("mail", concurrency=3, global_concurrency=7)
    jobs.queues.create("odd", priority=-1)
    jobs.queues.pause("odd", by=MARK)
    jobs.schedule("nightly", "0 3 * * *", "report", tz="Europe/Berlin")
    for number in range(6):
        jobs.enqueue("mail.welcome", [number, {"password": "hunter2"}], queue="mail")
    jobs.enqueue("canceled").cancel()
    with jobs.parts.connection as store:
        claims = store.exchange("hands", want=Want(queues=[("mail", 6)], total=6), lease=clock.MINUTE).claimed
        done = Completions(
            refs=[claim.ref for claim in claims[:3]],
            tokens=[claim.token for claim in claims[:3]],
            results=["null"] * 3,
            started_ago=[1000, 2000, 3000],
        )
        broken = [
            Outcome(
                claim.ref,
                claim.token,
                states.fail(
                    claim,
                    reason="error",
                    error=error_text({"attempt": 1, "kind": "error", "type": "ValueError", "message": MARK}),
                    kind=f"ValueError {MARK}",
                ),
            )
            for claim in claims[3:5]
        ]
        assert store.exchange("hands", completions=done, outcomes=broken).refusals == []
    for _ in range(3):
        jobs.enqueue("add", [1, 2])
    jobs.enqueue("later", delay=3600)
