"""The client's coroutines on every kind of store, with a real engine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checker.lab import Lab
from helpers.places import ALL, Place, new_place
from jobcard import JobFailedError, ResultTimeoutError

PATIENCE = 60


@pytest.fixture(params=ALL)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each kind."""
    with new_place(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def lab(place: Place, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, place.url)
    (tmp_path / "awaited.py").write_text(SHOP)
    yield lab
    lab.close()


SHOP = """
from jobcard import Jobcard, Queue

jobs = Jobcard(poll_interval=0.2)


@jobs.job
def double(number: int) -> int:
    return 2 * number


@jobs.job(max_attempts=1)
def refuse() -> None:
    raise ValueError("not here")
"""


def test_everything_that_can_be_awaited(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enqueue one and many, await a handle and its result, a failure, a time limit, a cancelled wait, and events."""
    monkeypatch.setattr("checker.lab.APPS", (lab.folder,))
    app = lab.app("awaited")
    jobs = app.jobs

    async def ends_of(ids: set[Any], seen: dict[Any, str]) -> None:
        async for event in jobs.events():
            if event.job_id in ids and event.state in ("completed", "failed"):
                seen[event.job_id] = str(event.state)
                if seen.keys() == ids:
                    return

    async def day() -> None:
        first = await app.double.enqueue_async(1)
        with pytest.raises(ResultTimeoutError):
            await first.result_async(timeout=0.01)
        waiting = asyncio.create_task(first.result_async())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        several = await asyncio.gather(*(app.double.enqueue_async(number) for number in range(50)))
        several += await jobs.enqueue_many_async([app.double.call(number) for number in range(50, 100)])
        failing = await app.refuse.enqueue_async()
        seen: dict[Any, str] = {}
        watching = asyncio.create_task(ends_of({first.id, failing.id}, seen))
        await asyncio.to_thread(lab.start, "awaited")
        assert await asyncio.wait_for(first, PATIENCE) == 2
        results = await asyncio.gather(*(handle.result_async(timeout=PATIENCE) for handle in several))
        assert results == [2 * number for number in range(100)]
        with pytest.raises(JobFailedError, match="not here"):
            await failing
        await asyncio.wait_for(watching, PATIENCE)
        assert seen == {first.id: "completed", failing.id: "failed"}

    asyncio.run(day())
    counts = jobs.count()
    assert (counts["completed"], counts["failed"], counts.total) == (101, 1, 102)
    lab.stop()
