"""The news of `jobcard dev`: each job that ended, once, however many do at a time."""

from __future__ import annotations

from pathlib import Path

from jobcard.cli import feed
from jobcard.client import Jobcard
from jobcard.conformance import factory
from jobcard.core.job import WholeJob

MANY = 1_200
"""More than a store looks at in one go, where many were touched."""


def test_of_many_that_end_at_once_none_is_missed(tmp_path: Path) -> None:
    """And none is told twice."""
    with Jobcard(f"sqlite:///{tmp_path}/jobs.db") as jobs:
        news = feed.News(jobs, ago=60.0)
        with jobs.parts.connection as store:
            now = store.facts().now
            stored = factory.enqueue_several(store, MANY)
            made = {"state": "completed", "result": "null", "finished_at": now, "claim_token": 1}
            ended = [row._replace(**made) for row in store.get(stored)]
            assert store.put([WholeJob(row, [], []) for row in ended]) == []
        told: list[bytes] = []
        while len(told) < MANY:
            told += [job.id.bytes for job in news.look()]
        assert sorted(told) == sorted(stored)
        assert news.look() == []
