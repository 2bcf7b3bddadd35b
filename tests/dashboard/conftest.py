"""A store with jobs in every state in a real SQLite file, and its dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from seeded import seed
from visitors import Site, write_users

from jobcard.client import Jobcard


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A users file with a user of each role."""
    return write_users(tmp_path_factory.mktemp("users") / "users.json")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobcard]:
    """A client of an empty store."""
    with Jobcard(f"sqlite:///{tmp_path}/jobs.db") as client:
        client.migrate()
        yield client


@pytest.fixture
def filled(jobs: Jobcard) -> Jobcard:
    """The same with three jobs completed, two failed, one canceled, one running, four waiting, one of them delayed."""
    seed(jobs)
    return jobs


@pytest.fixture
def site(filled: Jobcard, users: Path) -> Iterator[Site]:
    """Its dashboard, with users."""
    app = filled.dashboard(users=users)
    yield Site(filled, app)
    app.close()
