"""Jobs that leave the process other than they found it, and jobs that open the store themselves."""

from __future__ import annotations

import importlib
import os
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from jobcard import Jobcard, JobContext
from jobcard.core import context

jobs = Jobcard(worker_client=os.environ.get("WORKER_CLIENT", "engine"))  # type: ignore[call-arg, unused-ignore]
os.environ["UNTIDY_OLD"] = "old"


@jobs.job
def look() -> dict[str, Any]:
    """What a job finds."""
    names = ("UNTIDY_OLD", "UNTIDY_NEW", "UNTIDY_MODULE", "HOME")
    umask = os.umask(0)
    os.umask(umask)
    return {
        "directory": str(Path.cwd()),
        "umask": umask,
        "handlers": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "environment": {name: os.environ.get(name) for name in names},
        "path": os.environ["PATH"],
    }


@jobs.job
def upset(ctx: JobContext) -> None:
    """Change all of it."""
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
    os.umask(0o777)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, lambda *_: sys.exit(9))
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    os.environ["UNTIDY_NEW"] = "new"
    os.environ["UNTIDY_OLD"] = "changed"
    del os.environ["PATH"]


@jobs.job
def waits() -> str:
    """Long enough for an alarm that somebody else has set."""
    time.sleep(0.1)
    return "waited"


@jobs.job
def imports() -> None:
    """A module that sets something when it is imported."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "sets_something.py").write_text("import os; os.environ['UNTIDY_MODULE'] = 'set'")
        sys.path.insert(0, directory)
        importlib.import_module("sets_something")


@jobs.job
def where() -> dict[str, Any]:
    """How the store is reached, and what is out of reach."""
    assert context.inside_worker is not None
    handle = look.enqueue()
    return {
        "url": jobs.settings.url,
        "direct": context.inside_worker.backend is None,
        "state": str(handle.refresh().state),
        "started": repr(jobs.start()),
        "run": jobs.run(),
    }


@jobs.job
def goes_around_its_engine(directory: str) -> list[Any]:
    """What a job does in the store itself, not by its engine."""
    backup = jobs.backup(Path(directory, "backup.jcb"))
    with closing(sqlite3.connect(Path(directory, "jobs.db"), timeout=30)) as conn:
        stored = look.options(within=conn).enqueue()
        conn.commit()
    return [backup.jobs, str(stored.refresh().state)]
