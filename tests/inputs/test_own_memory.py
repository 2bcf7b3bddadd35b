"""A store in memory is its process's own."""

from __future__ import annotations

import pytest

from helpers.apps import App
from jobcard import ConfigError, Jobcard


def test_no_other_process_works_on_a_store_in_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An engine beside the application, or started for itself, says so instead of waiting for jobs that never come."""
    app = App(tmp_path_factory.mktemp("memory"))
    app.write("shop.py", 'from jobcard import Jobcard\n\njobs = Jobcard("sqlite:///:memory:")\n')
    ran = app.jobcard("start", "shop")
    assert ran.code == 3, ran
    assert "memory" in ran.err.splitlines()[-1] and "Traceback" not in ran.err
    with Jobcard("sqlite:///:memory:") as jobs, pytest.raises(ConfigError, match="memory"):
        jobs.start()
