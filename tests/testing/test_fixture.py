"""The fixture `jobcard_testing`, as a user's tests have it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.apps import App
from jobcard import Jobcard


@pytest.fixture
def jobs() -> Any:
    with Jobcard("sqlite:///never-opened.db") as client:
        yield client


def test_it_lasts_to_the_end_of_the_test(jobs: Jobcard, jobcard_testing: Any) -> None:
    """Manual by itself; the mode can be given."""

    @jobs.job
    def add(a: int, b: int) -> int:
        return a + b

    t = jobcard_testing(jobs)
    handle = add.enqueue(1, 2)
    t.assert_enqueued(add, 1, 2)
    t.drain()
    assert handle.result() == 3
    jobcard_testing(jobs, mode="inline")
    assert add.enqueue(2, 2).result() == 4


def test_without_any_conftest(tmp_path: Path) -> None:
    """Installing jobcard is enough; every test has a store of its own, and afterwards the real one is back."""
    app = App(tmp_path)
    app.write(
        "test_shop.py",
        """
        from jobcard import Jobcard

        jobs = Jobcard("sqlite:///shop.db")

        @jobs.job
        def add(a: int, b: int) -> int:
            return a + b

        def test_one(jobcard_testing):
            t = jobcard_testing(jobs)
            add.enqueue(1, 2)
            assert len(t.all_enqueued()) == 1

        def test_two(jobcard_testing):
            t = jobcard_testing(jobs, mode="inline")
            assert t.all_enqueued() == []
            assert add.enqueue(1, 2).result() == 3

        def test_three():
            assert not jobs.parts.is_tested
        """,
    )
    ran = app.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py")
    assert ran.code == 0, ran.out + ran.err
    assert "3 passed" in ran.out
    assert not (tmp_path / "shop.db").exists()


def test_the_plugin_costs_nothing() -> None:
    """Every pytest run of an environment with jobcard loads it: it brings pytest and the package alone."""
    code = "import pytest, sys; before = set(sys.modules); import jobcard.pytest_plugin; print(*sorted(m for m in set(sys.modules) - before if not m.startswith('jobcard')), *sorted(m for m in sys.modules if m.startswith('jobcard')))"  # noqa: E501
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["jobcard", "jobcard.pytest_plugin"]
