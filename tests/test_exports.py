"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import jobcard

HEAVY = (
    "asyncio",
    "msgspec",
    "click",
    "rich",
    "apsw",
    "psycopg",
    "sqlite3",
    "jobcard.backends.sqlite",
    "concurrent.futures",
    "opentelemetry",
)


def run(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.strip()


def test_the_public_names_are_these() -> None:
    """A new one is a promise; each can be imported."""
    assert sorted(jobcard.__all__) == list(jobcard.__all__)
    assert set(jobcard.__all__) == {
        "Backoff", "Cancel", "Fail", "Job", "JobClass", "JobContext", "JobGroup", "JobHandle", "JobState", "Jobcard",
        "Queue", "RateLimit", "Retry", "Snooze", "Unique", "current_job",
        "Backup", "Batch", "Bucket", "Counts", "Dependency", "Ended", "Engine", "EngineJob", "Enqueuing", "Event",
        "Events", "Health", "Page", "Reason",
        "Restored", "Schedule", "Stats",
        "AccessDeniedError", "BackupError", "ClaimLostError", "ConfigError", "CorruptRecordError", "DuplicateJobError",
        "EngineNotFoundError", "EnqueueUnknownError", "InvalidJobError", "JobFailedError", "JobNotFoundError",
        "JobcardError",
        "NotFoundError", "QueueNotFoundError", "ResultTimeoutError", "ScheduleNotFoundError", "SchemaVersionError",
        "SerializationError", "StoreError", "StoreFullError", "StoreMovedError", "StoreUnavailableError",
        "TransitionError", "UnknownJobError",
    }  # fmt: skip
    for name in jobcard.__all__:
        assert getattr(jobcard, name).__name__ == name
    assert set(jobcard.__all__) <= set(dir(jobcard))


def test_every_error_is_public() -> None:
    """What a call may raise can be caught by its public name."""
    errors = importlib.import_module("jobcard.errors")
    ours = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert ours <= set(jobcard.__all__)


def test_an_unknown_name_is_told() -> None:
    """As any module does."""
    with pytest.raises(AttributeError, match="Jobcart"):
        jobcard.Jobcart  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from jobcard import Jobcart  # type: ignore[attr-defined]  # noqa: F401


@pytest.mark.parametrize(
    "code",
    [
        "import jobcard",
        "from jobcard import *",
        "from jobcard import Jobcard; jobs = Jobcard('sqlite:///x.db'); jobs.job(lambda a: a, ) if 0 else None",
        "from jobcard import Jobcard, JobGroup\ndef f(a): ...\njobs = Jobcard(); jobs.job(f); jobs.include(JobGroup())",
    ],
    ids=["import", "all names", "construct", "declare"],
)
def test_importing_and_declaring_loads_nothing_heavy(code: str) -> None:
    """No event loop, no driver, no command line: that comes with the first use."""
    assert run(f"{code}\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])") == ""


def test_the_first_import_is_small() -> None:
    """`import jobcard` alone loads no module of ours but the package."""
    assert run("import sys, jobcard; print(*sorted(m for m in sys.modules if m.startswith('jobcard')))") == "jobcard"
