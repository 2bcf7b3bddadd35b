"""The application that `jobcard bench` measures: one job that does nothing."""

from __future__ import annotations

import os

from jobcard.client import Jobcard

VARIABLE = "JOBCARD_BENCH_URL"

jobs = Jobcard(os.environ.get(VARIABLE))


@jobs.job(name="bench.nothing")
def nothing() -> None:
    """Return at once."""
