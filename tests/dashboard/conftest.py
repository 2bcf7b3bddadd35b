"""A store with jobs in every state in a real SQLite file, and its dashboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from seeded import Originals
from visitors import Site, write_users

from jobcard.client import Jobcard


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A users file with a user of each role."""
    return write_users(tmp_path_factory.mktemp("users") / "users.json")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """Stores to copy, which takes a tenth of what it takes to make one."""
    return Originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def jobs(request: pytest.FixtureRequest, tmp_path: Path, originals: Originals) -> Iterator[Jobcard]:
    """A client of a store: an empty one, unless it is `filled`."""
    original = originals.filled() if "filled" in request.fixturenames else originals.empty()
    shutil.copy(original, tmp_path / "jobs.db")
    with Jobcard(f"sqlite:///{tmp_path}/jobs.db") as client:
        yield client


@pytest.fixture
def filled(jobs: Jobcard) -> Jobcard:
    """The same with three jobs completed, two failed, one canceled, one running, four waiting, one of them delayed."""
    return jobs


@pytest.fixture
def site(filled: Jobcard, users: Path) -> Iterator[Site]:
    """Its dashboard, with users."""
    app = filled.dashboard(users=users)
    yield Site(filled, app)
    app.close()
