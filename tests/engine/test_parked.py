"""A job whose name no engine knows waits apart until one does."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from checker.lab import Lab
from helpers.waiting import wait_until
from jobcard import Jobcard

OLD = """
    from jobcard import Jobcard
    jobs = Jobcard({url!r})

    @jobs.job(name="known")
    def known() -> int:
        return 1
"""
NEW = """
    @jobs.job(name="later")
    def later() -> int:
        return 2
"""


@pytest.mark.slow
def test_a_parked_job_runs_when_a_release_knows_its_name(lab: Lab) -> None:
    """It is neither failed nor lost, it spends no attempt, and others are not held up by it."""
    url = f"sqlite:///{lab.folder}/parked.db"
    app = Path(lab.folder, "parked.py")
    app.write_text(dedent(OLD).format(url=url))
    jobs = Jobcard(url)
    unknown = jobs.enqueue("later", strict=False)
    tree = lab.start("parked:jobs")
    wait_until(lambda: unknown.refresh().hold == "parked", "the job to be parked")
    assert jobs.enqueue("known", strict=False).result(timeout=30) == 1
    assert tree.stop() == 0
    app.write_text(dedent(OLD).format(url=url) + dedent(NEW))
    tree = lab.start("parked:jobs")
    assert unknown.result(timeout=30) == 2
    assert unknown.refresh().attempt == 1
    assert tree.stop() == 0
    jobs.close()
