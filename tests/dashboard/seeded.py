"""The jobs that most tests of the dashboard look at."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

from visitors import MARK

from jobcard.backends.base import Completions, Outcome, Want
from jobcard.client import Jobcard
from jobcard.core import clock, states
from jobcard.engine.outcomes import error_text

FRESH_SECONDS = 10.0
"""The hands' lease is a minute, and pages tell how old things are: an older store is not copied any more."""


class Originals:
    """SQLite files with such stores, for tests to begin with a copy."""

    def __init__(self, folder: Path) -> None:
        self._paths = (folder / f"{number}.db" for number in count())
        self._empty = self._make(filled=False)
        self._filled, self._filled_at = self._empty, -FRESH_SECONDS

    def empty(self) -> Path:
        """A store with nothing but its schema."""
        return self._empty

    def filled(self) -> Path:
        """A store with the jobs of `seed`, made a moment ago."""
        if time.monotonic() - self._filled_at > FRESH_SECONDS:
            self._filled, self._filled_at = self._make(filled=True), time.monotonic()
        return self._filled

    def _make(self, *, filled: bool) -> Path:
        path = next(self._paths)
        with Jobcard(f"sqlite:///{path}") as jobs:
            jobs.migrate()
            if filled:
                seed(jobs)
        assert [each.name for each in path.parent.glob(f"{path.name}*")] == [path.name], "not all of it is in the file"
        return path


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
