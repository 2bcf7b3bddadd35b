"""With `read_url`, what is only shown comes from there, and what is written goes to the store itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from visitors import Site

from jobcard.client import Jobcard


@pytest.fixture
def replica(filled: Jobcard, tmp_path: Path) -> Path:
    """A copy of the store as it was: a replica that lags."""
    path = tmp_path / "replica.db"
    # In a process of its own: a second library in this one would let go of the first one's locks.
    copy = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('vacuum into ?', sys.argv[2:])"
    subprocess.run([sys.executable, "-c", copy, str(tmp_path / "jobs.db"), str(path)], check=True)
    return path


@pytest.fixture
def site(filled: Jobcard, replica: Path, users: Path) -> Iterator[Site]:
    """A dashboard that reads from the copy."""
    app = filled.dashboard(users=users, read_url=f"sqlite:///{replica}?readonly=on")
    yield Site(filled, app)
    app.close()


class TestReplica:
    @pytest.mark.parametrize("path", ["/", "/jobs", "/overview/counts", "/queues", "/metrics", "/api/v1/overview"])
    def test_what_is_shown_comes_from_it(self, site: Site, path: str) -> None:
        """It knows nothing of a queue that has come since; the store does."""
        site.jobs.enqueue("newcomer", queue="just-made")
        assert site.jobs.count(queue="just-made").waiting == 1
        page = site.get(path)
        assert page.status_code == 200
        assert "just-made" not in page.text and "newcomer" not in page.text

    def test_what_is_written_goes_to_the_store(self, site: Site, replica: Path) -> None:
        """And nothing to the replica, which could not take it."""
        [waiting] = site.jobs.list(name="later")
        assert site.post(f"/jobs/{waiting.id}/cancel", {}).status_code == 303
        assert site.post("/queues/mail/pause", {}).status_code == 303
        assert site.jobs.get(waiting.id).state == "canceled"
        assert site.jobs.queues.get("mail").paused
        with Jobcard(f"sqlite:///{replica}?readonly=on", migrate=False) as reading:
            assert reading.get(waiting.id).state == "waiting"
            assert not reading.queues.get("mail").paused
        assert {entry.action for entry in site.jobs.parts.audit.list(limit=9)} == {"Cancel a job", "Pause a queue"}
