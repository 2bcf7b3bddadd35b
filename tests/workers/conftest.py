"""A worker for a test, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from workers.engine_side import Worker


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(app: str, **options: Any) -> Worker:
        workers.append(Worker(app, **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()
