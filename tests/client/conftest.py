"""A store in a real SQLite file, a client of it, and hands that do an engine's work step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hands import Hands

from jobcard.backends.registry import open_backend
from jobcard.client import Jobcard


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def jobs(url: str) -> Iterator[Jobcard]:
    with Jobcard(url) as client:
        yield client


@pytest.fixture
def hands(url: str) -> Iterator[Hands]:
    store = open_backend(url)
    store.migrate()
    yield Hands(store)
    store.close()
